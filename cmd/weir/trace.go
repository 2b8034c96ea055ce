package main

import (
	"fmt"
	"io"
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
	if len(stories) == 0 {
		return fmt.Errorf("%w: no message has the key %q (weir message ls lists messages)", weir.ErrNotFound, c.Key)
	}
	view := struct {
		Key      string      `json:"key"`
		Messages []storyView `json:"messages"`
		Cut      bool        `json:"cut"` // max was reached; there may be older ones
	}{Key: c.Key, Messages: make([]storyView, len(stories)), Cut: len(stories) == c.Max}
	for i, s := range stories {
		view.Messages[i] = viewStory(s, false)
	}
	return a.print(view, func(w *tabwriter.Writer) {
		writeTrace(w, c.Key, stories)
		if view.Cut {
			fmt.Fprintf(w, "\nThese are the newest %d; --max tells more.\n", c.Max)
		}
	})
}

// writeTrace tells a conversation in the order of its sends; each message is
// indented below the one whose handler sent it.
func writeTrace(w io.Writer, key string, stories []weir.MessageStory) {
	first := stories[0].SentAt
	last := first
	for _, s := range stories {
		last = later(last, lastAct(s))
	}
	fmt.Fprintf(w, "%s: %s since %s, over %s\n\n", safe(key), plural(int64(len(stories)), "message"), clockTime(first), span(last.Sub(first)))
	g := newGrid(">AFTER", "MESSAGE", "KIND", "ID", "KEY")
	level := map[string]int{} // by ID
	for _, s := range stories {
		if cause, ok := level[s.Cause]; ok {
			level[s.ID] = cause + 1
		} else {
			level[s.ID] = 0
		}
		in := strings.Repeat("  ", min(level[s.ID], maxIndent))
		g.row("+"+span(max(s.SentAt.Sub(first), 0)), in+safe(s.Topic), s.Kind.String(), s.ID, dash(clip(s.Key, keyWidth)))
		for _, q := range s.Queues {
			if q.State == "before" {
				continue
			}
			for _, line := range (teller{first}).queueStory(s.Message, q) {
				g.note(traceMargin + in + line)
			}
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
