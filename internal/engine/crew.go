package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weir-go/weir/store"
)

// start opens a queue for claims and starts what is ready, unless the engine stops.
func (q *queue) start() {
	q.mu.Lock()
	q.open = !q.closed
	q.spawn()
	q.mu.Unlock()
}

// close ends all starts for good.
func (q *queue) close() {
	q.mu.Lock()
	q.open, q.closed = false, true
	q.mu.Unlock()
}

const heartbeatInterval = 5 * time.Second

// heartbeat says that the process lives, and ends this life when another has taken over.
func (l *life) heartbeat(ctx context.Context) error {
	return every(ctx, l.intervals.Heartbeat, l.beat, func(bool) error { return ignoreStop(ctx, l.patiently(ctx, l.st.Heartbeat)) })
}

// every calls f at each interval, and whenever it is prodded, until it fails or ctx is done.
func every(ctx context.Context, interval time.Duration, prod <-chan struct{}, f func(prodded bool) error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := f(false); err != nil {
				return err
			}
		case <-prod:
			if err := f(true); err != nil {
				return err
			}
		}
	}
}

const reapInterval = time.Second

// reaper writes off handlers that ignore their context. When as many are lost as
// the queue has workers the process stops: a supervisor starts a healthy one.
func (l *life) reaper(ctx context.Context) error {
	return every(ctx, l.intervals.Reap, nil, func(bool) error {
		now := time.Now()
		for _, w := range l.workflows {
			w.reap(now)
		}
		for _, q := range l.queues {
			if stuck := q.reap(now); stuck >= q.settings.Concurrency {
				return fmt.Errorf("%s: %d handlers ignore their context, as many as it has workers", q.settings.Queue.Name, stuck)
			}
		}
		return nil
	})
}

const (
	watchInterval = 10 * time.Millisecond  // how soon what others sent is seen
	stateInterval = 500 * time.Millisecond // how soon a pause is seen
)

// monitor sees what others did to the store: sends by other processes and callers'
// transactions, operators' acts; and how deep the queues are.
func (l *life) monitor(ctx context.Context) error {
	var statesAt time.Time
	active := true
	return every(ctx, l.intervals.Watch, l.intervals.Look, func(prodded bool) error {
		changed := false
		err := l.patiently(ctx, func(ctx context.Context) (err error) {
			changed, err = l.st.Reader().Changed(ctx)
			return err
		})
		if err != nil {
			return ignoreStop(ctx, err)
		}
		if l.operated.Swap(false) || prodded { // here, so seen at once
			changed, statesAt = true, time.Time{}
		}
		active = active || changed
		if changed {
			l.more()
		}
		if now := time.Now(); now.Sub(statesAt) >= stateInterval && (active || l.moves()) {
			statesAt, active = now, false
			return ignoreStop(ctx, l.patiently(ctx, func(ctx context.Context) error { return l.watch(ctx, now) }))
		}
		return nil
	})
}

// more has all queues and workflows claim: there may be something new.
func (l *life) more() {
	for _, q := range l.queues {
		q.more()
	}
	for _, w := range l.workflows {
		w.more()
	}
	l.exchange.more()
	l.lookForStates()
}

// waker has them claim when the store hears that others have sent something: sooner than
// the monitor sees it.
func (l *life) waker(ctx context.Context) error {
	var wakes <-chan struct{} // nil: none ever comes
	if w, ok := l.st.(store.Waker); ok {
		wakes = w.Wakes()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wakes:
			l.more()
		}
	}
}

// moves reports whether the queues' states may change without anybody else's doing.
func (l *life) moves() bool {
	for _, q := range l.queues {
		q.mu.Lock()
		moves := q.held > 0 || q.depth > 0 || q.rate > 0 || q.done != q.measuredDone
		q.mu.Unlock()
		if moves {
			return true
		}
	}
	return false
}

// Operate carries out a person's act.
func (e *Engine) Operate(ctx context.Context, a store.Act) (store.Acted, error) {
	acted, err := e.st.Operate(ctx, a)
	if err == nil && !a.DryRun {
		e.operated.Store(true)
	}
	return acted, err
}

func ignoreStop(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// watch takes over the queues' states.
func (l *life) watch(ctx context.Context, now time.Time) error {
	states, err := l.st.Reader().Queues(ctx)
	if err != nil {
		return err
	}
	for i := range states {
		s := &states[i]
		q := l.byID[s.ID]
		if q == nil {
			continue
		}
		q.mu.Lock()
		q.depth, q.deferred = s.Depth, s.Deferred
		if paused := s.Paused != nil || s.Parked; paused != q.paused {
			q.paused = paused
			q.stale = true
			q.spawn()
			q.look()
		}
		q.measure(now)
		q.mu.Unlock()
	}
	for _, q := range l.queues {
		q.restrain()
	}
	return nil
}

const rateMin = 0.01 // per second; less is nothing

// measure smooths the rate at which the queue drains.
func (q *queue) measure(now time.Time) {
	if !q.measuredAt.IsZero() {
		if seconds := now.Sub(q.measuredAt).Seconds(); seconds > 0 {
			rate := float64(q.done-q.measuredDone) / seconds
			q.rate += (rate - q.rate) * min(1, seconds/5) // over about 5 s
			switch {
			case q.rate < rate/10:
				q.rate = rate // the first measurement
			case q.rate < rateMin:
				q.rate = 0
			}
		}
	}
	q.measuredAt, q.measuredDone = now, q.done
}

// fed is what a handler sends to: a queue here, or a relay.
type fed interface {
	// isFull reports whether it holds as much as it may.
	isFull() bool
}

func (q *queue) isFull() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	capacity := int64(q.settings.Queue.Capacity)
	return capacity > 0 && q.depth >= capacity
}

// restrain slows a queue whose handlers send into a full one: what leaves with an
// acknowledgement is admitted, so its source must give way, down to one at a time.
func (q *queue) restrain() {
	q.mu.Lock()
	feeds := make([]fed, 0, len(q.feeds))
	for _, to := range q.feeds {
		feeds = append(feeds, to)
	}
	q.mu.Unlock()
	slow := false
	for _, to := range feeds {
		slow = slow || to != fed(q) && to.isFull()
	}
	q.mu.Lock()
	if q.slowed != slow {
		q.slowed = slow
		q.spawn()
	}
	q.mu.Unlock()
}

const (
	pruneRows  = 1_000                 // a step: a few milliseconds of the writer
	prunePause = 50 * time.Millisecond // between steps, so that retention takes a small share
)

// janitor deletes, in small steps, what is older than the retention.
func (l *life) janitor(ctx context.Context) error {
	interval := l.intervals.Prune
	timer := time.NewTimer(rand.N(interval))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		var p store.Pruned
		err := l.patiently(ctx, func(ctx context.Context) (err error) {
			p, err = l.st.Prune(ctx, store.Retention{Keep: l.config.Keep, Max: pruneRows})
			return err
		})
		if err != nil {
			return ignoreStop(ctx, err)
		}
		if p.More {
			timer.Reset(prunePause)
		} else {
			timer.Reset(interval)
		}
	}
}
