package engine

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

// committer is group commit without a goroutine of its own: the first who comes
// leads and commits what is there; those who come meanwhile wait, and when the
// leader is done one of them leads the next group. So a lone sender pays no
// hand-over, and many pay one durable commit together. Groups are committed one
// after another, and each is reported (after) before the next begins.
type committer struct {
	st store.Store
	// before returns the idle queues, for which what is sent may be claimed at once;
	// after is told of each group committed, with its error.
	before func(*store.Group)
	after  func(*store.Group, error)

	entries sync.Pool // of *entry
	held    heldLine

	mu      sync.Mutex
	leading bool
	waiting []*entry
	recent  int  // entries in the last groups, fading
	many    bool // somebody waits who brings many changes: no need to gather more
	// A commit is under way, and takes long; the timer finds that out.
	committing, slow bool
	timer            *time.Timer
	spare            []*entry // the other half of a pair of slices, swapped by leaders
	group            store.Group
}

// entry is one caller's changes on their way.
type entry struct {
	own     store.Change // of a caller with no change of its own
	one     [1]*store.Change
	changes []*store.Change
	weight  int       // changes and messages
	wake    chan call // has room for a nudge and what comes after it
	called  bool      // to lead: no longer free to withdraw
	err     error
}

// call wakes a waiting caller.
type call uint8

const (
	lead  call = iota + 1 // the next group is yours to commit
	done                  // your changes are decided
	nudge                 // this takes long: look to your context from now on
)

// groupWeight bounds a group to some 20 ms of work, so that its latency stays
// bounded however many come.
const groupWeight = 8_000

func (c *committer) entry() *entry {
	if e, ok := c.entries.Get().(*entry); ok {
		return e
	}
	return &entry{wake: make(chan call, 2)}
}

// send commits messages from outside, and states that they tell of, as one change.
func (c *committer) send(ctx context.Context, messages []*store.Message, states []store.State) error {
	e := c.entry()
	e.own = store.Change{Sends: messages, States: states, Outside: true}
	e.one[0] = &e.own
	e.changes, e.weight = e.one[:], 1+len(messages)+len(states)
	refused, err := c.do(ctx, e)
	if err == nil {
		err = refused
	}
	return err
}

// commitOne commits one change and returns its error, or the database's.
func (c *committer) commitOne(ctx context.Context, change *store.Change) error {
	e := c.entry()
	e.one[0] = change
	e.changes, e.weight = e.one[:], 1+len(change.Sends)+len(change.States)
	if _, err := c.do(ctx, e); err != nil {
		return err
	}
	return change.Err
}

// commit commits changes, in their order, in one group. The error is the database's. Those
// whose keys others hold come back with ErrKeyHeld: see apart.
func (c *committer) commit(ctx context.Context, changes []*store.Change) error {
	e := c.entry()
	e.changes, e.weight = changes, len(changes)
	for _, change := range changes {
		e.weight += len(change.Sends) + len(change.States)
	}
	_, err := c.do(ctx, e)
	return err
}

// do has an entry committed and gives it back to the pool: refused is the error of
// the entry's own change, err the database's.
func (c *committer) do(ctx context.Context, e *entry) (refused, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.waiting = append(c.waiting, e)
	c.many = c.many || len(e.changes) >= manyChanges
	leads, slow := !c.leading, c.slow
	c.leading = true
	c.mu.Unlock()
	if !leads {
		next, err := c.wait(ctx, e, slow)
		if err != nil {
			return nil, err
		}
		leads = next == lead
	}
	if leads {
		c.lead(ctx, e)
	}
	if one := e.one[0]; e.err == nil && one != nil && one.Err != nil && errors.Is(one.Err, store.ErrKeyHeld) {
		e.err = c.apart(ctx, one)
	}
	refused, err = e.own.Err, e.err
	e.own, e.changes, e.one[0], e.err, e.called = store.Change{}, nil, nil, nil, false
	c.entries.Put(e)
	return refused, err
}

