package engine

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

// results tells those who wait for a run's end. Of a run that ends in this process they are
// told at once. For the others the store is asked, by one of those who wait, for all of them:
// the first who comes leads, and who leaves hands the lead on.
type results struct {
	mu      sync.Mutex
	waiting map[resultKey][]*waiter
	asked   map[*waiter]bool // for whom the store is asked
	leading bool
}

type resultKey struct{ workflow, id string }

// waiter is one who waits for the end of a run.
type waiter struct {
	resultKey
	no   store.RunNo
	end  chan store.RunEnd // has room for one
	lead chan struct{}     // has room for one: ask for all from now on
}

// tell tells those who wait that a run has ended.
func (r *results) tell(workflow string, end store.RunEnd) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		return
	}
	for _, w := range r.waiting[resultKey{workflow, end.ID}] {
		w.told(end)
	}
}

func (w *waiter) told(end store.RunEnd) {
	select {
	case w.end <- end:
	default: // it has been
	}
}

func (r *results) wait(k resultKey) *waiter {
	w := &waiter{resultKey: k, end: make(chan store.RunEnd, 1), lead: make(chan struct{}, 1)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting == nil {
		r.waiting = map[resultKey][]*waiter{}
	}
	r.waiting[k] = append(r.waiting[k], w)
	return w
}

func (r *results) forget(w *waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.waiting[w.resultKey]
	if i := slices.Index(list, w); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		delete(r.waiting, w.resultKey)
	} else {
		r.waiting[w.resultKey] = list
	}
}

// ask has the store asked for a waiter; it may be the one to do so.
func (r *results) ask(w *waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked == nil {
		r.asked = map[*waiter]bool{}
	}
	r.asked[w] = true
	if !r.leading {
		r.leading = true
		w.lead <- struct{}{}
	}
}

// leave is called when nobody needs to ask for a waiter any more; leads says that it did so itself.
func (r *results) leave(w *waiter, leads bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.asked, w)
	select {
	case <-w.lead: // it was to lead just now
		leads = true
	default:
	}
	if !leads {
		return
	}
	r.leading = false
	for next := range r.asked {
		r.leading = true
		next.lead <- struct{}{}
		return
	}
}

// Result waits for a run's end. no is its number, if known: a run that is in memory
// here need not be read.
func (e *Engine) Result(ctx context.Context, workflow, id string, no store.RunNo) (store.RunEnd, error) {
	w := e.results.wait(resultKey{workflow, id})
	defer e.results.forget(w)
	if l := e.life.Load(); l != nil && l.holds(workflow, no) { // as nearly always: no timer is made, nothing is read
		select {
		case end := <-w.end:
			return end, nil
		case <-l.stopped:
		case <-ctx.Done():
			return store.RunEnd{}, ctx.Err()
		}
	}
	end, err := e.st.Reader().Runs().End(ctx, workflow, id)
	if err != nil || end.Outcome != store.Running {
		return end, err
	}
	w.no = end.No
	e.results.ask(w)
	leads := false
	defer func() { e.results.leave(w, leads) }()
	select {
	case end := <-w.end:
		return end, nil
	case <-ctx.Done():
		return store.RunEnd{}, ctx.Err()
	case <-w.lead:
		leads = true
		return e.askEnds(ctx, w)
	}
}

// How often the store is asked for the ends of runs that others may work: soon after one has
// ended, then less and less often; and not so often for many as to be a load.
const (
	endsPauseMin = 5 * time.Millisecond
	endsPauseMax = 100 * time.Millisecond
	endsPauseOf  = 50 * time.Microsecond // more, for each run that is asked for
)

// askEnds asks the store for all who wait, until the waiter that does so is told.
func (e *Engine) askEnds(ctx context.Context, w *waiter) (store.RunEnd, error) {
	pause := endsPauseMin
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case end := <-w.end:
			return end, nil
		case <-ctx.Done():
			return store.RunEnd{}, ctx.Err()
		case <-timer.C:
		}
		waiters, others := e.asked()
		found, err := e.findEnds(ctx, waiters)
		if err != nil && !away(err) {
			return store.RunEnd{}, err
		}
		if pause = min(2*pause, endsPauseMax); found {
			pause = endsPauseMin
		}
		if others {
			timer.Reset(pause + time.Duration(len(waiters))*endsPauseOf)
		} else {
			timer.Reset(e.intervals.Result)
		}
	}
}

// asked are those for whom the store is to be asked, by number. others: of some of the runs
// this process would not be told that they have ended.
func (e *Engine) asked() (waiters map[store.RunNo][]*waiter, others bool) {
	l := e.life.Load()
	alone := e.st.Info().Lease == 0 && l != nil && !l.stopping.Load()
	e.results.mu.Lock()
	defer e.results.mu.Unlock()
	waiters = make(map[store.RunNo][]*waiter, len(e.results.asked))
	for w := range e.results.asked {
		waiters[w.no] = append(waiters[w.no], w)
		others = others || !alone || l.workflows[w.workflow] == nil
	}
	return waiters, others
}

// findEnds tells those whose runs have ended.
func (e *Engine) findEnds(ctx context.Context, waiters map[store.RunNo][]*waiter) (found bool, err error) {
	for numbers := range slices.Chunk(slices.Sorted(maps.Keys(waiters)), store.MaxList) {
		ends, err := e.st.Reader().Runs().Ends(ctx, numbers)
		if err != nil {
			return found, err
		}
		for i := range ends {
			found = true
			for _, w := range waiters[ends[i].No] {
				w.told(ends[i])
			}
		}
	}
	return found, nil
}

// holds reports whether a run is in this process's memory.
func (l *life) holds(workflow string, no store.RunNo) bool {
	if no == 0 {
		return false
	}
	w := l.workflows[workflow]
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.slices[no] != nil
}
