package postgres

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir/store"
)

// TestFold folds what was sent while transactions that began before are open: the depth
// counts each message once, and from its commit on.
func TestFold(t *testing.T) {
	ctx := t.Context()
	h := openHarness(t, nil).(*harness)
	opened, err := h.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*Store)
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Declare(ctx, nil, []store.Queue{{Name: "a.b", Topic: store.Topic{Name: "a.b", Kind: store.KindCommand}}}); err != nil {
		t.Fatal(err)
	}
	early, late := sendIn(t, h.db, s, 3), sendIn(t, h.db, s, 5)
	want := func(when string, depth int64) {
		t.Helper()
		states, err := s.Reader().Queues(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got := states[0].Depth; got != depth {
			t.Errorf("%s: depth %d, want %d", when, got, depth)
		}
	}
	fold := func() {
		t.Helper()
		if err := s.fold(ctx); err != nil {
			t.Fatal(err)
		}
	}
	sendNow(t, s)
	want("sent", 1)
	fold()
	want("folded", 1)
	if err := late.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	want("with one that began before the fold", 6)
	sendNow(t, s)
	want("and one after", 7)
	fold()
	want("folded again", 7)
	if err := early.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	want("with one that began before two folds", 10)
	fold()
	fold()
	want("at the end", 10)
	for table, most := range map[string]int{"tally": 0, "counts": 1, "folds": 1} {
		var rows int
		if err := h.db.QueryRow(ctx, "select count(*) from "+h.schema+"."+table).Scan(&rows); err != nil || rows > most {
			t.Errorf("%s: %d rows (%v), want at most %d", table, rows, err, most)
		}
	}
}

// sendIn sends n messages in a transaction that is left open.
func sendIn(t *testing.T, db *pgxpool.Pool, s *Store, n int) pgx.Tx {
	t.Helper()
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	c := &store.Change{}
	for range n {
		c.Sends = append(c.Sends, &store.Message{Topic: "a.b", Kind: store.KindCommand, Version: 1})
	}
	if err := s.AppendIn(t.Context(), Tx(tx), c); err != nil || c.Err != nil {
		t.Fatal(err, c.Err)
	}
	return tx
}

func sendNow(t *testing.T, s *Store) {
	t.Helper()
	c := &store.Change{Sends: []*store.Message{{Topic: "a.b", Kind: store.KindCommand, Version: 1}}}
	if err := s.Commit(t.Context(), &store.Group{Changes: []*store.Change{c}}); err != nil || c.Err != nil {
		t.Fatal(err, c.Err)
	}
}
