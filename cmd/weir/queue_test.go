package main

import (
	"strings"
	"testing"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

func TestQueueLs(t *testing.T) {
	j := newJournal(t)
	j.work(1, 1, ticket{"order-1", "soup"}, ticket{"order-1", "slow"}, ticket{"order-2", "no soup"}, ticket{"order-3", "later"})
	j.weir(0, "queue", "ls").has("─ now", "─ last", "─ wait", "─ work", "─ lead", "QUEUE", "KIND", "DEPTH", "FILL", "EMPTY IN", "REJECTED",
		"kitchen.cook", "command", "1", "20,000", "<1%", "staff.serve", "event", "└ subscribes to kitchen.ready")
	for line := range strings.Lines(j.weir(0, "queue", "ls").out) {
		if n := len([]rune(line)); n > 166 {
			t.Errorf("a line of %d runes, want at most 166: %s", n, line)
		}
	}
	var m map[string]any
	j.weir(0, "queue", "ls", "--json", "--window", "1h").object(&m)
	q := fields(t, list(t, fields(t, m, "queues"), "queues", 2)[0], queueFields...)
	for name, want := range map[string]string{"sent": "4", "done": "2", "died": "1", "dead": "1", "deferred": "1", "depth": "1", "capacity": "20000"} {
		if q[name] != jsonNumber(want) {
			t.Errorf("%s = %v, want %s", name, q[name], want)
		}
	}
	if q["wait_p50_ms"] == jsonNumber("0") || q["drains_ms"] == nil && q["oldest_at"] == nil {
		t.Errorf("queue = %v, want a wait and an oldest message", q)
	}
}

func TestQueueShow(t *testing.T) {
	j := newJournal(t)
	j.work(0, 0, ticket{"order-1", "soup"})
	j.weir(0, "queue", "show", "kitchen.cook").has("queue", "kitchen.cook", "state", "running", "at death", "skip", "sent", "1 (")
	j.weir(3, "queue", "show", "kitchen.wash").complains(`"kitchen.wash"`, "weir queue ls")
	var m map[string]any
	j.weir(0, "queue", "show", "staff.serve", "--json").object(&m)
	fields(t, m["queue"], queueFields...)
}

// Pausing twice, and resuming what runs, are refused with 4; an unknown queue is 3.
func TestQueuePauseResume(t *testing.T) {
	j := newJournal(t)
	j.work(0, 0)
	j.weir(3, "queue", "pause", "kitchen.wash", "--why", "x").complains("kitchen.wash", "weir queue ls")
	j.weir(4, "queue", "resume", "kitchen.cook", "--why", "x").complains("neither paused nor parked")
	j.weir(0, "queue", "pause", "kitchen.cook", "--why", "oven "+hostile, "--by", "anna").has("Paused kitchen.cook")
	j.weir(4, "queue", "pause", "kitchen.cook", "--why", "x").complains("paused already", "anna")
	j.weir(0, "queue", "ls").has("kitchen.cook", "└ paused for", "by anna: oven", "staff.serve")
	var m map[string]any
	j.weir(0, "queue", "ls", "--json").object(&m)
	p := fields(t, list(t, m, "queues", 2)[0].(map[string]any)["paused"], "at", "by", "why")
	if p["by"] != "anna" || p["why"] != "oven "+hostile {
		t.Errorf("paused = %v, want by anna, why the oven", p)
	}
	j.weir(0, "queue", "resume", "kitchen.cook", "--why", "mended", "--by", "ben", "--json").object(&m)
	j.weir(0, "queue", "ls").lacks("paused")
}

// What has no column is told below the row.
func TestQueueNotes(t *testing.T) {
	now := time.Now()
	q := weir.QueueFigures{QueueState: store.QueueState{
		Queue:  store.Queue{Name: "staff.serve", Topic: store.Topic{Name: "kitchen.ready", Kind: store.KindEvent}, MaxLag: 1000},
		Parked: true, Gaps: 3, Depth: 2,
	}, Drains: -1}
	got := strings.Join(queueNotes(q, now), "\n")
	for _, want := range []string{"subscribes to kitchen.ready", "parked: more than 1,000 messages waited", "missed 3 messages"} {
		if !strings.Contains(got, want) {
			t.Errorf("notes = %q, want %q in it", got, want)
		}
	}
	if got := emptyIn(q); got != "never" {
		t.Errorf("emptyIn = %s, want never", got)
	}
	if got := viewQueue(q, now); got.Drains != nil || got.Fill != nil || got.Oldest != nil {
		t.Errorf("viewQueue = %+v, want null drains_ms, fill and oldest_ms", got)
	}
	if got := capacity(q) + " " + fill(q); got != "∞ -" {
		t.Errorf("capacity and fill = %s, want ∞ -", got)
	}
}
