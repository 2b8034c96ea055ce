package weir_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/weirtest"
)

// A lock has one holder at a time, in the order in which they came, with ascending fences.
func TestLockedOneAtATime(t *testing.T) {
	t.Parallel()
	const runs = 40
	var inside, most atomic.Int64
	var mu sync.Mutex
	var order []string
	var fences []int64
	goOn := make(chan struct{})
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		err := weir.Locked(r, "table/7", func(r *weir.Run, fence int64) error {
			err := weir.Do(r, "eat", func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				most.Store(max(most.Load(), inside.Add(1)))
				order, fences = append(order, r.ID()), append(fences, fence)
				return nil
			})
			if r.ID() == "0" {
				err = errors.Join(err, weir.Do(r, "wait", func(context.Context) error { <-goOn; return nil }))
			} else {
				weir.Sleep(r, "digest", time.Millisecond) // it keeps the lock while it waits
			}
			return errors.Join(err, weir.Do(r, "leave", func(context.Context) error { inside.Add(-1); return nil }))
		})
		return plate{N: 1}, err
	})
	var want []string
	for n := range runs {
		id := fmt.Sprint(n)
		want = append(want, id)
		startRun(t, e, id)
		eventually(t, "it is in line", func() bool {
			return lockOf(t, e, "table/7").Waiters != nil || n == 0 && lockOf(t, e, "table/7").Name != ""
		})
		eventually(t, "it is in line", func() bool { return len(lockOf(t, e, "table/7").Waiters) == n })
	}
	l := lockOf(t, e, "table/7")
	if l.HolderID != "staff.dine/0" || l.Waiters[0].RunID != "staff.dine/1" || l.Since.IsZero() {
		t.Errorf("the lock is %+v, want it held by run 0, with 1 next", l)
	}
	if s := inState(t, e, "1", weir.RunWaiting); s.Reason != "in line for lock table/7" { // it waits a moment after it is in line
		t.Errorf("run 1 waits because of %q, want it in line", s.Reason)
	}
	close(goOn)
	for _, id := range want {
		completed(t, weir.Find(e, dine, id), 1)
	}
	if most.Load() != 1 || !slices.Equal(order, want) || !slices.IsSorted(fences) || len(slices.Compact(slices.Clone(fences))) != runs {
		t.Errorf("%d at a time, in the order %q, with fences %d: want 1, in the order of the starts, ascending", most.Load(), order, fences)
	}
	if l := lockOf(t, e, "table/7"); l.Name != "" {
		t.Errorf("the lock is held on: %+v", l)
	}
}

// lockOf is a lock that is held, zero if nobody holds it.
func lockOf(t testing.TB, e *weir.Engine, name string) weir.LockRow {
	t.Helper()
	all, err := e.Locks(context.Background(), 100)
	if err != nil {
		t.Fatalf("Locks = %v", err)
	}
	for _, l := range all {
		if l.Name == name {
			return l
		}
	}
	return weir.LockRow{}
}

// A run keeps its lock over a restart and a crash, with its fence; it is free when the run ends, however.
func TestLockedOverRestarts(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	var fences []int64
	work := func(r *weir.Run, in ticket) (plate, error) {
		err := weir.Locked(r, "table", func(r *weir.Run, fence int64) error {
			fences = append(fences, fence)
			p, err := weir.WaitFor(r, "approval", approved)
			if p.N == 2 {
				return errors.New("no")
			}
			return err
		})
		return plate{N: 1}, err
	}
	e, stop := dining(t, file, work)
	startRun(t, e, "7")
	inState(t, e, "7", weir.RunWaiting)
	startRun(t, e, "8")
	inState(t, e, "8", weir.RunWaiting)
	stop()
	e, crash := crashing(t, file, work)
	if l := lockOf(t, e, "table"); l.HolderID != "staff.dine/7" || len(l.Waiters) != 1 {
		t.Errorf("after a restart the lock is %+v, want it held by 7", l)
	}
	crash()
	e, _ = dining(t, file, work)
	tell(t, e, "7", 1)
	completed(t, weir.Find(e, dine, "7"), 1)
	inState(t, e, "8", weir.RunWaiting)
	eventually(t, "run 8 holds it", func() bool { return lockOf(t, e, "table").HolderID == "staff.dine/8" })
	tell(t, e, "8", 2)
	ended(t, weir.Find(e, dine, "8"), "failed")
	if l := lockOf(t, e, "table"); l.Name != "" {
		t.Errorf("the lock is held on: %+v", l)
	}
	if fences[0] != fences[1] || fences[len(fences)-1] <= fences[0] {
		t.Errorf("fences = %d, want the same for one run, and then a higher one", fences)
	}
}

