package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// runsNamed are the runs whose ID is the key, of any workflow.
func runsNamed(a *app, e *weir.Engine, key string) ([]weir.RunStory, error) {
	one, err := e.RunStory(a.ctx, "", key)
	if err == nil {
		return []weir.RunStory{one}, nil
	}
	if errors.Is(err, weir.ErrNotFound) {
		return nil, nil
	}
	several, ok := errors.AsType[*weir.AmbiguousError](err)
	if !ok {
		return nil, err
	}
	var stories []weir.RunStory
	for _, workflow := range several.Workflows {
		s, err := e.RunStory(a.ctx, workflow, key)
		if err != nil && !errors.Is(err, weir.ErrNotFound) {
			return nil, err
		}
		if err == nil {
			stories = append(stories, s)
		}
	}
	return stories, nil
}

// withMessagesOf adds the messages that runs sent or got and that are not there
// yet, up to max in all: they may have another key, or none.
func withMessagesOf(a *app, e *weir.Engine, runs []weir.RunStory, stories []weir.MessageStory, max int) ([]weir.MessageStory, error) {
	known := map[string]bool{}
	for _, s := range stories {
		known[s.ID] = true
	}
	n := numbers(e)
	for _, r := range runs {
		for _, record := range r.Records {
			id := n.message(record.Pos)
			if id == "" || known[id] || len(stories) >= max {
				continue
			}
			known[id] = true
			s, err := e.Message(a.ctx, id)
			if errors.Is(err, weir.ErrNotFound) { // retention took it
				continue
			}
			if err != nil {
				return nil, err
			}
			if known[s.ID] && s.ID != id { // it came from another store, whose ID it has
				continue
			}
			known[s.ID] = true
			stories = append(stories, s)
		}
	}
	slices.SortFunc(stories, func(a, b weir.MessageStory) int { return cmp.Compare(a.Pos, b.Pos) })
	return stories, nil
}

const recordsTraced = 20 // of a run in a trace, the newest

func runEntry(s weir.RunStory, n runNumbers, in weir.Surroundings) traceEntry {
	return traceEntry{
		at: s.StartedAt, last: lastOf(s), id: n.text(s.No), cause: s.Cause, name: s.Workflow, kind: "run", key: s.ID, run: true,
		notes: func(origin time.Time) []string { return runNotes(s, in, origin) },
	}
}

// runNotes tells a run in lines: its steps, then how it ended or why it goes not on.
func runNotes(s weir.RunStory, in weir.Surroundings, origin time.Time) []string {
	var lines []string
	if cut := len(s.Records) - recordsTraced; cut > 0 {
		lines = append(lines, fmt.Sprintf("%s earlier: weir run show tells", plural(int64(cut), "record")))
	}
	for _, r := range s.Records[max(0, len(s.Records)-recordsTraced):] {
		text := fmt.Sprintf("%s: %s, %s", r.Name, r.Kind, r.State)
		if r.Kind != store.KindNote {
			text += " at " + teller{origin}.at(r.StartedAt)
		}
		if r.Took > 0 {
			text += ", took " + span(r.Took)
		}
		lines = append(lines, clip(text+withColon(r.Reason), traceWidth))
	}
	for _, sentence := range weir.WhyNotRunning(s, in) {
		if strings.HasPrefix(sentence, "goes on after") { // a command: weir run why has room for it
			continue
		}
		lines = append(lines, clip("run "+sentence, traceWidth))
	}
	return lines
}

const traceWidth = 120 // runes told of a record
