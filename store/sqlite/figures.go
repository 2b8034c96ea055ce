package sqlite

import (
	"fmt"

	"github.com/weir-go/weir/store"
	"zombiezen.com/go/sqlite"
)

const (
	sqlMinute = `select failed, rejected, wait, work, lead from weir_figures where queue = ?1 and minute = ?2`
	// What the store can count is counted since the last figure, whoever did it.
	sqlAddMinute = `insert into weir_figures (queue, minute, sent, done, died, failed, rejected, wait, work, lead)
		select q.id, ?2, t.appended - q.sampled_sent, q.done - q.sampled_done, q.died - q.sampled_died, ?3, ?4, ?5, ?6, ?7
		from weir_queues q join weir_topics t on t.id = q.topic where q.id = ?1
		on conflict (queue, minute) do update set
		sent = sent + excluded.sent, done = done + excluded.done, died = died + excluded.died,
		failed = excluded.failed, rejected = excluded.rejected,
		wait = excluded.wait, work = excluded.work, lead = excluded.lead`
	sqlSampled = `update weir_queues set sampled_done = done, sampled_died = died,
		sampled_sent = (select appended from weir_topics where id = weir_queues.topic) where id = ?1`
)

// writeFigures adds the deltas to the queues' minutes, after all counters are written.
func (t *commit) writeFigures() error {
	for i := range t.g.Figures {
		d := &t.g.Figures[i]
		if err := t.addFigure(d); err != nil {
			return fmt.Errorf("figures of queue %d: %w", d.Queue, err)
		}
	}
	return nil
}

func (t *commit) addFigure(d *store.FigureDelta) error {
	sum := store.FigureDelta{Queue: d.Queue}
	minute := t.now / minuteUs
	err := t.c.query(sqlMinute, []any{int64(d.Queue), minute}, func(st *sqlite.Stmt) error {
		sum.Failed, sum.Rejected = st.ColumnInt64(0), st.ColumnInt64(1)
		for i, h := range []*store.Histogram{&sum.Wait, &sum.Work, &sum.Lead} {
			if err := h.UnmarshalBinary(blob(st, 2+i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	sum.Failed += d.Failed
	sum.Rejected += d.Rejected
	var encoded [3][]byte
	for i, h := range []struct{ to, from *store.Histogram }{{&sum.Wait, &d.Wait}, {&sum.Work, &d.Work}, {&sum.Lead, &d.Lead}} {
		h.to.Merge(h.from)
		if encoded[i], err = h.to.AppendBinary([]byte{}); err != nil {
			return err
		}
	}
	err = t.c.exec(sqlAddMinute, int64(d.Queue), minute, sum.Failed, sum.Rejected, encoded[0], encoded[1], encoded[2])
	if err != nil {
		return err
	}
	return t.c.exec(sqlSampled, int64(d.Queue))
}

const minuteUs = 60_000_000
