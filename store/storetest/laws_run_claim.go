package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

func runClaimLaws() []Law {
	return []Law{
		{"run-claim/once", "A ready run is claimed once, of its workflow only, at most Max at a time, the longest ready first.", runClaimOnce},
		{"run-claim/order", "Among runs that wait the first to be ready again is the first to be claimed, whether mail or time made it so.", runClaimOrder},
		{"run-claim/whole", "A claimed run comes as it was started, with its records in order.", runClaimWhole},
		{"run-claim/epoch", "Each claim of a run raises its epoch by one; one that is leased is not claimed again.", runClaimEpoch},
		{"run-claim/more", "More is set as long as another claim would find runs at once, and no longer.", runClaimMore},
		{"run-claim/next-due", "NextDue is when the next waiting run's time comes; zero when none waits for a time.", runClaimNextDue},
		{"run-claim/due", "A run that waits for a time is claimed when it has come, and not before.", runClaimDue},
		{"run-claim/clock-back", "A clock that is set back keeps no ready run from being claimed, and none that waits for a time comes before it.", runClaimClockBack},
		{"run-claim/bytes", "A claim loads at most MaxClaimBytes of records beyond its first run, and says that there is more; a larger run comes first in a claim.", runClaimBytes},
		{"run-claim/records", "A claim loads at most MaxClaimRecords records beyond its first run, and says that there is more.", runClaimRecords},
		{"run-claim/concurrent", "Of concurrent claims no two get the same run, and together they get all.", runClaimConcurrent},
		{"run-claim/in-turn", "Of concurrent claims of a run that is released again and again each finds what the one before has left.", runClaimInTurn},
		{"run-claim/limits", "A claim for less than no runs, or for more than MaxBatch, is refused; of a workflow never heard of there is nothing.", runClaimLimits},
	}
}

func runClaimOnce(s *scene) {
	s.startEach("a b c")
	other := starting("x")
	other.Workflow = refund
	s.commit(begins(other, starting("d")))
	s.claimRuns(2, "a b")
	s.claimRuns(1, "c")
	s.claimRuns(9, "d")
	s.claimRuns(9, "")
	got := s.lookRuns(store.ClaimRequest{Workflow: refund})
	if idsOf(got.Runs) != "x" || got.Runs[0].Workflow != refund {
		s.Errorf("Claim(%s) = %q, want \"x\" of it", refund, idsOf(got.Runs))
	}
	if got.Batch != nil {
		s.Errorf("Claim(%s) = a batch of messages, want none", refund)
	}
}

func runClaimOrder(s *scene) {
	now := s.clock.Now()
	s.commit(
		runs(waiting(s.leased("a"), awaits(1, "a"))), runs(waiting(s.leased("b"), awaits(1, "b"))), runs(waiting(s.leased("c"), awaits(1, "c"))),
		runs(sleeping(s.leased("s"), now.Add(3*time.Minute))), runs(sleeping(s.leased("t"), now.Add(time.Minute))),
	)
	for _, word := range []string{"c1", "a1", "b1"} {
		s.clock.move(time.Second)
		s.send(ready, word)
	}
	if got := s.lookRuns(store.ClaimRequest{Max: 2}).Runs; idsOf(got) != "c a" {
		s.Errorf("Claim(max 2) = %q, want \"c a\", the first that were ready", idsOf(got))
	}
	s.claimRuns(9, "b")
	s.clock.move(time.Hour)
	s.claimRuns(1, "t")
	s.claimRuns(9, "s")
}

// equal wants two values of a run's field.
func equal[T comparable](s *scene, what string, got, want T) {
	s.Helper()
	if got != want {
		s.Errorf("%s = %v, want %v", what, got, want)
	}
}

