package engine

import (
	"context"
	"time"

	"github.com/weir-go/weir/store"
)

// pollInterval is how often a queue is claimed from whatever the hints say.
const pollInterval = time.Second

// claim keeps a queue supplied until ctx is done: when something was sent, when a
// deferred message is due, when there is room again, and by polling.
func (q *queue) claim(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-q.signal:
		case <-timer.C:
			q.mu.Lock()
			q.stale = true
			q.mu.Unlock()
		}
		if err := q.fill(ctx); err != nil {
			return err
		}
		timer.Reset(q.sleep(q.e.Now()))
	}
}

// sleep is how long the claimer may sleep if nothing wakes it.
func (q *queue) sleep(now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.due.IsZero() || q.room() == 0 { // without room a worker wakes it
		return q.e.intervals.Poll
	}
	return min(max(q.due.Sub(now), time.Millisecond), q.e.intervals.Poll)
}

// fill claims as long as there is room and more to claim.
func (q *queue) fill(ctx context.Context) error {
	for ctx.Err() == nil {
		q.mu.Lock()
		due := !q.due.IsZero() && !q.due.After(q.e.Now())
		q.stale = q.stale || due // without room a worker comes back to it
		room := q.room()
		if room == 0 || !q.stale {
			q.mu.Unlock()
			return nil
		}
		q.stale = false
		q.mu.Unlock()
		if err := q.take(ctx, room); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// claim claims, as soon as the database is there.
func (l *life) claim(ctx context.Context, r store.ClaimRequest) (claimed store.Claimed, err error) {
	err = l.patiently(ctx, func(ctx context.Context) (err error) {
		claimed, err = l.st.Claim(ctx, r)
		return err
	})
	return claimed, err
}

// take makes one claim and delivers it.
func (q *queue) take(ctx context.Context, room int) error {
	q.claiming.Lock()
	defer q.claiming.Unlock()
	q.mu.Lock()
	q.due = time.Time{} // what is deferred from here on may be unknown to the claim
	q.mu.Unlock()
	c, err := q.e.claim(ctx, store.ClaimRequest{Queue: q.id, Max: room})
	if err != nil {
		return err
	}
	q.mu.Lock()
	q.dueBy(c.NextDue)
	q.stale = q.stale || c.More
	if c.Batch != nil {
		q.paced.claimed(time.Now(), q.done)
	}
	q.mu.Unlock()
	if c.Batch != nil && len(c.Batch.Deliveries) > 0 {
		q.deliver(c.Batch)
	}
	return nil
}
