package storetest

import (
	"fmt"
	"time"

	"github.com/weir-go/weir/store"
)

func runMailLaws() []Law {
	return []Law{
		{"run-mail/leased", "The mail of a leased run comes to the process that leases it, with a claim of its workflow, above the number asked for.", runMailLeased},
		{"run-mail/only", "A claim for no runs brings mail, and leaves the runs that are ready to others.", runMailOnly},
		{"run-mail/other", "What comes by another process, by a person, or by a caller's own transaction is mail like any other, of leased runs too.", runMailOther},
		{"run-mail/read", "Read deletes the run's mail up to its number, and no other run's.", runMailRead},
		{"run-mail/unread", "Unread says that there is mail beyond Read: a run released to wait is then ready at once.", runMailUnread},
		{"run-mail/crash", "Mail that was not read comes again, under the same numbers, to the next process.", runMailCrash},
		{"run-mail/numbers", "Mail's numbers ascend over the whole store, over restarts and when all was read.", runMailNumbers},
		{"run-mail/pages", "A claim brings at most MaxList letters for leased runs; the next brings the next.", runMailPages},
		{"run-mail/parked", "A parked run sleeps through messages, locks and children's ends, and finds them in its mail when a person wakes it.", runMailParked},
		{"run-mail/parking", "A run that parks is ready at once if a person's mail is unread, and not for any other.", runMailParking},
	}
}

// waitsLeased adds waits to a leased run.
func (s *scene) waitsLeased(r store.RunRef, waits ...store.Wait) {
	s.Helper()
	s.update(&store.RunUpdate{RunRef: r, Waits: waits})
}

func runMailLeased(s *scene) {
	a, b := s.leased("a"), s.leased("b")
	other := starting("x")
	other.Workflow = refund
	x := s.lease(other)
	s.waitsLeased(a, awaits(1, "k"), awaits(2, "j"), awaits(3, "l"))
	s.waitsLeased(b, awaits(1, "j"))
	s.waitsLeased(x, awaits(1, "k"))
	s.update(waiting(s.leased("c"), awaits(1, "k")))
	s.send(ready, "k1")
	got := s.lookRuns(store.ClaimRequest{})
	if idsOf(got.Runs) != "c" || letters(got.Mail) != "1 k1" || got.Mail[0].Run != a.No {
		s.Fatalf("Claim() = runs %q, mail %q, want c, and k1 for a", idsOf(got.Runs), letters(got.Mail))
	}
	s.mailed(got.Runs[0], "1 k1")
	if got.More {
		s.Errorf("Claim(): more = true, want false: what it found is all")
	}
	seen := max(last(got.Mail), last(got.Runs[0].Mail))
	s.handedMail(seen, "")
	s.send(ready, "l1")
	s.send(ready, "j1")
	mail := s.lookRuns(store.ClaimRequest{MailAfter: seen}).Mail
	if len(mail) != 3 || letter(&mail[0]) != "3 l1" || mail[1].Message == nil || string(mail[1].Message.Body) != "j1" {
		s.Fatalf("Claim(mail after %d) = %q, want l1 and twice j1", seen, letters(mail))
	}
	s.ascends(mail)
	s.handedMail(mail[0].No, letters(mail[1:]))
	s.handedMail(last(mail), "")
	if got := s.lookRuns(store.ClaimRequest{Workflow: refund}); letters(got.Mail) != "1 k1" || got.Mail[0].Run != x.No {
		s.Errorf("Claim(%s) = mail %q, want k1 for x", refund, letters(got.Mail))
	}
	s.update(waiting(b)) // is ready for its mail, which does not come twice
	got = s.lookRuns(store.ClaimRequest{MailAfter: seen})
	if idsOf(got.Runs) != "b" || letters(got.Mail) != "3 l1, 2 j1" {
		s.Errorf("Claim(mail after %d) = runs %q, mail %q, want b, \"3 l1, 2 j1\"", seen, idsOf(got.Runs), letters(got.Mail))
	}
	s.mailed(got.Runs[0], "1 j1")
}

func runMailOnly(s *scene) {
	s.waitsLeased(s.leased("a"), awaits(1, "k"))
	s.update(waiting(s.leased("b"), awaits(1, "k")))
	s.send(ready, "k1")
	for range 2 {
		got, err := s.store.Claim(s.ctx(), store.ClaimRequest{Workflow: fulfil})
		if err != nil || len(got.Runs) > 0 || letters(got.Mail) != "1 k1" {
			s.Fatalf("Claim(max 0) = runs %q, mail %q, %v, want none, \"1 k1\", nil", idsOf(got.Runs), letters(got.Mail), err)
		}
		if got, err = s.store.Claim(s.ctx(), store.ClaimRequest{Workflow: fulfil, MailAfter: last(got.Mail)}); err != nil || len(got.Mail) > 0 {
			s.Errorf("Claim(max 0, mail after the last) = mail %q, %v, want none, nil", letters(got.Mail), err)
		}
		s.stands("b", store.RunReady)
	}
	s.claimRuns(9, "b")
}

