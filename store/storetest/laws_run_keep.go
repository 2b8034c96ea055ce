package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func runKeepLaws() []Law {
	return []Law{
		{"run-keep/age", "A run that ended longer ago than Keep is deleted, with all that is its own, and not before.", runKeepAge},
		{"run-keep/unfinished", "A run that has not ended is never deleted, nor anything of it, however old.", runKeepUnfinished},
		{"run-keep/free-again", "The ID of a deleted run is free: it starts a new run, with a higher number.", runKeepFree},
		{"run-keep/steps", "Deleting runs goes in steps of at most Max rows and comes to an end, whatever they hold.", runKeepSteps},
	}
}

func runKeepAge(s *scene) {
	a := s.leased("a")
	s.update(&store.RunUpdate{RunRef: a, Records: []*store.Record{step(1, "pay", store.StepDone)}, Attempts: []store.StepAttempt{{N: 1, Attempt: 1, StartedAt: s.clock.Now(), Reason: "timeout"}}})
	s.clock.move(100 * time.Hour) // it is the end that counts
	u := ending(a, store.Completed)
	u.Records = []*store.Record{step(2, "mail", store.StepOmitted)}
	s.update(u)
	s.clock.move(30 * time.Minute)
	s.update(ending(s.leased("b"), store.Failed))
	s.clock.move(30*time.Minute - time.Microsecond)
	s.prune(store.Retention{Keep: time.Hour})
	if got := s.stands("a", "completed"); len(got.Records) != 2 || len(got.Attempts) != 1 || string(got.Result) != "out" {
		s.Errorf("Story(a) before it is old: %d records, %d attempts, want 2, 1", len(got.Records), len(got.Attempts))
	}
	s.clock.move(2 * time.Microsecond)
	s.prune(store.Retention{Keep: time.Hour})
	s.noRun("a")
	s.ran("", "b")
	counts, err := s.store.Reader().Runs().Counts(s.ctx())
	if err != nil || len(counts) != 1 || counts[0].Count != 1 {
		s.Errorf("Counts() = %+v, %v, want b", counts, err)
	}
	s.again(starting("b"), s.run("b").No)
	s.clock.move(time.Hour)
	s.prune(store.Retention{Keep: time.Hour})
	s.ran("", "")
	s.well()
}

