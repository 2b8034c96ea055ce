package postgres

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/storetest"
)

// bench is a store whose clock is set by the test, with one process that works it.
type bench struct {
	*testing.T
	*Store
	h   *harness
	now time.Time
	ids map[string]store.QueueID
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{T: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), ids: map[string]store.QueueID{}}
	db, err := pgxpool.New(t.Context(), dsn(t)+" pool_max_conns=4")
	if err != nil {
		t.Fatal(err)
	}
	// Of its own: the schemas of the laws keep their partitions.
	b.h = &harness{t: t, db: db, schema: fmt.Sprintf("b%d_%d", os.Getpid(), schemas.Add(1))}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // a test that failed may have left a transaction open
		defer cancel()
		if _, err := db.Exec(ctx, "drop schema if exists "+b.h.schema+" cascade"); err != nil {
			t.Error(err)
		}
		db.Close()
	})
	s, err := DB(dsn(t)+" pool_max_conns=6", Schema(b.h.schema), Clock(func() time.Time { return b.now }))(t.Context())
	if err != nil {
		t.Fatalf("open = %v, want nil", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	b.Store = s.(*Store)
	if err := b.Store.Begin(t.Context(), &store.Process{Host: "here"}); err != nil {
		t.Fatalf("Begin() = %v, want nil", err)
	}
	return b
}

func (b *bench) declare(queues ...store.Queue) {
	b.Helper()
	states, err := b.Store.Declare(b.Context(), nil, queues)
	if err != nil {
		b.Fatalf("Declare() = %v, want nil", err)
	}
	for _, q := range states {
		b.ids[q.Name] = q.ID
	}
}

func (b *bench) commit(c *store.Change) {
	b.Helper()
	if err := b.Store.Commit(b.Context(), &store.Group{Changes: []*store.Change{c}}); err != nil || c.Err != nil {
		b.Fatalf("Commit() = %v, %v, want nil", err, c.Err)
	}
}

// send sends events numbered from a to b.
func (b *bench) send(from, to int) (sent []*store.Message) {
	b.Helper()
	for i := from; i <= to; i++ {
		sent = append(sent, &store.Message{Topic: "kitchen.ready", Kind: store.KindEvent, Version: 1, Body: fmt.Append(nil, i)})
	}
	b.commit(&store.Change{Sends: sent})
	return sent
}

func (b *bench) claim(queue string, want int) *store.Batch {
	b.Helper()
	got, err := b.Store.Claim(b.Context(), store.ClaimRequest{Queue: b.ids[queue], Max: store.MaxBatch})
	if err != nil || got.Batch == nil || len(got.Batch.Deliveries) != want {
		b.Fatalf("Claim(%s) = %+v, %v, want %d", queue, got.Batch, err, want)
	}
	return got.Batch
}

func (b *bench) settle(batch *store.Batch, verdict func(i int) store.Verdict) {
	b.Helper()
	c := &store.Change{}
	for i, d := range batch.Deliveries {
		c.Settle = append(c.Settle, store.Settlement{Batch: batch.BatchRef, Index: d.Index, Pos: d.Message.Pos,
			Verdict: verdict(i), Attempt: d.Attempt, Started: b.now, Due: b.now.Add(time.Hour), Reason: "why"})
	}
	b.commit(c)
}

func (b *bench) prune(keep time.Duration) (sum store.Pruned) {
	b.Helper()
	for range 100 {
		got, err := b.Store.Prune(b.Context(), store.Retention{Keep: keep, Max: store.MaxPrune})
		if err != nil {
			b.Fatalf("Prune() = %v, want nil", err)
		}
		sum.Messages += got.Messages
		sum.Other += got.Other
		if !got.More {
			return sum
		}
	}
	b.Fatalf("Prune() has more after 100 steps, want an end")
	return sum
}

// exec changes the database behind the store's back.
func (b *bench) exec(query string, args ...any) {
	b.Helper()
	if _, err := b.h.db.Exec(b.Context(), inSchema(query, b.schema), args...); err != nil {
		b.Fatalf("%s = %v, want nil", query, err)
	}
}

func (b *bench) number(query string) (n int64) {
	b.Helper()
	if err := b.h.db.QueryRow(b.Context(), inSchema(query, b.schema)).Scan(&n); err != nil {
		b.Fatalf("%s = %v, want nil", query, err)
	}
	return n
}

// fill leaves room for so many messages in the first partition, and makes the next.
func (b *bench) fill(room int) {
	b.Helper()
	b.exec(`select setval('weir.seq', $1)`, int64(1<<partitionBits-1-room))
	if err := b.Store.Heartbeat(b.Context()); err != nil {
		b.Fatalf("Heartbeat() = %v, want nil", err)
	}
}

func subscription(name string) store.Queue {
	return store.Queue{Name: name, Topic: store.Topic{Name: "kitchen.ready", Kind: store.KindEvent}}
}

func done(int) store.Verdict { return store.Done }

func TestPruneDropsPartitions(t *testing.T) {
	b := newBench(t)
	lagging := subscription("lagging")
	lagging.MaxLag = 5
	b.declare(subscription("waiter"), lagging)
	b.fill(20)
	first := b.send(1, 10)
	second := b.send(11, 15) // the one that lags is parked
	third := b.send(16, 24)  // 4 of them in the next partition
	batch := b.claim("waiter", 24)
	b.settle(batch, func(i int) store.Verdict {
		switch i {
		case 0:
			return store.Dead
		case 1:
			return store.Retry
		}
		return store.Done
	})
	b.now = b.now.Add(100 * time.Hour)
	b.send(25, 25)
	last := b.claim("waiter", 2) // one is due again
	if got := b.prune(time.Hour); got.Messages != 24 {
		t.Errorf("Prune() = %d messages, want 24", got.Messages)
	}
	if n := b.number(`select count(*) from pg_inherits where inhparent = 'weir.messages'::regclass`); n != 1 {
		t.Errorf("after Prune() there are %d partitions, want 1", n)
	}
	if n := b.number(`select count(*) from weir.kept`); n != 2 {
		t.Errorf("after Prune() %d messages are kept, want 2", n)
	}
	for i, want := range []string{"dead", "leased"} {
		got, err := b.Store.Reader().Message(t.Context(), first[i].ID)
		if err != nil || string(got.Body) != fmt.Sprint(i+1) || got.Queues[1].State != want {
			t.Errorf("Message(%d) = %+v, %v, want it, %s", i+1, got, err, want)
		}
	}
	if got, err := b.Store.Reader().Message(t.Context(), second[0].ID); err == nil {
		t.Errorf("Message(11) = %+v, want it gone", got)
	}
	if got, err := b.Store.Reader().Message(t.Context(), third[8].ID); err == nil {
		t.Errorf("Message(24) = %+v, want it gone", got)
	}
	queues, err := b.Store.Reader().Queues(t.Context())
	if err != nil || queues[0].Name != "lagging" || queues[0].Gaps != 24 || queues[0].Depth != 1 || queues[1].Depth != 2 || queues[1].Dead != 1 {
		t.Errorf("Queues() = %+v, %v, want a gap of 24 and a depth of 1 and 2", queues, err)
	}
	b.settle(last, done)
	b.now = b.now.Add(100 * time.Hour)
	b.prune(time.Hour)
	if n := b.number(`select count(*) from weir.kept`); n != 1 {
		t.Errorf("later %d messages are kept, want the dead one", n)
	}
}

// A partition that was filled fast is not deleted from row by row.
// Of a partition that is dropped, signals to runs that have not ended are copied aside, in steps.
func TestPrunePartitionKeepsSignals(t *testing.T) {
	b := newBench(t)
	b.fill(20)
	run := func(id string) *store.RunStart {
		r := &store.RunStart{Workflow: "orders.fulfil", ID: id, Version: 1, Lease: true}
		b.commit(&store.Change{Runs: []*store.RunStart{r}})
		return r
	}
	late := &store.Message{Topic: "orders.stop", Kind: store.KindSignal, Version: 1, Key: "b", Body: []byte("early")}
	b.commit(&store.Change{Sends: []*store.Message{late}})
	b.now = b.now.Add(time.Second)
	a, over := run("a"), run("over")
	run("b")
	var sends []*store.Message
	for i := range 25 {
		sends = append(sends, &store.Message{Topic: "orders.stop", Kind: store.KindSignal, Version: 1, Key: []string{"a", "over"}[i%2], Body: fmt.Append(nil, i)})
	}
	b.commit(&store.Change{Sends: sends})
	b.commit(&store.Change{Run: &store.RunUpdate{RunRef: store.RunRef{No: over.No, Epoch: over.Epoch}, Verdict: store.Ended, Outcome: store.Failed}})
	b.now = b.now.Add(100 * time.Hour)
	got, err := b.Store.Prune(t.Context(), store.Retention{Keep: 99 * time.Hour, Max: 7})
	if n := b.number(`select count(*) from weir.kept`); err != nil || !got.More || n < 7 || n == 13 {
		t.Errorf("Prune(max 7) = %+v, %v, with %d kept, want 7 and some, and more", got, err, n)
	}
	b.prune(99 * time.Hour)
	if n := b.number(`select count(*) from pg_inherits where inhparent = 'weir.messages'::regclass`); n != 1 {
		t.Errorf("after Prune() there are %d partitions, want 1", n)
	}
	if n, other := b.number(`select count(*) from weir.kept where key = 'a'`), b.number(`select count(*) from weir.kept where key <> 'a'`); n != 13 || other != 0 {
		t.Errorf("after Prune() %d signals to the run that goes on are kept, and %d others, want 13 and none", n, other)
	}
	b.commit(&store.Change{Run: &store.RunUpdate{RunRef: store.RunRef{No: a.No, Epoch: a.Epoch}, Verdict: store.Ended, Outcome: store.Completed}})
	b.prune(99 * time.Hour)
	if n := b.number(`select count(*) from weir.kept`); n != 0 {
		t.Errorf("after its run's end %d signals are kept, want none", n)
	}
}

func TestPruneWaitsForPartition(t *testing.T) {
	b := newBench(t)
	b.declare(subscription("waiter"))
	b.fill(20)
	b.send(1, 10)
	b.now = b.now.Add(5 * time.Minute)
	b.send(11, 30)
	b.settle(b.claim("waiter", 30), done)
	b.now = b.now.Add(58 * time.Minute)
	if got := b.prune(time.Hour); got.Messages != 0 {
		t.Errorf("Prune() of a partition of which half is old = %d messages, want 0", got.Messages)
	}
	b.now = b.now.Add(4 * time.Minute)
	if got := b.prune(time.Hour); got.Messages != 30 {
		t.Errorf("Prune() of an old partition = %d messages, want all 30", got.Messages)
	}
}

// lateSender is a caller's transaction that has sent into a partition which is full, worked, and old by now.
func (b *bench) lateSender() storetest.Own {
	b.Helper()
	own, err := b.h.Begin(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = own.Rollback() }) // committed, unless the test has failed: then the schema could not be dropped
	late := &store.Message{Topic: "kitchen.ready", Kind: store.KindEvent, Version: 1, Body: []byte("late")}
	if err := b.Store.AppendIn(b.Context(), own.Tx, &store.Change{Sends: []*store.Message{late}}); err != nil {
		b.Fatalf("AppendIn() = %v, want nil", err)
	}
	b.send(1, 30)
	b.settle(b.claim("waiter", 30), done)
	b.now = b.now.Add(100 * time.Hour)
	return own
}

