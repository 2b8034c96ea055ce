package main

import (
	"fmt"
	"text/tabwriter"

	weir "github.com/weir-go/weir"
)

// deadShowCmd is weir dead show.
type deadShowCmd struct {
	ID    string `arg:"" help:"The message's ID."`
	Queue string `help:"Only its death in this queue."`
	Body  bool   `help:"Print only the body, byte by byte: weir dead show ID --body >body.json; edit; weir dead retry ID --body body.json."`
}

// Run shows a dead letter, in each queue where the message is dead.
func (c *deadShowCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	if err := knownQueue(a, e, c.Queue); err != nil {
		return err
	}
	letters, err := e.Dead(a.ctx, weir.DeadQuery{ID: c.ID, Queue: c.Queue})
	if err != nil {
		return err
	}
	if len(letters) == 0 {
		return fmt.Errorf("%w: message %s is not among the dead letters: weir message show %s tells what became of it", weir.ErrNotFound, c.ID, c.ID)
	}
	if c.Body {
		if len(letters) > 1 {
			return usageError(fmt.Errorf("message %s is dead in %d queues: say which with --queue", c.ID, len(letters)))
		}
		return a.printRaw(letters[0].Message.Body)
	}
	type full struct {
		deadView
		History []attemptView `json:"history"`
	}
	view := struct {
		Dead []full `json:"dead"` // one a queue
	}{make([]full, len(letters))}
	for i, d := range letters {
		body := viewBody(d.Message.Body)
		view.Dead[i] = full{viewDead(d), viewAttempts(d.History)}
		view.Dead[i].bodyView = &body
	}
	return a.print(view, func(w *tabwriter.Writer) {
		for i, d := range letters {
			if i > 0 {
				fmt.Fprintln(w)
			}
			writeDead(w, d)
		}
	})
}

func writeDead(w *tabwriter.Writer, d weir.DeadLetter) {
	writeMessage(w, d.Message)
	fmt.Fprintf(w, "dead in\t%s\n", safe(d.Queue))
	fmt.Fprintf(w, "died\t%s, after %s\n", clockTime(d.DiedAt), plural(int64(d.Attempts), "attempt"))
	fmt.Fprintf(w, "reason\t%s\n", safe(d.Reason))
	if d.Quarantined {
		fmt.Fprintf(w, "quarantined\tits process ended again and again while it ran: look at what it does before you retry it\n")
	}
	if d.BehindID != "" {
		fmt.Fprintf(w, "behind\t%s, which is dead: it is retried with that one\n", d.BehindID)
	}
	if d.Edited {
		fmt.Fprintf(w, "edited\tbody or headers below are an operator's; the journal keeps what was sent\n")
	}
	writeBody(w, d.Message.Body)
	if len(d.History) > 0 {
		fmt.Fprintln(w, "\nattempts")
	}
	for _, t := range d.History {
		fmt.Fprintln(w, "  "+teller{}.attempt(t))
		if t.Stack != "" {
			fmt.Fprintln(w, indent(safeLines(t.Stack), "      "))
		}
	}
}
