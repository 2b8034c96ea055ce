package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

func capacityLaws() []Law {
	return []Law{
		{"capacity/exact", "A queue takes exactly its capacity from outside: the next send is refused with a FullError that says so, and room is there as soon as one is settled.", capacityExact},
		{"capacity/counts", "What is leased, deferred or delayed counts against capacity; what is done, dead or discarded does not.", capacityCounts},
		{"capacity/best-effort", "Best-effort sends are refused once a queue is 80 % full.", capacityBestEffort},
		{"capacity/several", "The sends of one change count together: all are taken or none; a group's changes count one after the other.", capacitySeveral},
		{"capacity/inside", "What leaves with a settlement, or is not marked as from outside, is admitted however full the queue is.", capacityInside},
		{"capacity/required", "A full subscriber refuses its publisher if it is Required, and only then.", capacityRequired},
		{"capacity/unbounded", "A capacity of zero is no bound; a changed capacity counts from then on.", capacityUnbounded},
		{"capacity/concurrent", "Concurrent senders together do not overshoot; where capacity is Loose, by no more than what other processes have in flight.", capacityConcurrent},
	}
}

// outside is a change that sends the words of a line from outside.
func outside(topic, line string) *store.Change {
	return &store.Change{Sends: messages(topic, line), Outside: true}
}

// full commits changes that must each be refused for want of room in the queue.
func (s *scene) full(queue string, depth, capacity int, c *store.Change) {
	s.Helper()
	s.group(&store.Group{Changes: []*store.Change{c}})
	full, ok := errors.AsType[*store.FullError](c.Err)
	if !ok {
		s.Errorf("Commit(%d sends from outside, depth %d of %d): Err = %v, want a FullError", len(c.Sends), depth, capacity, c.Err)
		return
	}
	if full.Queue != queue || full.Depth != depth || full.Capacity != capacity {
		s.Errorf("Commit(%d sends from outside): Err = %+v, want depth %d of %d of %s", len(c.Sends), *full, depth, capacity, queue)
	}
}

func capacityExact(s *scene) {
	s.declare(store.Queue{Name: cook, Capacity: 3})
	for _, word := range []string{"1", "2", "3"} {
		s.commit(outside(cook, word))
	}
	s.full(cook, 3, 3, outside(cook, "4"))
	s.holds(cook, 3, 0)
	s.listed(cook, "1 2 3")
	b := s.claim(cook, 2, "1 2")
	s.full(cook, 3, 3, outside(cook, "4"))
	s.done(b, "1")
	s.commit(outside(cook, "5"))
	s.full(cook, 3, 3, outside(cook, "6"))
	s.crash()
	s.full(cook, 3, 3, outside(cook, "6"))
	s.drain(cook, 9, "2 3 5")
}

func capacityCounts(s *scene) {
	s.declare(store.Queue{Name: cook, Capacity: 4})
	late := outside(cook, "1")
	late.Sends[0].Due = s.clock.Now().Add(time.Hour)
	s.commit(late, outside(cook, "2 3 4"))
	b := s.claim(cook, 9, "2 3 4")
	s.fail(b, "2", store.Retry)
	s.full(cook, 4, 4, outside(cook, "5"))
	s.fail(b, "3", store.Dead)
	s.commit(outside(cook, "5"))
	s.full(cook, 4, 4, outside(cook, "6"))
	s.fail(b, "4", store.Discarded)
	s.commit(outside(cook, "6"))
	s.full(cook, 4, 4, outside(cook, "7"))
	s.operate(store.Act{Verb: store.RetryDead, Queue: cook})
	s.holds(cook, 5, 0)
	s.full(cook, 5, 4, outside(cook, "7"))
}

func capacityBestEffort(s *scene) {
	s.declare(store.Queue{Name: cook, Capacity: 10})
	best := func(word string) *store.Change {
		c := outside(cook, word)
		c.Sends[0].BestEffort = true
		return c
	}
	s.commit(outside(cook, "1 2 3 4 5 6 7"), best("8"))
	s.full(cook, 8, 10, best("9"))
	s.commit(outside(cook, "10 11"))
	s.full(cook, 10, 10, best("12"))
	s.full(cook, 10, 10, outside(cook, "12"))
	s.listed(cook, "1 2 3 4 5 6 7 8 10 11")
}

