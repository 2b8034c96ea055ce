package sqlite

import (
	"context"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

const fulfil = "orders.fulfil"

// commitOne commits one change and fails the test if it is refused.
func commitOne(t testing.TB, s *Store, ch *store.Change) *store.Group {
	t.Helper()
	g := &store.Group{Changes: []*store.Change{ch}}
	if err := s.Commit(context.Background(), g); err != nil || ch.Err != nil {
		t.Fatalf("Commit = %v, change %v, want nil", err, ch.Err)
	}
	return g
}

// startRun starts a run, leased.
func startRun(t testing.TB, s *Store, id string) *store.RunStart {
	t.Helper()
	st := &store.RunStart{Workflow: fulfil, ID: id, Version: 1, Input: []byte(`{}`), Lease: true}
	commitOne(t, s, &store.Change{Runs: []*store.RunStart{st}})
	return st
}

func step(n int) *store.Record {
	return &store.Record{N: n, Kind: store.KindStep, State: store.StepDone, Name: "reserve-stock", Attempt: 1,
		StartedAt: time.Now(), Took: time.Millisecond, Value: []byte(`{"ok":true}`)}
}

func TestRunFromStartToEnd(t *testing.T) {
	s := beginStore(t)
	st := startRun(t, s, "o1")
	ref := store.RunRef{No: st.No, Epoch: st.Epoch}
	commitOne(t, s, &store.Change{Run: &store.RunUpdate{RunRef: ref, Records: []*store.Record{step(1)}}})
	commitOne(t, s, &store.Change{Run: &store.RunUpdate{RunRef: ref, Records: []*store.Record{step(2)}, Verdict: store.Waiting, Wake: time.Now().Add(-time.Second)}})
	c, err := s.Claim(t.Context(), store.ClaimRequest{Workflow: fulfil, Max: 10})
	if err != nil || len(c.Runs) != 1 || len(c.Runs[0].Records) != 2 || c.Runs[0].Epoch != 2 {
		t.Fatalf("Claim = %+v, %v, want the run with 2 records", c, err)
	}
	stale := &store.Change{Run: &store.RunUpdate{RunRef: ref}}
	if err := s.Commit(t.Context(), &store.Group{Changes: []*store.Change{stale}}); err != nil || stale.Err != store.ErrFenced {
		t.Fatalf("Commit with a stale epoch = %v, change %v, want ErrFenced", err, stale.Err)
	}
	commitOne(t, s, &store.Change{Run: &store.RunUpdate{RunRef: c.Runs[0].RunRef, Records: []*store.Record{step(3)},
		Verdict: store.Ended, Outcome: store.Completed, Result: []byte(`1`)}})
	again := &store.RunStart{Workflow: fulfil, ID: "o1", Version: 1, Input: []byte(`{}`)}
	commitOne(t, s, &store.Change{Runs: []*store.RunStart{again}})
	if !again.Existed || again.No != st.No {
		t.Errorf("start again = %+v, want the first run", again)
	}
	if len(s.held.leases) != 0 {
		t.Errorf("leases = %v, want none", s.held.leases)
	}
}
