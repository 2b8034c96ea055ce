package postgres

import (
	"cmp"
	"context"
	"slices"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/runwake"
)

const (
	askCountSpans = `select w.id, s.i, r.n, r.lowest, r.wake from weir.workflows w
		cross join unnest($1::bigint[], $2::bigint[]) with ordinality as s(lo, hi, i)
		cross join lateral (
			select count(*) as n, coalesce(min(no), 0) as lowest, coalesce(min(wake), 0) as wake from weir.runs where workflow = w.id and wake >= s.lo and wake <= s.hi) r
		where r.n > 0`
	askCountEnded = `select w.id, w.completed + coalesce(sum(y.done), 0)::bigint, w.failed + coalesce(sum(y.gone), 0)::bigint,
			w.cancelled + coalesce(sum(y.died), 0)::bigint
		from weir.workflows w left join weir.tallied y on y.workflow = w.id group by w.id`
	askStarts = `select no, started_us from weir.runs where no = any($1)`
	// The oldest are among the first runs kept.
	askOldestEnded = `select distinct on (workflow, outcome) workflow, outcome, started_us
		from (select no, workflow, outcome, started_us from weir.runs order by no limit 10000) r
		where outcome is not null order by workflow, outcome, no`
)

// tallyKey is what runs are counted by.
type tallyKey struct {
	workflow int64
	state    store.RunState
}

// Counts counts runs by workflow and state.
func (r runReader) Counts(ctx context.Context) ([]store.RunCount, error) {
	var out []store.RunCount
	err := r.s.read(ctx, func(t *tx) error {
		flow, err := readFlow(t)
		if err != nil {
			return err
		}
		counted := map[tallyKey]*store.RunCount{}
		if err := countUnfinished(t, counted); err != nil {
			return err
		}
		if err := countEnded(t, counted); err != nil {
			return err
		}
		for key, n := range counted {
			n.Workflow, n.State = flow[key.workflow], key.state
			out = append(out, *n)
		}
		return nil
	})
	order := []store.RunState{store.RunReady, store.RunRunning, store.RunWaiting, store.RunParked, "completed", "failed", "cancelled"}
	slices.SortFunc(out, func(a, b store.RunCount) int {
		return cmp.Or(cmp.Compare(a.Workflow, b.Workflow), cmp.Compare(slices.Index(order, a.State), slices.Index(order, b.State)))
	})
	return out, err
}

func countUnfinished(t *tx, counted map[tallyKey]*store.RunCount) error {
	var spans []runwake.Span
	var states []store.RunState // of spans
	for _, state := range []store.RunState{store.RunReady, store.RunRunning, store.RunWaiting, store.RunParked} {
		for _, s := range runwake.SpansOf(state, t.now) {
			spans, states = append(spans, s), append(states, state)
		}
	}
	from, to := ends(spans)
	lowest := map[tallyKey]int64{}
	err := t.get(askCountSpans, func(read scan) error {
		var workflow, i, n, low, wake int64
		if err := read(&workflow, &i, &n, &low, &wake); err != nil {
			return err
		}
		key := tallyKey{workflow, states[i-1]}
		if counted[key] == nil {
			counted[key], lowest[key] = &store.RunCount{}, low
		}
		c := counted[key]
		c.Count += n
		if since, ok := runwake.SinceFirst(spans[i-1], wake); ok && (c.Since.IsZero() || at(since).Before(c.Since)) {
			c.Since = at(since)
		}
		lowest[key] = min(lowest[key], low)
		return nil
	}, from, to)
	if err != nil || len(lowest) == 0 {
		return err
	}
	var numbers []int64
	for _, no := range lowest {
		numbers = append(numbers, no)
	}
	return t.get(askStarts, func(read scan) error {
		var no, started int64
		err := read(&no, &started)
		for key, low := range lowest {
			if low == no {
				counted[key].Oldest = at(started)
			}
		}
		return err
	}, numbers)
}

func countEnded(t *tx, counted map[tallyKey]*store.RunCount) error {
	t.ask(askCountEnded, func(read scan) error {
		var workflow int64
		var n [3]int64
		err := read(&workflow, &n[0], &n[1], &n[2])
		for i, count := range n {
			if count > 0 {
				counted[tallyKey{workflow, store.RunState(store.Outcome(i + 1).String())}] = &store.RunCount{Count: count}
			}
		}
		return err
	})
	return t.get(askOldestEnded, func(read scan) error {
		var workflow, outcome, started int64
		err := read(&workflow, &outcome, &started)
		if n := counted[tallyKey{workflow, store.RunState(store.Outcome(outcome).String())}]; n != nil {
			n.Oldest = at(started)
		}
		return err
	})
}
