package storetest

import (
	"time"

	"github.com/weir-go/weir/store"
)

func keyLaws() []Law {
	return []Law{
		{"keys/retry-holds", "While a message waits for its retry, later ones of its key are not delivered, whether they are older than the failure or sent after it; other keys go on.", keysRetryHolds},
		{"keys/not-yet-holds", "A message that is not yet possible holds its key back like one that failed.", keysNotYetHolds},
		{"keys/blank", "Messages without a key hold back nobody.", keysBlank},
		{"keys/behind-untouched", "A message that waited behind another comes as it was: same attempt, no failure recorded.", keysBehindUntouched},
		{"keys/delay-holds-nobody", "A sender's own delay does not hold its key back.", keysDelay},
		{"keys/delayed-behind", "A delayed message whose time comes while an earlier one of its key waits goes behind it.", keysDelayedBehind},
		{"keys/queues-apart", "A key that is blocked in one queue is free in the others, and a topic's key has nothing to do with another's.", keysQueuesApart},
		{"keys/over-crash", "A blocked key stays blocked over crashes, and its followers come after it.", keysOverCrash},
		{"keys/abandoned-behind", "A follower in an abandoned batch does not come past the message of its key that failed meanwhile.", keysAbandonedBehind},
		{"keys/abandoned-untouched", "A follower that goes behind another out of an abandoned batch comes as it was: same attempt, same first attempt, its crashes.", keysAbandonedUntouched},
		{"keys/handed-back", "A blocked key stays blocked when what follows was handed back.", keysHandedBack},
		{"keys/due-together", "When a retry is due, it and a fresh message of its key come in the order of positions, or one after the other.", keysDueTogether},
	}
}

func keysRetryHolds(s *scene) {
	s.declareCook()
	s.send(cook, "a1 a2 b1 a3 b2")
	b := s.claim(cook, 3, "a1 a2 b1")
	s.fail(b, "a1", store.Retry, "a2")
	s.send(cook, "a4 b3")
	s.done(b, "b1")
	s.done(s.claim(cook, 9, "b2 b3"), "b2 b3")
	s.send(cook, "a5")
	s.claim(cook, 9, "")
	s.clock.move(time.Minute)
	s.done(s.claim(cook, 1, "a1"), "a1")
	s.drain(cook, 9, "a2 a3 a4 a5")
	s.holds(cook, 0, 0)
}

// drain claims and acknowledges until there is nothing now, and wants the words in order.
func (s *scene) drain(queue string, max int, want string) {
	s.Helper()
	line := ""
	for range 1000 {
		b := s.look(queue, max).Batch
		if b == nil {
			break
		}
		if line != "" {
			line += " "
		}
		line += words(b)
		s.done(b, words(b))
	}
	if line != want {
		s.Errorf("Claim(%s, max %d) and done, until nothing = %q, want %q", queue, max, line, want)
	}
}

func keysNotYetHolds(s *scene) {
	s.declareCook()
	s.send(cook, "a1 a2 b1")
	b := s.claim(cook, 9, "a1 a2 b1")
	s.fail(b, "a1", store.NotYet, "a2")
	s.done(b, "b1")
	s.send(cook, "a3 b2")
	s.drain(cook, 9, "b2")
	s.clock.move(time.Minute)
	s.drain(cook, 9, "a1 a2 a3")
}

func keysBlank(s *scene) {
	s.declareCook()
	s.send(cook, "1 2 3")
	b := s.claim(cook, 9, "1 2 3")
	s.fail(b, "1", store.Retry)
	s.fail(b, "2", store.Dead)
	s.done(b, "3")
	s.send(cook, "4")
	s.drain(cook, 9, "4")
	s.clock.move(time.Minute)
	s.drain(cook, 9, "1")
	s.holds(cook, 0, 1)
}

func keysBehindUntouched(s *scene) {
	s.declareCook()
	ms := s.send(cook, "a1 a2 a3")
	b := s.claim(cook, 9, "a1 a2 a3")
	s.fail(b, "a1", store.Retry, "a2", "a3")
	for _, m := range ms[1:] {
		if st := s.story(cook, m.ID); st.State != "behind" || len(st.Attempts) != 0 {
			s.Errorf("Message(): %q is %q with %d attempts, want behind with none", m.Body, st.State, len(st.Attempts))
		}
	}
	if st := s.state(cook); st.Deferred != 3 || st.Depth != 3 {
		s.Errorf("Queues(): %d deferred of %d, want 3 of 3", st.Deferred, st.Depth)
	}
	s.clock.move(time.Minute)
	s.done(s.claim(cook, 9, "a1"), "a1")
	for _, d := range s.claim(cook, 9, "a2 a3").Deliveries {
		if d.Attempt != 1 || !d.FirstAt.IsZero() || d.Crashes != 0 {
			s.Errorf("Claim() of a released follower = attempt %d, first at %s, want 1, zero", d.Attempt, d.FirstAt)
		}
	}
}