func runClaimWhole(s *scene) {
	parent := s.leased("p")
	s.update(waiting(parent))
	full := &store.RunStart{
		Workflow: fulfil, ID: "ключ '%_/\" 🍲", Version: 3, Input: []byte("a\x00b\xff"), Headers: []byte(`{"tenant":"blue"}`),
		Deadline: s.clock.Now().Add(time.Hour), Cause: "zzzzzz-1hk3", Correlation: "zzzzzz-1", Parent: parent.No, ParentStep: 7,
	}
	bare := &store.RunStart{Workflow: fulfil, ID: "bare", Version: 1, Input: bytes.Repeat([]byte("x"), 1<<20)}
	s.commit(begins(full, bare))
	s.clock.move(time.Minute)
	for range 2 {
		got := s.lookRuns(store.ClaimRequest{Max: 2}).Runs
		for _, want := range []*store.RunStart{full, bare} {
			r := s.find(got, want.ID)
			s.asStarted(r, want)
			if len(r.Records) != 0 || len(r.Mail) != 0 || r.Crashes != 0 {
				s.Errorf("Claim(%s) = %d records, %d letters, %d crashes, want none", r.ID, len(r.Records), len(r.Mail), r.Crashes)
			}
			s.commit(runs(waiting(r.RunRef)))
			s.operate(store.Act{Verb: store.CancelRun, Workflow: fulfil, ID: r.ID})
		}
		for _, r := range s.lookRuns(store.ClaimRequest{Max: 2}).Runs { // by the hand of another process the same
			u := updates(r.RunRef)
			u.Read = last(r.Mail)
			s.update(u)
		}
		s.restart()
	}
}

func (s *scene) asStarted(r *store.Run, want *store.RunStart) {
	s.Helper()
	equal(s, "Claim(): No", r.No, want.No)
	equal(s, "Claim(): Workflow", r.Workflow, want.Workflow)
	equal(s, "Claim(): Version", r.Version, want.Version)
	equal(s, "Claim(): Cause", r.Cause, want.Cause)
	equal(s, "Claim(): Correlation", r.Correlation, want.Correlation)
	equal(s, "Claim(): Parent", r.Parent, want.Parent)
	equal(s, "Claim(): Headers", string(r.Headers), string(want.Headers))
	if !bytes.Equal(r.Input, want.Input) {
		s.Errorf("Claim(%s): input %.40q, want %.40q", r.ID, r.Input, want.Input)
	}
	if !r.StartedAt.Equal(want.StartedAt) || !r.Deadline.Equal(want.Deadline) || r.Deadline.IsZero() != want.Deadline.IsZero() {
		s.Errorf("Claim(%s): started at %s, deadline %s, want %s, %s", r.ID, r.StartedAt, r.Deadline, want.StartedAt, want.Deadline)
	}
}

func runClaimEpoch(s *scene) {
	s.startRuns("a")
	a := s.claimRun("a")
	epoch := a.Epoch
	if epoch < 1 {
		s.Errorf("Claim(a): epoch %d, want 1 or more", epoch)
	}
	for _, release := range []func() *store.Run{
		func() *store.Run { s.update(sleeping(a.RunRef, s.clock.Now())); return s.claimRun("a") },
		func() *store.Run { s.restart(); return s.claimRun("a") },
		func() *store.Run { s.update(waiting(a.RunRef)); return s.cancelled("a") },
		func() *store.Run { s.crash(); return s.claimSuspects(9, "a")[0] },
		func() *store.Run { s.crash(); s.crash(); s.restart(); return s.claimSuspects(9, "a")[0] },
	} {
		s.update(updates(a.RunRef))
		s.claimRuns(9, "")
		s.claimSuspects(9, "")
		a = release()
		if epoch++; a.Epoch != epoch {
			s.Errorf("Claim(a): epoch %d, want %d", a.Epoch, epoch)
		}
	}
	s.claimRuns(9, "")
	s.claimSuspects(9, "")
}

func runClaimMore(s *scene) {
	s.startEach("a b c d")
	late := starting("late")
	late.At = s.clock.Now().Add(time.Hour)
	s.commit(begins(late))
	for _, want := range []struct {
		max  int
		line string
		more bool
	}{{2, "a b", true}, {1, "c", true}, {1, "d", false}, {9, "", false}} {
		got := s.lookRuns(store.ClaimRequest{Max: want.max})
		if idsOf(got.Runs) != want.line || got.More != want.more {
			s.Errorf("Claim(max %d) = %q, more %t, want %q, more %t", want.max, idsOf(got.Runs), got.More, want.line, want.more)
		}
	}
	s.clock.move(time.Hour)
	s.startRuns("e")
	if got := s.lookRuns(store.ClaimRequest{Max: 1}); len(got.Runs) != 1 || !got.More {
		s.Errorf("Claim(max 1) of one whose time has come and a fresh one = %q, more %t, want one and more", idsOf(got.Runs), got.More)
	}
	if got := s.lookRuns(store.ClaimRequest{Max: 9}); len(got.Runs) != 1 || got.More {
		s.Errorf("Claim(max 9) of the last = %q, more %t, want one and no more", idsOf(got.Runs), got.More)
	}
}

