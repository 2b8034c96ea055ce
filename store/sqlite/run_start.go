package sqlite

import (
	"bytes"
	"fmt"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/checks"
	"github.com/weir-go/weir/store/internal/lives"
	"github.com/weir-go/weir/store/internal/runwake"
	"zombiezen.com/go/sqlite"
)

// newRun is a run to be inserted.
type newRun struct {
	*store.RunStart
	workflow, no, wake, epoch, now int64

	parentStep int64 // of the last start, if several in a transaction repeat it
}

// knownRun is a run that a start met: in the store, or earlier in the transaction.
type knownRun struct {
	no, version, parent, parentStep int64
	started                         int64
	ended                           bool
	fresh                           int // started in this transaction: 1 + its index
	input                           []byte
}

// startPlan is what a start comes to: a new run when known is nil, unless it repeats
// one before it in the change.
type startPlan struct {
	workflow *workflow
	known    *knownRun
	repeats  int // index in the change, -1: none
}

const (
	sqlRunNamed = `select no, version, coalesce(parent, 0), coalesce(parent_step, 0), started_us, wake is null,
			coalesce(input, (select body from weir_run_bodies where id = weir_runs.no << 1), x'')
		from weir_runs where workflow = ?1 and id = ?2`
	sqlSetParentStep = `update weir_runs set parent_step = ?2 where no = ?1`

	insertRun = `insert or fail into weir_runs (no, workflow, id, wake, version, epoch, started_us, deadline_us,
		parent, parent_step, cause, correlation, headers, input) values `
	runValues   = `(?,?,?,?,?,?,?,?,?,?,?,?,?,?)`
	runValues4  = runValues + `,` + runValues + `,` + runValues + `,` + runValues
	runValues16 = runValues4 + `,` + runValues4 + `,` + runValues4 + `,` + runValues4

	insertRun1  = insertRun + runValues
	insertRun4  = insertRun + runValues4
	insertRun16 = insertRun + runValues16

	runColumnCount = 14

	// A list of IDs would be made a table of its own first.
	seekRun    = `select id from weir_runs where workflow = ?1 and id = ?`
	and        = ` union all `
	seekRuns4  = seekRun + and + seekRun + and + seekRun + and + seekRun
	seekRuns16 = seekRuns4 + and + seekRuns4 + and + seekRuns4 + and + seekRuns4
)

// seek looks up the starts of a whole group at once, so that planStart need not look
// up each: nearly all are new.
func (b *runbook) seek(c *conn, changes []*store.Change) error {
	var starts []*store.RunStart
	for _, ch := range changes {
		starts = append(starts, ch.Runs...)
	}
	for i := 0; i < len(starts); {
		w, err := b.workflow(starts[i].Workflow)
		if err != nil {
			return err
		}
		end := i + 1
		for end < len(starts) && starts[end].Workflow == w.name {
			end++
		}
		if w.id != 0 {
			if err := b.seekIn(c, w.id, starts[i:end]); err != nil {
				return err
			}
		}
		i = end
	}
	b.sought = len(starts)
	return nil
}

func (b *runbook) seekIn(c *conn, workflow int64, starts []*store.RunStart) error {
	for len(starts) > 0 {
		text, n := seekRuns16, min(16, len(starts))
		if n <= 4 {
			text = seekRuns4
		}
		st, err := c.prepare(text)
		if err != nil {
			return err
		}
		st.BindInt64(1, workflow)
		for i, r := range starts[:n] {
			st.BindText(2+i, r.ID)
		}
		var found []runName
		for {
			more, err := st.Step()
			if err != nil {
				return err
			}
			if !more {
				break
			}
			found = append(found, runName{workflow, st.ColumnText(0)})
		}
		for _, name := range found {
			if err := b.readKnown(name); err != nil {
				return err
			}
		}
		starts = starts[n:]
	}
	return nil
}

// readKnown reads what a start of a run with this name is compared with.
func (b *runbook) readKnown(name runName) error {
	k := &knownRun{}
	var ended int64
	return b.j.rows(sqlRunNamed, []any{name.workflow, name.id},
		[]any{&k.no, &k.version, &k.parent, &k.parentStep, &k.started, &ended, &k.input}, func() error {
			k.ended = ended != 0
			b.meet(name, k)
			return nil
		})
}

func (b *runbook) meet(name runName, k *knownRun) {
	if b.known == nil {
		b.known = map[runName]*knownRun{}
	}
	b.known[name] = k
}

