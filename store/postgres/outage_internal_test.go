package postgres

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// After the server was away for longer than a lease nobody has beaten; who is the first to
// beat again takes the others not for lost. Who is silent while others beat is.
func TestNobodyIsLostBecauseTheServerWasAway(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	_, s, _ := processes(t, 3, Lease(10*time.Minute), Clock(func() time.Time { return now }))
	beat := func(who *Store) {
		t.Helper()
		if err := who.Heartbeat(t.Context()); err != nil {
			t.Fatalf("Heartbeat() = %v, want nil", err)
		}
	}
	now = now.Add(time.Hour)
	beat(s[0])
	beat(s[1])
	for range 3 {
		now = now.Add(4 * time.Minute)
		beat(s[0])
		beat(s[1])
	}
	if err := s[2].Heartbeat(t.Context()); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("Heartbeat() of one that was silent while others beat = %v, want ErrLeaseLost", err)
	}
}

// A process that begins again says of the one that it was that this has ended: what that held
// is for others at once, and it is not shown as one that runs.
func TestBeginAgainEndsTheFormerProcess(t *testing.T) {
	t.Parallel()
	_, s, queue := processes(t, 2, Lease(time.Hour))
	send(t, s[0], keyed(3, "")...)
	b := claimSome(t, s[0], queue, 9)
	if b == nil {
		t.Fatal("Claim() = nothing, want 3 messages")
	}
	former := s[0].process.Load()
	var p store.Process
	if err := s[0].Begin(t.Context(), &p); err != nil {
		t.Fatal(err)
	}
	list, err := s[1].Reader().Processes(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(list, func(p store.Process) bool { return p.ID == former }); p.ID == former || i < 0 || list[i].EndedAt.IsZero() {
		t.Errorf("Processes() = %+v, want %d ended", list, former)
	}
	if err := doneAll(t, s[0], b); !errors.Is(err, store.ErrFenced) {
		t.Errorf("Commit() for what the former process had claimed = %v, want ErrFenced", err)
	}
	if again := claimSome(t, s[1], queue, 9); again == nil || again.Epoch != b.Epoch+1 {
		t.Errorf("Claim() by another = %+v, want the batch under the next epoch", again)
	}
}
