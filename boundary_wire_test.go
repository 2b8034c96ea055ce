package weir_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/local"
)

// clerk speaks for a boundary on the wire itself.
type clerk struct {
	t     *testing.T
	end   transport.Transport
	notes chan transport.Note
}

func newClerk(t *testing.T, wire *local.Wire, boundary string) *clerk {
	t.Helper()
	c := &clerk{t: t, end: wire.Open(), notes: make(chan transport.Note, 100)}
	stop, err := c.end.Listen(t.Context(), boundary, func(n transport.Note) { c.notes <- n })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = c.end.Close() // never fails
	})
	return c
}

// send sends one packet on the floor's lane, as soon as there is room.
func (c *clerk) send(place string, begin transport.Begin) {
	c.t.Helper()
	at, err := transport.ParsePosition(place)
	if err != nil {
		c.t.Fatal(err)
	}
	p := transport.Packet{
		Lane: transport.Lane{From: "floor", Incarnation: "k7q2xw", Queue: "kitchen.clean"}, Position: at, Begin: begin,
		ID: "k7q2xw-" + place, Topic: "kitchen.clean", Kind: transport.KindCommand, Version: 1, SentAt: time.Now(), Body: []byte(`{"Table":"7","N":1}`),
	}
	for range 100 {
		if _, err = c.end.Send(c.t.Context(), "kitchen", []transport.Packet{p}); err == nil {
			return
		}
		pass(time.Second)
	}
	c.t.Errorf("Send(%s) = %v for 100 s, want room", place, err)
}

// hears waits for a note of a kind and wants it to say a place.
func (c *clerk) hears(kind, place string) {
	c.t.Helper()
	c.hearsOf(kind, `[{"lane":"floor/k7q2xw/kitchen.clean","have":"`+place+`"}]`)
}

// hearsOf waits for a note of a kind and wants it to say this.
func (c *clerk) hearsOf(kind, want string) {
	c.t.Helper()
	since := time.Now()
	for {
		select {
		case n := <-c.notes:
			if n.Kind != kind {
				continue
			}
			if string(n.Body) != want || n.From != "kitchen" {
				c.t.Errorf("%s from %s = %s, want %s from the kitchen", kind, n.From, n.Body, want)
			}
			if took := time.Since(since); took > time.Second {
				c.t.Errorf("%s %s came after %s, want it at once", kind, want, took)
			}
			return
		case <-time.After(time.Minute):
			c.t.Fatalf("no %s came, want %s", kind, want)
		}
	}
}

// What a receiver says and acknowledges on the wire: each arrival has a receipt, also one that came before; a gap is
// wished for; and who begins says how far it is.
func TestBoundaryOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := newWire(t, local.Config{Capacity: 1})
		floor, file := newClerk(t, wire, "floor"), newFile(t)
		start := func() (stop func()) {
			e := openKitchen(t, file, wire.Open())
			weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error { return nil })
			return run(t, e)
		}
		stop := start()
		ask := func(next int) {
			body := fmt.Sprintf(`[{"lane":"floor/k7q2xw/kitchen.clean","next":%d}]`, next)
			if err := floor.end.Notify(t.Context(), "kitchen", transport.Note{From: "floor", Kind: "ask", Body: []byte(body)}); err != nil {
				t.Fatal(err)
			}
		}
		pass(time.Second)
		floor.send("1/0", transport.BeginFirst) // it may be late, for all that the kitchen knows
		floor.hearsOf("wish", `[{"lane":"floor/k7q2xw/kitchen.clean"}]`)
		pass(2 * time.Second)
		ask(1)
		floor.hearsOf("answer", `[{"lane":"floor/k7q2xw/kitchen.clean"}]`)
		floor.send("1/0", transport.BeginFirst)
		floor.hears("receipt", "1/0")
		floor.send("1/0", transport.BeginFirst) // again: it is acknowledged, or there is no room for what follows
		floor.hears("receipt", "1/0")
		floor.send("1/1/last", "")
		floor.hears("receipt", "1/1/last")
		floor.send("2/1", "")
		floor.hears("wish", "1/1/last")
		floor.send("2/0", "") // for which there is room when 2/1 was dropped
		floor.hears("receipt", "2/0")
		floor.send("9/0", transport.BeginJump)
		floor.hears("receipt", "9/0")
		stop()
		stop = start()
		floor.hears("answer", "9/0")
		ask(9)
		floor.hears("answer", "9/0")
		stop()
	})
}

