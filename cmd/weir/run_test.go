package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
)

// till works runs of a journal by hand: what stands in it is then known exactly.
type till struct {
	journal
	st store.Store
}

const (
	fulfil = "orders.fulfil"
	ship   = "orders.ship"
)

func newTill(t *testing.T) till {
	t.Helper()
	return newJournal(t).till()
}

func (j journal) till() till {
	t := j.t
	t.Helper()
	x := till{journal: j}
	var err error
	if x.st, err = sqlite.File(x.file)(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.st.Close() })
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if err := x.st.Begin(t.Context(), &store.Process{PID: os.Getpid(), Host: host, Version: "test", Owns: []string{"orders"}}); err != nil {
		t.Fatal(err)
	}
	return x
}

func (x till) commit(c *store.Change) {
	x.t.Helper()
	if err := x.st.Commit(context.Background(), &store.Group{Changes: []*store.Change{c}}); err != nil {
		x.t.Fatal(err)
	}
	if c.Err != nil {
		x.t.Fatal(c.Err)
	}
}

// start starts a run, not leased.
func (x till) start(workflow, id string) *store.RunStart {
	x.t.Helper()
	s := &store.RunStart{Workflow: workflow, ID: id, Version: 1, Input: []byte(`{"order":"` + id + `"}`)}
	x.commit(&store.Change{Runs: []*store.RunStart{s}})
	return s
}

// claim leases the workflow's run that is ready the longest.
func (x till) claim(workflow string) *store.Run {
	x.t.Helper()
	got, err := x.st.Claim(context.Background(), store.ClaimRequest{Workflow: workflow, Max: 1})
	if err != nil || len(got.Runs) != 1 {
		x.t.Fatalf("Claim = %d runs, %v, want 1", len(got.Runs), err)
	}
	return got.Runs[0]
}

// leave starts a run, claims it, and leaves it as the update says.
func (x till) leave(workflow, id string, u store.RunUpdate) *store.Run {
	x.t.Helper()
	x.start(workflow, id)
	r := x.claim(workflow)
	u.RunRef = r.RunRef
	x.commit(&store.Change{Run: &u})
	return r
}

// parked is a run whose card was charged, or not.
func (x till) parked(id string) {
	x.t.Helper()
	now := time.Now()
	x.leave(fulfil, id, store.RunUpdate{
		Verdict: store.Parked, Reason: "charge-card: outcome unknown: " + hostile,
		Records: []*store.Record{
			{N: 1, Kind: store.KindStep, State: store.StepDone, Name: "reserve-stock", Attempt: 2, StartedAt: now, Took: time.Second, Value: []byte(`{"reserved":2}`)},
			{N: 2, Kind: store.KindOnce, State: store.StepParked, Name: "charge-card", Attempt: 1, StartedAt: now, Took: time.Second, Reason: "outcome unknown: " + hostile},
		},
		Attempts: []store.StepAttempt{{N: 1, Attempt: 1, StartedAt: now, Took: time.Millisecond, Reason: "the warehouse is busy", Stack: "main.go:7"}},
	})
}

// day has a run in each state.
func (x till) day() {
	x.t.Helper()
	x.leave(fulfil, "order-1", store.RunUpdate{Verdict: store.Ended, Outcome: store.Completed, Result: []byte(`{"invoice":"i-1"}`)})
	x.leave(fulfil, "order-2", store.RunUpdate{Verdict: store.Ended, Outcome: store.Failed, Reason: "declined: " + hostile})
	x.leave(fulfil, "order-3", store.RunUpdate{
		Verdict: store.Waiting, Wake: time.Now().Add(90 * time.Minute), // so many minutes after it began it is still one hour and more
		Records: []*store.Record{{N: 1, Kind: store.KindSleep, State: store.StepPending, Name: "cool-off", StartedAt: time.Now(), Due: time.Now().Add(90 * time.Minute)}},
	})
	x.parked("order-4")
	x.start(fulfil, "order-5")
	x.claim(fulfil)
	x.start(fulfil, "order-6")
	x.start(ship, "order-6")
}

