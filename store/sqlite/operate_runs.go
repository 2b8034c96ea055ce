package sqlite

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
)

// mailOf is the mail that each act on a run becomes.
func mailOf(v store.Verb) store.MailKind {
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

// ofRuns reports whether a verb is of a run or of a lock.
func ofRuns(v store.Verb) bool { return v == store.BreakLock || mailOf(v) != 0 }

func checkRunAct(a store.Act) (faults []error) {
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
	if err := tooLong("value", a.Body); err != nil {
		faults = append(faults, err)
	}
	return faults
}

// runAudit is what the audit keeps of a run.
type runAudit struct {
	State  store.RunState `json:"state"`
	Reason string         `json:"reason,omitempty"`
	Step   string         `json:"step,omitempty"`
	Failed bool           `json:"failed,omitempty"`
	Value  *contentAudit  `json:"value,omitempty"`
	Mail   int64          `json:"mail,omitempty"`
}

// decide makes mail of a person's decision about a run.
func (o operation) decide() (store.Acted, error) {
	no, err := findRun(o.c, o.act.Workflow, o.act.ID)
	if err != nil {
		return store.Acted{}, err
	}
	flow, err := readWorkflows(o.c)
	if err != nil {
		return store.Acted{}, err
	}
	var run store.RunRow
	err = o.c.query(runRowAt, []any{no}, func(st *sqlite.Stmt) error {
		run = runRow(st, flow, us(o.now))
		return nil
	})
	if err != nil {
		return store.Acted{}, err
	}
	step, err := o.decidable(&run)
	if err != nil {
		return store.Acted{}, err
	}
	b := newRunbook(newAppender(o.c, o.s.info.Incarnation, o.now), 0, nil)
	p := parcel{run: no, kind: mailOf(o.act.Verb), step: step, value: o.act.Body, failed: o.act.Failed, by: o.act.By, why: o.act.Why}
	if err := b.deliver(p); err != nil {
		return store.Acted{}, err
	}
	if err := b.closeBook(); err != nil {
		return store.Acted{}, err
	}
	before := runAudit{State: run.State, Reason: run.Reason}
	after := runAudit{State: run.State, Step: step, Failed: o.act.Failed, Value: auditContent(o.act.Body), Mail: b.mails.value}
	if run.State == store.RunWaiting || run.State == store.RunParked {
		after.State = store.RunReady
	}
	return store.Acted{Count: 1}, o.audit("run "+run.ID+" of "+run.Workflow, before, after)
}

// decidable refuses an act that the run's state does not allow, and says which step it is for.
func (o operation) decidable(run *store.RunRow) (step string, err error) {
	if !run.EndedAt.IsZero() {
		return "", fmt.Errorf("%w: run %s of %s is %s since %s: nothing can be done to it any more",
			store.ErrConflict, run.ID, run.Workflow, run.State, run.EndedAt.Format(time.RFC3339))
	}
	if o.act.Verb == store.CancelRun {
		return o.act.Step, nil
	}
	steps, err := loadSteps(o.c, int64(run.No))
	if err != nil {
		return "", err
	}
	var parked []string
	for _, r := range steps {
		if r.State == store.StepParked {
			parked = append(parked, r.Name)
		}
	}
	switch {
	case o.act.Step == "" && len(parked) == 1:
		return parked[0], nil
	case o.act.Step == "" && len(parked) > 1:
		return "", fmt.Errorf("%w: %d steps of run %s of %s need a person: say which of %q",
			store.ErrConflict, len(parked), run.ID, run.Workflow, parked)
	case o.act.Step == "" && run.State == store.RunParked:
		return "", nil
	case o.act.Step != "" && slices.Contains(parked, o.act.Step):
		return o.act.Step, nil
	case o.act.Step != "" && run.State == store.RunParked && len(parked) == 0 && named(steps, o.act.Step):
		return o.act.Step, nil
	}
	what := fmt.Sprintf("run %s of %s is %s and needs no person", run.ID, run.Workflow, run.State)
	if o.act.Step != "" {
		what = fmt.Sprintf("step %s of run %s of %s needs no person", o.act.Step, run.ID, run.Workflow)
	}
	return "", fmt.Errorf("%w: %s: weir run show %s tells its state; only weir run cancel is for every run", store.ErrConflict, what, run.ID)
}

// lockAudit is what the audit keeps of a lock.
type lockAudit struct {
	Holder string `json:"holder,omitempty"`
	Fence  int64  `json:"fence,omitempty"`
	Line   int    `json:"line"`
}

// breakLock takes a lock from its holder and gives it to the next in line.
func (o operation) breakLock() (store.Acted, error) {
	t := &runTeller{c: o.c, s: o.s}
	before, err := t.lockAudit(o.act.Lock)
	if err != nil {
		return store.Acted{}, err
	}
	if before.Fence == 0 {
		return store.Acted{}, fmt.Errorf("%w: nobody holds a lock named %q: weir lock ls lists those that are held", store.ErrNotFound, o.act.Lock)
	}
	b := newRunbook(newAppender(o.c, o.s.info.Incarnation, o.now), 0, nil)
	if err := b.passOn(o.act.Lock); err != nil {
		return store.Acted{}, err
	}
	if err := b.closeBook(); err != nil {
		return store.Acted{}, err
	}
	after, err := t.lockAudit(o.act.Lock)
	if err != nil {
		return store.Acted{}, err
	}
	return store.Acted{Count: 1}, o.audit("lock "+o.act.Lock, before, after)
}

func (t *runTeller) lockAudit(name string) (lockAudit, error) {
	rows, err := t.lockRows(lockNamed, name)
	if err != nil || len(rows) == 0 {
		return lockAudit{}, err
	}
	return lockAudit{rows[0].HolderID, rows[0].Fence, len(rows[0].Waiters)}, nil
}

// named reports whether a run has a record of a name.
func named(steps []*store.Record, name string) bool {
	return slices.ContainsFunc(steps, func(r *store.Record) bool { return r.Name == name })
}
