package sqlite_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	zombie "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
)

const (
	cook    = "kitchen.cook"
	ready   = "kitchen.ready"
	waiter  = "waiter.ready"
	billing = "billing.ready"
)

// desk is an operator's: a store, the process that works it, and its clock.
// Messages are told apart by words: "a1" has the key "a", "1" has none.
type desk struct {
	testing.TB
	store store.Store
	read  store.Reader
	path  string
	now   time.Time
	ids   map[string]store.QueueID
}

func openDesk(t testing.TB, queues ...store.Queue) *desk {
	t.Helper()
	d := &desk{TB: t, path: filepath.Join(t.TempDir(), "weir.db"),
		now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), ids: map[string]store.QueueID{}}
	d.reopen()
	err := d.store.Begin(t.Context(), &store.Process{PID: 1, Host: "here", Version: "test", Owns: []string{"kitchen", "waiter"}})
	if err != nil {
		t.Fatalf("Begin = %v, want nil", err)
	}
	d.declare(queues...)
	return d
}

func (d *desk) reopen() {
	d.Helper()
	open := sqlite.File(d.path, sqlite.Clock(func() time.Time { return d.now }))
	s, err := open(d.ctx())
	if err != nil {
		d.Fatalf("open = %v, want nil", err)
	}
	d.Cleanup(func() { _ = s.Close() })
	d.store, d.read = s, s.Reader()
}

func command() store.Queue {
	return store.Queue{Name: cook, Topic: store.Topic{Name: cook, Kind: store.KindCommand}}
}

func event(queue string) store.Queue {
	return store.Queue{Name: queue, Topic: store.Topic{Name: ready, Kind: store.KindEvent}}
}

func (d *desk) ctx() context.Context { return d.Context() }

func (d *desk) move(by time.Duration) { d.now = d.now.Add(by) }

func (d *desk) declare(queues ...store.Queue) {
	d.Helper()
	states, err := d.store.Declare(d.ctx(), nil, queues)
	if err != nil {
		d.Fatalf("Declare = %v, want nil", err)
	}
	for _, q := range states {
		d.ids[q.Name] = q.ID
	}
}

// sql does to the file what weir would not.
func (d *desk) sql(query string, args ...any) {
	d.Helper()
	c, err := zombie.OpenConn(d.path, zombie.OpenReadWrite)
	if err != nil {
		d.Fatalf("open the file = %v, want nil", err)
	}
	c.SetBusyTimeout(time.Second)
	err = sqlitex.Execute(c, query, &sqlitex.ExecOptions{Args: args})
	if end := c.Close(); err != nil || end != nil {
		d.Fatalf("%s = %v, %v, want nil", query, err, end)
	}
}

func (d *desk) message(topic, word string) *store.Message {
	m := &store.Message{Topic: topic, Kind: store.KindEvent, Version: 1, Body: []byte(word)}
	if topic == cook {
		m.Kind = store.KindCommand
	}
	if c := word[0]; c >= 'a' && c <= 'z' {
		m.Key = word[:1]
	}
	return m
}

func (d *desk) commit(changes ...*store.Change) {
	d.Helper()
	err := d.store.Commit(d.ctx(), &store.Group{Changes: changes})
	for _, ch := range changes {
		if err != nil || ch.Err != nil {
			d.Fatalf("Commit = %v, %v, want nil", err, ch.Err)
		}
	}
}

// send sends the words of a line in one commit.
func (d *desk) send(topic, line string) []*store.Message {
	d.Helper()
	ch := &store.Change{}
	for word := range strings.FieldsSeq(line) {
		ch.Sends = append(ch.Sends, d.message(topic, word))
	}
	d.commit(ch)
	return ch.Sends
}

// claim wants a claim to give the words of a line.
func (d *desk) claim(queue, line string) *store.Batch {
	d.Helper()
	got, err := d.store.Claim(d.ctx(), store.ClaimRequest{Queue: d.ids[queue], Max: 100})
	if err != nil {
		d.Fatalf("Claim(%s) = %v, want nil", queue, err)
	}
	var words []string
	if got.Batch != nil {
		for _, m := range got.Batch.Deliveries {
			words = append(words, string(m.Message.Body))
		}
	}
	if strings.Join(words, " ") != line {
		d.Fatalf("Claim(%s) = %q, want %q", queue, words, line)
	}
	return got.Batch
}

func settlement(b *store.Batch, word string, v store.Verdict, now time.Time) store.Settlement {
	i := slices.IndexFunc(b.Deliveries, func(m store.Delivery) bool { return string(m.Message.Body) == word })
	del := b.Deliveries[i]
	s := store.Settlement{Batch: b.BatchRef, Index: del.Index, Pos: del.Message.Pos, Key: del.Message.Key,
		Verdict: v, Attempt: del.Attempt}
	if v != store.Behind {
		s.Started, s.Took = now, 7*time.Millisecond
	}
	switch v {
	case store.Dead:
		s.Reason, s.Stack = "no "+word, "goroutine 1"
	case store.Retry, store.NotYet:
		s.Reason, s.Due = "not now "+word, now.Add(time.Minute)
	}
	return s
}

