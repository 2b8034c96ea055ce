package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// runShowCmd is weir run show.
type runShowCmd struct {
	runFlags
	Full bool `help:"All of each value, error and stack; else each in a line or two."`
}

// Run shows a run.
func (c *runShowCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	story, err := c.find(a, e)
	if err != nil {
		return err
	}
	in, err := surroundings(a, e)
	if err != nil {
		return err
	}
	n := numbers(e)
	return a.print(n.story(story, in), func(w *tabwriter.Writer) {
		t := runTeller{numbers: n, story: story, in: in, full: c.Full}
		t.head(w)
		t.why(w)
		t.timeline(w)
		t.around(w)
	})
}

// runTeller tells a run's story to a person. Times are told since its start.
type runTeller struct {
	numbers runNumbers
	story   weir.RunStory
	in      weir.Surroundings
	full    bool
}

// head tells what the run is.
func (t *runTeller) head(w io.Writer) {
	s := &t.story
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, safe(fmt.Sprintf(format, args...)))
	}
	optional := func(name, value string) {
		if value != "" {
			line(name, "%s", value)
		}
	}
	line("run", "%s", s.ID)
	line("workflow", "%s (version %d)", s.Workflow, s.Version)
	line("number", "%s", t.numbers.text(s.No))
	line("state", "%s", s.State)
	line("started", "%s (%s ago)", clockTime(s.StartedAt), age(t.in.Now, s.StartedAt))
	if !s.EndedAt.IsZero() {
		line("ended", "%s (took %s)", clockTime(s.EndedAt), span(max(s.EndedAt.Sub(s.StartedAt), 0)))
	}
	if !s.Deadline.IsZero() {
		line("deadline", "%s (%s after its start)", clockTime(s.Deadline), span(s.Deadline.Sub(s.StartedAt)))
	}
	optional("parent", s.ParentID)
	optional("cause", s.Cause)
	optional("correlation", s.Correlation)
	if s.Crashes > 0 {
		line("crashes", "%d of its process, since it last got on", s.Crashes)
	}
	headers := headersOf(weir.MessageRow{Headers: s.Headers})
	for i, name := range slices.Sorted(maps.Keys(headers)) {
		title := ""
		if i == 0 {
			title = "headers"
		}
		line(title, "%s: %s", name, headers[name])
	}
}

// why tells why it does not go on; of a run that has ended the timeline's end does.
func (t *runTeller) why(w io.Writer) {
	if ended(t.story.RunRow) {
		return
	}
	fmt.Fprintln(w, "\nnow")
	writeWhy(w, weir.WhyNotRunning(t.story, t.in))
}

func ended(r weir.RunRow) bool {
	switch r.State {
	case weir.RunReady, weir.RunRunning, weir.RunWaiting, weir.RunNeedsPerson:
		return false
	}
	return true
}

// timeline tells the start, each record in the order they were begun, and the end.
func (t *runTeller) timeline(w io.Writer) {
	s := &t.story
	fmt.Fprintln(w)
	g := newGrid(">AFTER", "RECORD", "KIND", "STATE", ">TOOK")
	g.row("+0s", "(start)", "", "", "")
	t.value(g, "input", s.Input)
	x := newRecordExtras(*s)
	for i := range s.Records {
		t.record(g, &s.Records[i], x)
	}
	switch {
	case s.State == weir.RunNeedsPerson:
		g.row("", "(stopped)", "", string(s.State), "")
		t.reason(g, s.Reason)
	case ended(s.RunRow):
		g.row(t.after(s.EndedAt), "(end)", "", string(s.State), span(max(s.EndedAt.Sub(s.StartedAt), 0)))
		t.reason(g, s.Reason)
		t.value(g, "result", s.Result)
	}
	g.write(w)
}

// after is a time since the run's start.
func (t *runTeller) after(when time.Time) string {
	return "+" + span(max(when.Sub(t.story.StartedAt), 0))
}