func runClaimNextDue(s *scene) {
	now := s.clock.Now()
	want := func(due time.Time) {
		s.Helper()
		if got := s.lookRuns(store.ClaimRequest{}); len(got.Runs) > 0 || !got.NextDue.Equal(due) || got.NextDue.IsZero() != due.IsZero() {
			s.Errorf("Claim() = %q, next due %s, want nothing, %s", idsOf(got.Runs), got.NextDue, due)
		}
	}
	a, b, c := s.leased("a"), s.leased("b"), s.leased("c")
	other := starting("x")
	other.Workflow, other.At = refund, now.Add(time.Second)
	s.commit(begins(other))
	want(time.Time{})
	s.update(waiting(a, awaits(1, "k")))
	want(time.Time{})
	s.update(sleeping(b, now.Add(2*time.Hour)))
	want(now.Add(2 * time.Hour))
	s.update(sleeping(c, now.Add(time.Hour)))
	want(now.Add(time.Hour))
	s.clock.move(time.Hour)
	run := s.claimRun("c")
	want(now.Add(2 * time.Hour))
	s.update(ending(run.RunRef, store.Completed))
	s.operate(store.Act{Verb: store.CancelRun, Workflow: fulfil, ID: "b"})
	run = s.claimRun("b") // its time is no more
	want(time.Time{})
	u := waiting(run.RunRef)
	u.Read = last(run.Mail)
	s.update(u)
	s.clock.move(2 * time.Hour)
	want(time.Time{})
}

func runClaimDue(s *scene) {
	until := s.clock.Now().Add(time.Hour)
	u := sleeping(s.leased("a"), until)
	u.Waits = []store.Wait{awaits(1, "k")}
	s.unread(u, false)
	s.clock.move(time.Hour - time.Microsecond)
	s.claimRuns(9, "")
	if got := s.stands("a", store.RunWaiting); !got.Wake.Equal(until) {
		s.Errorf("Story(a): wakes at %s, want %s", got.Wake, until)
	}
	s.crash()
	s.clock.move(time.Microsecond)
	s.stands("a", store.RunReady)
	run := s.claimRun("a")
	s.mailed(run, "")
	s.send(ready, "k1") // time came first, and the wait is still there
	s.handedMail(0, "1 k1")
	s.update(sleeping(run.RunRef, s.clock.Now().Add(-time.Hour)))
	s.mailed(s.claimRun("a"), "1 k1")
}

func runClaimClockBack(s *scene) {
	now := s.clock.Now()
	s.update(sleeping(s.leased("sleeps"), now.Add(time.Minute)))
	s.update(sleeping(s.leased("due"), now))
	s.update(waiting(s.leased("waits"), awaits(1, "k")))
	s.startRuns("fresh")
	s.leased("crashed")
	s.send(ready, "k1")
	s.clock.move(-time.Hour)
	s.claimRuns(9, "fresh waits")
	s.crash()
	s.claimSuspects(9, "crashed fresh waits")
	s.clock.move(time.Hour - time.Microsecond)
	s.claimRuns(9, "")
	s.clock.move(time.Microsecond)
	s.claimRuns(9, "due")
	s.clock.move(time.Minute)
	s.claimRuns(9, "sleeps")
}

func runClaimRecords(s *scene) {
	const many = 10_500 // records of a long run
	const n = store.MaxClaimRecords/many + 3
	var records []*store.Record
	for i := range many {
		records = append(records, &store.Record{N: i + 1, Kind: store.KindStep, State: store.StepDone, Name: "s"})
	}
	left := map[string]int{}
	for i := range n {
		id, size := fmt.Sprint("r", i), many
		switch i {
		case 0:
			size = 1
		case 1:
			size = many * 9 / 10
		}
		u := sleeping(s.leased(id), s.clock.Now())
		u.Records = records[:size]
		s.update(u)
		left[id] = size
		s.clock.move(time.Second)
	}
	for range n {
		got := s.lookRuns(store.ClaimRequest{Max: n})
		loaded := 0
		for i, r := range got.Runs {
			if i > 0 {
				loaded += len(r.Records)
			}
			if size := left[r.ID]; size == 0 || len(r.Records) != size || r.Records[size-1].N != size {
				s.Errorf("Claim() = %s with %d records, want each run once, with %d", r.ID, len(r.Records), size)
			}
			delete(left, r.ID)
		}
		if loaded > store.MaxClaimRecords || len(got.Runs) == 0 || got.More != (len(left) > 0) {
			s.Errorf("Claim() = %d runs, %d records beyond the first's, more %t with %d left, want at most %d", len(got.Runs), loaded, got.More, len(left), store.MaxClaimRecords)
		}
		if len(left) == 0 {
			return
		}
	}
	s.Errorf("Claim() %d times: %d runs are left, want none", n, len(left))
}