// planStarts says what a change's starts come to, or why they are refused. It writes nothing.
func (b *runbook) planStarts(starts []*store.RunStart, outside bool) (plans []startPlan, refused, err error) {
	if len(starts) == 0 {
		return nil, nil, nil
	}
	plans, refused, err = b.planEach(starts)
	if outside && err == nil && refused == nil {
		refused = b.refuseFull(plans)
	}
	return plans, refused, err
}

// refuseFull says that there are as many unfinished runs of a workflow as there may be.
func (b *runbook) refuseFull(plans []startPlan) (refused error) {
	for i := range plans {
		p := &plans[i]
		w := p.workflow
		if p.known != nil || p.repeats >= 0 || w.capacity == 0 {
			continue
		}
		w.wanted++
		if depth := w.unfinished + b.counts(w.id)[store.Running]; depth+w.wanted > w.capacity && refused == nil {
			refused = &store.FullError{Queue: w.name, Depth: int(depth), Capacity: int(w.capacity), Runs: true}
		}
	}
	for i := range plans {
		plans[i].workflow.wanted = 0
	}
	return refused
}

func (b *runbook) planEach(starts []*store.RunStart) (plans []startPlan, refused, err error) {
	if len(starts) > store.MaxSends {
		return nil, fmt.Errorf("%d runs started in one change, at most %d", len(starts), store.MaxSends), nil
	}
	plans = make([]startPlan, len(starts))
	for i, st := range starts {
		if refused := checkStart(st); refused != nil {
			return nil, refused, nil
		}
		p := &plans[i]
		p.repeats = -1
		if p.workflow, err = b.workflow(st.Workflow); err != nil {
			return nil, nil, err
		}
		name := runName{p.workflow.id, st.ID}
		if p.known = b.known[name]; p.known == nil && b.sought == 0 && p.workflow.id != 0 {
			if err := b.readKnown(name); err != nil {
				return nil, nil, err
			}
			p.known = b.known[name]
		}
		if p.known != nil {
			if refused := p.known.refuse(st); refused != nil {
				return nil, refused, nil
			}
			continue
		}
		if len(starts) == 1 {
			break
		}
		if refused := p.repeat(starts[:i], st); refused != nil {
			return nil, refused, nil
		}
	}
	return plans, nil, nil
}

