package weir_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
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
	"github.com/weir-go/weir/store/storetest"
	"go.uber.org/goleak"
)

// runs gives Run's outcome in a channel.
func runs(ctx context.Context, e *weir.Engine) <-chan error {
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	return done
}

func TestStopLetsRunningHandlersFinish(t *testing.T) {
	file := newFile(t)
	db := openTable(t, file, effects)
	e := openEngine(t, file, weir.Config{StopTimeout: time.Minute})
	const working = 4
	started, release := make(chan struct{}, working), make(chan struct{})
	weir.Handle(e, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
		started <- struct{}{}
		<-release
		if ctx.Err() != nil {
			t.Errorf("the context is done (%v) although StopTimeout has not passed", context.Cause(ctx))
		}
		effect(m)
		return nil
	}, weir.Queue{Concurrency: working})
	send(t, e, clean, tickets("terrace", working)...)
	ctx, cancel := context.WithCancel(t.Context())
	done := runs(ctx, e)
	for range working {
		receive(t, started)
	}
	cancel()
	select {
	case err := <-done:
		t.Fatalf("Run = %v while handlers run", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	if err := receive(t, done); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	got := took(t, db)["terrace"]
	slices.Sort(got)
	if !slices.Equal(got, upTo(working)) || figures(t, e, clean.Name()).Depth != 0 {
		t.Errorf("took effect %v, want all that ran", got)
	}
}

// meeting is a handler that nobody leaves before n are there at once.
func meeting(n int64) func(context.Context, *weir.Message[ticket]) error {
	var there atomic.Int64
	all := make(chan struct{})
	return func(ctx context.Context, _ *weir.Message[ticket]) error {
		if there.Add(1) == n {
			close(all)
		}
		select {
		case <-all:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestStopHandsBackWhatNobodyTouched(t *testing.T) {
	file := newFile(t)
	first := openEngine(t, file, weir.Config{})
	let := make(chan struct{})
	weir.Handle(first, clean, func(ctx context.Context, _ *weir.Message[ticket]) error {
		select {
		case <-let: // one of them
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, weir.Queue{Concurrency: 1})
	send(t, first, clean, tickets("terrace", 9)...)
	stop := run(t, first)
	let <- struct{}{}
	stop()
	if f := figures(t, first, clean.Name()); f.Depth != 8 || f.Done != 1 {
		t.Errorf("after the stop Depth = %d, Done = %d, want 8 and 1", f.Depth, f.Done)
	}

	second := openEngine(t, file, weir.Config{})
	meet := meeting(8) // suspects would run one at a time, and never meet
	weir.Handle(second, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
		if m.Attempt != 1 {
			t.Errorf("message %d at attempt %d, want 1: it was never tried", m.Body.N, m.Attempt)
		}
		return meet(ctx, m)
	})
	run(t, second)
	emptied(t, second, clean.Name())
}

func TestStopCancelsAfterItsTimeoutAndCountsNoAttempt(t *testing.T) {
	file := newFile(t)
	first := openEngine(t, file, weir.Config{})
	started, causes := make(chan struct{}, 2), make(chan error, 2)
	handle := func(ctx context.Context, _ *weir.Message[ticket]) error {
		started <- struct{}{}
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return ctx.Err()
	}
	weir.Handle(first, clean, handle, weir.Queue{Retry: weir.Retry{Max: 1}})
	weir.Handle(first, prepare, handle, weir.Queue{Retry: weir.Retry{Max: 1}}) // with a key
	send(t, first, clean, ticket{"terrace", 1})
	send(t, first, prepare, ticket{"terrace", 1})
	stop := run(t, first)
	receive(t, started)
	receive(t, started)
	stop()
	for range 2 {
		if cause := receive(t, causes); !errors.Is(cause, weir.ErrStopping) {
			t.Errorf("the context's cause is %v, want ErrStopping", cause)
		}
	}
	second := openEngine(t, file, weir.Config{})
	got := make(chan *weir.Message[ticket], 2)
	weir.Handle(second, clean, into(got), weir.Queue{Retry: weir.Retry{Max: 1}})
	weir.Handle(second, prepare, into(got), weir.Queue{Retry: weir.Retry{Max: 1}})
	run(t, second)
	for range 2 {
		if m := receive(t, got); m.Attempt != 1 {
			t.Errorf("%s at attempt %d after the stop, want 1", m.Name, m.Attempt)
		}
	}
}

func TestEngineRunsOnce(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	got := make(chan *weir.Message[ticket], 1)
	weir.Handle(e, clean, into(got))
	send(t, e, clean, ticket{N: 1})
	stop := run(t, e)
	receive(t, got)
	for range 2 {
		if err := e.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "runs once") {
			t.Errorf("Run again = %v, want an error", err)
		}
		stop() // and after it has ended
	}
}

func TestOneEngineWorksAFile(t *testing.T) {
	file := newFile(t)
	first, second := openEngine(t, file, weir.Config{}), openEngine(t, file, weir.Config{})
	got := make(chan *weir.Message[ticket], 2)
	weir.Handle(first, clean, into(got))
	weir.Handle(second, clean, func(context.Context, *weir.Message[ticket]) error {
		t.Error("the second engine works")
		return nil
	})
	send(t, first, clean, ticket{N: 1})
	stop := run(t, first)
	receive(t, got)
	err := second.Run(t.Context())
	held, ok := errors.AsType[*weir.HeldError](err)
	if !ok || held.PID != os.Getpid() || held.Store != file || held.Since.IsZero() {
		t.Errorf("Run of a second engine = %v, want a *HeldError that names this process", err)
	}
	send(t, second, clean, ticket{N: 2}) // sending goes on
	receive(t, got)
	stop()
	third := openEngine(t, file, weir.Config{})
	weir.Handle(third, clean, into(got))
	run(t, third)
	send(t, third, clean, ticket{N: 3})
	receive(t, got)
}

func TestCloseStopsRun(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	got := make(chan *weir.Message[ticket], 1)
	weir.Handle(e, clean, into(got))
	send(t, e, clean, ticket{N: 1})
	done := runs(t.Context(), e)
	receive(t, got)
	if err := e.Close(); err != nil {
		t.Errorf("Close = %v, want nil", err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Run = %v after Close, want nil", err)
		}
	case <-time.After(patience):
		t.Error("Close has returned and Run has not")
	}
}

func TestNoGoroutineIsLeftAfterRun(t *testing.T) {
	before := goleak.IgnoreCurrent()
	e := openEngine(t, newFile(t), weir.Config{})
	weir.Handle(e, clean, func(_ context.Context, m *weir.Message[ticket]) error {
		if m.Body.N%2 == 0 {
			return errors.New("no")
		}
		return nil
	}, weir.Queue{Retry: quick})
	weir.Subscribe(e, ready, "staff.bring", func(context.Context, *weir.Message[plate]) error { return nil })
	send(t, e, clean, tickets("terrace", 20)...)
	stop := run(t, e)
	deadLetters(t, e, clean.Name(), 10)
	stop()
	goleak.VerifyNone(t, before)
}

func TestRegistrationAfterRunIsSaidAndWithoutEffect(t *testing.T) {
	said := make(logged, 100)
	e := openEngine(t, newFile(t), weir.Config{Log: slog.New(said)})
	got := make(chan *weir.Message[ticket], 1)
	weir.Handle(e, clean, into(got))
	run(t, e)
	send(t, e, clean, ticket{N: 1})
	receive(t, got)
	weir.Handle(e, prepare, into(got))
	said.wait(t, slog.LevelError, "registered too late")
}

// logged is a log handler that puts records in a channel, as long as there is room.
type logged chan slog.Record

func (logged) Enabled(context.Context, slog.Level) bool { return true }
func (l logged) WithAttrs([]slog.Attr) slog.Handler     { return l }
func (l logged) WithGroup(string) slog.Handler          { return l }
func (l logged) Handle(_ context.Context, r slog.Record) error {
	select {
	case l <- r:
	default:
	}
	return nil
}

// wait waits for a record of a level whose message contains text.
func (l logged) wait(t testing.TB, level slog.Level, text string) {
	t.Helper()
	for {
		if r := receive(t, l); r.Level == level && strings.Contains(r.Message, text) {
			return
		}
	}
}

// A process that ends without handing back leaves suspects: whichever killed it runs alone now.
func TestAbandonedWorkRunsAloneAndOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		db := openTable(t, file, effects)
		first := openStore(t, abandon(file), weir.Config{})
		const messages = 12
		atWork := make(chan struct{}, messages)
		weir.Handle(first, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
			if m.Body.N <= 4 {
				effect(m)
				return nil
			}
			atWork <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}, weir.Queue{Concurrency: 4})
		send(t, first, clean, tickets("terrace", messages)...)
		stop := run(t, first)
		for range 4 {
			receive(t, atWork)
		}
		eventually(t, "what was done is committed", func() bool { return len(took(t, db)["terrace"]) == 4 })
		eventually(t, "all others are claimed", func() bool { return figures(t, first, clean.Name()).Leased == messages-4 }) // else they would be no suspects
		stop()
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}

		second := openEngine(t, file, weir.Config{Log: slog.New(slog.DiscardHandler)})
		var mu sync.Mutex
		weir.Handle(second, clean, func(_ context.Context, m *weir.Message[ticket]) error {
			if !mu.TryLock() {
				t.Error("two suspects at once")
			} else {
				defer mu.Unlock()
			}
			if m.Attempt != 1 {
				t.Errorf("message %d at attempt %d, want 1: the process ended, the message did not fail", m.Body.N, m.Attempt)
			}
			effect(m)
			return nil
		}, weir.Queue{Concurrency: 4})
		run(t, second)
		emptied(t, second, clean.Name())
		got := took(t, db)["terrace"]
		slices.Sort(got)
		if !slices.Equal(got, upTo(messages)) {
			t.Errorf("took effect %v, want 1 to %d once each", got, messages)
		}
	})
}