func keysDelay(s *scene) {
	s.declareCook()
	ms := messages(cook, "a1 a2")
	ms[0].Due = s.clock.Now().Add(time.Hour)
	s.commit(&store.Change{Sends: ms})
	s.drain(cook, 9, "a2")
	s.send(cook, "a3")
	s.drain(cook, 9, "a3")
	s.clock.move(time.Hour)
	s.drain(cook, 9, "a1")
}

func keysDelayedBehind(s *scene) {
	s.declareCook()
	ms := messages(cook, "a1 a2 b1")
	ms[1].Due, ms[2].Due = s.clock.Now().Add(30*time.Second), s.clock.Now().Add(30*time.Second)
	s.commit(sends(ms...))
	b := s.claim(cook, 9, "a1")
	s.fail(b, "a1", store.Retry)
	s.clock.move(30 * time.Second)
	s.drain(cook, 9, "b1")
	s.clock.move(30 * time.Second)
	s.drain(cook, 9, "a1 a2")
}

func keysQueuesApart(s *scene) {
	s.declare(subscriber(waiter), subscriber(billing), store.Queue{Name: cook})
	s.send(ready, "a1 a2")
	s.send(cook, "a1 a2")
	b := s.claim(waiter, 9, "a1 a2")
	s.fail(b, "a1", store.Dead, "a2")
	s.send(ready, "a3")
	s.drain(waiter, 9, "")
	s.drain(billing, 9, "a1 a2 a3")
	s.drain(cook, 9, "a1 a2")
	s.holds(waiter, 2, 1)
}

func keysOverCrash(s *scene) {
	s.declareCook()
	s.send(cook, "a1 a2 a3 b1")
	b := s.claim(cook, 3, "a1 a2 a3")
	s.fail(b, "a1", store.Retry, "a2", "a3")
	s.crash()
	s.send(cook, "a4")
	s.drain(cook, 9, "b1")
	s.clock.move(time.Minute)
	s.claim(cook, 9, "a1")
	s.crash()
	s.claim(cook, 9, "a1")
	s.restart()
	s.send(cook, "a5")
	b = s.claim(cook, 9, "a1")
	s.drain(cook, 9, "")
	s.done(b, "a1")
	s.drain(cook, 9, "a2 a3 a4 a5")
}

func keysAbandonedBehind(s *scene) {
	s.declareCook()
	s.send(cook, "a1 a2 b1")
	s.claim(cook, 1, "a1")
	s.claim(cook, 2, "a2 b1")
	s.crash()
	b := s.claim(cook, 1, "a1")
	s.fail(b, "a1", store.Retry)
	s.drain(cook, 9, "b1")
	s.clock.move(time.Minute)
	s.drain(cook, 9, "a1 a2")
}

func keysAbandonedUntouched(s *scene) {
	s.declare(store.Queue{Name: cook, OnDead: store.Skip})
	head := s.send(cook, "a1 a2")[0]
	first := s.clock.Now()
	b := s.claim(cook, 9, "a1 a2")
	s.fail(b, "a1", store.Dead)
	s.fail(b, "a2", store.Retry)
	s.clock.move(time.Minute)
	s.claim(cook, 9, "a2")
	s.crash()
	s.start(s.claim(cook, 9, "a2"), "a2", true)
	s.crash()
	s.operate(store.Act{Verb: store.RetryDead, ID: head.ID})
	s.done(s.claim(cook, 9, "a1"), "a1")
	if d := s.claim(cook, 9, "a2").Deliveries[0]; d.Attempt != 2 || d.Crashes != 1 || !d.FirstAt.Equal(first) {
		s.Errorf("Claim() of a released follower = attempt %d, %d crashes, first at %s, want 2, 1, %s", d.Attempt, d.Crashes, d.FirstAt, first)
	}
}

func keysHandedBack(s *scene) {
	s.declareCook()
	s.send(cook, "a1 a2 b1 a3")
	b := s.claim(cook, 3, "a1 a2 b1")
	s.fail(b, "a1", store.Retry, "a2")
	s.restart()
	s.drain(cook, 9, "b1")
	s.clock.move(time.Minute)
	s.drain(cook, 9, "a1 a2 a3")
}

func keysDueTogether(s *scene) {
	s.declareCook()
	s.send(cook, "a1")
	s.fail(s.claim(cook, 9, "a1"), "a1", store.Retry)
	s.send(cook, "a2 a3")
	s.clock.move(time.Minute)
	s.drain(cook, 9, "a1 a2 a3")
	s.send(cook, "a4")
	s.fail(s.claim(cook, 9, "a4"), "a4", store.Retry)
	s.send(cook, "a5")
	s.claim(cook, 9, "")
	s.clock.move(time.Minute)
	b := s.claim(cook, 1, "a4")
	s.fail(b, "a4", store.Retry)
	s.send(cook, "a6")
	s.claim(cook, 9, "")
	s.clock.move(time.Minute)
	s.drain(cook, 2, "a4 a5 a6")
}
