package weir_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
)

// The rules that users are told, a test each.

// Rule 1: a step returns an error to the function only when it is FailIf/Permanent, past
// Within, or settled as failed by a person. When retries run out the run is parked and the
// call does not return: a swallowed error cannot lose an order.
func TestRuleOutOfRetriesDoesNotReturn(t *testing.T) {
	t.Parallel()
	var returned atomic.Bool
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		_ = weir.Do(r, "cook", func(context.Context) error { return errBusy }, quick) // swallowed
		returned.Store(true)
		return plate{N: 1}, nil
	})
	for id, decide := range map[string]func() error{
		"settled as failed": func() error {
			return e.SettleRun(t.Context(), of("settled as failed"), weir.Settled{Failed: true}, known)
		},
		"settled": func() error { return e.SettleRun(t.Context(), of("settled"), weir.Settled{}, known) },
		"skipped": func() error { return e.SkipRun(t.Context(), of("skipped"), known) },
	} {
		returned.Store(false)
		ref := startRun(t, e, id)
		s := inState(t, e, id, weir.RunNeedsPerson)
		if r := recordOf(t, s, "cook"); returned.Load() || r.State != store.StepParked || s.Reason != "step cook: the kitchen is busy" {
			t.Errorf("%s: the call returned: %t; its record is %+v, the run's reason %q; want it parked", id, returned.Load(), r, s.Reason)
		}
		decided(t, decide())
		completed(t, ref, 1)
	}
}

// Rule 2: errors that the function sees are the recorded form, live as in a replay, and in
// another process; errors.Is holds for FailIf's sentinels.
func TestRuleErrorsAreRecorded(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	var texts list
	work := func(r *weir.Run, in ticket) (plate, error) {
		_, err := weir.Step(r, "charge", func(context.Context) (int, error) {
			return 7, fmt.Errorf("bank: %w: %w", errDeclined, errBusy)
		}, weir.FailIf(errDeclined, errExists))
		late := weir.Do(r, "late", func(context.Context) error { return errBusy }, quick, weir.Within(time.Nanosecond))
		texts.add(fmt.Sprintf("%v %T %t %t %t; %v %t", err, err, errors.Is(err, errDeclined), errors.Is(err, errBusy),
			errors.Is(err, errExists), late, errors.Is(late, weir.ErrWithin)))
		_, failed := weir.WaitFor(r, "approval", approved)
		return plate{N: 1}, failed
	}
	e, stop := dining(t, file, work)
	startRun(t, e, "7")
	inState(t, e, "7", weir.RunWaiting)
	stop()
	e, _ = dining(t, file, work)
	tell(t, e, "7", 1)
	completed(t, weir.Find(e, dine, "7"), 1)
	got := texts.get()
	want := "charge: bank: the card is declined: the kitchen is busy *engine.StepError true false false; late: not done within 1ns: the kitchen is busy true"
	if len(got) != 2 || got[0] != want || got[1] != want {
		t.Errorf("the errors were %q, want twice %q", got, want)
	}
}

// Rule 3: steps are found again by name, never by position; in loops keys tell them apart.
// (What becomes of steps that the code no longer asks for: TestCodeChanges.)
func TestRuleStepsAreFoundByName(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	var did list
	work := func(items ...string) func(*weir.Run, ticket) (plate, error) {
		return func(r *weir.Run, in ticket) (plate, error) {
			for _, item := range items {
				if err := weir.Do(r, "cook", did.does(item), weir.Key(item)); err != nil {
					return plate{}, err
				}
			}
			_, err := weir.WaitFor(r, "approval", approved)
			return plate{N: 1}, err
		}
	}
	e, stop := dining(t, file, work("soup", "fish", "cake"))
	startRun(t, e, "7")
	inState(t, e, "7", weir.RunWaiting)
	stop()
	e, _ = dining(t, file, work("cake", "bread", "fish", "soup"))
	tell(t, e, "7", 1)
	completed(t, weir.Find(e, dine, "7"), 1)
	if got, want := did.get(), []string{"soup", "fish", "cake", "bread"}; !slices.Equal(got, want) {
		t.Errorf("cooked %q, want %q: each once", got, want)
	}
}

// Rule 4: code outside steps may run again; it decides on recorded values only, and gets the same ones.
func TestRuleCodeOutsideStepsRunsAgain(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	var seen, steps list
	work := func(r *weir.Run, in ticket) (plate, error) {
		n, err := weir.Step(r, "draw", func(context.Context) (int64, error) {
			steps.add("draw")
			return time.Now().UnixNano(), nil
		})
		seen.add(fmt.Sprint(r.ID(), in, n, r.Now().String()))
		p, failed := weir.WaitFor(r, "approval", approved)
		return p, errors.Join(err, failed)
	}
	e, stop := dining(t, file, work)
	startRun(t, e, "7")
	inState(t, e, "7", weir.RunWaiting)
	stop()
	e, _ = dining(t, file, work)
	tell(t, e, "7", 3)
	completed(t, weir.Find(e, dine, "7"), 3)
	if got := seen.get(); len(got) != 2 || got[0] != got[1] || len(steps.get()) != 1 {
		t.Errorf("the function saw %q and drew %d times, want twice the same, drawn once", got, len(steps.get()))
	}
}

