package weirtest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/weir-go/weir/internal/bubble"
)

func TestMain(m *testing.M) {
	bubble.OnOneProcessor()
	goleak.VerifyTestMain(m)
}
