package main

import (
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	weir "github.com/weir-go/weir"
)

// queueShowCmd is weir queue show.
type queueShowCmd struct {
	Name string `arg:"" help:"The queue."`
	windowFlag
}

// Run shows one queue.
func (c *queueShowCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	queues, err := e.Queues(a.ctx, c.Window)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(queues, func(q weir.QueueFigures) bool { return q.Name == c.Name })
	if i < 0 {
		return noQueue(c.Name)
	}
	now := time.Now()
	view := struct {
		Queue queueView `json:"queue"`
	}{viewQueue(queues[i], now)}
	return a.print(view, func(w *tabwriter.Writer) { writeQueue(w, queues[i], now) })
}

func noQueue(name string) error {
	return fmt.Errorf("%w: no queue is named %q: weir queue ls lists them", weir.ErrNotFound, name)
}

func writeQueue(w *tabwriter.Writer, q weir.QueueFigures, now time.Time) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	pair := func(t weir.Times) string {
		text := times(t)
		return "p50 " + text[0] + ", p99 " + text[1]
	}
	line("queue", "%s", q.Name)
	line("topic", "%s (%s)", q.Topic.Name, q.Topic.Kind)
	line("state", "%s", stateText(q, now))
	line("depth", "%s of %s (%s)", thousands(q.Depth), capacity(q), fill(q))
	line("", "%s leased, %s deferred, %s waiting", thousands(q.Leased), thousands(q.Deferred), thousands(max(q.Depth-q.Leased-q.Deferred, 0)))
	line("oldest", "%s", age(now, q.Oldest))
	line("empty in", "%s", emptyIn(q))
	line("dead", "%s", thousands(q.Dead))
	line("at death", "%s", map[string]string{
		"block": "block: later messages of the key wait",
		"park":  "park: later messages of the key join the dead",
		"skip":  "skip: later messages of the key go on",
	}[q.OnDead.String()])
	if q.Required {
		line("required", "its publisher is refused when it is full")
	}
	if q.MaxLag > 0 {
		line("max lag", "%s, then it is parked", plural(int64(q.MaxLag), "message"))
	}
	if q.Gaps > 0 {
		line("gaps", "%s missed that retention took while it was parked", plural(q.Gaps, "message"))
	}
	fmt.Fprintf(w, "\nlast %s\n", span(q.Window))
	line("sent", "%s (%s/s)", thousands(q.Sent), rate(q.SentPerSecond))
	line("done", "%s (%s/s)", thousands(q.Done), rate(q.DonePerSecond))
	line("failed", "%s", plural(q.Failed, "attempt"))
	line("died", "%s", thousands(q.Died))
	line("rejected", "%s", plural(q.Rejected, "send"))
	line("wait", "%s", pair(q.Wait))
	line("work", "%s", pair(q.Work))
	line("lead", "%s", pair(q.Lead))
}

// stateText is whether a queue runs, and if not why.
func stateText(q weir.QueueFigures, now time.Time) string {
	switch {
	case q.Paused != nil:
		return pauseText(q, now)
	case q.Parked:
		return fmt.Sprintf("parked: more than %s waited", plural(int64(q.MaxLag), "message"))
	case full(q):
		return "full: it refuses sends"
	}
	return "running"
}
