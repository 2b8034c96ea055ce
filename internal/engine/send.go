package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

// Send appends messages from outside, and the states that they tell of, in a commit of their own.
func (e *Engine) Send(ctx context.Context, messages []*store.Message, states []store.State) error {
	if err := e.route(ctx, messages); err != nil {
		return err
	}
	err := e.commits.send(ctx, messages, states)
	if errors.Is(err, store.ErrLeaseLost) {
		err = e.betweenLives(ctx, err, func() error { return e.commits.send(ctx, messages, states) })
	}
	if err == nil {
		err = passedOver(states)
	}
	return e.refusal(ctx, err)
}

// rejoinPoll is how soon a sender tries again whose process has lost its lease.
const rejoinPoll = 20 * time.Millisecond

// betweenLives does again what was refused because the process has lost its lease, when it
// has joined again: a sender has nothing to do with that. What is refused so is not written.
func (e *Engine) betweenLives(ctx context.Context, err error, again func() error) error {
	e.mu.Lock()
	finished := e.finished
	e.mu.Unlock()
	if e.st.Info().Lease == 0 || finished == nil {
		return err
	}
	for errors.Is(err, store.ErrLeaseLost) {
		if l := e.life.Load(); l != nil {
			select { // it may not know yet
			case l.beat <- struct{}{}:
			default:
			}
		}
		timer := time.NewTimer(rejoinPoll)
		select {
		case <-timer.C:
			err = again()
		case <-finished:
			timer.Stop()
			return err
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
	return err
}

// SendIn appends messages, and the states that they tell of, in the caller's transaction.
func (e *Engine) SendIn(ctx context.Context, tx store.Tx, messages []*store.Message, states []store.State) error {
	err := e.st.AppendIn(ctx, tx, &store.Change{Sends: messages, States: states})
	if err == nil {
		err = passedOver(states)
	}
	return e.refusal(ctx, err)
}

// passedOver is the error of changes of entities that the store has taken for old ones. A message's stamp is higher than
// all that the store has given before, so somebody else has written there.
func passedOver(states []store.State) error {
	for i := range states {
		if s := &states[i]; s.Of != nil && s.Of.Dedup == "" && !s.Applied {
			return fmt.Errorf("weir: put %s %q: the store keeps a version above %d, which it has not given itself: only the event is published", s.Entity, s.Key, s.Version)
		}
	}
	return nil
}

// refusal completes the error of a full queue, and counts it.
func (e *Engine) refusal(ctx context.Context, err error) error {
	full, ok := errors.AsType[*store.FullError](err)
	if !ok {
		return err
	}
	if full.Runs {
		full.RetryAfter = retryAfterUnknown // a run ends when it does
		return err
	}
	e.mu.Lock()
	e.rejected[full.Queue]++
	e.mu.Unlock()
	full.RetryAfter = retryAfter(full, e.drainRate(ctx, full.Queue))
	return err
}

const (
	retryAfterMin     = 10 * time.Millisecond
	retryAfterMax     = time.Minute
	retryAfterUnknown = time.Second // nothing was drained lately
)

// retryAfter is when a twentieth of the queue will have drained at a rate per second:
// enough room that those who come back then are not refused again at once.
func retryAfter(full *store.FullError, rate float64) time.Duration {
	if rate <= 0 {
		return retryAfterUnknown
	}
	over := float64(max(full.Depth-full.Capacity, 0)) + float64(full.Capacity)/20 + 1
	return min(max(time.Duration(over/rate*float64(time.Second)), retryAfterMin), retryAfterMax)
}

// drainRates remembers, for queues that this process does not work, how fast they drain.
type drainRates struct {
	mu     sync.Mutex
	readAt time.Time
	rates  map[string]float64
}

// drainRate is how many messages of a queue are done per second.
func (e *Engine) drainRate(ctx context.Context, queue string) float64 {
	if l := e.life.Load(); l != nil && l.byName[queue] != nil {
		q := l.byName[queue]
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.rate
	}
	r := &e.rates
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.readAt) > time.Second {
		r.readAt = now
		r.rates = map[string]float64{}
		all, err := ReadFigures(ctx, e.st.Reader(), time.Minute)
		if err != nil {
			e.log.Warn("drain rates not read", keyError, err)
		}
		for i := range all {
			r.rates[all[i].Name] = all[i].DonePerSecond
		}
	}
	return r.rates[queue]
}

func (e *Engine) takeRejected(queue string) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.rejected[queue]
	delete(e.rejected, queue)
	return n
}

