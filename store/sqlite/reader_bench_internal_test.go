package sqlite

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/batchrow"
)

const (
	journalTopics   = 20
	journalMessages = 1_000_000
	journalBatch    = 500
)

// These make a journal without a store's work: what is asked of it is the same.
const (
	journalTopic = `insert into weir_topics (id, name, kind, appended, last_pos) values (?1, ?2, 2, ?3, ?1 << 40 | ?4)`
	journalQueue = `insert into weir_queues (id, name, topic, start_pos, base, done, gone, capacity, required, max_lag, on_dead)
		values (?1, ?2, ?1, ?1 << 40, 0, ?3, 0, 0, 0, 0, 0)`
	journalRows = `with recursive n(i) as (select 1 union all select i + 1 from n where i < ?1)
		insert into weir_messages (pos, sent_us, version, key, correlation, body)
		select (i % ?2 + 1) << 40 | i, ?3 + i * 1000, 1, 'table-' || (i % 50021),
			case when i % 4 = 0 then null else ((i - i % 4) % ?2 + 1) << 40 | (i - i % 4) end, zeroblob(200)
		from n order by 1`
	journalInsert = `insert into weir_batches (id, epoch, owner, state, high, open, claimed_us, done_us, manifest, bits, times)
		values (?1, 1, 1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, x'')`
	journalDeferred = `insert into weir_deferred (queue, pos, kind, due_us, key, attempt)
		select ?1, pos, 4, null, key, 1 from weir_messages where pos > ?1 << 40 order by pos limit ?2`
	journalDead = `insert into weir_dead (queue, pos, died_us, key, attempts, reason)
		select ?1, pos, 1, key, 5, 'dial tcp: timeout ' || zeroblob(100) from weir_messages where pos > ?1 << 40 order by pos limit ?2`
)

// bigJournal is a store with a million messages of 20 events, each with one
// queue that is done with nearly all of it.
func bigJournal(b *testing.B) *Store {
	b.Helper()
	s := openAtNoon(b, b.TempDir())
	start := time.Now()
	sent := us(s.now().Add(-2 * time.Hour))
	err := s.write(b.Context(), func(c *conn) error {
		per := int64(journalMessages / journalTopics)
		for t := int64(1); t <= journalTopics; t++ {
			name := fmt.Sprintf("kitchen.event-%02d", t)
			if err := c.exec(journalTopic, t, name, per, int64(journalMessages)); err != nil {
				return err
			}
			if err := c.exec(journalQueue, t, name+"-queue", per-10_000); err != nil {
				return err
			}
			if err := bigBatches(c, t, sent); err != nil {
				return err
			}
		}
		if err := c.exec(journalRows, journalMessages, journalTopics, sent); err != nil {
			return err
		}
		if err := c.exec(journalDeferred, 2, 10_000); err != nil {
			return err
		}
		return c.exec(journalDead, 3, 10_000)
	})
	if err != nil {
		b.Fatalf("make a journal = %v, want nil", err)
	}
	b.Logf("made in %s", time.Since(start).Round(time.Millisecond))
	return s
}

func bigBatches(c *conn, topic, sent int64) error {
	no := int64(0)
	var positions []int64
	for i := topic - 1; i <= journalMessages; i += journalTopics {
		if i == 0 {
			continue
		}
		positions = append(positions, topic<<numberBits|i)
		if len(positions) < journalBatch {
			continue
		}
		no++
		settled, state, open := batchrow.NewBits(journalBatch), 2, 0
		for j := range positions {
			settled.Set(j)
		}
		if no == 90 { // abandoned long ago, in the middle
			settled, state, open = batchrow.NewBits(journalBatch), 0, journalBatch
		}
		err := c.exec(journalInsert, topic<<numberBits|no, state, positions[journalBatch-1], open,
			sent+i*1000, batchrow.AppendManifest(nil, positions), []byte(settled))
		if err != nil {
			return err
		}
		positions = positions[:0]
	}
	return nil
}

func BenchmarkReader(b *testing.B) {
	s := bigJournal(b)
	r := s.Reader()
	ctx := b.Context()
	middle := s.Info().Incarnation.ID(store.Pos(5<<numberBits | 500_004))
	for _, c := range []struct {
		name string
		run  func() error
	}{
		{"queues", func() error { _, err := r.Queues(ctx); return err }},
		{"messages", func() error { _, err := r.Messages(ctx, store.MessageQuery{}); return err }},
		{"messages-of-topic", func() error {
			_, err := r.Messages(ctx, store.MessageQuery{Topic: "kitchen.event-07"})
			return err
		}},
		{"messages-of-key", func() error { _, err := r.Messages(ctx, store.MessageQuery{Key: "table-7"}); return err }},
		{"messages-in-the-middle", func() error {
			_, err := r.Messages(ctx, store.MessageQuery{Before: 5<<numberBits | 500_004})
			return err
		}},
		{"messages-1000", func() error { _, err := r.Messages(ctx, store.MessageQuery{Max: 1000}); return err }},
		{"message", func() error { _, err := r.Message(ctx, middle); return err }},
		{"trace", func() error { _, err := r.Trace(ctx, "table-7", 1000); return err }},
		{"dead", func() error { _, err := r.Dead(ctx, store.DeadQuery{}); return err }},
		{"dead-matching-none", func() error { _, err := r.Dead(ctx, store.DeadQuery{Matching: "refused"}); return err }},
		{"check", func() error { _, err := r.Check(ctx); return err }},
		{"retry-dry-run", func() error {
			_, err := s.Operate(ctx, store.Act{Verb: store.RetryDead, By: "ada", Why: "mended", DryRun: true})
			return err
		}},
		{"prune-1000", func() error {
			_, err := s.Prune(ctx, store.Retention{Keep: time.Minute, Max: 1000})
			return err
		}},
		{"prune-10000", func() error {
			_, err := s.Prune(ctx, store.Retention{Keep: time.Minute, Max: 10_000})
			return err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if err := c.run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