func (t *runTeller) record(g *grid, r *weir.RunRecord, x recordExtras) {
	took := span(r.Took)
	if r.Kind == store.KindNote || r.Took == 0 && r.State < store.StepParked {
		took = "-"
	}
	g.row(t.after(r.StartedAt), r.Name, r.Kind.String(), r.State.String(), took)
	told := ""
	for _, a := range x.attempts[r.N] {
		t.note(g, fmt.Sprintf("attempt %d at %s: failed after %s: %s", a.Attempt, t.after(a.StartedAt), span(a.Took), t.error(a.Reason)))
		if t.full && a.Stack != "" {
			t.block(g, a.Stack)
		}
		told = a.Reason
	}
	switch {
	case r.Kind == store.KindUntil && r.Attempt > 0:
		t.note(g, "asked "+plural(int64(r.Attempt), "time"))
	case r.State == store.StepDone && r.Attempt > 1:
		t.note(g, fmt.Sprintf("attempt %d: done", r.Attempt))
	}
	for _, wait := range x.waits[r.N] {
		if r.Kind == store.KindAsk {
			t.note(g, fmt.Sprintf("waits for %s to %s", wait.Topic, wait.Key))
			continue
		}
		key := ""
		if wait.Key != "" {
			key = " with key " + clip(wait.Key, keyWidth)
		}
		t.note(g, fmt.Sprintf("waits for %s%s, looking back to %s", wait.Topic, key, t.after(wait.Since)))
	}
	if !r.Due.IsZero() && r.State < store.StepDone {
		t.note(g, "due at "+clockTime(r.Due)+" ("+t.after(r.Due)+")")
	}
	waits := r.Kind == store.KindAsk || r.Kind == store.KindWaitFor
	if r.Reason != told && !(waits && len(x.waits[r.N]) > 0) { // it says the same
		t.reason(g, r.Reason)
	}
	if r.Pos != 0 {
		t.note(g, "message "+t.numbers.message(r.Pos))
	}
	if len(r.Headers) > 0 && !waits { // else the engine's own
		t.note(g, "headers "+clip(string(r.Headers), valueWidth))
	}
	switch {
	case r.State == store.StepDone && r.Kind == store.KindLock:
		t.value(g, "fence", r.Value)
	case r.State == store.StepDone && r.Kind != store.KindNote:
		t.value(g, "value", r.Value)
	case t.full: // the engine's own
		t.value(g, "kept", r.Value)
	}
}

const (
	noteMargin = "          " // below AFTER
	valueWidth = 80           // runes of a value told in a line
	errorWidth = 600          // runes of an error told in lines
)

// note adds lines below a record.
func (t *runTeller) note(g *grid, text string) {
	for _, line := range wrapped(noteMargin+"└ ", safe(text)) {
		g.note(line)
	}
}

// block adds lines as they are.
func (t *runTeller) block(g *grid, text string) {
	for _, line := range strings.Split(strings.TrimSuffix(safeLines(text), "\n"), "\n") {
		g.note(noteMargin + "    " + line)
	}
}

// error is an error in one line: the first, or with --full all of it.
func (t *runTeller) error(reason string) string {
	if t.full {
		return reason
	}
	return clip(firstLine(reason), errorWidth)
}

func (t *runTeller) reason(g *grid, reason string) {
	if reason == "" {
		return
	}
	first, rest, more := strings.Cut(reason, "\n")
	t.note(g, t.error(first))
	if t.full && more {
		t.block(g, rest)
	}
}

// value adds a value below a record: in a line, or with --full laid out.
func (t *runTeller) value(g *grid, name string, value []byte) {
	switch {
	case len(value) == 0:
		return
	case t.full:
		g.note(fmt.Sprintf("%s└ %s (%s)", noteMargin, name, plural(int64(len(value)), "byte")))
		t.block(g, bodyText(value))
	default:
		g.note(fmt.Sprintf("%s└ %s %s", noteMargin, name, clip(valueLine(value), valueWidth)))
	}
}

// valueLine is a value in one line: JSON without blanks, other text quoted, the rest by its length.
func valueLine(value []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, value) == nil {
		return b.String()
	}
	return fmt.Sprintf("%q", value)
}

// around tells what else there is of the run.
func (t *runTeller) around(w io.Writer) {
	s := &t.story
	if len(s.Children) > 0 {
		fmt.Fprintf(w, "\n%s\n", plural(int64(len(s.Children)), "child run"))
		runGrid(s.Children, t.in.Now).write(w)
	}
	if len(s.Locks) > 0 {
		fmt.Fprintln(w, "\nlocks")
		lockGrid(s.Locks, t.in.Now).write(w)
	}
	if len(s.Mail) > 0 {
		fmt.Fprintf(w, "\nmail not read yet\n")
		for _, m := range s.Mail {
			writeWrapped(w, "  ", safe(t.after(m.At)+" "+t.mail(m)))
		}
	}
	if len(s.Late) > 0 {
		fmt.Fprintln(w, "\nreplies that came too late")
		for _, m := range s.Late {
			fmt.Fprintf(w, "  %s %s %s, the answer to %s: %s\n",
				t.after(m.SentAt), safe(m.Topic), m.ID, safe(m.Cause), clip(valueLine(m.Body), valueWidth))
		}
	}
}

// mail is a piece of mail in words.
func (t *runTeller) mail(m weir.RunMail) string {
	text := mailKinds[m.Kind]
	switch {
	case m.Message != nil:
		text += fmt.Sprintf(" %s %s: %s", m.Message.Topic, m.Message.ID, clip(valueLine(m.Message.Body), valueWidth))
	case m.Child != nil:
		text += fmt.Sprintf(" %s %s%s", m.Child.ID, m.Child.Outcome, withColon(m.Child.Reason))
	case m.Kind == store.Locked:
		text += fmt.Sprintf(" granted with fence %d", m.Fence)
	case m.By != "":
		if m.Step != "" {
			text += " " + m.Step
		}
		if m.Failed {
			text += " as failed"
		}
		text += fmt.Sprintf(" by %s: %s", m.By, t.error(m.Why))
	}
	return text
}

func withColon(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + firstLine(reason)
}
