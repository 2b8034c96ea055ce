package sqlite

import (
	"github.com/weir-go/weir/store"
)

// lease is a run that this process holds. Only the process that works the file has
// any, so the fence of a run's updates is here, in memory, and an ordinary step is
// written without a look at its run's row. It is for the holder of the writer
// connection, as are the maps that it is in.
type lease struct {
	no, epoch, workflow, crashes int64
	parent, parentStep           int64

	mail  []letterMark // unread, by no
	waits int          // at most so many; -1: not known
	ties  bool         // it may have waits, or hold or want locks
	over  bool         // released by the transaction under way
	stamp uint64       // of the attempt to commit that saved it
}

// letterMark is what a lease remembers of a letter to its run.
type letterMark struct {
	no   int64
	kind store.MailKind
}

// held is the leases of a process.
type held struct {
	leases map[int64]*lease
	mailed map[int64]*lease // those with unread mail
	// mailSeen is the number of the newest mail that has been looked at: what came
	// after it, from whichever connection, is not in the leases yet.
	mailSeen int64
	stamp    uint64
}

func newHeld() held {
	return held{leases: map[int64]*lease{}, mailed: map[int64]*lease{}}
}

// reset forgets all leases: those of the process that begins, or ends, here.
func (h *held) reset(mailSeen int64) {
	clear(h.leases)
	clear(h.mailed)
	h.mailSeen = mailSeen
}

func (h *held) add(l *lease) {
	h.leases[l.no] = l
	if len(l.mail) > 0 {
		h.mailed[l.no] = l
	}
}

func (h *held) drop(no int64) {
	delete(h.leases, no)
	delete(h.mailed, no)
}

// saved is a lease as it was before the transaction that may fail.
type saved struct {
	l   *lease
	old lease
}

// runbook keeps the runs in one transaction: it starts them, and brings them mail.
// It shares the appender's counters and topics.
type runbook struct {
	*appender
	process int64 // 0: nothing is leased
	// ours are the leases, when the transaction is the writer's; else nil.
	ours *held
	past []saved

	workflows map[string]*workflow
	last      *workflow // of the start before: neighbours share it
	runs      counter
	mails     counter
	started   []newRun
	known     map[runName]*knownRun
	sought    int // starts looked up beforehand, so that those not known are new
	woken     map[int64]struct{}
	ends      map[int64]*[4]int64 // by workflow and outcome: how many more runs there are
	tables    tables

	collected  bool  // mail that others brought is in the leases
	seenBefore int64 // mailSeen before that
}

// runName is how a user names a run.
type runName struct {
	workflow int64
	id       string
}

// workflow is a workflow's row; id 0: not yet made.
type workflow struct {
	id   int64
	name string

	unfinished int64 // runs, before this transaction
	capacity   int64
	wanted     int64 // by the change under decision
}

// counter is a number of weir_meta, read once and written back once.
type counter struct {
	key          string
	value, first int64 // first: after the value read; 0: not read yet
}

// tables says of tables that are mostly empty whether they are; looked at once.
type tables struct{ looked, waits, locks bool }

const (
	sqlCounter    = `select v from weir_meta where k = ?1`
	sqlSetCounter = `update weir_meta set v = ?2 where k = ?1`

	sqlWorkflowRoom = `select id, unfinished, capacity from weir_workflows where name = ?1`
	sqlWorkflow     = `select id from weir_workflows where name = ?1`
	sqlNewWorkflow  = `insert into weir_workflows (name) values (?1) returning id`
	sqlWorkflows    = `select id, name from weir_workflows order by id`
	sqlCountEnds    = `update weir_workflows set completed = completed + ?2, failed = failed + ?3, cancelled = cancelled + ?4,
		unfinished = unfinished + ?5 where id = ?1`

	sqlTies = `select exists (select 1 from weir_waits),
		exists (select 1 from weir_locks) or exists (select 1 from weir_lock_line)`
)

func newRunbook(a *appender, process int64, ours *held) *runbook {
	return &runbook{appender: a, process: process, ours: ours, runs: counter{key: "run"}, mails: counter{key: "mail"}}
}

// next gives out the counter's next number.
func (b *runbook) next(c *counter) (int64, error) {
	if c.first == 0 {
		if err := b.j.rows(sqlCounter, []any{c.key}, []any{&c.value}, func() error { return nil }); err != nil {
			return 0, err
		}
		c.first = c.value + 1
	}
	c.value++
	return c.value, nil
}

