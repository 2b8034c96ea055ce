package postgres

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/runwake"
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

// settledMax bounds the value that a step is settled with, in bytes.
const settledMax = 1 << 20

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
	if len(a.Body) > settledMax {
		faults = append(faults, fmt.Errorf("value has %d bytes, at most %d", len(a.Body), settledMax))
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

const (
	actLockRun = `select wake, crashes from weir.runs where no = $1 for update`
	actMail    = `insert into weir.mail (no, run, at_us, kind, n, fence, step, value, failed, who, why)
		values (nextval('weir.mail_no'), $1, $2, $3, $4, $5, $6, $7, $8, $9, $10) returning no`
	actWake = `update weir.runs set wake = $2 where no = $1`
)

// wakefulRun is a run's wake reason, its row locked.
type wakefulRun struct {
	no            int64
	wake, crashes int64
	ended         bool
}

func (o operation) lockRun(no int64) (wakefulRun, error) {
	r := wakefulRun{no: no, ended: true}
	return r, o.t.get(actLockRun, func(read scan) error {
		var wake *int64
		err := read(&wake, &r.crashes)
		r.wake, r.ended = deref(wake), wake == nil
		return err
	}, no)
}

// wakeBy queues the waking of a run that mail of a kind has come to.
func (o operation) wakeBy(r wakefulRun, kind store.MailKind) {
	if runwake.WokenBy(r.wake, kind) {
		o.t.do(actWake, r.no, runwake.ReadySince(r.crashes, o.t.now))
	}
}

// decide makes mail of a person's decision about a run.
func (o operation) decide() (store.Acted, error) {
	no, err := findRun(o.t, o.act.Workflow, o.act.ID)
	if err != nil {
		return store.Acted{}, err
	}
	flow, err := readFlow(o.t)
	if err != nil {
		return store.Acted{}, err
	}
	locked, err := o.lockRun(no)
	if err != nil {
		return store.Acted{}, err
	}
	var run store.RunRow
	err = o.t.get(askRunRows, func(read scan) (err error) {
		run, err = seeRun(read, flow, o.t.now)
		return err
	}, []int64{no})
	if err != nil {
		return store.Acted{}, err
	}
	step, err := o.decidable(&run)
	if err != nil {
		return store.Acted{}, err
	}
	kind := mailOf(o.act.Verb)
	mail, _, err := o.t.number(actMail, no, o.t.now, int(kind), 0, nil, textOrNull(step), o.act.Body, o.act.Failed, o.act.By, o.act.Why)
	if err != nil {
		return store.Acted{}, err
	}
	o.wakeBy(locked, kind)
	before := runAudit{State: run.State, Reason: run.Reason}
	after := runAudit{State: run.State, Step: step, Failed: o.act.Failed, Value: auditContent(o.act.Body), Mail: mail}
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
	var parked []string
	named := false
	err = o.t.get(askRecords, func(read scan) error {
		r, err := seeRecord(read)
		named = named || r.Name == o.act.Step
		if r.State == store.StepParked {
			parked = append(parked, r.Name)
		}
		return err
	}, int64(run.No))
	switch {
	case err != nil:
		return "", err
	case o.act.Step == "" && len(parked) == 1:
		return parked[0], nil
	case o.act.Step == "" && len(parked) > 1:
		return "", fmt.Errorf("%w: %d steps of run %s of %s need a person: say which of %q",
			store.ErrConflict, len(parked), run.ID, run.Workflow, parked)
	case o.act.Step == "" && run.State == store.RunParked:
		return "", nil
	case o.act.Step != "" && slices.Contains(parked, o.act.Step):
		return o.act.Step, nil
	case o.act.Step != "" && run.State == store.RunParked && len(parked) == 0 && named:
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

const (
	actLockLock  = `select run from weir.locks where name = $1 for update`
	actNextLine  = `select no, run, n from weir.lock_line where name = $1 order by no limit 1`
	actLeaveLine = `delete from weir.lock_line where name = $1 and no = $2`
	actFence     = `select nextval('weir.mail_no')`
	actPassLock  = `update weir.locks set run = $2, n = $3, fence = $4, since_us = $5 where name = $1`
	actDropLock  = `delete from weir.locks where name = $1`
)

// breakLock takes a lock from its holder and gives it to the next in line.
func (o operation) breakLock() (store.Acted, error) {
	o.t.do(actLockLock, o.act.Lock)
	before, err := o.lockAudit()
	if err != nil {
		return store.Acted{}, err
	}
	if before.Fence == 0 {
		return store.Acted{}, fmt.Errorf("%w: nobody holds a lock named %q: weir lock ls lists those that are held", store.ErrNotFound, o.act.Lock)
	}
	if err := o.passOn(); err != nil {
		return store.Acted{}, err
	}
	after, err := o.lockAudit()
	if err != nil {
		return store.Acted{}, err
	}
	return store.Acted{Count: 1}, o.audit("lock "+o.act.Lock, before, after)
}

// passOn gives the lock to the next in its line, who is told by mail; with nobody in line it is free.
func (o operation) passOn() error {
	var place, run, n int64
	err := o.t.get(actNextLine, func(read scan) error { return read(&place, &run, &n) }, o.act.Lock)
	if err != nil {
		return err
	}
	if place == 0 {
		o.t.do(actDropLock, o.act.Lock)
		return o.t.flush()
	}
	next, err := o.lockRun(run)
	if err != nil {
		return err
	}
	fence, _, err := o.t.number(actFence)
	if err != nil {
		return err
	}
	o.t.do(actLeaveLine, o.act.Lock, place)
	o.t.do(actPassLock, o.act.Lock, run, n, fence, o.t.now)
	o.t.do(actMail, run, o.t.now, int(store.Locked), n, fence, nil, nil, false, nil, nil)
	o.wakeBy(next, store.Locked)
	return o.t.flush()
}

func (o operation) lockAudit() (lockAudit, error) {
	rows, err := readLocks(o.t, askLocksNamed, []string{o.act.Lock})
	if err != nil || len(rows) == 0 {
		return lockAudit{}, err
	}
	return lockAudit{rows[0].HolderID, rows[0].Fence, len(rows[0].Waiters)}, nil
}