func TestRunLs(t *testing.T) {
	x := newTill(t)
	x.weir(0, "run", "ls").has("No runs.")
	x.day()
	x.weir(0, "run", "ls").has("AGE", "WORKFLOW", "ID", "STATE", "NEXT", "REASON",
		"orders.ship", "order-6", "ready", "orders.fulfil", "order-6", "ready", "order-5", "running", "process 1",
		"order-4", "needs-person", `outcome unknown: \x1b]0`, "order-3", "waiting", "in 1h", "order-2", "failed", "took", `declined: \x1b`, "order-1", "completed")
	x.weir(0, "run", "ls", "--workflow", ship).has("order-6").lacks("orders.fulfil")
	x.weir(0, "run", "ls", "--prefix", "order-4").has("order-4").lacks("order-5")
	x.weir(0, "run", "ls", "--prefix", "order-9").has("No runs.")
	for state, n := range map[string]int{
		"ready": 2, "running": 1, "waiting": 1, "needs-person": 1, "completed": 1, "failed": 1, "cancelled": 0, "ended": 2,
	} {
		var m map[string]any
		x.weir(0, "run", "ls", "--state", state, "--json").object(&m)
		list(t, fields(t, m, "runs", "next"), "runs", n)
	}
	var m map[string]any
	x.weir(0, "run", "ls", "--max", "4", "--json").object(&m)
	first := fields(t, list(t, m, "runs", 4)[3], runRowFields...)
	if first["id"] != "order-4" || first["number"] != m["next"] {
		t.Errorf("last of the page = %v, want order-4, and next its number", first)
	}
	next := m["next"].(string)
	x.weir(0, "run", "ls", "--max", "4").has("There may be more: --before " + next)
	x.weir(0, "run", "ls", "--max", "4", "--before", next, "--json").object(&m)
	if list(t, m, "runs", 3); m["next"] != nil {
		t.Errorf("next of the last page = %v, want null", m["next"])
	}
	x.weir(2, "run", "ls", "--before", "nonsense").complains("nonsense")
	x.weir(3, "run", "ls", "--before", "abcdef.1").complains("abcdef")
}

func TestRunShow(t *testing.T) {
	x := newTill(t)
	x.day()
	x.weir(0, "run", "show", "order-4").has("run", "order-4", "workflow", "orders.fulfil (version 1)", "state", "needs-person",
		"now", "- needs a person: step charge-card: outcome unknown:", "weir run settle orders.fulfil/order-4 --step charge-card",
		"(start)", `input {"order":"order-4"}`, "reserve-stock", "step", "done", "1.0s", "attempt 1 at +", "the warehouse is busy", "attempt 2: done", `value {"reserved":2}`,
		"charge-card", "once", "needs-person", `outcome unknown: \x1b]0;owned`,
		"(stopped)", "needs-person", `charge-card: outcome unknown: \x1b]0;owned`).lacks("main.go:7")
	x.weir(0, "run", "show", "order-4", "--full").has("main.go:7", `"reserved": 2`)
	x.weir(0, "run", "show", "order-1").has("state", "completed", "ended", "(end)", "completed", `result {"invoice":"i-1"}`).lacks("now")
	var m map[string]any
	x.weir(0, "run", "show", "order-4", "--json").object(&m)
	list(t, fields(t, m, runStoryFields...), "records", 2)
	x.weir(3, "run", "show", "order-9").complains("order-9", "weir run ls")
}

func TestRunWhy(t *testing.T) {
	x := newTill(t)
	x.day()
	for id, why := range map[string]string{
		"order-1":               "- has ended: completed at 2",
		"order-2":               `- has ended: failed at 2`,
		"order-3":               "- waits until 2",
		"order-4":               "- needs a person: step charge-card: outcome unknown",
		"order-5":               "- is running in process 1 (pid ",
		"orders.fulfil/order-6": "- is ready: process 1 takes it",
	} {
		x.weir(0, "run", "why", id).has("run order-", "of orders.fulfil\n", why)
	}
	var m map[string]any
	x.weir(0, "run", "why", "order-3", "--json").object(&m)
	list(t, fields(t, m, "workflow", "id", "state", "why"), "why", 1)
	if err := x.st.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	x.weir(0, "run", "why", "order-5").has("no live process works the store")
}

// A run whose process has ended without a word is told of as lost, then as a suspect.
func TestRunWhyCrashed(t *testing.T) {
	x := newTill(t)
	x.start(fulfil, "order-1")
	x.claim(fulfil)
	if err := x.st.Close(); err != nil {
		t.Fatal(err)
	}
	x = x.journal.till()
	x.weir(0, "run", "why", "order-1").has("- crashed its process once; it waits to run alone")
	x.weir(0, "run", "show", "order-1").has("crashes", "1 of its process")
}

