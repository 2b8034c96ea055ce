package postgres

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// Callers that hold all connections, and need another each, do not wait for each other.
func TestAllConnectionsHeld(t *testing.T) {
	t.Parallel()
	_, s, _ := processes(t, 1)
	const callers = 12 // three times what the pool has
	errs := make([]error, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			// A topic that nobody knows is declared on a connection beside the commit's.
			m := &store.Message{Topic: fmt.Sprint("new.", i), Kind: store.KindEvent, Version: 1, Body: []byte("x")}
			errs[i] = s[0].Commit(t.Context(), &store.Group{Changes: []*store.Change{{Sends: []*store.Message{m}}}})
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("Commit() of caller %d = %v, want nil", i, err)
		}
	}
}

// A process beats though all its other connections are in use, and its chores cannot be done.
func TestHeartbeatBesideBusyPool(t *testing.T) {
	t.Parallel()
	_, s, _ := processes(t, 1, Lease(20*time.Second))
	for range s[0].pool.Config().MaxConns {
		c, err := s[0].pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Release()
	}
	ctx, cancel := context.WithTimeout(t.Context(), hangTime)
	defer cancel()
	if err := s[0].Heartbeat(ctx); err != nil {
		t.Errorf("Heartbeat() = %v, want nil", err)
	}
}
