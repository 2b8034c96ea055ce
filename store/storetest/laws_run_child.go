package storetest

import (
	"bytes"
	"time"

	"github.com/weir-go/weir/store"
)

func runChildLaws() []Law {
	return []Law{
		{"run-child/ends", "A child's end is mail of its parent, for the record that started it, with how it ended.", runChildEnds},
		{"run-child/ended-before", "A start of a child that has ended is answered by mail at once.", runChildEndedBefore},
		{"run-child/once", "A child's end is told once, whatever the parent does meanwhile.", runChildOnce},
		{"run-child/parent-gone", "A child whose parent has ended, or was deleted, ends like any other run.", runChildParentGone},
		{"run-child/kept", "The news of a child's end outlives the child.", runChildKept},
		{"run-child/together", "A child that ends in the group in which its parent begins to wait wakes it.", runChildTogether},
	}
}

// childOf starts a child for record n of a leased run, and leases it.
func (s *scene) childOf(parent store.RunRef, n int, id string) store.RunRef {
	s.Helper()
	r := starting(id)
	r.Parent, r.ParentStep = parent.No, n
	return s.lease(r)
}

func runChildEnds(s *scene) {
	p := s.leased("p")
	done, fails, stops := s.childOf(p, 3, "done"), s.childOf(p, 4, "fails"), s.childOf(p, 5, "stops")
	grand := s.childOf(done, 1, "grand")
	s.update(ending(grand, store.Completed))
	equal(s, "Story(p): mail after a grandchild's end", letters(s.run("p").Mail), "")
	s.update(ending(fails, store.Failed))
	s.handedMail(0, "1 grand completed, 4 fails failed")
	s.unread(waiting(p), true)
	run := s.claimRun("p")
	u := waiting(run.RunRef)
	u.Read = last(run.Mail)
	s.unread(u, false)
	at := s.clock.Now().Add(time.Minute)
	s.clock.move(time.Minute)
	s.update(ending(done, store.Completed))
	s.clock.move(time.Minute)
	s.update(ending(stops, store.Cancelled))
	run = s.claimRun("p")
	s.mailed(run, "3 done completed, 5 stops cancelled")
	c := run.Mail[0].Child
	if c.No != done.No || !bytes.Equal(c.Result, []byte("out")) || c.Reason != "" || !c.EndedAt.Equal(at) {
		s.Errorf("Claim(p): the child's end = %+v, want run %d, result \"out\", at %s", c, done.No, at)
	}
	if c = run.Mail[1].Child; c.No != stops.No || c.Result != nil || c.Reason != "no money" {
		s.Errorf("Claim(p): the child's end = %+v, want run %d, reason \"no money\"", c, stops.No)
	}
	if got := s.run("p").Children; len(got) != 3 {
		s.Errorf("Story(p): %d children, want 3", len(got))
	}
	s.well()
}

func runChildEndedBefore(s *scene) {
	p := s.leased("p")
	s.update(ending(s.childOf(p, 3, "c"), store.Completed))
	u := updates(p)
	u.Read = last(s.run("p").Mail)
	s.unread(u, false)
	again := starting("c")
	again.Parent, again.ParentStep, again.Lease = p.No, 5, true
	c := runs(waiting(p))
	c.Runs = []*store.RunStart{again}
	s.commit(c)
	if !again.Existed || !c.Run.Unread {
		s.Errorf("Commit(start of a child that has ended): existed %t, unread %t, want true, true", again.Existed, c.Run.Unread)
	}
	run := s.claimRun("p")
	s.mailed(run, "5 c completed")
	if end := run.Mail[0].Child; string(end.Result) != "out" {
		s.Errorf("Claim(p): the child's end = %+v, want its result", end)
	}
}

func runChildOnce(s *scene) {
	p := s.leased("p")
	child := s.childOf(p, 1, "c")
	s.again(&store.RunStart{Workflow: fulfil, ID: "c", Version: 1, Input: []byte("in c"), Parent: p.No, ParentStep: 1}, child.No)
	s.update(waiting(p))
	s.restart()
	c := s.claimRun("c")
	s.update(ending(c.RunRef, store.Completed))
	s.crash()
	run := s.claimRun("p")
	s.mailed(run, "1 c completed")
	s.crash()
	run = s.claimSuspects(9, "p")[0]
	s.mailed(run, "1 c completed")
	u := sleeping(run.RunRef, s.clock.Now().Add(time.Hour))
	u.Read = last(run.Mail)
	s.unread(u, false)
	s.restart()
	s.claimSuspects(9, "")
	s.well()
}

func runChildParentGone(s *scene) {
	p := s.leased("p")
	early, late := s.childOf(p, 1, "early"), s.childOf(p, 2, "late")
	s.update(ending(p, store.Failed))
	s.update(ending(early, store.Completed))
	equal(s, "Story(p): mail after its end", letters(s.run("p").Mail), "")
	s.clock.move(100 * time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	s.noRun("p")
	s.noRun("early")
	equal(s, "Story(late): parent", s.run("late").Parent, p.No)
	s.update(ending(late, store.Completed))
	s.stands("late", "completed")
	s.claimRuns(9, "")
	s.well()
}

func runChildKept(s *scene) {
	p := s.leased("p")
	child, other, beside := s.childOf(p, 1, "c"), s.childOf(p, 2, "d"), s.childOf(s.leased("q"), 3, "e")
	s.update(parking(p))
	u := ending(child, store.Completed)
	u.Result = bytes.Repeat([]byte("r"), 1<<18)
	s.update(u)
	s.clock.move(100 * time.Hour)
	s.update(ending(other, store.Failed))
	s.update(ending(beside, store.Cancelled))
	s.prune(store.Retention{Keep: time.Minute})
	s.noRun("c")
	s.stands("d", "failed")
	s.operate(store.Act{Verb: store.RetryRun, Workflow: fulfil, ID: "p"})
	equal(s, "Story(q): mail", letters(s.run("q").Mail), "3 e cancelled")
	run := s.claimRun("p")
	s.mailed(run, "1 c completed, 2 d failed, retry")
	if c := run.Mail[0].Child; c.No != child.No || !bytes.Equal(c.Result, u.Result) || c.EndedAt.IsZero() {
		s.Errorf("Claim(p): the end of a child that was deleted = run %d, %d bytes, at %s, want %d, %d", c.No, len(c.Result), c.EndedAt, child.No, len(u.Result))
	}
	s.well()
}

func runChildTogether(s *scene) {
	for i, id := range []string{"p", "q"} {
		p := s.leased(id)
		child := s.childOf(p, 1, "c of "+id)
		changes := []*store.Change{runs(ending(child, store.Completed)), runs(waiting(p))}
		if i == 1 {
			changes[0], changes[1] = changes[1], changes[0]
		}
		s.commit(changes...)
		s.mailed(s.claimRun(id), "1 c of "+id+" completed")
	}
}
