package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func runUpdateLaws() []Law {
	return []Law{
		{"run-update/records", "Records are written, or written again, by N, whole and in order; those not written stay.", runUpdateRecords},
		{"run-update/attempts", "Failed attempts are kept, in order, with as much of their reasons and stacks as the port says.", runUpdateAttempts},
		{"run-update/goes-on", "An update that goes on leaves the run leased under the same epoch.", runUpdateGoesOn},
		{"run-update/parked", "A parked run is nobody's: it tells why, and no time makes it ready.", runUpdateParked},
		{"run-update/ended", "An ended run tells how, with its result or its reason, and is never claimed again.", runUpdateEnded},
		{"run-update/sends", "What an update's change sends and starts leaves with it, and is admitted however full the queue is.", runUpdateSends},
		{"run-update/closure-value", "Records are written after the closures, which may set their values.", runUpdateClosureValue},
		{"run-update/closure-fails", "A closure that fails refuses the whole update; those beside it in the group are written.", runUpdateClosureFails},
		{"run-update/fails-at-commit", "An update whose closure wrote what the database refuses no sooner than as the transaction commits is refused whole; those beside it in the group are written.", runUpdateFailsAtCommit},
		{"run-update/limits", "An update beyond the port's limits, or of a malformed record, is refused and nothing of it is written.", runUpdateLimits},
		{"run-update/reasons", "Of long reasons, of records, of parked and of ended runs, MaxReason bytes are kept.", runUpdateReasons},
		{"run-update/many", "A group updates as many runs as it has changes, each by its own.", runUpdateMany},
	}
}

// sameRecords wants records as they were written.
func (s *scene) sameRecords(call string, got []*store.Record, want ...*store.Record) {
	s.Helper()
	if len(got) != len(want) {
		s.Errorf("%s: %d records, want %d", call, len(got), len(want))
		return
	}
	for i, w := range want {
		g := *got[i]
		if !g.StartedAt.Equal(w.StartedAt) || !g.Due.Equal(w.Due) || !bytes.Equal(g.Headers, w.Headers) || !bytes.Equal(g.Value, w.Value) {
			s.Errorf("%s: record %d started %s, due %s, headers %.40q, value %.40q, want %s, %s, %.40q, %.40q",
				call, w.N, g.StartedAt, g.Due, g.Headers, g.Value, w.StartedAt, w.Due, w.Headers, w.Value)
		}
		a := []any{g.N, g.Kind, g.State, g.Name, g.Attempt, g.Took, g.Pos, g.Reason}
		b := []any{w.N, w.Kind, w.State, w.Name, w.Attempt, w.Took, w.Pos, w.Reason}
		if fmt.Sprint(a) != fmt.Sprint(b) {
			s.Errorf("%s: record = %v, want %v", call, a, b)
		}
	}
}

// records is a story's records as a claim gives them.
func records(r store.RunStory) []*store.Record {
	var all []*store.Record
	for i := range r.Records {
		all = append(all, &r.Records[i])
	}
	return all
}

func runUpdateRecords(s *scene) {
	a := s.leased("a")
	now := s.clock.Now()
	full := &store.Record{
		N: 2, Kind: store.KindOnce, State: store.StepIntent, Name: "charge[ключ '%] #2", Attempt: 3, StartedAt: now.Add(-time.Hour),
		Took: 1500 * time.Microsecond, Due: now.Add(time.Hour), Pos: 1<<41 + 7, Headers: []byte(`{"a":"b"}`),
		Value: []byte("a\x00b\xff"), Reason: "no stock: need 5, have 2",
	}
	bare := &store.Record{N: 1, Kind: store.KindNote, State: store.StepDone, Name: ""}
	far := &store.Record{N: store.MaxRecords, Kind: store.KindWaitFor, State: store.StepParked, Name: "far", Value: bytes.Repeat([]byte("x"), 1<<20)}
	s.update(&store.RunUpdate{RunRef: a, Records: []*store.Record{far, full}})
	s.update(&store.RunUpdate{RunRef: a, Records: []*store.Record{bare}})
	s.sameRecords("Story(a)", records(s.run("a")), bare, full, far)
	again := &store.Record{N: 2, Kind: store.KindOnce, State: store.StepDone, Name: "charge", Attempt: 4, StartedAt: now, Value: []byte("paid")}
	u := sleeping(a, now)
	u.Records = []*store.Record{again}
	s.update(u)
	s.sameRecords("Story(a)", records(s.run("a")), bare, again, far)
	b := s.leased("b")
	s.update(&store.RunUpdate{RunRef: b, Records: []*store.Record{step(2, "other", store.StepDone)}})
	got := s.claimRun("a")
	s.sameRecords("Claim(a)", got.Records, bare, again, far)
	s.restart()
	s.sameRecords("Claim(a) by another process", s.find(s.claimRuns(9, "a b"), "a").Records, bare, again, far)
}

