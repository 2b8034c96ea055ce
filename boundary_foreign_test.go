package weir_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/local"
)

// till is a program that knows nothing of weir: what the wire has taken it never sends again.
type till struct {
	t   *testing.T
	end transport.Transport
	n   int
}

func newTill(t *testing.T, wire *local.Wire) *till {
	return &till{t: t, end: wire.Open()}
}

// packet is one of its messages.
func (p *till) packet(topic string, v any) transport.Packet {
	p.t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		p.t.Fatal(err)
	}
	p.n++
	return transport.Packet{Source: "/till/7", ID: fmt.Sprint("bill-", p.n), Topic: topic, Body: body}
}

// send publishes, which is answered: the wire has it.
func (p *till) send(q transport.Packet) {
	p.t.Helper()
	if kept, err := p.end.Send(p.t.Context(), "kitchen", []transport.Packet{q}); kept != 1 || err != nil {
		p.t.Fatalf("Send(%s) = %d, %v, want 1, nil", q.ID, kept, err)
	}
}

// gate is a handler that is slow until it is opened.
func gate(open <-chan struct{}, then func(context.Context, *weir.Message[ticket]) error) func(context.Context, *weir.Message[ticket]) error {
	return func(ctx context.Context, m *weir.Message[ticket]) error {
		select {
		case <-open:
			return then(ctx, m)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// What a foreign program's publish was answered for is handled, once and in the order of its key, though much more comes than
// there is room for, though the wire gives it again and again meanwhile, and though the process is restarted. Others go on.
func TestForeignFlood(t *testing.T) {
	for what, c := range map[string]struct {
		wire   local.Config
		tables int
		each   int
		pad    int // bytes of each body
		stop   bool
	}{
		"many":         {local.Config{Capacity: 20_000}, 50, 100, 0, false},
		"many, again":  {local.Config{Capacity: 20_000, Redeliver: time.Second}, 50, 100, 0, true},
		"few, again":   {local.Config{Redeliver: time.Second}, 3, 100, 0, true},
		"large":        {local.Config{}, 2, 75, 200_000, false},
		"large, again": {local.Config{Redeliver: time.Second}, 2, 75, 200_000, true},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wire, file := newWire(t, c.wire), newFile(t)
				till, floor := newTill(t, wire), openFloor(t, newFile(t), wire.Open())
				run(t, floor)
				var l ledger
				open, cleaned := make(chan struct{}), make(chan *weir.Message[ticket], 10)
				var e *weir.Engine
				start := func() (stop func()) {
					e = openKitchen(t, file, wire.Open())
					weir.Handle(e, prepare, gate(open, l.prepare), weir.Queue{Capacity: 40, Concurrency: 4, Timeout: time.Hour})
					weir.Handle(e, clean, into(cleaned))
					return run(t, e)
				}
				stop := start()
				pass(time.Second)
				for n := range c.each {
					for table := range c.tables {
						name := fmt.Sprint(table)
						p := till.packet(prepare.Name(), struct {
							ticket
							Pad string
						}{ticket{name, n + 1}, strings.Repeat("x", c.pad)})
						p.Key = name
						till.send(p)
					}
				}
				pass(10 * time.Second)
				send(t, floor, clean, ticket{"7", 1})
				receive(t, cleaned)
				if c.stop {
					stop()
					start()
					pass(10 * time.Second)
				}
				if n := l.count(); n != 0 {
					t.Fatalf("%d are handled, want the gate to hold them", n)
				}
				close(open)
				eventually(t, "all are handled", func() bool { return l.count() >= c.tables*c.each })
				pass(time.Minute) // what came again is no second one
				l.wants(t, c.tables, c.each)
				dead, err := e.Dead(t.Context(), weir.DeadQuery{})
				if len(dead) != 0 || err != nil {
					t.Errorf("dead letters %+v, %v, want none", dead, err)
				}
			})
		})
	}
}

