package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	weir "github.com/weir-go/weir"
)

// runWhyCmd is weir run why.
type runWhyCmd struct {
	runFlags
}

// runWhyView is why a run does not go on, in JSON.
type runWhyView struct {
	Workflow string   `json:"workflow"`
	ID       string   `json:"id"`
	State    string   `json:"state"`
	Why      []string `json:"why"` // sentences whose subject is the run
}

// Run tells why a run does not go on.
func (c *runWhyCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	story, err := c.find(a, e)
	if err != nil {
		return err
	}
	in, err := surroundings(a, e)
	if err != nil {
		return err
	}
	view := runWhyView{Workflow: story.Workflow, ID: story.ID, State: string(story.State), Why: weir.WhyNotRunning(story, in)}
	return a.print(view, func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "run %s of %s\n", safe(story.ID), safe(story.Workflow))
		writeWhy(w, view.Why)
	})
}

func writeWhy(w io.Writer, why []string) {
	for _, sentence := range why {
		writeWrapped(w, "- ", safe(sentence))
	}
}
