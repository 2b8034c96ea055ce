package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// runLsCmd is weir run ls.
type runLsCmd struct {
	Workflow string `placeholder:"NAME" help:"Only this workflow's."`
	State    string `help:"Only those that are ready, running, waiting, needs-person, completed, failed, cancelled, or ended (the last three)."`
	Prefix   string `placeholder:"TEXT" help:"Only those whose ID begins with this."`
	Before   string `placeholder:"NUMBER" help:"Only those started before the one with this number: the next page."`
	listFlags
}

// runStates are the states that a list may be of.
var runStates = []string{"ready", "running", "waiting", "needs-person", "completed", "failed", "cancelled", "ended"}

// Validate is kong's.
func (c *runLsCmd) Validate() error {
	if c.State != "" && !slices.Contains(runStates, c.State) {
		return fmt.Errorf("--state is %q, want one of %s", c.State, strings.Join(runStates, ", "))
	}
	return c.listFlags.Validate()
}

func (c *runLsCmd) query(e *weir.Engine) (weir.RunQuery, error) {
	q := weir.RunQuery{Workflow: c.Workflow, State: weir.RunState(c.State), IDPrefix: c.Prefix, Max: c.Max}
	if c.Before == "" {
		return q, nil
	}
	inc, no, err := store.ParseRunID(c.Before)
	if err != nil {
		return q, usageError(fmt.Errorf("--before: %w", err))
	}
	q.Before = no
	return q, ofThisStore(e, inc, "run "+c.Before)
}

// Run lists runs.
func (c *runLsCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	q, err := c.query(e)
	if err != nil {
		return err
	}
	runs, err := e.Runs(a.ctx, q)
	if err != nil {
		return err
	}
	view := struct {
		Runs []runView `json:"runs"`
		Next *string   `json:"next"` // give it to --before; null: there are no more
	}{Runs: numbers(e).views(runs)}
	if len(runs) == c.Max {
		view.Next = &view.Runs[len(runs)-1].Number
	}
	return a.print(view, func(w *tabwriter.Writer) {
		if len(runs) == 0 {
			fmt.Fprintln(w, "No runs.")
			return
		}
		runGrid(runs, time.Now()).write(w)
		if view.Next != nil {
			fmt.Fprintf(w, "There may be more: --before %s, or --max.\n", *view.Next)
		}
	})
}

const runReasonWidth = 44 // runes of a reason beside a run's other columns

func runGrid(runs []weir.RunRow, now time.Time) *grid {
	g := newGrid(">AGE", "WORKFLOW", "ID", "STATE", "NEXT", "REASON")
	for _, r := range runs {
		g.row(age(now, r.StartedAt), r.Workflow, clip(r.ID, keyWidth), string(r.State), runNext(r, now), dash(clip(firstLine(r.Reason), runReasonWidth)))
	}
	return g
}
