package storetest

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func runOperateLaws() []Law {
	return []Law{
		{"run-operate/cancel", "A cancellation is mail with who and why; it wakes a run that waits or is parked, and reaches one that is leased.", runOperateCancel},
		{"run-operate/decide", "A person's decision about a parked run is mail with all that was said, and makes it ready.", runOperateDecide},
		{"run-operate/step", "A decision may be about a step that needs a person while its run waits, or works; settle and skip also about a step that waits.", runOperateStep},
		{"run-operate/conflict", "A decision about a run, or a step, that needs none, and any about an ended run, is refused with ErrConflict.", runOperateConflict},
		{"run-operate/which-step", "Without a name the decision is about the one step that needs a person; where several do it is refused.", runOperateWhichStep},
		{"run-operate/not-found", "An act on a run that is not there is refused with ErrNotFound; without a workflow, on an ID that several have, it is refused too.", runOperateNotFound},
		{"run-operate/audit", "Each act on a run leaves a row, in the transaction of its mail; one without a person or a reason is refused.", runOperateAudit},
	}
}

// decide carries out an act on a run of fulfil.
func (s *scene) decide(verb store.Verb, id string) {
	s.Helper()
	if got := s.operate(store.Act{Verb: verb, Workflow: fulfil, ID: id}); got.Count != 1 {
		s.Errorf("Operate(%s %s) = %+v, want 1", verb, id, got)
	}
}

// undecided wants an act on a run of fulfil to be refused.
func (s *scene) undecided(a store.Act, want error) {
	s.Helper()
	if a.Workflow == "" {
		a.Workflow = fulfil
	}
	before := ""
	if r, err := s.store.Reader().Runs().Story(s.ctx(), fulfil, a.ID); err == nil {
		before = letters(r.Mail)
	}
	s.unacted(by(a), want)
	if r, err := s.store.Reader().Runs().Story(s.ctx(), fulfil, a.ID); err == nil && letters(r.Mail) != before {
		s.Errorf("Story(%s) after a refused %s: mail %q, want %q", a.ID, a.Verb, letters(r.Mail), before)
	}
}

func runOperateCancel(s *scene) {
	delayed := starting("delayed")
	delayed.At = s.clock.Now().Add(time.Hour)
	s.commit(begins(delayed), begins(starting("fresh")))
	s.update(waiting(s.leased("waits"), awaits(1, "k")))
	s.update(sleeping(s.leased("sleeps"), s.clock.Now().Add(time.Hour)))
	s.update(parking(s.leased("parked")))
	s.leased("works")
	s.clock.move(time.Second)
	for _, id := range []string{"delayed", "fresh", "waits", "sleeps", "parked", "works"} {
		s.decide(store.CancelRun, id)
	}
	got := s.lookRuns(store.ClaimRequest{})
	if letters(got.Mail) != "cancel" || len(got.Runs) != 5 {
		s.Errorf("Claim() after six were cancelled = %q, mail %q, want five, and one letter for the leased", idsOf(got.Runs), letters(got.Mail))
	}
	for _, r := range got.Runs {
		s.mailed(r, "cancel")
		if m := r.Mail[0]; m.By != "ada" || m.Why != "because" || m.Run != r.No || !m.At.Equal(s.clock.Now()) {
			s.Errorf("Claim(%s): mail %+v, want by ada because, now", r.ID, m)
		}
		s.update(ending(r.RunRef, store.Cancelled))
		s.undecided(store.Act{Verb: store.CancelRun, ID: r.ID}, store.ErrConflict)
	}
	s.update(ending(s.run2ref("works"), store.Completed)) // it had done its work
	s.stands("works", "completed")
	s.well()
}

