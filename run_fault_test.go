package weir_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
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
	"github.com/weir-go/weir/weirtest"
)

// Whatever call of the store fails, before it is executed or after, a run comes to its
// end with the next engine: with the same result, its Once done once, the rest at least once.
func TestRunSurvivesEveryFailureOfTheStore(t *testing.T) {
	t.Parallel()
	for _, m := range []storetest.Method{storetest.Begin, storetest.Claim, storetest.Commit, storetest.End} {
		for what, fail := range map[string]func(error, int, ...storetest.Method) *storetest.Faults{
			"before": storetest.FailBefore, "after": storetest.FailAfter,
		} {
			t.Run(fmt.Sprintf("%s/%s", m, what), func(t *testing.T) {
				t.Parallel()
				n := 1
				for ; runSurvives(t, fail(errDisk, n, m)); n++ {
					if n == 100 {
						t.Fatal("the run does not come to its end")
					}
				}
				if n < 2 {
					t.Error("the fault did not strike")
				}
			})
		}
	}
}

// runSurvives has a run of a step of each kind meet a fault, and finishes it; false when the
// fault did not strike.
func runSurvives(t *testing.T, faults *storetest.Faults) (struck bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		db := openTable(t, file, effects)
		quiet := weir.Config{Log: slog.New(slog.DiscardHandler)}
		b, did := &bank{}, &list{}
		sick := openStore(t, faults.Opener(sqlite.File(file)), quiet)
		everyKind(sick, b, did)
		ctx, cancel := context.WithCancel(t.Context())
		done := runs(ctx, sick)
		time.Sleep(10 * time.Millisecond)
		_, err := weir.Start(ctx, sick, dine, "7", ticket{Table: "7"})
		if struck = err != nil; struck { // refused, or begun and not told so: asked again
			startRunOn(t, openEngine(t, file, quiet))
		}
		tellFrom(t, file)
		time.Sleep(1500 * time.Millisecond) // more than the flow takes, and a poll
		cancel()
		switch err := receive(t, done); {
		case errors.Is(err, errDisk):
			struck = true
		case err != nil:
			t.Errorf("Run = %v, want nil or the store's error", err)
		}
		if err := sick.Close(); err != nil && !errors.Is(err, errDisk) {
			t.Errorf("Close = %v, want nil or the store's error", err)
		}
		well := openEngine(t, file, quiet)
		everyKind(well, b, did)
		run(t, well)
		got, err := weir.Find(well, dine, "7").Result(t.Context())
		if want := (plate{"7", 31}); err != nil || got != want {
			t.Errorf("it results in %+v, %v, want %+v", got, err, want)
		}
		if charges, _ := b.count(); charges != 1 {
			t.Errorf("%d charges, want 1", charges)
		}
		if got := took(t, db)["7"]; len(got) != 1 {
			t.Errorf("the StepTx wrote %v, want one row", got)
		}
		for _, name := range []string{"step", "try", "left", "right"} {
			if !slices.Contains(did.get(), name) {
				t.Errorf("%s was not done, only %q", name, did.get())
			}
		}
		want := []string{"step", "charge", "book", "try", "stock", "hall/left/do", "hall/right/do", "soup", "rest", "approval", "wash",
			"lock[table]", "inside", "unlock[table]", "send kitchen.clean"}
		names := recordNames(storyOf(t, well, "7"))
		slices.Sort(names[5:7]) // the branches are on their own
		if !slices.Equal(names, want) {
			t.Errorf("records = %q, want %q", names, want)
		}
		if findings, err := well.Check(t.Context()); err != nil || len(findings) != 0 {
			t.Errorf("Check = %+v, %v, want nothing", findings, err)
		}
	})
	return struck
}

func startRunOn(t *testing.T, e *weir.Engine) {
	t.Helper()
	startRun(t, e, "7")
}

// tellFrom tells run 7 of dine to go on, from a process of its own.
func tellFrom(t *testing.T, file string) {
	t.Helper()
	other := openEngine(t, file, weir.Config{})
	tell(t, other, "7", 16)
}

