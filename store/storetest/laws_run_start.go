package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

func runStartLaws() []Law {
	return []Law{
		{"run-start/once", "A workflow has one run of an ID: who starts it again is told its number, in the same change, the same group, or later, however the run stands.", runStartOnce},
		{"run-start/many", "Of many starts in one group each gets its own run, or that which exists, in the order of the starts.", runStartMany},
		{"run-start/fields", "A start is told its run's number, time and, when leased, epoch; numbers ascend; what the start said before is no more.", runStartFields},
		{"run-start/input", "A start of an existing run of the same version with another input refuses its change whole; of another version it does not.", runStartInput},
		{"run-start/parent", "A start of an existing run that has another parent, or none, refuses its change whole.", runStartParent},
		{"run-start/lease", "A run started with Lease is this process's at once: no claim gives it to another; what exists is not leased by its start.", runStartLease},
		{"run-start/no-lease", "Lease is without effect on a run with a time, in AppendIn, and before Begin.", runStartNoLease},
		{"run-start/at", "A run with a time is not begun before, and then like any other.", runStartAt},
		{"run-start/refused", "A refused change starts nothing: the ID is free for the next one.", runStartRefused},
		{"run-start/settles", "What a settlement's change starts is started with it, or not at all.", runStartSettles},
		{"run-start/own", "What AppendIn starts is there when the caller's transaction commits, not before, and never when it does not.", runStartOwn},
		{"run-start/limits", "A start without a workflow or a version, or with an ID of more than MaxRunID bytes, is refused whole.", runStartLimits},
		{"run-start/concurrent", "Of concurrent starts of one ID one starts the run, and all are told its number.", runStartConcurrent},
	}
}

// existed wants a start to have found a run.
func (s *scene) existed(r *store.RunStart, no store.RunNo) {
	s.Helper()
	if !r.Existed || r.No != no || r.Epoch != 0 {
		s.Errorf("Commit(start %s again): No = %d, existed %t, epoch %d, want %d, true, 0", r.ID, r.No, r.Existed, r.Epoch, no)
	}
}

// again starts a run that exists.
func (s *scene) again(r *store.RunStart, no store.RunNo) {
	s.Helper()
	s.commit(begins(r))
	s.existed(r, no)
}

func runStartOnce(s *scene) {
	first, same, beside, later := starting("a"), starting("a"), starting("a"), starting("a")
	s.commit(begins(first, same), begins(beside))
	s.clock.move(time.Second)
	s.commit(begins(later, starting("b")))
	if first.Existed || first.No == 0 {
		s.Errorf("Commit(start a): No = %d, existed %t, want a new run", first.No, first.Existed)
	}
	for _, r := range []*store.RunStart{same, beside, later} {
		s.existed(r, first.No)
	}
	other := starting("a")
	other.Workflow = refund
	s.commit(begins(other))
	if other.Existed || other.No == first.No {
		s.Errorf("Commit(start a of another workflow): No = %d, existed %t, want a run of its own", other.No, other.Existed)
	}
	s.again(starting("a"), first.No)
	s.claimRuns(1, "a")
	s.again(starting("a"), first.No)
	s.restart()
	s.again(starting("a"), first.No)
	a := s.claimRuns(9, "a b")[0]
	s.update(waiting(a.RunRef))
	s.again(starting("a"), first.No)
	s.update(ending(s.cancelled("a").RunRef, store.Completed))
	s.again(starting("a"), first.No)
	s.crash()
	s.again(starting("a"), first.No)
	s.claimRuns(9, "")
	s.ran("", "b a")
}

