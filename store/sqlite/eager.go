package sqlite

import (
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/batchrow"
	"zombiezen.com/go/sqlite"
)

const (
	sqlNewestBatch = `select id, high from weir_batches where id >= ?1 and id <= ?2 order by id desc limit 1`
	sqlNewBatch    = `insert into weir_batches (id, epoch, owner, state, high, open, claimed_us, manifest, bits, times)
		values (?1, 1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, x'')`
	sqlSetHigh = `update weir_batches set high = ?2 where id = ?1`
	// Batches that this process did not claim. The hint keeps the planner from
	// walking all batches of the queue.
	sqlAbandoned = `select id from weir_batches indexed by weir_batches_open
		where state < 2 and id > ?1 and id < ?2 and owner <> ?3 order by id limit 1`
)

// cursor is where a queue's newest batch ends.
type cursor struct {
	batch, high int64
}

func readCursor(c *conn, queue int64) (cursor, error) {
	var end cursor
	first, last := idRange(queue)
	err := c.query(sqlNewestBatch, []any{first, last}, func(st *sqlite.Stmt) error {
		end = cursor{st.ColumnInt64(0), st.ColumnInt64(1)}
		return nil
	})
	return end, err
}

// abandonedBatch is the first batch of a queue, after a batch, that an earlier
// process left open; 0 when there is none.
func (s *Store) abandonedBatch(c *conn, process, queue, after int64) (int64, error) {
	if known, ok := s.worked.Load(queue); ok && known == process {
		return 0, nil
	}
	first, before := idRange(queue)
	id, found, err := c.number(sqlAbandoned, max(after, first), before, process)
	if err == nil && !found && after == 0 {
		s.worked.Store(queue, process)
	}
	return id, err
}

// newBatch is a batch to be inserted.
type newBatch struct {
	id, owner, high int64
	at              int64 // µs
	positions       []int64
}

// insert writes the batch. One without positions, of which all messages were filed among the
// deferred or the dead, only moves the cursor, which the batch before it then ends at: numbers
// are given to what is handed out, and to nothing else.
func (b *newBatch) insert(c *conn) error {
	n := len(b.positions)
	if n == 0 {
		return c.exec(sqlSetHigh, b.id-1, b.high)
	}
	manifest := batchrow.AppendManifest(make([]byte, 0, 16+2*n), b.positions)
	return c.exec(sqlNewBatch, b.id, b.owner, batchLeased, b.high, n, b.at, manifest, []byte(batchrow.NewBits(n)))
}

// claimEager leases what the group appended to idle consumers that are caught up:
// it spares them the claim's transaction and the reading of what was just written.
func (t *commit) claimEager() error {
	if t.process == 0 || len(t.appended) == 0 {
		return nil
	}
	for _, e := range t.g.Eager {
		q := t.queues[int64(e.Queue)]
		if q == nil || q.paused != 0 || q.parked != 0 || e.Max < 1 {
			continue
		}
		top := t.tailOf(q)
		if top == nil || !top.dirty {
			continue
		}
		b, err := t.claimAppended(q, top, min(e.Max, store.MaxBatch))
		if err != nil {
			return err
		}
		if b != nil {
			t.claimed = append(t.claimed, b)
		}
	}
	return nil
}

// tailOf is the queue's topic, if the group touched it.
func (t *commit) tailOf(q *queueTail) *tail {
	for _, top := range t.tails {
		if top.id == q.topic {
			return top
		}
	}
	return nil
}

func (t *commit) claimAppended(q *queueTail, top *tail, most int) (*store.Batch, error) {
	end, err := readCursor(t.c, q.id)
	if err != nil {
		return nil, err
	}
	abandoned, err := t.s.abandonedBatch(t.c, t.process, q.id, 0)
	if err != nil || abandoned != 0 || end.high < top.before {
		return nil, err
	}
	f := &filing{c: t.c, q: q, now: t.now}
	if f.blockers, err = newBlockers(t.c, q); err != nil {
		return nil, err
	}
	b := &newBatch{id: end.batch + 1, owner: t.process, high: end.high, at: t.now}
	var leased []store.Delivery
	for _, m := range t.appended {
		if ownerOf(int64(m.Pos)) != q.topic {
			continue
		}
		if len(leased) == most {
			break
		}
		b.high = int64(m.Pos)
		filed, err := f.file(m)
		if err != nil {
			return nil, err
		}
		if filed {
			continue
		}
		if leased == nil {
			leased = make([]store.Delivery, 0, min(most, len(t.appended)))
			b.positions = make([]int64, 0, cap(leased))
		}
		leased = append(leased, store.Delivery{Message: m, Index: len(leased), Attempt: 1})
		b.positions = append(b.positions, int64(m.Pos))
	}
	if err := b.insert(t.c); err != nil || len(leased) == 0 {
		return nil, err
	}
	ref := store.BatchRef{Queue: store.QueueID(q.id), No: numberOf(b.id), Epoch: 1}
	return &store.Batch{BatchRef: ref, ClaimedAt: at(t.now), Deliveries: leased}, nil
}

// filing puts fresh messages that cannot be leased yet where they belong.
type filing struct {
	c        *conn
	q        *queueTail
	now      int64
	blockers *blockers
}

// file reports whether it filed m: among the delayed when it is not due, or
// behind an earlier message of its key. The sender's delay is looked at first: it
// holds back only its own message, and when that is due the key is looked at again.
func (f *filing) file(m *store.Message) (bool, error) {
	if due := us(m.Due); due > f.now {
		return true, f.c.exec(sqlDefer, f.q.id, int64(m.Pos), kindDelay, due, textOrNull(m.Key), 1, 0, nil, nil)
	}
	return f.behind(m)
}

// behind files m if an earlier message of its key is in its way.
func (f *filing) behind(m *store.Message) (bool, error) {
	b, err := f.blockers.of(m.Key, int64(m.Pos))
	if err != nil || b.pos == 0 {
		return false, err
	}
	return true, b.file(f.c, f.q, m, f.now)
}
