package sqlite

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/batchrow"
	"zombiezen.com/go/sqlite"
)

// States of a batch.
const (
	batchLeased   = 0
	batchReturned = 1
	batchClosed   = 2
)

// Kinds of a deferred row.
const (
	kindDelay    = 1
	kindRetry    = 2
	kindNotYet   = 3
	kindBehind   = 4
	kindReleased = 5
)

// leasedBatch is a batch row that the transaction settles deliveries of: read
// once, written once.
type leasedBatch struct {
	id, epoch, owner, state, open, claimed int64

	manifest []int64
	bits     batchrow.Bits
	times    []byte
	queue    *queueTail
	watched  batchrow.Bits // deliveries with a past; see Store.watched
	ran      batchrow.Chunk
	dirty    bool
}

const (
	sqlBatch = `select epoch, owner, state, open, claimed_us, manifest, bits, times from weir_batches where id = ?1`
	// A row of a few KiB is rewritten whole, and no index with it.
	sqlSetBatch = `update weir_batches set open = ?2, bits = ?3, times = ?4 where id = ?1`
	sqlClose    = `update weir_batches set open = 0, bits = ?2, times = ?3, state = 2, done_us = ?4 where id = ?1`
	sqlCount    = `update weir_queues set done = done + ?2, gone = gone + ?3, died = died + ?4 where id = ?1`

	sqlNewAttempt = `insert or replace into weir_attempts
		(queue, pos, n, attempt, started_us, took_us, verdict, reason, stack, process, due_us)
		values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)`
	sqlDefer = `insert or replace into weir_deferred (queue, pos, kind, due_us, key, attempt, crashes, first_us, reason)
		values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)`
	sqlDie = `insert or replace into weir_dead (queue, pos, died_us, key, attempts, reason, quarantined, behind)
		values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)`
	sqlStart = `insert or replace into weir_starts (queue, pos, process, started_us, lone) values (?1, ?2, ?3, ?4, ?5)`
	sqlStop  = `delete from weir_starts where queue = ?1 and pos = ?2`

	// What happened since the last death: a message that a person retried starts afresh.
	sqlPast = `select coalesce(max(n), 0), coalesce(min(started_us), 0), count(*) filter (where verdict = 'crashed')
		from weir_attempts where queue = ?1 and pos = ?2
		and n > coalesce((select max(n) from weir_attempts where queue = ?1 and pos = ?2 and verdict = 'dead'), 0)`
	sqlAttempts = `select coalesce(max(n), 0) from weir_attempts where queue = ?1 and pos = ?2`
)

// fence refuses a change that acts for what is not its own. What it settles is
// marked at once, so that two settlements of one delivery meet here too.
func (t *commit) fence(ch *store.Change) (refused, err error) {
	for i := range ch.Settle {
		s := &ch.Settle[i]
		b, err := t.leased(s.Batch)
		if err != nil {
			return nil, err
		}
		if b == nil || !b.holds(s.Index, s.Pos) || b.bits.Has(s.Index) {
			t.unmark(ch.Settle[:i])
			return store.ErrFenced, nil
		}
		if s.Verdict < store.Done || s.Verdict > store.Discarded {
			t.unmark(ch.Settle[:i])
			return fmt.Errorf("settle with verdict %d: unknown", s.Verdict), nil
		}
		b.bits.Set(s.Index)
	}
	for _, s := range ch.Starts {
		b, err := t.leased(s.Batch)
		if err != nil {
			return nil, err
		}
		if b == nil || !b.holds(s.Index, 0) || b.bits.Has(s.Index) {
			t.unfence(ch)
			return store.ErrFenced, nil
		}
	}
	return nil, nil
}

// holds reports whether the manifest has pos at index; 0 is any position.
func (b *leasedBatch) holds(index int, pos store.Pos) bool {
	return index >= 0 && index < len(b.manifest) && (pos == 0 || b.manifest[index] == int64(pos))
}

func (t *commit) unfence(ch *store.Change) { t.unmark(ch.Settle) }

func (t *commit) unmark(settled []store.Settlement) {
	for i := range settled {
		r := settled[i].Batch
		t.batches[batchID(r)].bits.Unset(settled[i].Index)
	}
}

func batchID(r store.BatchRef) int64 { return int64(r.Queue)<<numberBits | r.No }

