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
	"github.com/weir-go/weir/weirtest"
)

// Ask sends a request, once, and waits for its reply.
func TestAsk(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{})
	var asked atomic.Int64
	weir.Answer(e, cook, func(_ context.Context, m *weir.Message[ticket]) (plate, error) {
		asked.Add(1)
		if m.Correlation == "" || m.Cause == "" || m.Key != "7" {
			return plate{}, weir.Permanent(fmt.Errorf("cause %q, correlation %q, key %q", m.Cause, m.Correlation, m.Key))
		}
		return plate{m.Body.Table, m.Body.N + 1}, nil
	})
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		p, err := weir.Ask(r, "soup", cook, ticket{"7", 1})
		weir.Sleep(r, "eat", 10*time.Millisecond)
		q, failed := weir.Ask(r, "fish", cook, ticket{"7", 10})
		return plate{N: p.N + q.N}, errors.Join(err, failed)
	})
	works(t, e)
	completed(t, startRun(t, e, "7"), 13)
	if asked.Load() != 2 {
		t.Errorf("asked %d times, want twice", asked.Load())
	}
	want := []string{"soup", "eat", "fish"}
	if got := recordNames(storyOf(t, e, "7")); !slices.Equal(got, want) {
		t.Errorf("records = %q, want %q", got, want)
	}
}

// A reply after Within is too late for the call, and is kept and shown.
func TestAskLateReply(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	e := openEngine(t, newFile(t), weir.Config{StopTimeout: time.Minute})
	weir.Answer(e, cook, func(ctx context.Context, m *weir.Message[ticket]) (plate, error) {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return plate{"late", 3}, ctx.Err()
	})
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		if _, err := weir.Ask(r, "soup", cook, ticket{"7", 1}, weir.Within(20*time.Millisecond)); !errors.Is(err, weir.ErrWithin) {
			return plate{}, fmt.Errorf("soup = %w, want ErrWithin", err)
		}
		return plate{N: 2}, nil
	})
	works(t, e)
	completed(t, startRun(t, e, "7"), 2)
	close(release)
	emptied(t, e, cook.Name())
	eventually(t, "the late reply is told", func() bool { return len(storyOf(t, e, "7").Late) == 1 })
	if late := storyOf(t, e, "7").Late; !strings.Contains(string(late[0].Body), "late") {
		t.Errorf("late = %+v, want the reply", late)
	}
}

// A full queue is waited for, no longer than Within.
func TestAskWaitsForRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		e := openEngine(t, newFile(t), weir.Config{StopTimeout: time.Minute})
		weir.Answer(e, cook, func(ctx context.Context, m *weir.Message[ticket]) (plate, error) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return plate{"7", m.Body.N}, ctx.Err()
		}, weir.Queue{Capacity: 1, Concurrency: 1, Timeout: time.Hour})
		weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
			if _, err := weir.Ask(r, "hasty", cook, ticket{"8", 1}, weir.Within(5*time.Second)); !errors.Is(err, weir.ErrWithin) {
				return plate{}, fmt.Errorf("hasty = %w, want ErrWithin", err)
			}
			return weir.Ask(r, "soup", cook, ticket{"8", 2})
		})
		works(t, e)
		send(t, e, cook, ticket{"7", 1})
		ref := startRun(t, e, "7")
		time.Sleep(30 * time.Second)
		if r := recordOf(t, storyOf(t, e, "7"), "soup"); r.State != store.StepPending || !strings.Contains(r.Reason, "full") {
			t.Errorf("its record is %+v, want it pending because the queue is full", r)
		}
		close(release)
		completed(t, ref, 2)
	})
}

var (
	wash = weir.NewWorkflow[ticket, plate]("staff.wash")
)

// A child's result is its parent's, and so is its failure; its ID is its parent's and the step's name.
func TestCall(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{})
	weir.Register(e, wash, func(r *weir.Run, in ticket) (plate, error) {
		weir.Sleep(r, "soak", time.Millisecond)
		if in.N == 3 || r.Headers()["tenant"] != "north" {
			return plate{}, fmt.Errorf("broken: %v", r.Headers())
		}
		return plate{N: in.N * 10}, nil
	})
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		sum := 0
		for n := range 3 {
			p, err := weir.Call(r, "wash", wash, ticket{"7", n}, weir.Key(fmt.Sprint(n)))
			if err != nil {
				return p, err
			}
			sum += p.N
		}
		_, err := weir.Call(r, "drop", wash, ticket{"7", 3})
		if err == nil || !strings.Contains(err.Error(), "broken") {
			return plate{}, fmt.Errorf("drop = %w, want the child's error", err)
		}
		return plate{N: sum}, nil
	})
	works(t, e)
	r, err := weir.Start(t.Context(), e, dine, "7", ticket{}, weir.Headers{"tenant": "north"})
	if err != nil {
		t.Fatal(err)
	}
	completed(t, r, 30)
	s := storyOf(t, e, "7")
	if len(s.Children) != 4 {
		t.Errorf("%d children, want 4", len(s.Children))
	}
	child, err := e.RunStory(t.Context(), wash.Name(), "7/wash[2]")
	if err != nil || child.ParentID != "staff.dine/7" || child.Correlation == "" {
		t.Errorf("the child is %+v, %v, want it known by its parent", child.RunRow, err)
	}
}

