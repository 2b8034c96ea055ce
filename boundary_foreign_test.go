package weir_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
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
