package postgres

import "github.com/weir-go/weir/store"

const (
	pruneRunsFront = `select no, started_us, workflow, ended_us, coalesce(outcome, 0) from weir.runs where no > $1 order by no limit $2`
	// Locked, so that nobody gives a parent mail of an end that is about to be deleted.
	pruneRunSizes = `with r as (select no from weir.runs where no = any($1) order by no for update)
		select r.no, (select count(*) from weir.step_attempts a where a.run = r.no), (select count(*) from weir.steps s where s.run = r.no) from r order by r.no`
	// A parent that has not read of its child's end yet has it in its mail then.
	pruneKeepEnds = `update weir.mail m set step = r.id, outcome = r.outcome, value = r.result, why = r.reason, ended_us = r.ended_us
		from weir.runs r where r.no = any($1) and r.parent is not null and m.run = r.parent and m.child = r.no`
	pruneStepAttempts = `delete from weir.step_attempts a using (select run, n, i from weir.step_attempts where run = any($1) limit $2) o
		where a.run = o.run and a.n = o.n and a.i = o.i`
	pruneSteps     = `delete from weir.steps s using (select run, n from weir.steps where run = any($1) limit $2) o where s.run = o.run and s.n = o.n`
	pruneRuns      = `delete from weir.runs where no = any($1)`
	pruneCountEnds = `update weir.workflows set completed = completed - $2, failed = failed - $3, cancelled = cancelled - $4 where id = $1`

	// runsLooked is how many runs a step looks at: those that have not ended, however
	// old, stay among those that go, so steps take turns through them.
	runsLooked = 1_000
)

// oldRun is a run that retention may delete.
type oldRun struct {
	workflow int64
	outcome  store.Outcome
}

// runs deletes those that ended longer ago than is kept, with all that is theirs.
func (p *pruner) runs() error {
	if p.full() {
		return nil
	}
	turn, err := p.turn("runs_turn")
	if err != nil {
		return err
	}
	rows, next, over := 0, turn, false
	var numbers []int64
	olds := map[int64]oldRun{}
	err = p.t.get(pruneRunsFront, func(read scan) error {
		var no, started int64
		var ended *int64
		var r oldRun
		if err := read(&no, &started, &r.workflow, &ended, &r.outcome); err != nil {
			return err
		}
		if over = over || p.age(started) == young; over {
			return nil // what started later ended later
		}
		rows++
		if next = no; ended != nil && p.age(*ended) == old {
			numbers, olds[no] = append(numbers, no), r
		}
		return nil
	}, turn, runsLooked)
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
	stopped, err := p.dropRuns(numbers, olds)
	if err != nil {
		return err
	}
	if stopped != 0 { // the next step goes on here
		p.pruned.More, next = true, stopped-1
	}
	p.left += rest
	if next != turn {
		p.putTurn("runs_turn", next)
	}
	return p.t.flush()
}

// dropRuns deletes runs, as many as it may. It gives the one at which it had to stop.
func (p *pruner) dropRuns(numbers []int64, olds map[int64]oldRun) (stopped int64, err error) {
	if len(numbers) == 0 {
		return 0, nil
	}
	var fits []int64
	room := p.left
	err = p.t.get(pruneRunSizes, func(read scan) error {
		var no, attempts, steps int64
		err := read(&no, &attempts, &steps)
		if stopped == 0 && attempts+steps < int64(room) {
			room -= int(attempts + steps + 1)
			fits = append(fits, no)
		} else if stopped == 0 {
			stopped = no
		}
		return err
	}, numbers)
	if err != nil {
		return 0, err
	}
	if len(fits) == 0 && stopped != 0 { // it is too long for one step
		return stopped, p.shorten(stopped)
	}
	ends := map[int64]*[4]int64{} // by workflow and outcome
	for _, no := range fits {
		r := olds[no]
		if ends[r.workflow] == nil {
			ends[r.workflow] = &[4]int64{}
		}
		ends[r.workflow][r.outcome%4]++
	}
	p.t.do(pruneKeepEnds, fits)
	p.t.do(pruneStepAttempts, fits, store.MaxPrune)
	p.t.do(pruneSteps, fits, store.MaxPrune)
	p.t.do(pruneRuns, fits)
	for workflow, n := range ends {
		p.t.do(pruneCountEnds, workflow, n[store.Completed], n[store.Failed], n[store.Cancelled])
	}
	p.other(int64(p.left - room))
	return stopped, p.t.flush()
}

// shorten deletes what it may of a run's attempts, then of its steps: the rest of it, and
// the run, are left for other steps.
func (p *pruner) shorten(no int64) error {
	for _, query := range [...]string{pruneStepAttempts, pruneSteps} {
		if p.left <= 0 {
			return nil
		}
		var n int64
		p.t.tell(query, &n, []int64{no}, p.left)
		if err := p.t.flush(); err != nil {
			return err
		}
		p.other(n)
	}
	return nil
}