func runUpdateAttempts(s *scene) {
	a := s.leased("a")
	now := s.clock.Now()
	long := store.StepAttempt{N: 1, Attempt: 2, StartedAt: now, Reason: strings.Repeat("r", 3*store.MaxReason), Stack: strings.Repeat("s", 3*store.MaxStack)}
	s.update(&store.RunUpdate{RunRef: a, Attempts: []store.StepAttempt{{N: 2, Attempt: 1, StartedAt: now, Reason: "c"}, long}})
	u := sleeping(a, now)
	u.Attempts = []store.StepAttempt{{N: 1, Attempt: 1, StartedAt: now.Add(-time.Minute), Took: 5 * time.Millisecond, Reason: "timeout", Stack: "goroutine 1"}}
	s.update(u)
	s.update(ending(s.claimRun("a").RunRef, store.Completed))
	got := s.run("a").Attempts
	if len(got) != 3 || got[0].N != 1 || got[0].Attempt != 1 || got[1].N != 1 || got[1].Attempt != 2 || got[2].N != 2 {
		s.Fatalf("Story(a): attempts = %+.200v, want 1/1, 1/2, 2/1", got)
	}
	if f := got[0]; !f.StartedAt.Equal(now.Add(-time.Minute)) || f.Took != 5*time.Millisecond || f.Reason != "timeout" || f.Stack != "goroutine 1" {
		s.Errorf("Story(a): attempt = %+v, want it as it was", f)
	}
	if f := got[1]; len(f.Reason) > store.MaxReason || len(f.Reason) < store.MaxReason/2 || len(f.Stack) > store.MaxStack || len(f.Stack) < store.MaxStack/2 {
		s.Errorf("Story(a): a reason of %d and a stack of %d bytes, want at most %d and %d", len(f.Reason), len(f.Stack), store.MaxReason, store.MaxStack)
	}
}

func runUpdateGoesOn(s *scene) {
	a := s.leased("a")
	for range 3 {
		s.clock.move(time.Hour)
		s.unread(updates(a), false)
		s.claimRuns(9, "")
		if got := s.stands("a", store.RunRunning); got.Epoch != a.Epoch || got.Process != s.me.ID {
			s.Errorf("Story(a): epoch %d, process %d, want %d, %d", got.Epoch, got.Process, a.Epoch, s.me.ID)
		}
	}
}

func runUpdateParked(s *scene) {
	a := s.leased("a")
	u := parking(a, step(1, "pay", store.StepParked))
	u.Wake = s.clock.Now().Add(time.Minute)
	s.unread(u, false)
	for range 2 {
		s.clock.move(time.Hour)
		got := s.lookRuns(store.ClaimRequest{})
		if len(got.Runs) > 0 || got.More || !got.NextDue.IsZero() {
			s.Errorf("Claim() beside a parked run = %q, more %t, next due %s, want nothing", idsOf(got.Runs), got.More, got.NextDue)
		}
		if got := s.stands("a", store.RunParked); got.Reason != "out of retries" || got.Process != 0 {
			s.Errorf("Story(a): reason %q, process %d, want \"out of retries\", none", got.Reason, got.Process)
		}
		s.crash()
	}
	s.claimSuspects(9, "")
	s.operate(store.Act{Verb: store.RetryRun, Workflow: fulfil, ID: "a"})
	s.update(waiting(s.claimRun("a").RunRef))
	if got := s.run("a"); got.Reason == "out of retries" {
		s.Errorf("Story(a) after it was parked: reason %q, want that to be over", got.Reason)
	}
}

