package postgres

import (
	"context"
	"sync"
	"testing"

	"github.com/weir-go/weir/store"
)

// meeting is two transactions that meet for certain, however slow the machine is: the first stays
// open until the second waits for it, or is over without that.
type meeting struct {
	h      *harness
	once   sync.Once // a closure may be run again
	inside chan struct{}
	over   chan struct{}
	waited bool // the second waited for the first
}

func newMeeting(h *harness) *meeting {
	return &meeting{h: h, inside: make(chan struct{}), over: make(chan struct{})}
}

// commit commits the first change, and beside it the second, by a process each.
func (m *meeting) commit(t testing.TB, stores [2]*Store, first, second *store.Change) (errFirst, errSecond error) {
	first.Closures = append(first.Closures, m.stay)
	done := make(chan error, 1)
	go func() {
		defer m.once.Do(func() { close(m.inside) }) // also when it was refused before
		done <- commitOne(context.WithoutCancel(t.Context()), stores[0], first)
	}()
	<-m.inside
	errSecond = commitOne(t.Context(), stores[1], second)
	close(m.over)
	return <-done, errSecond
}

// sqlIsWaitedFor reports whether a session waits for what another holds.
const sqlIsWaitedFor = `select exists (select from pg_stat_activity where wait_event_type = 'Lock' and $1::int = any(pg_blocking_pids(pid)))`

// stay is the first one's closure.
func (m *meeting) stay(ctx context.Context, tx store.Tx) error {
	var own int32
	if err := Pgx(tx).QueryRow(ctx, sqlBackend).Scan(&own); err != nil {
		return err
	}
	m.once.Do(func() { close(m.inside) })
	for ; !m.waited; pauseFor(1) {
		select {
		case <-m.over:
			return nil
		default:
		}
		if err := m.h.db.QueryRow(ctx, sqlIsWaitedFor, own).Scan(&m.waited); err != nil {
			return err
		}
	}
	return nil
}

// proveMeeting has a run begin to wait for a message while the transaction that sends it is
// open, and has looked for waits already: whichever commits later finds the other.
func proveMeeting(t testing.TB, spoil func(*Store)) {
	h, stores, _ := twins(t, spoil)
	st := &store.RunStart{Workflow: crowdFlow, ID: "r", Version: 1, Lease: true}
	if err := commitOne(t.Context(), stores[1], &store.Change{Runs: []*store.RunStart{st}}); err != nil {
		t.Fatal(err)
	}
	event := &store.Message{Topic: "order.ready", Kind: store.KindEvent, Version: 1, Key: "7", Body: []byte("7")}
	u := &store.RunUpdate{RunRef: store.RunRef{No: st.No, Epoch: st.Epoch}, Verdict: store.Waiting, Waits: []store.Wait{
		{N: 1, Topic: store.Topic{Name: "order.ready", Kind: store.KindEvent}, Key: "7"}}}
	sent, waits := newMeeting(h).commit(t, stores, &store.Change{Sends: []*store.Message{event}}, &store.Change{Run: u})
	if sent != nil || waits != nil {
		t.Errorf("Commit(event) and Commit(wait) beside it = %v and %v, want nil", sent, waits)
	}
	got, err := stores[1].Claim(t.Context(), store.ClaimRequest{Workflow: crowdFlow, Max: 1})
	if err != nil || len(got.Runs) != 1 || len(got.Runs[0].Mail) != 1 {
		t.Errorf("Claim() = %d runs, %v, want the one that waited, with its event", len(got.Runs), err)
	}
}

// proveKeys has two processes send with the same key at once: the second waits until the first has
// committed, so that a key's positions ascend in the order of commits.
func proveKeys(t testing.TB, spoil func(*Store)) {
	h, stores, _ := twins(t, spoil)
	a, b := &store.Change{Sends: keyed(1, "k")}, &store.Change{Sends: keyed(1, "k")}
	m := newMeeting(h)
	first, second := m.commit(t, stores, a, b)
	if first != nil || second != nil {
		t.Fatalf("Commit() of two with the same key = %v and %v, want nil", first, second)
	}
	if !m.waited || b.Sends[0].Pos <= a.Sends[0].Pos {
		t.Errorf("Commit() with a key that another is sending with: it waited %t, and is at %d, want it to wait and to be above %d", m.waited, b.Sends[0].Pos, a.Sends[0].Pos)
	}
}
