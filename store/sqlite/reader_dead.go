package sqlite

import (
	"cmp"
	"context"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
)

// A parked letter's head is asked for, not read from behind: when the head is
// discarded, the letter that follows takes its place without an update of all others.
const (
	deadFields = `select d.queue, d.pos, d.died_us, d.attempts, d.reason, d.quarantined, d.behind is not null,
			(select h.pos from weir_dead h where h.queue = d.queue and h.key = d.key and h.pos < d.pos order by h.pos limit 1),
			exists (select 1 from weir_edits e where e.queue = d.queue and e.pos = d.pos)
		from weir_dead d `
	deadOfQueue = deadFields + `where d.queue = ?1 and d.pos > ?2
		and (?3 is null or instr(d.reason, ?3) > 0) order by d.pos limit ?4`
	deadAt = deadFields + `where d.queue = ?1 and d.pos = ?2`

	selectEdit = `select body, headers from weir_edits where queue = ?1 and pos = ?2`
)

// deadRow is a dead letter as it is read.
type deadRow struct {
	store.DeadLetter
	behind int64 // BehindID's position
}

func deadLetter(s *sqlite.Stmt, w scribe, queue string) deadRow {
	pos := store.Pos(s.ColumnInt64(1))
	d := deadRow{DeadLetter: store.DeadLetter{
		Queue:   queue,
		Message: store.Message{Pos: pos, ID: w.lives.ID(pos)},
		DiedAt:  moment(s, 2), Attempts: s.ColumnInt(3), Reason: s.ColumnText(4),
		Quarantined: s.ColumnBool(5), Edited: s.ColumnBool(8),
	}}
	if s.ColumnBool(6) && !s.ColumnIsNull(7) {
		d.behind = s.ColumnInt64(7)
	}
	return d
}

// Dead lists dead letters, oldest first: by when they were sent. A message that
// is dead in several queues is never divided between two pages, so that After
// loses none; for that a page may be shorter than Max, and exceed it when Max is
// below the number of queues.
func (r reader) Dead(ctx context.Context, q store.DeadQuery) ([]store.DeadLetter, error) {
	var out []store.DeadLetter
	err := r.s.read(ctx, func(c *conn) error {
		w, err := r.scribe(c)
		if err != nil {
			return err
		}
		var name any
		if q.Queue != "" {
			name = q.Queue
		}
		queues, err := readQueues(c, name)
		if err != nil {
			return err
		}
		if q.ID != "" {
			out, err = r.deadWithID(c, w, queues, q.ID)
			return err
		}
		out, err = listDead(c, w, queues, q)
		return err
	})
	return out, err
}

func listDead(c *conn, w scribe, queues []queueRow, q store.DeadQuery) ([]store.DeadLetter, error) {
	var (
		rows     []deadRow
		matching any
		page     = listMax(q.Max)
	)
	if q.Matching != "" {
		matching = q.Matching
	}
	for _, queue := range queues {
		after := queue.topic<<numberBits | numberOf(int64(q.After))
		err := c.query(deadOfQueue, []any{queue.id, after, matching, page + 1}, func(s *sqlite.Stmt) error {
			rows = append(rows, deadLetter(s, w, queue.Name))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(rows, func(a, b deadRow) int {
		return cmp.Compare(numberOf(int64(a.Message.Pos)), numberOf(int64(b.Message.Pos)))
	})
	var out []store.DeadLetter
	for i := range rows[:pageEnd(rows, page)] {
		if err := completeDead(c, w, &rows[i], false); err != nil {
			return nil, err
		}
		out = append(out, rows[i].DeadLetter)
	}
	return out, nil
}

// pageEnd is where a page of at most max ends such that no message is divided.
func pageEnd(rows []deadRow, max int) int {
	if len(rows) <= max {
		return len(rows)
	}
	same := func(i int) bool { return rows[i].Message.Pos == rows[i-1].Message.Pos }
	end := max
	for end > 0 && same(end) {
		if end--; end == 0 {
			for end = max; end < len(rows) && same(end); end++ {
			}
			return end
		}
	}
	return end
}

func completeDead(c *conn, w scribe, d *deadRow, withBody bool) error {
	m, err := w.read(c, int64(d.Message.Pos), withBody)
	if m != nil {
		d.Message = *m
	}
	if err == nil && d.behind != 0 {
		d.BehindID, err = nameOf(c, w.lives, d.behind)
	}
	return err
}

// deadWithID reads one message's dead letters in full. A person's edit is shown
// in place of the journal's body: it is what the queue would deliver.
func (r reader) deadWithID(c *conn, w scribe, queues []queueRow, id string) ([]store.DeadLetter, error) {
	pos, err := r.s.locate(c, id)
	if err != nil {
		return nil, err
	}
	var rows []deadRow
	for _, queue := range queues {
		if queue.topic != ownerOf(pos) {
			continue
		}
		from := len(rows)
		err := c.query(deadAt, []any{queue.id, pos}, func(s *sqlite.Stmt) error {
			rows = append(rows, deadLetter(s, w, queue.Name))
			return nil
		})
		if err != nil {
			return nil, err
		}
		for i := from; i < len(rows); i++ {
			d := &rows[i]
			if err := completeDead(c, w, d, true); err != nil {
				return nil, err
			}
			if d.History, err = attemptsOf(c, queue.id, pos); err != nil {
				return nil, err
			}
			err := c.query(selectEdit, []any{queue.id, pos}, func(s *sqlite.Stmt) error {
				if body := blob(s, 0); body != nil {
					d.Message.Body = body
				}
				if headers := blob(s, 1); headers != nil {
					d.Message.Headers = headers
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
	}
	var out []store.DeadLetter
	for i := range rows {
		out = append(out, rows[i].DeadLetter)
	}
	return out, nil
}