// closeBook writes the counters back, after all else.
func (b *runbook) closeBook() error {
	for _, c := range [...]*counter{&b.runs, &b.mails} {
		if c.first == 0 || c.value < c.first {
			continue
		}
		if err := b.j.exec(sqlSetCounter, c.key, c.value); err != nil {
			return err
		}
	}
	for workflow, n := range b.ends {
		if err := b.j.exec(sqlCountEnds, workflow, n[store.Completed], n[store.Failed], n[store.Cancelled], n[store.Running]); err != nil {
			return err
		}
	}
	return nil
}

// workflow finds a workflow, to be made later if there is none.
func (b *runbook) workflow(name string) (*workflow, error) {
	if b.last != nil && b.last.name == name {
		return b.last, nil
	}
	w := b.workflows[name]
	if w == nil {
		w = &workflow{name: name}
		if err := b.j.rows(sqlWorkflowRoom, []any{name}, []any{&w.id, &w.unfinished, &w.capacity}, func() error { return nil }); err != nil {
			return nil, err
		}
		if b.workflows == nil {
			b.workflows = map[string]*workflow{}
		}
		b.workflows[name] = w
	}
	b.last = w
	return w, nil
}

func (b *runbook) makeWorkflow(w *workflow) error {
	if w.id != 0 {
		return nil
	}
	return b.j.rows(sqlNewWorkflow, []any{w.name}, []any{&w.id}, func() error { return nil })
}

// wake notes that a workflow has a run that is ready, or mail for a leased one.
func (b *runbook) wake(workflow int64) {
	if b.woken == nil {
		b.woken = map[int64]struct{}{}
	}
	b.woken[workflow] = struct{}{}
}

// wokenNames names the workflows woken.
func (b *runbook) wokenNames() ([]string, error) {
	if len(b.woken) == 0 {
		return nil, nil
	}
	var names []string
	var id int64
	var name string
	err := b.j.rows(sqlWorkflows, nil, []any{&id, &name}, func() error {
		if _, ok := b.woken[id]; ok {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// counts is how many more runs of a workflow this transaction makes, by outcome.
func (b *runbook) counts(workflow int64) *[4]int64 {
	if b.ends == nil {
		b.ends = map[int64]*[4]int64{}
	}
	if b.ends[workflow] == nil {
		b.ends[workflow] = &[4]int64{}
	}
	return b.ends[workflow]
}

// begun counts a run that is started.
func (b *runbook) begun(workflow int64) { b.counts(workflow)[store.Running]++ }

// ended counts a run that ended.
func (b *runbook) ended(workflow int64, outcome store.Outcome) {
	n := b.counts(workflow)
	n[store.Running]--
	n[outcome%4]++
}

// deleted counts a run that had ended and is deleted.
func (b *runbook) deleted(workflow int64, outcome store.Outcome) { b.counts(workflow)[outcome%4]-- }

// save remembers a lease as it is, for a transaction that fails.
func (b *runbook) save(l *lease) {
	if l.stamp != b.ours.stamp {
		b.past = append(b.past, saved{l, *l})
		l.stamp = b.ours.stamp
	}
}

// restore gives the leases back what the transaction changed in them.
func (b *runbook) restore() {
	if b.ours == nil {
		return
	}
	for _, p := range b.past {
		*p.l = p.old
		delete(b.ours.mailed, p.l.no)
		if len(p.l.mail) > 0 {
			b.ours.mailed[p.l.no] = p.l
		}
	}
	if b.collected {
		b.ours.mailSeen = b.seenBefore
	}
}

// look finds out which of the tables that are mostly empty have rows.
func (b *runbook) look() error {
	if b.tables.looked {
		return nil
	}
	b.tables.looked = true
	var waits, locks int64
	return b.j.rows(sqlTies, nil, []any{&waits, &locks}, func() error {
		b.tables.waits, b.tables.locks = waits != 0, locks != 0
		return nil
	})
}

// stepID is where a run's record is.
func stepID(run int64, n int) int64 { return run<<stepBits | int64(n) }

const (
	stepBits = 20
	stepMask = 1<<stepBits - 1
)

// bodyMax is how long an input or a result may be to lie in its run's row: what is
// longer would spill into overflow pages, which each update of the row rewrites.
const bodyMax = 2 << 10

func resultID(run int64) int64 { return run<<1 | 1 }
func inputID(run int64) int64  { return run << 1 }

const (
	sqlNewBody = `insert or replace into weir_run_bodies (id, body) values (?1, ?2)`
	sqlBody    = `select body from weir_run_bodies where id = ?1`
)
