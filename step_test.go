package weir_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
)

var (
	errBusy     = errors.New("the kitchen is busy")
	errDeclined = errors.New("the card is declined")
	errExists   = errors.New("it exists already")
)

// A step that fails is tried again, under the same key; what it gave is recorded,
// and so is each failure.
func TestStepIsRetried(t *testing.T) {
	t.Parallel()
	var keys []string
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		n, err := weir.Step(r, "cook", func(ctx context.Context) (int, error) {
			if keys = append(keys, weir.IdempotencyKey(ctx)); len(keys) < 3 {
				return 0, fmt.Errorf("attempt %d: %w", len(keys), errBusy)
			}
			return 40 + len(keys), nil
		}, quick)
		return plate{N: n}, err
	})
	completed(t, startRun(t, e, "7"), 43)
	if len(keys) != 3 || keys[0] == "" || keys[1] != keys[0] || keys[2] != keys[0] {
		t.Errorf("idempotency keys of the attempts = %q, want three times the same", keys)
	}
	s := storyOf(t, e, "7")
	r := recordOf(t, s, "cook")
	if r.State != store.StepDone || r.Attempt != 3 || string(r.Value) != "43" || r.Kind != store.KindStep {
		t.Errorf("the record is %+v, want a step done at its attempt 3 with 43", r)
	}
	if len(s.Attempts) != 2 || s.Attempts[0].Reason != "attempt 1: the kitchen is busy" || s.Attempts[1].Attempt != 2 {
		t.Errorf("the failed attempts are %+v, want the first two", s.Attempts)
	}
}

// The idempotency key is the same in another process, and another for each step and run.
func TestIdempotencyKeyOverProcesses(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	keys := make(chan string, 8)
	begun := make(chan struct{})
	work := func(first bool) func(*weir.Run, ticket) (plate, error) {
		return func(r *weir.Run, in ticket) (plate, error) {
			err := weir.Do(r, "cook", func(ctx context.Context) error {
				keys <- weir.IdempotencyKey(ctx)
				if first {
					close(begun)
					<-ctx.Done()
				}
				return ctx.Err()
			}, quick)
			if err == nil {
				err = weir.Do(r, "serve", func(ctx context.Context) error {
					keys <- weir.IdempotencyKey(ctx)
					return nil
				})
			}
			return plate{}, err
		}
	}
	e, stop := dining(t, file, work(true))
	startRun(t, e, "7")
	<-begun
	stop()
	e, _ = dining(t, file, work(false))
	completed(t, weir.Find(e, dine, "7"), 0)
	completed(t, startRun(t, e, "8"), 0)
	close(keys)
	got := slices.Collect(func(yield func(string) bool) {
		for k := range keys {
			if !yield(k) {
				return
			}
		}
	})
	if len(got) != 5 || got[0] != got[1] {
		t.Fatalf("keys = %q, want five, the first two the same: cut short by a stop, and again", got)
	}
	if all := slices.Compact(slices.Sorted(slices.Values(got))); len(all) != 4 {
		t.Errorf("keys = %q, want another for each step and run", got)
	}
	if r := recordOf(t, storyOf(t, e, "7"), "cook"); r.Attempt != 1 {
		t.Errorf("cook has %d attempts, want 1: a stop is no failure", r.Attempt)
	}
}

