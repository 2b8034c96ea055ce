package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
)

// The workflow of these tests does what the dish says, so that each run comes to a
// stop of its own kind.
var (
	serveOrder = weir.NewWorkflow[ticket, string]("orders.serve")
	fetched    = weir.NewSignal[string]("orders.fetched")
	weigh      = weir.NewRequest[ticket, string]("kitchen.weigh")
)

// shop works runs with the engine.
type shop struct {
	journal
	e       *weir.Engine
	mended  atomic.Bool  // of "broken"
	undone  atomic.Int64 // compensations
	grammes chan string  // answers of the kitchen
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{journal: newJournal(t), grammes: make(chan string, 1)}
	e, err := weir.Open(context.Background(), sqlite.File(s.file), weir.Config{Owns: []string{"orders", "kitchen"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	s.e = e
	weir.Register(e, serveOrder, s.serve, weir.Retry{Max: 2, Base: time.Millisecond, Cap: time.Millisecond})
	weir.Answer(e, weigh, func(ctx context.Context, _ *weir.Message[ticket]) (string, error) {
		select {
		case g := <-s.grammes:
			return g, nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	})
	s.start(e)
	return s
}

func (s *shop) serve(r *weir.Run, in ticket) (string, error) {
	weir.Compensate(r, "undo", func(context.Context) error {
		if in.Dish == "stuck" {
			return errors.New("no way back")
		}
		s.undone.Add(1)
		return nil
	})
	switch in.Dish {
	case "charge":
		return weir.Once(r, "charge-card", func(context.Context) (string, error) { return "", errors.New("i/o timeout " + hostile) }, nil)
	case "broken":
		return weir.Step(r, "item", func(context.Context) (string, error) {
			if !s.mended.Load() {
				return "", errors.New("the oven is broken")
			}
			return "baked", nil
		}, weir.Key("7"))
	case "locked":
		err := weir.Locked(r, "table/7", func(r *weir.Run, _ int64) error {
			_, err := weir.WaitFor(r, "fetched", fetched)
			return err
		})
		return "fetched", err
	case "weigh":
		return weir.Ask(r, "ask-kitchen", weigh, in)
	case "hasty":
		_, err := weir.Ask(r, "ask-kitchen", weigh, in, weir.Within(time.Millisecond))
		_, _ = weir.WaitFor(r, "fetched", fetched)
		return "", err
	}
	weir.Sleep(r, "cool-off", 90*time.Minute) // so many minutes after it began it is still one hour and more
	return "slept", nil
}

// order starts a run and waits until it has come to a stop.
func (s *shop) order(id, dish string, state weir.RunState) weir.RunRef[string] {
	s.t.Helper()
	ref, err := weir.Start(context.Background(), s.e, serveOrder, id, ticket{Order: id, Dish: dish})
	if err != nil {
		s.t.Fatal(err)
	}
	s.becomes(id, state)
	return ref
}

func (s *shop) becomes(id string, state weir.RunState) {
	s.t.Helper()
	s.until(id, func(y weir.RunStory) bool { return y.State == state })
}

// until waits until a run's story is as it should be.
func (s *shop) until(id string, is func(weir.RunStory) bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		story, err := s.e.RunStory(context.Background(), "", id)
		if err != nil {
			s.t.Fatal(err)
		}
		if is(story) {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("run %s is not what it should become, but %s: %v\n%+v", id, story.State, weir.WhyNotRunning(story, weir.Surroundings{Now: time.Now()}), story)
		case <-tick.C:
		}
	}
}

// result is how a run ends, which it must.
func (s *shop) result(r weir.RunRef[string]) (string, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return r.Result(ctx)
}

// A person settles, retries, skips and abandons runs beside the service that works
// them, which goes on with what was decided.
func TestPersonDecides(t *testing.T) {
	for _, c := range []struct {
		args    []string
		outcome string // empty: completed
		says    string // the result, or what the error has
		shows   string
	}{
		{[]string{"settle", "--value", `"ch_1"`}, "", "ch_1", "settled by anna: asked the bank"},
		{[]string{"settle", "--step", "charge-card", "--failed"}, "failed", "asked the bank", "settled as failed by anna: asked the bank"},
		{[]string{"skip"}, "", "", "skipped by anna: asked the bank"},
		{[]string{"abandon"}, "failed", "asked the bank", "abandoned by anna: asked the bank"},
		{[]string{"cancel"}, "cancelled", "asked the bank", "cancelled by anna: asked the bank"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			s := newShop(t)
			ref := s.order("order-1", "charge", weir.RunNeedsPerson)
			s.weir(0, "run", "why", "order-1").has("- needs a person: step charge-card: outcome unknown: i/o timeout", "weir run settle orders.serve/order-1 --step charge-card")
			s.weir(5, "status").has("1 run needs a person", "! orders.serve/order-1", "1 problem:")
			s.weir(0, append([]string{"run", c.args[0], "order-1", "--why", "asked the bank", "--by", "anna"}, c.args[1:]...)...).has("Run order-1 of orders.serve")
			if c.args[0] == "cancel" { // an unknown outcome is found out first
				s.weir(0, "run", "settle", "order-1", "--failed", "--why", "it has not happened", "--by", "anna")
			}
			got, err := s.result(ref)
			failed, _ := errors.AsType[*weir.RunError](err)
			undone := int64(1) // what did not complete is compensated
			if c.outcome == "" {
				undone = 0
			}
			switch {
			case c.outcome == "" && (err != nil || got != c.says):
				t.Errorf("Result = %q, %v, want %q", got, err, c.says)
			case c.outcome != "" && (failed == nil || failed.Outcome != c.outcome || !strings.Contains(failed.Reason, c.says)):
				t.Errorf("Result = %q, %v, want it %s: %s", got, err, c.outcome, c.says)
			}
			if s.undone.Load() != undone {
				t.Errorf("%d compensations, want %d", s.undone.Load(), undone)
			}
			s.weir(0, "run", "show", "order-1").has("charge-card", "once", "(end)")
			s.weir(0, "run", "show", "order-1").has(c.shows)
			s.weir(4, "run", "cancel", "order-1", "--why", "x").complains("weir: ")
			s.weir(0, "audit", "ls").has("run "+c.args[0], "order-1", "asked the bank")
		})
	}
}

func TestPersonRetries(t *testing.T) {
	s := newShop(t)
	ref := s.order("order-1", "broken", weir.RunNeedsPerson)
	s.weir(0, "run", "show", "order-1").has("- needs a person: step item[7]:", "--step 'item[7]'", "item[7]", "step", "needs-person",
		"attempt 1 at +", "the oven is broken", "attempt 2 at +", "the oven is broken")
	s.mended.Store(true)
	s.weir(0, "run", "retry", "order-1", "--step", "item[7]", "--why", "a new oven")
	if got, err := s.result(ref); err != nil || got != "baked" {
		t.Errorf("Result = %q, %v, want baked", got, err)
	}
	s.weir(0, "run", "show", "order-1").has("item[7]", "done", `value "baked"`, "retry", "a new oven", `result "baked"`)
}

func TestPersonCancelsSleeper(t *testing.T) {
	s := newShop(t)
	ref := s.order("order-1", "sleep", weir.RunWaiting)
	s.weir(0, "run", "why", "order-1").has("- waits until 2", "(in 1h", "m): sleep cool-off")
	s.weir(0, "run", "ls", "--state", "waiting").has("order-1", "in 1h")
	s.weir(0, "run", "cancel", "order-1", "--why", "sold out", "--by", "anna")
	_, err := s.result(ref)
	if e, ok := errors.AsType[*weir.RunError](err); !ok || e.Outcome != "cancelled" || s.undone.Load() != 1 {
		t.Errorf("Result = %v after %d compensations, want it cancelled after 1", err, s.undone.Load())
	}
	s.weir(0, "run", "why", "order-1").has("has ended: cancelled at", "cancelled by anna: sold out")
}

// A compensation that fails needs a person too, who may give it up, alone or with the run.
func TestPersonAndCompensation(t *testing.T) {
	for _, verb := range []string{"skip", "abandon"} {
		t.Run(verb, func(t *testing.T) {
			s := newShop(t)
			ref := s.order("order-1", "stuck", weir.RunWaiting)
			s.weir(0, "run", "cancel", "order-1", "--why", "sold out", "--by", "anna")
			s.becomes("order-1", weir.RunNeedsPerson)
			s.weir(0, "run", "why", "order-1").has("- is ending: cancelled by anna: sold out", "- needs a person: compensation undo: no way back",
				"weir run retry orders.serve/order-1 --step undo").lacks("cool-off")
			s.weir(0, "run", verb, "order-1", "--why", "enough", "--by", "anna")
			_, err := s.result(ref)
			if e, ok := errors.AsType[*weir.RunError](err); !ok || e.Outcome != "cancelled" {
				t.Errorf("Result = %v, want it cancelled", err)
			}
			s.weir(0, "run", "show", "order-1").has("undo", "compensate", "omitted", "by anna: enough", "(end)")
		})
	}
}

func TestPersonBreaksLock(t *testing.T) {
	s := newShop(t)
	s.order("order-1", "locked", weir.RunWaiting)
	second := s.order("order-2", "locked", weir.RunWaiting)
	s.weir(0, "run", "why", "order-1").has("- waits for orders.fetched with key order-1")
	s.weir(0, "run", "why", "order-2").has("- is in line for lock table/7, as number 1 of 1; it is held by run", "orders.serve/order-1")
	s.weir(0, "lock", "ls").has("table/7", "orders.serve/order-1", "1. orders.serve/order-2")
	s.weir(0, "lock", "break", "table/7", "--why", "its guests have gone")
	s.weir(0, "lock", "ls").has("table/7", "orders.serve/order-2")
	if err := weir.Tell(t.Context(), s.e, fetched, "order-2", "x"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.result(second); err != nil || got != "fetched" {
		t.Errorf("Result = %q, %v, want fetched", got, err)
	}
	s.weir(0, "lock", "ls").has("No run holds a lock.")
}

// A reply that comes after its run has stopped to wait for it is kept, and shown with the run.
func TestLateReply(t *testing.T) {
	s := newShop(t)
	ref, err := weir.Start(t.Context(), s.e, serveOrder, "order-1", ticket{Order: "order-1", Dish: "hasty"})
	if err != nil {
		t.Fatal(err)
	}
	s.until("order-1", func(y weir.RunStory) bool {
		steps := 0
		for _, r := range y.Records {
			if r.Kind != store.KindNote {
				steps++
			}
		}
		return steps == 2 && y.State == weir.RunWaiting
	})
	s.grammes <- "300 g"
	s.until("order-1", func(y weir.RunStory) bool { return len(y.Late) == 1 })
	s.weir(0, "run", "show", "order-1").has("ask-kitchen", "ask", "failed", "not done within 1ms", "replies that came too late", "kitchen.weigh.reply", `"300 g"`)
	if err := weir.Tell(t.Context(), s.e, fetched, "order-1", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.result(ref); err == nil {
		t.Error("Result succeeded, want it failed for want of a reply")
	}
}

// A trace of an order has its run, what that asked for below it, and the answer below that.
func TestTraceOfAsk(t *testing.T) {
	s := newShop(t)
	ref := s.order("order-1", "weigh", weir.RunWaiting)
	s.weir(0, "run", "why", "order-1").has("- waits for the reply to kitchen.weigh ", "ask ask-kitchen")
	s.grammes <- "300 g"
	if got, err := s.result(ref); err != nil || got != "300 g" {
		t.Errorf("Result = %q, %v, want 300 g", got, err)
	}
	s.weir(0, "trace", "order-1").has("1 run and 2 messages", "orders.serve", "run", "ask-kitchen: ask, done", "run has ended: completed",
		"  kitchen.weigh", "command", "kitchen.weigh: done", "    kitchen.weigh.reply", "reply")
}
