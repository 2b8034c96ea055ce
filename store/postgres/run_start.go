package postgres

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/checks"
	"github.com/weir-go/weir/store/internal/runwake"
)

// starts are the runs that a transaction starts.
type starts struct {
	numbers []int64 // drawn for new runs
	known   map[runName]*knownRun
	fresh   []newRun
	again   []startAgain
}

// runName is how a user names a run.
type runName struct {
	workflow int64
	id       string
}

// newRun is a run to be inserted.
type newRun struct {
	*store.RunStart
	workflow, no, wake, epoch, parentStep int64
}

// knownRun is a run that a start met: in the store, or earlier in the transaction.
type knownRun struct {
	no, version, parent, parentStep int64
	started                         int64
	ended                           bool
	fresh                           int // started in this transaction: 1 + its index
	input                           []byte
}

// startAgain is a start of a run that exists and has a parent.
type startAgain struct {
	known *knownRun
	step  int64
}

const (
	// While a caller's transaction that has started runs is open, who starts the same runs
	// would wait for it, and with him all of his group. So such a transaction holds a lock of
	// each of its runs, and shares one that says that there are such; others only look
	// whether those are held.
	sqlTestStarts = `select u.h from unnest($1::bigint[]) as u(h)
		where not case when pg_try_advisory_lock($2) then pg_advisory_unlock($2)
			when pg_try_advisory_lock_shared(u.h) then pg_advisory_unlock_shared(u.h) else false end`

	sqlKnownRuns = `select r.workflow, r.id, r.no, r.version, coalesce(r.parent, 0), coalesce(r.parent_step, 0), r.started_us, r.wake is null,
			coalesce(r.input, '')
		from unnest($1::int[], $2::text[]) as u(workflow, id) join weir.runs r on r.workflow = u.workflow and r.id = u.id`
	sqlRunNos     = `select nextval('weir.run_no') from generate_series(1, $1::int)`
	sqlInsertRuns = `insert into weir.runs (no, workflow, id, wake, version, epoch, started_us, deadline_us,
			parent, parent_step, cause, correlation, headers, input)
		select u.no, u.workflow, u.id, u.wake, u.version, u.epoch, $1, nullif(u.deadline, 0), nullif(u.parent, 0),
			case when u.parent <> 0 then u.step end, nullif(u.cause, ''), nullif(u.correlation, ''), u.headers, u.input
		from unnest($2::bigint[], $3::int[], $4::text[], $5::bigint[], $6::int[], $7::bigint[], $8::bigint[],
			$9::bigint[], $10::int[], $11::text[], $12::text[], $13::bytea[], $14::bytea[])
			as u(no, workflow, id, wake, version, epoch, deadline, parent, step, cause, correlation, headers, input)`
	sqlOfferRuns = sqlInsertRuns + ` on conflict (workflow, id) do nothing returning no`
)

// startLock is the lock of a run that a caller's transaction starts.
func (s *Store) startLock(st *store.RunStart) int64 { return s.lockNumber("start", st.Workflow, st.ID) }

// startsLock is shared by callers' transactions that have started runs.
func (s *Store) startsLock() int64 { return s.lockNumber("starts") }

func checkStart(st *store.RunStart) error {
	switch {
	case st.Workflow == "" || !storable(st.Workflow):
		return fmt.Errorf("start of run %q: want a workflow", st.ID)
	case st.ID == "" || len(st.ID) > store.MaxRunID || !storable(st.ID):
		return fmt.Errorf("start of a run of %s: its ID %q has %d bytes, want 1 to %d, in UTF-8 and without NUL", st.Workflow, st.ID, len(st.ID), store.MaxRunID)
	case st.Version < 1:
		return fmt.Errorf("start of run %s of %s: version %d, want 1 or more", st.ID, st.Workflow, st.Version)
	case !storable(st.Cause) || !storable(st.Correlation):
		return fmt.Errorf("start of run %s of %s: cause %q or correlation %q is no text that PostgreSQL can keep", st.ID, st.Workflow, st.Cause, st.Correlation)
	}
	if err := checks.TooLong("input", st.Input); err != nil {
		return fmt.Errorf("start of run %s of %s: %w", st.ID, st.Workflow, err)
	}
	return nil
}

// askStarts queues what has to be known of starts, whose workflows are.
func (d *runDesk) askStarts(list []*store.RunStart) {
	d.starts.known = map[runName]*knownRun{}
	var flows []int32
	var ids []string
	seen := map[runName]bool{}
	for _, st := range list {
		name := runName{d.s.workflowID(st.Workflow), st.ID}
		if checkStart(st) == nil && !seen[name] {
			seen[name] = true
			flows, ids = append(flows, int32(name.workflow)), append(ids, st.ID)
		}
	}
	if len(ids) == 0 {
		return
	}
	d.ask(sqlKnownRuns, func(read scan) error {
		var name runName
		k := &knownRun{}
		err := read(&name.workflow, &name.id, &k.no, &k.version, &k.parent, &k.parentStep, &k.started, &k.ended, &k.input)
		d.starts.known[name] = k
		return err
	}, flows, ids)
	d.ask(sqlRunNos, func(read scan) error {
		var n int64
		err := read(&n)
		d.starts.numbers = append(d.starts.numbers, n)
		return err
	}, len(ids))
}

