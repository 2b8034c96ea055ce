package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weir-go/weir/store"
)

// suspectPatience is how long a suspect runs alone before the next may start. A
// crash after that is held against none of them.
const suspectPatience = 5 * time.Second

// suspicion takes over what earlier processes left, before anything else runs.
// If one ended without handing its batches back, one of their messages may have
// killed it: each is run alone, its start recorded first, and one that has crashed
// a process store.CrashLimit times is quarantined. What was handed back waits
// until that is over.
type suspicion struct {
	e       *Engine
	gone    chan *Attempt // suspects that are settled
	running []*Attempt    // suspects that may not be, of all queues
}

func (e *Engine) takeOver(ctx context.Context) error {
	s := suspicion{e: e}
	var suspects []*Attempt
	innocent := make([][]*Attempt, len(e.queues))
	for i, q := range e.queues {
		found, err := s.admit(ctx, q)
		if err != nil {
			return err
		}
		suspects = append(suspects, found...)
		innocent[i] = s.line(q)
	}
	s.gone = make(chan *Attempt, len(suspects))
	for _, a := range suspects {
		a.gone = s.gone
	}
	for _, q := range e.queues {
		if err := s.work(ctx, q); err != nil {
			return err
		}
	}
	if err := e.suspectRuns(ctx); err != nil {
		return err
	}
	for i, q := range e.queues {
		q.mu.Lock()
		for _, a := range innocent[i] {
			q.ready.push(a)
		}
		q.mu.Unlock()
	}
	return nil
}

// admit puts all that was left into the queue's lines, so that keys keep their
// order, and tells who is a suspect.
func (s *suspicion) admit(ctx context.Context, q *queue) (suspects []*Attempt, err error) {
	for {
		c, err := s.e.st.Claim(ctx, store.ClaimRequest{Queue: q.id, Max: store.MaxBatch, Abandoned: true})
		if err != nil {
			return nil, err
		}
		if c.Batch == nil {
			break
		}
		all := q.attempts(c.Batch)
		q.mu.Lock()
		for i := range all {
			all[i].suspect = c.Batch.Suspect
			if c.Batch.Suspect {
				suspects = append(suspects, &all[i])
			}
			q.admit(&all[i])
		}
		q.mu.Unlock()
	}
	if len(suspects) > 0 {
		s.e.log.Warn("the process before ended without handing back its work: these messages run one at a time",
			keyQueue, q.settings.Queue.Name, "messages", len(suspects))
	}
	return suspects, nil
}

// line leaves only suspects among the ready, in their turn, and gives back the others.
func (s *suspicion) line(q *queue) (innocent []*Attempt) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var suspects []*Attempt
	for q.ready.len() > 0 {
		if a := q.ready.pop(); a.suspect {
			suspects = append(suspects, a)
		} else {
			innocent = append(innocent, a)
		}
	}
	slices.SortFunc(suspects, func(a, b *Attempt) int {
		return cmp.Or(cmp.Compare(b.crashes, a.crashes), cmp.Compare(turn(a, s.e.process), turn(b, s.e.process)))
	})
	for _, a := range suspects {
		q.ready.push(a)
	}
	return innocent
}

// turn is a suspect's place in line after those with more crashes, which come first so
// that no more processes die than it takes to be sure of them. One that runs for long
// hides the crash of what starts after it. Were it before the culprit in each
// process, that would never crash alone; so the line differs from process to
// process, and each second process has it the other way round than the one before.
func turn(a *Attempt, process int64) uint64 {
	place := rand.NewPCG(uint64(a.Message.Pos), uint64(process/2)).Uint64()
	if process%2 == 1 {
		return ^place
	}
	return place
}

// work runs the queue's suspects, until all are settled or the rest run for long.
func (s *suspicion) work(ctx context.Context, q *queue) error {
	for {
		if err := s.drain(ctx); err != nil {
			return err
		}
		a := q.popSuspect()
		if a == nil {
			return nil
		}
		if err := s.start(ctx, q, a); err != nil {
			return err
		}
	}
}

// popSuspect takes the first suspect out of the ready, if there is a slot for it.
// Others may stand before it: what follows a suspect in its key need not be one.
func (q *queue) popSuspect() *Attempt {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.free) == 0 {
		return nil
	}
	for n := q.ready.len(); n > 0; n-- {
		a := q.ready.pop()
		if a.suspect {
			return a
		}
		q.ready.push(a)
	}
	return nil
}

// drain waits until no suspect runs, or one has run for longer than patience.
func (s *suspicion) drain(ctx context.Context) error {
	patience := time.NewTimer(suspectPatience)
	defer patience.Stop()
	for len(s.running) > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			return nil
		case a := <-s.gone:
			s.running = slices.DeleteFunc(s.running, func(r *Attempt) bool { return r == a })
		}
	}
	return nil
}

// start records the start of a suspect and runs it, or quarantines it.
func (s *suspicion) start(ctx context.Context, q *queue, a *Attempt) error {
	others := s.running
	s.running = append(s.running, a)
	if a.crashes >= store.CrashLimit {
		q.settle(a, verdict{Verdict: store.Dead, quarantined: true,
			reason: fmt.Sprintf("quarantined: the process ended %d times while this message ran alone", a.crashes)})
		return nil
	}
	if err := s.record(ctx, a, others); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrStopping
	}
	slot := q.free[len(q.free)-1]
	q.free = q.free[:len(q.free)-1]
	q.slots[slot] = a
	s.e.workers.Go(func() {
		if q.attempt(a) {
			q.serve(slot)
		}
	})
	return nil
}

// record writes that a begins to run, and that those still running are from now on
// no more alone than it is: they began so, and would be blamed for its crash.
func (s *suspicion) record(ctx context.Context, a *Attempt, others []*Attempt) error {
	changes := []*store.Change{{Starts: []store.Start{{Batch: a.ref, Index: a.index, Lone: len(others) == 0}}}}
	for _, o := range others { // refused, and rightly, for one that is settled meanwhile
		changes = append(changes, &store.Change{Starts: []store.Start{{Batch: o.ref, Index: o.index}}})
	}
	if err := s.e.commits.commit(ctx, changes); err != nil {
		return err
	}
	if err := changes[0].Err; err != nil && !errors.Is(err, store.ErrFenced) {
		return err
	}
	return nil
}
