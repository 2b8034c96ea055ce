package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weir-go/weir/store"
)

// paused is a store whose queue is worked, and then rests.
type paused struct {
	*testing.T
	*Store
	h     *harness
	queue store.QueueID
}

func newPaused(t *testing.T, h *harness) *paused {
	t.Helper()
	p := &paused{T: t, h: h}
	p.open()
	states, err := p.Declare(t.Context(), nil, []store.Queue{{Name: "a.b", Topic: store.Topic{Name: "a.b", Kind: store.KindCommand}}})
	if err != nil {
		t.Fatal(err)
	}
	p.queue = states[0].ID
	return p
}

// open opens the store anew, as another process.
func (p *paused) open() {
	p.Helper()
	opened, err := p.h.Open(p.Context())
	if err == nil {
		p.Store = opened.(*Store)
		p.Cleanup(func() { _ = opened.Close() })
		err = p.Begin(p.Context(), &store.Process{Host: "here"})
	}
	if err != nil {
		p.Fatal(err)
	}
}

// sendEagerly sends a message that is claimed with the send, if that is due, and works it.
func (p *paused) sendEagerly(want bool) {
	p.Helper()
	g := &store.Group{Eager: []store.Eager{{Queue: p.queue, Max: 10}},
		Changes: []*store.Change{{Sends: []*store.Message{{Topic: "a.b", Kind: store.KindCommand, Version: 1}}}}}
	if err := p.Commit(p.Context(), g); err != nil || g.Changes[0].Err != nil || len(g.Claimed) == 1 != want {
		p.Fatalf("Commit() = %v, %v, claimed %v, want it to be claimed %t", err, g.Changes[0].Err, g.Claimed, want)
	}
	for _, b := range g.Claimed {
		if err := doneAll(p.T, p.Store, b); err != nil {
			p.Fatal(err)
		}
	}
}

func (p *paused) idle() {
	p.Helper()
	if got, err := p.Claim(p.Context(), store.ClaimRequest{Queue: p.queue, Max: 10}); err != nil || got.Batch != nil {
		p.Fatalf("Claim() = %v, %v, want nothing", got.Batch, err)
	}
}

// backlog is messages of many transactions, without a store's work.
func (p *paused) backlog(transactions, each int) {
	p.Helper()
	for _, query := range []string{
		fmt.Sprintf(`create or replace procedure weir.backlog() language plpgsql as $$ begin
			for i in 1..%d loop
				insert into weir.messages (topic, seq, sent_us, version, lane, body) select t.id, nextval('weir.seq'), 1, 1, 16, '' from weir.topics t, generate_series(1, %d);
				commit;
			end loop;
		end $$`, transactions, each),
		`call weir.backlog()`,
	} {
		if _, err := p.h.db.Exec(p.Context(), inSchema(query, p.schema)); err != nil {
			p.Fatal(err)
		}
	}
}

