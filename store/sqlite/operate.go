package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/acts"
)

// Operate carries out a person's act in one transaction with its audit row. An
// act that finds nothing to change, and a dry run, leave no row.
func (s *Store) Operate(ctx context.Context, a store.Act) (store.Acted, error) {
	if err := acts.Check(a); err != nil {
		return store.Acted{}, fmt.Errorf("%s: %w", a.Verb, err)
	}
	if a.Verb == store.RenewStore {
		acted, err := s.renew(ctx, a)
		if err != nil {
			return store.Acted{}, fmt.Errorf("%s: %w", a.Verb, err)
		}
		return acted, nil
	}
	var acted store.Acted
	// A dry run finds what the act would change with the same statements, on a
	// connection that cannot write.
	run := s.write
	if a.DryRun {
		run = s.read
	}
	err := run(ctx, func(c *conn) error {
		o := operation{s: s, c: c, act: a, now: s.now()}
		var err error
		switch a.Verb {
		case store.PauseQueue:
			acted, err = o.pause()
		case store.ResumeQueue:
			acted, err = o.resume()
		case store.BreakLock:
			acted, err = o.breakLock()
		case store.ForgetLane:
			acted, err = o.forgetLane()
		case store.ResyncReplica:
			acted, err = o.resync()
		case store.RetryDead, store.DiscardDead:
			acted, err = o.settleDead()
		default:
			acted, err = o.decide()
		}
		return err
	})
	if err != nil {
		return store.Acted{}, fmt.Errorf("%s: %w", a.Verb, err)
	}
	if acts.OfRuns(a.Verb) {
		s.foreign.Store(true) // leased runs may have mail, which only a claim gives out
	}
	return acted, nil
}

// operation is one act under way in its transaction.
type operation struct {
	s   *Store
	c   *conn
	act store.Act
	now time.Time
}

const insertAudit = `insert into weir_audit (at_us, who, verb, why, target, before, after)
	values (?1, ?2, ?3, ?4, ?5, ?6, ?7)`

// audit writes the act's row; before and after become JSON.
func (o operation) audit(e acts.Entry) error {
	before, after, err := e.Texts()
	if err != nil {
		return err
	}
	return o.c.exec(insertAudit, us(o.now), o.act.By, string(o.act.Verb), o.act.Why, e.Target, before, after)
}

// queue reads the queue the act names.
func (o operation) queue() (queueRow, error) {
	queues, err := readQueues(o.c, o.act.Queue)
	if err != nil {
		return queueRow{}, err
	}
	if len(queues) == 0 {
		return queueRow{}, fmt.Errorf("%w: no queue is named %q: weir queue ls lists them", store.ErrNotFound, o.act.Queue)
	}
	return queues[0], nil
}

const (
	pauseQueue  = `update weir_queues set paused_us = ?2, paused_by = ?3, paused_why = ?4 where id = ?1`
	resumeQueue = `update weir_queues set paused_us = null, paused_by = null, paused_why = null, parked_us = null where id = ?1`
)

func (o operation) pause() (store.Acted, error) {
	q, err := o.queue()
	if err != nil {
		return store.Acted{}, err
	}
	if p := q.Paused; p != nil {
		return store.Acted{}, fmt.Errorf("%w: queue %s is paused already, since %s by %s (%s): weir queue resume %s ends it",
			store.ErrConflict, q.Name, p.At.Format(time.RFC3339), p.By, p.Why, q.Name)
	}
	if o.act.DryRun {
		return store.Acted{Count: 1}, nil
	}
	if err := o.c.exec(pauseQueue, q.id, us(o.now), o.act.By, o.act.Why); err != nil {
		return store.Acted{}, err
	}
	before := acts.QueueOf(&q.QueueState)
	q.Paused = &store.Pause{At: o.now, By: o.act.By, Why: o.act.Why}
	return store.Acted{Count: 1}, o.audit(acts.Entry{Target: "queue " + q.Name, Before: before, After: acts.QueueOf(&q.QueueState)})
}

// resume ends a pause, or lets a parked subscriber go on. What retention took
// from it meanwhile Prune has counted in gaps as it did so: the next claim
// begins at the earliest message kept, and the depth is exact all along.
func (o operation) resume() (store.Acted, error) {
	q, err := o.queue()
	if err != nil {
		return store.Acted{}, err
	}
	if q.Paused == nil && !q.Parked {
		return store.Acted{}, fmt.Errorf("%w: queue %s is neither paused nor parked: there is nothing to resume",
			store.ErrConflict, q.Name)
	}
	if o.act.DryRun {
		return store.Acted{Count: 1}, nil
	}
	if err := o.c.exec(resumeQueue, q.id); err != nil {
		return store.Acted{}, err
	}
	before := acts.QueueOf(&q.QueueState)
	q.Paused, q.Parked = nil, false
	return store.Acted{Count: 1}, o.audit(acts.Entry{Target: "queue " + q.Name, Before: before, After: acts.QueueOf(&q.QueueState)})
}