func runOperateDecide(s *scene) {
	for _, a := range []store.Act{
		{Verb: store.RetryRun}, {Verb: store.SkipRun}, {Verb: store.AbandonRun},
		{Verb: store.SettleRun, Body: []byte("receipt\x00 7")}, {Verb: store.SettleRun, Failed: true},
	} {
		for _, step1 := range []string{"pay", ""} {
			id := strings.ReplaceAll(string(a.Verb), " ", "-")
			if a.Failed {
				id += "-failed"
			}
			id += step1
			s.update(parking(s.leased(id), step(1, "reserve", store.StepDone), step(2, "pay", store.StepParked)))
			s.claimRuns(9, "")
			s.clock.move(time.Second)
			a.Workflow, a.ID, a.Step = fulfil, id, step1
			if got := s.operate(a); got.Count != 1 || got.More {
				s.Errorf("Operate(%s %s) = %+v, want 1", a.Verb, id, got)
			}
			s.stands(id, store.RunReady)
			run := s.claimRun(id)
			s.mailed(run, strings.TrimPrefix(string(a.Verb), "run ")+" pay")
			m := run.Mail[0]
			if m.By != "ada" || m.Why != "because" || m.Failed != a.Failed || string(m.Value) != string(a.Body) || m.Message != nil || m.Child != nil || !m.At.Equal(s.clock.Now()) {
				s.Errorf("Claim(%s): mail %+v, want what was said", id, m)
			}
			s.update(ending(run.RunRef, store.Completed))
		}
	}
	s.well()
}

func runOperateStep(s *scene) {
	a, b := s.leased("a"), s.leased("b")
	u := waiting(a, awaits(1, "k"))
	u.Records = []*store.Record{step(1, "wait", store.StepPending), step(2, "pay", store.StepParked)}
	s.update(u)
	s.update(&store.RunUpdate{RunRef: b, Records: []*store.Record{step(1, "pay[7]", store.StepParked)}})
	s.stands("a", store.RunWaiting)
	s.operate(store.Act{Verb: store.SettleRun, ID: "a", Step: "pay", Body: []byte("paid")})
	s.operate(store.Act{Verb: store.SkipRun, ID: "b", Step: "pay[7]"})
	got := s.lookRuns(store.ClaimRequest{})
	if idsOf(got.Runs) != "a" || letters(got.Mail) != "skip pay[7]" {
		s.Fatalf("Claim() = %q, mail %q, want a, and \"skip pay[7]\" for b", idsOf(got.Runs), letters(got.Mail))
	}
	s.mailed(got.Runs[0], "settle pay")
	for i, kind := range []store.StepKind{store.KindAsk, store.KindWaitFor, store.KindSleep} {
		id := string(rune('c' + i))
		u := waiting(s.leased(id), awaits(1, "k"))
		u.Records = []*store.Record{step(1, "rest", store.StepPending)}
		u.Records[0].Kind = kind
		s.update(u)
		s.undecided(store.Act{Verb: store.RetryRun, ID: id, Step: "rest"}, store.ErrConflict)
		s.undecided(store.Act{Verb: store.SkipRun, ID: id}, store.ErrConflict)
		s.operate(store.Act{Verb: store.SkipRun, ID: id, Step: "rest"})
		s.mailed(s.claimRun(id), "skip rest")
	}
}

func runOperateConflict(s *scene) {
	verbs := []store.Verb{store.RetryRun, store.SettleRun, store.SkipRun, store.AbandonRun}
	s.startRuns("fresh")
	s.update(&store.RunUpdate{RunRef: s.leased("works"), Records: []*store.Record{step(1, "pay", store.StepPending)}})
	s.update(waiting(s.leased("waits"), awaits(1, "k")))
	s.update(ending(s.leased("done"), store.Completed))
	failed := ending(s.leased("failed"), store.Failed)
	failed.Records = []*store.Record{step(1, "pay", store.StepParked)}
	s.update(failed)
	for _, verb := range verbs {
		for _, id := range []string{"fresh", "works", "waits", "done", "failed"} {
			s.undecided(store.Act{Verb: verb, ID: id}, store.ErrConflict)
		}
		s.undecided(store.Act{Verb: verb, ID: "works", Step: "pay"}, store.ErrConflict)
		s.undecided(store.Act{Verb: verb, ID: "failed", Step: "pay"}, store.ErrConflict)
	}
	s.undecided(store.Act{Verb: store.CancelRun, ID: "done"}, store.ErrConflict)
	u := waiting(s.leased("half"))
	u.Records = []*store.Record{step(1, "pay", store.StepPending), step(2, "mail", store.StepParked)}
	s.update(u)
	for _, verb := range verbs {
		s.undecided(store.Act{Verb: verb, ID: "half", Step: "pay"}, store.ErrConflict)
		s.undecided(store.Act{Verb: verb, ID: "half", Step: "never"}, nil)
	}
	s.claimRuns(9, "fresh")
	s.well()
}

