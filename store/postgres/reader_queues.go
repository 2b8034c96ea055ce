package postgres

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/weir-go/weir/store"
)

// seenQueue is a queue with what its state is computed from.
type seenQueue struct {
	store.QueueState
	id, topic int64
	unsettled []int64 // the positions in open batches, ascending
	oldest    int64   // position of the oldest to be worked, 0: none found
}

const (
	askQueues = `select q.id, q.name, q.topic, t.name, t.kind, q.capacity, q.required, q.max_lag, q.on_dead,
			t.appended + coalesce((select sum(appended) from weir.tally where topic = q.topic), 0)::bigint - q.base
				- q.done - q.gone - coalesce((select sum(done + gone) from weir.tally where queue = q.id), 0)::bigint,
			q.parked_us is not null, q.gaps, q.paused_us, coalesce(q.paused_by, ''), coalesce(q.paused_why, '')
		from weir.queues q join weir.topics t on t.id = q.topic
		where $1 = '' or q.name = $1 order by q.name collate "C"`

	// Rows of deferred and dead are counted: they are exceptions.
	askExceptions = `select (select count(*) from weir.dead where queue = $1), count(*), coalesce(min(pos), 0) from weir.deferred where queue = $1`

	// Lanes go on at their own pace: what is another's to claim is passed over, within limits.
	askFirstFresh = `select coalesce(min(f.pos), 0) from weir.queues q` + newestBatchOf + `
		cross join lateral unnest(b.masks, b.highs) as e(mask, high)
		cross join lateral (
			select q.topic::bigint << 40 | m.seq as pos from (
				select seq, lane from weir.messages where topic = q.topic and seq > (e.high & 1099511627775) order by seq limit 10000) m
			where (e.mask >> m.lane) & 1 = 1 order by m.seq limit 1) f
		where q.id = $1`
	// Below the queue's place are only those that were committed late: not in its snapshot.
	askFirstLate = `select coalesce(min(q.topic::bigint << 40 | m.seq), 0) from weir.queues q` + newestBatchOf + `
		cross join lateral (select * from (` + lateMessages + `) l limit 10000) m
		where q.id = $1 and` + unclaimed
	lateMessages = `select l.seq, l.xid, l.lane from unnest(b.seens) as s(seen) join weir.messages l
			on l.topic + 0 = q.topic and l.xid >= pg_snapshot_xmax(s.seen) and l.seq <= (b.high & 1099511627775)
		union select l.seq, l.xid, l.lane from unnest(b.seens) as s(seen) cross join lateral pg_snapshot_xip(s.seen) as x(xid)
			join weir.messages l on l.topic + 0 = q.topic and l.xid = x.xid and l.seq <= (b.high & 1099511627775)`

	askSentAt = `select sent_us from weir.messages where topic = ($1 >> 40)::int and seq = $1 & 1099511627775
		union all select sent_us from weir.kept where topic = ($1 >> 40)::int and seq = $1 & 1099511627775 limit 1`
)

// seeQueues reads all queues by name, or the one with a name, without counting.
func seeQueues(t *tx, name string) ([]*seenQueue, error) {
	var out []*seenQueue
	if !storable(name) {
		return nil, nil
	}
	return out, t.get(askQueues, func(read scan) error {
		q := &seenQueue{}
		var paused *int64
		var pause store.Pause
		err := read(&q.id, &q.Name, &q.topic, &q.Topic.Name, &q.Topic.Kind, &q.Capacity, &q.Required, &q.MaxLag, &q.OnDead,
			&q.Depth, &q.Parked, &q.Gaps, &paused, &pause.By, &pause.Why)
		if q.ID = store.QueueID(q.id); paused != nil {
			pause.At = at(*paused)
			q.Paused = &pause
		}
		out = append(out, q)
		return err
	}, name)
}

