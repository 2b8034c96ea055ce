package storetest

import (
	"time"

	"github.com/weir-go/weir/store"
)

func suspectLaws() []Law {
	return []Law{
		{"suspect/crash", "What a crashed process left open is suspect; what was handed back is not; neither is what was never claimed.", suspectCrash},
		{"suspect/untouched", "What nobody took over stays suspect, however many processes come and go in an orderly way meanwhile.", suspectUntouched},
		{"suspect/lone", "A process that ends while a message runs alone is held against that message, once each time, and no other.", suspectLone},
		{"suspect/not-alone", "A process that ends while several ran is held against none of them.", suspectNotAlone},
		{"suspect/no-longer-alone", "A start recorded again, not alone, takes back that it was: the process's end is not held against it.", suspectNoLongerAlone},
		{"suspect/settled", "A start counts no more once its message is settled, or handed back.", suspectSettled},
		{"suspect/kept", "Crashes stay with a message over retries, and are told with its attempts.", suspectKept},
		{"suspect/quarantined", "A message that is given up after its crashes is a dead letter that says so.", suspectQuarantined},
	}
}

func suspectCrash(s *scene) {
	s.declareCook()
	s.send(cook, "1 2 3")
	want := func(b *store.Batch, suspect bool) {
		s.Helper()
		if b.Suspect != suspect {
			s.Errorf("Claim(): batch %q suspect = %t, want %t", words(b), b.Suspect, suspect)
		}
	}
	want(s.claim(cook, 1, "1"), false)
	s.crash()
	want(s.claim(cook, 1, "1"), true)
	want(s.claim(cook, 1, "2"), false)
	s.restart()
	want(s.claim(cook, 1, "1"), false)
	want(s.claim(cook, 1, "2"), false)
	want(s.claim(cook, 1, "3"), false)
	s.crash()
	want(s.claim(cook, 1, "1"), true)
}

func suspectUntouched(s *scene) {
	s.declareCook()
	s.send(cook, "1 2")
	s.claim(cook, 1, "1")
	s.crash()
	s.restart()
	s.restart()
	if b := s.claim(cook, 1, "1"); !b.Suspect {
		s.Errorf("Claim() two lives after a crash: batch %q suspect = false, want true", words(b))
	}
	s.claim(cook, 1, "2")
}

// start records that a word of a suspect batch begins to run.
func (s *scene) start(b *store.Batch, word string, lone bool) {
	s.Helper()
	s.commit(&store.Change{Starts: []store.Start{{Batch: b.BatchRef, Index: s.delivery(b, word).Index, Lone: lone}}})
}

// crashes wants the number of crashes of each word of a batch.
func (s *scene) crashes(b *store.Batch, want ...int) {
	s.Helper()
	for i, d := range b.Deliveries {
		if d.Crashes != want[i] {
			s.Errorf("Claim(): %q has %d crashes, want %d", d.Message.Body, d.Crashes, want[i])
		}
	}
}

func suspectLone(s *scene) {
	s.declareCook()
	s.send(cook, "1 2 3")
	s.claim(cook, 3, "1 2 3")
	s.crash()
	for n := range 3 {
		b := s.claim(cook, 3, "1 2 3")
		s.crashes(b, 0, n, 0)
		s.start(b, "2", true)
		s.crash()
	}
	b := s.claim(cook, 3, "1 2 3")
	s.crashes(b, 0, 3, 0)
	s.crash()
	s.crashes(s.claim(cook, 3, "1 2 3"), 0, 3, 0)
}

func suspectNotAlone(s *scene) {
	s.declareCook()
	s.send(cook, "1 2")
	s.claim(cook, 2, "1 2")
	s.crash()
	b := s.claim(cook, 2, "1 2")
	s.start(b, "1", false)
	s.start(b, "2", false)
	s.crash()
	s.crashes(s.claim(cook, 2, "1 2"), 0, 0)
}

func suspectNoLongerAlone(s *scene) {
	s.declareCook()
	s.send(cook, "1 2")
	s.claim(cook, 2, "1 2")
	s.crash()
	b := s.claim(cook, 2, "1 2")
	s.start(b, "1", true)
	s.start(b, "2", false)
	s.start(b, "1", false)
	s.crash()
	s.crashes(s.claim(cook, 2, "1 2"), 0, 0)
}

func suspectSettled(s *scene) {
	s.declareCook()
	s.send(cook, "1 2 3")
	s.claim(cook, 3, "1 2 3")
	s.crash()
	b := s.claim(cook, 3, "1 2 3")
	s.start(b, "1", true)
	s.fail(b, "1", store.Retry)
	s.start(b, "2", true)
	s.done(b, "2")
	s.crash()
	b = s.claim(cook, 3, "3")
	s.crashes(b, 0)
	s.start(b, "3", true)
	s.restart()
	b = s.claim(cook, 3, "3")
	s.crashes(b, 0)
	s.clock.move(time.Minute)
	s.crashes(s.claim(cook, 3, "1"), 0)
	s.crash()
	s.crashes(s.claim(cook, 3, "3"), 0)
}

func suspectKept(s *scene) {
	s.declareCook()
	id := s.send(cook, "1")[0].ID
	s.claim(cook, 1, "1")
	s.crash()
	s.start(s.claim(cook, 1, "1"), "1", true)
	s.clock.move(time.Second)
	s.crash()
	b := s.claim(cook, 1, "1")
	s.crashes(b, 1)
	s.fail(b, "1", store.Retry)
	s.clock.move(time.Minute)
	b = s.claim(cook, 1, "1")
	s.crashes(b, 1)
	s.fail(b, "1", store.NotYet)
	s.clock.move(time.Minute)
	s.crashes(s.claim(cook, 1, "1"), 1)
	var told []string
	for _, a := range s.story(cook, id).Attempts {
		told = append(told, a.Verdict)
	}
	if len(told) != 3 || told[0] != "crashed" || told[1] != "retry" || told[2] != "not-yet" {
		s.Errorf("Message(): attempts = %q, want crashed, retry, not-yet", told)
	}
}

func suspectQuarantined(s *scene) {
	s.declareCook()
	id := s.send(cook, "1")[0].ID
	s.claim(cook, 1, "1")
	s.crash()
	for range store.CrashLimit {
		s.start(s.claim(cook, 1, "1"), "1", true)
		s.crash()
	}
	b := s.claim(cook, 1, "1")
	s.crashes(b, store.CrashLimit)
	set := s.settle(b, "1", store.Dead)
	set.Quarantined, set.Reason = true, "crashed its process 3 times"
	s.commit(change(set))
	l := s.letter(cook, id)
	if !l.Quarantined || l.Reason != set.Reason {
		s.Errorf("Dead() = quarantined %t, reason %q, want true, %q", l.Quarantined, l.Reason, set.Reason)
	}
	if len(l.History) < store.CrashLimit || l.History[0].Verdict != "crashed" {
		s.Errorf("Dead(): history = %+v, want the %d crashes", l.History, store.CrashLimit)
	}
	s.holds(cook, 0, 1)
}
