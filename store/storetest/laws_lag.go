package storetest

import (
	"fmt"
	"time"

	"github.com/weir-go/weir/store"
)

func lagLaws() []Law {
	return []Law{
		{"lag/parks", "A subscriber that is not Required is parked once MaxLag messages wait for it: it is given nothing, and its publisher goes on.", lagParks},
		{"lag/gap", "A parked subscriber holds back no retention; resumed it goes on at the earliest message kept, and the gap is counted.", lagGap},
		{"lag/no-gap", "A parked subscriber that is resumed before retention took anything has lost nothing.", lagNoGap},
		{"lag/resumed", "A subscriber that is resumed beyond its MaxLag goes on, until its lag has grown by another MaxLag.", lagResumed},
		{"lag/others", "A Required subscriber, one without a MaxLag, and a command's queue are never parked.", lagOthers},
		{"lag/keeps-what-it-began", "What a parked subscriber has leased, deferred or dead is kept and can still be settled.", lagBegan},
	}
}

// parked wants a queue to be parked, or not.
func (s *scene) parked(queue string, want bool) {
	s.Helper()
	if st := s.state(queue); st.Parked != want {
		s.Errorf("Queues(): %s with depth %d of a lag of at most %d is parked = %t, want %t", queue, st.Depth, st.MaxLag, st.Parked, want)
	}
}

func (s *scene) declareLagging(maxLag int) {
	s.Helper()
	q := subscriber(waiter)
	q.MaxLag = maxLag
	s.declare(q, subscriber(billing))
}

func lagParks(s *scene) {
	s.declareLagging(3)
	s.send(ready, "1")
	s.send(ready, "2")
	s.parked(waiter, false)
	s.claim(waiter, 1, "1")
	for i := range 4 {
		s.commit(outside(ready, fmt.Sprint(3+i)))
	}
	s.parked(waiter, true)
	s.parked(billing, false)
	if got := s.look(waiter, 9); got.Batch != nil || got.More || !got.NextDue.IsZero() {
		s.Errorf("Claim() of a parked queue = %q, more %t, next due %s, want nothing", words(got.Batch), got.More, got.NextDue)
	}
	s.crash()
	s.claim(waiter, 9, "")
	s.parked(waiter, true)
	s.drain(billing, 9, "1 2 3 4 5 6")
}

func lagResumed(s *scene) {
	s.declareLagging(3)
	s.send(ready, "1 2 3 4")
	s.parked(waiter, true)
	s.operate(store.Act{Verb: store.ResumeQueue, Queue: waiter})
	s.send(ready, "5")
	s.send(ready, "6")
	s.parked(waiter, false)
	s.claim(waiter, 2, "1 2")
	s.send(ready, "7")
	s.parked(waiter, true)
}

func lagGap(s *scene) {
	s.declareLagging(3)
	s.send(ready, "1 2 3 4")
	s.send(ready, "5")
	s.drain(billing, 9, "1 2 3 4 5")
	s.parked(waiter, true)
	s.clock.move(time.Hour)
	s.send(ready, "6 7")
	s.drain(billing, 9, "6 7")
	s.prune(store.Retention{Keep: time.Minute})
	s.listed(ready, "6 7")
	s.operate(store.Act{Verb: store.ResumeQueue, Queue: waiter})
	s.parked(waiter, false)
	if st := s.state(waiter); st.Gaps != 5 || st.Depth != 2 {
		s.Errorf("Queues() of a resumed subscriber: gaps %d, depth %d, want 5 and 2", st.Gaps, st.Depth)
	}
	s.drain(waiter, 9, "6 7")
	s.holds(waiter, 0, 0)
	s.send(ready, "8")
	s.drain(waiter, 9, "8")
}

func lagNoGap(s *scene) {
	s.declareLagging(2)
	s.send(ready, "1 2 3")
	s.send(ready, "4")
	s.parked(waiter, true)
	s.operate(store.Act{Verb: store.ResumeQueue, Queue: waiter})
	s.parked(waiter, false)
	s.drain(waiter, 9, "1 2 3 4")
	if st := s.state(waiter); st.Gaps != 0 || st.Depth != 0 {
		s.Errorf("Queues() of a subscriber resumed in time: gaps %d, depth %d, want 0 and 0", st.Gaps, st.Depth)
	}
}

func lagOthers(s *scene) {
	strict := subscriber(waiter)
	strict.MaxLag, strict.Required, strict.Capacity = 2, true, 100
	s.declare(strict, subscriber(billing), store.Queue{Name: cook, MaxLag: 2})
	for i := range 6 {
		s.send(ready, fmt.Sprint(i))
		s.send(cook, fmt.Sprint(i))
	}
	for _, queue := range []string{waiter, billing, cook} {
		s.parked(queue, false)
		s.drain(queue, 9, "0 1 2 3 4 5")
	}
}

func lagBegan(s *scene) {
	s.declareLagging(4)
	s.send(ready, "1 2 3")
	b := s.claim(waiter, 3, "1 2 3")
	s.fail(b, "1", store.Retry)
	s.fail(b, "2", store.Dead)
	for i := range 6 {
		s.send(ready, fmt.Sprint(4+i))
	}
	s.parked(waiter, true)
	s.drain(billing, 9, "1 2 3 4 5 6 7 8 9")
	s.clock.move(time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	s.done(b, "3")
	s.claim(waiter, 9, "")
	s.operate(store.Act{Verb: store.ResumeQueue, Queue: waiter})
	s.operate(store.Act{Verb: store.RetryDead, Queue: waiter})
	s.drain(waiter, 9, "1 2")
	if st := s.state(waiter); st.Gaps != 6 || st.Depth != 0 {
		s.Errorf("Queues(): gaps %d, depth %d, want 6 and 0", st.Gaps, st.Depth)
	}
}
