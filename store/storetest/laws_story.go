package storetest

import (
	"time"

	"github.com/weir-go/weir/store"
)

func storyLaws() []Law {
	return []Law{
		{"story/states", "A message's story tells for each queue where it is: before, waiting, leased, done, deferred, behind, dead, discarded.", storyStates},
		{"story/claim", "A story tells which process claimed the message, in which batch and when, and of its run when it began and how long it took.", storyClaim},
		{"story/attempts", "A story tells every attempt but a first success, in order: retries, postponements, the success after them.", storyAttempts},
		{"story/clock-back", "A run that began, by a clock that was set back, before its claim is told as it was measured.", storyClockBack},
		{"story/queues", "A story tells each of its queues' part apart.", storyQueues},
		{"story/not-found", "A message that never was is ErrNotFound.", storyNotFound},
		{"story/who", "A story names the process that worked the message, also after another took its batch over.", storyWho},
		{"story/follower", "What waited behind its key tells of its run like any other.", storyFollower},
		{"story/kept", "A story stays true over crashes.", storyKept},
	}
}

// told wants what a queue's story says of a message's state.
func (s *scene) told(queue string, m *store.Message, want string) store.QueueStory {
	s.Helper()
	st := s.story(queue, m.ID)
	if st.State != want {
		s.Errorf("Message(%s): %q in %s is %q, want %q", m.ID, m.Body, queue, st.State, want)
	}
	return st
}

func storyStates(s *scene) {
	old := s.send(ready, "0")[0]
	s.declare(subscriber(waiter))
	ms := s.send(ready, "1 2 3 k4 k5 6 7")
	s.told(waiter, old, "before")
	s.told(waiter, ms[6], "waiting")
	b := s.claim(waiter, 6, "1 2 3 k4 k5 6")
	s.told(waiter, ms[0], "leased")
	s.done(b, "2")
	s.fail(b, "k4", store.Retry, "k5")
	s.fail(b, "3", store.Discarded)
	s.fail(b, "6", store.Dead)
	for i, want := range []string{"leased", "done", "discarded", "deferred", "behind", "dead", "waiting"} {
		s.told(waiter, ms[i], want)
	}
	if st := s.told(waiter, ms[3], "deferred"); !st.Due.Equal(s.clock.Now().Add(time.Minute)) || st.Reason != "no k4" {
		s.Errorf("Message(): deferred until %s, %q, want in a minute, \"no k4\"", st.Due, st.Reason)
	}
	if st := s.told(waiter, ms[5], "dead"); st.Reason != "no 6" {
		s.Errorf("Message(): dead because %q, want \"no 6\"", st.Reason)
	}
	s.operate(store.Act{Verb: store.RetryDead, Queue: waiter})
	s.told(waiter, ms[5], "deferred")
	s.done(s.claim(waiter, 9, "6 7"), "6 7")
	s.told(waiter, ms[5], "done")
	s.told(waiter, ms[6], "done")
	s.clock.move(time.Minute)
	b = s.claim(waiter, 9, "k4")
	s.told(waiter, ms[3], "leased")
	s.fail(b, "k4", store.Dead)
	s.operate(store.Act{Verb: store.DiscardDead, Queue: waiter})
	s.told(waiter, ms[3], "discarded")
	late := message(ready, "8")
	late.Due = s.clock.Now().Add(time.Hour)
	s.commit(sends(late))
	s.drain(waiter, 9, "k5")
	s.told(waiter, ms[4], "done")
	if st := s.told(waiter, late, "deferred"); !st.Due.Equal(late.Due) {
		s.Errorf("Message(): delayed until %s, want %s", st.Due, late.Due)
	}
}

func storyClaim(s *scene) {
	s.declareCook()
	ms := s.send(cook, "1 2")
	s.clock.move(time.Second)
	claimed := s.clock.Now()
	b := s.claim(cook, 9, "1 2")
	s.clock.move(time.Second)
	set := s.settle(b, "1", store.Done)
	set.Took = 1500 * time.Microsecond
	s.commit(change(set))
	for i, m := range ms {
		if st := s.story(cook, m.ID); st.Batch != b.No || st.Process != s.me.ID || !st.ClaimedAt.Equal(claimed) {
			s.Errorf("Message(): story %d = batch %d, process %d, claimed %s, want %d, %d, %s", i, st.Batch, st.Process, st.ClaimedAt, b.No, s.me.ID, claimed)
		}
	}
	if st := s.told(cook, ms[0], "done"); !st.Started.Equal(s.clock.Now()) || st.Took != set.Took || len(st.Attempts) != 0 {
		s.Errorf("Message(): started %s, took %s, %d attempts, want %s, %s, none", st.Started, st.Took, len(st.Attempts), s.clock.Now(), set.Took)
	}
}

