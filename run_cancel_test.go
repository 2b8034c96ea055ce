package weir_test

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/weir-go/weir/weirtest"
)

// list is what happened, in its order.
type list struct {
	mu  sync.Mutex
	all []string
}

func (l *list) add(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, s)
	return len(l.all)
}

func (l *list) get() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// does is a step or compensation that is told to the list.
func (l *list) does(what string) func(context.Context) error {
	return func(context.Context) error { l.add(what); return nil }
}

// A cancelled run's step is interrupted, and its compensations run, the last registered first.
func TestCancelWhileRunning(t *testing.T) {
	t.Parallel()
	var did list
	begun := make(chan struct{})
	causes := make(chan error, 1)
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		weir.Compensate(r, "undo-first", did.does("undo first"))
		if err := weir.Do(r, "first", did.does("first")); err != nil {
			return plate{}, err
		}
		weir.Compensate(r, "undo-second", did.does("undo second"))
		err := weir.Do(r, "second", func(ctx context.Context) error {
			close(begun)
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return ctx.Err()
		})
		did.add("never")
		return plate{}, err
	})
	ref := startRun(t, e, "7")
	<-begun
	decided(t, ref.Cancel(t.Context(), "the guest left"))
	if err := ended(t, ref, "cancelled"); !strings.Contains(err.Reason, "the guest left") {
		t.Errorf("cancelled because of %q", err.Reason)
	}
	if cause := receive(t, causes); !errors.Is(cause, weir.ErrCancelled) {
		t.Errorf("the step's context ended because of %v, want ErrCancelled", cause)
	}
	if got, want := did.get(), []string{"first", "undo second", "undo first"}; !slices.Equal(got, want) {
		t.Errorf("done: %q, want %q", got, want)
	}
	if err := ref.Cancel(t.Context(), "again"); !errors.Is(err, weir.ErrConflict) {
		t.Errorf("Cancel of an ended run = %v, want ErrConflict", err)
	}
}

// Whatever a run waits for, a cancellation ends it.
func TestCancelWhileWaiting(t *testing.T) {
	t.Parallel()
	for what, wait := range map[string]func(*weir.Run) error{
		"sleep":   func(r *weir.Run) error { weir.Sleep(r, "long", time.Hour); return nil },
		"waitfor": func(r *weir.Run) error { _, err := weir.WaitFor(r, "never", approved); return err },
		"until": func(r *weir.Run) error {
			return weir.Until(r, "never", func(context.Context) (weir.Met, error) { return weir.When(false, "no"), nil })
		},
		"retry": func(r *weir.Run) error {
			return weir.Do(r, "never", func(context.Context) error { return errBusy }, weir.Retry{Max: 9000, Base: time.Hour, Cap: time.Hour})
		},
		"retry in memory": func(r *weir.Run) error {
			return weir.Do(r, "never", func(context.Context) error { return errBusy }, weir.Retry{Max: 9000, Base: time.Second, Cap: time.Second})
		},
		"ask": func(r *weir.Run) error { _, err := weir.Ask(r, "never", cook, ticket{"7", 1}); return err },
		"all": func(r *weir.Run) error {
			return weir.All(r, "hall",
				weir.Branch{Name: "a", Do: func(r *weir.Run) error { weir.Sleep(r, "long", time.Hour); return nil }},
				weir.Branch{Name: "b", Do: func(r *weir.Run) error { weir.Sleep(r, "short", time.Second); return nil }})
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var did list
			e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
				weir.Compensate(r, "undo", did.does("undo"))
				if err := weir.Do(r, "first", did.does("first")); err != nil {
					return plate{}, err
				}
				err := wait(r)
				did.add("never")
				return plate{}, err
			})
			ref := startRun(t, e, "7")
			eventually(t, "it has begun", func() bool { return len(storyOf(t, e, "7").Records) > 1 })
			decided(t, ref.Cancel(t.Context(), "closed"))
			ended(t, ref, "cancelled")
			if got, want := did.get(), []string{"first", "undo"}; !slices.Equal(got, want) {
				t.Errorf("done: %q, want %q", got, want)
			}
			if locks := storyOf(t, e, "7").Waits; len(locks) != 0 {
				t.Errorf("it waits on for %+v", locks)
			}
		})
	}
}

