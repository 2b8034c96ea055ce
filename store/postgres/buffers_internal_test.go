package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
)

// TestReadsLittle counts the blocks that the statements of a claim, of a settlement and of the
// queues' states read. They must not grow with what was done before, though a transaction that
// is open keeps all of it from being vacuumed, and statistics are those of empty tables; nor with
// how much is late.
func TestReadsLittle(t *testing.T) {
	const rounds, blocksMost = 800, 80
	ctx := t.Context()
	h := openUnused(t)
	opened, err := h.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*Store)
	t.Cleanup(func() { _ = s.Close() })
	states, err := s.Declare(ctx, nil, []store.Queue{{Name: "a.b", Topic: store.Topic{Name: "a.b", Kind: store.KindCommand}, Capacity: 100_000}})
	if err == nil {
		err = s.Begin(ctx, &store.Process{Host: "here"})
	}
	if err != nil {
		t.Fatal(err)
	}
	held, err := h.db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = held.Rollback(context.Background()) })
	if _, err := held.Exec(ctx, "select 1"); err != nil {
		t.Fatal(err)
	}
	for i := range rounds {
		sendNow(t, s)
		workNow(t, s, states[0].ID, i%2 == 0)
		if err := s.fold(ctx); err != nil {
			t.Fatal(err)
		}
	}
	late := sendIn(t, h.db, s, store.MaxSends)
	sendNow(t, s)
	workNow(t, s, states[0].ID, true)
	if err := late.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	w := &blockCounter{}
	countBlocks(t, s, w, func(x *tx) error {
		one, _ := s.claiming.Load(states[0].ID)
		k := &claim{s: s, request: store.ClaimRequest{Queue: states[0].ID, Max: 10}, process: s.process.Load(), state: one.(*claimState)}
		err := k.run(x)
		if err == nil && k.claimed.Batch == nil {
			t.Error("nothing was claimed")
		}
		x.quit = true
		return err
	})
	countBlocks(t, s, w, func(x *tx) error {
		_, err := readStates(x)
		x.quit = true
		return err
	})
	countBlocks(t, s, w, func(x *tx) error {
		x.quit = true
		var some int
		x.ask(sqlBatches, func(scan) error { some++; return nil }, []int32{int32(states[0].ID)}, []int64{rounds / 2})
		if err := x.flush(); err != nil || some != 1 {
			return fmt.Errorf("%d batches: %w", some, err)
		}
		return nil
	})
	for query, blocks := range w.most {
		if blocks > blocksMost {
			t.Errorf("%d blocks, want at most %d: %s\n%s", blocks, blocksMost, query, w.plans[query])
		}
	}
	if len(w.most) < 10 {
		t.Errorf("%d statements were looked at, want more", len(w.most))
	}
}

// workNow works what there is: it is done, or tried again at once.
func workNow(t *testing.T, s *Store, queue store.QueueID, done bool) {
	t.Helper()
	got, err := s.Claim(t.Context(), store.ClaimRequest{Queue: queue, Max: 10})
	if err != nil {
		t.Fatal(err)
	}
	g := &store.Group{}
	for _, d := range got.Batch.Deliveries {
		verdict := store.Done
		if !done && d.Attempt == 1 {
			verdict = store.Retry
		}
		g.Changes = append(g.Changes, &store.Change{Settle: []store.Settlement{{Batch: got.Batch.BatchRef, Index: d.Index, Pos: d.Message.Pos,
			Verdict: verdict, Attempt: d.Attempt, Started: got.Batch.ClaimedAt}}})
	}
	if err := s.Commit(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	for _, c := range g.Changes {
		if c.Err != nil {
			t.Fatal(c.Err)
		}
	}
}

// countBlocks runs f in a transaction whose statements are counted.
func countBlocks(t *testing.T, s *Store, w *blockCounter, f func(*tx) error) {
	t.Helper()
	c, err := s.acquire(t.Context(), s.pool)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	w.pgxWire = pgxWire{c, c.Conn()}
	x := &tx{s: s, ctx: t.Context(), w: w, process: s.process.Load()}
	x.head(sqlBegin, claiming)
	if err := x.run(c, f); err != nil {
		t.Fatal(err)
	}
}

// blockCounter is a wire that has each query explained before it is carried.
type blockCounter struct {
	pgxWire
	most  map[string]int
	plans map[string]string // of those
}

func (w *blockCounter) carry(ctx context.Context, questions []question) error {
	for _, q := range questions {
		if strings.HasPrefix(q.query, "select") || strings.HasPrefix(q.query, "with") {
			if err := w.count(ctx, q); err != nil {
				return fmt.Errorf("%w: %s", err, q.query)
			}
		}
		if err := w.pgxWire.carry(ctx, []question{q}); err != nil {
			return err
		}
	}
	return nil
}

func (w *blockCounter) count(ctx context.Context, q question) error {
	var text []byte
	err := w.conn.QueryRow(ctx, "explain (analyze, buffers, format json) "+q.query, q.args...).Scan(&text)
	if err != nil {
		return err
	}
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	if err := json.Unmarshal(text, &plans); err != nil {
		return err
	}
	if w.most == nil {
		w.most, w.plans = map[string]int{}, map[string]string{}
	}
	if blocks := plans[0].Plan.Hit + plans[0].Plan.Read; blocks >= w.most[q.query] {
		w.most[q.query], w.plans[q.query] = blocks, string(text)
	}
	return nil
}
