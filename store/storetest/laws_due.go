package storetest

import (
	"time"

	"github.com/weir-go/weir/store"
)

func dueLaws() []Law {
	return []Law{
		{"due/delay", "A message with a due time is not delivered before it by the store's clock, and then once; it holds back no other.", dueDelay},
		{"due/next", "NextDue is the earliest time that a deferred message waits for, zero when none does.", dueNext},
		{"due/retry", "A retried delivery comes again when it is due, with the next attempt's number and the first attempt's time.", dueRetry},
		{"due/not-yet", "A delivery that was not yet possible comes again when it is due, with the same attempt's number.", dueNotYet},
		{"due/kept", "What is deferred stays so over crashes and restarts, with its attempts.", dueKept},
		{"due/clock-back", "A clock that is set back delivers nothing early and loses nothing.", dueClockBack},
		{"due/past", "A due time that has passed, or none, is due at once.", duePast},
		{"due/max", "Max bounds what is due and what is fresh together; what is due comes first.", dueMax},
	}
}

func (s *scene) nextDue(queue string, want time.Time) {
	s.Helper()
	got := s.look(queue, 9)
	if got.Batch != nil || !got.NextDue.Equal(want) {
		s.Errorf("Claim(%s) = %q, next due %s, want nothing, %s", queue, words(got.Batch), got.NextDue, want)
	}
}

func dueDelay(s *scene) {
	s.declareCook()
	ms := messages(cook, "1 k2 3 k4")
	ms[0].Due, ms[1].Due = s.clock.Now().Add(time.Hour), s.clock.Now().Add(2*time.Hour)
	s.commit(&store.Change{Sends: ms})
	s.done(s.claim(cook, 9, "3 k4"), "3 k4")
	s.clock.move(time.Hour - time.Microsecond)
	s.claim(cook, 9, "")
	s.clock.move(time.Microsecond)
	b := s.claim(cook, 9, "1")
	if d := b.Deliveries[0]; d.Attempt != 1 || !d.FirstAt.IsZero() {
		s.Errorf("Claim() of a delayed message = attempt %d, first at %s, want 1, zero", d.Attempt, d.FirstAt)
	}
	s.claim(cook, 9, "")
	s.clock.move(time.Hour)
	s.claim(cook, 9, "k2")
	s.claim(cook, 9, "")
	s.holds(cook, 2, 0)
}

func dueNext(s *scene) {
	s.declareCook()
	s.nextDue(cook, time.Time{})
	now := s.clock.Now()
	ms := messages(cook, "1 2 3")
	ms[0].Due = now.Add(time.Hour)
	s.commit(&store.Change{Sends: ms})
	b := s.look(cook, 9)
	if words(b.Batch) != "2 3" || !b.NextDue.Equal(now.Add(time.Hour)) {
		s.Errorf("Claim() = %q, next due %s, want \"2 3\", %s", words(b.Batch), b.NextDue, now.Add(time.Hour))
	}
	s.fail(b.Batch, "2", store.Retry)
	s.nextDue(cook, now.Add(time.Minute))
	s.fail(b.Batch, "3", store.Dead)
	s.clock.move(time.Minute)
	s.done(s.claim(cook, 9, "2"), "2")
	s.nextDue(cook, now.Add(time.Hour))
	s.clock.move(time.Hour)
	s.done(s.claim(cook, 9, "1"), "1")
	s.nextDue(cook, time.Time{})
}

func dueRetry(s *scene) {
	s.declareCook()
	s.send(cook, "1 2")
	b := s.claim(cook, 9, "1 2")
	first := s.clock.Now()
	for attempt := 2; attempt < 5; attempt++ {
		s.fail(b, "1", store.Retry)
		s.claim(cook, 9, "")
		s.clock.move(time.Minute)
		b = s.claim(cook, 9, "1")
		if d := b.Deliveries[0]; d.Attempt != attempt || !d.FirstAt.Equal(first) || d.Crashes != 0 {
			s.Errorf("Claim() of a retry = attempt %d, first at %s, %d crashes, want %d, %s, 0", d.Attempt, d.FirstAt, d.Crashes, attempt, first)
		}
	}
	s.done(b, "1")
	s.holds(cook, 1, 0)
}