func runMailOther(s *scene) {
	a, b, c := s.leased("a"), s.leased("b"), s.leased("c")
	s.waitsLeased(a, awaits(1, "k"), awaits(2, "j"))
	s.granted(b, "till")
	s.queuesFor(c, 4, "till")
	other := s.open()
	sent := sends(message(ready, "k1"))
	if err := other.Commit(s.ctx(), &store.Group{Changes: []*store.Change{sent}}); err != nil || sent.Err != nil {
		s.Fatalf("Commit(k1) by another process = %v, %v, want nil", err, sent.Err)
	}
	s.own(true, func(tx store.Tx) {
		if err := other.AppendIn(s.ctx(), tx, sends(message(ready, "j1"))); err != nil {
			s.Errorf("AppendIn(j1) by another process = %v, want nil", err)
		}
	})
	for _, act := range []store.Act{{Verb: store.CancelRun, Workflow: fulfil, ID: "a"}, {Verb: store.BreakLock, Lock: "till"}} {
		if _, err := other.Operate(s.ctx(), by(act)); err != nil {
			s.Errorf("Operate(%s) by another process = %v, want nil", act.Verb, err)
		}
	}
	s.unread(waiting(a), true)
	s.mailed(s.claimRun("a"), "1 k1, 2 j1, cancel")
	s.handedMail(0, "1 k1, 2 j1, cancel, 4 lock")
	s.unread(updates(b), false)
	u := sleeping(c, s.clock.Now().Add(time.Hour))
	u.Read = last(s.run("c").Mail)
	s.unread(u, false)
	u = ending(b, store.Completed) // without the lock, which it no longer holds
	s.update(u)
	s.inLine("till", "c")
	s.well()
}

func runMailRead(s *scene) {
	a, b := s.leased("a"), s.leased("b")
	s.waitsLeased(a, awaits(1, "k"), awaits(2, "j"), awaits(3, "l"))
	s.waitsLeased(b, awaits(1, "k"))
	for _, word := range []string{"k1", "j1", "l1"} {
		s.send(ready, word)
	}
	mail := s.run("a").Mail
	if letters(mail) != "1 k1, 2 j1, 3 l1" {
		s.Fatalf("Story(a): mail %q, want \"1 k1, 2 j1, 3 l1\"", letters(mail))
	}
	u := updates(a)
	u.Read = mail[1].No
	s.unread(u, true)
	if got := letters(s.run("a").Mail) + "; " + letters(s.run("b").Mail); got != "3 l1; 1 k1" {
		s.Errorf("mail of a and b after a read up to %d: %q, want \"3 l1; 1 k1\"", u.Read, got)
	}
	s.unread(updates(a), true) // reads nothing
	u = updates(a)
	u.Read = mail[0].No // has been read before
	s.unread(u, true)
	u = updates(a)
	u.Read = mail[2].No
	s.unread(u, false)
	if got := letters(s.run("a").Mail) + "; " + letters(s.run("b").Mail); got != "; 1 k1" {
		s.Errorf("mail of a and b after a read up to %d: %q, want \"; 1 k1\"", u.Read, got)
	}
	s.handedMail(0, "1 k1")
	s.well()
}

func runMailUnread(s *scene) {
	a := s.leased("a")
	s.waitsLeased(a, awaits(1, "k"), awaits(2, "j"))
	s.send(ready, "k1")
	s.send(ready, "j1")
	mail := s.run("a").Mail
	s.unread(updates(a), true)
	u := sleeping(a, s.clock.Now().Add(time.Hour))
	u.Read = mail[0].No
	s.unread(u, true)
	s.stands("a", store.RunReady)
	run := s.claimRun("a")
	s.mailed(run, "2 j1")
	u = sleeping(run.RunRef, s.clock.Now().Add(time.Hour))
	u.Read = mail[1].No
	s.unread(u, false)
	s.stands("a", store.RunWaiting)
	s.claimRuns(9, "")
	b := s.leased("b")
	s.waitsLeased(b, awaits(1, "l"))
	rest, release := sends(message(ready, "l1")), runs(waiting(b))
	s.commit(rest, release)
	if !release.Run.Unread {
		s.Errorf("Commit(a message, its run's release): Unread = false, want true")
	}
	s.mailed(s.claimRun("b"), "1 l1")
}

func runMailCrash(s *scene) {
	a := s.leased("a")
	s.waitsLeased(a, awaits(1, "k"), awaits(2, "j"))
	s.send(ready, "k1")
	s.operate(store.Act{Verb: store.CancelRun, Workflow: fulfil, ID: "a"})
	before := s.handedMail(0, "1 k1, cancel")
	s.crash()
	s.send(ready, "j1") // while nobody has the run
	run := s.claimSuspects(9, "a")[0]
	s.mailed(run, "1 k1, cancel, 2 j1")
	for i, m := range before {
		if i < len(run.Mail) && run.Mail[i].No != m.No {
			s.Errorf("Claim(a) after a crash: %q has number %d, want %d", letter(&m), run.Mail[i].No, m.No)
		}
	}
	u := updates(run.RunRef)
	u.Read = before[0].No
	s.unread(u, true)
	s.restart()
	s.mailed(s.claimSuspects(9, "a")[0], "cancel, 2 j1")
}

