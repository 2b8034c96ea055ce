package postgres

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
)

// twins opens two processes' stores in one schema.
func twins(t testing.TB, spoil func(*Store)) (h *harness, stores [2]*Store, queue store.QueueID) {
	t.Helper()
	h = openHarness(t, nil).(*harness)
	for i := range stores {
		stores[i] = oneMore(t, h)
		spoil(stores[i])
		states, err := stores[i].Declare(t.Context(), []store.Topic{{Name: "order.ready", Kind: store.KindEvent}}, []store.Queue{cook()})
		if err != nil {
			t.Fatal(err)
		}
		queue = states[0].ID
	}
	return h, stores, queue
}

func oneMore(t testing.TB, h *harness) *Store {
	t.Helper()
	s, err := DB(dsn(t)+" pool_max_conns=4", Schema(h.schema))(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Begin(t.Context(), &store.Process{Host: "here"}); err != nil {
		t.Fatal(err)
	}
	return s.(*Store)
}

// commitOne commits a change that must be written.
func commitOne(ctx context.Context, s *Store, ch *store.Change) error {
	return errors.Join(s.Commit(ctx, &store.Group{Changes: []*store.Change{ch}}), ch.Err)
}

// life is a queue in a database that is taken for another's copy.
type life struct {
	testing.TB
	h     *harness
	s     *Store
	queue store.QueueID
}

// own begins a transaction that has sent a message, and returns what commits it.
func (l *life) own(m *store.Message) (commit func()) {
	tx, err := l.h.db.Begin(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	if err := l.s.AppendIn(l.Context(), Tx(tx), &store.Change{Sends: []*store.Message{m}}); err != nil {
		l.Fatal(err)
	}
	return func() {
		if err := tx.Commit(l.Context()); err != nil {
			l.Fatal(err)
		}
	}
}

func (l *life) send(m *store.Message) {
	if err := commitOne(l.Context(), l.s, &store.Change{Sends: []*store.Message{m}}); err != nil {
		l.Fatal(err)
	}
}

// expect claims, and settles, and wants just these messages.
func (l *life) expect(when string, want ...*store.Message) {
	var got []*store.Message
	for range 3 {
		c, err := l.s.Claim(l.Context(), store.ClaimRequest{Queue: l.queue, Max: 9})
		if err != nil {
			l.Fatal(err)
		}
		if c.Batch == nil {
			break
		}
		for _, d := range c.Batch.Deliveries {
			got = append(got, d.Message)
			err := commitOne(l.Context(), l.s, &store.Change{Settle: []store.Settlement{{Batch: c.Batch.BatchRef, Index: d.Index, Pos: d.Message.Pos, Verdict: store.Done, Attempt: d.Attempt}}})
			if err != nil {
				l.Fatal(err)
			}
		}
	}
	same := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		same = same && got[i].Pos == want[i].Pos
	}
	if !same {
		l.Errorf("%s: %d messages were claimed, want %d, those that were sent", when, len(got), len(want))
	}
}

// begins lets the database begin another life.
func (l *life) begins() {
	before := l.s.Info().Incarnation
	err := pgx.BeginFunc(l.Context(), l.s.pool, func(tx pgx.Tx) error {
		_, err := l.s.within(l.Context(), tx).rebirth()
		return err
	})
	if err != nil {
		l.Fatal(err)
	}
	l.s = oneMore(l, l.h)
	if got := l.s.Info().Incarnation; got == before {
		l.Errorf("incarnation %s is that of the life before", got)
	}
}

// farTransaction is a number that this cluster is far from giving out, and another has
// given out; farSnapshot shows it.
const farTransaction, farSnapshot = "900000000", "900000001:900000001:"

// proveRebirth has a database begin another life, first while a message is late, then after
// one whose transactions had high numbers.
func proveRebirth(t testing.TB, spoil func(*Store)) {
	h, stores, queue := twins(t, spoil)
	h.spent = true
	l := &life{TB: t, h: h, s: stores[0], queue: queue}
	unkeyed := func() *store.Message {
		return &store.Message{Topic: "a.cook", Kind: store.KindCommand, Version: 1, Body: []byte("x")}
	}
	late, early, next := unkeyed(), unkeyed(), unkeyed()
	commit := l.own(late)
	l.send(early)
	l.expect("before", early)
	commit()
	l.begins()
	spoil(l.s)
	l.send(next)
	if seqOf(int64(next.Pos))-seqOf(int64(early.Pos)) < lifeSkip { // the schema may have had a life before
		t.Errorf("position %d after a rebirth, want it far above %d", next.Pos, early.Pos)
	}
	l.expect("after a rebirth", late, next)
	for _, q := range []string{
		`update weir.messages set xid = '` + farTransaction + `'`,
		`update weir.batches set seens = array_fill('` + farSnapshot + `'::pg_snapshot, array[cardinality(seens)])`,
	} {
		if _, err := h.db.Exec(t.Context(), inSchema(q, h.schema)); err != nil {
			t.Fatal(err)
		}
	}
	l.begins()
	late, early = unkeyed(), unkeyed()
	commit = l.own(late)
	l.send(early)
	l.expect("in a third life", early)
	commit()
	l.expect("late in a third life", late)
}
