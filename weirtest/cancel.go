package weirtest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// cancelAll asks all runs to end, when it is time, as a person does who asks until there is an answer.
func (tr *trial) cancelAll(e *Engine) {
	select {
	case <-tr.world.fuse.reached:
	case <-e.done:
		return
	}
	err := e.cancelAll(e.life)
	switch {
	case err == nil:
		tr.cancelled = true
	case e.life.Err() == nil && !tr.world.fuse.blown():
		tr.refused = fmt.Errorf("cancel all runs: %w", err)
	}
}

func (e *Engine) cancelAll(ctx context.Context) error {
	for q := (weir.RunQuery{Max: store.MaxList}); ; {
		page, err := e.Runs(ctx, q)
		if err != nil {
			return err
		}
		for i := range page {
			err := e.CancelRun(ctx, weir.RunSelection{Workflow: page[i].Workflow, ID: page[i].ID}, weir.Because{By: "weirtest", Why: "it cancels all runs"})
			if err != nil && !errors.Is(err, weir.ErrConflict) { // it has ended
				return err
			}
		}
		if len(page) < q.Max {
			return nil
		}
		q.Before = page[len(page)-1].No
	}
}

// cancels tries the scenario with all runs cancelled: first undisturbed, then with crashes from there on.
func (c *crashes) cancels(first *outcome) []outcome {
	if !c.options.Cancels {
		return nil
	}
	var calmly, crashing []plan
	for at := range spread(len(first.points), c.options.Points) {
		calmly = append(calmly, plan{cancel: at})
	}
	outcomes := c.tryAll(calmly)
	for i := range outcomes {
		n := outcomes[i].cancel
		for at := n + 1; at <= len(outcomes[i].points); at++ {
			p := outcomes[i].points[at-1]
			if !p.claim {
				crashing = append(crashing, plan{before, at, n})
			}
			if p.closures {
				crashing = append(crashing, plan{within, at, n})
			}
			crashing = append(crashing, plan{after, at, n})
		}
		for at := range outcomes[i].order {
			crashing = append(crashing, plan{unacted, at + 1, n})
		}
	}
	var some []plan
	for i := range spread(len(crashing), c.options.Points) {
		some = append(some, crashing[i-1])
	}
	if c.options.Only != "" {
		other := func(p plan) bool { return p.String() != c.options.Only }
		outcomes = slices.DeleteFunc(outcomes, func(o outcome) bool { return other(o.plan) })
		some = slices.DeleteFunc(some, other)
	}
	return append(outcomes, c.tryAll(some)...)
}

// cancelled says whether some, and whether all, of a trial's runs were cancelled that undisturbed are not.
func (c *comparison) cancelled() (some, all bool) {
	all = c.got.cancel > 0
	for name, end := range c.got.runs {
		is := c.got.cancel > 0 && end.state == Cancelled && c.usual.runs[name].state != Cancelled
		some, all = some || is, all && is
	}
	return some, all
}