// refuseStarts says why a change's starts are refused.
func (d *runDesk) refuseStarts(list []*store.RunStart) error {
	if len(list) > store.MaxSends {
		return fmt.Errorf("%d runs started in one change, at most %d", len(list), store.MaxSends)
	}
	var within map[runName]*store.RunStart
	if len(list) > 1 {
		within = make(map[runName]*store.RunStart, len(list))
	}
	for _, st := range list {
		if refused := checkStart(st); refused != nil {
			return refused
		}
		name := runName{d.s.workflowID(st.Workflow), st.ID}
		k := d.starts.known[name]
		if first := within[name]; k == nil && first != nil {
			k = &knownRun{version: int64(first.Version), parent: int64(first.Parent), input: first.Input}
		}
		if k != nil {
			if refused := k.refuse(st); refused != nil {
				return refused
			}
		} else if within != nil {
			within[name] = st
		}
	}
	return nil
}

// refuse says why a start is not of this run.
func (k *knownRun) refuse(st *store.RunStart) error {
	switch {
	case k.parent != int64(st.Parent):
		return &store.RunConflictError{Workflow: st.Workflow, ID: st.ID, Parent: true}
	case k.version == int64(st.Version) && !bytes.Equal(k.input, st.Input):
		return &store.RunConflictError{Workflow: st.Workflow, ID: st.ID}
	}
	return nil
}

// start takes starts that nothing refuses.
func (d *runDesk) start(list []*store.RunStart, leases bool) {
	for _, st := range list {
		name := runName{d.s.workflowID(st.Workflow), st.ID}
		if k := d.starts.known[name]; k != nil {
			d.startAgain(st, k)
			continue
		}
		r := newRun{RunStart: st, workflow: name.workflow, no: d.starts.numbers[0], parentStep: int64(st.ParentStep)}
		d.starts.numbers = d.starts.numbers[1:]
		switch {
		case us(st.At) > d.now:
			r.wake = runwake.WaitingUntil(0, st.At)
		case st.Lease && st.At.IsZero() && leases:
			r.wake, r.epoch = runwake.LeasedBy(d.process), 1
		default:
			r.wake = runwake.ReadySince(0, d.now)
			d.wake(r.workflow)
		}
		d.starts.fresh = append(d.starts.fresh, r)
		if room := d.rooms[r.workflow]; room != nil {
			room.depth++
		}
		d.starts.known[name] = &knownRun{no: r.no, version: int64(st.Version), parent: int64(st.Parent), parentStep: r.parentStep,
			started: d.now, input: st.Input, fresh: len(d.starts.fresh)}
		st.No, st.Epoch, st.StartedAt, st.Existed = store.RunNo(r.no), r.epoch, at(d.now), false
	}
}

// startAgain answers a start of a run that exists. Its parent, should it have ended, is told.
func (d *runDesk) startAgain(st *store.RunStart, k *knownRun) {
	st.No, st.Epoch, st.StartedAt, st.Existed = store.RunNo(k.no), 0, at(k.started), true
	if k.parent == 0 {
		return
	}
	if k.fresh > 0 {
		d.starts.fresh[k.fresh-1].parentStep = int64(st.ParentStep)
		return
	}
	if !k.ended && k.parentStep == int64(st.ParentStep) {
		return
	}
	d.starts.again = append(d.starts.again, startAgain{k, int64(st.ParentStep)})
	d.want(k.no)
	d.want(k.parent)
	d.need++
	d.look = true
}

// tellParents tells the parents of runs that were started again, and have ended.
func (d *runDesk) tellParents() {
	for _, a := range d.starts.again {
		r := d.rows[a.known.no]
		switch {
		case r == nil:
		case r.over:
			d.deliver(parcel{run: r.parent, kind: store.ChildEnded, n: a.step, child: r.no})
		case r.parentStep != a.step:
			r.parentStep, r.stepped = a.step, true
		}
	}
}

// startColumns are runs to be inserted, as arrays.
type startColumns struct {
	nos, wakes, epochs, deadlines, parents []int64
	flows, versions, steps                 []int32
	ids, causes, roots                     []string
	headers, inputs                        [][]byte
}

func columnsOf(list []newRun) (c startColumns) {
	for i := range list {
		r := &list[i]
		c.nos, c.flows, c.ids = append(c.nos, r.no), append(c.flows, int32(r.workflow)), append(c.ids, r.ID)
		c.wakes, c.versions, c.epochs = append(c.wakes, r.wake), append(c.versions, int32(r.Version)), append(c.epochs, r.epoch)
		c.deadlines, c.parents = append(c.deadlines, us(r.Deadline)), append(c.parents, int64(r.Parent))
		c.steps, c.causes, c.roots = append(c.steps, int32(r.parentStep)), append(c.causes, r.Cause), append(c.roots, r.Correlation)
		c.headers, c.inputs = append(c.headers, r.Headers), append(c.inputs, r.Input)
	}
	return c
}