// Rule 5: waiting and cancelling unwind the function: deferred functions run, what comes
// after the call does not. A call on the run while it unwinds does nothing.
func TestRuleWaitingUnwinds(t *testing.T) {
	t.Parallel()
	var did list
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		defer did.add("deferred")
		defer func() { _ = weir.Do(r, "never", did.does("never")) }()
		p, err := weir.WaitFor(r, "approval", approved)
		did.add("after")
		return p, err
	})
	ref := startRun(t, e, "told")
	inState(t, e, "told", weir.RunWaiting)
	if got, want := did.get(), []string{"deferred"}; !slices.Equal(got, want) {
		t.Errorf("waiting: %q, want %q", got, want)
	}
	decided(t, ref.Cancel(t.Context(), "closed"))
	ended(t, ref, "cancelled")
	if got, want := did.get(), []string{"deferred", "deferred"}; !slices.Equal(got, want) {
		t.Errorf("cancelled: %q, want %q", got, want)
	}
}

// Rule 6: a *Run belongs to one goroutine. Nested or concurrent use is detected and parks
// the run; sending through the engine inside a step is refused.
func TestRuleRunBelongsToOneGoroutine(t *testing.T) {
	t.Parallel()
	var e *weir.Engine
	ok := func(context.Context) error { return nil }
	bad := map[string]func(*weir.Run) error{
		"nested": func(r *weir.Run) error {
			return weir.Do(r, "outer", func(context.Context) error { return weir.Do(r, "inner", ok) })
		},
		"concurrent": func(r *weir.Run) error {
			gone := make(chan struct{})
			return weir.Do(r, "outer", func(context.Context) error {
				go func() { defer close(gone); _ = weir.Do(r, "beside", ok) }()
				<-gone
				return nil
			})
		},
		"the outer one in a branch": func(outer *weir.Run) error {
			return weir.All(outer, "hall", weir.Branch{Name: "a", Do: func(*weir.Run) error { return weir.Do(outer, "inner", ok) }})
		},
		"another's, one at a time": func(r *weir.Run) error {
			return elsewhere(func() error { return weir.Do(r, "charge", func(context.Context) error { return errBusy }, quick) })
		},
		"another's, asleep": func(r *weir.Run) error {
			return elsewhere(func() error { weir.Sleep(r, "month", 30*24*time.Hour); return nil })
		},
		"another's, in a branch": func(r *weir.Run) error {
			return weir.All(r, "hall", weir.Branch{Name: "a", Do: func(r *weir.Run) error {
				return elsewhere(func() error { weir.Sleep(r, "month", 30*24*time.Hour); return nil })
			}})
		},
		"another's, not waited for": func(r *weir.Run) error {
			begun := make(chan struct{})
			go func() {
				_ = weir.Do(r, "outer", func(ctx context.Context) error { close(begun); <-ctx.Done(); return ctx.Err() })
			}()
			<-begun
			return nil
		},
		"sent through in a step": func(r *weir.Run) error {
			return weir.Do(r, "outer", func(ctx context.Context) error { return weir.Send(ctx, r, clean, ticket{}) })
		},
	}
	mended := atomic.Bool{}
	e, _ = dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		if f := bad[r.ID()]; f != nil && !mended.Load() {
			return plate{}, f(r)
		}
		return plate{N: 1}, nil
	})
	for what := range bad {
		startRun(t, e, what)
		if s := inState(t, e, what, weir.RunNeedsPerson); !strings.Contains(s.Reason, "*Run was used inside a step, or by two goroutines") {
			t.Errorf("%s: parked because of %q, want the misuse", what, s.Reason)
		}
	}
	mended.Store(true)
	for what := range bad {
		decided(t, e.RetryRun(t.Context(), of(what), known))
		completed(t, weir.Find(e, dine, what), 1)
	}
}

// elsewhere calls f in a goroutine of its own, and waits for it.
func elsewhere(f func() error) (err error) {
	var work sync.WaitGroup
	work.Go(func() { err = f() })
	work.Wait()
	return err
}

