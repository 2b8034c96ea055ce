package engine

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

// committer is group commit without a goroutine of its own: the first who comes
// leads and commits what is there; those who come meanwhile wait, and when the
// leader is done one of them leads the next group. So a lone sender pays no
// hand-over, and many pay one durable commit together.
//
// Where the store bears it a group may fly, that is, be committed, while another
// does (most). What has an order of its own stays serial: settlements, closures,
// runs and sends with keys fly in one group at a time, and each such group is
// reported (after) before the next is formed. Plain sends, which nothing orders but that
// a sender has its answer before it sends again, may fly beside it.
type committer struct {
	st store.Store
	// before looks for the idle queues for which what is sent may be claimed at once;
	// after is told of each group committed, with its error.
	before func(*inFlight)
	after  func(*inFlight, error)
	most   int // groups in flight at once; 0: one

	entries sync.Pool // of *entry
	flights sync.Pool // of *inFlight
	held    heldLine

	mu      sync.Mutex
	leading bool // somebody forms the next group
	waiting []*entry
	weight  int         // of the waiting
	plain   int         // of those, the weight of plain ones
	flying  []*inFlight // the oldest first
	ordered bool        // one of them is not plain
	recent  int         // weight of all who came lately, fading
	many    bool        // somebody waits who brings many changes: no need to gather more
	slow    bool        // a group in flight takes long; the timer finds that out
	timer   *time.Timer
}

// inFlight is a group on its way to the disk.
type inFlight struct {
	group  store.Group
	taken  []*entry
	weight int
	plain  bool
	began  time.Time
	lent   *life // whose queues the group may claim for
}

// entry is one caller's changes on their way.
type entry struct {
	own     store.Change // of a caller with no change of its own
	one     [1]*store.Change
	changes []*store.Change
	weight  int       // changes and messages
	plain   bool      // it may fly beside any other
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

const (
	// flightsMost is how many groups fly at once where the store bears it. With two, one is
	// formed and written while the other waits for the disk. Each more costs the server more a
	// message: 2.3 µs of CPU with one, 2.8 with two, 3.0 with three, 3.2 with four.
	flightsMost = 2
	// besideWeight is from which weight on a group flies beside another in any case, and besideLeast from
	// which on if it is half of what comes. Smaller ones gain more by what comes meanwhile: a commit costs as much as
	// some 30 messages, and more when it has to share the processors and the ends of the indexes with another.
	besideWeight = 1_000
	besideLeast  = 50
)

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
	e.changes, e.weight, e.plain = e.one[:], 1+len(messages)+len(states), isPlain(&e.own)
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
	e.changes, e.weight, e.plain = e.one[:], 1+len(change.Sends)+len(change.States), isPlain(change)
	if _, err := c.do(ctx, e); err != nil {
		return err
	}
	return change.Err
}

// isPlain reports whether a change is sends and nothing else, to be in order with nothing.
func isPlain(c *store.Change) bool {
	if len(c.Sends) == 0 || len(c.Settle) > 0 || len(c.Starts) > 0 || len(c.Runs) > 0 || c.Run != nil || len(c.Closures) > 0 ||
		len(c.States) > 0 || c.Arrival != nil || len(c.Drained) > 0 {
		return false
	}
	for _, m := range c.Sends {
		if m.Key != "" || m.Dedup != "" || m.Origin != nil {
			return false
		}
	}
	return true
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
	leads, slow := c.join(e)
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
	e.own, e.changes, e.one[0], e.err, e.called, e.plain = store.Change{}, nil, nil, nil, false, false
	c.entries.Put(e)
	return refused, err
}

// join puts an entry among the waiting; leads says that it is to lead the next group.
func (c *committer) join(e *entry) (leads, slow bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, e)
	c.weighs(e, 1)
	c.many = c.many || len(e.changes) >= manyChanges
	if c.mayFly() && c.eligible(e) {
		c.leading = true
		return true, c.slow
	}
	return false, c.slow
}

// weighs counts an entry in, or (with -1) out of the waiting.
func (c *committer) weighs(e *entry, n int) {
	c.weight += n * e.weight
	if e.plain {
		c.plain += n * e.weight
	}
}

// eligible reports whether an entry may fly with the next group.
func (c *committer) eligible(e *entry) bool { return e.plain || !c.ordered }

// mayFly reports whether somebody is to form a group now.
func (c *committer) mayFly() bool {
	switch {
	case c.leading:
		return false
	case len(c.flying) == 0:
		return true
	case len(c.flying) >= c.most:
		return false
	}
	enough := c.beside()
	return c.slow || c.plain >= enough || !c.ordered && c.weight >= enough
}

// beside is the weight that flies beside another group: two halves of what comes take turns, one being
// formed and written while the other waits for the disk.
func (c *committer) beside() int {
	if half := (c.recent + 1) / 2; half >= besideLeast {
		return min(half, besideWeight)
	}
	return besideWeight
}

