package weir_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/weirtest"
)

// publish publishes that food is ready for a table.
func publish(t testing.TB, e *weir.Engine, table string, n int) {
	t.Helper()
	if err := weir.Publish(context.Background(), e, ready, plate{table, n}, weir.Key(table)); err != nil {
		t.Fatalf("Publish = %v", err)
	}
}

// Sleep waits for days, in the store; r.Now tells them, the same in a replay.
func TestSleep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var nows []string
		e := weirtest.New(t, weir.Config{Owns: []string{"staff"}}, func(e *weir.Engine) {
			weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
				nows = append(nows, r.Now().String())
				weir.Sleep(r, "marinate", 72*time.Hour)
				nows = append(nows, r.Now().String())
				weir.Sleep(r, "rest", 24*time.Hour)
				return plate{N: int(r.Now().Sub(r.Now().Add(-96 * time.Hour)).Hours())}, nil
			})
		})
		started := time.Now()
		completedLate(t, startRun(t, e.Engine, "7"), 96)
		if took := time.Since(started); took < 96*time.Hour || took > 97*time.Hour {
			t.Errorf("it took %s, want 96 h", took)
		}
		// Begun; replayed after the first sleep; replayed after the second.
		if len(nows) != 5 || nows[0] != nows[1] || nows[1] != nows[3] || nows[2] != nows[4] || nows[1] == nows[2] {
			t.Errorf("r.Now in three executions = %q, want the same at the same place", nows)
		}
	})
}

// Each WaitFor takes one occurrence, the oldest since the run's start, also if it came
// before the wait; what came before the run is not for it.
func TestWaitForLooksBack(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		err := weir.Do(r, "first", func(context.Context) error {
			close(begun)
			<-goOn
			return nil
		})
		sum := 0
		for range 4 {
			p, failed := weir.WaitFor(r, "food", ready.For("7"))
			err = errors.Join(err, failed)
			sum = sum*10 + p.N
		}
		return plate{N: sum}, err
	})
	publish(t, e, "7", 9) // too early
	ref := startRun(t, e, "7")
	<-begun
	publish(t, e, "8", 8) // of another key
	publish(t, e, "7", 1)
	publish(t, e, "7", 2)
	close(goOn)
	s := inState(t, e, "7", weir.RunWaiting)
	if !strings.Contains(s.Reason, `kitchen.food-ready with key "7"`) {
		t.Errorf("it waits because of %q, want what it waits for", s.Reason)
	}
	publish(t, e, "7", 3)
	publish(t, e, "7", 4)
	completed(t, ref, 1234)
}

// A signal is kept for a run that has not ended, however long it does not ask for it, and no longer.
func TestSignalOutlivesKeep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := weirtest.New(t, weir.Config{Owns: []string{"staff"}, Keep: 7 * 24 * time.Hour}, func(e *weir.Engine) {
			weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
				weir.Sleep(r, "marinate", 20*24*time.Hour)
				first, err := weir.WaitFor(r, "approval", approved, weir.Within(time.Hour))
				second, failed := weir.WaitFor(r, "approval", approved, weir.Within(time.Hour))
				return plate{N: 10*first.N + second.N}, errors.Join(err, failed)
			})
		})
		ref := startRun(t, e.Engine, "7")
		time.Sleep(24 * time.Hour)
		tell(t, e.Engine, "7", 1)
		tell(t, e.Engine, "8", 3) // which does not exist
		tell(t, e.Engine, "7", 2)
		time.Sleep(15 * 24 * time.Hour)
		if got := toldOf(t, e.Engine); got != "7 7" {
			t.Errorf("signals are kept for runs %q after twice Keep, want both of 7", got)
		}
		completedLate(t, ref, 12)
		time.Sleep(15 * 24 * time.Hour)
		if got := toldOf(t, e.Engine); got != "" {
			t.Errorf("signals are kept for runs %q after their run, want none", got)
		}
	})
}

// An event that came longer than Keep before the wait is gone: the run waits for the next.
func TestEventDoesNotOutliveKeep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := weirtest.New(t, weir.Config{Owns: []string{"staff", "kitchen"}, Keep: 7 * 24 * time.Hour}, func(e *weir.Engine) {
			weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
				weir.Sleep(r, "marinate", 20*24*time.Hour)
				return weir.WaitFor(r, "food", ready.For("7"))
			})
		})
		ref := startRun(t, e.Engine, "7")
		time.Sleep(24 * time.Hour)
		publish(t, e.Engine, "7", 1)
		time.Sleep(15 * 24 * time.Hour)
		publish(t, e.Engine, "7", 2)
		completedLate(t, ref, 2)
		if note := recordOf(t, storyOf(t, e.Engine, "7"), ":look-back").Reason; !strings.Contains(note, "kitchen.food-ready") || !strings.Contains(note, "Config.Keep is 168h0m0s") {
			t.Errorf("the run's history says %q, want that older events may be deleted", note)
		}
	})
}

