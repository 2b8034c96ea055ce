package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// deadCmd is weir dead.
type deadCmd struct {
	Ls      deadLsCmd      `cmd:"" help:"Dead letters, oldest first, or with --group how many died of what."`
	Show    deadShowCmd    `cmd:"" help:"One dead letter: headers, body, and its attempts with their errors and stacks."`
	Retry   deadRetryCmd   `cmd:"" help:"Deliver dead letters again, one of them with another body if need be."`
	Discard deadDiscardCmd `cmd:"" help:"Drop dead letters for good; the journal and the audit remember them."`
}

// deadView is a dead letter in JSON.
type deadView struct {
	Queue string `json:"queue"`
	messageView
	*bodyView          // with an ID asked for; after an edit the edited one
	DiedAt      stamp  `json:"died_at"`
	Attempts    int    `json:"attempts"`
	Reason      string `json:"reason"`
	Quarantined bool   `json:"quarantined"` // it ended its process again and again
	Behind      string `json:"behind"`      // ID of the dead message of its key that it follows; empty: it died itself
	Edited      bool   `json:"edited"`
}

func viewDead(d weir.DeadLetter) deadView {
	return deadView{
		Queue: d.Queue, messageView: viewMessage(d.Message), DiedAt: stamp(d.DiedAt), Attempts: d.Attempts,
		Reason: d.Reason, Quarantined: d.Quarantined, Behind: d.BehindID, Edited: d.Edited,
	}
}

// deadLsCmd is weir dead ls.
type deadLsCmd struct {
	Queue    string `arg:"" optional:"" help:"Only this queue's."`
	Matching string `placeholder:"TEXT" help:"Only those whose reason contains this."`
	After    string `placeholder:"ID" help:"Only those sent after this one: the next page."`
	Group    bool   `help:"Count them by reason; numbers and what is quoted in it count as the same."`
	listFlags
}

// Validate is kong's.
func (c *deadLsCmd) Validate() error {
	if c.Group && c.After != "" {
		return fmt.Errorf("--after is for a list, --group is about all")
	}
	return c.listFlags.Validate()
}

// Run lists dead letters.
func (c *deadLsCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	if err := knownQueue(a, e, c.Queue); err != nil {
		return err
	}
	if c.Group {
		return c.groups(a, e)
	}
	q := weir.DeadQuery{Queue: c.Queue, Matching: c.Matching, Max: c.Max}
	if c.After != "" {
		_, pos, err := store.ParseID(c.After)
		if err != nil {
			return usageError(fmt.Errorf("--after: %w", err))
		}
		q.After = pos
	}
	letters, err := e.Dead(a.ctx, q)
	if err != nil {
		return err
	}
	view := struct {
		Dead []deadView `json:"dead"`
		Next *string    `json:"next"` // give it to --after; null: there are no more
	}{Dead: make([]deadView, len(letters))}
	for i, d := range letters {
		view.Dead[i] = viewDead(d)
	}
	if len(letters) > 0 { // a page may be shorter than asked for, so only the next one tells
		q.After, q.Max = letters[len(letters)-1].Message.Pos, 1
		more, err := e.Dead(a.ctx, q)
		if err != nil {
			return err
		}
		if len(more) > 0 {
			view.Next = &letters[len(letters)-1].Message.ID
		}
	}
	return a.print(view, func(w *tabwriter.Writer) {
		if len(letters) == 0 {
			fmt.Fprintln(w, "No dead letters.")
			return
		}
		deadGrid(letters, time.Now()).write(w)
		if view.Next != nil {
			fmt.Fprintf(w, "There are more: --after %s, or --max; --group counts them by reason.\n", *view.Next)
		}
	})
}

// knownQueue refuses the name of a queue that is not there; an empty name is all queues.
func knownQueue(a *app, e *weir.Engine, name string) error {
	if name == "" {
		return nil
	}
	_, err := queueNamed(a, e, name)
	return err
}

func queueNamed(a *app, e *weir.Engine, name string) (weir.QueueFigures, error) {
	queues, err := e.Queues(a.ctx, 0)
	if err != nil {
		return weir.QueueFigures{}, err
	}
	for _, q := range queues {
		if q.Name == name {
			return q, nil
		}
	}
	return weir.QueueFigures{}, noQueue(name)
}

const reasonWidth = 90 // runes of a reason in a table

func deadGrid(letters []weir.DeadLetter, now time.Time) *grid {
	g := newGrid("DIED", ">AGO", "ID", "QUEUE", "KEY", ">TRIES", "REASON")
	for _, d := range letters {
		g.row(clockTime(d.DiedAt), age(now, d.DiedAt), d.Message.ID, d.Queue, dash(clip(d.Message.Key, keyWidth)),
			fmt.Sprint(d.Attempts), clip(deadReason(d), reasonWidth))
	}
	return g
}

// deadReason is the reason with what else to know in front.
func deadReason(d weir.DeadLetter) string {
	var marks []string
	if d.BehindID != "" {
		marks = append(marks, "behind "+d.BehindID)
	}
	if d.Quarantined {
		marks = append(marks, "quarantined")
	}
	if d.Edited {
		marks = append(marks, "edited")
	}
	if len(marks) == 0 {
		return d.Reason
	}
	return "[" + strings.Join(marks, ", ") + "] " + d.Reason
}
