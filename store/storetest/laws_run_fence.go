package storetest

import (
	"context"
	"errors"
	"slices"

	"github.com/weir-go/weir/store"
)

func runFenceLaws() []Law {
	return []Law{
		{"run-fence/older-epoch", "An update under an older epoch is refused with ErrFenced, and nothing of its change is written; what is beside it in the group is.", runFenceOlderEpoch},
		{"run-fence/unleased", "An update of a run that is ready, waits, is parked, has ended, or never was is refused with ErrFenced.", runFenceUnleased},
		{"run-fence/unknown-epoch", "An update under an epoch that never was, or of another run's, is refused with ErrFenced.", runFenceUnknownEpoch},
		{"run-fence/released-in-group", "In one group a run may be updated again and again, until it is released.", runFenceReleased},
		{"run-fence/with-settlement", "One fence refuses all: a stale settlement refuses the update of its change, a stale update the settlement.", runFenceSettlement},
		{"run-fence/refused-leaves", "A refused update leaves the run as it was: leased, under the same epoch, to be updated.", runFenceLeaves},
	}
}

// ladenRun is a change that would end a run, and carries one of everything.
func (s *scene) ladenRun(r store.RunRef) *store.Change {
	u := ending(r, store.Completed)
	u.Records = []*store.Record{step(9, "laden", store.StepDone)}
	u.Attempts = []store.StepAttempt{{N: 9, Attempt: 1, StartedAt: s.clock.Now(), Reason: "laden"}}
	u.Waits = []store.Wait{awaits(9, "laden")}
	u.Locks = []store.LockAct{acquires(9, "till")}
	u.Read, u.Sober = 1<<40, true
	return &store.Change{
		Run: u, Sends: append(messages(cook, "98 99"), messages(ready, "laden1")...),
		Runs: startings("stowaway"), Closures: []store.Closure{s.note("laden")},
	}
}

// unladenRun wants nothing of a laden change to be written, of the run with the ID or else.
func (s *scene) unladenRun(id string) {
	s.Helper()
	s.listed(cook, "")
	s.listed(ready, "")
	s.notes("")
	s.noRun("stowaway")
	s.inLine("till", "")
	if id == "" {
		return
	}
	r := s.run(id)
	if len(r.Records)+len(r.Attempts)+len(r.Waits)+len(r.Locks) > 0 || r.Result != nil || r.State == "completed" {
		s.Errorf("Story(%s) after a refused update: %q with %d records, %d attempts, %d waits, %d locks, result %q, want nothing of it",
			id, r.State, len(r.Records), len(r.Attempts), len(r.Waits), len(r.Locks), r.Result)
	}
}

func runFenceOlderEpoch(s *scene) {
	a, b := s.leased("a"), s.leased("b")
	s.restart()
	for _, r := range s.claimRuns(9, "a b") {
		if r.ID == "a" {
			a.Epoch = r.Epoch - 1
		} else {
			b = r.RunRef
		}
	}
	old := s.ladenRun(a)
	before := &store.Change{Sends: messages(serve, "1"), Runs: startings("c")}
	beside := runs(&store.RunUpdate{RunRef: b, Records: []*store.Record{step(1, "pay", store.StepDone)}})
	s.group(&store.Group{Changes: []*store.Change{before, old, beside}})
	if before.Err != nil || !errors.Is(old.Err, store.ErrFenced) || beside.Err != nil {
		s.Errorf("Commit(a start, an update under an older epoch, another): Err = %v, %v, %v, want nil, ErrFenced, nil", before.Err, old.Err, beside.Err)
	}
	s.unladenRun("a")
	s.listed(serve, "1")
	s.ran(store.RunReady, "c")
	if got := s.run("b"); len(got.Records) != 1 {
		s.Errorf("Story(b): %d records, want 1", len(got.Records))
	}
	a.Epoch++
	s.update(ending(a, store.Completed))
	s.stands("a", "completed")
}

