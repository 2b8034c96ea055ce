package main

import (
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"

	weir "github.com/weir-go/weir"
)

// windowFlag is the time that figures cover.
type windowFlag struct {
	Window time.Duration `default:"5m" help:"What rates and times cover, 1m to 24h (default ${default})."`
}

// Validate is kong's.
func (f windowFlag) Validate() error {
	if f.Window < time.Minute || f.Window > 24*time.Hour {
		return fmt.Errorf("--window is %s, want 1m to 24h", f.Window)
	}
	return nil
}

// queueLsCmd is weir queue ls.
type queueLsCmd struct {
	windowFlag
}

// Run lists the queues.
func (c *queueLsCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	queues, err := e.Queues(a.ctx, c.Window)
	if err != nil {
		return err
	}
	now := time.Now()
	view := struct {
		Queues []queueView `json:"queues"`
	}{viewQueues(queues, now)}
	return a.print(view, func(w *tabwriter.Writer) {
		if len(queues) == 0 {
			fmt.Fprintln(w, "No queues yet: the service makes them when it runs.")
			return
		}
		queueGrid(queues, now).write(w)
	})
}

func queueGrid(queues []weir.QueueFigures, now time.Time) *grid {
	g := newGrid("QUEUE", "KIND")
	g.group("now", ">DEPTH", ">OF", ">FILL", ">LEASED", ">DEFER", ">DEAD", ">OLDEST")
	g.group("last "+span(queues[0].Window), ">SENT/S", ">DONE/S", ">EMPTY IN", ">REJECTED")
	g.group("wait", ">P50", ">P99")
	g.group("work", ">P50", ">P99")
	g.group("lead", ">P50", ">P99")
	for _, q := range queues {
		wait, work, lead := times(q.Wait), times(q.Work), times(q.Lead)
		g.row(q.Name, q.Topic.Kind.String(),
			thousands(q.Depth), capacity(q), fill(q), thousands(q.Leased), thousands(q.Deferred), thousands(q.Dead), age(now, q.Oldest),
			rate(q.SentPerSecond), rate(q.DonePerSecond), emptyIn(q), thousands(q.Rejected),
			wait[0], wait[1], work[0], work[1], lead[0], lead[1])
		for _, note := range queueNotes(q, now) {
			g.note("  └ " + note)
		}
	}
	return g
}

// queueNotes says what has no column.
func queueNotes(q weir.QueueFigures, now time.Time) []string {
	var notes []string
	if q.Topic.Name != q.Name {
		notes = append(notes, "subscribes to "+q.Topic.Name)
	}
	if p := q.Paused; p != nil {
		notes = append(notes, pauseText(q, now))
	}
	if q.Parked {
		notes = append(notes, fmt.Sprintf("parked: more than %s waited; weir queue resume %s lets it go on", plural(int64(q.MaxLag), "message"), q.Name))
	}
	if q.Gaps > 0 {
		notes = append(notes, fmt.Sprintf("missed %s that retention took while it was parked", plural(q.Gaps, "message")))
	}
	return notes
}

func pauseText(q weir.QueueFigures, now time.Time) string {
	p := q.Paused
	return fmt.Sprintf("paused for %s (since %s) by %s: %s", age(now, p.At), clockTime(p.At), safe(p.By), safe(p.Why))
}

func capacity(q weir.QueueFigures) string {
	if q.Capacity == 0 {
		return "∞"
	}
	return thousands(int64(q.Capacity))
}

func fill(q weir.QueueFigures) string {
	if q.Capacity == 0 {
		return "-"
	}
	percent := 100 * fillOf(q)
	if percent > 0 && percent < 1 {
		return "<1%"
	}
	return strconv.FormatFloat(percent, 'f', 0, 64) + "%"
}

// emptyIn is how long the queue needs to drain.
func emptyIn(q weir.QueueFigures) string {
	switch {
	case q.Depth == 0:
		return "-"
	case q.Drains < 0:
		return "never"
	}
	return span(q.Drains)
}

// times are a duration's two quantiles; dashes when nothing was measured.
func times(t weir.Times) [2]string {
	if t.P50 == 0 && t.P99 == 0 {
		return [2]string{"-", "-"}
	}
	return [2]string{span(t.P50), span(t.P99)}
}
