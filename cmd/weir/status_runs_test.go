package main

import (
	"bytes"
	"testing"
	"time"

	weir "github.com/weir-go/weir"
)

// Runs that need a person come first, with their reasons; then how many there are.
func TestStatusRunsText(t *testing.T) {
	now := after(17 * time.Minute)
	count := func(workflow string, state weir.RunState, n int64, oldest time.Duration) weir.RunCount {
		return weir.RunCount{Workflow: workflow, State: state, Count: n, Oldest: after(oldest)}
	}
	s := state{now: now, running: true, process: &weir.Process{Owns: []string{"orders"}}, workflows: viewWorkflows([]weir.RunCount{
		count("orders.fulfil", weir.RunReady, 2, 16*time.Minute), count("orders.fulfil", weir.RunWaiting, 1_200, time.Minute),
		count("orders.fulfil", weir.RunNeedsPerson, 7, 5*time.Minute), count("orders.fulfil", "completed", 1_000_000, -time.Hour),
		count("orders.ship", "failed", 3, 0), count("orders.ship", "cancelled", 1, 0),
		count("bar.mix", weir.RunRunning, 1, 0), count("bar.mix", weir.RunReady, 1, 0), count("bar.mix", weir.RunNeedsPerson, 1, 0),
	})}
	for i, reason := range []string{"charge-card: outcome unknown: dial tcp 10.0.0.7:443: i/o timeout, and the bank cannot tell either\nstack", hostile} {
		s.needPerson = append(s.needPerson, weir.RunRow{
			Workflow: "orders.fulfil", ID: "order-" + string(rune('8'-i)), State: weir.RunNeedsPerson, StartedAt: after(time.Duration(6-i) * time.Minute), Reason: reason,
		})
	}
	var b bytes.Buffer
	s.writeNeeds(&b)
	s.writeRuns(&b)
	golden(t, "status_runs.golden", b.String())

	problems := s.problems()
	for i, want := range []string{
		"nobody works workflow bar.mix, and 1 run of it could go on", "7 runs of orders.fulfil need a person", "1 run of bar.mix needs a person",
	} {
		if len(problems) != 3 || problems[i].What != want {
			t.Fatalf("problems = %v, want the %d. of 3 to be %q", problems, i+1, want)
		}
	}
	s.running = false
	if problems := s.unworked(); len(problems) != 2 || problems[0].What != "no process works the store, and 2 runs of orders.fulfil could go on" {
		t.Errorf("unworked = %v, want both workflows' runs", problems)
	}
	v := fields(t, decoded(t, s.workflows[0]), workflowFields...)
	if v["needs_person"] != jsonNumber("7") || v["oldest_at"] != "2026-03-14T19:01:00.000000Z" {
		t.Errorf("workflow = %v, want 7 that need a person, the oldest of a minute past seven", v)
	}
}

// Runs that are ready for long while none of their workflow is worked are told of: nobody registers it, it seems.
func TestStatusWithoutAWorkflow(t *testing.T) {
	t.Parallel()
	now := time.Now()
	count := func(workflow string, state weir.RunState, since time.Duration) weir.RunCount {
		return weir.RunCount{Workflow: workflow, State: state, Count: 2, Oldest: now.Add(-24 * time.Hour), Since: now.Add(-since)}
	}
	crashed := count("orders.crashed", weir.RunReady, 0)
	crashed.Since = time.Time{}
	s := state{now: now, running: true, process: &weir.Process{Owns: []string{"orders"}, StartedAt: now.Add(-time.Hour)}, workflows: viewWorkflows([]weir.RunCount{
		count("orders.busy", weir.RunReady, 5*time.Minute), count("orders.busy", weir.RunRunning, 0), crashed,
		count("orders.forgotten", weir.RunReady, 90*time.Second), count("orders.new", weir.RunReady, time.Second), count("orders.waits", weir.RunWaiting, 0),
	})}
	problems := s.unworked()
	if len(problems) != 1 || problems[0].What != "2 runs of orders.forgotten could go on for 1m30s, and none is worked" {
		t.Errorf("problems = %v, want one about orders.forgotten", problems)
	}
	s.process.StartedAt = now
	if problems := s.unworked(); len(problems) != 0 {
		t.Errorf("problems = %v, want none of a process that has begun just now", problems)
	}
}
