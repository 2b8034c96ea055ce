package postgres

import (
	"fmt"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/acts"
	"github.com/weir-go/weir/store/internal/runwake"
)

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
	step, err := acts.StepOf(o.act, &run, func() (list []*store.Record, err error) {
		err = o.t.get(askRecords, func(read scan) error {
			r, err := seeRecord(read)
			list = append(list, &r)
			return err
		}, no)
		return list, err
	})
	if err != nil {
		return store.Acted{}, err
	}
	kind := acts.MailOf(o.act.Verb)
	mail, _, err := o.t.number(actMail, no, o.t.now, int(kind), 0, nil, textOrNull(step), o.act.Body, o.act.Failed, o.act.By, o.act.Why)
	if err != nil {
		return store.Acted{}, err
	}
	o.wakeBy(locked, kind)
	return store.Acted{Count: 1}, o.audit(acts.Decided(o.act, &run, step, mail))
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
	return store.Acted{Count: 1}, o.audit(acts.Entry{Target: "lock " + o.act.Lock, Before: before, After: after})
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

func (o operation) lockAudit() (acts.Lock, error) {
	rows, err := readLocks(o.t, askLocksNamed, []string{o.act.Lock})
	return acts.LockOf(rows), err
}
