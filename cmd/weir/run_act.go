package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"

	weir "github.com/weir-go/weir"
)

// runActFlags name a run to act on.
type runActFlags struct {
	runFlags
	becauseFlags
}

// Validate is kong's.
func (f *runActFlags) Validate() error { return f.becauseFlags.Validate() }

// stepFlag names a step of it.
type stepFlag struct {
	Step string `placeholder:"NAME" help:"The step's name as weir run show tells it; not needed if only one needs a person."`
}

// runActView is what was asked of a run, in JSON.
type runActView struct {
	Verb     string `json:"verb"` // cancel, retry, settle, skip, abandon
	Workflow string `json:"workflow"`
	ID       string `json:"id"`
	Step     string `json:"step"` // empty: the one that needed a person, or the run
	By       string `json:"by"`
	Why      string `json:"why"`
}

// act finds the run, has do act on it, and says what that means.
func (f *runActFlags) act(a *app, s runActView, means string, do func(*weir.Engine, weir.RunSelection) error) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	story, err := f.find(a, e)
	if err != nil {
		return err
	}
	s.Workflow, s.ID, s.By, s.Why = story.Workflow, story.ID, f.By, f.Why
	if err := do(e, weir.RunSelection{Workflow: s.Workflow, ID: s.ID, Step: s.Step}); err != nil {
		return err
	}
	return a.print(s, func(w *tabwriter.Writer) {
		step := ""
		if s.Step != "" {
			step = ", step " + s.Step
		}
		writeWrapped(w, "", safe(fmt.Sprintf("Run %s of %s%s: %s", s.ID, s.Workflow, step, means)))
	})
}

// runCancelCmd is weir run cancel.
type runCancelCmd struct {
	runActFlags
}

// Run cancels.
func (c *runCancelCmd) Run(a *app) error {
	return c.act(a, runActView{Verb: "cancel"}, "asked to end. A call under way ends first, then what was done is compensated; weir run why tells.",
		func(e *weir.Engine, s weir.RunSelection) error { return e.CancelRun(a.ctx, s, c.because()) })
}

// runRetryCmd is weir run retry.
type runRetryCmd struct {
	runActFlags
	stepFlag
}

// Run retries.
func (c *runRetryCmd) Run(a *app) error {
	return c.act(a, runActView{Verb: "retry", Step: c.Step}, "to be tried again, with all attempts before it.",
		func(e *weir.Engine, s weir.RunSelection) error { return e.RetryRun(a.ctx, s, c.because()) })
}

// runSettleCmd is weir run settle.
type runSettleCmd struct {
	runActFlags
	stepFlag
	Value  *string `placeholder:"JSON" help:"It has happened, and this is what it returned; null if it returns nothing."`
	Failed bool    `help:"It has not happened and is not to be tried again: the workflow gets an error with the reason."`
}

// Validate is kong's.
func (c *runSettleCmd) Validate() error {
	switch {
	case c.Value == nil && !c.Failed:
		return errors.New("what came of it? Give --value JSON (null if it returns nothing) or --failed")
	case c.Value != nil && c.Failed:
		return errors.New("--value and --failed exclude each other")
	case c.Value != nil && !json.Valid([]byte(*c.Value)):
		return fmt.Errorf("--value %s is not JSON: a text needs its quotes too, --value '\"text\"'", *c.Value)
	}
	return c.becauseFlags.Validate()
}

// Run settles.
func (c *runSettleCmd) Run(a *app) error {
	settled, means := weir.Settled{Failed: c.Failed}, "settled as failed: the workflow gets an error with your reason."
	if c.Value != nil {
		settled.Value, means = []byte(*c.Value), "settled as done: the workflow goes on with your value."
	}
	return c.act(a, runActView{Verb: "settle", Step: c.Step}, means,
		func(e *weir.Engine, s weir.RunSelection) error { return e.SettleRun(a.ctx, s, settled, c.because()) })
}

// runSkipCmd is weir run skip.
type runSkipCmd struct {
	runActFlags
	stepFlag
}

// Run skips a step.
func (c *runSkipCmd) Run(a *app) error {
	return c.act(a, runActView{Verb: "skip", Step: c.Step}, "goes on without it; the story keeps it as omitted.",
		func(e *weir.Engine, s weir.RunSelection) error { return e.SkipRun(a.ctx, s, c.because()) })
}

// runAbandonCmd is weir run abandon.
type runAbandonCmd struct {
	runActFlags
}

// Run gives a run up.
func (c *runAbandonCmd) Run(a *app) error {
	return c.act(a, runActView{Verb: "abandon"}, "given up. What was done is compensated, then it fails with your reason.",
		func(e *weir.Engine, s weir.RunSelection) error { return e.AbandonRun(a.ctx, s, c.because()) })
}
