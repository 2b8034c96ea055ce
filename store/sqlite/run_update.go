package sqlite

import (
	"fmt"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/checks"
	"github.com/weir-go/weir/store/internal/runwake"
)

// fenceRun refuses an update whose run this process does not hold under its epoch,
// and what no state of the store would make right.
func (t *commit) fenceRun(ch *store.Change) (refused, err error) {
	u := ch.Run
	if u == nil {
		return nil, nil
	}
	if t.ours == nil {
		return store.ErrFenced, nil
	}
	l := t.ours.leases[int64(u.No)]
	if l == nil || l.over || l.epoch != u.Epoch {
		return store.ErrFenced, nil
	}
	if refused := checks.Update(u); refused != nil {
		return fmt.Errorf("update run number %d: %w", u.No, refused), nil
	}
	if len(u.Waits) > 0 {
		refused, err = t.checkWaits(ch, l)
	}
	if refused != nil {
		refused = fmt.Errorf("update run number %d: %w", u.No, refused)
	}
	return refused, err
}

// admitRun takes an update for writing once nothing refuses its change any more. A
// later update in the group, of a run that this one releases, meets the fence.
func (t *commit) admitRun(ch *store.Change) {
	if ch.Run == nil {
		return
	}
	l := t.ours.leases[int64(ch.Run.No)]
	t.updates = append(t.updates, update{ch, l})
	if ch.Run.Verdict != store.Leased {
		t.save(l)
		l.over = true
	}
}

// update is a run's update that is admitted.
type update struct {
	change *store.Change
	l      *lease
}

const (
	insertStep = `insert or replace into weir_steps (id, kind, state, attempt, started_us, took_us, due_us, pos,
		name, headers, value, reason) values `
	stepValues   = `(?,?,?,?,?,?,?,?,?,?,?,?)`
	stepValues4  = stepValues + `,` + stepValues + `,` + stepValues + `,` + stepValues
	stepValues16 = stepValues4 + `,` + stepValues4 + `,` + stepValues4 + `,` + stepValues4

	insertStep1  = insertStep + stepValues
	insertStep4  = insertStep + stepValues4
	insertStep16 = insertStep + stepValues16

	stepColumnCount = 12

	sqlNewStepAttempt = `insert into weir_step_attempts (step, i, attempt, started_us, took_us, reason, stack)
		values (?1, (select coalesce(max(i), 0) + 1 from weir_step_attempts where step = ?1), ?2, ?3, ?4, ?5, ?6)`

	sqlReleaseRun = `update weir_runs set wake = ?2, crashes = ?3, reason = ?4 where no = ?1`
	sqlSoberRun   = `update weir_runs set crashes = 0 where no = ?1`
	sqlEndRun     = `update weir_runs set wake = null, ended_us = ?2, outcome = ?3, result = ?4, reason = ?5 where no = ?1`
)

// writeUpdates comes after the closures: they may have set the values of records.
func (t *commit) writeUpdates() error {
	if len(t.updates) == 0 {
		return nil
	}
	if err := t.collect(); err != nil {
		return err
	}
	for _, u := range t.updates {
		for _, r := range u.change.Run.Records {
			if err := checks.TooLong("value", r.Value); err != nil {
				return &closureError{u.change, fmt.Errorf("update run number %d: record %d: %w", u.l.no, r.N, err)}
			}
			t.steps = append(t.steps, stepRow{stepID(u.l.no, r.N), r})
		}
	}
	if err := t.c.insertSteps(t.steps); err != nil {
		return err
	}
	for _, u := range t.updates {
		if err := t.writeUpdate(u.change, u.l); err != nil {
			return err
		}
	}
	// Only now: a later update of the group may have sent mail to a run released by an earlier one.
	for _, u := range t.updates {
		u.change.Run.Unread = len(u.l.mail) > 0
	}
	return nil
}

// stepRow is a record with its place.
type stepRow struct {
	id int64
	*store.Record
}

