package storetest

import (
	"testing"

	"github.com/weir-go/weir/internal/witness"
)

// Fails checks the law where it should not hold, and returns how it failed; nothing
// when it held. t itself does not fail; it only cleans up.
func (l Law) Fails(t testing.TB, open Open) []string {
	return Failures(t, func(t testing.TB) { l.check(newScene(t, open)) })
}

// Failures runs a check that should fail, and returns how it did; nothing when it did
// not. t itself does not fail; it only cleans up.
func Failures(t testing.TB, check func(t testing.TB)) []string { return witness.Failures(t, check) }
