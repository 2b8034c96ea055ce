package weir_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
)

// What takes minutes and days, in a bubble where they pass by themselves.

func TestRetryBacksOffWithJitterUpToItsCap(t *testing.T) {
	const attempts = 24 // so many that luck does not put all pauses into one half
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, newFile(t), weir.Config{})
		var begun []time.Time
		weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error {
			begun = append(begun, time.Now())
			return errors.New("no")
		}, weir.Queue{Retry: weir.Retry{Max: attempts, Cap: 8 * time.Second}})
		send(t, e, clean, ticket{N: 1})
		stop := run(t, e)
		time.Sleep((1 + 2 + 4 + (attempts-4)*8) * time.Second) // the sum of the longest
		time.Sleep((attempts - 1) * time.Second)               // and of what the polls take
		stop()
		if len(begun) != attempts {
			t.Fatalf("%d attempts, want %d", len(begun), attempts)
		}
		var pauses []time.Duration
		short := 0
		for i := 1; i < len(begun); i++ {
			pause := begun[i].Sub(begun[i-1])
			pauses = append(pauses, pause)
			most := min(time.Second<<min(i-1, 3), 8*time.Second)
			if pause <= 0 || pause > most+time.Second {
				t.Errorf("pause %d is %v, want at most %v, and up to a second for the poll", i, pause, most)
			}
			if pause < most/2 {
				short++
			}
		}
		if short == 0 || short == len(pauses) {
			t.Errorf("%d of the pauses %v are in their lower half, want jitter over all of it", short, pauses)
		}
		if dead := deadLetters(t, e, clean.Name(), 1)[0]; dead.Attempts != attempts {
			t.Errorf("dead after %d attempts, want %d", dead.Attempts, attempts)
		}
	})
}

func TestDefaultTimeoutIsAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, newFile(t), weir.Config{})
		var took time.Duration
		weir.Handle(e, clean, func(ctx context.Context, _ *weir.Message[ticket]) error {
			start := time.Now()
			<-ctx.Done()
			took = time.Since(start)
			return weir.Permanent(context.Cause(ctx))
		})
		send(t, e, clean, ticket{N: 1})
		stop := run(t, e)
		time.Sleep(62 * time.Second)
		stop()
		if dead := deadLetters(t, e, clean.Name(), 1)[0]; took != time.Minute || dead.Reason != weir.ErrTimeout.Error() {
			t.Errorf("cancelled after %v for %q, want after 1m for the timeout", took, dead.Reason)
		}
	})
}

func TestCauseIsTheTimeoutHoweverLateItIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, newFile(t), weir.Config{})
		causes := make(chan error, 1)
		weir.Handle(e, clean, func(ctx context.Context, _ *weir.Message[ticket]) error {
			<-time.After(2 * time.Second) // without a look at ctx
			causes <- context.Cause(ctx)
			return nil
		}, weir.Queue{Timeout: time.Second})
		send(t, e, clean, ticket{N: 1})
		run(t, e)
		if cause := receive(t, causes); !errors.Is(cause, weir.ErrTimeout) {
			t.Errorf("Cause = %v, want ErrTimeout", cause)
		}
	})
}

// Of a queue's two workers one is lost at a time: as long as they come back late the process goes on.
func TestLateHandlersAreNotCountedAsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, newFile(t), weir.Config{Log: slog.New(slog.DiscardHandler)})
		weir.Handle(e, clean, func(_ context.Context, m *weir.Message[ticket]) error {
			if m.Attempt == 1 {
				<-time.After(10 * time.Second)
				if m.Body.N%2 == 0 {
					runtime.Goexit()
				}
			}
			return nil
		}, weir.Queue{Concurrency: 2, Timeout: time.Second, Retry: quick})
		run(t, e)
		for n := range 4 {
			send(t, e, clean, ticket{N: n})
			time.Sleep(20 * time.Second)
		}
		if f := figures(t, e, clean.Name()); f.Done != 4 {
			t.Errorf("%d done, want all 4: the process goes on", f.Done)
		}
	})
}

func TestRunningHandlersHaveStopTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, newFile(t), weir.Config{StopTimeout: 10 * time.Second})
		took := make(chan time.Duration, 1)
		var stopped time.Time
		weir.Handle(e, clean, func(ctx context.Context, _ *weir.Message[ticket]) error {
			<-ctx.Done()
			took <- time.Since(stopped)
			return ctx.Err()
		})
		send(t, e, clean, ticket{N: 1})
		stop := run(t, e)
		time.Sleep(time.Second)
		stopped = time.Now()
		stop()
		if got := receive(t, took); got != 10*time.Second {
			t.Errorf("cancelled %v after the stop, want StopTimeout: 10s", got)
		}
	})
}

func TestNothingBeginsAfterAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, newFile(t), weir.Config{StopTimeout: time.Minute})
		var begun atomic.Int64
		release := make(chan struct{})
		handle := func(context.Context, *weir.Message[ticket]) error {
			begun.Add(1)
			<-release
			return nil
		}
		weir.Handle(e, clean, handle, weir.Queue{Concurrency: 2})
		weir.Handle(e, prepare, handle, weir.Queue{Concurrency: 2})
		send(t, e, clean, tickets("terrace", 9)...)
		send(t, e, prepare, tickets("terrace", 9)...) // one key: one at a time
		ctx, cancel := context.WithCancel(t.Context())
		done := runs(ctx, e)
		time.Sleep(time.Second)
		cancel()
		synctest.Wait()
		close(release)
		if err := receive(t, done); err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		if n := begun.Load(); n != 3 {
			t.Errorf("%d have begun, want the 3 from before the stop", n)
		}
		for queue, want := range map[string]int64{clean.Name(): 7, prepare.Name(): 8} {
			if f := figures(t, e, queue); f.Depth != want {
				t.Errorf("%s: Depth = %d, want %d", queue, f.Depth, want)
			}
		}
	})
}

func TestIdleEngineNoticesThatItWasOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		quiet := weir.Config{Log: slog.New(slog.DiscardHandler)}
		first, second := openEngine(t, file, quiet), openEngine(t, file, quiet)
		done := runs(t.Context(), first)
		time.Sleep(time.Second)
		if err := os.Remove(file + ".lock"); err != nil {
			t.Fatal(err)
		}
		run(t, second)
		start := time.Now()
		if err := receive(t, done); !errors.Is(err, weir.ErrLeaseLost) {
			t.Errorf("Run of the engine that was overtaken = %v, want ErrLeaseLost", err)
		}
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("noticed after %v, want at the next heartbeat", took)
		}
	})
}

func TestDelayIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, newFile(t), weir.Config{})
		at := make(chan time.Time, 1)
		weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error {
			at <- time.Now()
			return nil
		})
		stop := run(t, e)
		due := time.Now().Add(time.Minute)
		if err := weir.Send(t.Context(), e, clean, ticket{}, weir.Delay(time.Minute)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute + 2*time.Second)
		stop()
		if late := receive(t, at).Sub(due); late < 0 || late > time.Second {
			t.Errorf("came %v after it was due, want 0 to a second", late)
		}
	})
}

func TestDedupForgetsAfterSevenDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, newFile(t), weir.Config{})
		order := func(n int) error { return weir.Send(t.Context(), e, clean, ticket{N: n}, weir.Dedup("order-1")) }
		if err := order(1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(7*24*time.Hour - time.Second)
		if err := order(2); err == nil {
			t.Error("the key with another body before seven days = nil, want a *DuplicateError")
		}
		time.Sleep(2 * time.Second)
		if err := order(2); err != nil {
			t.Errorf("the key after seven days = %v, want nil", err)
		}
	})
}

func TestKeepDeletesWhatIsDoneAndKeepsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, newFile(t), weir.Config{Keep: time.Minute})
		weir.Handle(e, clean, func(_ context.Context, m *weir.Message[ticket]) error {
			switch m.Body.N {
			case 1:
				return weir.Permanent(errors.New("no"))
			case 2:
				return weir.NotYet("later", time.Hour)
			}
			return nil
		})
		send(t, e, clean, tickets("terrace", 50)...)
		send(t, e, prepare, ticket{"terrace", 1}) // nobody works it
		run(t, e)
		time.Sleep(3 * time.Minute)
		count := func(topic string) int {
			list, err := e.Messages(t.Context(), weir.MessageQuery{Topic: topic, Max: 100})
			if err != nil {
				t.Fatal(err)
			}
			return len(list)
		}
		if n := count(clean.Name()); n > 2 {
			t.Errorf("%d messages after three times Keep, want at most the dead and the postponed one", n)
		}
		if n := count(prepare.Name()); n != 1 {
			t.Errorf("%d messages that wait, want 1: it is kept however old", n)
		}
		dead := deadLetters(t, e, clean.Name(), 1)[0]
		if string(dead.Message.Body) != `{"Table":"terrace","N":1}` {
			t.Errorf("the dead letter's body is %q, want it kept", dead.Message.Body)
		}
		if f := figures(t, e, clean.Name()); f.Depth != 1 || f.Deferred != 1 {
			t.Errorf("Depth = %d, Deferred = %d, want the postponed one", f.Depth, f.Deferred)
		}
		if findings, err := e.Check(t.Context()); err != nil || len(findings) != 1 { // the dead letter
			t.Errorf("Check = %+v, %v, want the dead letter only", findings, err)
		}
	})
}

