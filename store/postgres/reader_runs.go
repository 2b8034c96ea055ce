package postgres

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/runwake"
)

// runReader answers questions about runs, each from one committed state.
type runReader struct{ reader }

var _ store.RunReader = runReader{}

// Runs answers questions about runs.
func (r reader) Runs() store.RunReader { return runReader{r} }

const (
	runColumns      = ` no, workflow, id, wake, outcome, started_us, ended_us, deadline_us, crashes, coalesce(parent, 0), coalesce(reason, '') `
	askRunRows      = `select` + runColumns + `from weir.runs where no = any($1) order by no desc`
	askRunsBefore   = `select` + runColumns + `from weir.runs where no < $1 order by no desc limit $2`
	askChildren     = `select` + runColumns + `from weir.runs where parent = $1 order by no limit $2`
	askUnwellBefore = `select` + runColumns + `from weir.runs where outcome > 1 and outcome = $3 and no < $1 order by no desc limit $2`

	askWorkflows = `select id, name from weir.workflows order by id`
	askRunSpans  = `select r.no from unnest($1::int[]) as w(id) cross join unnest($2::bigint[], $3::bigint[]) as s(lo, hi)
		cross join lateral (select no from weir.runs where workflow = w.id and wake >= s.lo and wake <= s.hi limit $4) r limit $4`
	askRunsByID = `select r.no from unnest($1::int[]) as w(id)
		cross join lateral (select no from weir.runs where workflow = w.id and id >= $2 and id < $3 limit $4) r limit $4`
	askRunsOfFlow = `select r.no from unnest($1::int[]) as w(id)
		cross join lateral (select no from weir.runs where workflow = w.id limit $2) r limit $2`

	// Open records tell what a run waits for; the newest ones, should it have very many.
	askOpenReasons = `select r.no, s.reason from unnest($1::bigint[]) as r(no) cross join lateral (
			select n, reason from (select n, state, reason from weir.steps where run = r.no order by n desc limit 500) s
			where state < $2 and reason is not null order by n limit 10) s
		order by r.no, s.n`
)

const (
	// gatherMax is how many numbers of runs are gathered from an index to be put in
	// order. Where there are more, they are dense enough to be met on a walk.
	gatherMax = 10_000
	// walkMax is how many runs such a walk looks at, walkChunk of them at a time.
	walkMax   = 200_000
	walkChunk = 5_000
)

// runLister is one call of List.
type runLister struct {
	t    *tx
	q    store.RunQuery
	max  int
	flow map[int64]string // names of workflows
	out  []store.RunRow
}

// readFlow gives the workflows' names by their numbers.
func readFlow(t *tx) (map[int64]string, error) {
	names := map[int64]string{}
	return names, t.get(askWorkflows, func(read scan) error {
		var id int64
		var name string
		err := read(&id, &name)
		names[id] = name
		return err
	})
}

// List lists runs, newest first, without inputs and results.
func (r runReader) List(ctx context.Context, q store.RunQuery) ([]store.RunRow, error) {
	if !storable(q.IDPrefix) {
		return nil, nil
	}
	l := &runLister{q: q, max: listMax(q.Max)}
	if l.q.Before <= 0 {
		l.q.Before = math.MaxInt64
	}
	err := r.s.read(ctx, func(t *tx) error {
		var err error
		l.t = t
		if l.flow, err = readFlow(t); err != nil {
			return err
		}
		if err := l.list(); err != nil {
			return err
		}
		return addReasons(t, l.out)
	})
	return l.out, err
}

func (l *runLister) list() error {
	if outcome := outcomeOf(l.q.State); outcome > store.Completed {
		return l.walk(askUnwellBefore, int(outcome))
	}
	numbers, all, err := l.gather()
	if err != nil {
		return err
	}
	if !all {
		return l.walk(askRunsBefore)
	}
	numbers = slices.DeleteFunc(numbers, func(no int64) bool { return no >= int64(l.q.Before) })
	slices.Sort(numbers)
	slices.Reverse(numbers)
	for chunk := range slices.Chunk(numbers, store.MaxList) {
		if len(l.out) == l.max {
			break
		}
		if err := l.t.get(askRunRows, func(read scan) error { return l.row(read, nil) }, chunk); err != nil {
			return err
		}
	}
	return nil
}

// gather lists the numbers of the runs that the query may mean, from the index that
// narrows it most. all is false when they are too many, or all runs are meant.
func (l *runLister) gather() (numbers []int64, all bool, err error) {
	spans := runwake.SpansOf(l.q.State, l.t.now)
	if spans == nil && l.q.IDPrefix == "" && l.q.Workflow == "" {
		return nil, false, nil
	}
	var flows []int64
	for id, name := range l.flow {
		if l.q.Workflow == "" || l.q.Workflow == name {
			flows = append(flows, id)
		}
	}
	switch {
	case l.q.IDPrefix != "":
		numbers, err = l.t.numbers(askRunsByID, flows, l.q.IDPrefix, l.q.IDPrefix+"\U0010FFFF", gatherMax+1)
	case spans != nil:
		from, to := ends(spans)
		numbers, err = l.t.numbers(askRunSpans, flows, from, to, gatherMax+1)
	default:
		numbers, err = l.t.numbers(askRunsOfFlow, flows, gatherMax+1)
	}
	return numbers, len(numbers) <= gatherMax, err
}

