package postgres

import (
	"errors"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// After the server was away for longer than a lease nobody has beaten; who is the first to
// beat again takes the others not for lost. Who is silent while others beat is.
func TestNobodyIsLostBecauseTheServerWasAway(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	_, s, _ := processes(t, 3, Lease(10*time.Second), Clock(func() time.Time { return now }))
	beat := func(who *Store) {
		t.Helper()
		if err := who.Heartbeat(t.Context()); err != nil {
			t.Fatalf("Heartbeat() = %v, want nil", err)
		}
	}
	now = now.Add(time.Minute)
	beat(s[0])
	beat(s[1])
	for range 3 {
		now = now.Add(4 * time.Second)
		beat(s[0])
		beat(s[1])
	}
	if err := s[2].Heartbeat(t.Context()); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("Heartbeat() of one that was silent while others beat = %v, want ErrLeaseLost", err)
	}
}
