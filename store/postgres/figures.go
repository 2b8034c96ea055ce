package postgres

import (
	"fmt"

	"github.com/weir-go/weir/store"
)

const (
	sqlMinutes = `select queue, failed, rejected, wait, work, lead from weir.figures where minute = $1 and queue = any($2::int[])`
	// What the store can count is counted since the last figure, whoever did it.
	sqlAddMinute = `with counted as (
			select q.id, t.appended as sent, w.done, w.died, q.sampled_sent, q.sampled_done, q.sampled_died
			from weir.queues q join weir.topic_counts t on t.topic = q.topic join weir.queue_counts w on w.queue = q.id where q.id = $1),
		sampled as (
			update weir.queues q set sampled_sent = c.sent, sampled_done = c.done, sampled_died = c.died from counted c where q.id = c.id)
		insert into weir.figures as f (queue, minute, sent, done, died, failed, rejected, wait, work, lead)
		select c.id, $2, c.sent - c.sampled_sent, c.done - c.sampled_done, c.died - c.sampled_died, $3, $4, $5, $6, $7 from counted c
		on conflict (queue, minute) do update set
		sent = f.sent + excluded.sent, done = f.done + excluded.done, died = f.died + excluded.died,
		failed = excluded.failed, rejected = excluded.rejected,
		wait = excluded.wait, work = excluded.work, lead = excluded.lead`
)

const minuteUs = 60_000_000

// writeFigures adds the deltas to the queues' minutes, after all counters are queued.
// They are under the lock of those who fold.
func (t *commit) writeFigures() error {
	minute := t.now / minuteUs
	var queues []int32
	for i := range t.g.Figures {
		queues = append(queues, int32(t.g.Figures[i].Queue))
	}
	t.do(sqlTallyLock, t.s.lockNumber("tally"))
	sums := map[store.QueueID]*store.FigureDelta{}
	err := t.get(sqlMinutes, func(read scan) error {
		var queue int64
		var sum store.FigureDelta
		var encoded [3][]byte
		if err := read(&queue, &sum.Failed, &sum.Rejected, &encoded[0], &encoded[1], &encoded[2]); err != nil {
			return err
		}
		for i, h := range []*store.Histogram{&sum.Wait, &sum.Work, &sum.Lead} {
			if err := h.UnmarshalBinary(encoded[i]); err != nil {
				return fmt.Errorf("figures of queue %d: %w", queue, err)
			}
		}
		sums[store.QueueID(queue)] = &sum
		return nil
	}, minute, queues)
	if err != nil {
		return err
	}
	for i := range t.g.Figures {
		d := &t.g.Figures[i]
		sum := sums[d.Queue]
		if sum == nil {
			sum = &store.FigureDelta{}
			sums[d.Queue] = sum
		}
		if err := t.addFigure(minute, d, sum); err != nil {
			return err
		}
	}
	return nil
}

func (t *commit) addFigure(minute int64, d, sum *store.FigureDelta) error {
	sum.Failed += d.Failed
	sum.Rejected += d.Rejected
	var encoded [3][]byte
	for i, h := range []struct{ to, from *store.Histogram }{{&sum.Wait, &d.Wait}, {&sum.Work, &d.Work}, {&sum.Lead, &d.Lead}} {
		h.to.Merge(h.from)
		var err error
		if encoded[i], err = h.to.AppendBinary([]byte{}); err != nil {
			return err
		}
	}
	t.do(sqlAddMinute, int64(d.Queue), minute, sum.Failed, sum.Rejected, encoded[0], encoded[1], encoded[2])
	return nil
}