// repeat finds a start before this one, in the same change, of the same run.
func (p *startPlan) repeat(before []*store.RunStart, st *store.RunStart) error {
	for i, first := range before {
		if first.ID == st.ID && first.Workflow == st.Workflow {
			p.repeats = i
			k := knownRun{version: int64(first.Version), parent: int64(first.Parent), input: first.Input}
			return k.refuse(st)
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

func checkStart(st *store.RunStart) error {
	switch {
	case st.Workflow == "":
		return fmt.Errorf("start of run %q: want a workflow", st.ID)
	case st.ID == "" || len(st.ID) > store.MaxRunID:
		return fmt.Errorf("start of a run of %s: its ID has %d bytes, want 1 to %d", st.Workflow, len(st.ID), store.MaxRunID)
	case st.Version < 1:
		return fmt.Errorf("start of run %s of %s: version %d, want 1 or more", st.ID, st.Workflow, st.Version)
	}
	if err := checks.TooLong("input", st.Input); err != nil {
		return fmt.Errorf("start of run %s of %s: %w", st.ID, st.Workflow, err)
	}
	return nil
}

// start carries a change's plans out; the rows are inserted by flushRuns.
func (b *runbook) start(starts []*store.RunStart, plans []startPlan) error {
	for i, st := range starts {
		p := &plans[i]
		k := p.known
		if p.repeats >= 0 {
			k = b.known[runName{p.workflow.id, st.ID}]
		}
		if k != nil {
			if err := b.startAgain(st, k); err != nil {
				return err
			}
			continue
		}
		if err := b.startNew(st, p.workflow); err != nil {
			return err
		}
	}
	return nil
}

func (b *runbook) startNew(st *store.RunStart, w *workflow) error {
	if err := b.makeWorkflow(w); err != nil {
		return err
	}
	no, err := b.next(&b.runs)
	if err != nil {
		return err
	}
	r := newRun{RunStart: st, workflow: w.id, no: no, now: b.now, parentStep: int64(st.ParentStep)}
	switch {
	case us(st.At) > b.now:
		r.wake = runwake.WaitingUntil(0, st.At)
	case st.Lease && st.At.IsZero() && b.ours != nil:
		r.wake, r.epoch = runwake.LeasedBy(b.process), 1
	default:
		r.wake = runwake.ReadySince(0, b.now)
		b.wake(w.id)
	}
	b.started = append(b.started, r)
	b.begun(w.id)
	b.meet(runName{w.id, st.ID}, &knownRun{no: no, version: int64(st.Version), parent: int64(st.Parent),
		parentStep: int64(st.ParentStep), started: b.now, input: st.Input, fresh: len(b.started)})
	st.No, st.Epoch, st.StartedAt, st.Existed = store.RunNo(no), r.epoch, at(b.now), false
	return nil
}

// startAgain answers a start of a run that exists. Its parent, should it have ended, is told.
func (b *runbook) startAgain(st *store.RunStart, k *knownRun) error {
	st.No, st.Epoch, st.StartedAt, st.Existed = store.RunNo(k.no), 0, at(k.started), true
	if k.parent == 0 {
		return nil
	}
	if k.ended {
		return b.deliver(parcel{run: k.parent, kind: store.ChildEnded, n: int64(st.ParentStep), child: k.no})
	}
	if k.parentStep == int64(st.ParentStep) {
		return nil
	}
	k.parentStep = int64(st.ParentStep)
	if k.fresh > 0 {
		b.started[k.fresh-1].parentStep = k.parentStep
		return nil
	}
	if b.ours != nil {
		if l := b.ours.leases[k.no]; l != nil {
			b.save(l)
			l.parentStep = k.parentStep
		}
	}
	return b.j.exec(sqlSetParentStep, k.no, k.parentStep)
}

// flushRuns inserts the runs started.
func (b *runbook) flushRuns() error {
	if len(b.started) == 0 {
		return nil
	}
	for i := range b.started {
		if r := &b.started[i]; len(r.Input) > bodyMax {
			if err := b.j.exec(sqlNewBody, inputID(r.no), r.Input); err != nil {
				return err
			}
		}
	}
	return b.j.insertRuns(b.started, b.lives)
}

// forgetStarts takes back what callers see of starts that did not come about.
func forgetStarts(starts []*store.RunStart) {
	for _, st := range starts {
		st.No, st.Epoch, st.StartedAt, st.Existed = 0, 0, time.Time{}, false
	}
}

func (c *conn) insertRuns(runs []newRun, l lives.Lives) error {
	for len(runs) > 0 {
		text, n := insertRun1, 1
		switch {
		case len(runs) >= 16:
			text, n = insertRun16, 16
		case len(runs) >= 4:
			text, n = insertRun4, 4
		}
		st, err := c.prepare(text)
		if err != nil {
			return err
		}
		for i := range runs[:n] {
			bindRun(st, i*runColumnCount, &runs[i], l)
		}
		if _, err := st.Step(); err != nil {
			return err
		}
		runs = runs[n:]
	}
	return nil
}

// bindRun binds a row's parameters, all NULL before.
func bindRun(st *sqlite.Stmt, p int, r *newRun, l lives.Lives) {
	st.BindInt64(p+1, r.no)
	st.BindInt64(p+2, r.workflow)
	st.BindText(p+3, r.ID)
	st.BindInt64(p+4, r.wake)
	st.BindInt64(p+5, int64(r.Version))
	st.BindInt64(p+6, r.epoch)
	st.BindInt64(p+7, r.now)
	if !r.Deadline.IsZero() {
		st.BindInt64(p+8, us(r.Deadline))
	}
	if r.Parent != 0 {
		st.BindInt64(p+9, int64(r.Parent))
		st.BindInt64(p+10, r.parentStep)
	}
	bindReference(st, p+11, r.Cause, l)
	bindReference(st, p+12, r.Correlation, l)
	if r.Headers != nil {
		st.BindBytes(p+13, r.Headers)
	}
	if r.Input != nil && len(r.Input) <= bodyMax {
		st.BindBytes(p+14, r.Input)
	}
}

func (t *callerTx) insertRuns(runs []newRun, l lives.Lives) error {
	for i := range runs {
		r := &runs[i]
		var parent, parentStep, input any
		if r.Parent != 0 {
			parent, parentStep = int64(r.Parent), r.parentStep
		}
		if len(r.Input) <= bodyMax {
			input = blobOrNull(r.Input)
		}
		err := t.exec(insertRun1, r.no, r.workflow, r.ID, r.wake, int64(r.Version), r.epoch, r.now, timeOrNull(r.Deadline),
			parent, parentStep, reference(r.Cause, l), reference(r.Correlation, l), blobOrNull(r.Headers), input)
		if err != nil {
			return err
		}
	}
	return nil
}
