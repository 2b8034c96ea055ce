package sqlite

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
)

// queueRow is a queue with what its state is computed from.
type queueRow struct {
	store.QueueState
	id       int64
	topic    int64
	startPos int64
	gone     int64
	cursor   int64 // high of the newest batch
}

// The cursor is looked up per queue; everything else is in the rows themselves.
const selectQueues = `select q.id, q.name, t.id, t.name, t.kind, q.start_pos, q.gone,
		t.appended - q.base - q.done - q.gone, q.capacity, q.required, q.max_lag, q.on_dead,
		q.parked_us, q.paused_us, q.paused_by, q.paused_why, q.gaps,
		(select b.high from weir_batches b where b.id between (q.id << 40) and (q.id << 40 | 0xffffffffff)
			order by b.id desc limit 1),
		(select b.id from weir_batches b where b.id between (q.id << 40) and (q.id << 40 | 0xffffffffff)
			order by b.id desc limit 1)
	from weir_queues q join weir_topics t on t.id = q.topic
	where q.name = ?1 or ?1 is null order by q.name`

// readQueues reads all queues by name, or the one with a name, without counting.
func readQueues(c *conn, name any) ([]queueRow, error) {
	var out []queueRow
	err := c.query(selectQueues, []any{name}, func(s *sqlite.Stmt) error {
		q := queueRow{id: s.ColumnInt64(0), topic: s.ColumnInt64(2), startPos: s.ColumnInt64(5),
			gone: s.ColumnInt64(6), cursor: s.ColumnInt64(17)}
		q.QueueState = store.QueueState{
			ID: store.QueueID(q.id),
			Queue: store.Queue{
				Name:     s.ColumnText(1),
				Topic:    store.Topic{Name: s.ColumnText(3), Kind: store.Kind(s.ColumnInt64(4))},
				Capacity: s.ColumnInt(8), Required: s.ColumnBool(9),
				MaxLag: s.ColumnInt(10), OnDead: store.OnDead(s.ColumnInt64(11)),
			},
			Depth:  s.ColumnInt64(7),
			Parked: !s.ColumnIsNull(12),
			Gaps:   s.ColumnInt64(16),
			Newest: numberOf(s.ColumnInt64(18)),
		}
		if !s.ColumnIsNull(13) {
			q.Paused = &store.Pause{At: moment(s, 13), By: s.ColumnText(14), Why: s.ColumnText(15)}
		}
		out = append(out, q)
		return nil
	})
	return out, err
}

const (
	// Entries of deferred and dead are counted: they are exceptions, and a range
	// of the primary key each.
	countDeferred = `select count(*), min(pos) from weir_deferred where queue = ?1`
	countDead     = `select count(*) from weir_dead where queue = ?1`
	lowestPos     = `select pos from weir_deferred where queue = ?1 order by pos limit 1`

	firstBeyond = `select pos from weir_messages where pos > ?1 and pos < ?2 order by pos limit 1`
	sentLive    = `select sent_us from weir_messages where pos = ?1`
	sentKept    = `select sent_us from weir_kept where pos = ?1`
)

// count completes a queue's state by what the other tables say.
func (q *queueRow) count(c *conn) error {
	var err error
	if q.Dead, _, err = c.number(countDead, q.id); err != nil {
		return err
	}
	oldest := int64(math.MaxInt64)
	err = c.query(countDeferred, []any{q.id}, func(s *sqlite.Stmt) error {
		q.Deferred = s.ColumnInt64(0)
		if !s.ColumnIsNull(1) {
			oldest = s.ColumnInt64(1)
		}
		return nil
	})
	if err != nil {
		return err
	}
	after, below := idRange(q.id)
	err = c.query(openBatches, []any{after, below}, func(s *sqlite.Stmt) error {
		b, err := viewBatch(s)
		for _, pos := range b.unsettled() {
			q.Leased++
			oldest = min(oldest, pos)
		}
		return err
	})
	if err != nil {
		return err
	}
	if oldest > q.cursor { // else what waits is younger
		_, end := idRange(q.topic)
		pos, found, err := c.number(firstBeyond, max(q.cursor, q.topic<<numberBits), end)
		if err != nil || !found && oldest == math.MaxInt64 {
			return err
		}
		if found {
			oldest = min(oldest, pos)
		}
	}
	q.Oldest, err = sentAt(c, oldest)
	return err
}

// sentAt is when a message was sent; zero when it is gone.
func sentAt(c *conn, pos int64) (time.Time, error) {
	sent, found, err := c.number(sentLive, pos)
	if err == nil && !found {
		sent, _, err = c.number(sentKept, pos)
	}
	return at(sent), err
}

// Queues lists all queues by name, with their state. The oldest message of a
// queue is the one with the lowest position, so a clock that was set back does
// not make another look older.
func (r reader) Queues(ctx context.Context) ([]store.QueueState, error) {
	var out []store.QueueState
	err := r.s.read(ctx, func(c *conn) error {
		queues, err := readQueues(c, nil)
		if err != nil {
			return err
		}
		for i := range queues {
			if err := queues[i].count(c); err != nil {
				return fmt.Errorf("queue %s: %w", queues[i].Name, err)
			}
			out = append(out, queues[i].QueueState)
		}
		return nil
	})
	return out, err
}

const (
	queueIDs      = `select id from weir_queues order by id`
	selectFigures = `select minute, sent, done, died, failed, rejected, wait, work, lead
		from weir_figures where queue = ?1 and minute >= ?2 order by minute desc limit ?3`
)

// Figures lists the minutes of all queues that are not older than since: of each
// queue at most MaxList, the newest, so that a busy store's last queues are not cut off.
func (r reader) Figures(ctx context.Context, since time.Time) ([]store.FigureMinute, error) {
	first := since.Truncate(time.Minute)
	if first.Before(since) {
		first = first.Add(time.Minute)
	}
	var out []store.FigureMinute
	err := r.s.read(ctx, func(c *conn) error {
		var ids []int64
		err := c.query(queueIDs, nil, func(s *sqlite.Stmt) error {
			ids = append(ids, s.ColumnInt64(0))
			return nil
		})
		if err != nil {
			return err
		}
		for _, id := range ids {
			from := len(out)
			err := c.query(selectFigures, []any{id, minuteOf(first), store.MaxList}, func(s *sqlite.Stmt) error {
				f, err := figureMinute(s)
				f.Queue = store.QueueID(id)
				out = append(out, f)
				return err
			})
			if err != nil {
				return err
			}
			slices.Reverse(out[from:])
		}
		return nil
	})
	return out, err
}

// minuteOf numbers minutes since 1970.
func minuteOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix() / 60
}

func figureMinute(s *sqlite.Stmt) (store.FigureMinute, error) {
	f := store.FigureMinute{
		Minute: time.Unix(s.ColumnInt64(0)*60, 0).UTC(),
		Sent:   s.ColumnInt64(1), Done: s.ColumnInt64(2), Died: s.ColumnInt64(3),
		FigureDelta: store.FigureDelta{Failed: s.ColumnInt64(4), Rejected: s.ColumnInt64(5)},
	}
	for i, h := range []*store.Histogram{&f.Wait, &f.Work, &f.Lead} {
		if err := h.UnmarshalBinary(blob(s, 6+i)); err != nil {
			return f, fmt.Errorf("figures of minute %s: %w", f.Minute.Format(time.RFC3339), err)
		}
	}
	return f, nil
}