func capacitySeveral(s *scene) {
	s.declare(store.Queue{Name: cook, Capacity: 5}, store.Queue{Name: serve, Capacity: 1})
	s.commit(outside(cook, "1 2 3"))
	s.full(cook, 3, 5, outside(cook, "4 5 6"))
	both := outside(serve, "1")
	both.Sends = append(both.Sends, messages(cook, "4 5 6")...)
	s.full(cook, 3, 5, both)
	s.holds(serve, 0, 0)
	changes := []*store.Change{outside(cook, "4"), outside(cook, "5 6"), outside(serve, "2"), outside(cook, "7"), outside(serve, "3"), outside(cook, "8")}
	s.group(&store.Group{Changes: changes})
	for i, want := range []bool{true, false, true, true, false, false} {
		if _, full := errors.AsType[*store.FullError](changes[i].Err); full == want || want != (changes[i].Err == nil) {
			s.Errorf("Commit(group at depth 3 of 5): Changes[%d].Err = %v, want written: %t", i, changes[i].Err, want)
		}
	}
	s.listed(cook, "1 2 3 4 7")
	s.listed(serve, "2")
}

func capacityInside(s *scene) {
	s.declare(store.Queue{Name: cook, Capacity: 1}, store.Queue{Name: serve})
	s.send(serve, "1 2")
	b := s.claim(serve, 2, "1 2")
	for _, word := range []string{"1", "2"} {
		c := change(s.settle(b, word, store.Done))
		c.Sends = messages(cook, word+"1 "+word+"2")
		s.commit(c)
	}
	s.holds(cook, 4, 0)
	s.send(cook, "3")
	s.full(cook, 5, 1, outside(cook, "4"))
	s.drain(cook, 9, "11 12 21 22 3")
	s.commit(outside(cook, "4"))
}

func capacityRequired(s *scene) {
	slack, strict := subscriber(waiter), subscriber(billing)
	slack.Capacity, strict.Capacity, strict.Required = 1, 2, true
	s.declare(slack, strict)
	s.commit(outside(ready, "1"), outside(ready, "2"))
	s.holds(waiter, 2, 0)
	s.full(billing, 2, 2, outside(ready, "3"))
	s.holds(waiter, 2, 0)
	s.drain(waiter, 9, "1 2")
	s.full(billing, 2, 2, outside(ready, "3"))
	s.done(s.claim(billing, 1, "1"), "1")
	s.commit(outside(ready, "3"))
	strict.Required = false
	s.declare(strict)
	s.commit(outside(ready, "4"))
	s.holds(billing, 3, 0)
}

func capacityUnbounded(s *scene) {
	s.declareCook()
	for i := range 20 {
		s.commit(outside(cook, fmt.Sprint(i)))
	}
	s.declare(store.Queue{Name: cook, Capacity: 21})
	s.commit(outside(cook, "20"))
	s.full(cook, 21, 21, outside(cook, "21"))
	s.declare(store.Queue{Name: cook, Capacity: 5})
	s.full(cook, 21, 5, outside(cook, "21"))
	s.declareCook()
	s.commit(outside(cook, "21"))
	s.holds(cook, 22, 0)
}

func capacityConcurrent(s *scene) {
	const room, eachAtOnce = 10, 2
	s.declare(store.Queue{Name: cook, Capacity: room})
	other := s.open()
	taken := s.takenAtOnce(other, 2*eachAtOnce, 8, func(i, n int) *store.Change { return outside(cook, fmt.Sprint(i*8+n)) })
	most := room
	if s.store.Info().Loose {
		most += eachAtOnce // the other process's commits
	}
	if taken < room || taken > most {
		s.Errorf("32 concurrent sends into a capacity of %d: %d taken, want %d to %d", room, taken, room, most)
	}
	s.holds(cook, int64(taken), 0)
}

// takenAtOnce is how many changes are taken of those that goroutines commit at once, each some one after another; every other of them through
// another process's store. What is not taken is to be refused as full.
func (s *scene) takenAtOnce(other store.Store, goroutines, each int, change func(i, n int) *store.Change) (taken int) {
	s.Helper()
	var all sync.WaitGroup
	outcome := make(chan error, goroutines*each)
	for i := range goroutines {
		st := s.store
		if i%2 == 1 {
			st = other
		}
		all.Go(func() {
			for n := range each {
				c := change(i, n)
				outcome <- errors.Join(st.Commit(s.ctx(), &store.Group{Changes: []*store.Change{c}}), c.Err)
			}
		})
	}
	all.Wait()
	close(outcome)
	for err := range outcome {
		if _, full := errors.AsType[*store.FullError](err); err == nil {
			taken++
		} else if !full {
			s.Errorf("Commit() beside others = %v, want nil or a FullError", err)
		}
	}
	return taken
}
