package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	weir "github.com/weir-go/weir"
)

// deadFlags select dead letters to act on: one by ID, or many of a queue.
type deadFlags struct {
	ID       string `arg:"" optional:"" help:"The message's ID."`
	Queue    string `help:"Whose dead letters; with an ID only if several queues hold it."`
	Matching string `placeholder:"TEXT" help:"All of --queue whose reason contains this."`
	All      bool   `help:"All of --queue."`
	DryRun   bool   `help:"Only count."`
	becauseFlags
}

// Validate is kong's.
func (f *deadFlags) Validate() error {
	switch {
	case f.ID != "" && (f.Matching != "" || f.All):
		return errors.New("give an ID, or --queue with --matching or --all, not both")
	case f.ID == "" && f.Matching == "" && !f.All:
		return errors.New("which dead letters? Give an ID, or --queue with --matching TEXT or --all")
	case f.Matching != "" && f.All:
		return errors.New("--matching and --all exclude each other")
	case f.ID == "" && f.Queue == "":
		return errors.New("--queue is missing: --matching and --all are about one queue")
	}
	return f.becauseFlags.Validate()
}

func (f *deadFlags) selection() weir.DeadSelection {
	return weir.DeadSelection{Queue: f.Queue, ID: f.ID, Matching: f.Matching, DryRun: f.DryRun}
}

// deadAct carries out an act on a selection.
type deadAct func(weir.DeadSelection, weir.Because) (weir.Acted, error)

// run carries out the act, call by call until nothing is left to do.
func (f *deadFlags) run(a *app, e *weir.Engine, act deadAct) (weir.Acted, error) {
	if f.ID != "" || f.DryRun {
		return act(f.selection(), f.because())
	}
	// What a retry brings back to life may be dead again before the last call, so
	// no more is done than there was to do.
	q, err := queueNamed(a, e, f.Queue)
	if err != nil {
		return weir.Acted{}, err
	}
	var total weir.Acted
	for {
		acted, err := act(f.selection(), f.because())
		total.Count += acted.Count
		if err != nil {
			if total.Count > 0 {
				err = fmt.Errorf("stopped after %s, run it again to go on: %w", plural(total.Count, "dead letter"), err)
			}
			return total, err
		}
		if !acted.More || acted.Count == 0 || total.Count >= q.Dead {
			return total, nil
		}
		a.progress("%s of about %s …", thousands(total.Count), thousands(q.Dead))
	}
}

// actedView is what was done to dead letters, in JSON.
type actedView struct {
	Verb   string `json:"verb"`
	Count  int64  `json:"count"`
	More   bool   `json:"more"` // of a dry run: there are more than count
	DryRun bool   `json:"dry_run"`
	By     string `json:"by"`
	Why    string `json:"why"`
}

func (f *deadFlags) print(a *app, verb string, acted weir.Acted) error {
	view := actedView{Verb: verb, Count: acted.Count, More: acted.More, DryRun: f.DryRun, By: f.By, Why: f.Why}
	did := map[string]string{"retry": "Retried", "discard": "Discarded"}[verb]
	return a.print(view, func(w *tabwriter.Writer) {
		switch {
		case f.DryRun && acted.More:
			fmt.Fprintf(w, "Would %s %s and more.\n", verb, plural(acted.Count, "dead letter"))
		case f.DryRun:
			fmt.Fprintf(w, "Would %s %s.\n", verb, plural(acted.Count, "dead letter"))
		case acted.Count == 0:
			fmt.Fprintln(w, "No dead letter matches: nothing was done.")
		default:
			fmt.Fprintf(w, "%s %s.\n", did, plural(acted.Count, "dead letter"))
		}
	})
}

// deadRetryCmd is weir dead retry.
type deadRetryCmd struct {
	deadFlags
	Body string `placeholder:"FILE" help:"Retry the one with ID with this file's content as its body, - for standard input. The journal keeps what was sent."`
}

// Validate is kong's.
func (c *deadRetryCmd) Validate() error {
	if c.Body != "" && c.ID == "" {
		return errors.New("--body is for one message: give its ID")
	}
	if c.Body != "" && c.DryRun {
		return errors.New("--body and --dry-run exclude each other")
	}
	return c.deadFlags.Validate()
}

// Run retries.
func (c *deadRetryCmd) Run(a *app) error {
	body, err := c.read(a)
	if err != nil {
		return err
	}
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	if err := c.checkBody(a, e, body); err != nil {
		return err
	}
	acted, err := c.run(a, e, func(s weir.DeadSelection, b weir.Because) (weir.Acted, error) {
		if c.Body != "" {
			return e.EditDead(a.ctx, s, body, b)
		}
		return e.RetryDead(a.ctx, s, b)
	})
	if err != nil {
		return err
	}
	return c.print(a, "retry", acted)
}

// bodyMax is more than any body may have; the engine says what exactly is too much.
const bodyMax = 16 << 20

func (c *deadRetryCmd) read(a *app) ([]byte, error) {
	if c.Body == "" {
		return nil, nil
	}
	from := a.in
	if c.Body != "-" {
		f, err := os.Open(c.Body)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	body, err := io.ReadAll(io.LimitReader(from, bodyMax))
	if err == nil && len(body) == 0 {
		err = fmt.Errorf("--body %s: it is empty", c.Body)
	}
	return body, err
}

// checkBody refuses a body that is no JSON where JSON was: it would only die again.
func (c *deadRetryCmd) checkBody(a *app, e *weir.Engine, body []byte) error {
	if c.Body == "" || json.Valid(body) {
		return nil
	}
	letters, err := e.Dead(a.ctx, weir.DeadQuery{ID: c.ID, Queue: c.Queue})
	if err != nil {
		return err
	}
	for _, d := range letters {
		if json.Valid(d.Message.Body) {
			return usageError(fmt.Errorf("--body %s is not JSON, and the body it replaces is", c.Body))
		}
	}
	return nil
}

// deadDiscardCmd is weir dead discard.
type deadDiscardCmd struct {
	deadFlags
}

// Run discards.
func (c *deadDiscardCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	acted, err := c.run(a, e, func(s weir.DeadSelection, b weir.Because) (weir.Acted, error) {
		return e.DiscardDead(a.ctx, s, b)
	})
	if err != nil {
		return err
	}
	return c.print(a, "discard", acted)
}