// flushRejected writes the refusals counted by a process that does not run.
func (e *Engine) flushRejected() error {
	e.mu.Lock()
	none := len(e.rejected) == 0
	e.mu.Unlock()
	if none {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	states, err := e.st.Reader().Queues(ctx)
	if err != nil {
		return err
	}
	var g store.Group
	for i := range states {
		if n := e.takeRejected(states[i].Name); n > 0 {
			g.Figures = append(g.Figures, store.FigureDelta{Queue: states[i].ID, Rejected: n})
		}
	}
	return e.st.Commit(ctx, &g)
}

// eager offers idle queues to the group about to be committed. It holds their
// claiming locks until committed has delivered.
func (e *Engine) eager(f *inFlight) {
	f.lent = e.life.Load()
	if f.lent == nil || !sends(&f.group) {
		return
	}
	for _, q := range f.lent.queues {
		if ok, room := q.idle(); ok && room > 0 && q.claiming.TryLock() {
			f.group.Eager = append(f.group.Eager, store.Eager{Queue: q.id, Max: room})
		}
	}
	f.lent.exchange.eager(&f.group)
}

func sends(g *store.Group) bool {
	for _, c := range g.Changes {
		if len(c.Sends) > 0 {
			return true
		}
	}
	return false
}

// committed delivers what was claimed with a group and tells the other queues
// that there is more to claim.
func (e *Engine) committed(f *inFlight, err error) {
	g := &f.group
	if err == nil {
		e.stated(g)
		for _, c := range g.Changes {
			if err := passedOver(c.States); c.Err == nil && err != nil {
				e.log.Error("a change of an entity was taken for an old one", keyError, err)
			}
		}
		for _, b := range g.Claimed {
			if q := f.lent.byID[b.Queue]; q != nil {
				q.deliver(b)
			} else {
				f.lent.exchange.deliver(b)
			}
		}
	}
	for _, eager := range g.Eager {
		if q := f.lent.byID[eager.Queue]; q != nil {
			q.claiming.Unlock()
		}
	}
	l := e.life.Load()
	if l == nil {
		return
	}
	if err == nil {
		l.announce(g)
		for _, name := range g.Woken {
			if w := l.workflows[name]; w != nil {
				w.more()
			}
		}
	} else if l.st.Info().Lease == 0 && l.work.Err() == nil && !errors.Is(err, errGivenUp) {
		// Whoever's the commit was: after a failed sync the next one can succeed
		// and lie, so a sender's error is the engine's too. (A server sees to that itself.)
		l.fail(err)
	}
}

// announce wakes the claimers of queues whose messages were appended and not
// claimed with the group.
func (l *life) announce(g *store.Group) {
	last := ""
	for _, c := range g.Changes {
		if c.Err != nil {
			continue
		}
		for _, m := range c.Sends {
			if m.Topic == last && m.Due.IsZero() {
				continue
			}
			last = m.Topic
			for _, q := range l.byTopic[m.Topic] {
				if !m.Due.IsZero() || !claimedAll(g, q.id) {
					q.more()
				}
			}
			for _, r := range l.exchange.of(m.Topic) {
				if !m.Due.IsZero() || !claimedAll(g, r.id) {
					r.more()
				}
			}
		}
	}
}

// claimedAll reports whether all that the group appended for a queue was claimed with it.
func claimedAll(g *store.Group, queue store.QueueID) bool {
	for _, b := range g.Claimed {
		if b.Queue != queue {
			continue
		}
		for _, eager := range g.Eager {
			if eager.Queue == queue {
				return len(b.Deliveries) < eager.Max
			}
		}
	}
	return false
}

// more notes that the journal holds messages that are not claimed.
func (q *queue) more() {
	q.mu.Lock()
	q.stale = true
	if q.room() > 0 {
		q.look()
	}
	q.mu.Unlock()
}
