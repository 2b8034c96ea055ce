package engine

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/weir-go/weir/store"
)

// gate is a store whose Commit waits to be let through, so that a test decides
// what gathers meanwhile. All else is unimplemented.
type gate struct {
	store.Store
	begun  chan int // the number of changes of the group that waits
	finish chan error
}

func (g *gate) Commit(ctx context.Context, group *store.Group) error {
	g.begun <- len(group.Changes)
	if err := <-g.finish; err != nil {
		return err
	}
	return ctx.Err()
}

func newGate() (*gate, *committer) {
	g := &gate{begun: make(chan int), finish: make(chan error)}
	return g, &committer{st: g, before: func(*inFlight) {}, after: func(*inFlight, error) {}}
}

// waitFor blocks until n entries wait behind the group under way.
func (c *committer) waitFor(n int) {
	for {
		c.mu.Lock()
		waiting := len(c.waiting)
		c.mu.Unlock()
		if waiting >= n {
			return
		}
	}
}

func TestCommitterGathersWhileACommitIsUnderWay(t *testing.T) {
	g, c := newGate()
	var callers sync.WaitGroup
	send := func() {
		callers.Go(func() {
			if err := c.commitOne(t.Context(), &store.Change{}); err != nil {
				t.Errorf("commitOne = %v, want nil", err)
			}
		})
	}
	send()
	if n := <-g.begun; n != 1 {
		t.Errorf("first group has %d changes, want 1: the first does not wait for others", n)
	}
	for range 63 {
		send()
	}
	c.waitFor(63)
	g.finish <- nil
	if n := <-g.begun; n != 63 {
		t.Errorf("second group has %d changes, want all 63 that came meanwhile", n)
	}
	g.finish <- nil
	callers.Wait()
}

func TestCommitterTellsEachCallerItsOwnOutcome(t *testing.T) {
	g, c := newGate()
	refusedErr, brokenErr := errors.New("refused"), errors.New("disk broken")
	outcomes := make(chan error, 2)
	go func() { outcomes <- c.commitOne(t.Context(), &store.Change{Err: refusedErr}) }()
	<-g.begun
	go func() { outcomes <- c.commitOne(t.Context(), &store.Change{}) }()
	c.waitFor(1)
	g.finish <- nil
	if err := <-outcomes; err != refusedErr {
		t.Errorf("commitOne of a refused change = %v, want %v", err, refusedErr)
	}
	<-g.begun
	g.finish <- brokenErr
	if err := <-outcomes; err != brokenErr {
		t.Errorf("commitOne on a broken store = %v, want %v", err, brokenErr)
	}
}

func TestCommitterLetsAWaiterWithdraw(t *testing.T) {
	g, c := newGate()
	first := make(chan error, 1)
	go func() { first <- c.commitOne(t.Context(), &store.Change{}) }()
	<-g.begun
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() { second <- c.commitOne(ctx, &store.Change{}) }()
	c.waitFor(1)
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("commitOne with a cancelled context = %v, want context.Canceled", err)
	}
	g.finish <- nil
	if err := <-first; err != nil {
		t.Errorf("commitOne = %v, want nil", err)
	}
	if c.leading || len(c.waiting) != 0 {
		t.Errorf("after a withdrawal: leading %t, %d waiting, want idle", c.leading, len(c.waiting))
	}
}

func TestCommitterBoundsAGroup(t *testing.T) {
	g, c := newGate()
	var callers sync.WaitGroup
	heavy := make([]*store.Change, groupWeight-1)
	for i := range heavy {
		heavy[i] = &store.Change{}
	}
	for range 4 {
		callers.Go(func() {
			if err := c.commit(t.Context(), heavy); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range 4 {
		if n := <-g.begun; n > groupWeight {
			t.Errorf("a group has %d changes, want at most %d", n, groupWeight)
		}
		c.waitFor(3 - i) // or there is nothing to bound
		g.finish <- nil
	}
	callers.Wait()
}

// The leader's context must not undo what others wait for.
func TestCommitterCarriesOnForTheOthers(t *testing.T) {
	g, c := newGate()
	first := make(chan error, 1)
	go func() { first <- c.commitOne(t.Context(), &store.Change{}) }()
	<-g.begun
	ctx, cancel := context.WithCancel(t.Context())
	outcomes := make(chan error, 2)
	go func() { outcomes <- c.commitOne(ctx, &store.Change{}) }() // leads the next group
	c.waitFor(1)
	go func() { outcomes <- c.commitOne(t.Context(), &store.Change{}) }()
	c.waitFor(2)
	g.finish <- nil
	if n := <-g.begun; n != 2 {
		t.Errorf("the group has %d changes, want 2", n)
	}
	cancel()
	g.finish <- nil
	for range 2 {
		if err := <-outcomes; err != nil {
			t.Errorf("commitOne beside a leader whose context ended = %v, want nil", err)
		}
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
}