// A cancelled run with a Once of unknown outcome waits until that is known.
func TestCancelWhileOnceIsUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var known atomic.Bool
		b := &bank{answer: func(int) error { return errLost }, found: func(int) (weir.Outcome, error) {
			if !known.Load() {
				return weir.Unknown, nil
			}
			return weir.Happened, nil
		}}
		var did list
		e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
			weir.Compensate(r, "refund", did.does("refund"))
			_, err := weir.Once(r, "charge", b.charge, b.find, weir.Retry{Max: 1000, Base: 2 * time.Second, Cap: 2 * time.Second})
			if err == nil {
				err = weir.Do(r, "cook", did.does("never"))
			}
			return plate{}, err
		})
		ref := startRun(t, e, "7")
		time.Sleep(10 * time.Second)
		decided(t, ref.Cancel(t.Context(), "closed"))
		before := time.Now()
		_, asked := b.count()
		time.Sleep(20 * time.Second)
		if s := storyOf(t, e, "7"); s.State == weir.RunNeedsPerson || !s.EndedAt.IsZero() || len(did.get()) != 0 {
			t.Errorf("it is %s and has done %q, want it to find out first", s.State, did.get())
		}
		if _, now := b.count(); now-asked < 5 || now-asked > 200 {
			t.Errorf("asked %d times in %s, want about every second", now-asked, time.Since(before))
		}
		known.Store(true)
		ended(t, ref, "cancelled")
		if got, want := did.get(), []string{"refund"}; !slices.Equal(got, want) {
			t.Errorf("done: %q, want %q", got, want)
		}
		if r := recordOf(t, storyOf(t, e, "7"), "charge"); r.State != store.StepDone {
			t.Errorf("the charge is %s, want done", r.State)
		}
	})
}

// In a branch too: it is asked on, while another branch is kept busy by a call.
func TestCancelWhileBranchFindsOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bank{answer: func(int) error { return errLost }, found: func(n int) (weir.Outcome, error) {
			if n < 3 {
				return weir.Unknown, nil
			}
			return weir.Happened, nil
		}}
		var at time.Duration
		started := time.Now()
		e := weirtest.New(t, weir.Config{Owns: []string{"staff"}}, func(e *weir.Engine) {
			weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
				return plate{}, weir.All(r, "hall",
					weir.Branch{Name: "unknown", Do: func(r *weir.Run) error {
						_, err := weir.Once(r, "charge", b.charge, func(ctx context.Context) (plate, weir.Outcome, error) {
							at = time.Since(started)
							return b.find(ctx)
						}, weir.Retry{Max: 100, Base: time.Hour, Cap: time.Hour})
						return err
					}},
					weir.Branch{Name: "busy", Do: func(r *weir.Run) error {
						_, err := weir.Once[plate](r, "slow", func(context.Context) (plate, error) {
							time.Sleep(10 * time.Hour)
							return plate{}, nil
						}, nil, weir.Timeout(20*time.Hour))
						return err
					}})
			})
		})
		ref := startRun(t, e.Engine, "7")
		time.Sleep(time.Second)
		decided(t, ref.Cancel(t.Context(), "closed"))
		if _, err := ref.Result(t.Context()); err == nil {
			t.Error("the cancelled run completes")
		}
		if took := time.Since(started); took < 10*time.Hour || at > 10*time.Hour {
			t.Errorf("it ended after %s, found out after %s: want it known while the other branch works, 10 h", took, at)
		}
	})
}

// The call of a Once itself is not interrupted by a cancellation.
func TestCancelDoesNotInterruptOnce(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		p, err := weir.Once(r, "charge", func(ctx context.Context) (plate, error) {
			close(begun)
			select {
			case <-goOn:
			case <-ctx.Done():
			}
			return plate{N: 1}, ctx.Err()
		}, nil)
		weir.Sleep(r, "never", time.Hour)
		return p, err
	})
	ref := startRun(t, e, "7")
	<-begun
	decided(t, ref.Cancel(t.Context(), "closed"))
	eventually(t, "it is told", func() bool { return slices.Contains(names(storyOf(t, e, "7")), ":ending") })
	close(goOn)
	ended(t, ref, "cancelled")
	if r := recordOf(t, storyOf(t, e, "7"), "charge"); r.State != store.StepDone {
		t.Errorf("the charge is %s, want done", r.State)
	}
}