// An ID that several runs have, or that may be read in two ways, is refused rather than guessed.
func TestRunNamed(t *testing.T) {
	x := newTill(t)
	x.start(fulfil, "order-6")
	x.start(ship, "order-6")
	x.weir(2, "run", "show", "order-6").complains("orders.fulfil", "orders.ship", "--workflow NAME")
	x.weir(2, "run", "cancel", "order-6", "--why", "x").complains("--workflow NAME")
	x.weir(0, "run", "show", "order-6", "--workflow", ship).has("orders.ship (version 1)")
	x.weir(0, "run", "show", "orders.ship/order-6").has("orders.ship (version 1)")
	x.weir(3, "run", "show", "order-6", "--workflow", "orders.bill").complains("no run of orders.bill", "order-6")
	x.weir(3, "run", "show", "orders.ship/order-7").complains("orders.ship/order-7")

	x.start(fulfil, "order-7/ship") // a child's
	x.weir(0, "run", "show", "order-7/ship").has("orders.fulfil (version 1)")
	x.weir(0, "run", "show", "orders.fulfil/order-7/ship").has("orders.fulfil (version 1)")
	x.start(ship, "orders.fulfil/order-6")
	x.weir(2, "run", "abandon", "orders.fulfil/order-6", "--why", "x").complains("say which with --workflow")
	x.weir(0, "run", "show", "orders.fulfil/order-6", "--workflow", ship).has("orders.ship (version 1)")
}

// What a person decides is mail for the run, and a row of the audit.
func TestRunActs(t *testing.T) {
	x := newTill(t)
	x.day()
	x.weir(4, "run", "cancel", "order-1", "--why", "x").complains("weir: ")
	x.weir(4, "run", "retry", "order-3", "--why", "x").complains("weir: ")
	x.weir(4, "run", "settle", "order-5", "--value", "1", "--why", "x").complains("weir: ")
	x.weir(3, "run", "skip", "order-9", "--why", "x").complains("order-9")

	x.weir(0, "run", "cancel", "order-3", "--why", "sold out", "--by", "anna").has("Run order-3 of orders.fulfil: asked to end")
	x.weir(0, "run", "why", "order-3").has("anna decided", "cancel it: sold out")
	for id, c := range map[string]struct {
		args []string
		why  string
	}{
		"order-11": {[]string{"retry"}, "retry charge-card: asked the bank"},
		"order-12": {[]string{"settle", "--step", "charge-card", "--value", `{"id":"ch_1"}`}, "settle charge-card: asked the bank"},
		"order-13": {[]string{"settle", "--failed"}, "settle charge-card: asked the bank"},
		"order-14": {[]string{"skip", "--step", "charge-card"}, "skip charge-card: asked the bank"},
		"order-15": {[]string{"abandon"}, "abandon it"},
	} {
		x := newTill(t)
		x.parked(id)
		var m map[string]any
		x.weir(0, append([]string{"run", c.args[0], id, "--why", "asked the bank", "--by", hostile, "--json"}, c.args[1:]...)...).object(&m)
		if fields(t, m, "verb", "workflow", "id", "step", "by", "why"); m["verb"] != c.args[0] || m["workflow"] != fulfil {
			t.Errorf("%s = %v", c.args[0], m)
		}
		x.weir(0, "run", "why", id).has(`\x1b]0;owned`, c.why)
		x.weir(0, "audit", "ls").has("run "+c.args[0], id, "asked the bank")
		r := x.claim(fulfil)
		if len(r.Mail) != 1 || r.Mail[0].Why != "asked the bank" {
			t.Errorf("%s: mail = %+v, want the decision", c.args[0], r.Mail)
		}
		if strings.HasPrefix(c.args[0], "settle") && (r.Mail[0].Failed != (c.args[1] == "--failed")) {
			t.Errorf("mail = %+v, want the decision of %v", r.Mail[0], c.args)
		}
	}
}