// settle gives each word of a line the verdict, in one change.
func (d *desk) settle(b *store.Batch, v store.Verdict, line string) {
	d.Helper()
	ch := &store.Change{}
	for word := range strings.FieldsSeq(line) {
		ch.Settle = append(ch.Settle, settlement(b, word, v, d.now))
	}
	d.commit(ch)
}

// work claims the words of a line and is done with them, claim by claim.
func (d *desk) work(queue, line string) {
	d.Helper()
	var words []string
	for {
		got, err := d.store.Claim(d.ctx(), store.ClaimRequest{Queue: d.ids[queue], Max: 100})
		if err != nil {
			d.Fatalf("Claim(%s) = %v, want nil", queue, err)
		}
		if got.Batch == nil {
			break
		}
		for _, m := range got.Batch.Deliveries {
			words = append(words, string(m.Message.Body))
			d.settle(got.Batch, store.Done, string(m.Message.Body))
		}
	}
	if strings.Join(words, " ") != line {
		d.Fatalf("worked off %s = %q, want %q", queue, words, line)
	}
}

// die sends the words of a line and lets the first die, and its followers go behind it.
func (d *desk) die(topic, queue, line string) []*store.Message {
	d.Helper()
	sent := d.send(topic, line)
	b := d.claim(queue, line)
	ch := &store.Change{}
	for i, m := range sent {
		v := store.Behind
		if i == 0 {
			v = store.Dead
		}
		ch.Settle = append(ch.Settle, settlement(b, string(m.Body), v, d.now))
	}
	d.commit(ch)
	return sent
}

func (d *desk) operate(a store.Act) store.Acted {
	d.Helper()
	a.By, a.Why = "ada", "mended"
	got, err := d.store.Operate(d.ctx(), a)
	if err != nil {
		d.Fatalf("Operate(%+v) = %v, want nil", a, err)
	}
	return got
}

func (d *desk) state(queue string) store.QueueState {
	d.Helper()
	all, err := d.read.Queues(d.ctx())
	if err != nil {
		d.Fatalf("Queues = %v, want nil", err)
	}
	for _, q := range all {
		if q.Name == queue {
			return q
		}
	}
	d.Fatalf("Queues = %d without %s, want it", len(all), queue)
	return store.QueueState{}
}

// holds wants depth, leased, deferred and dead of a queue.
func (d *desk) holds(queue string, want ...int64) {
	d.Helper()
	q := d.state(queue)
	if got := []int64{q.Depth, q.Leased, q.Deferred, q.Dead}; !slices.Equal(got, want) {
		d.Errorf("Queues: depth, leased, deferred, dead of %s = %v, want %v", queue, got, want)
	}
	if found := d.check(); strings.Contains(fmt.Sprint(found), "counters") {
		d.Errorf("Check = %v, want right counters", found)
	}
}

func (d *desk) check() []store.Finding {
	d.Helper()
	found, err := d.read.Check(d.ctx())
	if err != nil {
		d.Fatalf("Check = %v, want nil", err)
	}
	return found
}

func (d *desk) story(id string) store.MessageStory {
	d.Helper()
	m, err := d.read.Message(d.ctx(), id)
	if err != nil {
		d.Fatalf("Message(%s) = %v, want nil", id, err)
	}
	return m
}

func (d *desk) letter(queue, id string) store.DeadLetter {
	d.Helper()
	got, err := d.read.Dead(d.ctx(), store.DeadQuery{Queue: queue, ID: id})
	if err != nil || len(got) != 1 {
		d.Fatalf("Dead(%s of %s) = %d, %v, want 1, nil", id, queue, len(got), err)
	}
	return got[0]
}

func (d *desk) audit() []store.AuditRow {
	d.Helper()
	rows, err := d.read.Audit(d.ctx(), 0)
	if err != nil {
		d.Fatalf("Audit = %v, want nil", err)
	}
	return rows
}

func (d *desk) prune(keep time.Duration) store.Pruned {
	d.Helper()
	var sum store.Pruned
	for {
		got, err := d.store.Prune(d.ctx(), store.Retention{Keep: keep, Max: 100})
		if err != nil {
			d.Fatalf("Prune = %v, want nil", err)
		}
		if n := got.Messages + got.Batches + got.Other; n > 100 {
			d.Errorf("Prune(max 100) = %d rows, want at most 100", n)
		}
		sum.Messages, sum.Batches, sum.Other = sum.Messages+got.Messages, sum.Batches+got.Batches, sum.Other+got.Other
		if !got.More {
			return sum
		}
	}
}

// count is the number of rows in a table.
func (d *desk) count(table string) (n int64) {
	d.Helper()
	c, err := zombie.OpenConn(d.path, zombie.OpenReadOnly)
	if err != nil {
		d.Fatalf("open the file = %v, want nil", err)
	}
	err = sqlitex.Execute(c, "select count(*) from weir_"+table, &sqlitex.ExecOptions{ResultFunc: func(s *zombie.Stmt) error {
		n = s.ColumnInt64(0)
		return nil
	}})
	if end := c.Close(); err != nil || end != nil {
		d.Fatalf("count %s = %v, %v, want nil", table, err, end)
	}
	return n
}
