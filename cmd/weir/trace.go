package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	weir "github.com/weir-go/weir"
)

// traceCmd is weir trace.
type traceCmd struct {
	Key string `arg:"" help:"The business key: order-42."`
	Max int    `default:"200" help:"At most so many messages, 1 to 1000; of more the newest (default ${default})."`
}

// Validate is kong's.
func (c traceCmd) Validate() error { return listFlags{Max: c.Max}.Validate() }

// Run tells everything that happened to a key.
func (c *traceCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	stories, err := e.Trace(a.ctx, c.Key, c.Max)
	if err != nil {
		return err
	}
	cut := len(stories) == c.Max
	runs, err := runsNamed(a, e, c.Key)
	if err != nil {
		return err
	}
	if len(stories)+len(runs) == 0 {
		return fmt.Errorf("%w: no message has the key %q, and no run has it as its ID (weir message ls and weir run ls list them)", weir.ErrNotFound, c.Key)
	}
	if stories, err = withMessagesOf(a, e, runs, stories, c.Max); err != nil {
		return err
	}
	view := struct {
		Key      string      `json:"key"`
		Messages []storyView `json:"messages"`
		Runs     []runView   `json:"runs"` // whose ID is the key
		Cut      bool        `json:"cut"`  // max was reached; there may be older ones
	}{Key: c.Key, Messages: make([]storyView, len(stories)), Runs: make([]runView, len(runs)), Cut: cut}
	for i, s := range stories {
		view.Messages[i] = viewStory(s, false)
	}
	n := numbers(e)
	for i, r := range runs {
		view.Runs[i] = n.view(r.RunRow)
	}
	in, err := surroundings(a, e)
	if err != nil {
		return err
	}
	return a.print(view, func(w *tabwriter.Writer) {
		writeTrace(w, c.Key, traced(stories, runs, n, in))
		if view.Cut {
			fmt.Fprintf(w, "\nThese are the newest %d; --max tells more.\n", c.Max)
		}
	})
}

// traceEntry is a message or a run in a trace.
type traceEntry struct {
	at, last   time.Time
	id, cause  string
	name, kind string
	key        string
	run        bool
	notes      func(origin time.Time) []string
}

// traced is what writeTrace tells, in order: a run stands where it started, behind
// the message that started it and before those that it sent.
func traced(stories []weir.MessageStory, runs []weir.RunStory, n runNumbers, in weir.Surroundings) []traceEntry {
	entries := make([]traceEntry, 0, len(stories)+len(runs))
	for _, s := range stories {
		entries = append(entries, messageEntry(s))
	}
	for _, r := range runs {
		run := runEntry(r, n, in)
		at := slices.IndexFunc(entries, func(e traceEntry) bool { return e.at.After(run.at) || e.cause == run.id })
		if at < 0 {
			at = len(entries)
		}
		cause := slices.IndexFunc(entries, func(e traceEntry) bool { return e.id == run.cause })
		entries = slices.Insert(entries, max(at, cause+1), run)
	}
	return entries
}

func messageEntry(s weir.MessageStory) traceEntry {
	return traceEntry{
		at: s.SentAt, last: lastAct(s), id: s.ID, cause: s.Cause, name: s.Topic, kind: s.Kind.String(), key: s.Key,
		notes: func(origin time.Time) []string {
			var lines []string
			for _, q := range s.Queues {
				if q.State != "before" {
					lines = append(lines, teller{origin}.queueStory(s.Message, q)...)
				}
			}
			return lines
		},
	}
}

// writeTrace tells a conversation in its order; what a message or a run caused is
// indented below it.
func writeTrace(w io.Writer, key string, entries []traceEntry) {
	first := entries[0].at
	last, runs := first, 0
	for _, e := range entries {
		last = later(last, e.last)
		if e.at.Before(first) {
			first = e.at
		}
		if e.run {
			runs++
		}
	}
	messages := len(entries) - runs
	counts, title := plural(int64(messages), "message"), "MESSAGE"
	switch {
	case messages == 0:
		counts, title = plural(int64(runs), "run"), "RUN"
	case runs > 0:
		counts, title = plural(int64(runs), "run")+" and "+counts, "MESSAGE OR RUN"
	}
	fmt.Fprintf(w, "%s: %s since %s, over %s\n\n", safe(key), counts, clockTime(first), span(last.Sub(first)))
	g := newGrid(">AFTER", title, "KIND", "ID", "KEY")
	level := map[string]int{} // by ID
	for _, e := range entries {
		if cause, ok := level[e.cause]; ok {
			level[e.id] = cause + 1
		} else {
			level[e.id] = 0
		}
		in := strings.Repeat("  ", min(level[e.id], maxIndent))
		g.row("+"+span(max(e.at.Sub(first), 0)), in+safe(e.name), e.kind, e.id, dash(clip(e.key, keyWidth)))
		for _, line := range e.notes(first) {
			g.note(traceMargin + in + line)
		}
	}
	g.write(w)
}

const (
	maxIndent   = 12 // levels shown of a chain of causes
	traceMargin = "            "
)

// lastAct is the last thing known of a message.
func lastAct(s weir.MessageStory) time.Time {
	last := s.SentAt
	for _, q := range s.Queues {
		if !q.Started.IsZero() {
			last = later(last, q.Started.Add(q.Took))
		}
	}
	return last
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
