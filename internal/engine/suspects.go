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

// suspicion works what processes left behind that ended without handing it back: one
// of those messages may have killed them. They are run one at a time over all queues,
// each start recorded first, and one that has crashed a process store.CrashLimit times
// is quarantined. What is there when the process begins is worked before anything
// else runs; what a claim brings later, beside the rest.
type suspicion struct {
	e       *life
	signal  chan struct{} // capacity 1: a suspect is settled, or ready
	running []*Attempt    // suspects that were started and may not be settled, of all queues
}

// look wakes who waits for a suspect to be settled, or ready.
func (s *suspicion) look() {
	select {
	case s.signal <- struct{}{}:
	default:
	}
}

// takeOver works the suspects that are there when the process begins. What was handed
// back waits until that is over.
func (l *life) takeOver(ctx context.Context) error {
	s := &l.suspicion
	for _, q := range l.queues {
		if err := s.admit(ctx, q); err != nil {
			return err
		}
		s.line(q)
	}
	for _, q := range l.queues {
		if err := s.work(ctx, q); err != nil {
			return err
		}
	}
	return l.suspectRuns(ctx)
}

// suspectsPoll is how soon a suspect is looked for that found no worker free.
const suspectsPoll = 100 * time.Millisecond

// run works the suspects that claims bring, until ctx is done.
func (s *suspicion) run(ctx context.Context) error {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.signal:
		case <-again.C:
		}
		for _, q := range s.e.queues {
			if err := s.work(ctx, q); err != nil {
				return ignoreStop(ctx, err)
			}
		}
		// Counted when all were looked at: what tells of a suspect that came to one of them
		// while another's was worked has been taken for the end of that.
		left := 0
		for _, q := range s.e.queues {
			q.mu.Lock()
			left += q.suspects.len()
			q.mu.Unlock()
		}
		if left > 0 {
			again.Reset(suspectsPoll)
		}
	}
}

// admit puts all that was left into the queue's lines, so that keys keep their order.
func (s *suspicion) admit(ctx context.Context, q *queue) error {
	suspects := 0
	for {
		c, err := s.e.claim(ctx, store.ClaimRequest{Queue: q.id, Max: store.MaxBatch, Abandoned: true})
		if err != nil {
			return err
		}
		if c.Batch == nil {
			break
		}
		all := q.attempts(c.Batch)
		q.mu.Lock()
		for i := range all {
			if all[i].suspect {
				suspects++
			}
			q.admit(&all[i])
		}
		q.mu.Unlock()
	}
	if suspects > 0 {
		s.e.log.Warn("the process before ended without handing back its work: these messages run one at a time",
			keyQueue, q.settings.Queue.Name, "messages", suspects)
	}
	return nil
}

// line puts suspects in their turn.
func (s *suspicion) line(q *queue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []*Attempt
	for q.suspects.len() > 0 {
		all = append(all, q.suspects.pop())
	}
	slices.SortFunc(all, func(a, b *Attempt) int {
		return cmp.Or(cmp.Compare(b.crashes, a.crashes), cmp.Compare(turn(a, s.e.process), turn(b, s.e.process)))
	})
	for _, a := range all {
		q.suspects.push(a)
	}
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
		a, slot := q.popSuspect()
		if a == nil {
			return nil
		}
		if err := s.start(ctx, a, slot); err != nil {
			return err
		}
	}
}

// popSuspect takes the first suspect and a slot for it, if there are both.
func (q *queue) popSuspect() (a *Attempt, slot int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.free) == 0 || q.suspects.len() == 0 || q.paused || q.closed {
		return nil, 0
	}
	slot = q.free[len(q.free)-1]
	q.free = q.free[:len(q.free)-1]
	a = q.suspects.pop()
	q.slots[slot] = a
	return a, slot
}

// giveBack returns a slot in which nothing runs.
func (q *queue) giveBack(slot int) {
	q.mu.Lock()
	q.slots[slot] = nil
	q.free = append(q.free, slot)
	q.mu.Unlock()
}

// drain waits until no suspect runs, or one has run for longer than patience.
func (s *suspicion) drain(ctx context.Context) error {
	patience := time.NewTimer(suspectPatience)
	defer patience.Stop()
	for {
		s.running = slices.DeleteFunc(s.running, func(a *Attempt) bool { return a.gone.Load() })
		if len(s.running) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			return nil
		case <-s.signal:
		}
	}
}

// start records the start of a suspect and runs it, or quarantines it.
func (s *suspicion) start(ctx context.Context, a *Attempt, slot int) error {
	q, others := a.q, s.running
	s.running = append(s.running, a)
	if a.crashes >= store.CrashLimit {
		q.giveBack(slot)
		q.settle(a, verdict{Verdict: store.Dead, quarantined: true,
			reason: fmt.Sprintf("quarantined: the process ended %d times while this message ran alone", a.crashes)})
		return nil
	}
	if err := s.record(ctx, a, others); err != nil {
		q.giveBack(slot)
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed { // the drain may have seen already that nobody works
		q.slots[slot] = nil
		return ErrStopping
	}
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
	if err := s.e.commit(ctx, changes); err != nil {
		return err
	}
	if err := changes[0].Err; err != nil && !errors.Is(err, store.ErrFenced) {
		return err
	}
	return nil
}
