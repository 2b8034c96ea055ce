package jetstream

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/weir-go/weir/internal/brokertest"
)

// A broker that has spoken while nobody listened is not one that says nothing, however late it is listened to again.
func TestLateListener(t *testing.T) {
	t.Parallel()
	w, err := Open(Config{InProcess: brokertest.Serve(t), Timeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	opened, err := w.Receive(t.Context(), "kitchen")
	if err != nil {
		t.Fatal(err)
	}
	in := opened.(*inlet)
	glance := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if ds, err := in.Next(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Next() of an empty inlet = %d packets, %v, want to wait until the context is done", len(ds), err)
		}
	}
	for in.pending == 0 {
		glance() // what it has asked for stays under way
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 3 {
		for len(in.come) == 0 { // a heartbeat
			<-tick.C
		}
		in.quiet = 0
		glance()
	}
}