// A function that waits for ever for another goroutine, which a call on the run has unwound, is noticed too.
func TestRuleRunInAnotherGoroutineHangs(t *testing.T) {
	t.Parallel()
	sleeps := func(r *weir.Run, never chan struct{}) {
		done := make(chan struct{})
		go func() { weir.Sleep(r, "night", 8*time.Hour); close(done) }()
		select {
		case <-done:
		case <-never:
		}
	}
	for what, f := range map[string]func(*weir.Run, chan struct{}){
		"in the function": sleeps,
		"in a branch": func(r *weir.Run, never chan struct{}) {
			_ = weir.All(r, "hall", weir.Branch{Name: "a", Do: func(r *weir.Run) error { sleeps(r, never); return nil }})
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				never := make(chan struct{})
				e := ignored(t, func(r *weir.Run, in ticket) (plate, error) { f(r, never); return plate{N: 1}, nil })
				startRun(t, e, "7")
				time.Sleep(3 * time.Hour)
				if s := storyOf(t, e, "7"); s.State != weir.RunNeedsPerson || !strings.Contains(s.Reason, "goroutine") {
					t.Errorf("the run is %s because of %q, want it parked for its misuse", s.State, s.Reason)
				}
				close(never)
				time.Sleep(time.Hour)
				if s := storyOf(t, e, "7"); s.State != weir.RunNeedsPerson {
					t.Errorf("after all has returned the run is %s, want it parked", s.State)
				}
			})
		})
	}
}

func TestRuleEngineIsRefusedInSteps(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	e := openEngine(t, file, weir.Config{})
	var refused list
	through := func(ctx context.Context) {
		_, started := weir.Start(ctx, e, wash, "x", ticket{})
		for _, err := range []error{weir.Send(ctx, e, clean, ticket{}), weir.Publish(ctx, e, ready, plate{}), started} {
			if !errors.Is(err, weir.ErrInHandler) {
				refused.add(fmt.Sprint(err))
			}
		}
	}
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		err := weir.Do(r, "step", func(ctx context.Context) error { through(ctx); return nil })
		_, failed := weir.StepTx(r, "tx", func(ctx context.Context, _ weir.Tx) (int, error) { through(ctx); return 1, nil })
		asked := weir.Until(r, "until", func(ctx context.Context) (weir.Met, error) { through(ctx); return weir.When(true, ""), nil })
		weir.Compensate(r, "undo", func(ctx context.Context) error { through(ctx); return nil })
		return plate{}, errors.Join(err, failed, asked, errors.New("no"))
	})
	works(t, e)
	ended(t, startRun(t, e, "7"), "failed")
	if got := refused.get(); len(got) != 0 {
		t.Errorf("sends in steps = %q, want ErrInHandler", got)
	}
}

// Rule 7: OnCommit and StepTx closures are short, may run again, and act only through their
// transaction: what they wrote before they ran again is gone.
func TestRuleClosuresMayRunAgain(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	db := openTable(t, file, effects)
	var times atomic.Int64
	e, _ := dining(t, file, func(r *weir.Run, in ticket) (plate, error) {
		n, err := weir.StepTx(r, "book", func(ctx context.Context, tx weir.Tx) (int, error) {
			n := times.Add(1)
			_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into effects (tab, n) values (?, ?)`, r.ID(), n)
			if err == nil && r.ID() == "0" {
				err = weir.Permanent(errDeclined) // undoes the whole group: the neighbours' closures run again
			}
			return int(n), err
		})
		return plate{N: n}, err
	})
	const runs = 30
	for n := range runs {
		startRun(t, e, fmt.Sprint(n))
	}
	for n := 1; n < runs; n++ {
		id := fmt.Sprint(n)
		p, err := result(t, weir.Find(e, dine, id))
		if got := took(t, db)[id]; err != nil || len(got) != 1 || got[0] != p.N {
			t.Errorf("run %s results in %v, %v and wrote %v, want what it wrote once", id, p, err, got)
		}
	}
	ended(t, weir.Find(e, dine, "0"), "failed")
	if got := took(t, db)["0"]; got != nil {
		t.Errorf("the step that failed wrote %v", got)
	}
}

// Rule 8: a message with a key is worked in order per key, also those of one run; a command
// whose owner nobody knows is an error at the send.
func TestRuleOrderPerKeyAndKnownOwners(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	db := openTable(t, file, effects)
	e := openEngine(t, file, weir.Config{})
	weir.Handle(e, prepare, func(_ context.Context, m *weir.Message[ticket]) error { effect(m); return nil }, weir.Queue{Concurrency: 8})
	stranger := weir.NewCommand[ticket]("bar.mix")
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		for n := range 20 {
			if err := weir.Send(r.Context(), r, prepare, ticket{r.ID(), n + 1}); err != nil {
				return plate{}, err
			}
		}
		if err := weir.Send(r.Context(), r, stranger, ticket{}); err == nil || !strings.Contains(err.Error(), "bar") {
			return plate{}, fmt.Errorf("a send to nobody = %w, want an error", err)
		}
		return plate{N: 1}, nil
	})
	works(t, e)
	for _, id := range []string{"7", "8"} {
		completed(t, startRun(t, e, id), 1)
	}
	emptied(t, e, prepare.Name())
	for table, got := range took(t, db) {
		if !slices.Equal(got, upTo(20)) {
			t.Errorf("table %s was worked as %v, want 1 to 20", table, got)
		}
	}
}