// A run that is cancelled in line leaves it; one that gives up at its Within too.
func TestLockedInLineEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := weirtest.New(t, weir.Config{Owns: []string{"staff"}}, func(e *weir.Engine) {
			weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
				var o []weir.Within
				if r.ID() == "hasty" {
					o = append(o, weir.Within(time.Minute))
				}
				err := weir.Locked(r, "table", func(r *weir.Run, fence int64) error {
					weir.Sleep(r, "eat", time.Hour)
					return nil
				}, o...)
				if errors.Is(err, weir.ErrWithin) {
					return plate{N: 9}, nil
				}
				return plate{N: 1}, err
			})
		})
		refs := map[string]weir.RunRef[plate]{}
		for _, id := range []string{"first", "cancelled", "hasty", "last"} {
			refs[id] = startRun(t, e.Engine, id)
			time.Sleep(time.Second)
		}
		decided(t, refs["cancelled"].Cancel(t.Context(), "closed"))
		started := time.Now()
		if _, err := refs["cancelled"].Result(t.Context()); err == nil {
			t.Error("the cancelled run completes")
		}
		completedLate(t, refs["hasty"], 9)
		completedLate(t, refs["first"], 1)
		completedLate(t, refs["last"], 1)
		if took := time.Since(started); took > 2*time.Hour+time.Minute {
			t.Errorf("it took %s, want 2 h: two hold it", took)
		}
	})
}

// An operator breaks a lock: the next one gets it with a higher fence, and the holder goes on without.
func TestBreakLock(t *testing.T) {
	t.Parallel()
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		got := int64(0)
		err := weir.Locked(r, "table", func(r *weir.Run, fence int64) error {
			got = fence
			_, err := weir.WaitFor(r, "approval", approved)
			return err
		})
		return plate{N: int(got)}, err
	})
	first := startRun(t, e, "7")
	inState(t, e, "7", weir.RunWaiting)
	second := startRun(t, e, "8")
	eventually(t, "run 8 is in line", func() bool { return len(lockOf(t, e, "table").Waiters) == 1 })
	decided(t, e.BreakLock(t.Context(), "table", known))
	eventually(t, "run 8 holds it", func() bool { return lockOf(t, e, "table").HolderID == "staff.dine/8" })
	tell(t, e, "7", 1)
	p, err := result(t, first)
	if l := lockOf(t, e, "table"); err != nil || l.HolderID != "staff.dine/8" || l.Fence <= int64(p.N) {
		t.Errorf("after the first ended (%v, with fence %d) the lock is %+v, want 8's with a higher fence", err, p.N, l)
	}
	tell(t, e, "8", 1)
	if q, err := result(t, second); err != nil || q.N <= p.N {
		t.Errorf("fences = %d, then %d (%v), want them to ascend", p.N, q.N, err)
	}
	if err := e.BreakLock(t.Context(), "table", known); !errors.Is(err, weir.ErrNotFound) {
		t.Errorf("BreakLock of a free lock = %v, want ErrNotFound", err)
	}
}

// Two locked sections of one run, one after the other, are two acquisitions.
func TestLockedTwice(t *testing.T) {
	t.Parallel()
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		var fences []int64
		for range 2 {
			err := weir.Locked(r, "table", func(r *weir.Run, fence int64) error {
				fences = append(fences, fence)
				weir.Sleep(r, "eat", time.Millisecond)
				return nil
			})
			if err != nil {
				return plate{}, err
			}
		}
		if fences[1] <= fences[0] {
			return plate{}, fmt.Errorf("fences = %d, want them to ascend", fences)
		}
		return plate{N: 1}, nil
	})
	completed(t, startRun(t, e, "7"), 1)
	s := storyOf(t, e, "7")
	if r := recordOf(t, s, "lock[table]#2"); r.Kind != store.KindLock || r.State != store.StepDone {
		t.Errorf("the second acquisition is %+v", r)
	}
}

// Many branches may hold a lock each, and give them up at once.
func TestManyLocksAtOnce(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	var holding atomic.Int64
	const locks = 3 * store.MaxLocks
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		var branches []weir.Branch
		for i := range locks {
			branches = append(branches, weir.Branch{Name: fmt.Sprint(i), Do: func(r *weir.Run) error {
				return weir.Locked(r, fmt.Sprint("seat/", i), func(r *weir.Run, _ int64) error {
					return weir.Do(r, "sit", func(context.Context) error {
						if holding.Add(1) == locks {
							close(goOn)
						}
						<-goOn
						return nil
					})
				})
			}})
		}
		return plate{N: 1}, weir.All(r, "hall", branches...)
	})
	completed(t, startRun(t, e, "7"), 1)
	if all, err := e.Locks(t.Context(), 1000); err != nil || len(all) != 0 {
		t.Errorf("%d locks are held on, %v", len(all), err)
	}
}
