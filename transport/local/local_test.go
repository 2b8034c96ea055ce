package local_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/local"
	"github.com/weir-go/weir/transport/transporttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type harness struct{ wire *local.Wire }

func open(t testing.TB, s transporttest.Settings) transporttest.Harness {
	t.Helper()
	w, err := local.New(local.Config{Capacity: s.Capacity, Redeliver: s.Redeliver})
	if err != nil {
		t.Fatal(err)
	}
	return harness{w}
}

func (h harness) Open(context.Context) (transport.Transport, error) { return h.wire.Open(), nil }

func (h harness) Foreign(_ context.Context, boundary string, hdr transport.Header, body []byte) error {
	h.wire.Foreign(boundary, hdr, body)
	return nil
}

func TestLaws(t *testing.T) { transporttest.Run(t, open) }

func TestConfig(t *testing.T) {
	_, err := local.New(local.Config{Capacity: -1, CapacityBytes: 1, Redeliver: 2 * time.Hour})
	for _, want := range []string{"Config.Capacity is -1, want 1 to 1000000", "Config.CapacityBytes is 1, want", "Config.Redeliver is 2h0m0s, want 1ms to 1h0m0s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New(bad) = %v, want %q", err, want)
		}
	}
}
