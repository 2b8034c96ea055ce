package storetest

import (
	"errors"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func runCrashLaws() []Law {
	return []Law{
		{"run-crash/counted", "An unclean end counts as one crash against each run that the process leased, and against no other.", runCrashCounted},
		{"run-crash/handed-back", "End hands runs back: they are ready, without a crash.", runCrashHandedBack},
		{"run-crash/once", "A crash counts once, however many processes come and go before the run is claimed again.", runCrashOnce},
		{"run-crash/sober", "Sober clears the crashes; nothing else does.", runCrashSober},
		{"run-crash/apart", "Runs with crashes come only when asked for, those without only when not; how many wait is told.", runCrashApart},
		{"run-crash/order", "Of the runs with crashes those with most come first.", runCrashOrder},
		{"run-crash/taken-over", "A process that was taken over writes nothing to the runs it leased, and claims none.", runCrashTakenOver},
	}
}

// crashed wants a run's crashes.
func (s *scene) crashed(r *store.Run, want int) {
	s.Helper()
	if r.Crashes != want {
		s.Errorf("Claim(): %s has %d crashes, want %d", r.ID, r.Crashes, want)
	}
}

func runCrashCounted(s *scene) {
	s.startEach("claimed ready")
	s.claimRuns(1, "claimed")
	s.leased("started")
	s.update(waiting(s.leased("waits"), awaits(1, "k")))
	s.update(parking(s.leased("parked")))
	s.update(ending(s.leased("ended"), store.Completed))
	s.crash()
	s.send(ready, "k1")
	for _, r := range s.claimRuns(9, "ready waits") {
		s.crashed(r, 0)
	}
	for _, r := range s.claimSuspects(9, "claimed started") {
		s.crashed(r, 1)
	}
	for _, id := range []string{"parked", "ended"} {
		if got := s.run(id); got.Crashes != 0 {
			s.Errorf("Story(%s): %d crashes, want 0", id, got.Crashes)
		}
	}
	if got := s.run("claimed"); got.Crashes != 1 {
		s.Errorf("Story(claimed): %d crashes, want 1", got.Crashes)
	}
}

func runCrashHandedBack(s *scene) {
	a, b := s.leased("a"), s.leased("b")
	s.update(updates(a))
	s.restart()
	s.stands("a", store.RunReady)
	for _, r := range s.claimRuns(9, "a b") {
		s.crashed(r, 0)
		s.update(updates(r.RunRef))
	}
	s.refuse(runs(updates(b)), store.ErrFenced)
	s.crash()
	for _, r := range s.claimSuspects(9, "a b") {
		s.crashed(r, 1)
	}
	s.restart() // does not take back what was counted
	for _, r := range s.claimSuspects(9, "a b") {
		s.crashed(r, 1)
	}
}

func runCrashOnce(s *scene) {
	s.leased("a")
	s.crash()
	s.stands("a", store.RunReady)
	s.restart()
	s.crash()
	s.crash()
	s.restart()
	s.claimRuns(9, "")
	s.crashed(s.claimSuspects(9, "a")[0], 1)
	s.claimSuspects(9, "")
	s.crash()
	s.crashed(s.claimSuspects(9, "a")[0], 2)
}

func runCrashSober(s *scene) {
	s.leased("a")
	s.crash()
	s.crash()
	a := s.claimSuspects(9, "a")[0]
	s.update(&store.RunUpdate{RunRef: a.RunRef, Records: []*store.Record{step(1, "pay", store.StepDone)}})
	s.update(sleeping(a.RunRef, s.clock.Now().Add(time.Minute)))
	s.clock.move(time.Minute)
	s.claimRuns(9, "")
	a = s.claimSuspects(9, "a")[0]
	s.crashed(a, 1)
	u := updates(a.RunRef)
	u.Sober = true
	s.update(u)
	s.update(sleeping(a.RunRef, s.clock.Now()))
	a = s.claimRun("a")
	s.crashed(a, 0)
	s.crash()
	a = s.claimSuspects(9, "a")[0]
	s.crashed(a, 1)
	u = sleeping(a.RunRef, s.clock.Now())
	u.Sober = true
	s.update(u)
	s.crashed(s.claimRun("a"), 0)
}

func runCrashApart(s *scene) {
	s.leased("a")
	s.leased("b")
	other := starting("x")
	other.Workflow = refund
	s.lease(other)
	s.crash()
	s.startEach("c d")
	for _, want := range []struct {
		max      int
		suspects bool
		line     string
		more     bool
		left     int
	}{{1, false, "c", true, 2}, {9, false, "d", false, 2}, {9, false, "", false, 2}, {1, true, "", true, 1}, {9, true, "", false, 0}, {9, true, "", false, 0}} {
		got := s.lookRuns(store.ClaimRequest{Max: want.max, Suspects: want.suspects})
		if !want.suspects && (idsOf(got.Runs) != want.line || got.More != want.more || got.Suspects != want.left) {
			s.Errorf("Claim(max %d) = %q, more %t, %d suspects, want %q, %t, %d", want.max, idsOf(got.Runs), got.More, got.Suspects, want.line, want.more, want.left)
		}
		if want.suspects && got.More != want.more {
			s.Errorf("Claim(max %d, suspects) = %q, more %t, want more %t", want.max, idsOf(got.Runs), got.More, want.more)
		}
		for _, r := range got.Runs {
			if want.suspects != (r.Crashes > 0) {
				s.Errorf("Claim(suspects %t) = %s with %d crashes", want.suspects, r.ID, r.Crashes)
			}
		}
	}
	s.ran(store.RunRunning, "d c b a")
	if got := s.lookRuns(store.ClaimRequest{}); got.Suspects != 0 {
		s.Errorf("Claim() when all runs with crashes are leased: %d suspects, want 0", got.Suspects)
	}
	a := s.run("a")
	s.update(waiting(store.RunRef{No: a.No, Epoch: a.Epoch}, awaits(1, "k")))
	if got := s.lookRuns(store.ClaimRequest{}); got.Suspects != 0 || len(got.Runs) > 0 {
		s.Errorf("Claim() when a run with a crash waits: %d suspects, want 0", got.Suspects)
	}
	s.send(ready, "k1")
	if got := s.lookRuns(store.ClaimRequest{}); got.Suspects != 1 || len(got.Runs) > 0 {
		s.Errorf("Claim() when mail came to a run with a crash: %d suspects, runs %q, want 1, none", got.Suspects, idsOf(got.Runs))
	}
	s.mailed(s.claimSuspects(9, "a")[0], "1 k1")
}

func runCrashOrder(s *scene) {
	for _, id := range []string{"a", "b", "c"} {
		s.leased(id)
		s.clock.move(time.Second)
	}
	s.crash() // once for all
	for _, spared := range []string{"a", "a b"} {
		for _, r := range s.claimSuspects(9, "a b c") {
			if strings.Contains(spared, r.ID) {
				s.update(sleeping(r.RunRef, s.clock.Now()))
			}
		}
		s.clock.move(time.Second)
		s.crash()
	}
	s.crashed(s.claimSuspects(1, "c")[0], 3)
	got := s.lookRuns(store.ClaimRequest{Suspects: true}).Runs
	if idsOf(got) != "b a" {
		s.Fatalf("Claim(suspects) = %q, want \"b a\": most crashes first", idsOf(got))
	}
	s.crashed(got[0], 2)
	s.crashed(got[1], 1)
}

func runCrashTakenOver(s *scene) {
	a := s.leased("a")
	s.startRuns("b")
	zombie := s.crash()
	commit := func(c *store.Change) error {
		return errors.Join(zombie.Commit(s.ctx(), &store.Group{Changes: []*store.Change{c}}), c.Err)
	}
	lost := func(what string, err error) {
		s.Helper()
		if !errors.Is(err, store.ErrLeaseLost) {
			s.Errorf("%s after a take-over = %v, want ErrLeaseLost", what, err)
		}
	}
	lost("Commit(update)", commit(s.ladenRun(a)))
	lost("Commit(start)", commit(begins(starting("stowaway"))))
	got, err := zombie.Claim(s.ctx(), store.ClaimRequest{Workflow: fulfil, Max: 9})
	lost("Claim", err)
	if len(got.Runs) > 0 {
		s.Errorf("Claim after a take-over = %q, want none", idsOf(got.Runs))
	}
	_, err = zombie.Operate(s.ctx(), by(store.Act{Verb: store.CancelRun, Workflow: fulfil, ID: "a"}))
	lost("Operate", err)
	s.own(true, func(tx store.Tx) {
		lost("AppendIn", zombie.AppendIn(s.ctx(), tx, begins(starting("stowaway"))))
	})
	s.refuse(s.ladenRun(a), store.ErrFenced) // not by the one that took over either, before it has claimed
	s.unladenRun("a")
	run := s.claimSuspects(9, "a")[0]
	lost("Commit(update)", commit(s.ladenRun(run.RunRef)))
	s.refuse(s.ladenRun(a), store.ErrFenced)
	s.unladenRun("a")
	s.claimRuns(9, "b")
	s.update(ending(run.RunRef, store.Completed))
}
