package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

func runLockLaws() []Law {
	return []Law{
		{"run-lock/one", "A lock has one holder; those who want it stand in line in the order of their acts and are told by mail when it is theirs.", runLockOne},
		{"run-lock/fences", "Each grant of a lock has a higher fence than all before, over releases, ends, breaks, crashes and retention.", runLockFences},
		{"run-lock/not-held", "Releasing what the run does not hold succeeds: it leaves the line, and the holder keeps the lock.", runLockNotHeld},
		{"run-lock/held", "Acquiring what the run holds succeeds, and changes nothing for the others.", runLockHeld},
		{"run-lock/ended", "A run that ends releases all its locks, and leaves all lines.", runLockEnded},
		{"run-lock/break", "Breaking a lock gives it to the next in line with a higher fence; its holder no longer has it.", runLockBreak},
		{"run-lock/kept", "Locks and lines are kept over crashes, restarts, waiting and parking.", runLockKept},
		{"run-lock/in-order", "The acts of one update, and the changes of one group, are done in order.", runLockInOrder},
		{"run-lock/listed", "Locks are listed by name, with holder, fence, times and line.", runLockListed},
		{"run-lock/concurrent", "Of runs that want a lock at the same time each has it once, one after the other.", runLockConcurrent},
	}
}

// lock lets a leased run do acts on locks, and wants to know which are granted at once.
func (s *scene) lock(r store.RunRef, acts ...store.LockAct) []store.LockAct {
	s.Helper()
	return s.update(&store.RunUpdate{RunRef: r, Locks: acts}).Locks
}

// granted wants an acquisition to be granted at once, and returns its fence.
func (s *scene) granted(r store.RunRef, name string) int64 {
	s.Helper()
	f := s.lock(r, acquires(1, name))[0].Fence
	if f < 1 {
		s.Errorf("Commit(acquire %s for run %d): Fence = %d, want it granted", name, r.No, f)
	}
	return f
}

// queuesFor wants an acquisition to have to wait.
func (s *scene) queuesFor(r store.RunRef, n int, name string) {
	s.Helper()
	act := acquires(n, name)
	act.Fence = 77 // as of a change that is committed again
	if f := s.lock(r, act)[0].Fence; f != 0 {
		s.Errorf("Commit(acquire %s for run %d): Fence = %d, want 0: another holds it", name, r.No, f)
	}
}

func runLockOne(s *scene) {
	a, b, c, d := s.leased("a"), s.leased("b"), s.leased("c"), s.leased("d")
	first := s.granted(a, "till")
	s.granted(d, "door")
	s.queuesFor(b, 3, "till")
	s.queuesFor(c, 4, "till")
	s.update(waiting(c))
	s.inLine("till", "a b c")
	s.lock(a, releases(1, "till"))
	s.inLine("till", "b c")
	mail := s.handedMail(0, "3 lock")
	if mail[0].Run != b.No || mail[0].Fence <= first || mail[0].Fence != s.inLine("till", "b c") {
		s.Errorf("Claim(): mail for run %d with fence %d, want %d, the lock's, above %d", mail[0].Run, mail[0].Fence, b.No, first)
	}
	s.claimRuns(9, "")
	s.queuesFor(a, 1, "till")
	s.inLine("till", "b c a")
	s.lock(b, releases(3, "till"))
	run := s.claimRun("c")
	s.mailed(run, "4 lock")
	s.lock(run.RunRef, releases(4, "till"))
	s.inLine("till", "a")
	s.lock(a, releases(1, "till"))
	s.inLine("till", "")
	s.inLine("door", "d")
	s.well()
}

