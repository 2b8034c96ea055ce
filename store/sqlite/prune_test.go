package sqlite_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// line is n words without a key.
func line(n int) string {
	var words []string
	for i := range n {
		words = append(words, fmt.Sprint(i))
	}
	return strings.Join(words, " ")
}

// gone wants a message to be deleted.
func (d *desk) gone(id string, want bool) {
	d.Helper()
	if _, err := d.read.Message(d.ctx(), id); errors.Is(err, store.ErrNotFound) != want {
		d.Errorf("Message(%s) = %v, want it gone: %t", id, err, want)
	}
}

func TestPruneRefuses(t *testing.T) {
	d := openDesk(t)
	for _, r := range []store.Retention{{Max: 0}, {Max: store.MaxPrune + 1}, {Keep: -1, Max: 1}} {
		if _, err := d.store.Prune(d.ctx(), r); err == nil {
			t.Errorf("Prune(%+v) = nil, want an error", r)
		}
	}
}

func TestPruneSteps(t *testing.T) {
	d := openDesk(t, command())
	d.send(cook, line(950))
	for range 9 {
		got, err := d.store.Claim(d.ctx(), store.ClaimRequest{Queue: d.ids[cook], Max: 100})
		if err != nil {
			t.Fatalf("Claim = %v, want nil", err)
		}
		ch := &store.Change{}
		for _, m := range got.Batch.Deliveries {
			ch.Settle = append(ch.Settle, settlement(got.Batch, string(m.Message.Body), store.Done, d.now))
		}
		d.commit(ch)
	}
	if got := d.prune(time.Hour); got != (store.Pruned{}) {
		t.Errorf("Prune of what is young = %+v, want nothing", got)
	}
	d.move(2 * time.Hour)
	got := d.prune(time.Hour)
	if got.Messages != 900 || got.Batches != 9 { // batch 0 too, but not the newest
		t.Errorf("Prune = %+v, want 900 messages and 9 batches: what waits is kept", got)
	}
	d.holds(cook, 50, 0, 0, 0)
	if q := d.state(cook); !q.Oldest.Equal(d.now.Add(-2 * time.Hour)) {
		t.Errorf("Queues: oldest %s, want 2h ago", q.Oldest)
	}
	d.work(cook, strings.Join(strings.Fields(line(950))[900:], " "))
	if got := d.prune(time.Hour); got.Messages != 50 {
		t.Errorf("Prune = %+v, want 50 messages", got)
	}
	d.send(cook, "1")
	d.work(cook, "1")
}

func TestPruneKeepsWhatIsReferredTo(t *testing.T) {
	d := openDesk(t, command())
	sent := d.send(cook, "a1 2 3 4")
	b := d.claim(cook, "a1 2 3 4")
	d.settle(b, store.Dead, "a1")
	d.settle(b, store.Retry, "2")
	d.settle(b, store.Done, "3")
	d.move(2 * time.Hour)
	if got := d.prune(time.Hour); got.Messages != 4 || got.Batches != 1 {
		t.Errorf("Prune = %+v, want 4 messages (three are copied) and batch 0", got)
	}
	for i, want := range []bool{false, false, true, false} {
		d.gone(sent[i].ID, want)
	}
	if l := d.letter(cook, sent[0].ID); string(l.Message.Body) != "a1" || len(l.History) != 1 || l.History[0].Stack == "" {
		t.Errorf("Dead after Prune = %+v, want its body and history", l)
	}
	listed, err := d.read.Messages(d.ctx(), store.MessageQuery{})
	if err != nil || len(listed) != 3 || listed[0].ID != sent[3].ID || listed[2].ID != sent[0].ID {
		t.Errorf("Messages = %d, %v, want those kept, newest first", len(listed), err)
	}
	d.settle(b, store.Done, "4")
	d.operate(store.Act{Verb: store.RetryDead, ID: sent[0].ID, Headers: []byte("{}")})
	d.work(cook, "a1 2")
	if got := d.prune(time.Hour); got.Other != 3+4+1 { // copies, attempts, the edit
		t.Errorf("Prune = %+v, want 8 others", got)
	}
	for _, m := range sent {
		d.gone(m.ID, true)
	}
	d.empty("attempts", "edits", "kept", "starts", "messages", "dead", "deferred")
}

