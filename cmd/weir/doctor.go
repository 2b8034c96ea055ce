package main

import (
	"fmt"
	"os"
	"runtime"
	"text/tabwriter"
	"time"

	weir "github.com/weir-go/weir"
)

// doctorCmd is weir doctor.
type doctorCmd struct{}

// doctorView is what doctor found, in JSON.
type doctorView struct {
	OK       bool          `json:"ok"`
	Store    storeView     `json:"store"`
	Findings []problemView `json:"findings"`
	Unseen   []problemView `json:"unseen,omitempty"` // what could not be looked at
}

// Run examines the store.
func (c *doctorCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	s, err := readState(a, e, 0)
	if err != nil {
		return err
	}
	found, err := e.Check(a.ctx)
	if err != nil {
		return err
	}
	locks, err := e.Locks(a.ctx, locksLooked)
	if err != nil {
		return err
	}
	findings := []problemView{}
	if !a.onServer() {
		findings = fileFindings(a.store)
	}
	findings = append(findings, s.unworked()...)
	findings = append(findings, lockCircles(locks, s.now)...)
	shut, err := shutInlets(a, e, s.running)
	if err != nil {
		return err
	}
	findings = append(findings, shut...)
	if s.running {
		entities, err := e.Entities(a.ctx)
		if err != nil {
			return err
		}
		findings = append(findings, unheardOwners(entities, s.now)...)
	}
	var unseen []problemView
	for _, f := range found {
		if f.Unseen {
			unseen = append(unseen, problemView{What: f.What, Do: f.Do})
		} else {
			findings = append(findings, problemView{What: f.What, Do: f.Do})
		}
	}
	err = a.print(doctorView{len(findings) == 0, s.store, findings, unseen}, func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "%s (%s, schema %d, incarnation %s)\n", safe(s.store.Name), s.store.Kind, s.store.Schema, s.store.Incarnation)
		for _, u := range unseen {
			fmt.Fprintf(w, "Not looked at: %s (%s).\n", safe(u.What), safe(u.Do))
		}
		if len(findings) == 0 {
			fmt.Fprintln(w, "All is well.")
			return
		}
		writeProblems(w, findings)
	})
	if err == nil && len(findings) > 0 {
		err = errWrong
	}
	return err
}

// shutInlets are boundaries for which nothing comes, as the running process says.
func shutInlets(a *app, e *weir.Engine, running bool) (findings []problemView, err error) {
	if !running {
		return nil, nil
	}
	_, in, err := e.Lanes(a.ctx)
	for _, l := range in {
		if l.From == "" {
			findings = append(findings, problemView{
				What: fmt.Sprintf("nothing comes in for boundary %s: %s", l.Lane, l.State),
				Do:   "see that its service reaches the broker, and mend what the error says; senders keep what they have meanwhile",
			})
		}
	}
	return findings, err
}

// loadPatience is how long a first snapshot may bring no page before somebody is asked whether there is such an entity.
const loadPatience = 10 * time.Minute

// unheardOwners are entities of which nothing has ever come: their owner was always away, or there is none.
func unheardOwners(rows []weir.EntityRow, now time.Time) (findings []problemView) {
	for _, r := range rows {
		if s := r.Snapshot; s != nil && !s.Loaded && now.Sub(s.PageAt) >= loadPatience {
			findings = append(findings, problemView{
				What: fmt.Sprintf("the replica of %s is not loaded, and nothing has come for it for %s", r.Entity, now.Sub(s.PageAt).Round(time.Second)),
				Do:   "see that its owner runs and owns (weir.Own) an entity of this very name, in a boundary that weir boundary ls shows as not waiting",
			})
		}
	}
	return findings
}

// fileFindings looks at the journal's files from outside.
func fileFindings(path string) []problemView {
	findings := []problemView{}
	if runtime.GOOS == "windows" { // where these bits say nothing
		return findings
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if err != nil {
			continue
		}
		if info.Mode().Perm()&0o002 != 0 {
			findings = append(findings, problemView{
				What: fmt.Sprintf("%s may be written by everybody (%s)", name, info.Mode().Perm()),
				Do:   "chmod o-rwx " + name + ": it holds all messages",
			})
		}
	}
	return findings
}