func TestMessageThatEndsItsProcessIsQuarantined(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		db := openTable(t, file, effects)
		// crash works the file until the poison runs, then ends without handing back.
		crash := func() {
			e := openStore(t, abandon(file), weir.Config{Log: slog.New(slog.DiscardHandler)})
			poisoned := make(chan struct{}, 1)
			weir.Handle(e, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
				if m.Body.N != 3 {
					effect(m)
					return nil
				}
				poisoned <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			})
			stop := run(t, e)
			receive(t, poisoned)
			stop()
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		}
		sender := openEngine(t, file, weir.Config{})
		send(t, sender, clean, tickets("terrace", 5)...)
		for range 1 + store.CrashLimit { // the first crash had company
			crash()
		}
		e := openEngine(t, file, weir.Config{Log: slog.New(slog.DiscardHandler)})
		weir.Handle(e, clean, func(_ context.Context, m *weir.Message[ticket]) error {
			if m.Body.N == 3 {
				t.Error("the poison runs again")
			}
			effect(m)
			return nil
		})
		run(t, e)
		dead := deadLetters(t, e, clean.Name(), 1)[0]
		if !dead.Quarantined || !strings.Contains(dead.Reason, "the process ended 3 times") {
			t.Errorf("dead for %q, quarantined: %t, want quarantined after 3 crashes", dead.Reason, dead.Quarantined)
		}
		emptied(t, e, clean.Name())
		got := took(t, db)["terrace"]
		slices.Sort(got)
		if !slices.Equal(got, []int{1, 2, 4, 5}) {
			t.Errorf("took effect %v, want [1 2 4 5] once each", got)
		}
	})
}