// empty wants tables without rows.
func (d *desk) empty(tables ...string) {
	d.Helper()
	for _, table := range tables {
		if n := d.count(table); n != 0 {
			d.Errorf("%s holds %d rows, want none", table, n)
		}
	}
}

func TestPruneManyAttempts(t *testing.T) {
	d := openDesk(t, command())
	id := d.send(cook, "1")[0].ID
	for range 250 {
		d.settle(d.claim(cook, "1"), store.NotYet, "1")
		d.move(time.Minute)
	}
	if s := d.story(id).Queues[0]; len(s.Attempts) != 250 || s.State != "deferred" {
		t.Errorf("Message = %d attempts, %s, want 250, deferred", len(s.Attempts), s.State)
	}
	d.work(cook, "1")
	if got := d.prune(time.Minute); got.Other < 251 { // each step at most 100, see prune
		t.Errorf("Prune = %+v, want at least 251 others", got)
	}
	d.empty("attempts", "messages", "kept")
}

func TestPruneParked(t *testing.T) {
	slow, fast := event(waiter), event(billing)
	slow.MaxLag = 3
	d := openDesk(t, slow, fast)
	d.send(ready, "1 2")
	b := d.claim(waiter, "1 2")
	d.settle(b, store.Retry, "1")
	for i := range 6 {
		d.send(ready, fmt.Sprint(i+3))
	}
	d.work(billing, "1 2 3 4 5 6 7 8")
	d.move(2 * time.Hour)
	d.beat()
	d.send(ready, "9")
	if !d.state(waiter).Parked {
		t.Fatalf("Queues: %s runs, want it parked", waiter)
	}
	if found := fmt.Sprint(d.check()); !strings.Contains(found, "waiter.ready is parked: more than 3") {
		t.Errorf("Check = %s, want the parked queue", found)
	}
	d.prune(time.Hour)
	// Exact while it is parked, too: 1 is deferred, 2 leased, 9 waits.
	d.holds(waiter, 3, 1, 1, 0)
	if q := d.state(waiter); q.Gaps != 6 {
		t.Errorf("Queues: gaps %d, want 6", q.Gaps)
	}
	d.operate(store.Act{Verb: store.ResumeQueue, Queue: waiter})
	if rows := d.audit(); len(rows) != 1 || !strings.Contains(rows[0].Before, `"parked":true,"gaps":6`) {
		t.Errorf("Audit = %+v, want the gap", rows)
	}
	d.settle(b, store.Done, "2")
	d.work(waiter, "1 9")
	d.holds(waiter, 0, 0, 0, 0)
}

func TestPruneClockSetBack(t *testing.T) {
	d := openDesk(t, command())
	noon := d.now
	d.send(cook, "1")
	d.now = noon.Add(1000 * time.Hour)
	future := d.send(cook, "2")[0].ID
	d.now = noon
	d.send(cook, "3 4")
	d.now = noon.Add(time.Hour)
	young := d.send(cook, "5")[0].ID
	d.work(cook, "1 2 3 4 5")
	if got := d.prune(30 * time.Minute); got.Messages != 4 {
		t.Errorf("Prune = %+v, want 4: one from the future pins nothing", got)
	}
	d.gone(future, true)
	d.gone(young, false)
}

