package postgres

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/batchrow"
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

// leasedBatch is a batch row that the transaction settles deliveries of: read, and
// locked, once; written once.
type leasedBatch struct {
	ref                                store.BatchRef
	epoch, owner, state, open, claimed int64

	manifest []int64
	bits     batchrow.Bits
	watched  batchrow.Bits // deliveries with a past; see watchlist
	ran      batchrow.Chunk
	dirty    bool
}

// batchKey names a batch under any epoch.
type batchKey struct{ queue, no int64 }

const (
	// In the order given, which is that of their keys, so that no two transactions wait for each
	// other. Each by itself: joined, a young table would be read from its beginning.
	sqlBatches = `select b.* from unnest($1::int[], $2::bigint[]) as u(queue, no) cross join lateral (
			select b.queue, b.no, b.epoch, b.owner, b.state, b.open, b.claimed_us, b.manifest, b.bits
			from weir.batches b where b.queue = u.queue and b.no = u.no for update) b`
	sqlSetBatch = `update weir.batches set open = $3, bits = $4, times = times || $5::bytea,
			lanes = case when $3 = 0 then 0 else lanes end,
			state = case when $3 = 0 then 2 else state end, done_us = case when $3 = 0 then $6::bigint end,
			beyond = coalesce(beyond, pg_current_xact_id())
		where queue = $1 and no = $2`

	// n: all that was ever recorded. What else happened is of since the last death: a
	// message that a person retried starts afresh.
	sqlPast = `select u.i, coalesce((select max(a.n) from weir.attempts a where a.queue = u.queue and a.pos = u.pos), 0),
			x.first, x.crashes, exists (select 1 from weir.starts s where s.queue = u.queue and s.pos = u.pos)
		from unnest($1::int[], $2::bigint[]) with ordinality as u(queue, pos, i)
		cross join lateral (
			select coalesce(min(a.started_us), 0) as first, count(*) filter (where a.verdict = 'crashed') as crashes
			from weir.attempts a where a.queue = u.queue and a.pos = u.pos
			and a.n > coalesce((select max(d.n) from weir.attempts d where d.queue = u.queue and d.pos = u.pos and d.verdict = 'dead'), 0)) x`

	sqlNewAttempts = `insert into weir.attempts (queue, pos, n, attempt, started_us, took_us, verdict, reason, stack, process, due_us)
		select u.queue, u.pos, u.n, u.attempt, nullif(u.started, 0), u.took, u.verdict, nullif(u.reason, ''), nullif(u.stack, ''), $1, nullif(u.due, 0)
		from unnest($2::int[], $3::bigint[], $4::int[], $5::int[], $6::bigint[], $7::bigint[], $8::text[], $9::text[], $10::text[], $11::bigint[])
			as u(queue, pos, n, attempt, started, took, verdict, reason, stack, due)
		on conflict (queue, pos, n) do nothing`
	sqlDefer = `insert into weir.deferred (queue, pos, kind, lane, due_us, key, attempt, crashes, first_us, reason)
		select u.queue, u.pos, u.kind, u.lane, nullif(u.due, -1), nullif(u.key, ''), u.attempt, u.crashes, nullif(u.first, 0), nullif(u.reason, '')
		from unnest($1::int[], $2::bigint[], $3::smallint[], $4::smallint[], $5::bigint[], $6::text[], $7::int[], $8::int[], $9::bigint[], $10::text[])
			as u(queue, pos, kind, lane, due, key, attempt, crashes, first, reason)
		on conflict (queue, pos) do update set kind = excluded.kind, lane = excluded.lane, due_us = excluded.due_us, key = excluded.key,
			attempt = excluded.attempt, crashes = excluded.crashes, first_us = excluded.first_us, reason = excluded.reason`
	sqlDie = `insert into weir.dead (queue, pos, died_us, lane, key, attempts, reason, quarantined, behind)
		select u.queue, u.pos, $1, u.lane, nullif(u.key, ''), u.attempts, u.reason, u.quarantined, nullif(u.behind, 0)
		from unnest($2::int[], $3::bigint[], $4::smallint[], $5::text[], $6::int[], $7::text[], $8::boolean[], $9::bigint[])
			as u(queue, pos, lane, key, attempts, reason, quarantined, behind)
		on conflict (queue, pos) do update set died_us = excluded.died_us, lane = excluded.lane, key = excluded.key,
			attempts = excluded.attempts, reason = excluded.reason, quarantined = excluded.quarantined, behind = excluded.behind`
	sqlStart = `insert into weir.starts (queue, pos, process, started_us, lone)
		select u.queue, u.pos, $1, $2, u.lone from unnest($3::int[], $4::bigint[], $5::boolean[]) as u(queue, pos, lone)
		on conflict (queue, pos) do update set process = excluded.process, started_us = excluded.started_us, lone = excluded.lone`
	sqlStop = `delete from weir.starts s using unnest($1::int[], $2::bigint[]) as u(queue, pos) where s.queue = u.queue and s.pos = u.pos`
)

