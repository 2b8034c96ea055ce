package postgres

import (
	"fmt"

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
	askLeftLeased = `select r.id, w.name, r.wake & $3 from weir.workflows w
		cross join lateral (select id, wake from weir.runs where workflow = w.id and wake >= $1 and wake < $2 limit $4) r
		left join weir.processes p on p.id = r.wake & $3
		where (p.id is null or p.ended_us is not null or p.lost_us is not null)
		and coalesce(greatest(p.beat_us, p.ended_us), 0) < $5 limit $6`

	// Nothing that is under way could bring these any mail.
	askStuckRuns = `select r.id, w.name from weir.workflows w
		cross join lateral (select no, id from weir.runs where workflow = w.id and wake >= $1 and wake < $2 limit $3) r
		where not exists (select 1 from weir.waits where run = r.no)
		and not exists (select 1 from weir.lock_line where run = r.no)
		and not exists (select 1 from weir.runs c where c.parent = r.no and c.wake is not null)
		and not exists (select 1 from weir.steps where run = r.no and state = $4)
		limit $5`

	// The first of each are looked at: with few it is all of them.
	askMailChecked = `select m.no, m.run, m.kind, r.wake, coalesce(r.id, ''), coalesce(w.name, '')
		from (select no, run, kind from weir.mail order by no limit $1) m
		left join weir.runs r on r.no = m.run left join weir.workflows w on w.id = r.workflow`
	askLocksChecked = `select l.name, l.run from (select name, run from weir.locks limit $1) l
		left join weir.runs r on r.no = l.run where r.wake is null limit $2`
	askLinesChecked = `select l.name, l.run, k.name is null from (select name, run from weir.lock_line limit $1) l
		left join weir.runs r on r.no = l.run left join weir.locks k on k.name = l.name
		where r.wake is null or k.name is null limit $2`
	askWaitsChecked = `select w.run, w.n from (select run, n from weir.waits limit $1) w
		left join weir.runs r on r.no = w.run where r.wake is null limit $2`
	askStepsBefore = `select run, n from weir.steps where run < (select coalesce(min(no), 9223372036854775807) from weir.runs) order by run, n limit 1`
	askStepsAfter  = `select run, n from weir.steps where run > (select coalesce(max(no), 0) from weir.runs) order by run desc, n desc limit 1`
)

const reportIt = "this is a bug in weir, please report it with the output of weir doctor and of weir run show"

// runs wants each unfinished run to have a wake reason, and nothing left of others.
func (k *checkup) runs() error {
	for _, check := range []func() error{k.leasedRuns, k.stuckRuns, k.mail, k.locks, k.runless} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// leasedRuns finds runs that are leased to none that lives, though others have had time
// to take them over.
func (k *checkup) leasedRuns() error {
	if !k.live {
		return nil
	}
	return k.t.get(askLeftLeased, func(read scan) error {
		var id, name string
		var process int64
		err := read(&id, &name, &process)
		k.found(fmt.Sprintf("run %s of %s is leased to process %d, which is gone", id, name, process),
			"the next start of a process takes it over: restart one; and please report this with the output of weir doctor")
		return err
	}, runwake.Leased, runwake.Mail, int64(1<<runwake.Bits-1), checkedRuns, us(k.now.Add(-silentAfter)), runFindings)
}

func (k *checkup) stuckRuns() error {
	return k.t.get(askStuckRuns, func(read scan) error {
		var id, name string
		err := read(&id, &name)
		k.found(fmt.Sprintf("run %s of %s waits for mail that cannot come: it has no wait, no place in a lock's line, no child, and no step that needs a person", id, name),
			reportIt+"; weir run cancel "+id+" ends it")
		return err
	}, runwake.Mail, runwake.Parked, checkedRuns, int(store.StepParked), runFindings)
}

// mail finds mail that woke nobody.
func (k *checkup) mail() error {
	named := 0
	return k.t.get(askMailChecked, func(read scan) error {
		var no, run int64
		var kind store.MailKind
		var wake *int64
		var id, workflow string
		if err := read(&no, &run, &kind, &wake, &id, &workflow); err != nil {
			return err
		}
		if wake != nil && !runwake.WokenBy(*wake, kind) || named == runFindings {
			return nil
		}
		named++
		if wake == nil {
			k.found(fmt.Sprintf("mail %d is for run number %d, which has ended", no, run), reportIt)
			return nil
		}
		k.found(fmt.Sprintf("run %s of %s has unread mail and waits all the same", id, workflow), reportIt)
		return nil
	}, checkedRuns)
}

// locks finds locks, and places in their lines, that nobody would ever give up.
func (k *checkup) locks() error {
	k.t.ask(askLocksChecked, func(read scan) error {
		var name string
		var run int64
		err := read(&name, &run)
		k.found(fmt.Sprintf("lock %s is held by run number %d, which has ended", name, run),
			"weir lock break "+name+" gives it to the next in line; "+reportIt)
		return err
	}, checkedRuns, runFindings)
	return k.t.get(askLinesChecked, func(read scan) error {
		var name string
		var run int64
		var free bool
		err := read(&name, &run, &free)
		what := "by a run that has ended"
		if free {
			what = "though nobody holds it"
		}
		k.found(fmt.Sprintf("lock %s is waited for %s (run number %d)", name, what, run), reportIt)
		return err
	}, checkedRuns, runFindings)
}

// runless finds what is left of runs that are not there.
func (k *checkup) runless() error {
	k.t.ask(askWaitsChecked, func(read scan) error {
		var run, n int64
		err := read(&run, &n)
		k.found(fmt.Sprintf("record %d of run number %d waits for a message, but the run has ended", n, run), reportIt)
		return err
	}, checkedRuns, runFindings)
	for _, query := range [...]string{askStepsBefore, askStepsAfter} {
		k.t.ask(query, func(read scan) error {
			var run, n int64
			err := read(&run, &n)
			k.found(fmt.Sprintf("record %d is of run number %d, which is not there", n, run), reportIt)
			return err
		})
	}
	return k.t.flush()
}
