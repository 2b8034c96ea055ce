package sqlite

import (
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
)

// subscriber is a queue as retention sees it.
type subscriber struct {
	id     int64
	cursor int64
	parked bool
}

const (
	subscribers = `select q.id, q.parked_us is not null,
			(select b.high from weir_batches b where b.id between (q.id << 40) and (q.id << 40 | 0xffffffffff)
				order by b.id desc limit 1)
		from weir_queues q where q.topic = ?1 order by q.id`
	messagesFront = `select pos, sent_us from weir_messages where pos > ?1 and pos <= ?2 order by pos limit ?3`
)

func (p *pruner) messages() error {
	topics, err := readTopics(p.c)
	if err != nil {
		return err
	}
	for _, id := range sortedIDs(topics) {
		if err := p.messagesOf(topics[id]); err != nil {
			return err
		}
	}
	return nil
}

func sortedIDs(topics map[int64]topicRow) []int64 {
	ids := make([]int64, 0, len(topics))
	for id := range topics {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (p *pruner) subscribers(topic int64) ([]subscriber, error) {
	if known, ok := p.known[topic]; ok {
		return known, nil
	}
	var out []subscriber
	err := p.c.query(subscribers, []any{topic}, func(s *sqlite.Stmt) error {
		out = append(out, subscriber{s.ColumnInt64(0), s.ColumnInt64(2), s.ColumnBool(1)})
		return nil
	})
	p.known[topic] = out
	return out, err
}

// messagesOf deletes the front of a topic: what is old and what every queue that
// is not parked has claimed. Without a queue an event's messages go by age; a
// command's wait for their owner however long that takes.
func (p *pruner) messagesOf(t topicRow) error {
	queues, err := p.subscribers(t.id)
	if err != nil {
		return err
	}
	if len(queues) == 0 && t.kind == store.KindCommand {
		return nil
	}
	after, upTo := idRange(t.id)
	for _, q := range queues {
		if !q.parked {
			upTo = min(upTo, q.cursor)
		}
	}
	var front []int64
	olds := 0 // of front, the first ones that are to go
	err = p.walk(messagesFront, []any{after, upTo, p.left + 1}, func(s *sqlite.Stmt) age {
		front = append(front, s.ColumnInt64(0))
		a := p.age(s.ColumnInt64(1))
		if a == old {
			olds = len(front)
		}
		return a
	})
	if err != nil || olds == 0 {
		return err
	}
	if olds > p.left {
		olds, p.pruned.More = p.left, true
	}
	if olds == 0 {
		return nil
	}
	return p.drop(queues, front[:olds])
}

const (
	copyKept       = `insert or ignore into weir_kept select * from weir_messages where pos = ?1`
	deleteMessages = `delete from weir_messages where pos >= ?1 and pos <= ?2`
	recordGap      = `update weir_queues set base = base + ?2, gaps = gaps + ?2 where id = ?1`
)

// drop deletes the messages at the positions, the first that their topic has.
func (p *pruner) drop(queues []subscriber, front []int64) error {
	needed, err := p.needed(queues, front[0], front[len(front)-1])
	if err != nil {
		return err
	}
	done, err := p.history(queues, front[0], front[len(front)-1], needed)
	if err != nil {
		return err
	}
	if !done { // many attempts: the next step comes back for the messages
		p.pruned.More = true
		return nil
	}
	if len(front) > p.left {
		front, p.pruned.More = front[:p.left], true
	}
	if len(front) == 0 {
		return nil
	}
	first, last := front[0], front[len(front)-1]
	for pos := range needed {
		if pos <= last {
			if err := p.c.exec(copyKept, pos); err != nil {
				return err
			}
		}
	}
	for _, q := range queues {
		// What a parked subscriber has not claimed by now it never will.
		claimed, _ := slices.BinarySearch(front, q.cursor+1)
		if q.parked && claimed < len(front) {
			if err := p.c.exec(recordGap, q.id, len(front)-claimed); err != nil {
				return err
			}
		}
	}
	if err := p.c.exec(deleteMessages, first, last); err != nil {
		return err
	}
	n := p.c.changes()
	p.pruned.Messages += n
	p.left -= int(n)
	return nil
}

const (
	deferredRange = `select pos from weir_deferred where queue = ?1 and pos >= ?2 and pos <= ?3`
	deadRange     = `select pos from weir_dead where queue = ?1 and pos >= ?2 and pos <= ?3`
	mailRange     = `select pos from weir_mail where pos >= ?1 and pos <= ?2`

	// Signals to runs that have not ended, which may wait for them yet: to whatever workflow's run, the key is its ID. Of
	// topics that are none, one row is read. The order of the joins is the cheap one.
	toldRange = `select m.pos from weir_topics t cross join weir_messages m cross join weir_workflows w cross join weir_runs r indexed by weir_runs_id
			on r.workflow = w.id and r.id = m.key
		where t.id = ?1 >> 40 and t.kind = 4 and m.pos >= ?1 and m.pos <= ?2 and r.wake is not null and r.started_us <= m.sent_us`
	toldKept = `select m.pos from weir_topics t cross join weir_kept m cross join weir_workflows w cross join weir_runs r indexed by weir_runs_id
			on r.workflow = w.id and r.id = m.key
		where t.id = ?1 >> 40 and t.kind = 4 and m.pos >= ?1 and m.pos <= ?2 and r.wake is not null and r.started_us <= m.sent_us`
)

// needed gives the positions in a range that a queue, a run's unread mail, or a run that has not ended still refers to.
func (p *pruner) needed(queues []subscriber, first, last int64) (map[int64]bool, error) {
	needed := map[int64]bool{}
	for _, q := range queues {
		for _, query := range [...]string{deferredRange, deadRange} {
			err := p.c.query(query, []any{q.id, first, last}, func(s *sqlite.Stmt) error {
				needed[s.ColumnInt64(0)] = true
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
	}
	for _, query := range [...]string{mailRange, toldRange, toldKept} {
		err := p.c.query(query, []any{first, last}, func(s *sqlite.Stmt) error {
			needed[s.ColumnInt64(0)] = true
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if p.leased == nil {
		if err := p.readLeased(); err != nil {
			return nil, err
		}
	}
	from, _ := slices.BinarySearch(p.leased, first)
	for _, pos := range p.leased[from:] {
		if pos > last {
			break
		}
		needed[pos] = true
	}
	return needed, nil
}

const allOpenBatches = `select` + batchFields + `from weir_batches indexed by weir_batches_open where state < 2`

// readLeased reads, once a step, what all open batches hold.
func (p *pruner) readLeased() error {
	p.leased = []int64{}
	err := p.c.query(allOpenBatches, nil, func(s *sqlite.Stmt) error {
		b, err := viewBatch(s)
		p.leased = append(p.leased, b.unsettled()...)
		return err
	})
	slices.Sort(p.leased)
	return err
}

const (
	attemptsRange = `select pos, n from weir_attempts where queue = ?1 and pos >= ?2 and pos <= ?3 order by pos, n`
	deleteAttempt = `delete from weir_attempts where queue = ?1 and pos = ?2 and n = ?3`
	editsRange    = `select pos, 0 from weir_edits where queue = ?1 and pos >= ?2 and pos <= ?3 order by pos`
	deleteEdit    = `delete from weir_edits where queue = ?1 and pos = ?2`
	startsRange   = `select pos, 0 from weir_starts where queue = ?1 and pos >= ?2 and pos <= ?3 order by pos`
)

// history deletes attempts, edits and starts of a range of messages, but for
// those needed. It reports whether it got through.
func (p *pruner) history(queues []subscriber, first, last int64, needed map[int64]bool) (bool, error) {
	type row struct{ queue, pos, n int64 }
	for _, table := range [...]struct{ find, delete string }{
		{attemptsRange, deleteAttempt}, {editsRange, deleteEdit}, {startsRange, deleteStart},
	} {
		var rows []row
		for _, q := range queues {
			err := p.walk(table.find, []any{q.id, first, last}, func(s *sqlite.Stmt) age {
				if pos := s.ColumnInt64(0); !needed[pos] {
					rows = append(rows, row{q.id, pos, s.ColumnInt64(1)})
				}
				if len(rows) > p.left {
					return young
				}
				return old
			})
			if err != nil {
				return false, err
			}
		}
		done := len(rows) <= p.left
		for _, r := range rows[:min(len(rows), p.left)] {
			args := []any{r.queue, r.pos}
			if table.delete == deleteAttempt {
				args = append(args, r.n)
			}
			if err := p.c.exec(table.delete, args...); err != nil {
				return false, err
			}
			p.other(1)
		}
		if !done {
			return false, nil
		}
	}
	return true, nil
}

const (
	keptTurn   = `select v from weir_meta where k = 'kept_turn'`
	putTurn    = `insert into weir_meta (k, v) values ('kept_turn', ?1) on conflict (k) do update set v = excluded.v`
	keptFrom   = `select pos, sent_us from weir_kept where pos > ?1 order by pos limit ?2`
	deleteKept = `delete from weir_kept where pos = ?1`

	// keptLooked is how many rows of kept a step looks at. They stay for as long as
	// somebody's dead letter does, so steps take turns through them.
	keptLooked = 500
)

// kept deletes what was copied aside and is no longer needed.
func (p *pruner) kept() error {
	if p.left <= 0 {
		p.pruned.More = true
		return nil
	}
	turn, _, err := p.c.number(keptTurn)
	if err != nil {
		return err
	}
	limit := min(keptLooked, p.left)
	var looked, oldOnes []int64
	err = p.c.query(keptFrom, []any{turn, limit}, func(s *sqlite.Stmt) error {
		looked = append(looked, s.ColumnInt64(0))
		if p.age(s.ColumnInt64(1)) != young {
			oldOnes = append(oldOnes, s.ColumnInt64(0))
		}
		return nil
	})
	if err != nil {
		return err
	}
	before := p.left
	for _, pos := range oldOnes {
		done, err := p.dropKept(pos)
		if err != nil {
			return err
		}
		if !done { // its history is gone, or some of it: the next step goes on here
			p.pruned.More = true
			return p.c.exec(putTurn, pos-1)
		}
	}
	next := int64(0) // the turn is over
	if len(looked) == limit {
		next = looked[len(looked)-1]
		p.pruned.More = p.pruned.More || p.left < before
	}
	if next == turn {
		return nil
	}
	return p.c.exec(putTurn, next)
}

// dropKept deletes a message copied aside, with its history, unless it is needed.
// It reports whether it got through.
func (p *pruner) dropKept(pos int64) (bool, error) {
	queues, err := p.subscribers(ownerOf(pos))
	if err != nil {
		return false, err
	}
	needed, err := p.needed(queues, pos, pos)
	if err != nil || needed[pos] {
		return err == nil, err
	}
	done, err := p.history(queues, pos, pos, needed)
	if err != nil || !done || p.left == 0 {
		return false, err
	}
	p.other(1)
	return true, p.c.exec(deleteKept, pos)
}
