package postgres

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/weir-go/weir/store"
)

// small declares the queue with room for so many.
func small(t *testing.T, s *Store, room int) {
	t.Helper()
	q := cook()
	q.Capacity = room
	if _, err := s.Declare(t.Context(), nil, []store.Queue{q}); err != nil {
		t.Fatalf("Declare() = %v, want nil", err)
	}
}

// offer commits a send that capacity may refuse.
func offer(t *testing.T, s *Store, closures ...store.Closure) error {
	t.Helper()
	m := keyed(1, "")
	m[0].Key = ""
	ch := &store.Change{Sends: m, Outside: true, Closures: closures}
	return errors.Join(s.Commit(t.Context(), &store.Group{Changes: []*store.Change{ch}, Held: store.HeldIsRefused}), ch.Err)
}

// Who sends while another commit of this process is written does not wait for it, and counts it.
func TestSendersCountWhatIsWritten(t *testing.T) {
	t.Parallel()
	_, s, _ := processes(t, 1)
	small(t, s[0], 2)
	written, goOn, first := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		first <- offer(t, s[0], func(ctx context.Context, _ store.Tx) error {
			close(written)
			select {
			case <-goOn:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	<-written
	if err := offer(t, s[0]); err != nil {
		t.Errorf("Commit() beside one that is not over = %v, want nil: there is room for both", err)
	}
	full := &store.FullError{}
	if err := offer(t, s[0]); !errors.As(err, &full) || full.Depth != 2 {
		t.Errorf("Commit() = %v, want a FullError of depth 2: one that is committed, and one that will be", err)
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Errorf("Commit() of the first = %v, want nil: nobody waits for it", err)
	}
}

// What was written and undone takes no room.
func TestSendersForgetWhatIsUndone(t *testing.T) {
	t.Parallel()
	_, s, _ := processes(t, 1)
	small(t, s[0], 1)
	undone := errors.New("undone")
	if err := offer(t, s[0], func(context.Context, store.Tx) error { return undone }); !errors.Is(err, undone) {
		t.Errorf("Commit() = %v, want the closure's error", err)
	}
	if err := offer(t, s[0]); err != nil {
		t.Errorf("Commit() after one that was undone = %v, want nil", err)
	}
	if n := len(s[0].senders.open); n != 0 {
		t.Errorf("%d commits are remembered, want none: all are over", n)
	}
}

// Many at once fill a queue exactly, and nobody is refused before it is full.
func TestSendersFillAQueueExactly(t *testing.T) {
	t.Parallel()
	const room = 40
	_, s, _ := processes(t, 1)
	small(t, s[0], room)
	var all sync.WaitGroup
	outcomes := make(chan error, 8*8)
	for range 8 {
		all.Go(func() {
			for range 8 {
				outcomes <- offer(t, s[0])
			}
		})
	}
	all.Wait()
	close(outcomes)
	taken := 0
	for err := range outcomes {
		full := &store.FullError{}
		switch {
		case err == nil:
			taken++
		case !errors.As(err, &full) || full.Depth != room:
			t.Errorf("Commit() = %v, want nil or a FullError of depth %d", err, room)
		}
	}
	if taken != room {
		t.Errorf("%d sends taken, want %d", taken, room)
	}
}
