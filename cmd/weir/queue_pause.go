package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	weir "github.com/weir-go/weir"
)

// becauseFlags are who acts and why: the audit keeps both.
type becauseFlags struct {
	Why string `required:"" placeholder:"REASON" help:"Why; kept in the audit."`
	By  string `default:"${by}" placeholder:"WHO" help:"Who acts; kept in the audit (default: the user, ${by})."`
}

// Validate is kong's.
func (f becauseFlags) Validate() error {
	if strings.TrimSpace(f.Why) == "" {
		return errors.New("--why is empty: the audit keeps the reason")
	}
	if strings.TrimSpace(f.By) == "" {
		return errors.New("--by WHO is missing: the audit keeps who acted")
	}
	return nil
}

func (f becauseFlags) because() weir.Because { return weir.Because{By: f.By, Why: f.Why} }

// queuePauseCmd is weir queue pause.
type queuePauseCmd struct {
	Name string `arg:"" help:"The queue."`
	becauseFlags
}

// Run pauses a queue.
func (c *queuePauseCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	if err := e.PauseQueue(a.ctx, c.Name, c.because()); err != nil {
		return err
	}
	return a.print(queueActView{c.Name, true, c.By, c.Why}, func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "Paused %s. Work under way is finished; weir queue resume %s lets it go on.\n", c.Name, c.Name)
	})
}

// queueResumeCmd is weir queue resume.
type queueResumeCmd struct {
	Name string `arg:"" help:"The queue."`
	becauseFlags
}

// Run resumes a queue.
func (c *queueResumeCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	if err := e.ResumeQueue(a.ctx, c.Name, c.because()); err != nil {
		return err
	}
	return a.print(queueActView{c.Name, false, c.By, c.Why}, func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "Resumed %s.\n", c.Name)
	})
}

// queueActView is what was done to a queue, in JSON.
type queueActView struct {
	Queue  string `json:"queue"`
	Paused bool   `json:"paused"`
	By     string `json:"by"`
	Why    string `json:"why"`
}