func runMailNumbers(s *scene) {
	var newest int64
	a := s.leased("a")
	for i := range 4 {
		s.waitsLeased(a, awaits(1, "k"))
		s.send(ready, fmt.Sprint("k", i+1))
		mail := s.run("a").Mail
		if len(mail) != 1 || mail[0].No <= newest {
			s.Fatalf("Story(a): mail %q, number %d, want one above %d", letters(mail), last(mail), newest)
		}
		newest = last(mail)
		u := updates(a)
		u.Read = newest
		s.unread(u, false)
		s.clock.move(100 * time.Hour)
		s.prune(store.Retention{Keep: time.Minute})
		if i%2 == 0 {
			s.update(ending(a, store.Completed))
			s.clock.move(100 * time.Hour)
			s.prune(store.Retention{Keep: time.Minute})
			s.noRun("a")
			s.crash()
			a = s.leased("a")
			continue
		}
		s.restart()
		a = s.claimRun("a").RunRef
	}
}

func runMailPages(s *scene) {
	const each = store.MaxList*2/3 + 1
	for _, id := range []string{"a", "b"} {
		u := updates(s.leased(id))
		for i := range each {
			u.Waits = append(u.Waits, awaits(i+1, "k"))
		}
		s.update(u)
	}
	s.send(ready, "k1")
	seen := map[int64]bool{}
	after := int64(0)
	for range 3 {
		mail := s.lookRuns(store.ClaimRequest{MailAfter: after}).Mail
		if len(mail) > store.MaxList || len(mail) < min(store.MaxList, 2*each-len(seen)) {
			s.Errorf("Claim(mail after %d) = %d letters with %d left, want as many as there are, %d at most", after, len(mail), 2*each-len(seen), store.MaxList)
		}
		s.ascends(mail)
		for _, m := range mail {
			seen[m.No] = true
		}
		after = max(after, last(mail))
	}
	if len(seen) != 2*each {
		s.Errorf("Claim(mail) until no more = %d letters, want %d", len(seen), 2*each)
	}
}

// three makes a run that waits for a message, a lock and a child.
func (s *scene) three(id string) (run, holder, child store.RunRef) {
	s.Helper()
	holder = s.leased("holder of " + id)
	s.update(&store.RunUpdate{RunRef: holder, Locks: []store.LockAct{acquires(1, "lock of "+id)}})
	run = s.leased(id)
	of := starting("child of " + id)
	of.Parent, of.ParentStep, of.Lease = run.No, 3, true
	c := runs(&store.RunUpdate{RunRef: run, Waits: []store.Wait{awaits(1, id)}, Locks: []store.LockAct{acquires(2, "lock of "+id)}})
	c.Runs = []*store.RunStart{of}
	s.commit(c)
	return run, holder, refOf(of)
}

// arrive lets all come that a run of three waits for.
func (s *scene) arrive(id string, holder, child store.RunRef) {
	s.Helper()
	s.send(ready, id+"1")
	s.update(&store.RunUpdate{RunRef: holder, Locks: []store.LockAct{releases(1, "lock of "+id)}})
	s.update(ending(child, store.Completed))
}

func runMailParked(s *scene) {
	run, holder, child := s.three("k")
	s.unread(parking(run), false)
	s.arrive("k", holder, child)
	s.clock.move(time.Hour)
	s.claimRuns(9, "")
	got := s.stands("k", store.RunParked)
	want := "1 k1, 2 lock, 3 child of k completed"
	equal(s, "Story(k): mail", letters(got.Mail), want)
	s.crash()
	s.claimRuns(9, "")
	s.operate(store.Act{Verb: store.RetryRun, Workflow: fulfil, ID: "k"})
	s.stands("k", store.RunReady)
	s.mailed(s.claimRun("k"), want+", retry")
	s.well()
}

func runMailParking(s *scene) {
	run, holder, child := s.three("k")
	s.arrive("k", holder, child)
	s.unread(parking(run), true)
	s.stands("k", store.RunParked)
	s.claimRuns(9, "")
	run, holder, child = s.three("j")
	s.arrive("j", holder, child)
	s.operate(store.Act{Verb: store.CancelRun, Workflow: fulfil, ID: "j"})
	s.unread(parking(run), true)
	s.stands("j", store.RunReady)
	got := s.claimRun("j")
	s.mailed(got, "1 j1, 2 lock, 3 child of j completed, cancel")
	u := parking(got.RunRef)
	u.Read = last(got.Mail)
	s.unread(u, false)
	s.stands("j", store.RunParked)
	s.claimRuns(9, "")
}
