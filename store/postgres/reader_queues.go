package postgres

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/weir-go/weir/store"
)

// seenQueue is a queue with its numbers.
type seenQueue struct {
	store.QueueState
	id, topic int64
}

const (
	askQueues = `select q.id, q.name, q.topic, t.name, t.kind, q.capacity, q.required, q.max_lag, q.on_dead,
			` + sqlDepth + `, q.parked_us is not null, q.gaps, q.paused_us, coalesce(q.paused_by, ''), coalesce(q.paused_why, '')
		from weir.queues q join weir.topics t on t.id = q.topic
		where $1 = '' or q.name = $1 order by q.name collate "C"`
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

// Queues lists all queues by name, with their state. The oldest message of a queue is the
// one with the lowest position, so a clock that was set back does not make another look older.
func (r reader) Queues(ctx context.Context) ([]store.QueueState, error) {
	var out []store.QueueState
	err := r.s.read(ctx, func(t *tx) error {
		var err error
		out, err = readStates(t)
		return err
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
