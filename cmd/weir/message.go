package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// messageCmd is weir message.
type messageCmd struct {
	Ls   messageLsCmd   `cmd:"" help:"Messages, newest first."`
	Show messageShowCmd `cmd:"" help:"One message: headers, body, and what each of its queues did with it."`
}

// listFlags bound a list.
type listFlags struct {
	Max int `default:"50" help:"At most so many, 1 to 1000 (default ${default})."`
}

// Validate is kong's.
func (f listFlags) Validate() error {
	if f.Max < 1 || f.Max > store.MaxList {
		return fmt.Errorf("--max is %d, want 1 to %d", f.Max, store.MaxList)
	}
	return nil
}

// messageView is a message in JSON, without its body.
type messageView struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Kind        string            `json:"kind"`
	Version     int               `json:"version"`
	Key         string            `json:"key"`
	SentAt      stamp             `json:"sent_at"`
	DueAt       stamp             `json:"due_at"`      // null: at once
	Cause       string            `json:"cause"`       // empty for a root
	Correlation string            `json:"correlation"` // the message's own for a root
	Headers     map[string]string `json:"headers"`
}

func viewMessage(m weir.MessageRow) messageView {
	v := messageView{
		ID: m.ID, Name: m.Topic, Kind: m.Kind.String(), Version: m.Version, Key: m.Key,
		SentAt: stamp(m.SentAt), DueAt: stamp(m.Due), Cause: m.Cause, Correlation: m.Correlation, Headers: headersOf(m),
	}
	if v.Correlation == "" {
		v.Correlation = m.ID
	}
	return v
}

// headersOf decodes headers; what is no object of strings, which no sender of ours
// writes, shows as it is under an empty name.
func headersOf(m weir.MessageRow) map[string]string {
	headers := map[string]string{}
	if len(m.Headers) > 0 && json.Unmarshal(m.Headers, &headers) != nil {
		headers = map[string]string{"": string(m.Headers)}
	}
	return headers
}

// messageLsCmd is weir message ls.
type messageLsCmd struct {
	Topic  string        `help:"Only those of this name."`
	Key    string        `help:"Only those with this key."`
	Since  time.Duration `help:"Only those sent so long ago or later: 90s, 1h, 24h."`
	Before string        `placeholder:"ID" help:"Only those older than this one: the next page."`
	listFlags
}

func (c *messageLsCmd) query(e *weir.Engine) (weir.MessageQuery, error) {
	q := weir.MessageQuery{Topic: c.Topic, Key: c.Key, Max: c.Max}
	if c.Since > 0 {
		q.Since = time.Now().Add(-c.Since)
	}
	if c.Before == "" {
		return q, nil
	}
	inc, pos, err := store.ParseID(c.Before)
	if err != nil {
		return q, usageError(fmt.Errorf("--before: %w", err))
	}
	q.Before = pos
	return q, ofThisStore(e, inc, "message "+c.Before)
}

// ofThisStore refuses what another store has named.
func ofThisStore(e *weir.Engine, inc store.Incarnation, what string) error {
	if own := e.StoreInfo().Incarnation; inc != own {
		return fmt.Errorf("%w: %s is of store %s, this is %s", weir.ErrNotFound, what, inc, own)
	}
	return nil
}

// Run lists messages.
func (c *messageLsCmd) Run(a *app) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	defer e.Close()
	q, err := c.query(e)
	if err != nil {
		return err
	}
	messages, err := e.Messages(a.ctx, q)
	if err != nil {
		return err
	}
	view := struct {
		Messages []messageView `json:"messages"`
		Next     *string       `json:"next"` // give it to --before; null: there are no more
	}{Messages: make([]messageView, len(messages))}
	for i, m := range messages {
		view.Messages[i] = viewMessage(m)
	}
	if len(messages) == c.Max {
		view.Next = &messages[len(messages)-1].ID
	}
	return a.print(view, func(w *tabwriter.Writer) {
		if len(messages) == 0 {
			fmt.Fprintln(w, "No messages.")
			return
		}
		messageGrid(messages).write(w)
		if view.Next != nil {
			fmt.Fprintf(w, "There may be more: --before %s, or --max.\n", *view.Next)
		}
	})
}

const keyWidth = 40 // runes of a key in a table

func messageGrid(messages []weir.MessageRow) *grid {
	g := newGrid("SENT", "ID", "NAME", "KIND", "KEY", "CAUSE", "DUE")
	for _, m := range messages {
		g.row(clockTime(m.SentAt), m.ID, m.Topic, m.Kind.String(), dash(clip(m.Key, keyWidth)), dash(m.Cause), clockTime(m.Due))
	}
	return g
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// bodyView is a body in JSON: exactly one of its fields is set.
type bodyView struct {
	Body   json.RawMessage `json:"body,omitempty"`        // if it is JSON
	Text   *string         `json:"body_text,omitempty"`   // else if it is UTF-8
	Base64 []byte          `json:"body_base64,omitempty"` // else
}

func viewBody(body []byte) bodyView {
	switch {
	case utf8.Valid(body) && json.Valid(body):
		return bodyView{Body: body}
	case utf8.Valid(body):
		text := string(body)
		return bodyView{Text: &text}
	}
	return bodyView{Base64: body}
}

// indent puts blanks before each line of a text.
func indent(text, by string) string {
	return by + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+by)
}
