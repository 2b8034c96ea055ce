package postgres

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
)

func TestAsCommitted(t *testing.T) {
	for _, c := range []struct {
		snapshot, xid, want string
		ok                  bool
	}{
		{"10:20:10", "20", "10:21:10", true},
		{"20:20:", "23", "20:24:20,21,22", true},
		{"10:20:10", "11", "10:20:10", true}, // a later one has ended
		{"11:20:12", "11", "11:20:12", true},
		{"20:20:", "5000", "", false}, // too many between
		{"20:20", "20", "", false},
		{"20:20:", "", "", false},
	} {
		got, ok := asCommitted(c.snapshot, c.xid)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("asCommitted(%q, %q) = %q, %t, want %q, %t", c.snapshot, c.xid, got, ok, c.want, c.ok)
		}
	}
}

// TestEagerBesideOthers claims with commits while callers' transactions, begun before, are open,
// and are committed or not: each message that is committed comes once.
func TestEagerBesideOthers(t *testing.T) {
	const rounds = 300
	ctx := t.Context()
	h := openHarness(t, nil).(*harness)
	opened, err := h.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*Store)
	t.Cleanup(func() { _ = s.Close() })
	states, err := s.Declare(ctx, nil, []store.Queue{{Name: "a.b", Topic: store.Topic{Name: "a.b", Kind: store.KindCommand}}})
	if err == nil {
		err = s.Begin(ctx, &store.Process{Host: "here"})
	}
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	came, sent, eagerly := map[string]int{}, map[string]bool{}, 0
	work := func(b *store.Batch) {
		g := &store.Group{}
		for _, d := range b.Deliveries {
			came[string(d.Message.Body)]++
			g.Changes = append(g.Changes, &store.Change{Settle: []store.Settlement{{Batch: b.BatchRef, Index: d.Index, Pos: d.Message.Pos, Verdict: store.Done, Attempt: 1}}})
		}
		if err := s.Commit(ctx, g); err != nil {
			t.Fatal(err)
		}
		for _, c := range g.Changes {
			if c.Err != nil {
				t.Fatal(c.Err)
			}
		}
	}
	claim := func() {
		for {
			got, err := s.Claim(ctx, store.ClaimRequest{Queue: states[0].ID, Max: 10})
			if err != nil {
				t.Fatal(err)
			}
			if got.Batch == nil {
				return
			}
			work(got.Batch)
		}
	}
	type ownTx struct {
		tx   pgx.Tx
		body string
	}
	var open []ownTx
	end := func(i int) {
		o := open[i]
		open = append(open[:i], open[i+1:]...)
		if r.IntN(5) == 0 {
			err = o.tx.Rollback(ctx)
		} else {
			sent[o.body], err = true, o.tx.Commit(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range rounds {
		body := fmt.Sprint(i)
		change := &store.Change{Sends: []*store.Message{{Topic: "a.b", Kind: store.KindCommand, Version: 1, Body: []byte(body)}}}
		switch r.IntN(4) {
		case 0:
			if len(open) < 3 {
				tx, err := h.db.Begin(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.AppendIn(ctx, Tx(tx), change); err != nil {
					t.Fatal(err)
				}
				open = append(open, ownTx{tx, body})
			}
		case 1:
			if len(open) > 0 {
				end(r.IntN(len(open)))
			}
		default:
			g := &store.Group{Changes: []*store.Change{change}, Eager: []store.Eager{{Queue: states[0].ID, Max: 10}}}
			if err := s.Commit(ctx, g); err != nil || change.Err != nil {
				t.Fatal(err, change.Err)
			}
			sent[body] = true
			for _, b := range g.Claimed {
				eagerly++
				work(b)
			}
			if len(g.Claimed) == 0 {
				claim()
			}
		}
	}
	for len(open) > 0 {
		end(0)
	}
	claim()
	for body := range sent {
		if came[body] != 1 {
			t.Errorf("message %s came %d times, want once", body, came[body])
		}
	}
	if len(came) != len(sent) {
		t.Errorf("%d messages came, want %d", len(came), len(sent))
	}
	if eagerly < rounds/10 {
		t.Errorf("%d of %d rounds claimed with the commit, want more", eagerly, rounds)
	}
	t.Logf("%d sent, %d claimed with their commit", len(sent), eagerly)
}
