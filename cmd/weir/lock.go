package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	weir "github.com/weir-go/weir"
)

// lockCmd is weir lock.
type lockCmd struct {
	Ls    lockLsCmd    `cmd:"" help:"Named locks that runs hold, with those in line for them."`
	Break lockBreakCmd `cmd:"" help:"Take a lock from its holder and give it to the next in line."`
}

// lockView is a lock in JSON.
type lockView struct {
	Name    string           `json:"name"`
	Fence   int64            `json:"fence"`  // higher than any holder's before
	Holder  string           `json:"holder"` // WORKFLOW/ID of the run
	Number  string           `json:"number"` // of that run
	Since   stamp            `json:"since"`
	Waiters []lockWaiterView `json:"waiters"` // in order
}

// lockWaiterView is a run in line for a lock.
type lockWaiterView struct {
	Run    string `json:"run"`    // WORKFLOW/ID
	Number string `json:"number"` // of the run
	Since  stamp  `json:"since"`
}

func (n runNumbers) locks(locks []weir.LockRow) []lockView {
	views := make([]lockView, len(locks))
	for i, l := range locks {
		views[i] = lockView{
			Name: l.Name, Fence: l.Fence, Holder: l.HolderID, Number: n.text(l.Holder), Since: stamp(l.Since),
			Waiters: make([]lockWaiterView, len(l.Waiters)),
		}
		for j, r := range l.Waiters {
			views[i].Waiters[j] = lockWaiterView{Run: r.RunID, Number: n.text(r.Run), Since: stamp(r.Since)}
		}
	}
	return views
}

// lockLsCmd is weir lock ls.
type lockLsCmd struct {
	listFlags
}

// Run lists locks.
func (c *lockLsCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	locks, err := e.Locks(a.ctx, c.Max)
	if err != nil {
		return err
	}
	view := struct {
		Locks []lockView `json:"locks"`
		Cut   bool       `json:"cut"` // max was reached
	}{numbers(e).locks(locks), len(locks) == c.Max}
	return a.print(view, func(w *tabwriter.Writer) {
		if len(locks) == 0 {
			fmt.Fprintln(w, "No run holds a lock.")
			return
		}
		lockGrid(locks, time.Now()).write(w)
		if view.Cut {
			fmt.Fprintln(w, "There may be more: --max.")
		}
	})
}

const waitersShown = 10 // of a lock, in a table

func lockGrid(locks []weir.LockRow, now time.Time) *grid {
	g := newGrid("LOCK", ">FENCE", "HELD BY", ">FOR", ">IN LINE")
	for _, l := range locks {
		g.row(clip(l.Name, keyWidth), fmt.Sprint(l.Fence), clip(l.HolderID, keyWidth), age(now, l.Since), fmt.Sprint(len(l.Waiters)))
		for i, r := range l.Waiters {
			if i == waitersShown {
				g.note(fmt.Sprintf("  └ and %d more", len(l.Waiters)-i))
				break
			}
			g.note(fmt.Sprintf("  └ %d. %s, for %s", i+1, clip(r.RunID, keyWidth), age(now, r.Since)))
		}
	}
	return g
}

// lockBreakCmd is weir lock break.
type lockBreakCmd struct {
	Name string `arg:"" help:"The lock."`
	becauseFlags
}

// lockBreakView is a broken lock in JSON.
type lockBreakView struct {
	Lock string `json:"lock"`
	By   string `json:"by"`
	Why  string `json:"why"`
}

// Run breaks a lock.
func (c *lockBreakCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	if err := e.BreakLock(a.ctx, c.Name, c.because()); err != nil {
		return err
	}
	return a.print(lockBreakView{c.Name, c.By, c.Why}, func(w *tabwriter.Writer) {
		writeWrapped(w, "", "Took lock "+safe(c.Name)+" from its holder and gave it to the next in line, if there is one, with a higher fence. "+
			"The run that held it is not stopped: weir run cancel does that.")
	})
}