// One suspect that takes long must not hold up all others for ever.
func TestSlowSuspectLetsTheNextBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		quiet := weir.Config{Log: slog.New(slog.DiscardHandler)}
		first := openStore(t, abandon(file), quiet)
		weir.Handle(first, clean, func(ctx context.Context, _ *weir.Message[ticket]) error {
			<-ctx.Done()
			return ctx.Err()
		})
		send(t, first, clean, tickets("terrace", 3)...)
		stop := run(t, first)
		time.Sleep(time.Second)
		stop()
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		second := openEngine(t, file, quiet)
		var mu sync.Mutex
		var begun []time.Duration
		start := time.Now()
		weir.Handle(second, clean, func(ctx context.Context, _ *weir.Message[ticket]) error {
			mu.Lock()
			begun = append(begun, time.Since(start).Round(time.Second))
			mu.Unlock()
			<-time.After(30 * time.Second)
			return nil
		})
		run(t, second)
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(begun) != 3 || begun[0] != 0 || begun[1] != 5*time.Second || begun[2] != 10*time.Second {
			t.Errorf("suspects began after %v, want 0s, 5s and 10s", begun)
		}
	})
}

// A failing store is not handed back to: whoever opens it next shall be careful.
// And what is not acknowledged holds back its key to the end.
func TestAfterAFailureTheNextIsCareful(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		quiet := weir.Config{Log: slog.New(slog.DiscardHandler)}
		var broken atomic.Bool
		first := openStore(t, breakable(file, &broken), quiet)
		begun, beside := 0, make(chan struct{}, 3)
		weir.Handle(first, clean, func(ctx context.Context, _ *weir.Message[ticket]) error {
			beside <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		})
		weir.Handle(first, prepare, func(context.Context, *weir.Message[ticket]) error {
			begun++
			for range 3 {
				receive(t, beside)
			}
			broken.Store(true)
			return nil
		})
		send(t, first, clean, tickets("terrace", 3)...)
		send(t, first, prepare, tickets("terrace", 3)...)
		if err := receive(t, runs(t.Context(), first)); !errors.Is(err, errDisk) || begun != 1 {
			t.Errorf("Run on a failing store = %v after %d of one key have begun, want its error after 1", err, begun)
		}
		broken.Store(false)
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		second := openEngine(t, file, quiet)
		var atOnce, most, handled atomic.Int64
		handle := func(context.Context, *weir.Message[ticket]) error {
			handled.Add(1)
			most.Store(max(most.Load(), atOnce.Add(1)))
			defer atOnce.Add(-1)
			<-time.After(time.Second)
			return nil
		}
		weir.Handle(second, clean, handle)
		weir.Handle(second, prepare, handle)
		run(t, second)
		emptied(t, second, clean.Name())
		emptied(t, second, prepare.Name())
		if most.Load() != 1 || handled.Load() != 6 {
			t.Errorf("%d handled, %d at once, want all 6, as suspects: one at a time", handled.Load(), most.Load())
		}
	})
}

// In a bubble nothing takes time but waiting. What must happen at once may not
// wait for a poll, which comes every second.
const soon = 100 * time.Millisecond

func TestWhatIsSentIsWorkedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		db := openTable(t, file, effects)
		e, other := openEngine(t, file, weir.Config{}), openEngine(t, file, weir.Config{})
		got := make(chan *weir.Message[ticket], 6000)
		weir.Handle(e, clean, into(got), weir.Queue{Concurrency: 2})
		weir.Handle(e, prepare, func(ctx context.Context, m *weir.Message[ticket]) error {
			return weir.SendAll(ctx, m, clean, tickets("", 3000))
		})
		run(t, e)
		for what, sends := range map[string]func() (int, error){
			"one": func() (int, error) { return 1, weir.Send(t.Context(), e, clean, ticket{}) },
			"many in one commit": func() (int, error) {
				return 6000, weir.SendAll(t.Context(), e, clean, tickets("", 6000))
			},
			"many from a handler": func() (int, error) { return 3000, weir.Send(t.Context(), e, prepare, ticket{}) },
			"by another process":  func() (int, error) { return 5, weir.SendAll(t.Context(), other, clean, tickets("", 5)) },
			"with another's rows": func() (int, error) { return 2, sendIn(t, db, e, 2) },
			"due in a moment": func() (int, error) {
				return 1, weir.Send(t.Context(), e, clean, ticket{}, weir.Delay(20*time.Millisecond))
			},
			"due, by another": func() (int, error) {
				return 1, weir.Send(t.Context(), other, clean, ticket{}, weir.Delay(20*time.Millisecond))
			},
			"due, one by one":      func() (int, error) { return 30, sendDelayed(t, e, 30) },
			"none, for comparison": func() (int, error) { return 0, nil },
		} {
			time.Sleep(time.Second + 333*time.Millisecond) // away from the poll
			start := time.Now()
			n, err := sends()
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			for range n {
				receive(t, got)
			}
			if took := time.Since(start); took > soon {
				t.Errorf("%s: %d messages took %v, want at once", what, n, took)
			}
		}
	})
}

// sendIn sends n messages in a transaction of the caller's own.
func sendIn(t *testing.T, db *sql.DB, e *weir.Engine, n int) error {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		return err
	}
	return errors.Join(weir.SendAll(t.Context(), e.In(sqlite.Tx(tx)), clean, tickets("", n)), tx.Commit())
}

// sendDelayed sends n messages due one after another, the last first.
func sendDelayed(t *testing.T, e *weir.Engine, n int) error {
	t.Helper()
	for i := range n {
		if err := weir.Send(t.Context(), e, clean, ticket{}, weir.Delay(time.Duration(n-i)*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

func TestRetriesAndTheirFollowersDoNotWaitForThePoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, newFile(t), weir.Config{})
		got := make(chan *weir.Message[ticket], 400)
		handle := func(ctx context.Context, m *weir.Message[ticket]) error {
			if m.Body.N%50 == 1 && m.Attempt < 3 {
				return errors.New("not so fast")
			}
			return into(got)(ctx, m)
		}
		weir.Handle(e, prepare, handle, weir.Queue{Retry: quick})
		weir.Handle(e, clean, handle, weir.Queue{Retry: quick})
		run(t, e)
		time.Sleep(time.Second + 333*time.Millisecond)
		for _, command := range []weir.Command[ticket, weir.None]{prepare, clean} { // with a key and without
			start := time.Now()
			if err := weir.SendAll(t.Context(), e, command, tickets("terrace", 350)); err != nil {
				t.Fatal(err)
			}
			for range 350 {
				receive(t, got)
			}
			if took := time.Since(start); took > soon {
				t.Errorf("%s: 7 messages that failed twice and their 343 followers took %v, want some milliseconds", command.Name(), took)
			}
		}
	})
}

func TestWhatAPersonDoesIsSeenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		e, other := openEngine(t, file, weir.Config{}), openEngine(t, file, weir.Config{})
		var isMended atomic.Bool
		got := make(chan *weir.Message[ticket], 10)
		weir.Handle(e, prepare, func(ctx context.Context, m *weir.Message[ticket]) error {
			if !isMended.Load() {
				return weir.Permanent(errors.New("no"))
			}
			return into(got)(ctx, m)
		})
		run(t, e)
		for name, operator := range map[string]*weir.Engine{"this engine": e, "another": other} {
			isMended.Store(false)
			send(t, e, prepare, tickets("terrace", 3)...) // the first dies, the others wait for it
			time.Sleep(time.Second + 333*time.Millisecond)
			isMended.Store(true)
			start := time.Now()
			if _, err := operator.RetryDead(t.Context(), weir.DeadSelection{Queue: prepare.Name()}, mended); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				receive(t, got)
			}
			if took := time.Since(start); took > soon {
				t.Errorf("retried through %s, delivered after %v, want at once", name, took)
			}
			if err := operator.PauseQueue(t.Context(), prepare.Name(), mended); err != nil {
				t.Fatal(err)
			}
			send(t, e, prepare, ticket{"terrace", 9})
			time.Sleep(time.Second + 333*time.Millisecond)
			start = time.Now()
			if err := operator.ResumeQueue(t.Context(), prepare.Name(), mended); err != nil {
				t.Fatal(err)
			}
			receive(t, got)
			if took := time.Since(start); took > 600*time.Millisecond || operator == e && took > soon {
				t.Errorf("resumed through %s, delivered after %v, want at once, or half a second by another", name, took)
			}
		}
	})
}
