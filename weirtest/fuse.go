package weirtest

import (
	"slices"
	"sync"

	"github.com/weir-go/weir/store"
)

// fuse counts the points at which a scenario's processes write, and ends the
// process at one of them. It burns once; a new process then goes on. A nil fuse does nothing.
type fuse struct {
	manner manner
	struck chan struct{}

	cancels int           // the point after which all runs are cancelled, from 1; 0: none is
	reached chan struct{} // closed when it is written

	mu     sync.Mutex
	at     int // the point of the crash, from 1; 0: none
	names  *names
	points []point
	burnt  bool // there was a crash
	dead   bool // there was, and no new process has begun since
}

// point is one moment at which something is written.
type point struct {
	what     string
	claim    bool // no crash comes before a claim
	closures bool // it runs code of the user's in the transaction
}

func newFuse(at int, m manner) *fuse {
	return &fuse{at: at, manner: m, struck: make(chan struct{}), reached: make(chan struct{}), names: newNames()}
}

// before counts a point that is about to be written, and crashes there or not.
func (f *fuse) before(what func() string, closures bool) (n int, err error) {
	if f == nil {
		return 0, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return 0, errCrash
	}
	return f.count(point{what: what(), closures: closures})
}

// splits says whether the crash comes in the transaction of point n.
func (f *fuse) splits(n int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return n == f.at && f.manner == within
}

// crash is one that comes not at a point: in a transaction, or when the world is to change.
func (f *fuse) crash() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.burn()
}

// after is told that a point is written. The answer is lost if there was a crash meanwhile.
func (f *fuse) after(n int, what func() string) error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.points[n-1].what = what() // by now things have their numbers
	return f.passed(n)
}

// claimed is told of a claim that has found something.
func (f *fuse) claimed(c *store.Claimed) error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return errCrash
	}
	n, err := f.count(point{what: f.names.claimed(c), claim: true})
	if err != nil {
		return err
	}
	return f.passed(n)
}

// count adds a point. The caller holds mu.
func (f *fuse) count(p point) (int, error) {
	f.points = append(f.points, p)
	n := len(f.points)
	if n == f.at && f.manner == before {
		return n, f.burn()
	}
	return n, nil
}

// passed is the answer of a point that is written. The caller holds mu.
func (f *fuse) passed(n int) error {
	if f.cancels > 0 && n >= f.cancels {
		select {
		case <-f.reached:
		default:
			close(f.reached)
		}
	}
	if n == f.at && f.manner == after {
		return f.burn()
	}
	if f.dead {
		return errCrash
	}
	return nil
}

// burn is the crash. The caller holds mu.
func (f *fuse) burn() error {
	if !f.burnt {
		f.burnt, f.dead = true, true
		close(f.struck)
	}
	return errCrash
}

// blown says whether the process is dead.
func (f *fuse) blown() bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

// armed says whether a crash may still come.
func (f *fuse) armed() bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.burnt
}

// defuse lets no more crash come.
func (f *fuse) defuse() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = 0
}

// renew is told that a new process begins.
func (f *fuse) renew() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = false
}

// passedPoints are the points so far.
func (f *fuse) passedPoints() []point {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.points)
}

// The fuse's names, for the tap. They are asked for with mu held.

func (f *fuse) change(c *store.Change) string { return f.names.change(c) }

func (f *fuse) declared(states []store.QueueState) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names.declared(states)
}
