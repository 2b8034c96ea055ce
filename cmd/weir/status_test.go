package main

import (
	"errors"
	"os"
	"testing"
	"time"

	weir "github.com/weir-go/weir"
)

// queueFields are a queue's fields in JSON: what scripts rely on.
var queueFields = []string{
	"name", "topic", "kind", "depth", "capacity", "fill", "leased", "deferred", "dead", "oldest_at", "oldest_ms",
	"window_ms", "sent", "done", "died", "failed", "rejected", "sent_per_s", "done_per_s", "drains_ms",
	"wait_p50_ms", "wait_p99_ms", "work_p50_ms", "work_p99_ms", "lead_p50_ms", "lead_p99_ms",
	"paused", "parked", "gaps", "on_dead", "required", "max_lag",
}

// Status of a service that runs and is well ends with 0, and names the process.
func TestStatusRunning(t *testing.T) {
	j := newJournal(t)
	e := j.service()
	j.start(e)
	j.send(e, ticket{"order-1", "soup"})
	j.settled(e, 0, 0)
	j.weir(0, "status").has("store", j.file, "process", "running for", "owns kitchen, staff",
		"QUEUE", "kitchen.cook", "running", "staff.serve", "running", "total").lacks("problem")
	var m map[string]any
	j.weir(0, "status", "--json").object(&m)
	fields(t, m, "ok", "store", "process", "queues", "totals", "workflows", "needs_person", "problems")
	list(t, m, "workflows", 0)
	list(t, m, "needs_person", 0)
	if m["ok"] != true {
		t.Errorf("ok = %v, want true", m["ok"])
	}
	fields(t, m["store"], "kind", "name", "incarnation", "schema")
	p := fields(t, m["process"], "id", "state", "pid", "host", "version", "owns", "started_at", "beat_at", "ended_at")
	if p["state"] != "running" || p["ended_at"] != nil {
		t.Errorf("process = %v, want it running", p)
	}
	totals := fields(t, m["totals"], "queues", "depth", "leased", "deferred", "dead", "sent_per_s", "done_per_s")
	if totals["queues"] != jsonNumber("2") || totals["depth"] != jsonNumber("0") {
		t.Errorf("totals = %v, want 2 queues and depth 0", totals)
	}
	q := fields(t, list(t, m, "queues", 2)[0], queueFields...)
	if q["name"] != "kitchen.cook" || q["kind"] != "command" || q["on_dead"] != "skip" || q["paused"] != nil {
		t.Errorf("queue = %v, want kitchen.cook", q)
	}
	list(t, m, "problems", 0)
}

// Each thing that somebody should see to is a problem, and the exit code is 5.
func TestStatusProblems(t *testing.T) {
	j := newJournal(t)
	j.work(1, 0, ticket{"order-1", "no soup"})
	j.weir(5, "status").has("none; the last ended", "kitchen.cook", "stopped", "1 problem:", "queue kitchen.cook has 1 dead letter", "weir dead ls kitchen.cook")

	e := j.service()
	j.send(e, ticket{"order-2", "soup"})
	j.weir(5, "status").has("2 problems:", "no process works the store, and 1 message waits")

	j.weir(0, "queue", "pause", "kitchen.cook", "--why", hostile, "--by", "anna")
	var room *weir.FullError
	for n := 0; room == nil; n++ {
		batch := make([]ticket, 10_000)
		if n > 0 {
			batch = make([]ticket, 9_999)
		}
		if err := weir.SendAll(t.Context(), e, cook, batch); err != nil && !errors.As(err, &room) {
			t.Fatal(err)
		}
	}
	j.weir(5, "status").has("paused", "4 problems:", "is paused for", "by anna", `\x1b]0;owned`, "weir queue resume kitchen.cook",
		"is full and refuses sends: 20,000 of 20,000")
	var m map[string]any
	j.weir(5, "status", "--json").object(&m)
	for _, p := range list(t, m, "problems", 4) {
		fields(t, p, "what", "do")
	}
	if m["ok"] != false {
		t.Errorf("ok = %v, want false", m["ok"])
	}
}

// A queue of a boundary that the running process does not own is worked by nobody.
func TestStatusUnowned(t *testing.T) {
	now := time.Now()
	s := state{now: now, running: true, process: &weir.Process{Owns: []string{"kitchen"}}, queues: make([]weir.QueueFigures, 3)}
	for i, name := range []string{"kitchen.cook", "staff.serve", "idle.sleep"} {
		s.queues[i].Name = name
		s.queues[i].Depth = int64(1 - i/2)
	}
	problems := s.problems()
	if len(problems) != 1 || problems[0].What != "nobody works queue staff.serve, and 1 message waits" {
		t.Errorf("problems = %v, want one about staff.serve", problems)
	}
}

// A command that the running process's boundary is sent, and that nothing handles, is said to wait.
func TestStatusWithoutAHandler(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := state{now: now, running: true, process: &weir.Process{Owns: []string{"kitchen"}, StartedAt: now.Add(-time.Hour)}, queues: make([]weir.QueueFigures, 6)}
	for i, name := range []string{"kitchen.forgotten", "kitchen.new", "kitchen.worked", "kitchen.later", "kitchen.shut@floor", "kitchen.blocked"} {
		s.queues[i].Name, s.queues[i].Depth, s.queues[i].Oldest = name, 2, now.Add(-90*time.Second)
	}
	s.queues[1].Oldest = now.Add(-time.Second)
	s.queues[2].Failed = 1
	s.queues[3].Deferred = 2
	s.queues[5].Dead = 1
	problems := s.unworked()
	if len(problems) != 1 || problems[0].What != "2 messages wait in queue kitchen.forgotten for 1m30s, and none was begun" {
		t.Errorf("problems = %v, want one about kitchen.forgotten", problems)
	}
	s.process.StartedAt = now
	if problems := s.unworked(); len(problems) != 0 {
		t.Errorf("problems = %v, want none of a process that has begun just now", problems)
	}
}

func TestProcessState(t *testing.T) {
	now := time.Now()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		p    weir.Process
		want string
	}{
		{"alive", weir.Process{PID: os.Getpid(), Host: host, BeatAt: now}, processRunning},
		{"elsewhere", weir.Process{PID: 1 << 22, Host: host + "-other", BeatAt: now.Add(-30 * time.Second)}, processRunning},
		{"killed a moment ago", weir.Process{PID: 1<<22 + 1, Host: host, BeatAt: now}, processSilent},
		{"silent", weir.Process{PID: os.Getpid(), Host: host, BeatAt: now.Add(-2 * time.Minute)}, processSilent},
		{"ended", weir.Process{PID: os.Getpid(), Host: host, BeatAt: now, EndedAt: now}, processEnded},
	} {
		if got := processState(c.p, now); got != c.want {
			t.Errorf("%s: processState = %s, want %s", c.name, got, c.want)
		}
	}
}
