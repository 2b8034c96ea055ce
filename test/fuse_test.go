package test

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/store/storetest"
)

// fuse ends the process just before, or just after, a call that may write to the
// store: the n-th of all, or the first of a kind. Otherwise it only counts.
type fuse struct {
	report report
	n      int
	kind   string
	past   bool // after the call, not before it

	mu    sync.Mutex
	count int
}

// newFuse reads "before 7" or "after End".
func newFuse(spec string, r report) *fuse {
	f := &fuse{report: r}
	when, at, _ := strings.Cut(spec, " ")
	f.past = when == "after"
	var err error
	if f.n, err = strconv.Atoi(at); err != nil {
		f.kind = at
	}
	return f
}

// opener opens the store in a file with the fuse on it.
func (f *fuse) opener(file string) store.Opener {
	faults := &storetest.Faults{
		Before: func(c storetest.Call) error { return f.call(c, false) },
		After:  func(c storetest.Call) error { return f.call(c, true) },
	}
	return func(ctx context.Context) (store.Store, error) {
		s, err := faults.Opener(sqlite.File(file))(ctx)
		return fused{s, f}, err
	}
}

func (f *fuse) call(c storetest.Call, past bool) error {
	if c.Method != storetest.Claim { // see fused
		f.burn(string(c.Method), past)
	}
	return nil
}

// burn counts a call, if it is on the fuse's side of it.
func (f *fuse) burn(kind string, past bool) {
	if past != f.past {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	if f.count == f.n || kind == f.kind {
		when := "before"
		if past {
			when = "after"
		}
		f.report.say("died %s-%s", when, kind)
		die()
	}
}

// fused is a store of which claims count only if they found something: the others
// write nothing. Which will, nobody knows before; to end before one is no other
// than to end after the call before it.
type fused struct {
	store.Store
	fuse *fuse
}

func (s fused) Claim(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
	c, err := s.Store.Claim(ctx, r)
	if err == nil && c.Batch != nil {
		s.fuse.burn(string(storetest.Claim), true)
	}
	return c, err
}