func dueNotYet(s *scene) {
	s.declareCook()
	s.send(cook, "1")
	b := s.claim(cook, 9, "1")
	for range 3 {
		s.fail(b, "1", store.NotYet)
		s.claim(cook, 9, "")
		s.clock.move(time.Minute)
		b = s.claim(cook, 9, "1")
		if d := b.Deliveries[0]; d.Attempt != 1 {
			s.Errorf("Claim() of what was not yet possible = attempt %d, want 1", d.Attempt)
		}
	}
	s.fail(b, "1", store.Retry)
	s.clock.move(time.Minute)
	b = s.claim(cook, 9, "1")
	s.fail(b, "1", store.NotYet)
	s.clock.move(time.Minute)
	if d := s.claim(cook, 9, "1").Deliveries[0]; d.Attempt != 2 {
		s.Errorf("Claim() after a retry and a not yet = attempt %d, want 2", d.Attempt)
	}
}

func dueKept(s *scene) {
	s.declareCook()
	s.send(cook, "1 2")
	b := s.claim(cook, 9, "1 2")
	first := s.clock.Now()
	s.fail(b, "1", store.Retry)
	s.fail(b, "2", store.NotYet)
	s.crash()
	s.nextDue(cook, first.Add(time.Minute))
	s.restart()
	s.clock.move(time.Minute)
	b = s.claim(cook, 9, "1 2")
	if d := b.Deliveries[0]; b.Suspect || d.Attempt != 2 || !d.FirstAt.Equal(first) {
		s.Errorf("Claim() after a crash = suspect %t, attempt %d, first at %s, want no suspect, 2, %s", b.Suspect, d.Attempt, d.FirstAt, first)
	}
}

func dueClockBack(s *scene) {
	s.declareCook()
	due := s.clock.Now().Add(time.Minute)
	ms := messages(cook, "1 2")
	ms[0].Due = due
	s.commit(&store.Change{Sends: ms})
	b := s.claim(cook, 9, "2")
	s.clock.move(-time.Hour)
	s.fail(b, "2", store.Retry)
	s.send(cook, "3")
	s.done(s.claim(cook, 9, "3"), "3")
	s.clock.move(time.Minute)
	s.done(s.claim(cook, 9, "2"), "2")
	s.clock.move(time.Hour - time.Microsecond)
	s.claim(cook, 9, "")
	s.clock.move(time.Microsecond)
	s.done(s.claim(cook, 9, "1"), "1")
	s.holds(cook, 0, 0)
}

func duePast(s *scene) {
	s.declareCook()
	ms := messages(cook, "1 2 3")
	ms[0].Due, ms[1].Due = s.clock.Now().Add(-time.Hour), s.clock.Now()
	s.commit(&store.Change{Sends: ms})
	b := s.claim(cook, 9, "1 2 3")
	now, past := s.settle(b, "1", store.Retry), s.settle(b, "2", store.NotYet)
	now.Due, past.Due = s.clock.Now(), s.clock.Now().Add(-time.Hour)
	none := s.settle(b, "3", store.Retry)
	none.Due = time.Time{}
	s.commit(change(now), change(past), change(none))
	s.claim(cook, 9, "1 2 3")
}

func dueMax(s *scene) {
	s.declareCook()
	s.send(cook, "1 2 3 4")
	b := s.claim(cook, 3, "1 2 3")
	for _, word := range []string{"1", "2", "3"} {
		s.fail(b, word, store.Retry)
	}
	s.clock.move(time.Minute)
	s.claim(cook, 2, "1 2")
	s.claim(cook, 2, "3 4")
}
