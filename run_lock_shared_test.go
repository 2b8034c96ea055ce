package weir_test

import (
	"errors"
	"testing"
	"time"

	"github.com/weir-go/weir"
)

// A lock is the run's: whoever of it is done with it last releases it, whether one call is inside of another or in two branches.
func TestLockSharedInARun(t *testing.T) {
	t.Parallel()
	wait := func(name string) func(*weir.Run, int64) error {
		return func(r *weir.Run, _ int64) error {
			_, err := weir.WaitFor(r, name, approved)
			return err
		}
	}
	locked := func(f func(*weir.Run, int64) error) func(*weir.Run) error {
		return func(r *weir.Run) error { return weir.Locked(r, "table", f) }
	}
	done := func(*weir.Run, int64) error { return nil }
	for what, hold := range map[string]func(r *weir.Run) error{
		"inside of each other": locked(func(r *weir.Run, f int64) error {
			return errors.Join(locked(done)(r), wait("approval")(r, f))
		}),
		"in two branches": func(r *weir.Run) error {
			return weir.All(r, "both", weir.Branch{Name: "short", Do: locked(done)}, weir.Branch{Name: "long", Do: locked(wait("approval"))})
		},
		"in two branches, the other way round": func(r *weir.Run) error {
			return weir.All(r, "both", weir.Branch{Name: "long", Do: locked(wait("approval"))}, weir.Branch{Name: "short", Do: locked(done)})
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			file := newFile(t)
			work := func(r *weir.Run, in ticket) (plate, error) { return plate{N: 1}, hold(r) }
			e, stop := dining(t, file, work)
			startRun(t, e, "7")
			inState(t, e, "7", weir.RunWaiting)
			startRun(t, e, "8")
			inState(t, e, "8", weir.RunWaiting)
			stop() // what is counted is what is recorded
			e, _ = dining(t, file, work)
			if l := lockOf(t, e, "table"); l.HolderID != "staff.dine/7" || len(l.Waiters) != 1 {
				t.Errorf("the lock is %+v, want it held by 7, with 8 in line", l)
			}
			tell(t, e, "7", 1)
			completed(t, weir.Find(e, dine, "7"), 1)
			eventually(t, "run 8 holds it", func() bool { return lockOf(t, e, "table").HolderID == "staff.dine/8" })
			tell(t, e, "8", 1)
			completed(t, weir.Find(e, dine, "8"), 1)
			if l := lockOf(t, e, "table"); l.Name != "" {
				t.Errorf("the lock is held on: %+v", l)
			}
		})
	}
}

// Two branches that wait in one line for a lock both get it, and one that gives up leaves the place to the other.
func TestBranchesInLine(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	e, _ := dining(t, file, func(r *weir.Run, in ticket) (plate, error) {
		if r.ID() == "7" { // the holder
			return plate{N: 1}, weir.Locked(r, "table", func(r *weir.Run, _ int64) error {
				_, err := weir.WaitFor(r, "approval", approved)
				return err
			})
		}
		branch := func(name string, o ...weir.Within) weir.Branch {
			return weir.Branch{Name: name, Do: func(r *weir.Run) error {
				err := weir.Locked(r, "table", func(*weir.Run, int64) error { return nil }, o...)
				if errors.Is(err, weir.ErrWithin) {
					return nil
				}
				return err
			}}
		}
		err := weir.All(r, "line", branch("one"), branch("hasty", weir.Within(10*time.Millisecond)), branch("two"))
		return plate{N: 1}, err
	})
	startRun(t, e, "7")
	inState(t, e, "7", weir.RunWaiting)
	startRun(t, e, "8")
	eventually(t, "the hasty branch has given up", func() bool {
		for _, r := range storyOf(t, e, "8").Records {
			if r.Name == "line/hasty/lock[table]" && r.Reason != "" && r.Took > 0 {
				return true
			}
		}
		return false
	})
	tell(t, e, "7", 1)
	completed(t, weir.Find(e, dine, "7"), 1)
	completed(t, weir.Find(e, dine, "8"), 1)
	if l := lockOf(t, e, "table"); l.Name != "" {
		t.Errorf("the lock is held on: %+v", l)
	}
}
