// Package acts is what both adapters do alike about a person's acts: what they refuse, which step
// an act is for, and what the audit keeps. It decides and reads no table.
package acts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/checks"
)

// Check refuses what no state of the store would make right.
func Check(a store.Act) error {
	var faults []error
	if strings.TrimSpace(a.By) == "" {
		faults = append(faults, errors.New("who acts (By) is required: the audit keeps it"))
	}
	if strings.TrimSpace(a.Why) == "" {
		faults = append(faults, errors.New("the reason (Why) is required: the audit keeps it"))
	}
	faults = append(faults, long("who acts (By)", a.By, byMax), long("the reason (Why)", a.Why, store.MaxReason), long("what to match (Matching)", a.Matching, store.MaxReason))
	if OfRuns(a.Verb) {
		return errors.Join(append(faults, checkRun(a)...)...)
	}
	switch a.Verb {
	case store.PauseQueue, store.ResumeQueue:
		if a.Queue == "" {
			faults = append(faults, errors.New("which queue (Queue) is required"))
		}
	case store.RetryDead, store.DiscardDead, store.RenewStore:
	case store.ForgetLane, store.ResyncReplica:
		faults = append(faults, checkExchange(a)...)
	default:
		faults = append(faults, fmt.Errorf("verb %q is none of pause, resume, retry, discard and renew, of run cancel, retry, settle, skip and abandon, lock break, lane forget and replica resync", a.Verb))
	}
	if (a.Body != nil || a.Headers != nil) && (a.Verb != store.RetryDead || a.ID == "") {
		faults = append(faults, errors.New("a body or headers are replaced only when one message, by ID, is retried"))
	}
	return errors.Join(faults...)
}

// byMax bounds a name, in bytes.
const byMax = 512

// long refuses a text that the audit would have to keep in full.
func long(what, text string, most int) error {
	if len(text) > most {
		return fmt.Errorf("%s has %d bytes, at most %d", what, len(text), most)
	}
	return nil
}

func checkExchange(a store.Act) (faults []error) {
	switch {
	case a.DryRun:
		faults = append(faults, errors.New("a dry run is only for dead letters and queues"))
	case a.Verb == store.ForgetLane && a.Lane == "":
		faults = append(faults, errors.New("which lane (Lane) is required"))
	case a.Verb == store.ResyncReplica && (a.ID == "" || a.State == nil || a.State.Of != nil):
		faults = append(faults, errors.New("which entity (ID), and the wish (State) with its version, are required"))
	case a.Verb == store.ResyncReplica:
		faults = append(faults, checks.States(&store.Change{States: []store.State{*a.State}}))
	}
	return faults
}

func checkRun(a store.Act) (faults []error) {
	switch {
	case a.Verb == store.BreakLock && a.Lock == "":
		faults = append(faults, errors.New("which lock (Lock) is required"))
	case a.Verb != store.BreakLock && a.ID == "":
		faults = append(faults, errors.New("which run (ID) is required"))
	}
	if a.DryRun {
		faults = append(faults, errors.New("a dry run is only for dead letters and queues"))
	}
	if a.Body != nil && a.Verb != store.SettleRun || a.Headers != nil {
		faults = append(faults, errors.New("only a step that is settled as done is given a value, and nothing headers"))
	}
	if a.Body != nil && a.Failed {
		faults = append(faults, errors.New("a step that is settled as failed has no value"))
	}
	if a.Failed && a.Verb != store.SettleRun {
		faults = append(faults, errors.New("only settle says that a step has failed"))
	}
	if err := checks.TooLong("value", a.Body); err != nil {
		faults = append(faults, err)
	}
	return faults
}

// MailOf is the mail that each act on a run becomes; 0 for other verbs.
func MailOf(v store.Verb) store.MailKind {
	switch v {
	case store.CancelRun:
		return store.CancelMail
	case store.RetryRun:
		return store.RetryMail
	case store.SettleRun:
		return store.SettleMail
	case store.SkipRun:
		return store.SkipMail
	case store.AbandonRun:
		return store.AbandonMail
	}
	return 0
}

// OfRuns reports whether a verb is of a run or of a lock.
func OfRuns(v store.Verb) bool { return v == store.BreakLock || MailOf(v) != 0 }

// waits reports whether a step does nothing but wait: a person may say what has come of it, for what is waited for may
// never come.
func waits(r *store.Record) bool {
	return r.State == store.StepPending && (r.Kind == store.KindAsk || r.Kind == store.KindWaitFor || r.Kind == store.KindSleep)
}

// StepOf refuses an act on a run that the run's state does not allow, and says which of its
// steps the act is for; steps are asked for only when that depends on them.
func StepOf(a store.Act, run *store.RunRow, steps func() ([]*store.Record, error)) (string, error) {
	if !run.EndedAt.IsZero() {
		return "", fmt.Errorf("%w: run %s of %s is %s since %s: nothing can be done to it any more",
			store.ErrConflict, run.ID, run.Workflow, run.State, run.EndedAt.Format(time.RFC3339))
	}
	if a.Verb == store.CancelRun {
		return a.Step, nil
	}
	list, err := steps()
	if err != nil {
		return "", err
	}
	var parked []string
	for _, r := range list {
		if r.State == store.StepParked {
			parked = append(parked, r.Name)
		}
	}
	named := func(r *store.Record) bool { return r.Name == a.Step }
	switch {
	case a.Step == "" && len(parked) == 1:
		return parked[0], nil
	case a.Step == "" && len(parked) > 1 && a.Verb == store.AbandonRun: // it is about the run
		return "", nil
	case a.Step == "" && len(parked) > 1:
		return "", fmt.Errorf("%w: %d steps of run %s of %s need a person: say which of %q",
			store.ErrConflict, len(parked), run.ID, run.Workflow, parked)
	case a.Step == "" && run.State == store.RunParked:
		return "", nil
	case a.Step != "" && slices.Contains(parked, a.Step):
		return a.Step, nil
	case a.Step != "" && run.State == store.RunParked && len(parked) == 0 && slices.ContainsFunc(list, named):
		return a.Step, nil
	case a.Verb == store.SettleRun || a.Verb == store.SkipRun:
		if slices.ContainsFunc(list, func(r *store.Record) bool { return named(r) && waits(r) }) {
			return a.Step, nil
		}
	}
	what := fmt.Sprintf("run %s of %s is %s and needs no person", run.ID, run.Workflow, run.State)
	if a.Step != "" {
		what = fmt.Sprintf("step %s of run %s of %s needs no person", a.Step, run.ID, run.Workflow)
	}
	return "", fmt.Errorf("%w: %s: weir run show %s tells its state; only weir run cancel is for every run", store.ErrConflict, what, run.ID)
}
