package sqlite

import (
	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
)

const (
	runsTurn  = `select v from weir_meta where k = 'runs_turn'`
	putRuns   = `insert into weir_meta (k, v) values ('runs_turn', ?1) on conflict (k) do update set v = excluded.v`
	runsFront = `select no, started_us, workflow, ended_us, outcome, parent from weir_runs where no > ?1 order by no limit ?2`

	keepEnd = `update weir_mail indexed by weir_mail_run set (step, outcome, value, why, ended_us) =
			(select id, outcome, coalesce(result, (select body from weir_run_bodies where id = ?2 << 1 | 1)), reason, ended_us
			from weir_runs where no = ?2)
		where run = ?1 and child = ?2`

	// The attempts go first, while their steps still say which run they are of.
	deleteStepAttempts = `delete from weir_step_attempts where (step, i) in
		(select step, i from weir_step_attempts where step >= ?1 and step <= ?2 limit ?3)`
	deleteSteps     = `delete from weir_steps where id in (select id from weir_steps where id >= ?1 and id <= ?2 limit ?3)`
	deleteRunBodies = `delete from weir_run_bodies where id >= ?1 and id <= ?2 and ?3 > 0`
	deleteRun       = `delete from weir_runs where no = ?1`

	// runsLooked is how many runs a step looks at: those that have not ended, however
	// old, stay among those that go, so steps take turns through them.
	runsLooked = 1_000
)

// oldRun is a run that retention may delete.
type oldRun struct {
	no, workflow, parent int64
	outcome              store.Outcome
}

// runs deletes those that ended longer ago than is kept, with all that is theirs.
func (p *pruner) runs() error {
	if p.left <= 0 {
		p.pruned.More = true
		return nil
	}
	turn, _, err := p.c.number(runsTurn)
	if err != nil {
		return err
	}
	rows, next := 0, turn
	var olds []oldRun
	err = p.walk(runsFront, []any{turn, runsLooked}, func(st *sqlite.Stmt) age {
		if p.age(st.ColumnInt64(1)) == young {
			return young // what started later ended later
		}
		rows++
		next = st.ColumnInt64(0)
		if !st.ColumnIsNull(3) && p.age(st.ColumnInt64(3)) == old {
			olds = append(olds, oldRun{next, st.ColumnInt64(2), st.ColumnInt64(5), store.Outcome(st.ColumnInt64(4))})
		}
		return old
	})
	if err != nil {
		return err
	}
	if rows < runsLooked {
		next = 0 // the turn is over
	} else {
		p.pruned.More = true
	}
	share := max(p.left/2, 1)
	rest := p.left - share
	p.left = share
	book := newRunbook(newAppender(p.c, p.s.lives(), at(p.now)), 0, nil)
	for _, r := range olds {
		done, err := p.dropRun(book, r)
		if err != nil {
			return err
		}
		if !done { // the next step goes on here
			p.pruned.More = true
			next = r.no - 1
			break
		}
	}
	p.left += rest
	if err := book.closeBook(); err != nil || next == turn {
		return err
	}
	return p.c.exec(putRuns, next)
}

// dropRun deletes a run, and reports whether it got through. A parent that has not
// read of its end yet has it in its mail then.
func (p *pruner) dropRun(book *runbook, r oldRun) (bool, error) {
	if r.parent != 0 {
		if err := p.c.exec(keepEnd, r.parent, r.no); err != nil {
			return false, err
		}
	}
	for _, table := range [...]struct {
		query       string
		first, last int64
	}{
		{deleteStepAttempts, stepID(r.no, 0), stepID(r.no, stepMask)},
		{deleteSteps, stepID(r.no, 0), stepID(r.no, stepMask)},
		{deleteRunBodies, inputID(r.no), resultID(r.no)},
	} {
		if p.left <= 0 {
			return false, nil
		}
		if err := p.c.exec(table.query, table.first, table.last, p.left); err != nil {
			return false, err
		}
		p.other(p.c.changes())
	}
	if p.left <= 0 {
		return false, nil
	}
	p.other(1)
	book.deleted(r.workflow, r.outcome)
	return true, p.c.exec(deleteRun, r.no)
}