// A StepTx, too: what it has written is undone, and the value is recorded.
func TestStepTxDoneIf(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	db := openTable(t, file, effects)
	var calls atomic.Int64
	e, _ := dining(t, file, func(r *weir.Run, in ticket) (plate, error) {
		n, err := weir.StepTx(r, "invoice", func(ctx context.Context, tx weir.Tx) (int, error) {
			calls.Add(1)
			_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into effects (tab, n) values ('7', 1)`)
			return 12, errors.Join(err, errExists)
		}, weir.DoneIf(errExists))
		if err == nil {
			_, err = weir.WaitFor(r, "approval", approved)
		}
		return plate{N: n}, err
	})
	ref := startRun(t, e, "7")
	s := inState(t, e, "7", weir.RunWaiting)
	if r := recordOf(t, s, "invoice"); r.State != store.StepDone || string(r.Value) != "12" || r.Reason != "already done: "+errExists.Error() {
		t.Errorf("the record is %+v, want it done with 12, and why", r)
	}
	tell(t, e, "7", 1)
	completed(t, ref, 12)
	if got := took(t, db)["7"]; calls.Load() != 1 || len(got) != 0 {
		t.Errorf("called %d times and wrote %v, want 1 and nothing", calls.Load(), got)
	}
}

// With an error that DoneIf knows, the value beside it is the result, and the history says so.
func TestDoneIf(t *testing.T) {
	t.Parallel()
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		n, err := weir.Step(r, "invoice", func(context.Context) (int, error) {
			return 12, fmt.Errorf("billing: %w", errExists)
		}, weir.DoneIf(errBusy, errExists))
		return plate{N: n}, err
	})
	completed(t, startRun(t, e, "7"), 12)
	s := storyOf(t, e, "7")
	if r := recordOf(t, s, "invoice"); r.State != store.StepDone || r.Reason != "already done: billing: it exists already" {
		t.Errorf("the record is %+v, want it done, and why", r)
	}
	if len(s.Attempts) != 0 {
		t.Errorf("failed attempts = %+v, want none", s.Attempts)
	}
}

// What FailIf and Permanent name, the function gets at once, in its recorded form.
func TestFailIfAndPermanent(t *testing.T) {
	t.Parallel()
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		err := weir.Do(r, "charge", func(context.Context) error {
			return fmt.Errorf("bank: %w", errDeclined)
		}, weir.FailIf(errBusy, errDeclined))
		permanent := weir.Do(r, "cook", func(context.Context) error { return weir.Permanent(errBusy) })
		step, ok := errors.AsType[*weir.StepError](err)
		switch {
		case !ok || step.Step != "charge" || step.Reason != "bank: the card is declined":
			return plate{}, fmt.Errorf("charge = %w, want a StepError", err)
		case !errors.Is(err, errDeclined) || errors.Is(err, errBusy):
			return plate{}, fmt.Errorf("charge = %w, want it declined and not busy", err)
		case errors.Is(permanent, errBusy) || permanent == nil:
			return plate{}, fmt.Errorf("cook = %w, want an error that nobody named", permanent)
		}
		return plate{N: 1}, nil
	})
	completed(t, startRun(t, e, "7"), 1)
	s := storyOf(t, e, "7")
	for _, name := range []string{"charge", "cook"} {
		if r := recordOf(t, s, name); r.State != store.StepFailed || r.Attempt != 1 {
			t.Errorf("%s is %s after %d attempts, want failed after 1", name, r.State, r.Attempt)
		}
	}
}

// Timeout bounds one attempt, and Within all of them; both in a fake clock.
func TestTimeoutAndWithin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var causes []error
		var tries int
		e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
			hangs := func(ctx context.Context) error {
				<-ctx.Done()
				causes = append(causes, context.Cause(ctx))
				return ctx.Err()
			}
			started := time.Now()
			err := weir.Do(r, "hangs", func(ctx context.Context) error {
				if len(causes) == 2 {
					return nil
				}
				return hangs(ctx)
			}, weir.Timeout(2*time.Second), quick)
			if took := time.Since(started); err != nil || took < 4*time.Second || took > 5*time.Second {
				return plate{}, fmt.Errorf("hangs = %w after %s, want nil after two timeouts of 2 s", err, took)
			}
			started = time.Now()
			err = weir.Do(r, "busy", func(context.Context) error { tries++; return errBusy },
				weir.Retry{Max: 1000, Base: time.Second, Cap: time.Second}, weir.Within(20*time.Second))
			if took := time.Since(started); !errors.Is(err, weir.ErrWithin) || took > 21*time.Second {
				return plate{}, fmt.Errorf("busy = %w after %s, want ErrWithin after 20 s", err, took)
			}
			started = time.Now()
			err = weir.Do(r, "one", hangs, weir.Within(time.Second))
			if took := time.Since(started); !errors.Is(err, weir.ErrWithin) || took != time.Second {
				return plate{}, fmt.Errorf("one = %w after %s, want ErrWithin after 1 s, though an attempt may take a minute", err, took)
			}
			return plate{N: 1}, nil
		})
		completed(t, startRun(t, e, "7"), 1)
		if len(causes) != 3 || causes[0] != weir.ErrTimeout || tries < 10 {
			t.Errorf("causes = %v, tries = %d, want ErrTimeout, and many tries", causes, tries)
		}
	})
}

// In loops keys tell steps apart; what has the same name is counted.
func TestNamesOfSteps(t *testing.T) {
	t.Parallel()
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		sum := 0
		for i, item := range []string{"soup", "fish", "soup"} {
			n, err := weir.Step(r, "cook", func(context.Context) (int, error) { return i + 1, nil }, weir.Key(item))
			if err != nil {
				return plate{}, err
			}
			sum += n
		}
		for range 2 {
			if err := weir.Do(r, "wash", func(context.Context) error { return nil }); err != nil {
				return plate{}, err
			}
		}
		weir.Sleep(r, "wash", time.Millisecond)
		return plate{N: sum}, nil
	})
	completed(t, startRun(t, e, "7"), 6)
	want := []string{"cook[soup]", "cook[fish]", "cook[soup]#2", "wash", "wash#2", "wash#3"}
	if got := recordNames(storyOf(t, e, "7")); !slices.Equal(got, want) {
		t.Errorf("records = %q, want %q", got, want)
	}
}

// A step that panics has failed, and its stack is kept.
func TestStepPanics(t *testing.T) {
	t.Parallel()
	calls := 0
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		n, err := weir.Step(r, "cook", func(context.Context) (int, error) {
			if calls++; calls == 1 {
				panic("the pan burns")
			}
			return calls, nil
		}, quick)
		return plate{N: n}, err
	})
	completed(t, startRun(t, e, "7"), 2)
	a := storyOf(t, e, "7").Attempts
	if len(a) != 1 || a[0].Reason != "panic: the pan burns" || !strings.Contains(a[0].Stack, "step_test.go") {
		t.Errorf("failed attempts = %+v, want one with its panic and stack", a)
	}
}

// A best effort that fails is an omission: shown, and no error.
func TestTryIsOmitted(t *testing.T) {
	t.Parallel()
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		p := plate{}
		for i, err := range []error{nil, errBusy, weir.Permanent(errDeclined)} {
			if weir.Try(r, "mail", func(context.Context) error { return err }, quick) {
				p.N += 1 << i
			}
		}
		return p, nil
	})
	completed(t, startRun(t, e, "7"), 1)
	s := storyOf(t, e, "7")
	for name, attempts := range map[string]int{"mail#2": quick.Max, "mail#3": 1} {
		if r := recordOf(t, s, name); r.State != store.StepOmitted || r.Reason == "" || r.Attempt != attempts || r.Kind != store.KindTry {
			t.Errorf("%s is %+v, want it omitted after %d attempts, and why", name, r, attempts)
		}
	}
}

// What a StepTx writes commits with its record, or not at all.
func TestStepTx(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	db := openTable(t, file, effects)
	var keys []string
	e, _ := dining(t, file, func(r *weir.Run, in ticket) (plate, error) {
		n, err := weir.StepTx(r, "book", func(ctx context.Context, tx weir.Tx) (int, error) {
			keys = append(keys, weir.IdempotencyKey(ctx))
			if _, err := sqlite.SQL(tx).ExecContext(ctx, `insert into effects (tab, n) values (?, ?)`, in.Table, len(keys)); err != nil {
				return 0, err
			}
			switch len(keys) {
			case 1:
				return 0, errBusy
			case 2:
				panic("the pen breaks")
			}
			return len(keys), nil
		}, quick)
		if err != nil {
			return plate{}, err
		}
		_, err = weir.StepTx(r, "declined", func(ctx context.Context, tx weir.Tx) (weir.None, error) {
			_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into effects (tab, n) values ('never', 1)`)
			return weir.None{}, errors.Join(err, errDeclined)
		}, weir.FailIf(errDeclined))
		if !errors.Is(err, errDeclined) {
			return plate{}, fmt.Errorf("declined = %w", err)
		}
		return plate{N: n}, nil
	})
	completed(t, startRun(t, e, "7"), 3)
	if got := took(t, db); !slices.Equal(got["7"], []int{3}) || got["never"] != nil {
		t.Errorf("rows = %v, want one, of the third attempt", got)
	}
	if len(keys) != 3 || keys[0] == "" || keys[2] != keys[0] {
		t.Errorf("idempotency keys = %q, want three times the same", keys)
	}
	if a := storyOf(t, e, "7").Attempts; len(a) != 3 || !strings.Contains(a[1].Reason, "the pen breaks") {
		t.Errorf("failed attempts = %+v, want busy, the panic, and declined", a)
	}
}