// toldOf are the runs that the signals which are kept were told to.
func toldOf(t *testing.T, e *weir.Engine) string {
	t.Helper()
	list, err := e.Messages(t.Context(), weir.MessageQuery{Topic: approved.Name(), Max: 100})
	if err != nil {
		t.Fatal(err)
	}
	var runs []string
	for _, m := range list {
		runs = append(runs, m.Key)
	}
	return strings.Join(runs, " ")
}

// Two branches that wait for the same event get an occurrence each.
func TestBranchesShareOccurrences(t *testing.T) {
	t.Parallel()
	for _, early := range []bool{true, false} {
		t.Run(fmt.Sprintf("early %t", early), func(t *testing.T) {
			t.Parallel()
			goOn := make(chan struct{})
			e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
				err := weir.Do(r, "first", func(context.Context) error { <-goOn; return nil })
				var got [3]plate
				branches := make([]weir.Branch, len(got))
				for i := range got {
					branches[i] = weir.Branch{Name: fmt.Sprint("waiter-", i), Do: func(r *weir.Run) (err error) {
						got[i], err = weir.WaitFor(r, "food", ready.For("7"))
						return err
					}}
				}
				err = errors.Join(err, weir.All(r, "hall", branches...))
				return plate{N: got[0].N + got[1].N + got[2].N}, err
			})
			ref := startRun(t, e, "7")
			if !early {
				close(goOn)
				inState(t, e, "7", weir.RunWaiting)
			}
			for _, n := range []int{1, 10, 100, 1000} {
				publish(t, e, "7", n)
			}
			if early {
				close(goOn)
			}
			completed(t, ref, 111)
		})
	}
}

// Nothing is lost between the look and the wait: 1,000 runs wait while what they wait for is sent.
func TestNothingIsLostBetweenLookAndWait(t *testing.T) {
	t.Parallel()
	const runs = 1000
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		n := 0
		for range 2 {
			p, err := weir.WaitFor(r, "food", ready.For(r.ID()))
			if err != nil {
				return p, err
			}
			n += p.N
		}
		p, err := weir.WaitFor(r, "approval", approved)
		return plate{N: n + p.N}, err
	})
	var work sync.WaitGroup
	for i := range 50 {
		work.Go(func() {
			for n := i; n < runs; n += 50 {
				id := fmt.Sprint(n)
				startRun(t, e, id)
				publish(t, e, id, 1)
				publish(t, e, id, 10)
				tell(t, e, id, 100)
			}
		})
	}
	work.Wait()
	for n := range runs {
		completed(t, weir.Find(e, dine, fmt.Sprint(n)), 111)
	}
}

// A wait past its Within fails, and takes nothing: what comes late is the next one's.
func TestWaitForWithin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := weirtest.New(t, weir.Config{Owns: []string{"staff", "kitchen"}}, func(e *weir.Engine) {
			weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
				if _, err := weir.WaitFor(r, "food", ready.For("7"), weir.Within(time.Hour)); !errors.Is(err, weir.ErrWithin) {
					return plate{}, fmt.Errorf("food = %w, want ErrWithin", err)
				}
				return weir.WaitFor(r, "late", ready.For("7"), weir.Within(2*time.Hour))
			})
		})
		ref := startRun(t, e.Engine, "7")
		time.Sleep(90 * time.Minute)
		publish(t, e.Engine, "7", 5)
		completed(t, ref, 5)
	})
}

// Until asks every so often, keeps why not, and asks again at once when something has come.
func TestUntil(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var stock atomic.Int64
		var asked []time.Duration
		started := time.Now()
		e := weirtest.New(t, weir.Config{Owns: []string{"staff", "kitchen"}}, func(e *weir.Engine) {
			weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
				err := weir.Until(r, "stock", func(context.Context) (weir.Met, error) {
					if asked = append(asked, time.Since(started).Truncate(time.Minute)); len(asked) == 2 {
						return weir.Met{}, errBusy // no answer: asked again sooner
					}
					n := stock.Load()
					return weir.When(n >= 5, "need 5, have %d", n), nil
				}, weir.Every(time.Hour), weir.WakeOn(ready.For("stock")), quick)
				return plate{N: len(asked)}, err
			})
		})
		ref := startRun(t, e.Engine, "7")
		time.Sleep(30 * time.Minute)
		if s := storyOf(t, e.Engine, "7"); s.State != weir.RunWaiting || s.Reason != "need 5, have 0" {
			t.Errorf("it is %s because of %q, want waiting for stock", s.State, s.Reason)
		}
		time.Sleep(2 * time.Hour)
		stock.Store(5)
		publish(t, e.Engine, "stock", 5)
		completed(t, ref, 5)
		want := "[0s 1h0m0s 1h0m0s 2h0m0s 2h30m0s]"
		if got := fmt.Sprint(asked); got != want {
			t.Errorf("asked at %s, want %s: hourly, again after the error, and when woken", got, want)
		}
	})
}

