package engine

import (
	"context"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

// Settings are how one queue is worked.
type Settings struct {
	Queue       store.Queue
	Concurrency int
	Timeout     time.Duration
	Retry       Retry
	// Work handles one attempt; ctx is the attempt's.
	Work func(ctx context.Context, a *Attempt) error
}

// queue is one registered queue in this process: what it has claimed and not yet
// settled, and who works it.
//
// Two locks. mu guards the fields and is held for nanoseconds. claiming is held
// while something is claimed, from before the claim until it is delivered here,
// and while a keyed message that is not done is settled together with its
// followers. So a claim always sees which keys are blocked, and a blocked key
// never finds a follower slipping past.
type queue struct {
	e        *life
	settings Settings
	id       store.QueueID
	signal   chan struct{} // capacity 1: the claimer should look
	claiming turnstile

	mu           sync.Mutex
	ready        fifo              // claimed, free to start
	suspects     fifo              // the same, but for suspects: see suspicion
	keys         map[string]*chain // keys with a message claimed and not settled
	slots        []*Attempt        // what each worker runs
	free         []int             // slots without a worker
	held         int               // in flight: claimed and not settled
	queued       int               // of those, waiting behind another of their key
	paced        pace              // how much to claim ahead
	stale        bool              // the journal may hold more than was claimed
	open         bool              // claims and starts are allowed
	closed       bool              // for good: the engine stops
	paused       bool              // by a person, or parked
	slowed       bool              // sends into a full queue: one at a time
	feeds        map[string]fed    // what its handlers send to, by queue
	due          time.Time         // when the next deferred message is due
	stuck        int               // workers written off and not yet returned
	depth        int64             // as last seen
	deferred     int64             // of the depth
	blockedAt    time.Time         // when a key was last blocked by its message's failure
	figure       store.FigureDelta // since the last flush
	rate         float64           // done per second, smoothed
	done         int64             // settled as done, since the start
	measuredAt   time.Time
	measuredDone int64
}

// chain is the line behind a claimed message of one key.
type chain struct{ waiting []*Attempt }

func newQueue(e *life, s Settings) *queue {
	q := &queue{
		e: e, settings: s, signal: make(chan struct{}, 1), claiming: newTurnstile(),
		keys: map[string]*chain{}, feeds: map[string]fed{},
		slots: make([]*Attempt, s.Concurrency),
		free:  make([]int, s.Concurrency),
		stale: true,
	}
	for i := range q.free {
		q.free[i] = s.Concurrency - 1 - i
	}
	q.paced = newPace(s.Concurrency)
	return q
}

// look tells the claimer that there may be something to do; false if it had been told.
func (q *queue) look() bool {
	select {
	case q.signal <- struct{}{}:
		return true
	default:
		return false
	}
}

// attempts makes the deliveries of a batch into attempts.
func (q *queue) attempts(b *store.Batch) []Attempt {
	all := make([]Attempt, len(b.Deliveries))
	for i := range b.Deliveries {
		d, a := &b.Deliveries[i], &all[i]
		a.q, a.ref = q, b.BatchRef
		a.Message, a.Number, a.index = d.Message, d.Attempt, d.Index
		a.firstAt, a.crashes = d.FirstAt, d.Crashes
		a.suspect = b.Suspect
	}
	return all
}

// deliver takes in a claimed batch and starts workers for it. The caller holds claiming.
func (q *queue) deliver(b *store.Batch) {
	all := q.attempts(b)
	q.mu.Lock()
	for i := range all {
		q.admit(&all[i])
	}
	q.spawn()
	q.mu.Unlock()
}

// admit puts an attempt into the line it belongs to: its key's, or the ready.
func (q *queue) admit(a *Attempt) {
	q.held++
	if k := a.Message.Key; k != "" {
		if c := q.keys[k]; c != nil {
			c.waiting = append(c.waiting, a)
			q.queued++
			return
		}
		q.keys[k] = &chain{}
	}
	q.put(a)
}

// put makes an attempt free to start.
func (q *queue) put(a *Attempt) {
	if !a.suspect {
		q.ready.push(a)
		return
	}
	q.suspects.push(a)
	q.e.suspicion.look()
}

// spawn starts workers for what is ready, as far as slots are free.
func (q *queue) spawn() {
	for n := min(q.ready.len(), q.allowance()); n > 0; n-- {
		slot := q.free[len(q.free)-1]
		q.free = q.free[:len(q.free)-1]
		q.e.workers.Go(func() { q.serve(slot) })
	}
}

// allowance is how many more workers may start now.
func (q *queue) allowance() int {
	if !q.open || q.paused {
		return 0
	}
	if q.slowed {
		return min(len(q.free), 1-(len(q.slots)-len(q.free)))
	}
	return len(q.free)
}

// next gives the worker in a slot its next attempt; nil when it should go home.
// woken says that the claimer was woken just now: workers that never block would
// leave it no processor until nothing is ready any more.
func (q *queue) next(slot int) (a *Attempt, woken bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ready.len() == 0 || !q.open || q.paused || (q.slowed && len(q.free)+1 < len(q.slots)) {
		q.slots[slot] = nil
		q.free = append(q.free, slot)
		return nil, false
	}
	a = q.ready.pop()
	q.slots[slot] = a
	return a, q.stale && q.ready.len() <= q.paced.low() && q.look()
}

// settled is told of a delivery whose settlement is committed: the next of its key is free.
func (q *queue) settled(a *Attempt, now time.Time) {
	q.leave(a)
	k := a.Message.Key
	if k == "" {
		return
	}
	if q.deferred > 0 || now.Sub(q.blockedAt) < 2*stateInterval {
		q.stale = true // followers may have been released with it
	}
	c := q.keys[k]
	if c == nil {
		return
	}
	if len(c.waiting) == 0 {
		delete(q.keys, k)
		return
	}
	q.put(c.waiting[0])
	c.waiting = c.waiting[1:]
	q.queued--
}

// leave counts out an attempt that is settled, or given up to be handed back.
func (q *queue) leave(a *Attempt) {
	q.held--
	if a.suspect {
		a.gone.Store(true)
		q.e.suspicion.look()
	}
}

// followers takes out all that wait behind a claimed message of a key.
func (q *queue) followers(key string) []*Attempt {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.keys[key]
	if c == nil {
		return nil
	}
	waiting := c.waiting
	c.waiting = nil
	q.queued -= len(waiting)
	return waiting
}

// idle reports whether the queue has nothing to do and would take what comes. How
// much of it is the second result.
func (q *queue) idle() (bool, int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.open || q.paused || q.slowed || q.stale || q.ready.len() > 0 || len(q.free) == 0 {
		return false, 0
	}
	return true, q.room()
}

// room is how many messages to claim now; 0 while there is enough.
func (q *queue) room() int {
	if !q.open || q.paused {
		return 0
	}
	ahead := q.ready.len() + q.suspects.len() + q.queued
	if ahead > q.paced.low() {
		return 0
	}
	return max(0, min(q.paced.target+len(q.free)-ahead, store.MaxBatch, heldMax-q.held))
}

// heldMax bounds what one queue has in memory: two batches being worked and two on
// their way to being settled.
const heldMax = 4 * store.MaxBatch

// fifo is a queue of attempts in a slice that is reused.
type fifo struct {
	items []*Attempt
	head  int
}

func (f *fifo) len() int { return len(f.items) - f.head }

func (f *fifo) push(a *Attempt) { f.items = append(f.items, a) }

func (f *fifo) pop() *Attempt {
	a := f.items[f.head]
	f.items[f.head] = nil
	f.head++
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	} else if f.head >= 4096 {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	return a
}