// attempts wants the verdicts of a story's attempts, and their numbers.
func (s *scene) attempts(st store.QueueStory, verdicts []string, numbers []int) {
	s.Helper()
	if len(st.Attempts) != len(verdicts) {
		s.Errorf("Message(): %d attempts in %s, want %q", len(st.Attempts), st.Queue, verdicts)
		return
	}
	for i, a := range st.Attempts {
		if a.Verdict != verdicts[i] || a.No != numbers[i] || a.Process != s.me.ID || a.Started.IsZero() || a.Took != 5*time.Millisecond {
			s.Errorf("Message(): attempt %d in %s = %+v, want number %d, %q, by process %d", i, st.Queue, a, numbers[i], verdicts[i], s.me.ID)
		}
	}
}

func storyAttempts(s *scene) {
	s.declareCook()
	m := s.send(cook, "1")[0]
	b := s.claim(cook, 1, "1")
	for _, v := range []store.Verdict{store.Retry, store.NotYet, store.Retry} {
		s.fail(b, "1", v)
		s.clock.move(time.Minute)
		b = s.claim(cook, 1, "1")
	}
	s.done(b, "1")
	s.attempts(s.told(cook, m, "done"), []string{"retry", "not-yet", "retry", "done"}, []int{1, 2, 2, 3})
}

func storyClockBack(s *scene) {
	s.declareCook()
	ms := s.send(cook, "1 2 3")
	b := s.claim(cook, 9, "1 2 3")
	s.clock.move(-time.Hour)
	back := s.clock.Now()
	s.done(b, "1")
	s.clock.move(time.Hour)
	s.done(b, "2")
	s.clock.move(-2 * time.Hour)
	s.fail(b, "3", store.Retry)
	if st := s.told(cook, ms[0], "done"); !st.Started.Equal(back) || st.Took != 5*time.Millisecond {
		s.Errorf("Message(): started %s, took %s, want %s, 5ms", st.Started, st.Took, back)
	}
	if st := s.told(cook, ms[1], "done"); !st.Started.Equal(back.Add(time.Hour)) {
		s.Errorf("Message(): started %s, want %s", st.Started, back.Add(time.Hour))
	}
	s.clock.move(time.Minute)
	s.drain(cook, 9, "3")
}

func storyQueues(s *scene) {
	s.declare(subscriber(waiter), subscriber(billing))
	m := s.send(ready, "1")[0]
	s.drain(waiter, 1, "1")
	s.told(waiter, m, "done")
	s.told(billing, m, "waiting")
	s.fail(s.claim(billing, 1, "1"), "1", store.Retry)
	s.attempts(s.told(billing, m, "deferred"), []string{"retry"}, []int{1})
	s.attempts(s.told(waiter, m, "done"), nil, nil)
	if got := len(s.message(m.ID).Queues); got != 2 {
		s.Errorf("Message(): stories of %d queues, want 2", got)
	}
}

func storyNotFound(s *scene) {
	s.declareCook()
	m := s.send(cook, "1")[0]
	inc := s.store.Info().Incarnation
	for _, id := range []string{"", "gibberish", "zzzzzz-1", inc.ID(m.Pos + 1), inc.ID(1), inc.ID(1<<62 + 5)} {
		s.gone(id)
	}
}

func storyKept(s *scene) {
	s.declareCook()
	ms := s.send(cook, "1 2 3 4")
	b := s.claim(cook, 3, "1 2 3")
	me := s.me.ID
	s.done(b, "1")
	s.fail(b, "2", store.Retry)
	s.crash()
	for i, want := range []string{"done", "deferred", "leased", "waiting"} {
		s.told(cook, ms[i], want)
	}
	if st := s.story(cook, ms[0].ID); st.Process != me || st.Batch != b.No {
		s.Errorf("Message() after a crash: claimed by process %d in batch %d, want %d, %d", st.Process, st.Batch, me, b.No)
	}
	s.drain(cook, 9, "3 4")
	s.told(cook, ms[2], "done")
}

func storyWho(s *scene) {
	s.declareCook()
	ms := s.send(cook, "1 2")
	s.done(s.claim(cook, 2, "1 2"), "1")
	first := s.me.ID
	s.restart()
	s.done(s.claim(cook, 2, "2"), "2")
	for i, want := range []int64{first, s.me.ID} {
		if st := s.told(cook, ms[i], "done"); st.Process != want || st.Started.IsZero() {
			s.Errorf("Message(%s): worked by process %d from %s, want %d from a time", ms[i].ID, st.Process, st.Started, want)
		}
	}
}

func storyFollower(s *scene) {
	s.declareCook()
	ms := s.send(cook, "k1 k2")
	b := s.claim(cook, 2, "k1 k2")
	s.fail(b, "k1", store.Retry, "k2")
	s.clock.move(time.Hour)
	s.done(s.claim(cook, 2, "k1"), "k1")
	s.done(s.claim(cook, 2, "k2"), "k2")
	if st := s.told(cook, ms[1], "done"); st.Started.IsZero() || st.Took <= 0 || st.Process != s.me.ID {
		s.Errorf("Message(%s): started %s, took %s, process %d, want a run in process %d", ms[1].ID, st.Started, st.Took, st.Process, s.me.ID)
	}
}