// A process that was only thought dead: its lock is gone, another has taken over,
// and what it still does is refused.
func TestOvertakenEngineIsFenced(t *testing.T) {
	file := newFile(t)
	db := openTable(t, file, effects)
	quiet := weir.Config{Log: slog.New(slog.DiscardHandler)}
	first := openEngine(t, file, quiet)
	started, release := make(chan struct{}, 1), make(chan struct{})
	weir.Handle(first, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
		started <- struct{}{}
		<-release
		effect(m)
		return weir.Publish(ctx, m, ready, plate(m.Body))
	})
	send(t, first, clean, ticket{"terrace", 1})
	done := runs(t.Context(), first)
	receive(t, started)
	if err := os.Remove(file + ".lock"); err != nil {
		t.Fatal(err)
	}
	second := openEngine(t, file, quiet)
	weir.Handle(second, clean, func(_ context.Context, m *weir.Message[ticket]) error {
		effect(m)
		return nil
	})
	run(t, second)
	emptied(t, second, clean.Name())
	close(release)
	if err := receive(t, done); !errors.Is(err, weir.ErrLeaseLost) {
		t.Errorf("Run of the engine that was overtaken = %v, want ErrLeaseLost", err)
	}
	if got := took(t, db)["terrace"]; !slices.Equal(got, []int{1}) {
		t.Errorf("took effect %v, want [1]", got)
	}
	if list, err := second.Messages(t.Context(), weir.MessageQuery{Topic: ready.Name()}); err != nil || len(list) != 0 {
		t.Errorf("the engine that was overtaken has sent %d events (%v), want none", len(list), err)
	}
}