func runUpdateEnded(s *scene) {
	for i, o := range []store.Outcome{store.Completed, store.Failed, store.Cancelled} {
		id := "abc"[i : i+1]
		r := s.leased(id)
		end, err := s.store.Reader().Runs().End(s.ctx(), fulfil, id)
		if err != nil || end.Outcome != store.Running || end.No != r.No || end.ID != id || !end.EndedAt.IsZero() {
			s.Errorf("End(%s) of a leased run = %+v, %v, want that it runs", id, end, err)
		}
		s.clock.move(time.Minute)
		u := s.update(ending(r, o))
		at := s.clock.Now()
		s.clock.move(time.Hour)
		end, err = s.store.Reader().Runs().End(s.ctx(), fulfil, id)
		if err != nil || end.No != r.No || end.ID != id || end.Outcome != o || !bytes.Equal(end.Result, u.Result) || end.Reason != u.Reason || !end.EndedAt.Equal(at) {
			s.Errorf("End(%s) = %+v, %v, want %s at %s, result %q, reason %q", id, end, err, o, at, u.Result, u.Reason)
		}
		got := s.stands(id, store.RunState(o.String()))
		if !got.EndedAt.Equal(at) || !bytes.Equal(got.Result, u.Result) || got.Reason != u.Reason || got.Process != 0 || !got.Wake.IsZero() {
			s.Errorf("Story(%s) = %+v, want how it ended", id, got.RunRow)
		}
	}
	for _, leave := range []func(){func() {}, s.restart, func() { s.crash() }} {
		leave()
		s.claimRuns(9, "")
		s.claimSuspects(9, "")
	}
	for _, bad := range []store.RunUpdate{{Verdict: store.Ended}, {Verdict: store.Ended, Outcome: 9}, {Verdict: 9}} {
		bad.RunRef = s.leased(fmt.Sprint("bad", bad.Verdict, bad.Outcome))
		if s.outcome(runs(&bad)) == nil {
			s.Errorf("Commit(verdict %d, outcome %d): Err = nil, want an error", bad.Verdict, bad.Outcome)
		}
	}
	s.ran(store.RunEnded, "c b a")
}

func runUpdateSends(s *scene) {
	s.declare(store.Queue{Name: cook, Capacity: 1})
	a := s.leased("a")
	c := runs(&store.RunUpdate{RunRef: a, Records: []*store.Record{step(1, "ask", store.StepPending)}})
	c.Sends, c.Runs = messages(cook, "1 2 3"), startings("b")
	c.Sends[0].Cause = s.store.Info().Incarnation.RunID(a.No)
	s.commit(c)
	for _, m := range c.Sends {
		if m.Pos == 0 || m.ID != s.store.Info().Incarnation.ID(m.Pos) {
			s.Errorf("Commit(update with sends): Pos = %d, ID %q, want them set", m.Pos, m.ID)
		}
	}
	s.holds(cook, 3, 0)
	b := s.claim(cook, 9, "1 2 3")
	equal(s, "Claim(): Cause", b.Deliveries[0].Message.Cause, c.Sends[0].Cause)
	s.claimRun("b")
	end := runs(ending(a, store.Completed))
	end.Sends = messages(cook, "4")
	s.commit(end)
	s.claim(cook, 9, "4")
}