// askBatches queues the reading and locking of all batches that changes act for.
func (t *commit) askBatches(changes []*store.Change) {
	var keys []batchKey
	seen := map[batchKey]bool{}
	note := func(r store.BatchRef) {
		k := batchKey{int64(r.Queue), r.No}
		if !seen[k] && int64(int32(r.Queue)) == int64(r.Queue) {
			keys = append(keys, k)
		}
		seen[k] = true
	}
	for _, ch := range changes {
		for i := range ch.Settle {
			note(ch.Settle[i].Batch)
		}
		for _, s := range ch.Starts {
			note(s.Batch)
		}
	}
	if len(keys) == 0 {
		return
	}
	slices.SortFunc(keys, func(a, b batchKey) int { return cmp.Or(cmp.Compare(a.queue, b.queue), cmp.Compare(a.no, b.no)) })
	queues, nos := make([]int32, len(keys)), make([]int64, len(keys))
	for i, k := range keys {
		queues[i], nos[i] = int32(k.queue), k.no
	}
	t.ask(sqlBatches, t.readBatch, queues, nos)
}

func (t *commit) readBatch(read scan) error {
	b := &leasedBatch{}
	var queue int64
	var manifest, set []byte
	err := read(&queue, &b.ref.No, &b.epoch, &b.owner, &b.state, &b.open, &b.claimed, &manifest, &set)
	if err != nil {
		return err
	}
	b.ref.Queue, b.ref.Epoch, b.bits = store.QueueID(queue), b.epoch, set
	t.batches[batchKey{queue, b.ref.No}] = b
	if b.owner != t.process {
		return nil
	}
	b.watched = t.s.watched.of(b.ref)
	b.manifest, err = batchrow.DecodeManifest(make([]int64, 0, store.MaxBatch), manifest)
	return err
}

// fence refuses a change that acts for what is not its own. What it settles is
// marked at once, so that two settlements of one delivery meet here too.
func (t *commit) fence(ch *store.Change) (refused error) {
	for i := range ch.Settle {
		s := &ch.Settle[i]
		b := t.leased(s.Batch)
		switch {
		case b == nil || !b.holds(s.Index, s.Pos) || b.bits.Has(s.Index):
			refused = store.ErrFenced
		case s.Verdict < store.Done || s.Verdict > store.Discarded:
			refused = fmt.Errorf("settle with verdict %d: unknown", s.Verdict)
		case !storable(s.Key):
			refused = fmt.Errorf("settle with key %q: no text that PostgreSQL can keep", s.Key)
		}
		if refused != nil {
			t.unmark(ch.Settle[:i])
			return refused
		}
		b.bits.Set(s.Index)
	}
	for _, s := range ch.Starts {
		b := t.leased(s.Batch)
		if b == nil || !b.holds(s.Index, 0) || b.bits.Has(s.Index) {
			t.unmark(ch.Settle)
			return store.ErrFenced
		}
	}
	return nil
}

// holds reports whether the manifest has pos at index; 0 is any position.
func (b *leasedBatch) holds(index int, pos store.Pos) bool {
	return index >= 0 && index < len(b.manifest) && (pos == 0 || b.manifest[index] == int64(pos))
}

func (t *commit) unmark(settled []store.Settlement) {
	for i := range settled {
		t.leased(settled[i].Batch).bits.Unset(settled[i].Index)
	}
}

// leased is the batch if it is this process's, under this epoch; else nil.
func (t *commit) leased(r store.BatchRef) *leasedBatch {
	b := t.batch
	if b == nil || b.ref.Queue != r.Queue || b.ref.No != r.No {
		b = t.batches[batchKey{int64(r.Queue), r.No}]
		t.batch = b
	}
	if b == nil || b.epoch != r.Epoch || b.owner != t.process || b.state != batchLeased || t.process == 0 {
		return nil
	}
	return b
}

// settle carries out a verdict that the fence let pass. Nearly all are a first
// success without a key that waits for it: for those it writes no row.
func (t *commit) settle(s *store.Settlement) {
	b := t.leased(s.Batch)
	b.dirty = true
	b.open--
	if !s.Started.IsZero() {
		b.ran.Add(batchrow.Ran{Index: s.Index, Start: us(s.Started) - b.claimed, Took: s.Took.Microseconds()})
	}
	past := b.watched.Has(s.Index)
	queue := int64(s.Batch.Queue)
	c := t.counts(queue)
	if s.Verdict == store.Done {
		c.done++
	}
	if s.Verdict != store.Done || past || s.Attempt > 1 {
		t.exceptions = append(t.exceptions, exception{Settlement: s, queue: queue, pos: b.manifest[s.Index], watched: past})
	}
	switch s.Verdict {
	case store.Dead:
		c.gone++
		c.died++
	case store.Discarded:
		c.gone++
	}
	if s.Key != "" && (s.Verdict != store.Done || t.keys.mayWait(queue, s.Key)) {
		t.moved[queueKey{queue, s.Key}] = true
	}
}