// All returns when all branches have, with their errors in order. Branches wait each on its own.
func TestAll(t *testing.T) {
	t.Parallel()
	var calls [3]atomic.Int64
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		var got plate
		branch := func(i int) func(*weir.Run) error {
			return func(r *weir.Run) error {
				err := weir.Do(r, "cook", func(context.Context) error { calls[i].Add(1); return nil })
				switch i {
				case 0:
					weir.Sleep(r, "rest", 20*time.Millisecond)
					return errors.Join(err, errors.New("first"))
				case 1:
					got, err = weir.WaitFor(r, "approval", approved)
					return err
				}
				return errors.Join(err, weir.All(r, "inner",
					weir.Branch{Name: "a", Do: func(r *weir.Run) error { weir.Sleep(r, "z", time.Millisecond); return nil }},
					weir.Branch{Name: "b", Do: func(r *weir.Run) error {
						return weir.Do(r, "z", func(context.Context) error { return weir.Permanent(errors.New("last")) })
					}}))
			}
		}
		err := weir.All(r, "hall", weir.Branch{Name: "left", Do: branch(0)}, weir.Branch{Name: "mid", Do: branch(1)},
			weir.Branch{Name: "right", Do: branch(2)})
		if err == nil || err.Error() != "first\nhall/right/inner/b/z: last" {
			return plate{}, fmt.Errorf("hall = %w, want the first's and the last's error", err)
		}
		if err := weir.All(r, "nothing"); err != nil {
			return plate{}, err
		}
		return got, nil
	})
	ref := startRun(t, e, "7")
	inState(t, e, "7", weir.RunWaiting)
	tell(t, e, "7", 5)
	completed(t, ref, 5)
	for i := range calls {
		if n := calls[i].Load(); n != 1 {
			t.Errorf("branch %d cooked %d times, want once", i, n)
		}
	}
	got := recordNames(storyOf(t, e, "7"))
	slices.Sort(got)
	want := []string{"hall/left/cook", "hall/left/rest", "hall/mid/approval", "hall/mid/cook", "hall/right/cook",
		"hall/right/inner/a/z", "hall/right/inner/b/z"}
	if !slices.Equal(got, want) {
		t.Errorf("records = %q, want %q", got, want)
	}
}

// Branches run at the same time, and what one does is not done again while another retries.
func TestAllIsParallel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
			var branches []weir.Branch
			for i := range 20 {
				branches = append(branches, weir.Branch{Name: fmt.Sprint(i), Do: func(r *weir.Run) error {
					for range 3 {
						if err := weir.Do(r, "cook", func(context.Context) error { time.Sleep(time.Second); return nil }); err != nil {
							return err
						}
					}
					return nil
				}})
			}
			return plate{N: 1}, weir.All(r, "hall", branches...)
		})
		started := time.Now()
		completed(t, startRun(t, e, "7"), 1)
		if took := time.Since(started); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("20 branches of 3 s took %s, want 3 s", took)
		}
	})
}

// What a run sends and starts leaves once, whatever is replayed.
func TestRunSendsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		got := map[string]int{}
		e := weirtest.New(t, weir.Config{Owns: []string{"staff", "kitchen"}}, func(e *weir.Engine) {
			weir.Handle(e, clean, func(_ context.Context, m *weir.Message[ticket]) error {
				mu.Lock()
				defer mu.Unlock()
				got[m.Body.Table]++
				return nil
			})
			weir.Register(e, wash, func(r *weir.Run, in ticket) (plate, error) {
				mu.Lock()
				defer mu.Unlock()
				got["run "+r.ID()]++
				return plate{}, nil
			})
			weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
				err := weir.Send(r.Context(), r, clean, ticket{"one", 1})
				weir.Sleep(r, "wait", time.Hour)
				err = errors.Join(err, weir.Send(r.Context(), r, clean, ticket{"two", 1}), weir.Publish(r.Context(), r, served, plate{"7", 1}))
				_, failed := weir.Start(r.Context(), r, wash, "order#7", ticket{})
				weir.Sleep(r, "wait", time.Hour)
				return plate{N: 1}, errors.Join(err, failed)
			})
		})
		completedLate(t, startRun(t, e.Engine, "7"), 1)
		e.Settle()
		mu.Lock()
		defer mu.Unlock()
		if want := map[string]int{"one": 1, "two": 1, "run order#7": 1}; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("came %v, want %v", got, want)
		}
		weirtest.RequirePublished(t, e, served)
	})
}

// The result of a branch that a person decides about goes on with the others' results.
func TestPersonDecidesInBranch(t *testing.T) {
	t.Parallel()
	var left atomic.Int64
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		var got plate
		err := weir.All(r, "hall",
			weir.Branch{Name: "left", Do: func(r *weir.Run) error {
				return weir.Do(r, "cook", func(context.Context) error { left.Add(1); return nil })
			}},
			weir.Branch{Name: "right", Do: func(r *weir.Run) (err error) {
				got, err = weir.Step(r, "cook", func(context.Context) (plate, error) { return plate{}, errBusy }, quick)
				return err
			}})
		return got, err
	})
	ref := startRun(t, e, "7")
	s := inState(t, e, "7", weir.RunNeedsPerson)
	if r := recordOf(t, s, "hall/right/cook"); r.State != store.StepParked || r.Attempt != quick.Max {
		t.Errorf("parked as %+v, want the right branch's step out of attempts", r)
	}
	decided(t, e.SettleRun(t.Context(), of("7", "hall/right/cook"), weir.Settled{Value: []byte(`{"N":4}`)}, known))
	completed(t, ref, 4)
	if left.Load() != 1 {
		t.Errorf("the left branch cooked %d times, want once", left.Load())
	}
}