func runKeepUnfinished(s *scene) {
	s.startRuns("fresh")
	rec := func(r store.RunRef) store.RunRef {
		s.update(&store.RunUpdate{RunRef: r, Records: []*store.Record{step(1, "pay", store.StepParked)}, Attempts: []store.StepAttempt{{N: 1, Attempt: 1, Reason: "timeout"}}, Waits: []store.Wait{awaits(2, "k")}})
		return r
	}
	rec(s.leased("works"))
	s.update(waiting(rec(s.leased("waits"))))
	s.update(parking(rec(s.leased("parked"))))
	s.update(sleeping(rec(s.leased("sleeps")), s.clock.Now().Add(5000*time.Hour)))
	late := starting("late")
	late.At = s.clock.Now().Add(5000 * time.Hour)
	s.commit(begins(late))
	s.clock.move(1000 * time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	for _, id := range []string{"works", "waits", "parked", "sleeps"} {
		if got := s.run(id); len(got.Records) != 1 || len(got.Attempts) != 1 || len(got.Waits) != 1 {
			s.Errorf("Story(%s) of an old run: %d records, %d attempts, %d waits, want 1 each", id, len(got.Records), len(got.Attempts), len(got.Waits))
		}
	}
	s.send(ready, "k1")
	s.claimRuns(9, "fresh waits sleeps")
	s.handedMail(0, "2 k1, 2 k1, 2 k1")
	s.stands("late", store.RunWaiting)
	s.well()
}

func runKeepFree(s *scene) {
	var last store.RunNo
	for i := range 3 {
		r := starting("a")
		r.Input = fmt.Append(nil, i)
		ref := s.lease(r)
		if r.No <= last || r.Epoch < 1 {
			s.Errorf("Commit(start a after it was deleted): No = %d, epoch %d, want one above %d", r.No, r.Epoch, last)
		}
		last = r.No
		if got := s.run("a"); len(got.Records)+len(got.Mail)+len(got.Waits) > 0 {
			s.Errorf("Story(a) of a new run: %d records, %d letters, %d waits, want none", len(got.Records), len(got.Mail), len(got.Waits))
		}
		u := updates(ref)
		u.Records, u.Waits = []*store.Record{step(1, "pay", store.StepDone)}, []store.Wait{awaits(1, "k"), awaits(2, "j")}
		s.update(u)
		s.send(ready, fmt.Sprint("k", i))
		s.update(ending(ref, store.Completed))
		s.clock.move(100 * time.Hour)
		s.prune(store.Retention{Keep: time.Minute})
		s.noRun("a")
		s.crash()
	}
}

func runKeepSteps(s *scene) {
	const n = 12
	for i := range n {
		r := s.leased(fmt.Sprint("r", i))
		if i%4 == 3 {
			continue // does not end
		}
		u := ending(r, store.Completed)
		for k := range 3 * i {
			u.Records = append(u.Records, step(k+1, "s", store.StepDone))
			u.Attempts = append(u.Attempts, store.StepAttempt{N: k + 1, Attempt: 1, Reason: strings.Repeat("r", 100)})
		}
		s.update(u)
	}
	s.send(ready, "1 2 3")
	s.clock.move(100 * time.Hour)
	got, err := s.store.Prune(s.ctx(), store.Retention{Keep: time.Minute, Max: 5})
	if rows := got.Messages + got.Batches + got.Other; err != nil || !got.More || rows < 1 || rows > 5 {
		s.Errorf("Prune(max 5) = %+v, %v, want 1 to 5 rows and more", got, err)
	}
	s.rows(store.RunQuery{}) // what is half deleted disturbs nobody
	s.prune(store.Retention{Keep: time.Minute, Max: 7})
	s.ran("", "r11 r7 r3")
	s.listed(ready, "")
	if again := s.prune(store.Retention{Keep: time.Minute}); again.Messages+again.Batches+again.Other != 0 {
		s.Errorf("Prune() again = %+v, want nothing", again)
	}
	s.well()
}

func runWaitSignalKept(s *scene) {
	early := signal("a", "early")
	s.commit(sends(early))
	s.clock.move(time.Second)
	a, over := s.leased("a"), s.leased("over")
	other := starting("b")
	other.Workflow = refund
	b := s.lease(other)
	s.update(parking(s.leased("parked")))
	s.clock.move(time.Second)
	told := []*store.Message{signal("a", "1"), signal("a", "2"), signal("b", "3"), signal("parked", "4")}
	lost := []*store.Message{early, signal("over", "5"), signal("nobody", "6")}
	s.commit(sends(told...), sends(lost[1:]...), sends(messages(ready, "a1")...)) // that has a key, and is none
	s.update(ending(over, store.Completed))
	for range 3 { // what was copied aside is looked at again
		s.clock.move(1000 * time.Hour)
		s.prune(store.Retention{Keep: time.Minute})
	}
	for i := range told {
		s.same("Message", s.message(told[i].ID).plain(), told[i])
	}
	for _, m := range lost {
		s.gone(m.ID)
	}
	s.listed(ready, "")
	since := told[0].SentAt
	first, next, third := heeds(1, "a"), heeds(2, "a"), heeds(1, "b")
	first.Since, next.After, third.Since = since, told[0].Pos, since
	s.update(&store.RunUpdate{RunRef: b, Waits: []store.Wait{third}})
	s.unread(waiting(a, first, next), true)
	r := s.claimRun("a")
	s.mailed(r, "1 1, 2 2")
	s.update(ending(r.RunRef, store.Completed))
	s.clock.move(time.Minute)
	s.prune(store.Retention{Keep: time.Hour})
	s.gone(told[0].ID)
	s.gone(told[1].ID)
	s.same("Message", s.message(told[2].ID).plain(), told[2])
	s.update(ending(b, store.Failed))
	s.prune(store.Retention{Keep: time.Hour})
	s.gone(told[2].ID)
	s.same("Message", s.message(told[3].ID).plain(), told[3])
	s.well()
}