func runOperateWhichStep(s *scene) {
	u := waiting(s.leased("one"))
	u.Records = []*store.Record{step(1, "reserve", store.StepDone), step(2, "pay", store.StepParked), step(3, "mail", store.StepPending)}
	s.update(u)
	u = waiting(s.leased("two"))
	u.Records = []*store.Record{step(1, "pay", store.StepParked), step(2, "mail", store.StepParked)}
	s.update(u)
	s.update(parking(s.leased("none"), step(1, "pay", store.StepDone)))
	s.undecided(store.Act{Verb: store.RetryRun, ID: "two"}, store.ErrConflict)
	s.operate(store.Act{Verb: store.RetryRun, ID: "two", Step: "mail"})
	s.mailed(s.claimRun("two"), "retry mail")
	s.decide(store.RetryRun, "one")
	s.mailed(s.claimRun("one"), "retry pay")
	s.decide(store.AbandonRun, "none")
	s.mailed(s.claimRun("none"), "abandon")
}

func runOperateNotFound(s *scene) {
	s.startRuns("a both")
	other := starting("both")
	other.Workflow = refund
	s.commit(begins(other))
	for _, verb := range []store.Verb{store.CancelRun, store.RetryRun, store.SettleRun, store.SkipRun, store.AbandonRun} {
		s.undecided(store.Act{Verb: verb, ID: "nobody"}, store.ErrNotFound)
		s.undecided(store.Act{Verb: verb, ID: "a", Workflow: refund}, store.ErrNotFound)
		s.unacted(by(store.Act{Verb: verb, ID: "nobody"}), store.ErrNotFound)
		s.unacted(by(store.Act{Verb: verb}), nil)
		if _, err := s.store.Operate(s.ctx(), by(store.Act{Verb: verb, ID: "both"})); !ambiguous(err, fulfil, refund) {
			s.Errorf("Operate(%s both, of any workflow) = %v, want an AmbiguousError of two", verb, err)
		}
	}
	s.operate(store.Act{Verb: store.CancelRun, ID: "a"})
	s.operate(store.Act{Verb: store.CancelRun, Workflow: refund, ID: "both"})
	for _, r := range s.claimRuns(9, "a both") {
		s.mailed(r, map[string]string{"a": "cancel", "both": ""}[r.ID])
	}
}

// ambiguous reports whether err says that just these workflows have the ID.
func ambiguous(err error, workflows ...string) bool {
	e, ok := errors.AsType[*store.AmbiguousError](err)
	if !ok || len(e.Workflows) != len(workflows) {
		return false
	}
	for _, w := range workflows {
		if !strings.Contains(strings.Join(e.Workflows, " "), w) {
			return false
		}
	}
	return true
}

func runOperateAudit(s *scene) {
	s.update(parking(s.leased("a"), step(1, "pay", store.StepParked)))
	for _, verb := range []store.Verb{store.CancelRun, store.RetryRun, store.BreakLock} {
		a := store.Act{Verb: verb, Workflow: fulfil, ID: "a", Lock: "till", Why: "because"}
		s.unacted(a, nil)
		a.By, a.Why = "ada", ""
		s.unacted(a, nil)
	}
	equal(s, "Story(a): mail", letters(s.run("a").Mail), "")
	for i, a := range []store.Act{{Verb: store.SettleRun, ID: "a", Step: "pay", Body: []byte(`{"paid":7}`)}, {Verb: store.CancelRun, ID: "a"}} {
		s.clock.move(time.Second)
		s.operate(a)
		rows := s.audit()
		if len(rows) != i+1 {
			s.Fatalf("Audit() after %d acts = %d rows", i+1, len(rows))
		}
		r := rows[0]
		if !r.At.Equal(s.clock.Now()) || r.By != "ada" || r.Why != "because" || r.Verb != string(a.Verb) || !strings.Contains(r.Target, fulfil) || !strings.Contains(r.Target, "a") {
			s.Errorf("Audit() after %s = %+v, want ada's, of a of %s, now", a.Verb, r, fulfil)
		}
		if !json.Valid([]byte(r.Before)) || !json.Valid([]byte(r.After)) || r.Before == r.After {
			s.Errorf("Audit() after %s: before %q, after %q, want two different JSON texts", a.Verb, r.Before, r.After)
		}
	}
	s.mailed(s.claimRun("a"), "settle pay, cancel")
}