// leased is the batch if it is this process's, under this epoch; else nil.
func (t *commit) leased(r store.BatchRef) (*leasedBatch, error) {
	b := t.batch
	if id := batchID(r); b == nil || b.id != id {
		var err error
		if b, err = t.readBatch(id, int64(r.Queue)); err != nil {
			return nil, err
		}
		t.batch = b
	}
	if b.epoch != r.Epoch || b.owner != t.process || b.state != batchLeased || t.process == 0 {
		return nil, nil
	}
	return b, nil
}

func (t *commit) readBatch(id, queue int64) (*leasedBatch, error) {
	if b := t.batches[id]; b != nil {
		return b, nil
	}
	b := &leasedBatch{id: id, owner: -1}
	var manifest []byte
	err := t.c.query(sqlBatch, []any{id}, func(st *sqlite.Stmt) error {
		b.epoch, b.owner, b.state = st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnInt64(2)
		b.open, b.claimed = st.ColumnInt64(3), st.ColumnInt64(4)
		manifest, b.bits, b.times = blob(st, 5), blob(st, 6), blob(st, 7)
		return nil
	})
	if err != nil {
		return nil, err
	}
	t.batches[id] = b
	if b.owner != t.process {
		return b, nil
	}
	if b.manifest, err = batchrow.DecodeManifest(make([]int64, 0, store.MaxBatch), manifest); err != nil {
		return nil, err
	}
	b.watched = t.s.watched[id]
	b.queue, err = t.queue(queue)
	return b, err
}

// queue is a queue with its counters, read once.
func (t *commit) queue(id int64) (*queueTail, error) {
	if q := t.queues[id]; q != nil {
		return q, nil
	}
	var found *queueTail
	err := t.readQueues(sqlQueueByID, id, func(q *queueTail) { found = q })
	if err == nil && found == nil {
		err = fmt.Errorf("queue %d: %w", id, store.ErrNotFound)
	}
	return found, err
}

// settle carries out a verdict that the fence let pass. Nearly all are a first
// success without a key that waits for it: for those it writes no row.
func (t *commit) settle(s *store.Settlement) error {
	b, err := t.leased(s.Batch)
	if err != nil {
		return err
	}
	b.dirty = true
	b.open--
	if !s.Started.IsZero() {
		b.ran.Add(batchrow.Ran{Index: s.Index, Start: us(s.Started) - b.claimed, Took: s.Took.Microseconds()})
	}
	q := b.queue
	past := b.watched.Has(s.Index)
	if s.Verdict == store.Done {
		q.newDone++
		if past || s.Attempt > 1 {
			if err := t.doneAtLast(q, s, b.manifest[s.Index], past); err != nil {
				return err
			}
		}
	} else if err := t.except(q, s, b.manifest[s.Index], past); err != nil {
		return err
	}
	if s.Key == "" {
		return nil
	}
	if q.keys == nil {
		if q.keys, err = loadKeys(t.c, q); err != nil {
			return err
		}
	}
	if s.Verdict != store.Done || q.keys.mayWait(s.Key) {
		q.note(s.Key)
	}
	return nil
}

// past is what happened to a message in a queue before.
type past struct {
	n       int64 // of its last attempts row, since the last death
	first   int64 // start of the first attempt
	crashes int64
}

func readPast(c *conn, queue, pos int64) (past, error) {
	var p past
	err := c.query(sqlPast, []any{queue, pos}, func(st *sqlite.Stmt) error {
		p = past{st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnInt64(2)}
		return nil
	})
	return p, err
}

// doneAtLast records a success after other attempts, or after waiting behind its
// key: what the batch that leased it first says of it is not the whole story then.
func (t *commit) doneAtLast(q *queueTail, s *store.Settlement, pos int64, watched bool) error {
	suspect := false
	if watched {
		if err := t.c.exec(sqlStop, q.id, pos); err != nil {
			return err
		}
		suspect = t.c.changes() > 0
	}
	n, _, err := t.c.number(sqlAttempts, q.id, pos)
	if err != nil || n == 0 && s.Attempt <= 1 && suspect {
		return err
	}
	return t.record(q, s, pos, n+1)
}

// record writes an attempt.
func (t *commit) record(q *queueTail, s *store.Settlement, pos, n int64) error {
	var due any
	if s.Verdict == store.Retry || s.Verdict == store.NotYet {
		due = t.due(s)
	}
	return t.c.exec(sqlNewAttempt, q.id, pos, n, s.Attempt, s.Started, s.Took.Microseconds(), s.Verdict.String(),
		textOrNull(cut(s.Reason, store.MaxReason)), textOrNull(cut(s.Stack, store.MaxStack)), t.process, due)
}