// Nobody's open transaction keeps others waiting, or the messages from going in the end.
func TestPruneBesideOpenSender(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.declare(subscription("waiter"))
	b.fill(20)
	own := b.lateSender()
	b.prune(time.Hour) // cannot get through
	b.send(31, 31)     // and is in nobody's way
	if err := own.Commit(); err != nil {
		t.Fatal(err)
	}
	batch := b.claim("waiter", 2) // nor was the partition taken away from who claims
	if got := string(batch.Deliveries[0].Message.Body); got != "late" {
		t.Errorf("Claim() = %q first, want what was committed late", got)
	}
	b.settle(batch, done)
	b.now = b.now.Add(100 * time.Hour)
	b.send(32, 32)
	b.prune(time.Hour)
	if n := b.number(`select count(*) from weir.messages`); n != 1 {
		t.Errorf("after all %d messages are left, want the newest", n)
	}
	if n := b.number(`select count(*) from pg_class where relname ~ '^messages_[0-9]+$' and relnamespace = '` + b.schema + `'::regnamespace`); n != 1 {
		t.Errorf("after all there are %d partitions, want 1", n)
	}
}

// Nor is it taken from one who has drawn his position and stands still, until it is old, before he inserts, or whose
// transaction is prepared.
func TestPruneBesideStoppedSender(t *testing.T) {
	t.Parallel()
	for _, prepared := range []bool{false, true} {
		t.Run(fmt.Sprintf("prepared %t", prepared), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			if prepared && b.number(`select current_setting('max_prepared_transactions')::bigint`) == 0 {
				t.Skip("the server's max_prepared_transactions is 0")
			}
			b.besideStopped(prepared)
		})
	}
}