// A foreign program cannot publish what belongs to another boundary, nor ask as a follower does: it is refused, and the replica
// is what its owner says.
func TestForeignOwnsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := newWire(t, local.Config{})
		till, p := newTill(t, wire), newTandem(t, [2]transport.Transport{wire.Open(), wire.Open()})
		p.begin()
		put(t, p.owner.own, p.owner.engine, guest{"ann", "", 1})
		p.converged()
		forged := till.packet(deskGuests.Name(), guest{"ann", "Mallory", 2})
		forged.Key = "ann"
		stamped := till.packet(deskGuests.Name(), guest{"ann", "Mallory", 2})
		stamped.Key, stamped.Stamp = "ann", 9_000_000_000_000_000_000
		question := till.packet(deskGuests.Name()+".states", map[string]any{"by": "desk", "check": []any{map[string]any{"key": "ann", "version": 9_000_000_000_000_000_000}}})
		for to, all := range map[string][]transport.Packet{"desk": {forged, stamped}, "front": {question}} {
			if kept, err := till.end.Send(t.Context(), to, all); kept != len(all) || err != nil {
				t.Fatalf("Send = %d, %v, want %d, nil", kept, err, len(all))
			}
		}
		for e, reasons := range map[*weir.Engine][]string{
			p.follower.engine: {"is published by boundary front alone", "attribute weirstamp"},
			p.owner.engine:    {"what an entity's owner and its followers say"},
		} {
			var dead []weir.DeadLetter
			eventually(t, "what was forged is refused", func() (all bool) {
				var err error
				if dead, err = e.Dead(t.Context(), weir.DeadQuery{}); err != nil {
					t.Fatal(err)
				}
				return len(dead) >= len(reasons)
			})
			for _, want := range reasons {
				if !slices.ContainsFunc(dead, func(d weir.DeadLetter) bool { return strings.Contains(d.Reason, want) }) {
					t.Errorf("no dead letter says %q: %+v", want, dead)
				}
			}
		}
		put(t, p.owner.own, p.owner.engine, guest{"ann", "", 2})
		sees(t, p.follower.replica, guest{"ann", "", 2})
	})
}

// writeAhead gives a store a version of ann that its owner never gave.
func writeAhead(t *testing.T, file string) {
	t.Helper()
	st, err := sqlite.File(file)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ch := &store.Change{States: []store.State{{
		Entity: deskGuests.Name(), Key: "ann", Version: 9_000_000_000_000_000_000, Contract: 1, AsOf: time.Now(), Body: []byte(`{"ID":"ann","Name":"Mallory"}`),
	}}}
	if err := errors.Join(st.Commit(t.Context(), &store.Group{Changes: []*store.Change{ch}}), ch.Err, st.Close()); err != nil {
		t.Fatal(err)
	}
}

// A version that the owner never gave harms the owner in no way: what it puts is its newest. Where its own store has one, Put says so.
func TestOwnerOfAForeignVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		p := newTandem(t, wires(t))
		p.begin()
		put(t, p.owner.own, p.owner.engine, guest{"ann", "", 1})
		p.converged()
		p.follower.stop()
		writeAhead(t, p.file)
		p.follower.up()
		if e, err := p.follower.replica.Refresh(ctx, "ann"); err != nil || e.Version != 9_000_000_000_000_000_000 {
			t.Errorf("Refresh = %+v, %v, want what is there: the test tests nothing", e, err)
		}
		put(t, p.owner.own, p.owner.engine, guest{"ann", "", 2})
		if e, err := p.owner.own.Get(ctx, "ann"); err != nil || e.Value.N != 2 {
			t.Errorf("the owner's Get = %+v, %v, want what it has put", e, err)
		}
		p.owner.stop()
		writeAhead(t, p.ownFile)
		p.owner.up()
		if err := p.owner.own.Put(ctx, p.owner.engine, "ann", guest{"ann", "", 3}); err == nil || !strings.Contains(err.Error(), "the store keeps a version above") {
			t.Errorf("Put beneath a version that the owner never gave = %v, want an error that says so", err)
		}
	})
}