func (c *startColumns) args(now int64) []any {
	return []any{now, c.nos, c.flows, c.ids, c.wakes, c.versions, c.epochs, sparse(c.deadlines),
		sparse(c.parents), sparse(c.steps), sparse(c.causes), sparse(c.roots), sparseBytes(c.headers), sparseBytes(c.inputs)}
}

// sparse is nil for a column of nothing: unnest then makes it of NULLs, for less.
func sparse[T comparable](column []T) []T {
	var none T
	for _, v := range column {
		if v != none {
			return column
		}
	}
	return nil
}

func sparseBytes(column [][]byte) [][]byte {
	for _, v := range column {
		if v != nil {
			return column
		}
	}
	return nil
}

// byName orders runs by their names: who inserts the same waits, but in no circle.
func byName(list []newRun) []newRun {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b newRun) int { return cmp.Or(cmp.Compare(a.workflow, b.workflow), cmp.Compare(a.ID, b.ID)) })
	return list
}

// writeStarts queues the runs started.
func (d *runDesk) writeStarts() {
	for chunk := range slices.Chunk(byName(d.starts.fresh), rowsMost) {
		c := columnsOf(chunk)
		d.do(sqlInsertRuns, c.args(d.now)...)
	}
}

// startedMeanwhile reports whether a transaction failed since another has started one of
// its runs, or has heard of one of its lanes, after it looked: tried again, it sees that.
func startedMeanwhile(err error) bool {
	fault, ok := errors.AsType[*pgconn.PgError](err)
	return ok && fault.Code == uniqueViolation && (fault.ConstraintName == "runs_id" || fault.ConstraintName == arrivalsKey)
}

const uniqueViolation = "23505"

// forgetStarts takes back what callers see of starts that did not come about.
func forgetStarts(list []*store.RunStart) {
	for _, st := range list {
		st.No, st.Epoch, st.StartedAt, st.Existed = 0, 0, time.Time{}, false
	}
}

// askOwn queues, for a change in a caller's transaction, what has to be known and held.
func (d *runDesk) askOwn(ch *store.Change) error {
	d.askWaiters(ch.Sends)
	if len(ch.Runs) == 0 {
		return nil
	}
	flows, locks := map[string]bool{}, map[int64]bool{}
	for _, st := range ch.Runs {
		if refused := checkStart(st); refused != nil {
			d.todo = nil // not even the locks are taken
			return refused
		}
		flows[st.Workflow], locks[d.s.startLock(st)] = true, true
	}
	if len(locks) > keysMost {
		d.todo = nil
		return fmt.Errorf("%d runs started in a transaction of the caller's, at most %d: each is a lock", len(locks), keysMost)
	}
	if err := d.s.knowWorkflows(d.ctx, flows); err != nil {
		return err
	}
	d.do(sqlShareProcess, d.s.startsLock())
	d.do(sqlKeys, slices.Sorted(maps.Keys(locks)))
	d.askStarts(ch.Runs)
	d.askRooms(ch.Runs)
	return nil
}

const sqlWithdraw = `delete from weir.runs where no = any($1::bigint[])`

// offer inserts the starts of a caller's transaction, in which no statement may fail. refused:
// another transaction has started one of them otherwise, after we looked; then none is there.
func (d *runDesk) offer(list []*store.RunStart) (refused, err error) {
	if refused := d.refuseFull(list); refused != nil {
		return refused, nil
	}
	d.start(list, false)
	if len(d.starts.fresh) == 0 {
		return nil, nil
	}
	inserted := map[int64]bool{}
	for chunk := range slices.Chunk(byName(d.starts.fresh), rowsMost) {
		c := columnsOf(chunk)
		d.ask(sqlOfferRuns, func(read scan) error {
			var no int64
			err := read(&no)
			inserted[no] = true
			return err
		}, c.args(d.now)...)
	}
	if err := d.flush(); err != nil {
		return nil, err
	}
	if len(inserted) == len(d.starts.fresh) {
		d.writeTally()
		return nil, nil
	}
	d.do(sqlWithdraw, slices.Sorted(maps.Keys(inserted)))
	d.starts = starts{}
	forgetStarts(list)
	d.askStarts(list)
	if err := d.flush(); err != nil {
		return nil, err
	}
	if refused := d.refuseStarts(list); refused != nil {
		return refused, nil
	}
	return d.offer(list)
}

// tellOwn tells parents of runs that a caller's transaction has started again.
func (d *runDesk) tellOwn() error {
	if len(d.starts.again) == 0 {
		return nil
	}
	d.lockWanted()
	d.draw()
	if err := d.flush(); err != nil {
		return err
	}
	d.tellParents()
	d.writeRows()
	d.writeMail()
	return d.flush()
}