func runStartMany(s *scene) {
	const n = 70
	numbers := map[string]store.RunNo{}
	for i := 0; i < n; i += 3 {
		id := fmt.Sprint("r", i)
		numbers[id] = s.startRuns(id)[0].No
	}
	g := &store.Group{}
	for part := range 3 {
		c := &store.Change{}
		for i := range n {
			if i%3 != part || part == 1 {
				c.Runs = append(c.Runs, starting(fmt.Sprint("r", i)))
			}
		}
		g.Changes = append(g.Changes, c)
	}
	bad := starting("r1")
	bad.Input = nil
	g.Changes[1].Runs = append(g.Changes[1].Runs, bad)
	s.group(g)
	if g.Changes[0].Err != nil || !isConflict(g.Changes[1].Err) || g.Changes[2].Err != nil {
		s.Fatalf("Commit(three changes, one in conflict): Err = %v, %v, %v, want nil, a RunConflictError, nil", g.Changes[0].Err, g.Changes[1].Err, g.Changes[2].Err)
	}
	var newest store.RunNo
	for _, c := range []*store.Change{g.Changes[0], g.Changes[2]} {
		for _, r := range c.Runs {
			no, existed := numbers[r.ID]
			if r.Existed != existed || existed && r.No != no || !existed && r.No <= newest {
				s.Errorf("Commit(start %s): No = %d, existed %t, want %d, %t, a new one above %d", r.ID, r.No, r.Existed, no, existed, newest)
			}
			numbers[r.ID], newest = r.No, max(newest, r.No)
		}
	}
	if rows, err := s.store.Reader().Runs().List(s.ctx(), store.RunQuery{Max: store.MaxList}); err != nil || len(rows) != n {
		s.Errorf("List() = %d runs, %v, want %d", len(rows), err, n)
	}
}

// cancelled claims a waiting run by cancelling it.
func (s *scene) cancelled(id string) *store.Run {
	s.Helper()
	s.operate(store.Act{Verb: store.CancelRun, Workflow: fulfil, ID: id})
	return s.claimRun(id)
}

func runStartFields(s *scene) {
	var last store.RunNo
	for i, id := range []string{"a", "b", "c", "d"} {
		s.clock.move(time.Second)
		r := starting(id)
		r.Lease = i%2 == 1
		r.No, r.Epoch, r.Existed = 77, 78, true // as of a change that is committed again
		s.commit(begins(r))
		if r.No <= last || r.Existed || r.Lease != (r.Epoch >= 1) || !r.Lease && r.Epoch != 0 || !r.StartedAt.Equal(s.clock.Now()) {
			s.Errorf("Commit(start %s, lease %t): No = %d, existed %t, epoch %d, started at %s, want a new run above %d, now", id, r.Lease, r.No, r.Existed, r.Epoch, r.StartedAt, last)
		}
		last = r.No
		again := *r
		s.again(&again, r.No)
		if i == 2 {
			s.restart()
		}
	}
	several := startings("e f g")
	s.commit(begins(several[0], several[1]), begins(several[2]))
	for _, r := range several {
		if r.No <= last {
			s.Errorf("Commit(start e f g): No of %s = %d, want above %d", r.ID, r.No, last)
		}
		last = r.No
	}
}

// conflict wants a change to be refused for a run that exists.
func (s *scene) conflict(c *store.Change, id string, parent bool) {
	s.Helper()
	beside := &store.Change{Sends: messages(serve, "1")}
	c.Sends, c.Closures = messages(cook, "98 99"), []store.Closure{s.note("conflict")}
	c.Runs = append(c.Runs, starting("stowaway"))
	s.group(&store.Group{Changes: []*store.Change{c, beside}})
	got, ok := errors.AsType[*store.RunConflictError](c.Err)
	if !ok || got.Workflow != fulfil || got.ID != id || got.Parent != parent || beside.Err != nil {
		s.Errorf("Commit(start %s again): Err = %v, beside it %v, want a RunConflictError (parent %t), and nil", id, c.Err, beside.Err, parent)
	}
	s.listed(cook, "")
	s.notes("")
	s.noRun("stowaway")
}