func names(s weir.RunStory) []string {
	var all []string
	for _, r := range s.Records {
		all = append(all, r.Name)
	}
	return all
}

// Compensations are retried; one that fails for good needs a person, and the others wait for it.
func TestCompensationNeedsPerson(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		undo   func(n int) error
		decide func(*weir.Engine) error
		want   []string
	}{
		"retried by itself": {undo: func(n int) error {
			if n < 3 {
				return errBusy
			}
			return nil
		}, want: []string{"undo", "undo", "undo", "first"}},
		"retried by a person": {undo: func(n int) error {
			if n < 4 {
				return errBusy
			}
			return nil
		}, decide: func(e *weir.Engine) error { return e.RetryRun(context.Background(), of("7"), known) },
			want: []string{"undo", "undo", "undo", "undo", "first"}},
		"skipped": {undo: func(int) error { return weir.Permanent(errBusy) },
			decide: func(e *weir.Engine) error { return e.SkipRun(context.Background(), of("7"), known) },
			want:   []string{"undo", "first"}},
		"abandoned": {undo: func(int) error { return weir.Permanent(errBusy) },
			decide: func(e *weir.Engine) error { return e.AbandonRun(context.Background(), of("7"), known) },
			want:   []string{"undo", "first"}},
		"panics": {undo: func(n int) error {
			if n < 3 {
				panic("no")
			}
			return nil
		}, want: []string{"undo", "undo", "undo", "first"}},
		"ends its goroutine": {undo: func(n int) error {
			if n == 1 {
				runtime.Goexit()
			}
			return nil
		}, decide: func(e *weir.Engine) error { return e.RetryRun(context.Background(), of("7"), known) },
			want: []string{"undo", "undo", "first"}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var did list
			n := 0
			e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
				weir.Compensate(r, "first", did.does("first"))
				weir.Compensate(r, "second", func(context.Context) error {
					n++
					did.add("undo")
					return c.undo(n)
				}, quick)
				return plate{}, errors.New("no food")
			})
			ref := startRun(t, e, "7")
			if c.decide != nil {
				s := inState(t, e, "7", weir.RunNeedsPerson)
				if !strings.Contains(s.Reason, "second") && !strings.Contains(s.Reason, "compensation") {
					t.Errorf("parked because of %q, want the compensation", s.Reason)
				}
				decided(t, c.decide(e))
			}
			if err := ended(t, ref, "failed"); err.Reason != "no food" {
				t.Errorf("it failed because of %q, want its own error", err.Reason)
			}
			if got := did.get(); !slices.Equal(got, c.want) {
				t.Errorf("done: %q, want %q", got, c.want)
			}
		})
	}
}

// A compensation goes on after a crash; what is undone is not undone again.
func TestCompensationsGoOnAfterCrash(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	var did list
	stuck := make(chan struct{})
	work := func(crash bool) func(*weir.Run, ticket) (plate, error) {
		return func(r *weir.Run, in ticket) (plate, error) {
			weir.Compensate(r, "first", func(ctx context.Context) error {
				if crash {
					close(stuck)
					<-ctx.Done()
					return ctx.Err()
				}
				did.add("first")
				return nil
			})
			weir.Compensate(r, "second", did.does("second"))
			if err := weir.Do(r, "cook", did.does("cook")); err != nil {
				return plate{}, err
			}
			return plate{}, errors.New("burnt")
		}
	}
	e, crash := crashing(t, file, work(true))
	startRun(t, e, "7")
	<-stuck
	crash()
	e, _ = dining(t, file, work(false))
	if err := ended(t, weir.Find(e, dine, "7"), "failed"); err.Reason != "burnt" {
		t.Errorf("it failed because of %q, want burnt", err.Reason)
	}
	if got, want := did.get(), []string{"cook", "second", "first"}; !slices.Equal(got, want) {
		t.Errorf("done: %q, want %q", got, want)
	}
}