func runUpdateClosureValue(s *scene) {
	a := s.leased("a")
	r := step(1, "pay", store.StepDone)
	c := runs(sleeping(a, s.clock.Now()))
	c.Run.Records = []*store.Record{r}
	c.Closures = []store.Closure{s.note("paid"), func(context.Context, store.Tx) error { r.Value = []byte("receipt 7"); return nil }}
	s.commit(c)
	s.notes("paid")
	if got := s.claimRun("a").Records; len(got) != 1 || string(got[0].Value) != "receipt 7" {
		s.Errorf("Claim(a) = %d records, want one with what the closure set", len(got))
	}
}

func runUpdateClosureFails(s *scene) { s.updatesFail(failing) }

func runUpdateFailsAtCommit(s *scene) {
	s.updatesFail(s.h.Owe)
	alone := runs(waiting(s.leased("alone")))
	alone.Run.Records = []*store.Record{step(1, "pay", store.StepDone)}
	alone.Closures = []store.Closure{s.note("alone"), s.h.Owe}
	if err := s.outcome(alone); err == nil || errors.Is(err, store.ErrUnavailable) {
		s.Errorf("Commit(an update that owes): Err = %v, want an error that is no outage", err)
	}
	if got := s.stands("alone", store.RunRunning); len(got.Records) > 0 {
		s.Errorf("Story(alone) after its closure owed: %d records, want none", len(got.Records))
	}
	alone.Closures = alone.Closures[:1]
	s.commit(alone)
	s.notes("r0 r2 r3 r5 r6 alone")
}

// updatesFail commits updates of which every third has a closure that fails.
func (s *scene) updatesFail(fails store.Closure) {
	s.Helper()
	var changes []*store.Change
	refs := map[string]store.RunRef{}
	for i := range 8 {
		id := fmt.Sprint("r", i)
		refs[id] = s.leased(id)
		c := runs(waiting(refs[id]))
		r := step(1, "pay", store.StepDone)
		c.Run.Records = []*store.Record{r}
		c.Closures = []store.Closure{s.note(id), func(context.Context, store.Tx) error { r.Value = []byte(id); return nil }}
		if i%3 == 1 {
			c.Closures = append(c.Closures, fails)
		}
		changes = append(changes, c)
	}
	s.group(&store.Group{Changes: changes})
	s.notes("r0 r2 r3 r5 r6")
	for i, c := range changes {
		id := fmt.Sprint("r", i)
		got := s.run(id)
		switch fails := i%3 == 1; {
		case fails != (c.Err != nil):
			s.Errorf("Commit(group): Changes[%d].Err = %v, want refused: %t", i, c.Err, fails)
		case fails && (got.State != store.RunRunning || len(got.Records) > 0):
			s.Errorf("Story(%s) after its closure failed: %q, %d records, want it running as before", id, got.State, len(got.Records))
		case fails:
			s.update(ending(refs[id], store.Failed))
		case got.State != store.RunWaiting || len(got.Records) != 1 || string(got.Records[0].Value) != id:
			s.Errorf("Story(%s): %q, %d records, want it waiting with one, whose value the closure set", id, got.State, len(got.Records))
		}
	}
}