// everyKind registers a workflow with a step of each kind.
func everyKind(e *weir.Engine, b *bank, did *list) {
	weir.Answer(e, cook, func(_ context.Context, m *weir.Message[ticket]) (plate, error) { return plate{N: 8}, nil })
	weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error { return nil })
	weir.Register(e, wash, func(*weir.Run, ticket) (plate, error) { return plate{N: 4}, nil })
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		var errs []error
		p := plate{Table: in.Table}
		add := func(got plate, err error) { p.N += got.N; errs = append(errs, err) }
		add(weir.Step(r, "step", func(context.Context) (plate, error) { did.add("step"); return plate{N: 1}, nil }))
		_, err := weir.Once(r, "charge", b.charge, b.find, weir.Timeout(200*time.Millisecond), quick)
		errs = append(errs, err)
		add(weir.StepTx(r, "book", func(ctx context.Context, tx weir.Tx) (plate, error) {
			_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into effects (tab, n) values ('7', 1)`)
			return plate{N: 2}, err
		}))
		weir.Try(r, "try", did.does("try"))
		errs = append(errs, weir.Until(r, "stock", func(context.Context) (weir.Met, error) { return weir.When(true, ""), nil }))
		do := func(what string) func(*weir.Run) error {
			return func(r *weir.Run) error { return weir.Do(r, "do", did.does(what)) }
		}
		errs = append(errs, weir.All(r, "hall", weir.Branch{Name: "left", Do: do("left")}, weir.Branch{Name: "right", Do: do("right")}))
		add(weir.Ask(r, "soup", cook, in))
		weir.Sleep(r, "rest", 300*time.Millisecond) // out of memory, since there is one place
		add(weir.WaitFor(r, "approval", approved))
		add(weir.Call(r, "wash", wash, in))
		errs = append(errs, weir.Locked(r, "table", func(r *weir.Run, _ int64) error {
			return weir.Do(r, "inside", did.does("inside"))
		}), weir.Send(r.Context(), r, clean, in))
		return p, errors.Join(errs...)
	}, quick, weir.Runs{Concurrency: 1})
}

// A function that panics, or ends its goroutine, needs a person; after the mend a retry goes on.
func TestFunctionPanics(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	var did list
	bad := map[string]func(){
		"panics":  func() { panic("the roof falls") },
		"goexits": runtime.Goexit,
	}
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		if err := weir.Do(r, "cook", did.does(r.ID())); err != nil {
			return plate{}, err
		}
		if !mended.Load() {
			switch name, branch, _ := strings.Cut(r.ID(), " in a "); branch {
			case "branch":
				return plate{}, weir.All(r, "hall", weir.Branch{Name: "a", Do: func(*weir.Run) error { bad[name](); return nil }})
			case "step":
				return plate{}, weir.Do(r, "bad", func(context.Context) error { bad[name](); return nil }, quick)
			default:
				bad[name]()
			}
		}
		return plate{N: 1}, nil
	})
	for id, want := range map[string]string{
		"panics": "the roof falls", "panics in a branch": "the roof falls", "panics in a step": "the roof falls",
		"goexits": "runtime.Goexit", "goexits in a branch": "runtime.Goexit", "goexits in a step": "runtime.Goexit",
	} {
		mended.Store(false)
		ref := startRun(t, e, id)
		if s := inState(t, e, id, weir.RunNeedsPerson); !strings.Contains(s.Reason, want) {
			t.Errorf("%s: parked because of %q, want %q in it", id, s.Reason, want)
		}
		mended.Store(true)
		decided(t, e.RetryRun(t.Context(), of(id), known))
		completed(t, ref, 1)
	}
	if got := did.get(); len(got) != 6 {
		t.Errorf("cooked %q, want each once", got)
	}
}

// ignored is an engine in fake time, which looks hourly after steps that ignore their context.
func ignored(t *testing.T, f func(*weir.Run, ticket) (plate, error)) *weir.Engine {
	return weirtest.New(t, weir.Config{Owns: []string{"staff"}}, func(e *weir.Engine) { weir.Register(e, dine, f) }).Engine
}

// A step that ignores its context is written off: the run goes on without that goroutine,
// and what it still does is refused. One that always does so needs a person, or is omitted.
func TestStepIgnoresItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var cooks, mails atomic.Int64
		var did list
		e := ignored(t, func(r *weir.Run, in ticket) (plate, error) {
			n, err := weir.Step(r, "cook", func(context.Context) (int64, error) {
				n := cooks.Add(1)
				if n == 1 {
					time.Sleep(100 * time.Hour)
				}
				return n, nil
			}, weir.Timeout(time.Second), quick)
			if err == nil {
				err = weir.Do(r, "after", did.does(fmt.Sprint("after ", n)))
			}
			weir.Try(r, "mail", func(context.Context) error { mails.Add(1); time.Sleep(100 * time.Hour); return nil }, weir.Timeout(time.Second), quick)
			if in.Table == "stuck" {
				err = weir.Do(r, "stuck", func(context.Context) error { time.Sleep(100 * time.Hour); return nil }, weir.Timeout(time.Second), quick)
			}
			return plate{N: int(n)}, err
		})
		started := time.Now()
		completedLate(t, startRun(t, e, "7"), 2)
		if took := time.Since(started); took > 10*time.Hour {
			t.Errorf("it took %s, want less than the steps that are stuck", took)
		}
		startRun(t, e, "stuck")
		time.Sleep(20 * time.Hour)
		s := inState(t, e, "stuck", weir.RunNeedsPerson)
		if r := recordOf(t, s, "stuck"); r.Attempt != quick.Max || !strings.Contains(s.Reason, "ignored its context") {
			t.Errorf("parked as %+v because of %q, want it written off %d times", r, s.Reason, quick.Max)
		}
		if r := recordOf(t, s, "mail"); r.State != store.StepOmitted || r.Kind != store.KindTry {
			t.Errorf("the mail is %+v, want it omitted", r)
		}
		time.Sleep(1000 * time.Hour) // all that were stuck return
		if got, want := did.get(), []string{"after 2", "after 3"}; !slices.Equal(got, want) {
			t.Errorf("done: %q, want %q", got, want)
		}
		s = storyOf(t, e, "7")
		if r := recordOf(t, s, "cook"); r.Attempt != 2 || string(r.Value) != "2" {
			t.Errorf("cook is %+v, want what the second attempt gave", r)
		}
	})
}

// A Once that ignores its context has an unknown outcome; in a branch it leaves the others alone.
func TestOnceIgnoresItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bank{}
		e := ignored(t, func(r *weir.Run, in ticket) (plate, error) {
			var got plate
			err := weir.All(r, "hall",
				weir.Branch{Name: "left", Do: func(r *weir.Run) (err error) {
					got, err = weir.Once(r, "charge", func(ctx context.Context) (plate, error) {
						defer time.Sleep(100 * time.Hour)
						return b.charge(ctx)
					}, b.find, weir.Timeout(time.Second), quick)
					return err
				}},
				weir.Branch{Name: "right", Do: func(r *weir.Run) error {
					_, err := weir.Once(r, "other", func(context.Context) (plate, error) {
						time.Sleep(90 * time.Minute) // it comes back when the run is lost already
						return plate{}, errLost
					}, b.find, weir.Timeout(2*time.Hour), quick)
					return err
				}})
			return got, err
		})
		ref := startRun(t, e, "7")
		time.Sleep(5 * time.Hour)
		if charges, _ := b.count(); charges < 1 {
			t.Errorf("%d charges, want them made", charges)
		}
		if r := recordOf(t, storyOf(t, e, "7"), "hall/left/charge"); r.State != store.StepDone {
			t.Errorf("the charge is %+v, want it found", r)
		}
		decided(t, ref.Cancel(t.Context(), "enough"))
		_, _ = ref.Result(t.Context())
		time.Sleep(1000 * time.Hour)
	})
}

// A run that kills its process is parked after it has done so alone; its neighbours are not.
func TestPoisonRunIsParked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		const neighbours = 20
		sender := openEngine(t, file, weir.Config{})
		for n := range neighbours {
			startRun(t, sender, fmt.Sprint(n))
		}
		startRun(t, sender, "poison")
		crashes := 0
		var beside atomic.Int64
		for storyOf(t, sender, "poison").State != weir.RunNeedsPerson {
			if crashes++; crashes > 10 {
				t.Fatalf("the poison is not parked after %d crashes", crashes)
			}
			startRun(t, sender, fmt.Sprint("fresh-", crashes))
			poisoned := make(chan struct{}, 1)
			e, crash := crashing(t, file, func(r *weir.Run, in ticket) (plate, error) {
				if r.ID() == "poison" {
					return plate{}, weir.Do(r, "kill", func(ctx context.Context) error {
						select { // long enough for others to begin beside it
						case <-time.After(50 * time.Millisecond):
						case <-ctx.Done():
						}
						poisoned <- struct{}{}
						<-ctx.Done()
						return ctx.Err()
					})
				}
				if crashes > 2 && crashes < 5 && len(poisoned) == 0 {
					beside.Add(1)
				}
				if crashes == 1 { // all are at work when it strikes first
					return plate{}, weir.Do(r, "slow", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
				}
				return plate{N: 1}, nil
			})
			eventually(t, "the poison strikes, or is parked", func() bool {
				return len(poisoned) > 0 || storyOf(t, e, "poison").State == weir.RunNeedsPerson
			})
			crash()
		}
		s := storyOf(t, sender, "poison")
		if crashes != 5 || !strings.Contains(s.Reason, "uncleanly 4 times") {
			t.Errorf("parked at start %d because of %q, want at the 5th, after 4 crashes", crashes, s.Reason)
		}
		if beside.Load() != 0 {
			t.Error("others began beside a run that had killed its process twice")
		}
		e, _ := dining(t, file, func(r *weir.Run, in ticket) (plate, error) { return plate{N: 1}, nil })
		for n := range neighbours {
			completed(t, weir.Find(e, dine, fmt.Sprint(n)), 1)
		}
		decided(t, e.RetryRun(t.Context(), of("poison"), known))
		completed(t, weir.Find(e, dine, "poison"), 1)
	})
}

// Thousands of runs in flight are stopped and begun again, and stopped: nothing is lost, and
// no step that was recorded is done again.
func TestRestartsWithThousandsInFlight(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	const all = 2000
	var mu sync.Mutex
	calls := map[string]int{}
	work := func(r *weir.Run, in ticket) (plate, error) {
		p := plate{N: 1}
		for _, name := range []string{"a", "b", "c"} {
			n, err := weir.Step(r, name, func(context.Context) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				calls[r.ID()+name]++
				return calls[r.ID()+name], nil
			})
			if err != nil {
				return p, err
			}
			p.N *= n
			if name == "b" {
				weir.Sleep(r, "rest", time.Millisecond)
			}
		}
		return p, nil
	}
	sender := openEngine(t, file, weir.Config{})
	var senders sync.WaitGroup
	for i := range 100 {
		senders.Go(func() {
			for n := i; n < all; n += 100 {
				startRun(t, sender, fmt.Sprint(n))
			}
		})
	}
	ended := func() int64 {
		counts, err := sender.RunCounts(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		n := int64(0)
		for _, c := range counts {
			if c.State == "completed" {
				n += c.Count
			} else if c.State == weir.RunNeedsPerson || c.State == "failed" {
				t.Fatalf("%d runs are %s", c.Count, c.State)
			}
		}
		return n
	}
	for n := range 4 {
		e, stop := dining(t, file, work, weir.Runs{Concurrency: 300})
		before := ended()
		eventually(t, "some more have ended", func() bool { return ended() >= min(before+all/10, all) })
		if stop(); n == 0 {
			_ = e.Close()
		}
	}
	senders.Wait()
	e, _ := dining(t, file, work, weir.Runs{Concurrency: 300})
	for n := range all {
		completed(t, weir.Find(e, dine, fmt.Sprint(n)), 1)
	}
	if len(calls) != 3*all {
		t.Errorf("%d steps were called, want %d", len(calls), 3*all)
	}
}