// ends are the ends of spans, as arrays.
func ends(spans []runwake.Span) (from, to []int64) {
	for _, s := range spans {
		from, to = append(from, s.From), append(to, s.To)
	}
	return from, to
}

// walk takes the rows that the query means, going down from Before.
func (l *runLister) walk(query string, args ...any) error {
	before, chunk := int64(l.q.Before), store.MaxList
	for looked := 0; looked < walkMax && len(l.out) < l.max; chunk = walkChunk {
		rows := 0
		err := l.t.get(query, func(read scan) error {
			rows++
			return l.row(read, &before)
		}, append([]any{before, chunk}, args...)...)
		if err != nil || rows < chunk {
			return err
		}
		looked += rows
	}
	return nil
}

// row takes a run, if it is meant, and notes its number.
func (l *runLister) row(read scan, no *int64) error {
	r, err := seeRun(read, l.flow, l.t.now)
	if no != nil {
		*no = int64(r.No)
	}
	if err == nil && len(l.out) < l.max && l.means(&r) {
		l.out = append(l.out, r)
	}
	return err
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

// addReasons adds what the waiting runs wait for.
func addReasons(t *tx, runs []store.RunRow) error {
	waiting := map[int64]int{}
	var numbers []int64
	for i := range runs {
		if runs[i].State == store.RunWaiting {
			waiting[int64(runs[i].No)] = i
			numbers = append(numbers, int64(runs[i].No))
		}
	}
	if len(numbers) == 0 {
		return nil
	}
	return t.get(askOpenReasons, func(read scan) error {
		var no int64
		var reason string
		err := read(&no, &reason)
		r := &runs[waiting[no]]
		if r.Reason != "" {
			r.Reason += "; "
		}
		r.Reason += reason
		return err
	}, numbers, int(store.StepDone))
}

// seeRun reads a row of runColumns. The reason is of those that ended or are parked.
func seeRun(read scan, flow map[int64]string, now int64) (store.RunRow, error) {
	var r store.RunRow
	var workflow, started int64
	var wake, outcome, ended, deadline *int64
	var reason string
	if err := read(&r.No, &workflow, &r.ID, &wake, &outcome, &started, &ended, &deadline, &r.Crashes, &r.Parent, &reason); err != nil {
		return r, err
	}
	r.Workflow, r.StartedAt, r.EndedAt, r.Deadline = flow[workflow], at(started), moment(ended), moment(deadline)
	if wake == nil {
		r.State, r.Reason = store.RunState(store.Outcome(deref(outcome)).String()), reason
		return r, nil
	}
	r.State, r.Wake, r.Process = runwake.StateOf(*wake, now)
	if r.State == store.RunParked {
		r.Reason = reason
	}
	return r, nil
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
	askRunOf    = `select r.no from weir.runs r join weir.workflows w on w.id = r.workflow where w.name = $1 and r.id = $2`
	askRunsWith = `select w.name, r.no from weir.workflows w cross join lateral (
			select no from weir.runs where workflow = w.id and id = $1 limit 1) r
		order by w.name collate "C"`
	askEnds = `select no, id, coalesce(outcome, 0), result, coalesce(reason, ''), ended_us from weir.runs where no = any($1)`
)

// findRun finds a run by its workflow, which may be empty, and ID.
func findRun(t *tx, workflow, id string) (no int64, err error) {
	var flows []string
	switch {
	case !storable(workflow) || !storable(id):
	case workflow != "":
		no, _, err = t.number(askRunOf, workflow, id)
	default:
		err = t.get(askRunsWith, func(read scan) error {
			var name string
			err := read(&name, &no)
			flows = append(flows, name)
			return err
		}, id)
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

// readEnds is how runs ended, by number.
func readEnds(t *tx, numbers []int64) (map[int64]*store.RunEnd, error) {
	found := map[int64]*store.RunEnd{}
	if len(numbers) == 0 {
		return found, nil
	}
	return found, t.get(askEnds, func(read scan) error {
		e := &store.RunEnd{}
		var ended *int64
		err := read(&e.No, &e.ID, &e.Outcome, &e.Result, &e.Reason, &ended)
		e.EndedAt = moment(ended)
		found[int64(e.No)] = e
		return err
	}, numbers)
}

// End is how a run ended, or that it has not.
func (r runReader) End(ctx context.Context, workflow, id string) (store.RunEnd, error) {
	var end store.RunEnd
	err := r.s.read(ctx, func(t *tx) error {
		no, err := findRun(t, workflow, id)
		if err != nil {
			return err
		}
		found, err := readEnds(t, []int64{no})
		if e := found[no]; e != nil {
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
	numbers := make([]int64, len(runs))
	for i, no := range runs {
		numbers[i] = int64(no)
	}
	var ends []store.RunEnd
	err := r.s.read(ctx, func(t *tx) error {
		found, err := readEnds(t, numbers)
		for _, e := range found {
			if e.Outcome != store.Running {
				ends = append(ends, *e)
			}
		}
		return err
	})
	return ends, err
}
