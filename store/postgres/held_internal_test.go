package postgres

import (
	"errors"
	"sync"
	"testing"

	"github.com/weir-go/weir/store"
)

// Changes that wait for a key have none of the connections of those who send and work, and not the senders' turn,
// however many they are.
func TestHeldChangesTakeNothingFromOthers(t *testing.T) {
	t.Parallel()
	const crowd = 300
	h, s, _ := processes(t, 1)
	few, err := open(t.Context(), dsn(t)+" pool_max_conns=2", []Option{Schema(h.schema)})
	if err != nil {
		t.Fatal(err)
	}
	defer few.Close()
	c := bothCallers()[0]
	forgotten := c.begin(t, dsn(t))
	if err := errors.Join(theirs(s[0], forgotten.Tx, "held"), s[0].AppendIn(t.Context(), forgotten.Tx, &store.Change{Sends: dedup("held")})); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	begun := make(chan struct{}, crowd)
	for i := range crowd {
		all.Go(func() {
			ch := &store.Change{Outside: true, Sends: keyed(1, "held")}
			switch i % 3 {
			case 1:
				ch.Sends = dedup("held")
			case 2:
				ch.Sends, ch.Runs = nil, []*store.RunStart{{Workflow: "a.flow", ID: "held", Version: 1}}
			}
			g := &store.Group{Changes: []*store.Change{ch}, Held: []store.Held{store.HeldApart, store.HeldAgain}[i%2]}
			begun <- struct{}{}
			err := few.Commit(t.Context(), g)
			for err == nil && errors.Is(ch.Err, store.ErrKeyHeld) {
				err = few.Commit(t.Context(), g)
			}
			if err = errors.Join(err, ch.Err); err != nil {
				t.Errorf("Commit() once all is free = %v, want nil", err)
			}
		})
	}
	for range crowd {
		<-begun
	}
	for range 50 {
		if err := offer(t, few); err != nil {
			t.Errorf("Commit() beside them = %v, want nil", err)
		}
	}
	if !few.senders.turn.TryLock() {
		t.Error("somebody has the senders' turn, want nobody: all who are here wait for what is held")
	} else {
		few.senders.turn.Unlock()
	}
	if n := few.pool.Stat().AcquiredConns(); n > 0 {
		t.Errorf("they have %d connections of those who send, want none", n)
	}
	if err := forgotten.commit(); err != nil {
		t.Fatal(err)
	}
	all.Wait()
}

// A look tells who has to wait, and keeps nothing.
func TestHeldLookKeepsNothing(t *testing.T) {
	t.Parallel()
	_, s, _ := processes(t, 1)
	c := bothCallers()[0]
	forgotten := c.begin(t, dsn(t))
	if err := theirs(s[0], forgotten.Tx, "held"); err != nil {
		t.Fatal(err)
	}
	held, start, free := &store.Change{Sends: keyed(1, "held")}, &store.Change{Runs: []*store.RunStart{{Workflow: "a.flow", ID: "held", Version: 1}}}, &store.Change{Sends: keyed(1, "free")}
	positions := func() (n int64) {
		if err := s[0].pool.QueryRow(t.Context(), s[0].text(`select last_value from weir.seq`)).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := positions()
	g := &store.Group{Changes: []*store.Change{held, start}, Held: store.HeldAgain}
	if err := s[0].Commit(t.Context(), g); err != nil || !errors.Is(held.Err, store.ErrKeyHeld) || !errors.Is(start.Err, store.ErrKeyHeld) {
		t.Errorf("Commit() of what is held = %v, Err %v and %v, want nil and ErrKeyHeld", err, held.Err, start.Err)
	}
	if n := positions(); n != before {
		t.Errorf("a look drew %d positions, want none", n-before)
	}
	g.Changes = append(g.Changes, free)
	if err := s[0].Commit(t.Context(), g); err != nil || free.Err != nil || !errors.Is(held.Err, store.ErrKeyHeld) {
		t.Errorf("Commit() with a key that is free = %v, Err %v and %v, want nil and ErrKeyHeld", err, free.Err, held.Err)
	}
	other := c.begin(t, dsn(t))
	if err := errors.Join(other.exec("set local lock_timeout = '1s'"), theirs(s[0], other.Tx, "free"), other.rollback(), forgotten.commit()); err != nil {
		t.Errorf("a transaction after the look = %v, want nil: nothing is kept", err)
	}
	if err := s[0].Commit(t.Context(), g); err != nil || held.Err != nil {
		t.Errorf("Commit() once it is free = %v, Err %v, want nil", err, held.Err)
	}
}

// dedup is a message that is sent once.
func dedup(key string) []*store.Message {
	m := &store.Message{Topic: "a.cook", Kind: store.KindCommand, Version: 1, Body: []byte("x"), Dedup: key, DedupFor: 1e12}
	return []*store.Message{m}
}