// countQueues completes the queues' states by what the other tables say. The oldest message
// of a queue is the one with the lowest position, so a clock that was set back does not
// make another look older.
func countQueues(t *tx, queues []*seenQueue) error {
	for _, q := range queues {
		q.askCounts(t)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, q := range queues {
		if q.oldest == 0 && q.Depth > 0 {
			t.ask(askFirstLate, func(read scan) error { return read(&q.oldest) }, q.id)
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, q := range queues {
		if q.oldest == 0 {
			continue
		}
		t.ask(askSentAt, func(read scan) error {
			var sent int64
			err := read(&sent)
			q.Oldest = at(sent)
			return err
		}, q.oldest)
	}
	return t.flush()
}

// askCounts asks what is deferred, dead and leased, and for the oldest.
func (q *seenQueue) askCounts(t *tx) {
	lower := func(pos int64) {
		if pos > 0 && (q.oldest == 0 || pos < q.oldest) {
			q.oldest = pos
		}
	}
	t.ask(askExceptions, func(read scan) error {
		var lowest int64
		err := read(&q.Dead, &q.Deferred, &lowest)
		lower(lowest)
		return err
	}, q.id)
	t.ask(askOpenBatches, func(read scan) error {
		b, err := seeBatch(read)
		for _, pos := range b.unsettled() {
			q.unsettled = append(q.unsettled, pos)
			lower(pos)
		}
		q.Leased = int64(len(q.unsettled))
		slices.Sort(q.unsettled)
		return err
	}, []int64{q.id})
	t.ask(askFirstFresh, func(read scan) error {
		var pos int64
		err := read(&pos)
		lower(pos)
		return err
	}, q.id)
}

// Queues lists all queues by name, with their state.
func (r reader) Queues(ctx context.Context) ([]store.QueueState, error) {
	var out []store.QueueState
	err := r.s.read(ctx, func(t *tx) error {
		queues, err := seeQueues(t, "")
		if err != nil {
			return err
		}
		if err := countQueues(t, queues); err != nil {
			return err
		}
		for _, q := range queues {
			out = append(out, q.QueueState)
		}
		return nil
	})
	return out, err
}

// Of each queue the newest minutes, so that a busy store's last queues are not cut off.
const askFigures = `select q.id, f.minute, f.sent, f.done, f.died, f.failed, f.rejected, f.wait, f.work, f.lead
	from weir.queues q cross join lateral (
		select * from weir.figures where queue = q.id and minute >= $1 order by minute desc limit $2) f
	order by q.id, f.minute`

// Figures lists the minutes of all queues that are not older than since: of each
// queue at most MaxList, the newest.
func (r reader) Figures(ctx context.Context, since time.Time) ([]store.FigureMinute, error) {
	first := since.Truncate(time.Minute)
	if first.Before(since) {
		first = first.Add(time.Minute)
	}
	var out []store.FigureMinute
	err := r.s.read(ctx, func(t *tx) error {
		return t.get(askFigures, func(read scan) error {
			f, err := seeFigures(read)
			out = append(out, f)
			return err
		}, minuteNumber(first), store.MaxList)
	})
	return out, err
}

// minuteNumber numbers minutes since 1970.
func minuteNumber(t time.Time) int64 {
	if t.IsZero() {
		return math.MinInt64
	}
	return t.Unix() / 60
}

func seeFigures(read scan) (store.FigureMinute, error) {
	var f store.FigureMinute
	var queue, minute int64
	var wait, work, lead []byte
	if err := read(&queue, &minute, &f.Sent, &f.Done, &f.Died, &f.Failed, &f.Rejected, &wait, &work, &lead); err != nil {
		return f, err
	}
	f.Queue, f.Minute = store.QueueID(queue), time.Unix(minute*60, 0).UTC()
	for _, h := range []struct {
		into *store.Histogram
		from []byte
	}{{&f.Wait, wait}, {&f.Work, work}, {&f.Lead, lead}} {
		if err := h.into.UnmarshalBinary(h.from); err != nil {
			return f, fmt.Errorf("figures of minute %s: %w", f.Minute.Format(time.RFC3339), err)
		}
	}
	return f, nil
}