// While a queue is full its senders are told, and what waits goes in as soon as there is room; others go on.
func TestBoundaryFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := newWire(t, local.Config{})
		floor := openStore(t, abandon(newFile(t)), weir.Config{
			Owns: []string{"floor"}, Transport: wire.Open(), Routes: map[string]weir.Route{"kitchen": {Capacity: 100}},
		})
		kitchen := openKitchen(t, newFile(t), wire.Open())
		var l ledger
		open := make(chan struct{})
		weir.Handle(kitchen, prepare, func(ctx context.Context, m *weir.Message[ticket]) error {
			select {
			case <-open:
				return l.prepare(ctx, m)
			case <-ctx.Done():
				return ctx.Err()
			}
		}, weir.Queue{Capacity: 20, Timeout: time.Hour})
		cleaned := make(chan *weir.Message[ticket], 1)
		weir.Handle(kitchen, clean, into(cleaned))
		run(t, kitchen)
		run(t, floor)
		sent := 0
		for range 1000 {
			err := weir.Send(t.Context(), floor, prepare, ticket{"7", sent + 1})
			if full, ok := errors.AsType[*weir.FullError](err); ok {
				if full.Queue != prepare.Name() || full.Capacity != 100 {
					t.Errorf("refused by %s of %d, want the relay of 100", full.Queue, full.Capacity)
				}
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			sent++
			pass(100 * time.Millisecond)
		}
		if sent < 120 || sent > 140 {
			t.Errorf("%d were accepted before one was refused, want what both queues hold, 20 and 100, and little more", sent)
		}
		send(t, floor, clean, ticket{"7", 1})
		receive(t, cleaned)
		eventually(t, "it is seen what holds the lane", func() bool {
			_, in, err := kitchen.Lanes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, lane := range in {
				if lane.From == "floor" && lane.Held > 0 && strings.Contains(lane.State, "queue kitchen.prepare-food is full") {
					return true
				}
			}
			return false
		})
		close(open)
		eventually(t, "all are prepared", func() bool { return l.count() >= sent })
		l.wants(t, 1, sent)
	})
}

// shut is an end whose inlets cannot be opened while there is a reason.
type shut struct {
	transport.Transport
	why atomic.Pointer[error]
}

func (s *shut) Receive(ctx context.Context, boundary string) (transport.Inlet, error) {
	if why := s.why.Load(); why != nil {
		return nil, *why
	}
	return s.Transport.Receive(ctx, boundary)
}

// linesOf are the lines of a log that have a text in them.
func linesOf(p *paper, text string) (found []string) {
	for line := range strings.Lines(p.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// An inlet that cannot be read is told of whenever the reason changes, and from time to time; as an Error where it takes a person;
// and to whoever asks.
func TestInletThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := &shut{Transport: newWire(t, local.Config{}).Open()}
		because := func(err error) { end.why.Store(&err) }
		because(fmt.Errorf("%w: not connected: connection refused", transport.ErrUnavailable))
		var log paper
		file := newFile(t)
		open := func() *weir.Engine {
			return openStore(t, sqlite.File(file), weir.Config{
				Owns: []string{"kitchen"}, Transport: end, Routes: map[string]weir.Route{"floor": {}},
				Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelInfo})),
			})
		}
		e := open()
		stop := run(t, e)
		says := func(want string) {
			t.Helper()
			_, in, err := e.Lanes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if want == "" && len(in) == 0 {
				return
			}
			if want == "" || len(in) != 1 || in[0].Lane != "kitchen" || in[0].From != "" || !strings.Contains(in[0].State, want) {
				t.Errorf("Lanes in = %+v, want that of the kitchen, %q", in, want)
			}
		}
		pass(30 * time.Second)
		says("connection refused")
		because(fmt.Errorf("%w: max_age is 1h0m0s, want none", transport.ErrNeedsPerson))
		pass(30 * time.Second)
		says("max_age is 1h0m0s")
		lines := linesOf(&log, "cannot be read")
		if len(lines) != 2 || !strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[0], "connection refused") ||
			!strings.Contains(lines[1], "level=ERROR") || !strings.Contains(lines[1], "max_age") {
			t.Errorf("the log says %q, want a warning of the first reason and an error of the second", lines)
		}
		pass(time.Hour)
		if n := len(linesOf(&log, "cannot be read")); n < 6 || n > 9 {
			t.Errorf("the log tells of it %d times within an hour, want every 10 minutes", n)
		}
		end.why.Store(nil)
		pass(10 * time.Second)
		says("")
		if n := len(linesOf(&log, "can be read again")); n != 1 {
			t.Errorf("the log says %d times that the inlet can be read again, want once", n)
		}
		stop()
		because(errors.New("no more room"))
		e = open()
		stop = run(t, e)
		pass(time.Minute)
		says("no more room")
		stop()
		end.why.Store(nil)
		e = open()
		defer run(t, e)()
		pass(10 * time.Second)
		says("")
	})
}
