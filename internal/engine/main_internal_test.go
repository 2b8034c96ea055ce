package engine

import (
	"testing"

	"github.com/weir-go/weir/internal/bubble"
)

func TestMain(m *testing.M) {
	bubble.OnOneProcessor()
	m.Run()
}
