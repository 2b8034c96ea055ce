package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func releaseLaws() []Law {
	return []Law{
		{"release/lowest-first", "When the earlier one is done its followers are released, lowest first; a fresh message of the key comes after them.", releaseLowestFirst},
		{"release/fails-again", "A released follower that fails sends those after it behind itself, claimed or not.", releaseFailsAgain},
		{"release/discarded", "A message that is discarded frees its key like one that is done.", releaseDiscarded},
		{"release/many", "However many followers a key has, all are released, in order.", releaseMany},
		{"release/chain", "A key whose messages fail one after the other is worked in order to its end.", releaseChain},
		{"release/not-before-done", "Followers are not released while the earlier one is leased again, only when it is done.", releaseNotBeforeDone},
		{"release/wakes", "When a follower is released the next claim finds it at once.", releaseWakes},
	}
}

func releaseLowestFirst(s *scene) {
	s.declareCook()
	s.send(cook, "a1 a2 a3")
	b := s.claim(cook, 3, "a1 a2 a3")
	s.fail(b, "a1", store.Retry, "a3", "a2")
	s.send(cook, "a4")
	s.claim(cook, 9, "")
	s.clock.move(time.Minute)
	s.done(s.claim(cook, 9, "a1"), "a1")
	s.send(cook, "a5")
	s.done(s.claim(cook, 1, "a2"), "a2")
	s.done(s.claim(cook, 2, "a3 a4"), "a3 a4")
	s.drain(cook, 1, "a5")
}

func releaseFailsAgain(s *scene) {
	s.declareCook()
	s.send(cook, "a1 a2 a3 a4")
	b := s.claim(cook, 4, "a1 a2 a3 a4")
	s.fail(b, "a1", store.Retry, "a2", "a3", "a4")
	s.clock.move(time.Minute)
	s.done(s.claim(cook, 9, "a1"), "a1")
	b = s.claim(cook, 2, "a2 a3")
	s.fail(b, "a2", store.Retry, "a3")
	s.send(cook, "a5 b1")
	s.drain(cook, 9, "b1")
	s.clock.move(time.Minute)
	b = s.claim(cook, 9, "a2")
	if d := b.Deliveries[0]; d.Attempt != 2 {
		s.Errorf("Claim() of a follower that failed = attempt %d, want 2", d.Attempt)
	}
	s.done(b, "a2")
	b = s.claim(cook, 1, "a3")
	s.fail(b, "a3", store.Dead)
	s.drain(cook, 9, "")
	s.holds(cook, 2, 1)
	s.operate(store.Act{Verb: store.RetryDead, Queue: cook})
	s.drain(cook, 9, "a3 a4 a5")
}

func releaseDiscarded(s *scene) {
	s.declareCook()
	s.send(cook, "a1 a2")
	b := s.claim(cook, 9, "a1 a2")
	s.fail(b, "a1", store.Retry, "a2")
	s.clock.move(time.Minute)
	b = s.claim(cook, 9, "a1")
	s.fail(b, "a1", store.Discarded)
	s.drain(cook, 9, "a2")
	s.holds(cook, 0, 0)
}

func releaseMany(s *scene) {
	s.declareCook()
	const n = 2*store.MaxRelease + 50
	var line []string
	for i := range n {
		line = append(line, fmt.Sprint("a", i))
	}
	s.send(cook, strings.Join(line, " "))
	b := s.claim(cook, 1, "a0")
	s.fail(b, "a0", store.Retry)
	s.claim(cook, 9, "")
	s.clock.move(time.Minute)
	s.drain(cook, 40, strings.Join(line, " "))
	s.holds(cook, 0, 0)
}

func releaseChain(s *scene) {
	s.declareCook()
	s.send(cook, "a1 a2 a3 a4 a5")
	line := ""
	for range 100 {
		b := s.look(cook, 2).Batch
		if b == nil {
			if s.state(cook).Depth == 0 {
				break
			}
			s.clock.move(time.Minute)
			continue
		}
		word := string(b.Deliveries[0].Message.Body)
		line += " " + word
		if b.Deliveries[0].Attempt < 3 {
			var followers []string
			for _, d := range b.Deliveries[1:] {
				followers = append(followers, string(d.Message.Body))
			}
			s.fail(b, word, store.Retry, followers...)
			continue
		}
		s.done(b, word)
		for _, d := range b.Deliveries[1:] { // it fails for the first time
			s.fail(b, string(d.Message.Body), store.Retry)
		}
	}
	s.holds(cook, 0, 0)
	got := strings.Join(strings.Fields(line), " ")
	last := ""
	for word := range strings.FieldsSeq(line) {
		if word < last {
			s.Errorf("Claim() of one key whose messages fail = %q, want an order that never goes back", got)
			return
		}
		last = word
	}
}

func releaseNotBeforeDone(s *scene) {
	s.declareCook()
	s.send(cook, "a1 a2")
	b := s.claim(cook, 9, "a1 a2")
	s.fail(b, "a1", store.Retry, "a2")
	s.clock.move(time.Minute)
	b = s.claim(cook, 9, "a1")
	s.send(cook, "a3 b1")
	s.drain(cook, 9, "b1")
	s.done(b, "a1")
	s.drain(cook, 9, "a2 a3")
}

func releaseWakes(s *scene) {
	s.declareCook()
	s.send(cook, "a1 a2")
	b := s.claim(cook, 9, "a1 a2")
	s.fail(b, "a1", store.Dead, "a2")
	if got := s.look(cook, 9); got.Batch != nil || got.More || !got.NextDue.IsZero() {
		s.Errorf("Claim() of a blocked key = %q, more %t, next due %s, want nothing", words(got.Batch), got.More, got.NextDue)
	}
	s.operate(store.Act{Verb: store.DiscardDead, ID: s.dead(cook)[0].Message.ID})
	s.claim(cook, 9, "a2")
	s.holds(cook, 1, 0)
}