func runFenceUnleased(s *scene) {
	for id, release := range map[string]func(r store.RunRef) *store.RunUpdate{
		"waits":  func(r store.RunRef) *store.RunUpdate { return waiting(r) },
		"sleeps": func(r store.RunRef) *store.RunUpdate { return sleeping(r, s.clock.Now()) },
		"parked": func(r store.RunRef) *store.RunUpdate { return parking(r) },
	} {
		r := s.leased(id)
		s.update(release(r))
		s.refuse(s.ladenRun(r), store.ErrFenced)
		s.unladenRun(id)
	}
	ended := s.leased("ended")
	s.update(ending(ended, store.Failed))
	s.refuse(s.ladenRun(ended), store.ErrFenced)
	s.refuse(runs(ending(ended, store.Failed)), store.ErrFenced)
	if end, err := s.store.Reader().Runs().End(s.ctx(), fulfil, "ended"); err != nil || end.Outcome != store.Failed {
		s.Errorf("End(ended) = %s, %v, want failed", end.Outcome, err)
	}
	fresh := s.startRuns("fresh")[0]
	s.refuse(s.ladenRun(refOf(fresh)), store.ErrFenced)
	s.refuse(s.ladenRun(store.RunRef{No: fresh.No, Epoch: 1}), store.ErrFenced)
	s.refuse(s.ladenRun(store.RunRef{No: fresh.No + 77, Epoch: 1}), store.ErrFenced)
	s.refuse(s.ladenRun(store.RunRef{}), store.ErrFenced)
	s.unladenRun("fresh")
}

func runFenceUnknownEpoch(s *scene) {
	a := s.leased("a")
	s.update(sleeping(s.leased("b"), s.clock.Now()))
	b := s.claimRun("b").RunRef
	for _, r := range []store.RunRef{{No: a.No, Epoch: a.Epoch + 1}, {No: a.No}, {No: a.No, Epoch: -1}, {No: a.No, Epoch: b.Epoch}} {
		s.refuse(s.ladenRun(r), store.ErrFenced)
	}
	s.unladenRun("a")
	s.update(updates(a))
}

func runFenceReleased(s *scene) {
	a := s.leased("a")
	first := runs(&store.RunUpdate{RunRef: a, Records: []*store.Record{step(1, "pay", store.StepPending)}})
	second := runs(&store.RunUpdate{RunRef: a, Records: []*store.Record{step(1, "pay", store.StepDone), step(2, "mail", store.StepPending)}})
	release := runs(waiting(a, awaits(3, "k")))
	late := s.ladenRun(a)
	s.group(&store.Group{Changes: []*store.Change{first, second, release, late}})
	if first.Err != nil || second.Err != nil || release.Err != nil || !errors.Is(late.Err, store.ErrFenced) {
		s.Errorf("Commit(two updates, a release, one more): Err = %v, %v, %v, %v, want nil three times, ErrFenced",
			first.Err, second.Err, release.Err, late.Err)
	}
	got := s.stands("a", store.RunWaiting)
	states := make([]store.StepState, len(got.Records))
	for i, r := range got.Records {
		states[i] = r.State
	}
	if !slices.Equal(states, []store.StepState{store.StepDone, store.StepPending}) || len(got.Waits) != 1 {
		s.Errorf("Story(a): records %v, %d waits, want done and pending, 1", states, len(got.Waits))
	}
	s.noRun("stowaway")
}

func runFenceSettlement(s *scene) {
	s.declare(store.Queue{Name: serve})
	s.send(serve, "1 2")
	b := s.claim(serve, 9, "1 2")
	s.done(b, "1")
	a := s.leased("a")
	c := s.ladenRun(a)
	c.Settle = []store.Settlement{s.settle(b, "2", store.Done), s.settle(b, "1", store.Done)}
	s.refuse(c, store.ErrFenced)
	c = s.ladenRun(store.RunRef{No: a.No, Epoch: a.Epoch + 1})
	c.Settle = []store.Settlement{s.settle(b, "2", store.Done)}
	s.refuse(c, store.ErrFenced)
	s.unladenRun("a")
	s.holds(serve, 1, 0)
	good := runs(ending(a, store.Completed))
	good.Settle = []store.Settlement{s.settle(b, "2", store.Done)}
	s.commit(good)
	s.holds(serve, 0, 0)
	s.stands("a", "completed")
}

func runFenceLeaves(s *scene) {
	a := s.leased("a")
	fails := s.ladenRun(a)
	fails.Closures = append(fails.Closures, failing)
	panics := s.ladenRun(a)
	panics.Closures = append(panics.Closures, func(context.Context, store.Tx) error { panic("closure") })
	exists := s.ladenRun(a)
	unlike := starting("a")
	unlike.Input = nil
	exists.Runs = append(exists.Runs, unlike)
	for i, c := range []*store.Change{fails, panics, exists} {
		if s.outcome(c) == nil {
			s.Errorf("Commit(update that is refused, case %d): Err = nil, want an error", i)
		}
		s.unladenRun("a")
	}
	s.stands("a", store.RunRunning)
	s.claimRuns(9, "")
	u := s.update(&store.RunUpdate{RunRef: a, Locks: []store.LockAct{acquires(1, "till")}})
	if u.Locks[0].Fence == 0 {
		s.Errorf("Commit(acquire till): Fence = 0, want it granted: those who would have taken it were refused")
	}
	s.update(ending(a, store.Completed))
	s.well()
}
