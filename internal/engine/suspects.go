package engine

import (
	"context"
	"errors"
	"fmt"
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
	running int
}

func (e *Engine) takeOver(ctx context.Context) error {
	for _, q := range e.queues {
		s := suspicion{e: e}
		innocent, err := s.admit(ctx, q)
		if err == nil {
			err = s.work(ctx, q)
		}
		if err != nil {
			return err
		}
		q.mu.Lock()
		for _, a := range innocent {
			q.ready.push(a)
		}
		q.mu.Unlock()
	}
	return nil
}

// admit puts all that was left into the queue's lines, so that keys keep their
// order, and takes out of the ready what is no suspect.
func (s *suspicion) admit(ctx context.Context, q *queue) (innocent []*Attempt, err error) {
	var suspects []*Attempt
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
	s.gone = make(chan *Attempt, len(suspects))
	for _, a := range suspects {
		a.gone = s.gone
	}
	if len(suspects) > 0 {
		s.e.log.Warn("the process before ended without handing back its work: these messages run one at a time",
			keyQueue, q.settings.Queue.Name, "messages", len(suspects))
	}
	return s.innocents(q), nil
}

// innocents takes the ready that are no suspects out of the queue.
func (s *suspicion) innocents(q *queue) []*Attempt {
	q.mu.Lock()
	defer q.mu.Unlock()
	var innocent []*Attempt
	for n := q.ready.len(); n > 0; n-- {
		if a := q.ready.pop(); a.suspect {
			q.ready.push(a)
		} else {
			innocent = append(innocent, a)
		}
	}
	return innocent
}

// work runs the queue's suspects, until all are settled or the rest run for long.
func (s *suspicion) work(ctx context.Context, q *queue) error {
	for {
		if err := s.drain(ctx); err != nil {
			return err
		}
		q.mu.Lock()
		var a *Attempt
		if q.ready.len() > 0 && q.ready.items[q.ready.head].suspect && len(q.free) > 0 {
			a = q.ready.pop()
		}
		q.mu.Unlock()
		if a == nil {
			return nil
		}
		if err := s.start(ctx, q, a); err != nil {
			return err
		}
	}
}

// drain waits until no suspect runs, or one has run for longer than patience.
func (s *suspicion) drain(ctx context.Context) error {
	patience := time.NewTimer(suspectPatience)
	defer patience.Stop()
	for s.running > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			return nil
		case <-s.gone:
			s.running--
		}
	}
	return nil
}

// start records the start of a suspect and runs it, or quarantines it.
func (s *suspicion) start(ctx context.Context, q *queue, a *Attempt) error {
	alone := s.running == 0
	s.running++
	if a.crashes >= store.CrashLimit {
		q.settle(a, verdict{Verdict: store.Dead, quarantined: true,
			reason: fmt.Sprintf("quarantined: the process ended %d times while this message ran alone", a.crashes)})
		return nil
	}
	change := store.Change{Starts: []store.Start{{Batch: a.ref, Index: a.index, Lone: alone}}}
	if err := s.e.commits.commitOne(ctx, &change); err != nil && !errors.Is(err, store.ErrFenced) {
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
