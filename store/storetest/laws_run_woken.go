package storetest

import (
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func runWokenLaws() []Law {
	return []Law{
		{"run-woken/ready", "A group tells the workflows of which it made runs ready, by start, message, lock, child's end or release; each once.", runWokenReady},
		{"run-woken/mail", "A group tells the workflows to whose leased runs it gave mail.", runWokenMail},
		{"run-woken/nothing", "A group that made nothing ready and gave no mail tells none, nor one that was refused.", runWokenNothing},
	}
}

// woken commits a group and wants the workflows that it tells, by name.
func (s *scene) woken(what, want string, changes ...*store.Change) {
	s.Helper()
	g := &store.Group{Changes: changes}
	s.group(g)
	got := slices.Clone(g.Woken)
	slices.Sort(got)
	if strings.Join(got, " ") != want {
		s.Errorf("Commit(%s): Woken = %q, want %q", what, got, want)
	}
}

func runWokenReady(s *scene) {
	other := starting("x")
	other.Workflow = refund
	s.woken("starts", fulfil+" "+refund, begins(startings("a b")...), begins(other, starting("c")))
	s.claimRuns(9, "a b c")
	s.lookRuns(store.ClaimRequest{Workflow: refund})
	for _, id := range []string{"a", "b"} {
		s.update(waiting(s.run2ref(id), awaits(1, "k")))
	}
	s.woken("message", fulfil, sends(messages(ready, "k1 k2")...))
	s.claimRuns(9, "a b")
	a, b := s.run2ref("a"), s.run2ref("b")
	s.lock(a, acquires(2, "till"))
	s.lock(b, acquires(2, "till"))
	u := waiting(b)
	u.Read = last(s.run("b").Mail)
	s.update(u)
	s.woken("release of a lock", fulfil, runs(&store.RunUpdate{RunRef: a, Locks: []store.LockAct{releases(2, "till")}}))
	s.claimRun("b")
	child := starting("child")
	child.Workflow, child.Parent, child.ParentStep, child.Lease = refund, a.No, 3, true
	s.commit(begins(child))
	u = waiting(a)
	u.Read = last(s.run("a").Mail)
	s.update(u)
	s.woken("a child's end", fulfil, runs(ending(refOf(child), store.Completed)))
	s.waitsLeased(s.run2ref("b"), awaits(7, "j"))
	s.send(ready, "j1")
	s.woken("release with unread mail", fulfil, runs(waiting(s.run2ref("b"))))
	s.claimRuns(9, "a b")
}

func runWokenMail(s *scene) {
	other := starting("x")
	other.Workflow = refund
	x := s.lease(other)
	s.waitsLeased(x, awaits(1, "k"), awaits(2, "k"))
	s.waitsLeased(s.leased("a"), awaits(1, "k"))
	s.waitsLeased(s.leased("b"), awaits(1, "j"))
	s.woken("message", fulfil+" "+refund, sends(messages(ready, "k1")...))
	s.woken("message", fulfil, sends(messages(cook, "k1")...), sends(messages(ready, "k2 j1")...))
	s.woken("message and wait", refund, sends(messages(ready, "l1")...), runs(&store.RunUpdate{RunRef: x, Waits: []store.Wait{awaits(3, "l")}}))
}

func runWokenNothing(s *scene) {
	a := s.leased("a")
	s.woken("send", "", sends(messages(ready, "k1")...))
	later := starting("later")
	later.At = s.clock.Now().Add(time.Hour)
	s.woken("delayed start", "", begins(later))
	s.woken("start again", "", begins(starting("a")))
	mine := starting("mine")
	mine.Lease = true
	s.woken("leased start", "", begins(mine))
	s.woken("update", "", runs(updates(a)))
	s.woken("release", "", runs(waiting(a, awaits(1, "j"))))
	s.update(parking(refOf(mine)))
	fails := sends(messages(ready, "j1")...)
	fails.Runs, fails.Closures = startings("stowaway"), []store.Closure{failing}
	s.woken("refused", "", fails)
	s.claimRuns(9, "")
	p := s.leased("p")
	s.update(parking(p))
	child := starting("c")
	child.Parent, child.ParentStep, child.Lease = p.No, 1, true
	s.commit(begins(child))
	s.woken("the end of a parked run's child", "", runs(ending(refOf(child), store.Completed)))
}