// A parked run can be cancelled, and one whose function panics abandoned.
func TestParkedRunIsEnded(t *testing.T) {
	t.Parallel()
	var did list
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		weir.Compensate(r, "undo", did.does("undo "+r.ID()))
		if r.ID() == "panics" {
			panic("the roof falls")
		}
		return plate{}, weir.Do(r, "cook", func(context.Context) error { return errBusy }, quick)
	})
	ref := startRun(t, e, "busy")
	inState(t, e, "busy", weir.RunNeedsPerson)
	decided(t, ref.Cancel(t.Context(), "closed"))
	ended(t, ref, "cancelled")
	ref = startRun(t, e, "panics")
	inState(t, e, "panics", weir.RunNeedsPerson)
	decided(t, e.AbandonRun(t.Context(), of("panics"), known))
	ended(t, ref, "failed")
	if got, want := did.get(), []string{"undo busy", "undo panics"}; !slices.Equal(got, want) {
		t.Errorf("done: %q, want %q", got, want)
	}
}

// A cancelled run's child is cancelled too; it compensates on its own.
func TestChildIsCancelledWithParent(t *testing.T) {
	t.Parallel()
	var did list
	e := openEngine(t, newFile(t), weir.Config{})
	weir.Register(e, wash, func(r *weir.Run, in ticket) (plate, error) {
		weir.Compensate(r, "undo", did.does("undo"))
		weir.Sleep(r, "soak", time.Hour)
		return plate{}, nil
	})
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) { return weir.Call(r, "wash", wash, in) })
	works(t, e)
	ref := startRun(t, e, "7")
	child := weir.Find(e, wash, "7/wash")
	eventually(t, "the child waits", func() bool {
		s, err := e.RunStory(t.Context(), wash.Name(), child.ID)
		return err == nil && s.State == weir.RunWaiting
	})
	decided(t, ref.Cancel(t.Context(), "closed"))
	ended(t, ref, "cancelled")
	if err := ended(t, child, "cancelled"); !strings.Contains(err.Reason, "its parent ends") {
		t.Errorf("the child ended because of %q, want its parent", err.Reason)
	}
	if got := did.get(); len(got) != 1 {
		t.Errorf("the child's compensations did %q, want undo", got)
	}
}

// However a cancellation meets its run, it is obeyed as a whole or has come too late: a run
// is compensated if, and only if, it does not complete.
func TestCancelAtAnyTime(t *testing.T) {
	t.Parallel()
	const runs = 300
	var mu sync.Mutex
	undone := map[string]int{}
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		weir.Compensate(r, "undo", func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			undone[r.ID()]++
			return nil
		})
		err := weir.Do(r, "first", func(ctx context.Context) error { return ctx.Err() })
		_, asked := weir.WaitFor(r, "approval", approved)
		last := weir.All(r, "hall",
			weir.Branch{Name: "a", Do: func(r *weir.Run) error { weir.Sleep(r, "s", time.Millisecond); return nil }},
			weir.Branch{Name: "b", Do: func(r *weir.Run) error { return weir.Do(r, "d", func(ctx context.Context) error { return ctx.Err() }) }})
		return plate{N: 1}, errors.Join(err, asked, last)
	})
	var work sync.WaitGroup
	for n := range runs {
		id := fmt.Sprint(n)
		work.Go(func() {
			ref := startRun(t, e, id)
			tell(t, e, id, 1)
			for range n % 20 {
				storyOf(t, e, id) // passes some time
			}
			if err := ref.Cancel(t.Context(), "closed"); err != nil && !errors.Is(err, weir.ErrConflict) {
				t.Errorf("Cancel(%s) = %v", id, err)
			}
		})
		if n%20 == 19 {
			work.Wait()
		}
	}
	work.Wait()
	outcomes := map[bool]int{}
	for n := range runs {
		id := fmt.Sprint(n)
		got, err := result(t, weir.Find(e, dine, id))
		if _, ok := errors.AsType[*weir.RunError](err); err != nil && !ok {
			t.Fatalf("Result(%s) = %v", id, err)
		}
		mu.Lock()
		times := undone[id]
		mu.Unlock()
		completed := err == nil && got.N == 1
		outcomes[completed]++
		if s := storyOf(t, e, id); completed && times != 0 || !completed && times != 1 && slices.Contains(names(s), "undo") {
			t.Errorf("run %s: completed %t (%v), compensated %d times", id, completed, err, times)
		}
	}
	t.Logf("%d completed, %d cancelled", outcomes[true], outcomes[false])
}
