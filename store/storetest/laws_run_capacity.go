package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/weir-go/weir/store"
)

func runCapacityLaws() []Law {
	return []Law{
		{"run-capacity/exact", "A workflow takes exactly as many unfinished runs from outside as Begin said: the next start is refused with a FullError that says so, and there is room as soon as one has ended.", runCapacityExact},
		{"run-capacity/counts", "Runs count whether they are ready, leased, wait or are parked, and over crashes; those that ended, kept or pruned, do not.", runCapacityCounts},
		{"run-capacity/inside", "Starts that leave with a settlement or an update, or are not marked as from outside, are admitted however many runs there are, and count.", runCapacityInside},
		{"run-capacity/again", "A start of a run that exists needs no room.", runCapacityAgain},
		{"run-capacity/several", "The starts of one change count together: all are taken or none; a group's changes count one after the other; each workflow for itself.", runCapacitySeveral},
		{"run-capacity/own", "AppendIn is refused beyond the bound, and leaves nothing; what its transaction has started counts, unless it is rolled back.", runCapacityOwn},
		{"run-capacity/unbounded", "A bound of zero is none; a changed one holds from then on, for runs there are already.", runCapacityUnbounded},
		{"run-capacity/concurrent", "Concurrent starts together do not exceed the bound; where capacity is Loose, by no more than what is in flight, and by a sixteenth of the room a process.", runCapacityConcurrent},
	}
}

// limit begins anew, with a bound of the unfinished runs of fulfil.
func (s *scene) limit(most int) {
	s.Helper()
	if err := s.store.End(s.ctx()); err != nil {
		s.Fatalf("End() = %v, want nil", err)
	}
	s.me = s.process()
	s.me.Limits = []store.RunLimit{{Workflow: fulfil, Max: most}}
	if err := s.store.Begin(s.ctx(), s.me); err != nil {
		s.Fatalf("Begin() = %v, want nil", err)
	}
}

// starts is a change that starts the runs of a line from outside.
func starts(line string) *store.Change {
	return &store.Change{Runs: startings(line), Outside: true}
}

// noRoom commits a change that must be refused since there are too many runs of fulfil.
func (s *scene) noRoom(depth, most int, c *store.Change) {
	s.Helper()
	s.group(&store.Group{Changes: []*store.Change{c}})
	s.isFullOfRuns(depth, most, c.Err)
	for _, r := range c.Runs {
		if r.No != 0 || r.Epoch != 0 {
			s.Errorf("Commit(start %s): No = %d, epoch %d, want none", r.ID, r.No, r.Epoch)
		}
	}
}

func (s *scene) isFullOfRuns(depth, most int, err error) {
	s.Helper()
	full, ok := errors.AsType[*store.FullError](err)
	if !ok || !full.Runs || full.Queue != fulfil || full.Depth != depth || full.Capacity != most {
		s.Errorf("start with %d unfinished runs of %d: %+v (%v), want a FullError that says so", depth, most, full, err)
	}
}

func runCapacityExact(s *scene) {
	s.limit(3)
	for _, id := range []string{"a", "b", "c"} {
		s.commit(starts(id))
	}
	s.noRoom(3, 3, starts("d"))
	s.update(ending(s.claimRuns(1, "a")[0].RunRef, store.Failed))
	s.commit(starts("d"))
	s.noRoom(3, 3, starts("e"))
	s.crash()
	s.noRoom(3, 3, starts("e"))
	s.claimRuns(9, "b c d")
}

func runCapacityCounts(s *scene) {
	s.limit(4)
	lent := starting("leased")
	lent.Lease = true
	late := starting("late")
	late.At = s.clock.Now().Add(time.Hour)
	s.commit(&store.Change{Runs: []*store.RunStart{lent, late}, Outside: true})
	s.update(waiting(s.leased("waits"), awaits(1, "k")))
	s.update(parking(s.leased("parked")))
	s.noRoom(4, 4, starts("more"))
	s.restart()
	s.noRoom(4, 4, starts("more"))
	s.update(ending(s.claimRun("leased").RunRef, store.Cancelled))
	s.commit(starts("more"))
	s.clock.move(100 * 24 * time.Hour)
	for range 20 {
		if _, err := s.store.Prune(s.ctx(), store.Retention{Keep: 24 * time.Hour, Max: 1000}); err != nil {
			s.Fatalf("Prune() = %v, want nil", err)
		}
	}
	s.noRoom(4, 4, starts("again"))
}

