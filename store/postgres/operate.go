package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/acts"
)

// Operate carries out a person's act in one transaction with its audit row. An
// act that finds nothing to change, and a dry run, leave no row.
func (s *Store) Operate(ctx context.Context, a store.Act) (store.Acted, error) {
	if err := checkAct(a); err != nil {
		return store.Acted{}, fmt.Errorf("%s: %w", a.Verb, err)
	}
	if acts.MailOf(a.Verb) != 0 {
		// What came before the act is read before it.
		if err := s.bringArrived(ctx); err != nil {
			return store.Acted{}, err
		}
	}
	var acted store.Acted
	// A dry run finds what the act would change with the same statements, in a
	// transaction that cannot write.
	run := s.write
	if a.DryRun {
		run = s.read
	}
	err := run(ctx, func(t *tx) error {
		o := operation{s: s, t: t, act: a}
		var err error
		switch a.Verb {
		case store.PauseQueue:
			acted, err = o.pause()
		case store.ResumeQueue:
			acted, err = o.resume()
		case store.BreakLock:
			acted, err = o.breakLock()
		case store.RenewStore:
			acted, err = o.renew()
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
	if err == nil && a.Verb == store.RenewStore && !a.DryRun {
		err = s.takeUp(ctx)
	}
	if err != nil {
		return store.Acted{}, fmt.Errorf("%s: %w", a.Verb, err)
	}
	return acted, nil
}

// checkAct refuses what no state of the store would make right.
func checkAct(a store.Act) error {
	var faults []error
	for _, text := range []string{a.By, a.Why, a.Queue, a.Matching, a.Workflow, a.Step, a.Lock, a.Lane} {
		if !storable(text) {
			faults = append(faults, fmt.Errorf("%q is no text that PostgreSQL can keep", text))
		}
	}
	return errors.Join(acts.Check(a), errors.Join(faults...))
}

// operation is one act under way in its transaction.
type operation struct {
	s   *Store
	t   *tx
	act store.Act
}

const actAudit = `insert into weir.audit (at_us, who, verb, why, target, before, after) values ($1, $2, $3, $4, $5, $6, $7)`

// audit queues the act's row; before and after become JSON.
func (o operation) audit(e acts.Entry) error {
	before, after, err := e.Texts()
	if err != nil {
		return err
	}
	o.t.do(actAudit, o.t.now, o.act.By, string(o.act.Verb), o.act.Why, e.Target, before, after)
	return nil
}

// queue reads the queue the act names.
func (o operation) queue() (*seenQueue, error) {
	queues, err := seeQueues(o.t, o.act.Queue)
	if err != nil {
		return nil, err
	}
	if len(queues) == 0 || o.act.Queue == "" {
		return nil, fmt.Errorf("%w: no queue is named %q: weir queue ls lists them", store.ErrNotFound, o.act.Queue)
	}
	return queues[0], nil
}

const (
	// Two acts on one queue take turns: the row is locked before it is looked at.
	actLockQueue = `select 1 from weir.queues where name = $1 for update`
	actPause     = `update weir.queues set paused_us = $2, paused_by = $3, paused_why = $4 where id = $1`
	actResume    = `update weir.queues set paused_us = null, paused_by = null, paused_why = null, parked_us = null where id = $1`
)

func (o operation) lockedQueue() (*seenQueue, error) {
	if !o.act.DryRun {
		o.t.do(actLockQueue, o.act.Queue)
	}
	return o.queue()
}

func (o operation) pause() (store.Acted, error) {
	q, err := o.lockedQueue()
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
	o.t.do(actPause, q.id, o.t.now, o.act.By, o.act.Why)
	before := acts.QueueOf(&q.QueueState)
	q.Paused = &store.Pause{At: at(o.t.now), By: o.act.By, Why: o.act.Why}
	return store.Acted{Count: 1}, o.audit(acts.Entry{Target: "queue " + q.Name, Before: before, After: acts.QueueOf(&q.QueueState)})
}

// resume ends a pause, or lets a parked subscriber go on. What retention took
// from it meanwhile Prune has counted in gaps as it did so: the next claim
// begins at the earliest message kept, and the depth is exact all along.
func (o operation) resume() (store.Acted, error) {
	q, err := o.lockedQueue()
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
	o.t.do(actResume, q.id)
	before := acts.QueueOf(&q.QueueState)
	q.Paused, q.Parked = nil, false
	return store.Acted{Count: 1}, o.audit(acts.Entry{Target: "queue " + q.Name, Before: before, After: acts.QueueOf(&q.QueueState)})
}
