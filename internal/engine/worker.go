package engine

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/weir-go/weir/store"
)

// serve is a worker: it works what is ready until there is nothing, then goes
// home. Workers are started by need, so an idle queue costs no goroutine.
func (q *queue) serve(slot int) {
	for {
		a, woken := q.next(slot)
		if a == nil {
			return
		}
		if woken {
			runtime.Gosched()
		}
		if !q.attempt(a) {
			return // written off: the slot has another worker by now
		}
	}
}

// attempt works one message and passes its outcome on; false if it was written off meanwhile.
func (q *queue) attempt(a *Attempt) bool {
	a.begin(time.Now())
	err := q.call(a)
	if !a.end() {
		q.late(a)
		return false
	}
	a.took = time.Since(a.started)
	q.conclude(a, err)
	return true
}

// late is told of a handler that was written off and has ended after all.
func (q *queue) late(a *Attempt) {
	q.mu.Lock()
	q.stuck--
	q.mu.Unlock()
	q.e.log.Warn("a handler that was written off has returned", keyQueue, q.settings.Queue.Name, keyMessage, a.Message.ID)
}

// begin notes the start; under the attempt's lock because the reaper reads it.
func (a *Attempt) begin(now time.Time) {
	a.mu.Lock()
	a.started = now
	if a.firstAt.IsZero() {
		a.firstAt = a.q.e.stored(now)
	}
	a.mu.Unlock()
}

// call runs the handler; a panic becomes an error with its stack. runtime.Goexit in a
// handler ends the worker's goroutine, so it becomes one too.
func (q *queue) call(a *Attempt) (err error) {
	returned := false
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p, debug.Stack()}
		} else if !returned {
			err = errors.New("the handler called runtime.Goexit")
			if a.end() {
				a.took = time.Since(a.started)
				q.abandonSlot(a)
				q.conclude(a, err)
			} else {
				q.late(a)
			}
		}
	}()
	err = q.settings.Work(a, a)
	returned = true
	return err
}

// conclude judges how an attempt ended and has it settled.
func (q *queue) conclude(a *Attempt, err error) {
	v := judge(ended{
		err: err, attempt: a.Number, firstAt: a.firstAt, now: q.e.stored(a.started).Add(a.took),
		luck: rand.Float64(), stopping: a.stopped(),
	}, q.settings.Retry)
	if v.Verdict == 0 {
		q.mu.Lock()
		q.leave(a)
		q.mu.Unlock()
		return // the stop hands it back
	}
	q.settle(a, v)
}

// settle has a verdict written: at once for a key that is blocked by it, else with the next group.
func (q *queue) settle(a *Attempt, v verdict) {
	a.conclude(v)
	if v.Verdict == store.Done || a.Message.Key == "" {
		q.e.acks.push(a)
		return
	}
	q.block(a)
}

// block settles a keyed message that is not done, together with its followers:
// they wait behind it in the store. See queue.claiming.
func (q *queue) block(a *Attempt) {
	q.claiming.Lock()
	defer q.claiming.Unlock()
	followers := q.followers(a.Message.Key)
	for _, f := range followers {
		a.change.Settle = append(a.change.Settle, f.behind())
	}
	err := q.e.commitOne(q.e.patience, &a.change)
	q.mu.Lock()
	delete(q.keys, a.Message.Key)
	for _, f := range followers {
		q.leave(f)
	}
	q.leave(a)
	q.count(a, time.Now())
	q.stale = true // followers may be released, or refused and still here
	q.blockedAt = time.Now()
	q.mu.Unlock()
	if err != nil && !errors.Is(err, store.ErrFenced) {
		q.e.fail(err)
		return
	}
	q.note(a, err)
	q.look()
}

// abandonSlot gives the slot of an attempt, whose worker is lost, to a new worker.
func (q *queue) abandonSlot(a *Attempt) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, running := range q.slots {
		if running == a {
			q.slots[i] = nil
			q.free = append(q.free, i)
		}
	}
	q.spawn()
}

// reap writes off attempts whose handler is past its timeout and grace. It gives
// the number of workers lost so.
func (q *queue) reap(now time.Time) int {
	q.mu.Lock()
	var late []*Attempt
	for _, a := range q.slots {
		if a != nil && a.overdue(now) {
			late = append(late, a)
		}
	}
	q.mu.Unlock()
	for _, a := range late {
		if !a.end() {
			continue
		}
		q.mu.Lock()
		q.stuck++
		q.mu.Unlock()
		a.took = now.Sub(a.started)
		q.e.log.Error("a handler ignores its context and is written off",
			keyQueue, q.settings.Queue.Name, keyMessage, a.Message.ID, "after", a.took)
		q.abandonSlot(a)
		q.conclude(a, &writtenOffError{a.took})
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.stuck
}

func (a *Attempt) overdue(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.returned && !a.started.IsZero() && now.Sub(a.started) > a.q.settings.Timeout+stuckGrace
}

// stuckGrace is how long a handler may go on after its context was cancelled.
const stuckGrace = 5 * time.Second