func runClaimBytes(s *scene) {
	const each = 1 << 20 // a record's value
	value := make([]byte, each)
	records := make([]*store.Record, store.MaxClaimBytes/each+1)
	for i := range records {
		records[i] = &store.Record{N: i + 1, Kind: store.KindStep, State: store.StepDone, Value: value}
	}
	for i, n := range []int{1, len(records) - 1, 0, len(records)} {
		u := sleeping(s.leased(fmt.Sprint("r", i)), s.clock.Now())
		u.Records = records[:n]
		s.update(u)
		s.clock.move(time.Second)
	}
	for _, want := range []string{"r0 r1 r2", "r3", ""} {
		got := s.lookRuns(store.ClaimRequest{Max: 9})
		if idsOf(got.Runs) != want || got.More != (want == "r0 r1 r2") {
			s.Errorf("Claim() = %q, more %t, want %q", idsOf(got.Runs), got.More, want)
		}
	}
}

func runClaimConcurrent(s *scene) {
	const n = 90
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprint("r", i))
	}
	s.startRuns(strings.Join(ids, " "))
	got := make(chan string, 2*n)
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			for {
				c, err := s.store.Claim(s.ctx(), store.ClaimRequest{Workflow: fulfil, Max: 7})
				if err != nil {
					s.Errorf("Claim() beside others = %v, want nil", err)
					return
				}
				if len(c.Runs) == 0 {
					return
				}
				for _, r := range c.Runs {
					got <- r.ID
				}
			}
		})
	}
	all.Wait()
	close(got)
	var seen []string
	for id := range got {
		seen = append(seen, id)
	}
	slices.Sort(seen)
	slices.Sort(ids)
	if !slices.Equal(seen, ids) {
		s.Errorf("concurrent claims = %q, want each of the %d runs once", seen, n)
	}
}

func runClaimInTurn(s *scene) {
	const ids, rounds = "a b c d e", 20
	s.startRuns(ids)
	epochs := make(chan int64, 4*4*rounds)
	var all sync.WaitGroup
	for most := range 4 {
		all.Go(func() {
			for range rounds {
				got, err := s.store.Claim(s.ctx(), store.ClaimRequest{Workflow: fulfil, Max: 1 + most})
				if err != nil {
					s.Errorf("Claim() beside others = %v, want nil", err)
					return
				}
				for _, r := range got.Runs {
					if n := int64(len(r.Records)); n != r.Epoch-1 {
						s.Errorf("Claim() = %s under epoch %d with %d records, want one for each epoch before", r.ID, r.Epoch, n)
						return
					}
					c := runs(sleeping(r.RunRef, s.clock.Now()))
					c.Run.Records = []*store.Record{step(int(r.Epoch), "turn", store.StepDone)}
					if err := s.store.Commit(s.ctx(), &store.Group{Changes: []*store.Change{c}}); err != nil || c.Err != nil {
						s.Errorf("Commit(release of %s) beside others = %v, %v, want nil", r.ID, err, c.Err)
						return
					}
					epochs <- r.Epoch
				}
			}
		})
	}
	all.Wait()
	close(epochs)
	turns, records := 0, 0
	for range epochs {
		turns++
	}
	for _, r := range s.claimRuns(9, ids) {
		records += len(r.Records)
	}
	if turns == 0 || records != turns {
		s.Errorf("%d turns left %d records, want as many, and some", turns, records)
	}
}

func runClaimLimits(s *scene) {
	s.startRuns("a")
	for _, max := range []int{-1, store.MaxBatch + 1} {
		got, err := s.store.Claim(s.ctx(), store.ClaimRequest{Workflow: fulfil, Max: max})
		if err == nil || len(got.Runs) > 0 {
			s.Errorf("Claim(%s, max %d) = %q, %v, want none and an error", fulfil, max, idsOf(got.Runs), err)
		}
	}
	got := s.lookRuns(store.ClaimRequest{Workflow: "nobody.knows"})
	if len(got.Runs) > 0 || got.More || got.Suspects != 0 || !got.NextDue.IsZero() {
		s.Errorf("Claim(a workflow never heard of) = %+v, want nothing", got)
	}
	s.claimRuns(store.MaxBatch, "a")
}
