package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden holds a text to testdata/name.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("text differs from %s (-update writes it anew):\n%s", path, got)
	}
}

// dinner is when the runs of these tests begin.
var dinner = time.Date(2026, 3, 14, 19, 0, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return dinner.Add(d) }

// lived is a run with one of everything.
func lived() weir.RunStory {
	return weir.RunStory{
		RunRow: weir.RunRow{
			No: 45, Workflow: "orders.fulfil", ID: "order-7", State: weir.RunNeedsPerson, StartedAt: dinner,
			Deadline: after(72 * time.Hour), Crashes: 1, Parent: 44, Reason: "charge-card: outcome unknown",
		},
		Version: 2, Epoch: 5, Input: []byte(`{"order": "order-7", "guest": "` + strings.Repeat("Anna ", 40) + `"}`),
		Headers: []byte(`{"tenant":"` + `\u001b]0;owned\u0007` + `","a":"b"}`), Cause: "k7q2xw-1hk3", Correlation: "k7q2xw-1hk0", ParentID: "orders.day/friday",
		Records: []weir.RunRecord{
			{N: 1, Kind: store.KindUntil, State: store.StepDone, Name: "stock-available", Attempt: 3, StartedAt: after(time.Millisecond), Took: 10 * time.Minute},
			{N: 2, Kind: store.KindStep, State: store.StepDone, Name: "item[7]", Attempt: 2, StartedAt: after(10 * time.Minute), Took: 1300 * time.Millisecond, Value: []byte(`{ "reserved": 2 }`)},
			{N: 3, Kind: store.KindOnce, State: store.StepParked, Name: "charge-card", Attempt: 1, StartedAt: after(11 * time.Minute), Took: 30 * time.Second, Reason: "outcome unknown: dial tcp 10.0.0.7:443: i/o timeout\n" + hostile},
			{N: 4, Kind: store.KindAsk, State: store.StepPending, Name: "parallel/left/ask-kitchen#2", Attempt: 1, StartedAt: after(12 * time.Minute), Due: after(22 * time.Minute), Pos: 99},
			{N: 5, Kind: store.KindWaitFor, State: store.StepPending, Name: "restocked", StartedAt: after(12 * time.Minute)},
			{N: 6, Kind: store.KindSleep, State: store.StepPending, Name: "cool-off", StartedAt: after(12 * time.Minute), Due: after(time.Hour)},
			{N: 7, Kind: store.KindChild, State: store.StepPending, Name: "ship", Attempt: 1, StartedAt: after(12 * time.Minute)},
			{N: 8, Kind: store.KindLock, State: store.StepPending, Name: "lock[order/7]", StartedAt: after(12 * time.Minute)},
			{N: 9, Kind: store.KindTry, State: store.StepOmitted, Name: "send-mail", Attempt: 3, StartedAt: after(13 * time.Minute), Took: time.Second, Reason: "smtp: " + strings.Repeat("no such box; ", 20)},
			{N: 10, Kind: store.KindNote, State: store.StepDone, Name: ":drift", StartedAt: after(14 * time.Minute), Reason: "recorded, and not asked for by the code any more: weigh"},
			{N: 11, Kind: store.KindStep, State: store.StepDone, Name: "label", Attempt: 1, StartedAt: after(14 * time.Minute), Took: time.Millisecond, Value: []byte("\xff\x00")},
		},
		Attempts: []weir.RunAttempt{
			{N: 2, Attempt: 1, StartedAt: after(10 * time.Minute), Took: time.Second, Reason: "warehouse: 503 " + hostile, Stack: "goroutine 1\n\tmain.go:7"},
			{N: 9, Attempt: 3, StartedAt: after(13 * time.Minute), Took: time.Second, Reason: "smtp: " + strings.Repeat("no such box; ", 20)},
		},
		Waits: []weir.RunWait{
			{N: 4, Topic: "kitchen.prepare-food.reply", Key: "k7q2xw-2r", Since: after(12 * time.Minute)},
			{N: 5, Topic: "warehouse.stock-changed", Key: "12 " + hostile, Since: dinner},
		},
		Mail: []weir.RunMail{
			{No: 7, At: after(15 * time.Minute), Kind: store.SettleMail, Step: "charge-card", Value: []byte(`{"id":"ch_1"}`), By: "anna", Why: "the bank says it is charged"},
			{No: 8, At: after(16 * time.Minute), Kind: store.Arrived, N: 5, Message: &store.Message{ID: "k7q2xw-2s", Topic: "warehouse.stock-changed", Body: []byte(`12`)}},
			{No: 9, At: after(16 * time.Minute), Kind: store.ChildEnded, N: 7, Child: &store.RunEnd{No: 46, ID: "order-7/ship", Outcome: store.Failed, Reason: "no van"}},
			{No: 10, At: after(16 * time.Minute), Kind: store.Locked, N: 8, Fence: 12},
		},
		Locks: []weir.LockRow{
			{Name: "order/7", Fence: 11, Holder: 43, HolderID: "orders.refund/order-7", Since: after(-time.Hour), Waiters: []weir.LockWaiter{
				{Run: 40, RunID: "orders.fulfil/order-6", Since: after(time.Minute)}, {Run: 45, RunID: "orders.fulfil/order-7", Since: after(12 * time.Minute)}}},
		},
		Children: []weir.RunRow{{No: 46, Workflow: "orders.ship", ID: "order-7/ship", State: weir.RunWaiting, StartedAt: after(12 * time.Minute), Reason: "waits for a van", Parent: 45}},
		Late:     []weir.MessageRow{{ID: "k7q2xw-2q", Topic: "kitchen.weigh.reply", Kind: store.KindReply, Cause: "k7q2xw-2p", SentAt: after(15 * time.Minute), Body: []byte(`{"grams": 300}`)}},
	}
}