func (c *conn) insertSteps(rows []stepRow) error {
	for len(rows) > 0 {
		text, n := insertStep1, 1
		switch {
		case len(rows) >= 16:
			text, n = insertStep16, 16
		case len(rows) >= 4:
			text, n = insertStep4, 4
		}
		st, err := c.prepare(text)
		if err != nil {
			return err
		}
		for i, r := range rows[:n] {
			p := i * stepColumnCount
			st.BindInt64(p+1, r.id)
			st.BindInt64(p+2, int64(r.Kind))
			st.BindInt64(p+3, int64(r.State))
			st.BindInt64(p+4, int64(r.Attempt))
			if !r.StartedAt.IsZero() {
				st.BindInt64(p+5, us(r.StartedAt))
			}
			if r.Took != 0 {
				st.BindInt64(p+6, r.Took.Microseconds())
			}
			if !r.Due.IsZero() {
				st.BindInt64(p+7, us(r.Due))
			}
			if r.Pos != 0 {
				st.BindInt64(p+8, int64(r.Pos))
			}
			st.BindText(p+9, r.Name)
			if r.Headers != nil {
				st.BindBytes(p+10, r.Headers)
			}
			if r.Value != nil {
				st.BindBytes(p+11, r.Value)
			}
			if r.Reason != "" {
				st.BindText(p+12, cut(r.Reason, store.MaxReason))
			}
		}
		if _, err := st.Step(); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// writeUpdate writes all of an update but its records.
func (t *commit) writeUpdate(ch *store.Change, l *lease) error {
	u := ch.Run
	for i := range u.Attempts {
		a := &u.Attempts[i]
		err := t.c.exec(sqlNewStepAttempt, stepID(l.no, a.N), a.Attempt, timeOrNull(a.StartedAt), a.Took.Microseconds(),
			textOrNull(cut(a.Reason, store.MaxReason)), textOrNull(cut(a.Stack, store.MaxStack)))
		if err != nil {
			return err
		}
	}
	for _, n := range u.Unwait {
		if err := t.unwait(l, n); err != nil {
			return err
		}
	}
	for i := range u.Waits {
		if err := t.wait(ch, l, &u.Waits[i]); err != nil {
			return err
		}
	}
	for i := range u.Locks {
		if err := t.act(l, &u.Locks[i]); err != nil {
			return err
		}
	}
	if err := t.read(l, u.Read); err != nil {
		return err
	}
	return t.release(u, l)
}

// release carries out the verdict.
func (t *commit) release(u *store.RunUpdate, l *lease) error {
	crashes := l.crashes
	if u.Sober {
		crashes = 0
	}
	reason := textOrNull(cut(u.Reason, store.MaxReason))
	switch u.Verdict {
	case store.Leased:
		if crashes == l.crashes {
			return nil
		}
		t.save(l)
		l.crashes = 0
		return t.c.exec(sqlSoberRun, l.no)
	case store.Ended:
		return t.end(u, l)
	}
	wake := runwake.WaitingUntil(crashes, u.Wake)
	if u.Verdict == store.Parked {
		wake = runwake.Parked
	}
	for _, m := range l.mail {
		if runwake.WokenBy(wake, m.kind) {
			wake = runwake.ReadySince(crashes, t.now)
		}
	}
	if wake < runwake.UntilSuspect && wake <= t.now || wake >= runwake.Ready && wake < runwake.Leased {
		t.wake(l.workflow)
	}
	if u.Verdict != store.Parked {
		reason = nil
	}
	return t.c.exec(sqlReleaseRun, l.no, wake, crashes, reason)
}

// end ends a run: its parent is told, and all that it waited for or held is gone.
func (t *commit) end(u *store.RunUpdate, l *lease) error {
	var result any
	if len(u.Result) <= bodyMax {
		result = blobOrNull(u.Result)
	} else if err := t.c.exec(sqlNewBody, resultID(l.no), u.Result); err != nil {
		return err
	}
	reason := any(nil)
	if u.Outcome != store.Completed {
		reason, result = textOrNull(cut(u.Reason, store.MaxReason)), nil
	}
	if err := t.c.exec(sqlEndRun, l.no, t.now, int64(u.Outcome), result, reason); err != nil {
		return err
	}
	t.ended(l.workflow, u.Outcome)
	if len(l.mail) > 0 {
		if err := t.read(l, l.mail[len(l.mail)-1].no); err != nil {
			return err
		}
	}
	if l.ties {
		if err := t.cutTies(l); err != nil {
			return err
		}
	}
	if l.parent == 0 {
		return nil
	}
	return t.deliver(parcel{run: l.parent, kind: store.ChildEnded, n: l.parentStep, child: l.no})
}

// cutTies deletes the waits of a run that ends, and gives up its locks.
func (t *commit) cutTies(l *lease) error {
	if err := t.look(); err != nil {
		return err
	}
	if t.tables.waits {
		if err := t.c.exec(sqlNoWaits, l.no); err != nil {
			return err
		}
	}
	if t.tables.locks {
		return t.leaveLocks(l.no)
	}
	return nil
}
