package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/runwake"
)

// runReader answers questions about runs, each from one snapshot.
type runReader struct{ reader }

var _ store.RunReader = runReader{}

// Runs answers questions about runs.
func (r reader) Runs() store.RunReader { return runReader{r} }

const (
	runRowColumns = ` no, workflow, id, wake, outcome, started_us, ended_us, deadline_us, crashes, parent, reason `
	runRowAt      = `select` + runRowColumns + `from weir_runs where no = ?1`
	runRowsBefore = `select` + runRowColumns + `from weir_runs where no < ?1 order by no desc`
	childrenOf    = `select` + runRowColumns + `from weir_runs indexed by weir_runs_parent where parent = ?1 order by no limit ?2`
	unwellBefore  = `select` + runRowColumns + `from weir_runs indexed by weir_runs_unwell where outcome > 1 and outcome = ?2 and no < ?1 order by no desc`

	runsInSpan     = `select no from weir_runs indexed by weir_runs_wake where workflow = ?1 and wake >= ?2 and wake <= ?3 limit ?4`
	runsByID       = `select no from weir_runs where workflow = ?1 and id >= ?2 and id < ?3 limit ?4`
	runsOfWorkflow = `select no from weir_runs where workflow = ?1 limit ?2`

	// Open records tell what a run waits for; the newest ones, should it have very many.
	openReasons = `select reason from weir_steps where id <= ?2
		and id >= coalesce((select id from weir_steps where id between ?1 and ?2 order by id desc limit 1 offset 500), ?1)
		and state < ?3 and reason is not null order by id limit 10`
)

const (
	// gatherMax is how many numbers of runs are gathered from an index to be put in
	// order. Where there are more, they are dense enough to be met on a walk.
	gatherMax = 10_000
	// walkMax is how many runs such a walk looks at.
	walkMax = 200_000
)

// runLister is one call of List.
type runLister struct {
	c    *conn
	q    store.RunQuery
	now  int64
	max  int
	flow map[int64]string // names of workflows
	out  []store.RunRow
}

// readWorkflows gives the workflows' names by their numbers.
func readWorkflows(c *conn) (map[int64]string, error) {
	names := map[int64]string{}
	err := c.query(sqlWorkflows, nil, func(st *sqlite.Stmt) error {
		names[st.ColumnInt64(0)] = st.ColumnText(1)
		return nil
	})
	return names, err
}

// List lists runs, newest first, without inputs and results.
func (r runReader) List(ctx context.Context, q store.RunQuery) ([]store.RunRow, error) {
	l := &runLister{q: q, now: us(r.s.now()), max: listMax(q.Max)}
	if l.q.Before <= 0 {
		l.q.Before = math.MaxInt64
	}
	err := r.s.read(ctx, func(c *conn) error {
		var err error
		l.c = c
		if l.flow, err = readWorkflows(c); err != nil {
			return err
		}
		if err := l.list(); err != nil {
			return err
		}
		return l.reasons()
	})
	return l.out, err
}