func TestPruneSmallTables(t *testing.T) {
	d := openDesk(t, command())
	m := d.message(cook, "1")
	m.Dedup, m.DedupFor = "order-1", time.Hour
	d.commit(&store.Change{Sends: []*store.Message{m}})
	g := &store.Group{Figures: []store.FigureDelta{{Queue: d.ids[cook], Failed: 1}}}
	if err := d.store.Commit(d.ctx(), g); err != nil {
		t.Fatalf("Commit = %v, want nil", err)
	}
	d.operate(store.Act{Verb: store.PauseQueue, Queue: cook})
	for range 3 {
		if err := d.store.End(d.ctx()); err != nil {
			t.Fatalf("End = %v, want nil", err)
		}
		if err := d.store.Begin(d.ctx(), &store.Process{PID: 2, Host: "here", Version: "test"}); err != nil {
			t.Fatalf("Begin = %v, want nil", err)
		}
	}
	d.move(2 * time.Hour)
	d.operate(store.Act{Verb: store.ResumeQueue, Queue: cook})
	d.prune(3 * time.Hour)
	d.empty("dedup")
	if got := d.prune(time.Hour); got.Other != 1+1+3 { // a figure, an act, the ended processes
		t.Errorf("Prune = %+v, want 5 others", got)
	}
	d.empty("figures")
	processes, err := d.read.Processes(d.ctx(), 0)
	if err != nil || len(processes) != 1 || processes[0].ID != 4 || processes[0].PID != 2 || !processes[0].EndedAt.IsZero() {
		t.Errorf("Processes = %+v, %v, want the running one", processes, err)
	}
	if rows := d.audit(); len(rows) != 1 || rows[0].Verb != "resume" {
		t.Errorf("Audit = %+v, want the young act", rows)
	}
}

// A thousand dead letters stay in kept for as long as nobody settles them; what
// comes after them is found all the same.
func TestPruneTakesTurnsThroughKept(t *testing.T) {
	d := openDesk(t, command())
	const n = 1200
	words := strings.Fields(line(n))
	d.send(cook, line(n))
	for i := 0; i < n; i += 100 {
		b := d.claim(cook, strings.Join(words[i:i+100], " "))
		d.settle(b, store.Dead, strings.Join(words[i:i+100], " "))
	}
	d.move(2 * time.Hour)
	d.prune(time.Hour)
	if kept := d.count("kept"); kept != n {
		t.Fatalf("kept holds %d, want %d", kept, n)
	}
	d.operate(store.Act{Verb: store.DiscardDead, Matching: "no 11"}) // 11, 110 to 119, 1100 to 1199
	for range 3 * n / 100 {
		d.prune(time.Hour)
	}
	if kept := d.count("kept"); kept != n-111 {
		t.Errorf("kept holds %d, want %d", kept, n-111)
	}
	if n := d.count("attempts"); n != 1200-111 {
		t.Errorf("attempts holds %d, want %d", n, 1200-111)
	}
}

// What an ended process left open is found through its row, so that stays, and
// it does not make the janitor go round for ever.
func TestPruneKeepsOwnersOfOpenBatches(t *testing.T) {
	d := openDesk(t, command())
	d.send(cook, "1")
	d.claim(cook, "1")
	for range 3 {
		if err := d.store.End(d.ctx()); err != nil {
			t.Fatalf("End = %v, want nil", err)
		}
		if err := d.store.Begin(d.ctx(), &store.Process{PID: 2, Host: "here", Version: "test"}); err != nil {
			t.Fatalf("Begin = %v, want nil", err)
		}
	}
	d.move(2 * time.Hour)
	for range 10 {
		if got, err := d.store.Prune(d.ctx(), store.Retention{Keep: time.Hour, Max: 1}); err != nil || !got.More {
			break
		}
	}
	processes, err := d.read.Processes(d.ctx(), 0)
	if err != nil || len(processes) != 2 || processes[0].ID != 4 || processes[1].ID != 1 {
		t.Errorf("Processes = %+v, %v, want the running one and the owner of a batch", processes, err)
	}
	if got := d.prune(time.Hour); got.Other != 0 || got.More {
		t.Errorf("Prune again = %+v, want nothing", got)
	}
	d.work(cook, "1")
	if got := d.prune(time.Hour); got.Other != 2 {
		t.Errorf("Prune after the batch is closed = %+v, want the process and the copy of its message", got)
	}
}