// enough is the weight for which a leader waits.
func (c *committer) enough() int {
	if c.most > 1 {
		return min(c.recent, c.beside())
	}
	return c.recent
}

// callNext has the first of the waiting who may lead the next group, if one is to be formed.
func (c *committer) callNext() {
	if len(c.waiting) == 0 || !c.mayFly() {
		return
	}
	for _, e := range c.waiting {
		if c.eligible(e) {
			c.leading, e.called = true, true
			e.wake <- lead
			return
		}
	}
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

// nudgeAll tells all who wait that a group in flight takes long. Others need not wait for it.
func (c *committer) nudgeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.flying) == 0 || c.slow {
		return
	}
	if left := nudgeAfter - time.Since(c.flying[0].began); left > 0 { // it was set for one that has landed
		c.timer.Reset(left)
		return
	}
	c.slow = true
	for _, e := range c.waiting {
		if len(e.wake) == 0 {
			e.wake <- nudge
		}
	}
	c.callNext()
}

// takesOff counts a group as in flight.
func (c *committer) takesOff(f *inFlight) {
	f.began = time.Now()
	c.flying = append(c.flying, f)
	c.ordered = c.ordered || !f.plain
	switch {
	case len(c.flying) > 1: // the timer is set for the oldest
	case c.timer == nil:
		c.timer = time.AfterFunc(nudgeAfter, c.nudgeAll)
	default:
		c.timer.Reset(nudgeAfter)
	}
}

// lands counts it out again.
func (c *committer) lands(f *inFlight) {
	c.flying = slices.DeleteFunc(c.flying, func(other *inFlight) bool { return other == f })
	c.ordered = slices.ContainsFunc(c.flying, func(other *inFlight) bool { return !other.plain })
	c.slow = c.slow && len(c.flying) > 0 && time.Since(c.flying[0].began) >= nudgeAfter
	switch {
	case len(c.flying) == 0:
		c.timer.Stop()
	case !c.slow:
		c.timer.Reset(nudgeAfter - time.Since(c.flying[0].began))
	}
}

// present is the weight of all who wait, or fly.
func (c *committer) present() int {
	n := c.weight
	for _, f := range c.flying {
		n += f.weight
	}
	return n
}

// withdraw takes back an entry that no leader has taken yet.
func (c *committer) withdraw(e *entry) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, w := range c.waiting {
		if w == e && !e.called {
			c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
			c.weighs(e, -1)
			return true
		}
	}
	return false
}

// lead forms one group, own among it, hands the lead on, and commits the group.
func (c *committer) lead(ctx context.Context, own *entry) {
	c.gather()
	c.mu.Lock()
	f := c.take(own)
	c.takesOff(f)
	c.leading = false
	c.callNext()
	c.mu.Unlock()

	g := &f.group
	g.Held = store.HeldIsRefused
	for _, e := range f.taken {
		g.Changes = append(g.Changes, e.changes...)
	}
	c.before(f)
	// The leader's own context must not undo what others wait for. Alone it may give
	// up waiting for the write lock: a caller's transaction can be open for long.
	alone := len(f.taken) == 1
	of := ctx
	if !alone {
		of = context.WithoutCancel(ctx)
	}
	err := c.st.Commit(of, g)
	if err != nil && alone && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		c.after(f, errGivenUp)
	} else {
		c.after(f, err)
	}

	c.mu.Lock()
	c.recent = max(c.present(), c.recent/2)
	c.lands(f)
	c.callNext()
	c.mu.Unlock()
	for _, e := range f.taken { // not under the lock: others go on meanwhile
		e.err = err
		if e != own {
			e.wake <- done
		}
	}
	clear(g.Changes)
	clear(f.taken)
	*f = inFlight{group: store.Group{Changes: g.Changes[:0], Eager: g.Eager[:0]}, taken: f.taken[:0]}
	c.flights.Put(f)
}

// gather lets those come who are about to: after a group of many, they have just
// been woken and are on their way to send again. Without it groups shrink to what
// few happen to be early. A lone sender yields to nobody.
func (c *committer) gather() {
	for range gatherYields {
		c.mu.Lock()
		enough := c.many || len(c.flying) > 0 || c.weight >= c.enough()
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
// and, in order, as many others as may fly and the bound allows.
func (c *committer) take(own *entry) *inFlight {
	f, ok := c.flights.Get().(*inFlight)
	if !ok {
		f = &inFlight{}
	}
	rest := 0
	f.plain = true
	for _, e := range c.waiting {
		if e == own || c.eligible(e) && f.weight+e.weight <= groupWeight {
			f.weight += e.weight
			f.taken = append(f.taken, e)
			f.plain = f.plain && e.plain
			c.weighs(e, -1)
		} else {
			c.waiting[rest] = e
			rest++
		}
	}
	c.many = false
	clear(c.waiting[rest:])
	c.waiting = c.waiting[:rest]
	return f
}