func runUpdateLimits(s *scene) {
	a := s.leased("a")
	big := step(1, "big", store.StepDone)
	big.Value = make([]byte, 1<<20+1)
	var waits, spare []store.Wait
	for i := range store.MaxWaits {
		waits, spare = append(waits, awaits(i+1, "k")), append(spare, awaits(store.MaxWaits+1+i, "k"))
	}
	var locks []store.LockAct
	for i := range store.MaxLocks + 1 {
		locks = append(locks, acquires(1, fmt.Sprint("lock", i)))
	}
	refused := func(what string, spoil func(c *store.Change)) {
		s.Helper()
		c := runs(waiting(a))
		spoil(c)
		c.Sends, c.Runs = messages(cook, "1"), startings("stowaway")
		c.Run.Records = append(c.Run.Records, step(3, "beside", store.StepDone))
		if s.outcome(c) == nil {
			s.Errorf("Commit(update with %s): Err = nil, want an error", what)
		}
	}
	refused("record 0", func(c *store.Change) { c.Run.Records = []*store.Record{step(0, "zero", store.StepDone)} })
	refused("record -1", func(c *store.Change) { c.Run.Records = []*store.Record{step(-1, "less", store.StepDone)} })
	refused("a record too many", func(c *store.Change) {
		c.Run.Records = []*store.Record{step(store.MaxRecords+1, "more", store.StepDone)}
	})
	refused("a large value", func(c *store.Change) { c.Run.Records = []*store.Record{big} })
	refused("a wait too many", func(c *store.Change) { c.Run.Waits = append(waits, spare[0]) })
	refused("a wait of record 0", func(c *store.Change) { c.Run.Waits = []store.Wait{awaits(0, "k")} })
	refused("a wait of no record", func(c *store.Change) { c.Run.Waits = []store.Wait{awaits(store.MaxRecords+1, "k")} })
	refused("an act on locks too many", func(c *store.Change) { c.Run.Locks = locks })
	refused("a reply to nothing", func(c *store.Change) {
		c.Run.Waits = []store.Wait{{N: 1, Topic: store.Topic{Name: cook + ".reply", Kind: store.KindReply}, Reply: 2}}
	})
	s.unladenRun("a")
	s.stands("a", store.RunRunning)
	s.update(&store.RunUpdate{RunRef: a, Waits: waits, Locks: locks[1:]})
	refused("one more wait", func(c *store.Change) { c.Run.Waits = spare[:1] })
	s.update(&store.RunUpdate{RunRef: a, Waits: waits[:1]}) // replaces one
	u := updates(a)
	u.Unwait, u.Waits = []int{5, 7}, spare[:2]
	s.update(u)
	if got := s.run("a"); len(got.Waits) != store.MaxWaits || len(got.Locks) != store.MaxLocks {
		s.Errorf("Story(a): %d waits, %d locks, want %d, %d", len(got.Waits), len(got.Locks), store.MaxWaits, store.MaxLocks)
	}
}

func runUpdateReasons(s *scene) {
	long := strings.Repeat("r", 3*store.MaxReason)
	kept := func(what, got string) {
		s.Helper()
		if len(got) > store.MaxReason || len(got) < store.MaxReason/2 {
			s.Errorf("%s: %d bytes, want at most %d of %d", what, len(got), store.MaxReason, len(long))
		}
	}
	a, b := s.leased("a"), s.leased("b")
	u := parking(a, &store.Record{N: 1, Kind: store.KindUntil, Name: "stock", Reason: long})
	u.Reason = long
	s.update(u)
	got := s.run("a")
	kept("Story(a): reason", got.Reason)
	kept("Story(a): the record's reason", got.Records[0].Reason)
	u = ending(b, store.Failed)
	u.Reason = long
	s.update(u)
	end, err := s.store.Reader().Runs().End(s.ctx(), fulfil, "b")
	if err != nil {
		s.Fatalf("End(b) = %v, want nil", err)
	}
	kept("End(b): reason", end.Reason)
}

func runUpdateMany(s *scene) {
	var changes []*store.Change
	for i := range 40 {
		u := sleeping(s.leased(fmt.Sprint("r", i)), s.clock.Now().Add(time.Hour))
		u.Records = []*store.Record{{N: 1, Kind: store.KindStep, State: store.StepDone, Name: "pay", Value: fmt.Append(nil, i)}}
		changes = append(changes, runs(u))
	}
	s.commit(changes...)
	s.claimRuns(9, "")
	s.clock.move(time.Hour)
	got := s.lookRuns(store.ClaimRequest{})
	if len(got.Runs) != 40 {
		s.Fatalf("Claim() = %d runs, want 40", len(got.Runs))
	}
	for _, r := range got.Runs {
		if len(r.Records) != 1 || r.ID != "r"+string(r.Records[0].Value) {
			s.Errorf("Claim(): %s has records %+v, want its own", r.ID, r.Records)
		}
	}
}