func (l *runLister) list() error {
	if outcome := outcomeOf(l.q.State); outcome > store.Completed {
		return l.walk(unwellBefore, int64(l.q.Before), int64(outcome))
	}
	numbers, all, err := l.gather()
	if err != nil {
		return err
	}
	if !all {
		return l.walk(runRowsBefore, int64(l.q.Before))
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	for _, no := range numbers {
		if no >= int64(l.q.Before) {
			continue
		}
		if len(l.out) == l.max {
			return nil
		}
		if err := l.walk(runRowAt, no); err != nil {
			return err
		}
	}
	return nil
}

// gather lists the numbers of the runs that the query may mean, from the index that
// narrows it most. all is false when they are too many, or all runs are meant.
func (l *runLister) gather() (numbers []int64, all bool, err error) {
	spans := runwake.SpansOf(l.q.State, l.now)
	if spans == nil && l.q.IDPrefix == "" && l.q.Workflow == "" {
		return nil, false, nil
	}
	take := func(query string, args ...any) error {
		return l.c.query(query, append(args, gatherMax+1-len(numbers)), func(st *sqlite.Stmt) error {
			numbers = append(numbers, st.ColumnInt64(0))
			return nil
		})
	}
	for id, name := range l.flow {
		if l.q.Workflow != "" && l.q.Workflow != name {
			continue
		}
		switch {
		case l.q.IDPrefix != "":
			err = take(runsByID, id, l.q.IDPrefix, l.q.IDPrefix+"\U0010FFFF")
		case spans == nil:
			err = take(runsOfWorkflow, id)
		}
		if l.q.IDPrefix == "" {
			for _, s := range spans {
				if err == nil {
					err = take(runsInSpan, id, s.From, s.To)
				}
			}
		}
		if err != nil {
			return nil, false, err
		}
	}
	return numbers, len(numbers) <= gatherMax, nil
}

// enough makes success of an end that was called for.
func enough(err error) error {
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// walk takes the rows of a statement that the query means.
func (l *runLister) walk(query string, args ...any) error {
	looked := 0
	err := l.c.query(query, args, func(st *sqlite.Stmt) error {
		if looked++; looked > walkMax || len(l.out) == l.max {
			return errEnough
		}
		if row := runRow(st, l.flow, l.now); l.means(&row) {
			l.out = append(l.out, row)
		}
		return nil
	})
	return enough(err)
}

func (l *runLister) means(r *store.RunRow) bool {
	switch l.q.State {
	case "", r.State:
	case store.RunEnded:
		if r.EndedAt.IsZero() {
			return false
		}
	default:
		return false
	}
	return (l.q.Workflow == "" || l.q.Workflow == r.Workflow) && strings.HasPrefix(r.ID, l.q.IDPrefix)
}

// reasons adds what the waiting runs wait for.
func (l *runLister) reasons() error {
	for i := range l.out {
		if r := &l.out[i]; r.State == store.RunWaiting {
			var err error
			if r.Reason, err = waitReason(l.c, int64(r.No)); err != nil {
				return err
			}
		}
	}
	return nil
}

func waitReason(c *conn, no int64) (string, error) {
	var all []string
	err := c.query(openReasons, []any{stepID(no, 0), stepID(no, stepMask), int64(store.StepDone)}, func(st *sqlite.Stmt) error {
		all = append(all, st.ColumnText(0))
		return nil
	})
	return strings.Join(all, "; "), err
}

// runRow reads a statement with runRowColumns. The reason is of those that ended or are parked.
func runRow(st *sqlite.Stmt, flow map[int64]string, now int64) store.RunRow {
	r := store.RunRow{No: store.RunNo(st.ColumnInt64(0)), Workflow: flow[st.ColumnInt64(1)], ID: st.ColumnText(2),
		StartedAt: moment(st, 5), EndedAt: moment(st, 6), Deadline: moment(st, 7), Crashes: st.ColumnInt(8),
		Parent: store.RunNo(st.ColumnInt64(9))}
	if st.ColumnIsNull(3) {
		r.State = store.RunState(store.Outcome(st.ColumnInt64(4)).String())
		r.Reason = st.ColumnText(10)
		return r
	}
	r.State, r.Wake, r.Process = runwake.StateOf(st.ColumnInt64(3), now)
	if r.State == store.RunParked {
		r.Reason = st.ColumnText(10)
	}
	return r
}

// outcomeOf is the outcome that a state of a query means; Running if none.
func outcomeOf(state store.RunState) store.Outcome {
	for o := store.Completed; o <= store.Cancelled; o++ {
		if string(state) == o.String() {
			return o
		}
	}
	return store.Running
}

const (
	countSpan  = `select count(*), coalesce(min(no), 0), coalesce(min(wake), 0) from weir_runs indexed by weir_runs_wake where workflow = ?1 and wake >= ?2 and wake <= ?3`
	startedAt  = `select started_us from weir_runs where no = ?1`
	countEnded = `select completed, failed, cancelled from weir_workflows where id = ?1`
	// The oldest are among the first runs kept.
	oldestEnded = `select started_us from (select * from weir_runs order by no limit 10000) where workflow = ?1 and outcome = ?2 limit 1`
)

// Counts counts runs by workflow and state.
func (r runReader) Counts(ctx context.Context) ([]store.RunCount, error) {
	var out []store.RunCount
	now := us(r.s.now())
	err := r.s.read(ctx, func(c *conn) error {
		flow, err := readWorkflows(c)
		if err != nil {
			return err
		}
		for id, name := range flow {
			for _, state := range [...]store.RunState{store.RunReady, store.RunRunning, store.RunWaiting, store.RunParked} {
				n, err := countState(c, id, runwake.SpansOf(state, now))
				if err != nil {
					return err
				}
				n.Workflow, n.State = name, state
				out = append(out, n)
			}
			ended, err := countOutcomes(c, id, name)
			if err != nil {
				return err
			}
			out = append(out, ended...)
		}
		return nil
	})
	out = slices.DeleteFunc(out, func(n store.RunCount) bool { return n.Count == 0 })
	slices.SortStableFunc(out, func(a, b store.RunCount) int { return strings.Compare(a.Workflow, b.Workflow) })
	return out, err
}

func countState(c *conn, workflow int64, spans []runwake.Span) (n store.RunCount, err error) {
	oldest := int64(math.MaxInt64)
	for _, s := range spans {
		err := c.query(countSpan, []any{workflow, s.From, s.To}, func(st *sqlite.Stmt) error {
			if st.ColumnInt64(0) > 0 {
				n.Count += st.ColumnInt64(0)
				oldest = min(oldest, st.ColumnInt64(1))
				if since, ok := runwake.SinceFirst(s, st.ColumnInt64(2)); ok && (n.Since.IsZero() || at(since).Before(n.Since)) {
					n.Since = at(since)
				}
			}
			return nil
		})
		if err != nil {
			return n, err
		}
	}
	if n.Count == 0 {
		return n, nil
	}
	started, _, err := c.number(startedAt, oldest)
	n.Oldest = at(started)
	return n, err
}

func countOutcomes(c *conn, workflow int64, name string) ([]store.RunCount, error) {
	var out []store.RunCount
	err := c.query(countEnded, []any{workflow}, func(st *sqlite.Stmt) error {
		for o := store.Completed; o <= store.Cancelled; o++ {
			out = append(out, store.RunCount{Workflow: name, State: store.RunState(o.String()), Count: st.ColumnInt64(int(o) - 1)})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range out {
		if out[i].Count == 0 {
			continue
		}
		started, _, err := c.number(oldestEnded, workflow, i+1)
		if err != nil {
			return nil, err
		}
		out[i].Oldest = at(started)
	}
	return out, nil
}

const (
	runOf    = `select r.no from weir_runs r join weir_workflows w on w.id = r.workflow where w.name = ?1 and r.id = ?2`
	runsWith = `select w.name, r.no from weir_workflows w cross join weir_runs r on r.workflow = w.id and r.id = ?1 order by w.name`
)

// findRun finds a run by its workflow, which may be empty, and ID.
func findRun(c *conn, workflow, id string) (int64, error) {
	var no int64
	var flows []string
	var err error
	if workflow != "" {
		no, _, err = c.number(runOf, workflow, id)
	} else {
		err = c.query(runsWith, []any{id}, func(st *sqlite.Stmt) error {
			flows, no = append(flows, st.ColumnText(0)), st.ColumnInt64(1)
			return nil
		})
	}
	switch {
	case err != nil:
		return 0, err
	case len(flows) > 1:
		return 0, &store.AmbiguousError{ID: id, Workflows: flows}
	case no == 0 && workflow != "":
		return 0, fmt.Errorf("%w: workflow %s has no run %q, or retention has deleted it", store.ErrNotFound, workflow, id)
	case no == 0:
		return 0, fmt.Errorf("%w: no workflow has a run %q, or retention has deleted it", store.ErrNotFound, id)
	}
	return no, nil
}

// End is how a run ended, or that it has not.
func (r runReader) End(ctx context.Context, workflow, id string) (store.RunEnd, error) {
	var end store.RunEnd
	err := r.s.read(ctx, func(c *conn) error {
		no, err := findRun(c, workflow, id)
		if err != nil {
			return err
		}
		p := postman{c: c}
		e, err := p.end(no)
		if e != nil {
			end = *e
		}
		return err
	})
	return end, err
}

// Ends are how those of some runs ended that have.
func (r runReader) Ends(ctx context.Context, runs []store.RunNo) ([]store.RunEnd, error) {
	if len(runs) > store.MaxList {
		return nil, fmt.Errorf("ends of %d runs asked for, at most %d", len(runs), store.MaxList)
	}
	var ends []store.RunEnd
	err := r.s.read(ctx, func(c *conn) error {
		p := postman{c: c}
		for _, no := range runs {
			e, err := p.end(int64(no))
			if err != nil {
				return err
			}
			if e != nil && e.Outcome != store.Running {
				ends = append(ends, *e)
			}
		}
		return nil
	})
	return ends, err
}