// A claim reads as little after a pause, however much was sent in it. Each transaction of the server, of whatever test, that
// ran when the claim before looked is looked for by itself.
func TestClaimAfterPause(t *testing.T) {
	t.Parallel()
	const blocksMost, blocksEach = 80, 5
	for name, before := range map[string]func(p *paused){
		"declared": func(*paused) {},
		"subscribed": func(p *paused) {
			states, err := p.Declare(p.Context(), nil, []store.Queue{{Name: "d", Topic: store.Topic{Name: "c", Kind: store.KindEvent}}})
			if err != nil {
				p.Fatal(err)
			}
			p.queue = states[0].ID
			p.idle() // it is given its lanes
			p.idle()
		},
		"claimed": func(p *paused) {
			sendNow(p.T, p.Store)
			workNow(p.T, p.Store, p.queue, true)
		},
		"claimed with the send": func(p *paused) {
			p.idle()
			p.idle()
			p.sendEagerly(true)
		},
		"handed back": func(p *paused) {
			sendNow(p.T, p.Store)
			if _, err := p.Claim(p.Context(), store.ClaimRequest{Queue: p.queue, Max: 10}); err != nil {
				p.Fatal(err)
			}
			if err := p.End(p.Context()); err != nil {
				p.Fatal(err)
			}
			p.open()
			workNow(p.T, p.Store, p.queue, true)
		},
	} {
		for _, anew := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, anew %t", name, anew), func(t *testing.T) {
				t.Parallel()
				p := newPaused(t, openUnused(t))
				before(p)
				p.backlog(300, 200)
				if anew {
					p.open()
				}
				w, ran := &blockCounter{}, 0
				countBlocks(t, p.Store, w, func(x *tx) error {
					one, _ := p.claiming.LoadOrStore(p.queue, &claimState{})
					k := &claim{s: p.Store, request: store.ClaimRequest{Queue: p.queue, Max: 10}, process: p.process.Load(), state: one.(*claimState)}
					err := k.run(x)
					if err == nil && (k.claimed.Batch == nil || len(k.claimed.Batch.Deliveries) != 10) {
						t.Errorf("%v was claimed, want 10", k.claimed.Batch)
					}
					x.quit = true
					for _, g := range k.cursor.groups {
						ran += runningIn(g.seen)
					}
					return err
				})
				for query, blocks := range w.most {
					if most := blocksMost + ran*blocksEach; blocks > most {
						t.Errorf("%d blocks, want at most %d beside %d transactions: %s\n%s", blocks, most, ran, query, w.plans[query])
					}
				}
			})
		}
	}
}

// runningIn counts the transactions that run in a snapshot: it reads xmin:xmax:them.
func runningIn(snapshot string) int {
	list := snapshot[strings.LastIndexByte(snapshot, ':')+1:]
	return len(strings.FieldsFunc(list, func(r rune) bool { return r == ',' }))
}

// Who began last of all before a claim, and drew a position before another who began earlier, is late.
func TestLateBeyond(t *testing.T) {
	t.Parallel()
	for _, anew := range []bool{false, true} { // by what the process remembers, and by what the store has
		t.Run(fmt.Sprintf("anew %t", anew), func(t *testing.T) {
			t.Parallel()
			lateBeyond(t, anew)
		})
	}
}

func lateBeyond(t *testing.T, anew bool) {
	p := newPaused(t, openHarness(t, nil).(*harness))
	sendNow(t, p.Store)
	workNow(t, p.Store, p.queue, true)
	p.idle()
	p.idle() // it knows what the next claim will find
	first, err := p.h.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Exec(t.Context(), "select pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	late := sendIn(t, p.h.db, p.Store, 3)
	early := &store.Change{Sends: []*store.Message{{Topic: "a.b", Kind: store.KindCommand, Version: 1}}}
	if err := p.AppendIn(t.Context(), Tx(first), early); err != nil {
		t.Fatal(err)
	}
	if err := first.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 3} {
		got, err := p.Claim(t.Context(), store.ClaimRequest{Queue: p.queue, Max: 10})
		if err != nil || got.Batch == nil || len(got.Batch.Deliveries) != want {
			t.Fatalf("Claim() = %+v, %v, want %d messages", got.Batch, err, want)
		}
		if err := doneAll(t, p.Store, got.Batch); err != nil {
			t.Fatal(err)
		}
		if want == 1 {
			if err := late.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if anew {
				p.open()
			}
		}
	}
}

// Whoever has drawn a position has a number, as the search for who is late takes for granted.
func TestNumberBeforePosition(t *testing.T) {
	t.Parallel()
	p := newPaused(t, openHarness(t, nil).(*harness))
	for range 3 { // some draws give a number by themselves
		tx, err := p.h.db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		other := &store.Change{Sends: []*store.Message{{Topic: "a.b", Kind: store.KindEvent, Version: 1}}}
		if err := p.AppendIn(t.Context(), Tx(tx), other); err == nil {
			t.Error("AppendIn() of another kind = nil, want it refused")
		}
		var drawn, has bool
		if err := tx.QueryRow(t.Context(), "select currval('"+p.schema+".seq') > 0, pg_current_xact_id_if_assigned() is not null").Scan(&drawn, &has); err != nil || !drawn || !has {
			t.Errorf("after a refused AppendIn(), %v: drawn %t, number %t, want both", err, drawn, has)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
