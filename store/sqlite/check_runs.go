package sqlite

import (
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/runwake"
)

// checkedRuns is how many runs of a kind Check looks at, and runFindings how many
// of them it names one by one.
const (
	checkedRuns = 10_000
	runFindings = 3
)

const (
	leftLeased = `select id, wake from weir_runs indexed by weir_runs_wake
		where workflow = ?1 and wake >= ?2 and wake < ?3 and wake <> ?4 limit ?5`

	// Nothing that is under way could bring these any mail.
	stuckRuns = `select r.id from (select no, id from weir_runs indexed by weir_runs_wake
			where workflow = ?1 and wake >= ?2 and wake < ?3 limit ?4) r
		where not exists (select 1 from weir_waits where run = r.no)
		and not exists (select 1 from weir_lock_line indexed by weir_lock_line_run where run = r.no)
		and not exists (select 1 from weir_runs c indexed by weir_runs_parent where c.parent = r.no and c.wake is not null)
		and not exists (select 1 from weir_steps where id between r.no << 20 and r.no << 20 | 1048575 and state = ?6)
		limit ?5`

	// The first of each are looked at: with few it is all of them.
	mailChecked = `select m.no, m.run, m.kind, r.wake, r.id, w.name from (select no, run, kind from weir_mail order by no limit ?1) m
		left join weir_runs r on r.no = m.run left join weir_workflows w on w.id = r.workflow`
	locksChecked = `select l.name, l.run from (select name, run from weir_locks limit ?1) l
		left join weir_runs r on r.no = l.run where r.wake is null limit ?2`
	linesChecked = `select l.name, l.run, k.name is null from (select name, run from weir_lock_line limit ?1) l
		left join weir_runs r on r.no = l.run left join weir_locks k on k.name = l.name
		where r.wake is null or k.name is null limit ?2`
	waitsChecked = `select w.run, w.n from (select run, n from weir_waits limit ?1) w
		left join weir_runs r on r.no = w.run where r.wake is null limit ?2`
	stepsBefore = `select id from weir_steps where id < (select coalesce(min(no), 1 << 42) << 20 from weir_runs) order by id limit 1`
	stepsAfter  = `select id from weir_steps where id >= (select coalesce(max(no), 0) + 1 << 20 from weir_runs) order by id desc limit 1`
)

const reportIt = "this is a bug in weir, please report it with the output of weir doctor and of weir run show"

// runs wants each unfinished run to have a wake reason, and nothing left of others.
func (k *checkup) runs() error {
	flow, err := readWorkflows(k.c)
	if err != nil {
		return err
	}
	for id, name := range flow {
		for _, check := range []func(int64, string) error{k.leasedRuns, k.stuckRuns} {
			if err := check(id, name); err != nil {
				return fmt.Errorf("workflow %s: %w", name, err)
			}
		}
	}
	for _, check := range []func() error{k.mail, k.locks, k.runless} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// leasedRuns finds runs that are leased to none that lives. Those of a silent
// process are told of with it.
func (k *checkup) leasedRuns(workflow int64, name string) error {
	newest := int64(0)
	err := k.c.query(newestProcess, nil, func(st *sqlite.Stmt) error {
		if st.ColumnIsNull(4) {
			newest = st.ColumnInt64(0)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return k.c.query(leftLeased, []any{workflow, runwake.Leased, runwake.Mail, runwake.LeasedBy(newest), runFindings}, func(st *sqlite.Stmt) error {
		k.found(fmt.Sprintf("run %s of %s is leased to process %d, which is gone", st.ColumnText(0), name, runwake.Since(st.ColumnInt64(1))),
			"the next start of the service takes it over: restart it; and please report this with the output of weir doctor")
		return nil
	})
}

func (k *checkup) stuckRuns(workflow int64, name string) error {
	return k.c.query(stuckRuns, []any{workflow, runwake.Mail, runwake.Parked, checkedRuns, runFindings, int64(store.StepParked)}, func(st *sqlite.Stmt) error {
		k.found(fmt.Sprintf("run %s of %s waits for mail that cannot come: it has no wait, no place in a lock's line, no child, and no step that needs a person", st.ColumnText(0), name),
			reportIt+"; weir run cancel "+st.ColumnText(0)+" ends it")
		return nil
	})
}

// mail finds mail that woke nobody.
func (k *checkup) mail() error {
	named := 0
	return k.c.query(mailChecked, []any{checkedRuns}, func(st *sqlite.Stmt) error {
		kind := store.MailKind(st.ColumnInt64(2))
		if !st.ColumnIsNull(3) && !runwake.WokenBy(st.ColumnInt64(3), kind) || named == runFindings {
			return nil
		}
		named++
		if st.ColumnIsNull(3) {
			k.found(fmt.Sprintf("mail %d is for run number %d, which has ended", st.ColumnInt64(0), st.ColumnInt64(1)), reportIt)
			return nil
		}
		k.found(fmt.Sprintf("run %s of %s has unread mail and waits all the same", st.ColumnText(4), st.ColumnText(5)), reportIt)
		return nil
	})
}

// locks finds locks, and places in their lines, that nobody would ever give up.
func (k *checkup) locks() error {
	err := k.c.query(locksChecked, []any{checkedRuns, runFindings}, func(st *sqlite.Stmt) error {
		k.found(fmt.Sprintf("lock %s is held by run number %d, which has ended", st.ColumnText(0), st.ColumnInt64(1)),
			"weir lock break "+st.ColumnText(0)+" gives it to the next in line; "+reportIt)
		return nil
	})
	if err != nil {
		return err
	}
	return k.c.query(linesChecked, []any{checkedRuns, runFindings}, func(st *sqlite.Stmt) error {
		what := "by a run that has ended"
		if st.ColumnBool(2) {
			what = "though nobody holds it"
		}
		k.found(fmt.Sprintf("lock %s is waited for %s (run number %d)", st.ColumnText(0), what, st.ColumnInt64(1)), reportIt)
		return nil
	})
}

// runless finds what is left of runs that are not there.
func (k *checkup) runless() error {
	err := k.c.query(waitsChecked, []any{checkedRuns, runFindings}, func(st *sqlite.Stmt) error {
		k.found(fmt.Sprintf("record %d of run number %d waits for a message, but the run has ended", st.ColumnInt64(1), st.ColumnInt64(0)), reportIt)
		return nil
	})
	for _, query := range [...]string{stepsBefore, stepsAfter} {
		if err != nil {
			return err
		}
		err = k.c.query(query, nil, func(st *sqlite.Stmt) error {
			id := st.ColumnInt64(0)
			k.found(fmt.Sprintf("record %d is of run number %d, which is not there", id&stepMask, id>>stepBits), reportIt)
			return nil
		})
	}
	return err
}