// alive are the processes of these tests.
func alive() weir.Surroundings {
	return weir.Surroundings{Now: after(17 * time.Minute), Live: []weir.Process{{ID: 3, PID: 4711, Host: "till", Owns: []string{"kitchen", "orders"}}}}
}

func shown(t *testing.T, story weir.RunStory, full bool) string {
	t.Helper()
	var out bytes.Buffer
	a := &app{out: &out}
	teller := runTeller{numbers: "k7q2xw", story: story, in: alive(), full: full}
	err := a.print(nil, func(w *tabwriter.Writer) {
		teller.head(w)
		teller.why(w)
		teller.timeline(w)
		teller.around(w)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range out.String() {
		if r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e) {
			t.Fatalf("printed %U:\n%q", r, out.String())
		}
	}
	return out.String()
}

func TestRunShowText(t *testing.T) {
	text := shown(t, lived(), false)
	golden(t, "run_show.golden", text)
	for _, line := range strings.Split(text, "\n") {
		if n := utf8.RuneCountInString(line); n > textWidth {
			t.Errorf("a line has %d columns, want %d at most: %s", n, textWidth, line)
		}
	}
	golden(t, "run_show_full.golden", shown(t, lived(), true))

	s := lived()
	s.State, s.EndedAt, s.Reason, s.Result = "completed", after(20*time.Minute), "", []byte(`{"invoice": "i-1"}`)
	s.Records, s.Waits, s.Attempts, s.Mail, s.Locks, s.Children, s.Late = s.Records[:2], nil, nil, nil, nil, nil, nil
	golden(t, "run_show_ended.golden", shown(t, s, false))
}

func TestRunGrid(t *testing.T) {
	row := func(state weir.RunState, change func(*weir.RunRow)) weir.RunRow {
		r := weir.RunRow{Workflow: "orders.fulfil", ID: "order-7", State: state, StartedAt: dinner}
		change(&r)
		return r
	}
	var b bytes.Buffer
	runGrid([]weir.RunRow{
		row(weir.RunReady, func(*weir.RunRow) {}),
		row(weir.RunRunning, func(r *weir.RunRow) { r.Process = 3 }),
		row(weir.RunWaiting, func(r *weir.RunRow) { r.Wake = after(time.Hour); r.Reason = "sleeps" }),
		row(weir.RunWaiting, func(r *weir.RunRow) { r.Wake = after(time.Minute) }),
		row(weir.RunWaiting, func(r *weir.RunRow) { r.ID = "order/" + hostile }),
		row(weir.RunNeedsPerson, func(r *weir.RunRow) { r.Reason = strings.Repeat("no stock ", 10) + "\nstack" }),
		row("completed", func(r *weir.RunRow) { r.EndedAt = after(1500 * time.Millisecond) }),
		row("failed", func(r *weir.RunRow) { r.EndedAt = after(time.Hour); r.Reason = hostile }),
	}, after(17*time.Minute)).write(&b)
	golden(t, "run_ls.golden", b.String())
}

func TestLockGrid(t *testing.T) {
	l := lived().Locks[0]
	many := weir.LockRow{Name: "table/" + hostile, Fence: 2, HolderID: "orders.fulfil/order-1", Since: dinner}
	for range waitersShown + 3 {
		many.Waiters = append(many.Waiters, l.Waiters[0])
	}
	var b bytes.Buffer
	lockGrid([]weir.LockRow{l, many}, after(17*time.Minute)).write(&b)
	golden(t, "lock_ls.golden", b.String())
}

// Text is broken at blanks and no word is cut.
func TestWrapped(t *testing.T) {
	id := strings.Repeat("x", textWidth+20)
	for _, c := range []struct{ lead, text, want string }{
		{"- ", "short", "- short"},
		{"", "", ""},
		{"- ", strings.TrimSpace(strings.Repeat("abcd ", 40)), "- " + strings.TrimSpace(strings.Repeat("abcd ", 19)) + "\n  " +
			strings.TrimSpace(strings.Repeat("abcd ", 19)) + "\n  abcd abcd"},
		{"- ", "run " + id + " waits", "- run\n  " + id + "\n  waits"},
	} {
		if got := strings.Join(wrapped(c.lead, c.text), "\n"); got != c.want {
			t.Errorf("wrapped(%q, %q) =\n%s\nwant\n%s", c.lead, c.text, got, c.want)
		}
	}
}

func TestTracedRun(t *testing.T) {
	s := lived()
	stories := []weir.MessageStory{
		{Message: store.Message{ID: "k7q2xw-1hk3", Topic: "orders.take", Kind: store.KindCommand, Key: "order-7", SentAt: after(-time.Second)}},
		{Message: store.Message{ID: "k7q2xw-2p", Topic: "kitchen.weigh", Kind: store.KindCommand, Cause: runNumbers("k7q2xw").text(45), SentAt: after(time.Minute)}},
	}
	var b bytes.Buffer
	writeTrace(&b, "order-7", traced(stories, []weir.RunStory{s}, "k7q2xw", alive()))
	golden(t, "trace_run.golden", b.String())
}