// wait waits to be called. A commit is short, so at first the context is left
// alone: a select on a channel that all senders share costs them more than the
// rest of the wait. Whoever is nudged looks to it.
func (c *committer) wait(ctx context.Context, e *entry, slow bool) (call, error) {
	if !slow {
		if next := <-e.wake; next != nudge {
			return next, nil
		}
	}
	for {
		select {
		case next := <-e.wake:
			if next != nudge {
				return next, nil
			}
		case <-ctx.Done():
			if c.withdraw(e) {
				return 0, context.Cause(ctx)
			}
			ctx = context.WithoutCancel(ctx) // taken already: its outcome is near
		}
	}
}

// nudgeAfter is how long a commit may take before those who wait look to their contexts.
const nudgeAfter = 5 * time.Millisecond

// nudgeAll tells all who wait that the commit under way takes long.
func (c *committer) nudgeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.committing || c.slow {
		return
	}
	c.slow = true
	for _, e := range c.waiting {
		if len(e.wake) == 0 {
			e.wake <- nudge
		}
	}
}

// underWay brackets the commit of a group.
func (c *committer) underWay(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.committing, c.slow = yes, false
	switch {
	case !yes:
		c.timer.Stop()
	case c.timer == nil:
		c.timer = time.AfterFunc(nudgeAfter, c.nudgeAll)
	default:
		c.timer.Reset(nudgeAfter)
	}
}

// withdraw takes back an entry that no leader has taken yet.
func (c *committer) withdraw(e *entry) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, w := range c.waiting {
		if w == e && !e.called {
			c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// lead commits one group, own among it, and hands the lead on.
func (c *committer) lead(ctx context.Context, own *entry) {
	c.gather()
	c.mu.Lock()
	taken := c.take(own)
	c.recent = max(len(taken), c.recent/2)
	c.mu.Unlock()

	g := &c.group
	g.Changes, g.Held = g.Changes[:0], store.HeldIsRefused
	for _, e := range taken {
		g.Changes = append(g.Changes, e.changes...)
	}
	g.Eager, g.Claimed = g.Eager[:0], nil
	c.before(g)
	// The leader's own context must not undo what others wait for. Alone it may give
	// up waiting for the write lock: a caller's transaction can be open for long.
	alone := len(taken) == 1
	of := ctx
	if !alone {
		of = context.WithoutCancel(ctx)
	}
	c.underWay(true)
	err := c.st.Commit(of, g)
	c.underWay(false)
	if err != nil && alone && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		c.after(g, errGivenUp)
	} else {
		c.after(g, err)
	}
	clear(g.Changes)

	c.mu.Lock()
	if len(c.waiting) > 0 {
		c.waiting[0].called = true
		c.waiting[0].wake <- lead
	} else {
		c.leading = false
	}
	for _, e := range taken {
		e.err = err
		if e != own {
			e.wake <- done
		}
	}
	clear(taken)
	c.spare = taken[:0]
	c.mu.Unlock()
}

// gather lets those come who are about to: after a group of many, they have just
// been woken and are on their way to send again. Without it groups shrink to what
// few happen to be early. A lone sender yields to nobody.
func (c *committer) gather() {
	for range gatherYields {
		c.mu.Lock()
		enough := c.many || len(c.waiting) >= c.recent-c.recent/8
		c.mu.Unlock()
		if enough {
			return
		}
		runtime.Gosched()
	}
}

// errGivenUp is a commit that its only sender gave up: no fault of the store.
var errGivenUp = errors.New("the sender gave up")

const (
	gatherYields = 6
	manyChanges  = 64 // of one entry
)

// take removes from the waiting those of the next group: the leader's own entry
// and, in order, as many others as the bound allows.
func (c *committer) take(own *entry) []*entry {
	n, taken := 0, c.spare[:0]
	rest := 0
	for _, e := range c.waiting {
		if e == own || n+e.weight <= groupWeight {
			n += e.weight
			taken = append(taken, e)
		} else {
			c.waiting[rest] = e
			rest++
		}
	}
	c.many = false
	clear(c.waiting[rest:])
	c.waiting = c.waiting[:rest]
	return taken
}