func runStartInput(s *scene) {
	first := s.startRuns("a")[0]
	other := func() *store.RunStart {
		r := starting("a")
		r.Input = []byte("in b")
		return r
	}
	s.conflict(begins(other()), "a", false)
	newer := other()
	newer.Version = 2
	s.again(newer, first.No)
	s.update(ending(s.claimRun("a").RunRef, store.Failed))
	s.conflict(begins(other()), "a", false)
	together := starting("b")
	unlike := starting("b")
	unlike.Input = nil
	s.conflict(begins(together, unlike), "b", false)
	s.noRun("b")
	labelled := starting("a") // only the input is compared
	labelled.Headers, labelled.Cause, labelled.Deadline = []byte(`{"a":"b"}`), "zzzzzz-1", s.clock.Now()
	s.again(labelled, first.No)
	if got := s.run("a"); string(got.Input) != "in a" || got.Version != 1 || len(got.Headers) > 0 {
		s.Errorf("Story(a): input %q, version %d, headers %q, want those of the first start", got.Input, got.Version, got.Headers)
	}
}

func runStartParent(s *scene) {
	p, q := s.leased("p"), s.leased("q")
	of := func(parent store.RunNo, id string) *store.RunStart {
		r := starting(id)
		r.Parent, r.ParentStep = parent, 1
		return r
	}
	child := of(p.No, "c")
	s.commit(begins(child), begins(starting("alone")))
	s.again(of(p.No, "c"), child.No)
	s.conflict(begins(of(q.No, "c")), "c", true)
	s.conflict(begins(starting("c")), "c", true)
	s.conflict(begins(of(p.No, "alone")), "alone", true)
	if got := s.run("c"); got.Parent != p.No || got.ParentID != fulfil+"/p" {
		s.Errorf("Story(c): parent %d, %q, want %d, %s/p", got.Parent, got.ParentID, p.No, fulfil)
	}
}

func runStartLease(s *scene) {
	a := s.leased("a")
	s.claimRuns(9, "")
	s.claimSuspects(9, "")
	if got := s.stands("a", store.RunRunning); got.Process != s.me.ID || got.Epoch != a.Epoch {
		s.Errorf("Story(a): process %d, epoch %d, want %d, %d", got.Process, got.Epoch, s.me.ID, a.Epoch)
	}
	b := s.startRuns("b")[0]
	again := starting("b")
	again.Lease = true
	s.again(again, b.No)
	mine := starting("a")
	mine.Lease = true
	s.again(mine, a.No)
	s.claimRuns(9, "b")
	s.update(&store.RunUpdate{RunRef: a, Records: []*store.Record{step(1, "pay", store.StepDone)}})
	s.restart()
	got := s.find(s.lookRuns(store.ClaimRequest{}).Runs, "a")
	if got.Epoch != a.Epoch+1 || got.Crashes != 0 || len(got.Records) != 1 {
		s.Errorf("Claim(a) after its process ended = epoch %d, %d crashes, %d records, want %d, 0, 1", got.Epoch, got.Crashes, len(got.Records), a.Epoch+1)
	}
}

func runStartNoLease(s *scene) {
	later := starting("later")
	later.Lease, later.At = true, s.clock.Now().Add(time.Hour)
	own := starting("own")
	own.Lease = true
	outside := starting("outside")
	outside.Lease = true
	s.commit(begins(later))
	s.own(true, func(tx store.Tx) {
		if err := s.store.AppendIn(s.ctx(), tx, begins(own)); err != nil {
			s.Errorf("AppendIn(start own) = %v, want nil", err)
		}
	})
	c := begins(outside)
	if err := s.open().Commit(s.ctx(), &store.Group{Changes: []*store.Change{c}}); err != nil || c.Err != nil {
		s.Errorf("Commit(start) by a process that only sends = %v, %v, want nil", err, c.Err)
	}
	for _, r := range []*store.RunStart{later, own, outside} {
		if r.No == 0 || r.Epoch != 0 {
			s.Errorf("the start of %s: No = %d, epoch %d, want a run that is not leased", r.ID, r.No, r.Epoch)
		}
	}
	s.claimRuns(9, "own outside")
}