func runLockFences(s *scene) {
	var highest int64
	higher := func(how string, f int64) {
		s.Helper()
		if f <= highest {
			s.Errorf("the fence of till %s = %d, want above %d", how, f, highest)
		}
		highest = max(highest, f)
	}
	a, b := s.leased("a"), s.leased("b")
	higher("at first", s.granted(a, "till"))
	s.lock(a, releases(1, "till"))
	higher("after a release", s.granted(b, "till"))
	s.update(ending(b, store.Completed))
	higher("after an end", s.granted(a, "till"))
	b = s.leased("b2")
	s.queuesFor(b, 1, "till")
	s.operate(store.Act{Verb: store.BreakLock, Lock: "till"})
	higher("after a break", s.inLine("till", "b2"))
	s.operate(store.Act{Verb: store.BreakLock, Lock: "till"})
	s.crash()
	for _, r := range s.claimSuspects(9, "a b2") {
		higher("after a crash", s.granted(r.RunRef, "till"))
		s.update(ending(r.RunRef, store.Completed))
	}
	s.inLine("till", "")
	s.clock.move(1000 * time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	s.restart()
	higher("after retention", s.granted(s.leased("c"), "till"))
}

func runLockNotHeld(s *scene) {
	a, b, c := s.leased("a"), s.leased("b"), s.leased("c")
	fence := s.granted(a, "till")
	s.queuesFor(b, 1, "till")
	s.queuesFor(c, 1, "till")
	s.lock(b, releases(1, "till"), releases(1, "nobody's"))
	s.lock(b, releases(1, "till"))
	equal(s, "Locks(): till's fence", s.inLine("till", "a c"), fence)
	s.lock(a, releases(1, "till"))
	s.inLine("till", "c")
	if got := s.run("b"); len(got.Mail)+len(got.Locks) > 0 {
		s.Errorf("Story(b): %d letters, %d locks, want none", len(got.Mail), len(got.Locks))
	}
	s.well()
}

func runLockHeld(s *scene) {
	a, b := s.leased("a"), s.leased("b")
	s.granted(a, "till")
	s.queuesFor(b, 1, "till")
	s.granted(a, "till")
	s.inLine("till", "a b")
	s.lock(a, releases(1, "till"))
	s.inLine("till", "b")
	s.lock(a, releases(1, "till"))
	s.inLine("till", "b")
	s.handedMail(0, "1 lock")
}

func runLockEnded(s *scene) {
	a, b, c := s.leased("a"), s.leased("b"), s.leased("c")
	s.granted(a, "till")
	s.granted(a, "door")
	s.granted(b, "stove")
	s.queuesFor(a, 1, "stove")
	s.queuesFor(c, 1, "till")
	s.queuesFor(c, 2, "stove")
	s.queuesFor(b, 2, "door")
	s.update(waiting(c))
	s.update(ending(a, store.Failed))
	s.inLine("till", "c")
	s.inLine("door", "b")
	s.inLine("stove", "b c")
	s.mailed(s.claimRun("c"), "1 lock")
	end := runs(ending(b, store.Completed))
	end.Run.Locks = []store.LockAct{acquires(9, "late")} // released with the rest
	s.commit(end)
	s.inLine("stove", "c")
	s.inLine("late", "")
	if got := s.run("a"); len(got.Locks) > 0 {
		s.Errorf("Story(a): %d locks, want none", len(got.Locks))
	}
	s.well()
}

func runLockBreak(s *scene) {
	a, b := s.leased("a"), s.leased("b")
	fence := s.granted(a, "till")
	s.queuesFor(b, 2, "till")
	s.update(waiting(b))
	s.operate(store.Act{Verb: store.BreakLock, Lock: "till"})
	run := s.claimRun("b")
	s.mailed(run, "2 lock")
	if f := s.inLine("till", "b"); f <= fence || run.Mail[0].Fence != f {
		s.Errorf("Locks() after a break: fence %d, in the mail %d, want one above %d", f, run.Mail[0].Fence, fence)
	}
	s.lock(a, releases(1, "till")) // it does not know yet
	s.inLine("till", "b")
	s.update(ending(a, store.Completed))
	s.inLine("till", "b")
	s.operate(store.Act{Verb: store.BreakLock, Lock: "till"})
	s.inLine("till", "")
	for _, name := range []string{"till", "nobody's", ""} {
		s.unacted(by(store.Act{Verb: store.BreakLock, Lock: name}), nil)
	}
	rows := s.audit()
	if r := rows[0]; r.Verb != string(store.BreakLock) || r.By != "ada" || r.Why != "because" || !strings.Contains(r.Target, "till") {
		s.Errorf("Audit() after a break = %+v, want ada's, of till", r)
	}
	s.well()
}

func runLockKept(s *scene) {
	a, b, c := s.leased("a"), s.leased("b"), s.leased("c")
	fence := s.granted(a, "till")
	s.queuesFor(b, 2, "till")
	s.queuesFor(c, 3, "till")
	s.update(parking(a))
	s.update(waiting(b))
	s.restart()
	s.claimRun("c")
	s.crash()
	equal(s, "Locks(): till's fence", s.inLine("till", "a b c"), fence)
	s.clock.move(1000 * time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	s.inLine("till", "a b c")
	s.operate(store.Act{Verb: store.AbandonRun, Workflow: fulfil, ID: "a"})
	run := s.claimRun("a")
	s.update(ending(run.RunRef, store.Failed))
	run = s.claimRun("b")
	s.mailed(run, "2 lock")
	s.update(ending(run.RunRef, store.Failed))
	s.mailed(s.claimSuspects(9, "c")[0], "3 lock")
	s.well()
}

func runLockInOrder(s *scene) {
	a, b, c := s.leased("a"), s.leased("b"), s.leased("c")
	acts := s.lock(a, acquires(1, "till"), releases(1, "till"), acquires(2, "door"), acquires(3, "till"))
	if acts[0].Fence < 1 || acts[2].Fence < 1 || acts[3].Fence <= acts[0].Fence {
		s.Errorf("Commit(acquire till, release it, acquire door, acquire till): fences %d, %d, %d, want all, the last above the first", acts[0].Fence, acts[2].Fence, acts[3].Fence)
	}
	s.commit(
		runs(&store.RunUpdate{RunRef: c, Locks: []store.LockAct{acquires(1, "till")}}),
		runs(&store.RunUpdate{RunRef: b, Locks: []store.LockAct{acquires(1, "till")}}),
		runs(&store.RunUpdate{RunRef: a, Locks: []store.LockAct{releases(1, "till")}, Verdict: store.Waiting}),
		runs(&store.RunUpdate{RunRef: c, Locks: []store.LockAct{releases(1, "till"), acquires(5, "till")}}),
	)
	s.inLine("till", "b c")
	s.handedMail(0, "1 lock, 1 lock") // c had it too, for a moment
}

func runLockListed(s *scene) {
	locks := func(max int) []store.LockRow {
		s.Helper()
		got, err := s.store.Reader().Runs().Locks(s.ctx(), max)
		if err != nil {
			s.Fatalf("Locks(%d) = %v, want nil", max, err)
		}
		return got
	}
	if got := locks(9); len(got) != 0 {
		s.Errorf("Locks() of an empty store = %d, want none", len(got))
	}
	a, b := s.leased("a"), s.leased("b")
	began := s.clock.Now()
	fence := s.granted(a, "till")
	s.granted(a, "door")
	s.clock.move(time.Minute)
	s.queuesFor(b, 1, "till")
	got := locks(9)
	if len(got) != 2 || got[0].Name != "door" || got[1].Name != "till" {
		s.Fatalf("Locks() = %+v, want door and till", got)
	}
	l := got[1]
	if l.Fence != fence || l.Holder != a.No || l.HolderID != fulfil+"/a" || !l.Since.Equal(began) || len(l.Waiters) != 1 {
		s.Fatalf("Locks() = %+v, want till of a since %s with fence %d, and one who waits", l, began, fence)
	}
	if w := l.Waiters[0]; w.Run != b.No || w.RunID != fulfil+"/b" || !w.Since.Equal(began.Add(time.Minute)) {
		s.Errorf("Locks(): in line = %+v, want b since %s", w, began.Add(time.Minute))
	}
	if one := locks(1); len(one) != 1 || one[0].Name != "door" {
		s.Errorf("Locks(1) = %d locks, want door", len(one))
	}
	names := func(rows []store.LockRow) string {
		var all []string
		for _, r := range rows {
			all = append(all, r.Name)
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	if a, b := names(s.run("a").Locks), names(s.run("b").Locks); a != "door till" || b != "till" {
		s.Errorf("Story(): locks of a %q, of b %q, want \"door till\", \"till\": held or wanted", a, b)
	}
	s.clock.move(time.Minute)
	s.lock(a, releases(1, "till"))
	if l := locks(9)[1]; !l.Since.Equal(s.clock.Now()) || l.Holder != b.No {
		s.Errorf("Locks() after it was passed on = run %d since %s, want %d, now", l.Holder, l.Since, b.No)
	}
}

func runLockConcurrent(s *scene) {
	const n = 12
	refs := map[store.RunNo]store.RunRef{}
	for i := range n {
		r := s.leased(fmt.Sprint("r", i))
		refs[r.No] = r
	}
	fences := make(chan int64, n)
	var all sync.WaitGroup
	for _, r := range refs {
		all.Go(func() {
			c := runs(&store.RunUpdate{RunRef: r, Locks: []store.LockAct{acquires(1, "till")}})
			if err := s.store.Commit(s.ctx(), &store.Group{Changes: []*store.Change{c}}); err != nil || c.Err != nil {
				s.Errorf("Commit(acquire) beside others = %v, %v, want nil", err, c.Err)
			}
			fences <- c.Run.Locks[0].Fence
		})
	}
	all.Wait()
	close(fences)
	var had []int64
	for f := range fences {
		if f > 0 {
			had = append(had, f)
		}
	}
	if len(had) != 1 {
		s.Errorf("%d runs got the lock at once, want 1", len(had))
	}
	seen := map[store.RunNo]bool{}
	for range n {
		locks, err := s.store.Reader().Runs().Locks(s.ctx(), 9)
		if err != nil || len(locks) != 1 || seen[locks[0].Holder] || len(locks[0].Waiters) != n-1-len(seen) {
			s.Fatalf("Locks() after %d had it = %+v, %v, want another holder, and %d in line", len(seen), locks, err, n-1-len(seen))
		}
		seen[locks[0].Holder] = true
		s.lock(refs[locks[0].Holder], releases(1, "till"))
	}
	if got := s.lookRuns(store.ClaimRequest{}).Mail; len(got) != n-1 {
		s.Errorf("Claim() = %d letters, want one for each that had to wait, %d", len(got), n-1)
	}
	s.inLine("till", "")
}
