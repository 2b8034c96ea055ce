package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	weir "github.com/weir-go/weir"
)

// auditCmd is weir audit.
type auditCmd struct {
	Ls auditLsCmd `cmd:"" help:"Operators' acts, newest first."`
}

// auditLsCmd is weir audit ls.
type auditLsCmd struct {
	listFlags
}

// auditView is an act in JSON.
type auditView struct {
	At     stamp           `json:"at"`
	By     string          `json:"by"`
	Verb   string          `json:"verb"`
	Target string          `json:"target"`
	Why    string          `json:"why"`
	Before json.RawMessage `json:"before"` // what changed, as the store tells it
	After  json.RawMessage `json:"after"`
}

// Run lists acts.
func (c *auditLsCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	rows, err := e.Audit(a.ctx, c.Max)
	if err != nil {
		return err
	}
	view := struct {
		Audit []auditView `json:"audit"`
	}{make([]auditView, len(rows))}
	for i, r := range rows {
		view.Audit[i] = auditView{At: stamp(r.At), By: r.By, Verb: r.Verb, Target: r.Target, Why: r.Why, Before: rawJSON(r.Before), After: rawJSON(r.After)}
	}
	return a.print(view, func(w *tabwriter.Writer) {
		if len(rows) == 0 {
			fmt.Fprintln(w, "No acts.")
			return
		}
		auditGrid(rows).write(w)
	})
}

// rawJSON is a stored JSON text as it is; anything else is null.
func rawJSON(s string) json.RawMessage {
	if !json.Valid([]byte(s)) {
		return json.RawMessage("null")
	}
	return json.RawMessage(s)
}

const stateWidth = 100 // runes of what was before and after

func auditGrid(rows []weir.AuditRow) *grid {
	g := newGrid("AT", "BY", "VERB", "TARGET", "WHY")
	for _, r := range rows {
		g.row(clockTime(r.At), clip(r.By, keyWidth), r.Verb, r.Target, clip(r.Why, reasonWidth))
		g.note("  before " + clip(r.Before, stateWidth))
		g.note("  after  " + clip(r.After, stateWidth))
	}
	return g
}
