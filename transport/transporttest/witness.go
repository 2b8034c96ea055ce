package transporttest

import (
	"testing"

	"github.com/weir-go/weir/internal/witness"
)

// Fails checks the law where it should not hold, and returns how it failed; nothing
// when it held. t itself does not fail; it only cleans up.
func (l Law) Fails(t testing.TB, open Open) []string {
	return witness.Failures(t, func(t testing.TB) { l.check(newScene(t, l, open, impatience)) })
}