// due is when a delivery is to be tried again. 0 is reserved for what is released.
func (t *commit) due(s *store.Settlement) int64 {
	if due := us(s.Due); due > 0 {
		return due
	}
	return t.now
}

// except carries out all verdicts but Done.
func (t *commit) except(q *queueTail, s *store.Settlement, pos int64, watched bool) error {
	if watched {
		if err := t.c.exec(sqlStop, q.id, pos); err != nil {
			return err
		}
	}
	before, err := readPast(t.c, q.id, pos)
	if err != nil {
		return err
	}
	first := any(nil)
	switch {
	case before.first != 0:
		first = before.first
	case s.Verdict != store.Behind:
		first = timeOrNull(s.Started)
	}
	if s.Verdict != store.Behind {
		n, _, err := t.c.number(sqlAttempts, q.id, pos)
		if err != nil {
			return err
		}
		if err := t.record(q, s, pos, n+1); err != nil {
			return err
		}
	}
	key, attempt := textOrNull(s.Key), max(s.Attempt, 1)
	reason := cut(s.Reason, store.MaxReason)
	switch s.Verdict {
	case store.Retry:
		return t.c.exec(sqlDefer, q.id, pos, kindRetry, t.due(s), key, attempt+1, before.crashes, first, textOrNull(reason))
	case store.NotYet:
		return t.c.exec(sqlDefer, q.id, pos, kindNotYet, t.due(s), key, attempt, before.crashes, first, textOrNull(reason))
	case store.Behind:
		return t.c.exec(sqlDefer, q.id, pos, kindBehind, nil, key, attempt, before.crashes, first, nil)
	case store.Dead:
		q.newGone++
		q.newDied++
		return t.c.exec(sqlDie, q.id, pos, t.now, key, s.Attempt, reason, s.Quarantined, nil)
	}
	q.newGone++ // Discarded
	return nil
}

// cut keeps the beginning of a text, in whole characters.
func cut(s string, bytesMax int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= bytesMax {
		return s
	}
	for bytesMax > 0 && !utf8.RuneStart(s[bytesMax]) {
		bytesMax--
	}
	return s[:bytesMax]
}

// begins records that a suspect begins to run.
func (t *commit) begins(s *store.Start) error {
	b, err := t.leased(s.Batch)
	if err != nil {
		return err
	}
	t.watch = append(t.watch, watched{b.id, s.Index, len(b.manifest)})
	if b.watched == nil {
		b.watched = batchrow.NewBits(len(b.manifest))
	}
	b.watched.Set(s.Index) // for a settlement in the same group; one too many is no harm
	return t.c.exec(sqlStart, b.queue.id, b.manifest[s.Index], t.process, t.now, s.Lone)
}

// writeBatches writes back the batches that were settled in.
func (t *commit) writeBatches() error {
	for _, b := range t.batches {
		if !b.dirty {
			continue
		}
		b.times = b.ran.AppendTo(b.times)
		if b.open > 0 {
			if err := t.c.exec(sqlSetBatch, b.id, b.open, []byte(b.bits), b.times); err != nil {
				return err
			}
			continue
		}
		b.state = batchClosed
		if err := t.c.exec(sqlClose, b.id, []byte(b.bits), b.times, t.now); err != nil {
			return err
		}
	}
	return nil
}

// writeCounters adds what the transaction did to the queues' counters.
func (t *commit) writeCounters() error {
	for _, q := range t.queues {
		if q.newDone == 0 && q.newGone == 0 && q.newDied == 0 {
			continue
		}
		if err := t.c.exec(sqlCount, q.id, q.newDone, q.newGone, q.newDied); err != nil {
			return err
		}
	}
	return nil
}

// watched marks a delivery of ours that has rows beside its batch's: earlier
// attempts, or a start. Only for those does a success look for them. It is
// kept in memory, because a batch is settled by the process that claimed it.
type watched struct {
	batch        int64
	index, count int
}

func (s *Store) keepWatch(list []watched) {
	for _, w := range list {
		b := s.watched[w.batch]
		if b == nil {
			b = batchrow.NewBits(w.count)
			s.watched[w.batch] = b
		}
		b.Set(w.index)
	}
}
