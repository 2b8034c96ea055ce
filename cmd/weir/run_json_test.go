package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// The fields of runs in JSON: what scripts rely on.
var (
	runRowFields = []string{
		"number", "workflow", "id", "state", "started_at", "ended_at", "wake_at", "process", "deadline_at", "crashes", "parent", "reason",
	}
	runStoryFields = append([]string{
		"version", "epoch", "cause", "correlation", "parent_id", "headers", "input", "result", "why", "records", "children", "locks", "mail", "late",
	}, runRowFields...)
	recordFields = []string{
		"n", "name", "kind", "state", "attempt", "started_at", "took_ms", "due_at", "message", "headers", "value", "reason", "attempts", "waits",
	}
	mailFields = []string{
		"no", "at", "kind", "n", "message", "child", "outcome", "fence", "step", "value", "failed", "by", "why",
	}
	lockFields     = []string{"name", "fence", "holder", "number", "since", "waiters"}
	workflowFields = []string{
		"workflow", "ready", "running", "waiting", "needs_person", "completed", "failed", "cancelled", "oldest_at",
	}
)

// decoded is v as a script would read it.
func decoded(t *testing.T, v any) any {
	t.Helper()
	b, err := encodeJSON(v)
	if err != nil {
		t.Fatal(err)
	}
	if !printable(string(b)) {
		t.Fatalf("JSON is not printable: %q", b)
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	var out any
	if err := d.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRunShowJSON(t *testing.T) {
	m := fields(t, decoded(t, runNumbers("k7q2xw").story(lived(), alive())), runStoryFields...)
	if m["number"] != "k7q2xw.19" || m["parent"] != "k7q2xw.18" || m["parent_id"] != "orders.day/friday" || m["result"] != nil || m["ended_at"] != nil {
		t.Errorf("run = %v, want number k7q2xw.19, its parent's .18, no result", m)
	}
	if headers := m["headers"].(map[string]any); headers["tenant"] != "\x1b]0;owned\x07" {
		t.Errorf("headers = %v, want the tenant's as it is", headers)
	}
	fields(t, m["input"], "body")
	records := list(t, m, "records", 11)
	item := fields(t, records[1], recordFields...)
	if item["name"] != "item[7]" || item["kind"] != "step" || item["state"] != "done" || item["took_ms"] != jsonNumber("1300") || item["message"] != "" {
		t.Errorf("record = %v, want the step item[7]", item)
	}
	fields(t, list(t, item, "attempts", 1)[0], "attempt", "started_at", "took_ms", "reason", "stack")
	list(t, item, "waits", 0)
	if ask := fields(t, records[3], recordFields...); ask["message"] != "k7q2xw-2r" || ask["value"] != nil {
		t.Errorf("record = %v, want a request without a value", ask)
	}
	fields(t, list(t, records[3].(map[string]any), "waits", 1)[0], "topic", "key", "since")
	fields(t, records[10].(map[string]any)["value"], "body_base64")
	mail := list(t, m, "mail", 4)
	for _, letter := range mail {
		fields(t, letter, mailFields...)
	}
	if settle := mail[0].(map[string]any); settle["kind"] != "settle" || settle["by"] != "anna" || settle["step"] != "charge-card" {
		t.Errorf("mail = %v, want anna's decision", settle)
	}
	fields(t, mail[1].(map[string]any)["message"], append([]string{"body"}, messageFields...)...)
	lock := fields(t, list(t, m, "locks", 1)[0], lockFields...)
	fields(t, list(t, lock, "waiters", 2)[1], "run", "number", "since")
	fields(t, list(t, m, "children", 1)[0], runRowFields...)
	fields(t, list(t, m, "late", 1)[0], append([]string{"body"}, messageFields...)...)
	if why := m["why"].([]any); len(why) == 0 {
		t.Error("why is empty")
	}
}