func runStartAt(s *scene) {
	now := s.clock.Now()
	for i, id := range []string{"b", "a", "past"} {
		r := starting(id)
		r.At = now.Add(time.Duration(2-i) * time.Hour)
		if id == "past" {
			r.At = now.Add(-time.Hour)
		}
		s.commit(begins(r))
		if !r.StartedAt.Equal(now) {
			s.Errorf("Commit(start %s at %s): StartedAt = %s, want %s", id, r.At, r.StartedAt, now)
		}
	}
	s.claimRun("past")
	s.stands("a", store.RunWaiting)
	got := s.lookRuns(store.ClaimRequest{})
	if len(got.Runs) > 0 || got.More || !got.NextDue.Equal(now.Add(time.Hour)) {
		s.Errorf("Claim() before their time = %q, more %t, next due %s, want none, %s", idsOf(got.Runs), got.More, got.NextDue, now.Add(time.Hour))
	}
	s.again(starting("a"), s.run("a").No)
	s.claimRuns(9, "")
	s.clock.move(time.Hour - time.Microsecond)
	s.claimRuns(9, "")
	s.clock.move(time.Microsecond)
	s.claimRuns(9, "a")
	s.crash()
	s.clock.move(time.Hour)
	s.claimRuns(9, "b")
	s.claimSuspects(9, "past a")
}

func runStartRefused(s *scene) {
	s.declare(store.Queue{Name: cook, Capacity: 1})
	s.send(cook, "1")
	b := s.claim(cook, 1, "1")
	s.done(b, "1")
	stale := begins(starting("a"))
	stale.Settle = []store.Settlement{s.settle(b, "1", store.Done)}
	fails := begins(starting("a"))
	fails.Closures = []store.Closure{failing}
	full := begins(starting("a"))
	full.Sends, full.Outside = messages(cook, "2 3"), true
	for _, c := range []*store.Change{stale, fails, full} {
		if s.outcome(c) == nil {
			s.Errorf("Commit(a change that cannot be written): Err = nil, want an error")
		}
		s.noRun("a")
	}
	again := begins(starting("a"))
	again.Closures = []store.Closure{failing}
	good := begins(starting("a"))
	s.group(&store.Group{Changes: []*store.Change{again, good}})
	if !errors.Is(again.Err, errClosure) || good.Err != nil || good.Runs[0].Existed {
		s.Errorf("Commit(a start that is refused, the same again): Err = %v, %v, existed %t, want the closure's, nil, false", again.Err, good.Err, good.Runs[0].Existed)
	}
	s.claimRuns(9, "a")
}

func runStartSettles(s *scene) {
	s.declareCook()
	s.send(cook, "1 2")
	b := s.claim(cook, 9, "1 2")
	c := change(s.settle(b, "1", store.Done))
	c.Runs, c.Sends = startings("a b"), messages(cook, "3")
	s.commit(c)
	s.holds(cook, 2, 0)
	s.ran("", "b a")
	c = change(s.settle(b, "2", store.Done), s.settle(b, "1", store.Done))
	c.Runs = startings("c")
	s.refuse(c, store.ErrFenced)
	s.noRun("c")
	s.claimRuns(9, "a b")
}