func (b *bench) besideStopped(prepared bool) {
	b.Helper()
	b.declare(subscription("waiter"))
	b.fill(20)
	c, err := b.h.db.Acquire(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Release()
	do := func(query string) {
		b.Helper()
		if _, err := c.Exec(b.Context(), inSchema(query, b.schema), pgx.QueryExecModeSimpleProtocol); err != nil {
			b.Fatalf("%s = %v, want nil", query, err)
		}
	}
	name := b.schema + "_stopped"
	b.Cleanup(func() { // the schema could not be dropped
		if prepared {
			_, _ = b.h.db.Exec(context.Background(), `rollback prepared '`+name+`'`)
		}
	})
	insert := fmt.Sprintf(`insert into weir.messages (topic, seq, sent_us, version, lane, body)
		select id, currval('weir.seq'), %d, 1, %d, 'late' from weir.topics`, b.now.UnixMicro(), laneFree)
	do(`begin`)
	do(`savepoint s; select nextval('weir.seq'); release s`)
	if prepared {
		do(insert)
		do(`prepare transaction '` + name + `'`)
	}
	b.send(1, 30)
	b.settle(b.claim("waiter", 30), done)
	b.now = b.now.Add(100 * time.Hour)
	b.prune(time.Hour)
	b.send(31, 31)
	b.settle(b.claim("waiter", 1), done)
	if prepared {
		do(`commit prepared '` + name + `'`)
	} else {
		do(insert)
		do(`commit`)
	}
	batch := b.claim("waiter", 1)
	if got := string(batch.Deliveries[0].Message.Body); got != "late" {
		b.Errorf("Claim() = %q, want what was committed late", got)
	}
	b.settle(batch, done)
	b.now = b.now.Add(100 * time.Hour)
	b.send(32, 32)
	b.prune(time.Hour)
	if n := b.number(`select count(*) from pg_inherits where inhparent = 'weir.messages'::regclass`); n != 1 {
		b.Errorf("after all there are %d partitions, want 1", n)
	}
}

// What was committed into a partition while its detaching was under way comes back with it.
func TestPruneGoesOnWithADetaching(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.declare(subscription("waiter"))
	b.fill(20)
	own := b.lateSender()
	pending := `select count(*) from pg_inherits where inhparent = 'weir.messages'::regclass and inhdetachpending`
	ctx, giveUp := context.WithCancel(t.Context())
	given := make(chan struct{})
	go func() {
		defer close(given)
		_, _ = b.h.db.Exec(ctx, inSchema(part{}.query(pruneDetach), b.schema), pgx.QueryExecModeSimpleProtocol) // waits for the sender
	}()
	waitFor(t, "the detaching", func() bool { return b.number(pending) == 1 })
	giveUp()
	<-given
	if err := own.Commit(); err != nil {
		t.Fatal(err)
	}
	attached := `select count(*) from pg_inherits where inhparent = 'weir.messages'::regclass and not inhdetachpending`
	waitFor(t, "the partition to be back", func() bool {
		b.prune(time.Hour)
		return b.number(attached) == 2
	})
	batch := b.claim("waiter", 1)
	if got := string(batch.Deliveries[0].Message.Body); got != "late" {
		t.Errorf("Claim() = %q, want what was committed late", got)
	}
}
