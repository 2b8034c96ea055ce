package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	weir "github.com/weir-go/weir"
)

var (
	messageFields = []string{"id", "name", "kind", "version", "key", "sent_at", "due_at", "cause", "correlation", "headers"}
	storyFields   = []string{
		"queue", "state", "batch", "process", "claimed_at", "started_at", "wait_ms", "work_ms", "lead_ms", "due_at", "reason", "attempts",
	}
	attemptFields = []string{"no", "started_at", "work_ms", "verdict", "reason", "stack", "process", "due_at"}
)

// ids are the IDs of the newest messages of a topic.
func (j journal) ids(topic string) []string {
	j.t.Helper()
	var m struct {
		Messages []struct{ ID string }
	}
	j.weir(0, "message", "ls", "--topic", topic, "--json").object(&m)
	var out []string
	for _, row := range m.Messages {
		out = append(out, row.ID)
	}
	return out
}

func TestMessageLs(t *testing.T) {
	j := newJournal(t)
	j.work(0, 0, ticket{"order-1", "soup"}, ticket{hostile, "soup"}, ticket{"order-3", "soup"})
	j.weir(0, "message", "ls").has("SENT", "ID", "NAME", "kitchen.ready", "event", "kitchen.cook", "order-3", `\x1b]0;owned`, "order-1")
	j.weir(0, "message", "ls", "--key", hostile, "--topic", "kitchen.cook").has(`\x1b]0;owned`).lacks("order-")
	j.weir(0, "message", "ls", "--since", "1ns").has("No messages")

	var m map[string]any
	j.weir(0, "message", "ls", "--topic", "kitchen.cook", "--max", "2", "--json").object(&m)
	first := fields(t, list(t, fields(t, m, "messages", "next"), "messages", 2)[0], messageFields...)
	if first["key"] != "order-3" || first["cause"] != "" || first["correlation"] != first["id"] {
		t.Errorf("first = %v, want the newest, a root", first)
	}
	next := m["next"].(string)
	j.weir(0, "message", "ls", "--topic", "kitchen.cook", "--max", "2", "--before", next, "--json").object(&m)
	if last := list(t, m, "messages", 1)[0].(map[string]any); last["key"] != "order-1" || m["next"] != nil {
		t.Errorf("second page = %v, want order-1 and no next", m)
	}
	j.weir(2, "message", "ls", "--before", "nonsense").complains("nonsense")
	j.weir(3, "message", "ls", "--before", "abcdef-1").complains("abcdef")
}

func TestMessageShow(t *testing.T) {
	j := newJournal(t)
	e := j.service()
	stop := j.start(e)
	err := weir.Send(context.Background(), e, cook, ticket{"order-1", "slow"}, weir.Headers{"tenant": hostile, "a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	j.settled(e, 0, 0)
	stop()
	id := j.ids("kitchen.cook")[0]
	j.weir(0, "message", "show", id).has("message", id, "kitchen.cook (command, version 1)", "key", "order-1", "begins a conversation",
		"headers", "a: b", `tenant: \x1b]0;owned`, "body (", "  {\n", `    "order": "order-1"`, "queues", "kitchen.cook: done", "waited", "2 attempts",
		"attempt 1 at 2", "failed after", "not hot yet; again in", "attempt 2 at", "done after")
	if got := j.weir(0, "message", "show", id, "--body").out; got != `{"order":"order-1","dish":"slow"}` {
		t.Errorf("--body = %q, want the body's bytes", got)
	}
	var m map[string]any
	j.weir(0, "message", "show", id, "--json").object(&m)
	fields(t, m, append([]string{"body", "queues"}, messageFields...)...)
	if dish := m["body"].(map[string]any)["dish"]; dish != "slow" {
		t.Errorf("body.dish = %v, want slow", dish)
	}
	q := fields(t, list(t, m, "queues", 1)[0], storyFields...)
	if q["state"] != "done" || q["wait_ms"] == nil || q["work_ms"] == nil || q["lead_ms"] == nil {
		t.Errorf("story = %v, want done with its times", q)
	}
	if a := fields(t, list(t, q, "attempts", 2)[0], attemptFields...); a["verdict"] != "retry" || a["reason"] != "not hot yet" {
		t.Errorf("first attempt = %v, want a retry that was not hot yet", a)
	}
	j.weir(2, "message", "show", id, "--body", "--json").complains("exclude each other")
	j.weir(3, "message", "show", "nonsense").complains("nonsense")
	j.weir(3, "message", "show", "abcdef-1").complains("abcdef-1")
}

// A body is shown for what it is, and obeyed by no terminal.
func TestBodyText(t *testing.T) {
	for body, want := range map[string]string{
		`{"a":12345678901234567890,"b":[]}`: "{\n  \"a\": 12345678901234567890,\n  \"b\": []\n}",
		"\"\u009b31m\"":                     `"\u009b31m"`,
		"plain \x1b[2J text\n":              `"plain \x1b[2J text\n"`,
		"":                                  `""`,
		"\xff\x00\x1b":                      "00000000  ff 00 1b                                          |...|\n",
	} {
		if got := bodyText([]byte(body)); got != want {
			t.Errorf("bodyText(%q) = %q, want %q", body, got, want)
		}
	}
}

func TestViewBody(t *testing.T) {
	for body, want := range map[string]string{
		`{"n": 12345678901234567890}`: `{"body":{"n":12345678901234567890}}`,
		"plain":                       `{"body_text":"plain"}`,
		"":                            `{"body_text":""}`,
		"\xff":                        `{"body_base64":"/w=="}`,
		"\"\xff\"":                    `{"body_base64":"Iv8i"}`, // JSON but for its UTF-8
	} {
		if got, err := encodeJSON(viewBody([]byte(body))); err != nil || string(got) != want {
			t.Errorf("viewBody(%q) = %s, %v, want %s", body, got, err, want)
		}
	}
}

// Raw bytes go to files, pipes and what takes everything, not to another device.
func TestTerminal(t *testing.T) {
	open := func(name string) *os.File {
		t.Helper()
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	if terminal(io.Discard) || terminal(open(filepath.Join(t.TempDir(), "body"))) || terminal(open(os.DevNull)) {
		t.Error("terminal(a writer, a file, the null device) = true, want false")
	}
	if !terminal(open("/dev/zero")) {
		t.Error("terminal(/dev/zero) = false, want true of a device")
	}
}

func TestTrace(t *testing.T) {
	j := newJournal(t)
	j.work(1, 0, ticket{"order-1", "slow"}, ticket{"order-1", "no soup"}, ticket{"order-2", "soup"})
	s := j.weir(0, "trace", "order-1").has("order-1: 3 messages since", "AFTER", "MESSAGE",
		"+0s  kitchen.cook", "kitchen.cook: done", "2 attempts", "attempt 1 at +", "failed after", "not hot yet",
		"+0s  kitchen.cook", "kitchen.cook: dead", "failed for good", "there is no soup",
		"    kitchen.ready", "staff.serve: done")
	if s.lacks("order-2"); strings.Contains(s.out, "before") {
		t.Errorf("trace tells what was sent before a subscription:\n%s", s.out)
	}
	var m map[string]any
	j.weir(0, "trace", "order-1", "--json").object(&m)
	list(t, fields(t, m, "key", "messages", "runs", "cut"), "runs", 0)
	first := fields(t, list(t, m, "messages", 3)[0], append([]string{"queues"}, messageFields...)...)
	fields(t, list(t, first, "queues", 1)[0], storyFields...)
	j.weir(0, "trace", "order-1", "--max", "1").has("the newest 1")
	j.weir(3, "trace", "order-9").complains("order-9")
}
