package sqlite

import (
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/acts"
)

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
	step, err := acts.StepOf(o.act, &run, func() ([]*store.Record, error) { return loadSteps(o.c, no) })
	if err != nil {
		return store.Acted{}, err
	}
	b := newRunbook(newAppender(o.c, o.s.lives(), o.now), 0, nil)
	p := parcel{run: no, kind: acts.MailOf(o.act.Verb), step: step, value: o.act.Body, failed: o.act.Failed, by: o.act.By, why: o.act.Why}
	if err := b.deliver(p); err != nil {
		return store.Acted{}, err
	}
	if err := b.closeBook(); err != nil {
		return store.Acted{}, err
	}
	return store.Acted{Count: 1}, o.audit(acts.Decided(o.act, &run, step, b.mails.value))
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
	b := newRunbook(newAppender(o.c, o.s.lives(), o.now), 0, nil)
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
	return store.Acted{Count: 1}, o.audit(acts.Entry{Target: "lock " + o.act.Lock, Before: before, After: after})
}

func (t *runTeller) lockAudit(name string) (acts.Lock, error) {
	rows, err := t.lockRows(lockNamed, name)
	return acts.LockOf(rows), err
}
