package engine

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

// acker settles what workers have finished, so that a worker goes on without
// waiting for the disk: all that finish during one commit go into the next.
type acker struct {
	e      *life
	signal chan struct{} // capacity 1

	mu      sync.Mutex
	pending []*Attempt
	spare   []*Attempt
}

func (k *acker) push(a *Attempt) {
	k.mu.Lock()
	k.pending = append(k.pending, a)
	n := len(k.pending)
	k.mu.Unlock()
	switch {
	case n == 1:
		select {
		case k.signal <- struct{}{}:
		default:
		}
	case n%ackerTurn == 0: // it was woken long ago: let it run
		runtime.Gosched()
	}
}

// ackerTurn is after how many outcomes a worker lets the acker have its processor.
const ackerTurn = 256

// run settles until done is closed and nothing is left.
func (k *acker) run(done <-chan struct{}) {
	changes := make([]*store.Change, 0, store.MaxBatch)
	var apart sync.WaitGroup
	for {
		select {
		case <-k.signal:
		case <-done:
			apart.Wait()
			if k.flush(&changes, &apart) {
				return
			}
			continue
		}
		k.flush(&changes, &apart)
	}
}

// flush commits all that is pending; true if there was nothing.
func (k *acker) flush(changes *[]*store.Change, apart *sync.WaitGroup) bool {
	k.mu.Lock()
	batch := k.pending
	k.pending, k.spare = k.spare[:0], nil
	k.mu.Unlock()
	if len(batch) == 0 {
		k.spare = batch
		return true
	}
	*changes = (*changes)[:0]
	for _, a := range batch {
		*changes = append(*changes, &a.change)
	}
	if err := k.e.commit(k.e.patience, *changes); err != nil {
		k.e.fail(err)
	} else {
		k.report(k.setApart(batch, apart))
	}
	clear(batch)
	k.mu.Lock()
	k.spare = batch[:0]
	k.mu.Unlock()
	return false
}

// setApart takes out of a batch what sends with a key that others hold, and goes on with
// that beside the rest.
func (k *acker) setApart(batch []*Attempt, apart *sync.WaitGroup) []*Attempt {
	n := 0
	for _, a := range batch {
		if a.change.Err == nil || !errors.Is(a.change.Err, store.ErrKeyHeld) {
			batch[n] = a
			n++
			continue
		}
		apart.Go(func() {
			if err := k.e.commitApart(&a.change); err != nil {
				k.e.fail(err)
				return
			}
			k.report([]*Attempt{a})
		})
	}
	return batch[:n]
}

// commit has changes of the crew's committed, as soon as the database is there. What may have
// been committed, though the answer was lost, is an error: it is not tried again.
func (l *life) commit(ctx context.Context, changes []*store.Change) error {
	return l.patiently(ctx, func(ctx context.Context) error {
		if err := l.commits.commit(ctx, changes); err != nil {
			return err
		}
		if changes = putOff(changes); len(changes) > 0 {
			return changes[0].Err
		}
		return nil
	})
}

// commitOne is commit for one change, whose own error it returns too.
func (l *life) commitOne(ctx context.Context, change *store.Change) error {
	if err := l.commit(ctx, []*store.Change{change}); err != nil {
		return err
	}
	if change.Err != nil && errors.Is(change.Err, store.ErrKeyHeld) {
		if err := l.commitApart(change); err != nil {
			return err
		}
	}
	return change.Err
}

// putOff are the changes of a group that were not committed with the others, because the
// database went away meanwhile.
func putOff(changes []*store.Change) (rest []*store.Change) {
	for _, ch := range changes {
		if ch.Err != nil && away(ch.Err) {
			rest = append(rest, ch)
		}
	}
	return rest
}

// isOver reports whether a change's error is not about the change, but ends the life.
func isOver(err error) bool {
	return errors.Is(err, store.ErrLeaseLost) || errors.Is(err, store.ErrClosed) ||
		errors.Is(err, store.ErrUnresolved) || errors.Is(err, store.ErrUnavailable)
}

// report tells the queues what became of their attempts, a run of one queue at a time.
func (k *acker) report(batch []*Attempt) {
	var failed []*Attempt
	for len(batch) > 0 {
		q, n := batch[0].q, 0
		q.mu.Lock()
		now := time.Now()
		for n < len(batch) && batch[n].q == q {
			a := batch[n]
			n++
			if err := a.change.Err; err != nil && !errors.Is(err, store.ErrFenced) {
				failed = append(failed, a)
				continue
			}
			q.settled(a, now)
			q.count(a, now)
			if a.change.Err != nil || len(a.change.Sends) > 0 || a.settle[0].Verdict != store.Done {
				failed = append(failed, a)
			}
		}
		q.spawn()
		if q.stale && q.room() > 0 {
			q.look()
		}
		q.mu.Unlock()
		batch = batch[n:]
	}
	for _, a := range failed {
		k.exception(a)
	}
}

// exception handles what is not a plain acknowledgement, outside the queue's lock.
func (k *acker) exception(a *Attempt) {
	err := a.change.Err
	switch {
	case err == nil || errors.Is(err, store.ErrFenced):
		a.q.note(a, err)
	case isOver(err):
		k.e.fail(err)
	default: // a closure, or a duplicate: the attempt has failed after all
		a.q.conclude(a, refused(err))
	}
}

// note acts on a settlement that is known to be written, or refused by the fence.
func (q *queue) note(a *Attempt, err error) {
	s := &a.settle[0]
	if err != nil {
		q.e.log.Warn("an attempt's outcome was refused: another attempt owns the message",
			keyQueue, q.settings.Queue.Name, keyMessage, a.Message.ID, keyError, err)
		return
	}
	q.feeding(a.change.Sends)
	switch s.Verdict {
	case store.Retry:
		q.e.log.Info("message failed, to be retried", keyQueue, q.settings.Queue.Name, keyMessage, a.Message.ID,
			"attempt", a.Number, "due", s.Due, keyError, firstLine(s.Reason))
		q.defers(s.Due)
	case store.NotYet:
		q.defers(s.Due)
	case store.Dead:
		q.e.log.Error("message is dead: see weir dead ls", keyQueue, q.settings.Queue.Name, keyMessage, a.Message.ID,
			"attempt", a.Number, keyError, firstLine(s.Reason))
	}
}

// defers notes that a message is due at a time, lest the claimer sleep past it.
func (q *queue) defers(due time.Time) {
	q.mu.Lock()
	if q.dueBy(due) {
		q.look()
	}
	q.mu.Unlock()
}

// dueBy notes a due time, if any; true if it is the earliest known.
func (q *queue) dueBy(due time.Time) bool {
	if due.IsZero() || !q.due.IsZero() && !due.Before(q.due) {
		return false
	}
	q.due = due
	return true
}

// feeding remembers which queues of this process a queue's handlers send to, so
// that a full one can slow it.
func (q *queue) feeding(sends []*store.Message) {
	for _, m := range sends {
		for _, to := range q.e.byTopic[m.Topic] {
			q.mu.Lock()
			q.feeds[to.settings.Queue.Name] = to
			q.mu.Unlock()
		}
		for _, to := range q.e.exchange.of(m.Topic) {
			q.mu.Lock()
			q.feeds[to.name] = to
			q.mu.Unlock()
		}
	}
}