// A step whose rows the database refuses no sooner than as the transaction commits has failed, and nothing else has.
func TestStepTxFailsAtCommit(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	db := openTable(t, file, effects+debts)
	attempts := 0
	e, _ := dining(t, file, func(r *weir.Run, in ticket) (plate, error) {
		n, err := weir.StepTx(r, "book", func(ctx context.Context, tx weir.Tx) (int, error) {
			attempts++
			_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into effects (tab, n) values (?, ?)`, in.Table, attempts)
			if err == nil && attempts < 3 {
				err = owing(ctx, tx)
			}
			return attempts, err
		}, quick)
		return plate{N: n}, err
	})
	completed(t, startRun(t, e, "7"), 3)
	if got := took(t, db); !slices.Equal(got["7"], []int{3}) {
		t.Errorf("rows = %v, want one, of the third attempt", got)
	}
}

// Headers of the run are its function's to read, those of a step are in its record.
func TestHeadersOfRunAndStep(t *testing.T) {
	t.Parallel()
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		if r.Headers()["tenant"] != "north" {
			return plate{}, fmt.Errorf("headers = %v", r.Headers())
		}
		return plate{N: 1}, weir.Do(r, "cook", func(context.Context) error { return nil }, weir.Headers{"stove": "2"})
	})
	r, err := weir.Start(t.Context(), e, dine, "7", ticket{}, weir.Headers{"tenant": "north"})
	if err != nil {
		t.Fatal(err)
	}
	completed(t, r, 1)
	if got := string(recordOf(t, storyOf(t, e, "7"), "cook").Headers); got != `{"stove":"2"}` {
		t.Errorf("the step's headers = %s", got)
	}
}

// Around wraps steps as it wraps handlers, and is told whose attempt it is.
func TestAroundStep(t *testing.T) {
	t.Parallel()
	var seen atomic.Value
	e := openEngine(t, newFile(t), weir.Config{Around: func(ctx context.Context, w weir.Work, next func(context.Context) error) error {
		seen.Store(w)
		return next(ctx)
	}})
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		return plate{N: 1}, weir.Do(r, "cook", func(context.Context) error { return nil })
	})
	run(t, e)
	<-e.Ready()
	completed(t, startRun(t, e, "7"), 1)
	w, _ := seen.Load().(weir.Work)
	if w.Kind != "step" || w.Queue != dine.Name() || w.Name != "cook" || w.Key != "7" || w.Attempt != 1 {
		t.Errorf("Around was told of %+v", w)
	}
}