var errDisk = errors.New("disk I/O error")

// breakable opens a file as a store whose commits fail while it is broken.
func breakable(file string, broken *atomic.Bool) store.Opener {
	faults := storetest.Faults{Before: func(c storetest.Call) error {
		if c.Method == storetest.Commit && broken.Load() {
			return errDisk
		}
		return nil
	}}
	return faults.Opener(sqlite.File(file))
}

func TestEngineStopsOnAFailingStore(t *testing.T) {
	file := newFile(t)
	var broken atomic.Bool
	quiet := weir.Config{Log: slog.New(slog.DiscardHandler)}
	e := openStore(t, breakable(file, &broken), quiet)
	causes := make(chan error, 1)
	weir.Handle(e, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
		if m.Body.N == 2 {
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return ctx.Err()
		}
		broken.Store(true)
		return nil
	})
	send(t, e, clean, ticket{"terrace", 2}, ticket{"terrace", 1})
	if err := receive(t, runs(t.Context(), e)); !errors.Is(err, errDisk) {
		t.Errorf("Run on a failing store = %v, want its error", err)
	}
	if cause := receive(t, causes); !errors.Is(cause, errDisk) {
		t.Errorf("the cause of the handler beside it is %v, want the store's error", cause)
	}
	broken.Store(false)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	next := openEngine(t, file, quiet)
	got := make(chan *weir.Message[ticket], 2)
	weir.Handle(next, clean, into(got))
	run(t, next)
	for range 2 {
		if m := receive(t, got); m.Attempt != 1 {
			t.Errorf("message %d at attempt %d on the mended store, want 1", m.Body.N, m.Attempt)
		}
	}
}

func TestProcessStopsWhenAllWorkersOfAQueueAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := make(logged, 100)
		e := openEngine(t, newFile(t), weir.Config{Log: slog.New(said)})
		wake := make(chan struct{})
		weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error {
			<-wake
			return nil
		}, weir.Queue{Concurrency: 1, Timeout: time.Millisecond})
		send(t, e, clean, ticket{N: 1})
		done := runs(t.Context(), e)
		said.wait(t, slog.LevelError, "weir stops")
		close(wake) // else Run would wait for another grace
		if err := receive(t, done); err == nil || !strings.Contains(err.Error(), "as many as it has workers") {
			t.Errorf("Run = %v, want it to say that all workers are lost", err)
		}
	})
}

func TestStopSaysWhichHandlersIgnoreIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, newFile(t), weir.Config{Log: slog.New(slog.DiscardHandler)})
		started, wake, home := make(chan struct{}), make(chan struct{}), make(chan struct{})
		weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error {
			defer close(home)
			close(started)
			<-wake
			return nil
		})
		send(t, e, clean, ticket{N: 1})
		ctx, cancel := context.WithCancel(t.Context())
		done := runs(ctx, e)
		receive(t, started)
		cancel()
		if err := receive(t, done); err == nil || !strings.Contains(err.Error(), "ignore their context") {
			t.Errorf("Run = %v, want it to say that handlers ignore their context", err)
		}
		close(wake)
		receive(t, home)
	})
}