func TestLocks(t *testing.T) {
	x := newTill(t)
	x.weir(0, "lock", "ls").has("No run holds a lock.")
	x.weir(3, "lock", "break", "order/7", "--why", "x").complains("order/7")
	acquire := func() store.RunUpdate {
		return store.RunUpdate{
			Verdict: store.Waiting, Locks: []store.LockAct{{N: 1, Name: "order/7"}},
			Records: []*store.Record{{N: 1, Kind: store.KindLock, State: store.StepPending, Name: "lock[order/7]", StartedAt: time.Now()}},
		}
	}
	x.leave(fulfil, "order-1", acquire())
	x.leave(fulfil, "order-2", acquire())
	x.weir(0, "lock", "ls").has("LOCK", "FENCE", "HELD BY", "FOR", "IN LINE", "order/7", "orders.fulfil/order-1", "1. orders.fulfil/order-2, for")
	x.weir(0, "run", "show", "order-2").has("is in line for lock order/7, as number 1 of 1; it is held by run orders.fulfil/order-1", "locks", "order/7")
	var m map[string]any
	x.weir(0, "lock", "ls", "--json").object(&m)
	lock := fields(t, list(t, fields(t, m, "locks", "cut"), "locks", 1)[0], lockFields...)
	fields(t, list(t, lock, "waiters", 1)[0], "run", "number", "since")
	x.weir(0, "lock", "break", "order/7", "--why", hostile, "--json").object(&m)
	x.weir(0, "lock", "ls").has("order/7", "orders.fulfil/order-2").lacks("order-1")
	x.weir(0, "audit", "ls").has("lock break", "order/7", `\x1b]0;owned`)
}

// Status says first who needs a person; each such workflow is a problem.
func TestStatusRuns(t *testing.T) {
	x := newTill(t)
	x.start(ship, "order-0")
	x.weir(0, "status").has("WORKFLOW", "READY", "orders.ship", "1")
	x.day()
	x.weir(5, "status").has("1 run needs a person", "! orders.fulfil/order-4, started", `\x1b]0;owned`, "weir run why", "WORKFLOW", "NEED PERSON",
		"orders.fulfil", "orders.ship", "1 problem:", "1 run of orders.fulfil needs a person")
	var m map[string]any
	x.weir(5, "status", "--json").object(&m)
	fields(t, list(t, m, "workflows", 2)[0], workflowFields...)
	fields(t, list(t, m, "needs_person", 1)[0], runRowFields...)
	if err := x.st.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	x.weir(5, "status").has("problems:", "no process works the store, and", "of orders.fulfil could go on")
	x.weir(5, "doctor").has("no process works the store, and")
}

// A run whose ID is the key is part of its trace, with the messages that it sent.
func TestTraceRuns(t *testing.T) {
	x := newTill(t)
	if err := x.declare(); err != nil {
		t.Fatal(err)
	}
	s := x.start(fulfil, "order-7")
	r := x.claim(fulfil)
	cause := x.st.Info().Incarnation.RunID(s.No)
	sent := &store.Message{Topic: "kitchen.cook", Kind: store.KindCommand, Version: 1, Cause: cause, Correlation: cause, Body: []byte(`{}`)}
	x.commit(&store.Change{Sends: []*store.Message{sent}, Run: &store.RunUpdate{RunRef: r.RunRef}})
	x.commit(&store.Change{Run: &store.RunUpdate{RunRef: r.RunRef, Verdict: store.Waiting, Records: []*store.Record{
		{N: 1, Kind: store.KindAsk, State: store.StepPending, Name: "ask-kitchen", Attempt: 1, StartedAt: time.Now(), Pos: sent.Pos},
	}}})
	x.weir(0, "trace", "order-7").has("order-7: 1 run and 1 message since", "MESSAGE OR RUN", "+0s  orders.fulfil", "run", cause, "order-7",
		"ask-kitchen: ask, pending", "run waits for", "kitchen.cook", sent.ID)
	var m map[string]any
	x.weir(0, "trace", "order-7", "--json").object(&m)
	fields(t, m, "key", "messages", "runs", "cut")
	list(t, m, "messages", 1)
	fields(t, list(t, m, "runs", 1)[0], runRowFields...)
	x.start(ship, "order-7")
	x.weir(0, "trace", "order-7").has("2 runs and 1 message", "orders.fulfil", "orders.ship")
	x.weir(3, "trace", "order-8").complains("order-8", "weir run ls")
}

func (x till) declare() error {
	topic := store.Topic{Name: "kitchen.cook", Kind: store.KindCommand}
	_, err := x.st.Declare(context.Background(), []store.Topic{topic}, []store.Queue{{Name: topic.Name, Topic: topic}})
	return err
}

// The engine's verbs refuse what cannot be: too large a value, a list without bounds.
func TestRunBounds(t *testing.T) {
	x := newTill(t)
	e, err := weir.Open(t.Context(), sqlite.File(x.file), weir.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.SettleRun(t.Context(), weir.RunSelection{ID: "x"}, weir.Settled{Value: make([]byte, 1<<20+1)}, weir.Because{By: "a", Why: "b"}); err == nil {
		t.Error("SettleRun of more than 1 MiB succeeded")
	}
	if _, err := e.Locks(t.Context(), 1001); err == nil {
		t.Error("Locks of 1001 succeeded")
	}
}
