package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"unicode/utf8"

	weir "github.com/weir-go/weir"
)

// messageShowCmd is weir message show.
type messageShowCmd struct {
	ID   string `arg:"" help:"The message's ID."`
	Body bool   `help:"Print only the body, byte by byte as it was sent: to a file or a pipe, not to a terminal."`
}

// Run shows a message.
func (c *messageShowCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	story, err := e.Message(a.ctx, c.ID)
	if err != nil {
		return err
	}
	if c.Body {
		return a.printRaw(story.Body)
	}
	return a.print(viewStory(story, true), func(w *tabwriter.Writer) {
		writeMessage(w, story.Message)
		writeBody(w, story.Body)
		fmt.Fprintln(w, "\nqueues")
		if len(story.Queues) == 0 {
			fmt.Fprintln(w, "  None takes this message.")
		}
		for _, q := range story.Queues {
			for _, line := range (teller{}).queueStory(story.Message, q) {
				fmt.Fprintln(w, "  "+line)
			}
		}
	})
}

// printRaw gives bytes to a program. A terminal would obey what is in them.
func (a *app) printRaw(body []byte) error {
	if a.json {
		return usageError(errors.New("--body and --json exclude each other: with --json the body is a field"))
	}
	if terminal(a.out) {
		return usageError(errors.New("--body is for a file or a pipe, not for a terminal, which might obey what is in it: leave it away to see the body"))
	}
	_, err := a.out.Write(body)
	return err
}

// terminal says whether w is a device other than the one that takes everything.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// writeMessage tells what a message is, without its body.
func writeMessage(w io.Writer, m weir.MessageRow) {
	line := func(name, value string) { fmt.Fprintf(w, "%s\t%s\n", name, safe(value)) }
	line("message", m.ID)
	line("name", fmt.Sprintf("%s (%s, version %d)", m.Topic, m.Kind, m.Version))
	line("key", dash(m.Key))
	line("sent", clockTime(m.SentAt))
	if !m.Due.IsZero() {
		line("due", clockTime(m.Due)+" ("+span(m.Due.Sub(m.SentAt))+" after it was sent)")
	}
	cause := m.Cause
	if cause == "" {
		cause = "none: it begins a conversation"
	}
	line("cause", cause)
	if m.Correlation != "" {
		line("correlation", m.Correlation)
	}
	headers := headersOf(m)
	for i, name := range slices.Sorted(maps.Keys(headers)) {
		title := ""
		if i == 0 {
			title = "headers"
		}
		line(title, safe(name)+": "+headers[name])
	}
}

// writeBody shows a body: JSON laid out, other text quoted, the rest in hex.
func writeBody(w io.Writer, body []byte) {
	fmt.Fprintf(w, "\nbody (%s)\n%s\n", plural(int64(len(body)), "byte"), indent(bodyText(body), "  "))
}

func bodyText(body []byte) string {
	switch {
	case utf8.Valid(body) && json.Valid(body):
		var b bytes.Buffer
		if err := json.Indent(&b, body, "", "  "); err == nil {
			return safeLines(b.String())
		}
		return strconv.Quote(string(body))
	case utf8.Valid(body):
		return strconv.Quote(string(body))
	}
	return hex.Dump(body)
}