func runStartOwn(s *scene) {
	s.declareCook()
	taken := s.startRuns("taken")[0]
	for _, commit := range []bool{false, true} {
		c := begins(starting("a"), starting("taken"), starting("a"))
		c.Sends = messages(cook, "1")
		s.own(commit, func(tx store.Tx) {
			if err := s.store.AppendIn(s.ctx(), tx, c); err != nil {
				s.Fatalf("AppendIn(start a) = %v, want nil", err)
			}
			s.existed(c.Runs[1], taken.No)
			s.existed(c.Runs[2], c.Runs[0].No)
			if r := c.Runs[0]; r.Existed || r.No == taken.No || !r.StartedAt.Equal(s.clock.Now()) {
				s.Errorf("AppendIn(start a): No = %d, existed %t, at %s, want a new run now", r.No, r.Existed, r.StartedAt)
			}
			s.noRun("a")
			unlike := starting("taken")
			unlike.Input = nil
			if err := s.store.AppendIn(s.ctx(), tx, begins(starting("b"), unlike)); !isConflict(err) {
				s.Errorf("AppendIn(start taken with another input) = %v, want a RunConflictError", err)
			}
		})
		if !commit {
			s.noRun("a")
		}
	}
	s.noRun("b")
	s.holds(cook, 1, 0)
	other := s.open()
	for range 3 { // whatever it says now, it forgets
		if _, err := s.store.Reader().Changed(s.ctx()); err != nil {
			s.Errorf("Changed() = %v, want nil", err)
		}
	}
	s.own(true, func(tx store.Tx) {
		if err := other.AppendIn(s.ctx(), tx, begins(starting("c"))); err != nil {
			s.Errorf("AppendIn(start c) by another process = %v, want nil", err)
		}
	})
	if changed, err := s.store.Reader().Changed(s.ctx()); err != nil || !changed {
		s.Errorf("Changed() after a start in a caller's own transaction = %t, %v, want true, nil", changed, err)
	}
	s.claimRuns(9, "taken a c")
}

func isConflict(err error) bool {
	_, ok := errors.AsType[*store.RunConflictError](err)
	return ok
}

func runStartLimits(s *scene) {
	for name, spoil := range map[string]func(*store.RunStart){
		"no workflow": func(r *store.RunStart) { r.Workflow = "" },
		"no version":  func(r *store.RunStart) { r.Version = 0 },
		"a long ID":   func(r *store.RunStart) { r.ID = strings.Repeat("x", store.MaxRunID+1) },
	} {
		bad := starting("b")
		spoil(bad)
		c := begins(starting("a"), bad)
		c.Sends = messages(cook, "1")
		if s.outcome(c) == nil {
			s.Errorf("Commit(a start with %s): Err = nil, want an error", name)
		}
	}
	s.listed(cook, "")
	s.ran("", "")
	long := starting(strings.Repeat("ы", store.MaxRunID/2))
	s.commit(begins(long))
	s.claimRuns(9, long.ID)
}

func runStartConcurrent(s *scene) {
	other := s.open()
	const callers, ids = 6, 5
	starts := make(chan *store.RunStart, callers*ids)
	var all sync.WaitGroup
	for i := range callers {
		st := s.store
		if i%2 == 1 {
			st = other
		}
		all.Go(func() {
			for n := range ids {
				r := starting(fmt.Sprint("r", (n+i)%ids))
				r.Lease = true
				c := begins(r)
				if err := errors.Join(st.Commit(s.ctx(), &store.Group{Changes: []*store.Change{c}}), c.Err); err != nil {
					s.Errorf("Commit(start %s) beside others = %v, want nil", r.ID, err)
					continue
				}
				starts <- r
			}
		})
	}
	all.Wait()
	close(starts)
	numbers, fresh := map[string]store.RunNo{}, map[string]int{}
	for r := range starts {
		if no, ok := numbers[r.ID]; ok && no != r.No {
			s.Errorf("concurrent starts of %s: numbers %d and %d, want one", r.ID, no, r.No)
		}
		numbers[r.ID] = r.No
		if !r.Existed {
			fresh[r.ID]++
		}
	}
	for id := range numbers {
		if fresh[id] != 1 {
			s.Errorf("concurrent starts of %s: %d say that they made it, want 1", id, fresh[id])
		}
	}
	if rows, err := s.store.Reader().Runs().List(s.ctx(), store.RunQuery{}); err != nil || len(rows) != ids {
		s.Errorf("List() after concurrent starts = %d runs, %v, want %d", len(rows), err, ids)
	}
	s.well()
}