// counted is what a transaction settles in a queue.
type counted struct{ done, gone, died int64 }

func (t *commit) counts(queue int64) *counted {
	c := t.settled[queue]
	if c == nil {
		c = &counted{}
		t.settled[queue] = c
	}
	return c
}

// exception is a settlement that is more than a first success.
type exception struct {
	*store.Settlement
	queue, pos int64
	watched    bool

	n, first, crashes int64 // see sqlPast
	suspect           bool
}

// askPast queues the reading of what happened before to the exceptions.
func (t *commit) askPast() {
	if len(t.exceptions) == 0 {
		return
	}
	queues, poss := make([]int32, len(t.exceptions)), make([]int64, len(t.exceptions))
	for i := range t.exceptions {
		queues[i], poss[i] = int32(t.exceptions[i].queue), t.exceptions[i].pos
	}
	t.ask(sqlPast, func(read scan) error {
		var i, n, first, crashes int64
		var suspect bool
		if err := read(&i, &n, &first, &crashes, &suspect); err != nil {
			return err
		}
		x := &t.exceptions[i-1]
		x.n, x.first, x.crashes, x.suspect = n, first, crashes, suspect
		return nil
	}, queues, poss)
}

// writeExceptions queues the rows that the exceptions leave.
func (t *commit) writeExceptions() {
	var stopped exceptRows
	for i := range t.exceptions {
		x := &t.exceptions[i]
		if x.suspect {
			stopped.queues, stopped.poss = append(stopped.queues, int32(x.queue)), append(stopped.poss, x.pos)
		}
		if x.Verdict == store.Done {
			// A success after other attempts, or after waiting behind its key: what the
			// batch that leased it first says of it is not the whole story then.
			if x.n > 0 || x.Attempt > 1 || !x.suspect {
				t.attempts.add(x, t.now)
			}
			continue
		}
		if x.Verdict != store.Behind {
			t.attempts.add(x, t.now)
		}
		t.deferOrDie(x)
	}
	if len(stopped.poss) > 0 {
		t.do(sqlStop, stopped.queues, stopped.poss)
	}
	t.attempts.write(t.tx)
	t.filed.write(t.tx)
}

// exceptRows names deliveries.
type exceptRows struct {
	queues []int32
	poss   []int64
}

func (t *commit) deferOrDie(x *exception) {
	first := x.first
	if first == 0 && x.Verdict != store.Behind {
		first = us(x.Started)
	}
	d := deferral{queue: x.queue, pos: x.pos, key: x.Key, attempt: int64(max(x.Attempt, 1)), crashes: x.crashes, first: first, reason: reasonOf(x.Reason)}
	switch x.Verdict {
	case store.Retry:
		d.kind, d.due = kindRetry, dueOf(x.Settlement, t.now)
		d.attempt++
	case store.NotYet:
		d.kind, d.due = kindNotYet, dueOf(x.Settlement, t.now)
	case store.Behind:
		d.kind, d.due, d.reason = kindBehind, never, ""
	case store.Dead:
		t.filed.die(death{queue: x.queue, pos: x.pos, key: x.Key, attempts: int64(x.Attempt), reason: d.reason, quarantined: x.Quarantined})
		return
	default: // Discarded
		return
	}
	t.filed.postpone(d)
}

// dueOf is when a delivery is to be tried again. 0 is reserved for what is released.
func dueOf(s *store.Settlement, now int64) int64 {
	if due := us(s.Due); due > 0 {
		return due
	}
	return now
}

// writeBatches queues the batches that were settled in, and the starts of suspects.
func (t *commit) writeBatches() {
	for k, b := range t.batches {
		if b.dirty {
			t.do(sqlSetBatch, k.queue, k.no, b.open, []byte(b.bits), b.ran.AppendTo([]byte{}), t.now)
		}
	}
	for queue, c := range t.settled {
		t.tallies.settled(queue, c.done, c.gone, c.died)
	}
}

// keepBatches tells the store which batches the transaction has settled something of.
func (t *commit) keepBatches(s *Store) {
	for _, b := range t.batches {
		if !b.dirty {
			continue
		}
		if b.open == 0 {
			s.watched.drop(b.ref)
		}
		if one, ok := s.claiming.Load(b.ref.Queue); ok {
			one.(*claimState).settles(b.ref.No, t.xid)
		}
	}
}

// begins records that a suspect begins to run.
func (t *commit) begins(s *store.Start) {
	b := t.leased(s.Batch)
	t.watch = append(t.watch, watched{b.ref, s.Index, len(b.manifest)})
	if b.watched == nil {
		b.watched = batchrow.NewBits(len(b.manifest))
	}
	b.watched.Set(s.Index) // for a settlement in the same group; one too many is no harm
	t.do(sqlStart, t.process, t.now, []int32{int32(s.Batch.Queue)}, []int64{b.manifest[s.Index]}, []bool{s.Lone})
}