func runCapacityInside(s *scene) {
	s.declareCook()
	s.send(cook, "1")
	s.claim(cook, 1, "1")
	s.limit(1) // a process begins
	s.commit(starts("a"))
	b := s.claim(cook, 1, "1")
	c := change(s.settle(b, "1", store.Done))
	c.Runs = startings("b")
	s.commit(c)
	s.commit(begins(starting("c")))
	run := s.claimRuns(1, "a")[0]
	own := runs(&store.RunUpdate{RunRef: run.RunRef})
	own.Runs = startings("d")
	s.commit(own)
	s.noRoom(4, 1, starts("e"))
}

func runCapacityAgain(s *scene) {
	s.limit(2)
	s.commit(starts("a b"))
	again := starts("b a b")
	s.commit(again)
	for _, r := range again.Runs {
		if !r.Existed || r.No == 0 {
			s.Errorf("Commit(start %s again): existed %t, No %d, want the run there is", r.ID, r.Existed, r.No)
		}
	}
	s.noRoom(2, 2, starts("a c"))
}

func runCapacitySeveral(s *scene) {
	s.limit(4)
	s.commit(starts("a b"))
	s.noRoom(2, 4, starts("c d e"))
	other := &store.RunStart{Workflow: refund, ID: "a", Version: 1}
	both := starts("c d e")
	both.Runs = append(both.Runs, other)
	s.noRoom(2, 4, both)
	changes := []*store.Change{starts("c"), starts("d e"), starts("d d d"), {Runs: []*store.RunStart{other}, Outside: true}, starts("f"), starts("a")}
	s.group(&store.Group{Changes: changes})
	for i, want := range []bool{true, false, true, true, false, true} {
		if _, full := errors.AsType[*store.FullError](changes[i].Err); full == want || want != (changes[i].Err == nil) {
			s.Errorf("Commit(group with 2 runs of 4): Changes[%d].Err = %v, want written: %t", i, changes[i].Err, want)
		}
	}
	s.claimRuns(9, "a b c d")
}

func runCapacityOwn(s *scene) {
	s.limit(3)
	appends := func(tx store.Tx, line string) error {
		return s.store.AppendIn(s.ctx(), tx, &store.Change{Runs: startings(line)})
	}
	s.own(false, func(tx store.Tx) {
		if err := appends(tx, "x y z"); err != nil {
			s.Errorf("AppendIn(3 starts) = %v, want nil", err)
		}
	})
	s.commit(starts("a"))
	s.own(true, func(tx store.Tx) {
		s.isFullOfRuns(1, 3, appends(tx, "b c d"))
		if err := errors.Join(appends(tx, "b"), appends(tx, "c b")); err != nil {
			s.Errorf("AppendIn(2 starts) with room for 2 = %v, want nil", err)
		}
		s.isFullOfRuns(3, 3, appends(tx, "d"))
	})
	s.noRoom(3, 3, starts("d"))
	s.claimRuns(9, "a b c")
}

func runCapacityUnbounded(s *scene) {
	s.commit(starts("a b c"))
	s.limit(0)
	s.commit(starts("d"))
	s.limit(3)
	s.noRoom(4, 3, starts("e"))
	s.limit(5)
	s.commit(starts("e"))
	s.noRoom(5, 5, starts("f"))
}

func runCapacityConcurrent(s *scene) {
	const room, starters, processes = 20, 4, 2
	s.limit(room)
	other := s.open()
	taken := s.takenAtOnce(other, starters, 16, func(i, n int) *store.Change { return starts(fmt.Sprint("r", i, "-", n)) })
	most := room
	if s.store.Info().Loose {
		most += starters - 1 + processes*(room/16) // see Info
	}
	if taken < room || taken > most {
		s.Errorf("64 concurrent starts with room for %d: %d taken, want %d to %d", room, taken, room, most)
	}
}