// Until fails past its Within with the last reason, or when its question says so.
func TestUntilFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := weirtest.New(t, weir.Config{Owns: []string{"staff"}}, func(e *weir.Engine) {
			weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
				started := r.Now()
				err := weir.Until(r, "stock", func(context.Context) (weir.Met, error) {
					return weir.When(false, "need %d", 5), nil
				}, weir.Every(time.Hour), weir.Within(150*time.Minute))
				if !errors.Is(err, weir.ErrWithin) || !strings.Contains(err.Error(), "need 5") || r.Now().Sub(started) < 150*time.Minute {
					return plate{}, fmt.Errorf("stock = %w after %s, want ErrWithin after 150 min", err, r.Now().Sub(started))
				}
				err = weir.Until(r, "gone", func(context.Context) (weir.Met, error) { return weir.Met{}, weir.Permanent(errBusy) })
				if err == nil {
					return plate{}, errors.New("gone = nil, want an error")
				}
				return plate{N: 1}, nil
			})
		})
		completedLate(t, startRun(t, e.Engine, "7"), 1)
	})
}

// What comes while Until waits in memory, an event or a signal, wakes it at once, not when its time is over.
func TestUntilWakesInMemory(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		wake weir.UntilOption
		send func(*testing.T, *weir.Engine)
	}{
		"event":  {weir.WakeOn(ready.For("7")), func(t *testing.T, e *weir.Engine) { publish(t, e, "7", 1) }},
		"signal": {weir.WakeOn(approved), func(t *testing.T, e *weir.Engine) { tell(t, e, "7", 1) }},
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
				return plate{N: 1}, weir.Until(r, "stock", func(context.Context) (weir.Met, error) {
					asked++
					return weir.When(asked > 1, "no"), nil
				}, weir.Every(4*time.Second), c.wake)
			})
			started := time.Now()
			ref := startRun(t, e, "7")
			time.Sleep(time.Second)
			c.send(t, e)
			completed(t, ref, 1)
			if took := time.Since(started); took > 2*time.Second {
				t.Errorf("woken by the %s after %s, want 1 s", what, took)
			}
		})
	}
}

// Waiting runs cost a row each, and no goroutine.
func TestWaitingRunsCostNoGoroutine(t *testing.T) {
	const runs = 10_000
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		return weir.WaitFor(r, "approval", approved)
	}, weir.Runs{Concurrency: 200})
	before := runtime.NumGoroutine()
	var work sync.WaitGroup
	for i := range 100 {
		work.Go(func() {
			for n := i; n < runs; n += 100 {
				startRun(t, e, fmt.Sprint(n))
			}
		})
	}
	work.Wait()
	eventually(t, "all wait", func() bool {
		counts, err := e.RunCounts(t.Context())
		return err == nil && len(counts) == 1 && counts[0].State == weir.RunWaiting && counts[0].Count == runs
	})
	if after := runtime.NumGoroutine(); after > before+250 {
		t.Errorf("%d goroutines before, %d with %d waiting runs, want about as many", before, after, runs)
	}
	tell(t, e, "77", 5)
	completed(t, weir.Find(e, dine, "77"), 5)
}

// An option that a call would not look at does not compile there. (Locked takes Within alone.)
func TestOptionsOfWaits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		option      any
		wait, until bool
	}{
		{weir.Within(time.Minute), true, true},
		{weir.Key("7"), true, true},
		{weir.Was("earlier"), true, true},
		{weir.Every(time.Minute), false, true},
		{weir.Timeout(time.Minute), false, true},
		{weir.Retry{}, false, true},
		{weir.WakeOn(ready.For("7")), false, true},
		{weir.FailIf(errBusy), false, false},
	} {
		_, wait := c.option.(weir.WaitOption)
		_, until := c.option.(weir.UntilOption)
		if wait != c.wait || until != c.until {
			t.Errorf("%T is an option of waits: %t, of Until: %t; want %t and %t", c.option, wait, until, c.wait, c.until)
		}
	}
}
