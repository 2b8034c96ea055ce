package postgres

import (
	"cmp"
	"context"
	"slices"

	"github.com/weir-go/weir/store"
)

// A parked letter's head is asked for, not read from behind: when the head is
// discarded, the letter that follows takes its place without an update of all others.
const (
	deadColumns = ` q.name, d.queue, d.pos, d.died_us, d.attempts, d.reason, d.quarantined, coalesce(case when d.behind is not null then
			(select min(h.pos) from weir.dead h where h.queue = d.queue and h.key = d.key and h.pos < d.pos) end, 0),
		exists (select 1 from weir.edits e where e.queue = d.queue and e.pos = d.pos) `
	askDead = `select` + deadColumns + `from weir.queues q cross join lateral (
			select * from weir.dead where queue = q.id and pos > (q.topic::bigint << 40 | $2)
				and ($3 = '' or strpos(reason, $3) > 0) order by pos limit $4) d
		where $1 = '' or q.name = $1 order by d.pos & 1099511627775, q.name collate "C"`
	askDeadAt = `select` + deadColumns + `from weir.queues q join weir.dead d on d.queue = q.id and d.pos = $2
		where ($1 = '' or q.name = $1) and q.topic = ($2 >> 40)::int order by q.name collate "C"`
	askEditsOf = `select queue, body, headers from weir.edits where queue = any($1) and pos = $2`
)

// seeDead reads a row of deadColumns.
func (r reader) seeDead(read scan) (d store.DeadLetter, queue int64, err error) {
	var pos, died, behind int64
	err = read(&d.Queue, &queue, &pos, &died, &d.Attempts, &d.Reason, &d.Quarantined, &behind, &d.Edited)
	d.Message = store.Message{Pos: store.Pos(pos)}
	r.s.christen(&d.Message)
	if d.DiedAt = at(died); behind != 0 {
		d.BehindID = r.s.lives().ID(store.Pos(behind))
	}
	return d, queue, err
}

// Dead lists dead letters, oldest first: by when they were sent. A message that
// is dead in several queues is never divided between two pages, so that After
// loses none; for that a page may be shorter than Max, and exceed it when Max is
// below the number of queues.
func (r reader) Dead(ctx context.Context, q store.DeadQuery) ([]store.DeadLetter, error) {
	if !storable(q.Queue) || !storable(q.Matching) {
		return nil, nil
	}
	var out []store.DeadLetter
	err := r.s.read(ctx, func(t *tx) error {
		w, err := newScribe(t)
		if err != nil {
			return err
		}
		if q.ID != "" {
			out, err = r.deadWithID(w, q)
		} else {
			out, err = r.listDead(w, q)
		}
		return err
	})
	return out, err
}

func (r reader) listDead(w *scribe, q store.DeadQuery) ([]store.DeadLetter, error) {
	var out []store.DeadLetter
	page := listMax(q.Max)
	err := w.t.get(askDead, func(read scan) error {
		d, _, err := r.seeDead(read)
		out = append(out, d)
		return err
	}, q.Queue, seqOf(int64(q.After)), q.Matching, page+1)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(out, func(a, b store.DeadLetter) int {
		return cmp.Compare(seqOf(int64(a.Message.Pos)), seqOf(int64(b.Message.Pos)))
	})
	out = out[:pageEnd(out, page)]
	return out, completeDead(w, out, false)
}

// pageEnd is where a page of at most max ends such that no message is divided.
func pageEnd(rows []store.DeadLetter, max int) int {
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

// completeDead reads the letters' messages.
func completeDead(w *scribe, letters []store.DeadLetter, withBody bool) error {
	var positions, heads []int64
	for i := range letters {
		positions = append(positions, int64(letters[i].Message.Pos))
		if pos, ok := w.t.s.lives().Local(letters[i].BehindID); ok {
			heads = append(heads, int64(pos))
		}
	}
	found, err := w.read(positions, withBody)
	if err != nil {
		return err
	}
	names, err := w.t.namesAt(heads)
	for i := range letters {
		if m := found[int64(letters[i].Message.Pos)]; m != nil {
			letters[i].Message = *m
		}
		if name := names[letters[i].BehindID]; name != "" {
			letters[i].BehindID = name
		}
	}
	return err
}

// deadWithID reads one message's dead letters in full. A person's edit is shown
// in place of the journal's body: it is what the queue would deliver.
func (r reader) deadWithID(w *scribe, q store.DeadQuery) ([]store.DeadLetter, error) {
	pos, err := w.t.locate(q.ID)
	if err != nil {
		return nil, err
	}
	var out []store.DeadLetter
	var queues []int64
	err = w.t.get(askDeadAt, func(read scan) error {
		d, queue, err := r.seeDead(read)
		out, queues = append(out, d), append(queues, queue)
		return err
	}, q.Queue, pos)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	w.t.ask(askAttemptsOf, func(read scan) error {
		var queue, pos int64
		a, err := seeAttempt(read, &queue, &pos)
		if d := slices.Index(queues, queue); d >= 0 {
			out[d].History = append(out[d].History, a)
		}
		return err
	}, queues, []int64{pos}, store.MaxList)
	if err := completeDead(w, out, true); err != nil {
		return nil, err
	}
	return out, w.t.get(askEditsOf, func(read scan) error {
		var queue int64
		var body, headers []byte
		err := read(&queue, &body, &headers)
		d := &out[slices.Index(queues, queue)].Message
		if body != nil {
			d.Body = body
		}
		if headers != nil {
			d.Headers = headers
		}
		return err
	}, queues, pos)
}
