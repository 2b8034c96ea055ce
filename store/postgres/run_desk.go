package postgres

import (
	"maps"
	"slices"

	"github.com/weir-go/weir/store"
)

// runDesk writes runs in one transaction. Whatever a transaction changes of runs, or of
// what is theirs (mail, waits), it does while it holds their rows, which it locks in one
// statement, in the order of their numbers, before any of it is written: so nobody waits in
// a circle, mail is numbered for each run in the order of commits, and who releases a run
// sees the mail that has come, or who brings it sees the run released.
//
// What is not locked for is the ordinary step: its run is leased to this process, and others
// take it over only when no transaction of this process is under way (standFast).
type runDesk struct {
	*tx
	lent bool // it is a caller's
	// doubtful: a record that was taken for new was not.
	doubtful bool

	rows    map[int64]*runRow
	wanted  map[int64]bool      // to be locked
	numbers []int64             // drawn for mail, fences and places, not given out yet
	need    int                 // how many are to be drawn
	look    bool                // what is done depends on what is found when the rows are locked
	letters []letterRow         // to be inserted
	dropped []dropMail          // to be deleted before
	woken   map[int64]bool      // workflows
	counts  map[int64]*[4]int64 // of workflows, by outcome; Running: started
	rooms   map[int64]*runRoom

	starts starts
	waits  waits
	locks  locks
}

// runRow is a run as the transaction has it.
type runRow struct {
	no, workflow, wake, epoch, crashes int64
	parent, parentStep                 int64

	over   bool // wake is null: it has ended
	locked bool
	mail   []letterMark // unread, by number

	// What is to be written.
	woke     bool // wake is new
	released bool // by this process, which held it
	freed    bool // by a change that was let pass: later ones meet the fence
	sober    bool
	ending   *store.RunUpdate
	reason   *string
	stepped  bool // parentStep is new
}

// letterMark is what is known of a letter.
type letterMark struct {
	no   int64
	kind store.MailKind
}

type dropMail struct{ run, upTo int64 }

const (
	runRowColumns = ` no, workflow, coalesce(wake, 0), wake is null, epoch, crashes, coalesce(parent, 0), coalesce(parent_step, 0) `
	sqlRunRows    = `select` + runRowColumns + `from weir.runs where no = any($1::bigint[])`
	sqlLockRuns   = `select` + runRowColumns + `from weir.runs where no = any($1::bigint[]) order by no for no key update`
	sqlMailMarks  = `select run, no, kind from weir.mail where run = any($1::bigint[]) order by no`
	sqlMailNos    = `select nextval('weir.mail_no') from generate_series(1, $1::int)`
	sqlNamesOf    = `select id, name from weir.workflows`
)

func newDesk(t *tx) *runDesk {
	return &runDesk{tx: t, rows: map[int64]*runRow{}, wanted: map[int64]bool{}}
}

func (d *runDesk) readRow(read scan) (*runRow, error) {
	var r runRow
	if err := read(&r.no, &r.workflow, &r.wake, &r.over, &r.epoch, &r.crashes, &r.parent, &r.parentStep); err != nil {
		return nil, err
	}
	known := d.rows[r.no]
	if known == nil {
		known = &runRow{no: r.no}
		d.rows[r.no] = known
	}
	known.workflow, known.wake, known.over, known.epoch = r.workflow, r.wake, r.over, r.epoch
	known.crashes, known.parent, known.parentStep = r.crashes, r.parent, r.parentStep
	return known, nil
}

// askRows queues a look at runs without locking them, and at their mail.
func (d *runDesk) askRows(runs []int64) {
	d.ask(sqlRunRows, func(read scan) error {
		_, err := d.readRow(read)
		return err
	}, runs)
	d.askMail(runs)
}

func (d *runDesk) askMail(runs []int64) {
	asked := false
	d.ask(sqlMailMarks, func(read scan) error {
		if !asked {
			asked = true
			for _, no := range runs {
				if r := d.rows[no]; r != nil {
					r.mail = nil
				}
			}
		}
		var run int64
		var m letterMark
		err := read(&run, &m.no, &m.kind)
		if r := d.rows[run]; r != nil {
			r.mail = append(r.mail, m)
		}
		return err
	}, runs)
}

// want has a run locked.
func (d *runDesk) want(run int64) {
	if run != 0 {
		d.wanted[run] = true
	}
}

// lockWanted queues the locks. What else is queued after it sees what others did before.
func (d *runDesk) lockWanted() {
	if len(d.wanted) == 0 {
		return
	}
	runs := slices.Sorted(maps.Keys(d.wanted))
	if !d.look && d.need == 0 {
		d.do(sqlLockRuns, runs)
		return
	}
	d.ask(sqlLockRuns, func(read scan) error {
		r, err := d.readRow(read)
		if err == nil {
			r.locked = true
		}
		return err
	}, runs)
	d.askMail(runs)
}

// draw queues the drawing of the numbers that will be needed, with the rows locked.
func (d *runDesk) draw() {
	if d.need > 0 {
		d.ask(sqlMailNos, func(read scan) error {
			var n int64
			err := read(&n)
			d.numbers = append(d.numbers, n)
			return err
		}, d.need+numbersSpare)
	}
}

// numbersSpare are drawn beyond those counted: numbers cost little.
const numbersSpare = 8

// next gives out a number.
func (d *runDesk) next() int64 {
	n := d.numbers[0]
	d.numbers = d.numbers[1:]
	return n
}

// wake notes that a workflow has a run that is ready, or mail for a leased one.
func (d *runDesk) wake(workflow int64) {
	if d.woken == nil {
		d.woken = map[int64]bool{}
	}
	d.woken[workflow] = true
}

func (d *runDesk) endedBy(workflow int64, outcome store.Outcome) { d.tallyOf(workflow)[outcome%4]++ }

// tallyOf is how many runs of a workflow are started (Running), and end.
func (d *runDesk) tallyOf(workflow int64) *[4]int64 {
	if d.counts == nil {
		d.counts = map[int64]*[4]int64{}
	}
	if d.counts[workflow] == nil {
		d.counts[workflow] = &[4]int64{}
	}
	return d.counts[workflow]
}

const (
	sqlWakeRuns = `update weir.runs r set wake = u.wake from unnest($1::bigint[], $2::bigint[]) as u(no, wake) where r.no = u.no`
	sqlRelease  = `update weir.runs r set wake = u.wake, crashes = u.crashes, reason = u.reason
		from unnest($1::bigint[], $2::bigint[], $3::int[], $4::text[]) as u(no, wake, crashes, reason) where r.no = u.no`
	sqlSober   = `update weir.runs r set crashes = 0 where no = any($1::bigint[])`
	sqlEndRuns = `update weir.runs r set wake = null, ended_us = $1, outcome = u.outcome, result = u.result, reason = u.reason
		from unnest($2::bigint[], $3::smallint[], $4::bytea[], $5::text[]) as u(no, outcome, result, reason) where r.no = u.no`
	sqlParentSteps = `update weir.runs r set parent_step = u.step from unnest($1::bigint[], $2::int[]) as u(no, step) where r.no = u.no`
	sqlTallyRuns   = `insert into weir.tally (workflow, appended, done, gone, died)
		select * from unnest($1::int[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])`
)

// writeRows queues what has become of the runs' rows.
func (d *runDesk) writeRows() {
	var woken, wakes, freed, freedWakes, ended, sober, stepped []int64
	var crashes, steps []int32
	var reasons, endReasons []*string
	var outcomes []int16
	var results [][]byte
	for _, no := range slices.Sorted(maps.Keys(d.rows)) {
		r := d.rows[no]
		switch {
		case r.ending != nil:
			u := r.ending
			result, reason := u.Result, (*string)(nil)
			if u.Outcome != store.Completed {
				result, reason = nil, textOrNull(reasonOf(u.Reason))
			}
			ended, outcomes = append(ended, no), append(outcomes, int16(u.Outcome))
			results, endReasons = append(results, result), append(endReasons, reason)
		case r.released:
			freed, freedWakes = append(freed, no), append(freedWakes, r.wake)
			crashes, reasons = append(crashes, int32(r.crashes)), append(reasons, r.reason)
		case r.woke:
			woken, wakes = append(woken, no), append(wakes, r.wake)
		case r.sober:
			sober = append(sober, no)
		}
		if r.stepped {
			stepped, steps = append(stepped, no), append(steps, int32(r.parentStep))
		}
	}
	if len(woken) > 0 {
		d.do(sqlWakeRuns, woken, wakes)
	}
	if len(freed) > 0 {
		d.do(sqlRelease, freed, freedWakes, crashes, reasons)
	}
	if len(sober) > 0 {
		d.do(sqlSober, sober)
	}
	if len(stepped) > 0 {
		d.do(sqlParentSteps, stepped, steps)
	}
	if len(ended) > 0 {
		d.do(sqlEndRuns, d.now, ended, outcomes, results, endReasons)
		for _, no := range ended {
			d.dropped = append(d.dropped, dropMail{no, 1<<63 - 1})
		}
	}
}

// writeTally queues the counting of the runs that are started and that ended, and says how many rows that takes.
func (d *runDesk) writeTally() int {
	for i := range d.starts.fresh {
		d.tallyOf(d.starts.fresh[i].workflow)[store.Running]++
	}
	var flows []int32
	var n [4][]int64
	for _, workflow := range slices.Sorted(maps.Keys(d.counts)) {
		flows = append(flows, int32(workflow))
		for i := range n {
			n[i] = append(n[i], d.counts[workflow][i])
		}
	}
	if len(flows) > 0 {
		d.do(sqlTallyRuns, flows, n[store.Running], n[store.Completed], n[store.Failed], n[store.Cancelled])
	}
	return len(flows)
}

// askNames queues a look at the names of the workflows that may be woken.
func (d *runDesk) askNames(into map[int64]string) {
	d.ask(sqlNamesOf, func(read scan) error {
		var id int64
		var name string
		err := read(&id, &name)
		into[id] = name
		return err
	})
}
