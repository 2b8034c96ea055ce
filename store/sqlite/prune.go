package sqlite

import (
	"context"
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
)

// Retention works from the front. Everything it deletes lies in the order of
// age in some index, so a step looks at no more rows than it may delete, plus
// one a topic and queue: it costs the same in a file of any size. Nothing pins
// the log: what a range of messages is still needed for is copied to kept, and
// kept is swept in turns.

// pruner is one step.
type pruner struct {
	s      *Store
	c      *conn
	cutoff int64 // older is deleted
	now    int64
	left   int // rows that may still be deleted
	pruned store.Pruned

	known  map[int64][]subscriber // by topic
	leased []int64                // positions in open batches, ascending; nil: not read yet
}

// Prune deletes a step of what is older than the retention.
func (s *Store) Prune(ctx context.Context, r store.Retention) (store.Pruned, error) {
	if r.Keep < 0 || r.Max < 1 || r.Max > store.MaxPrune {
		return store.Pruned{}, fmt.Errorf("prune: Keep is %s and Max is %d, want at least 0s and 1 to %d", r.Keep, r.Max, store.MaxPrune)
	}
	var pruned store.Pruned
	err := s.write(ctx, func(c *conn) error {
		now := s.now()
		p := &pruner{s: s, c: c, now: us(now), cutoff: us(now.Add(-r.Keep)), left: r.Max,
			known: map[int64][]subscriber{}}
		// The small tables first: they cannot starve the messages, which are the many.
		for _, step := range []func() error{p.figures, p.dedup, p.audit, p.tombstones, p.lanes, p.processes, p.batches, p.runs, p.kept, p.messages} {
			if err := step(); err != nil {
				return err
			}
		}
		pruned = p.pruned
		return nil
	})
	if err != nil {
		return store.Pruned{}, fmt.Errorf("prune: %w", err)
	}
	return pruned, nil
}

// age tells what to do with a row found while walking from the oldest on.
type age int

const (
	old     age = iota // deleted
	unclear            // from the future: the clock was set back; its neighbours decide
	young              // ends the walk
)

func (p *pruner) age(us int64) age {
	switch {
	case us < p.cutoff:
		return old
	case us > p.now:
		return unclear
	}
	return young
}

// other counts rows of the small tables that were deleted.
func (p *pruner) other(n int64) {
	p.pruned.Other += n
	p.left -= int(n)
}

// share is how much of what is left one small table may use.
func (p *pruner) share() int { return max(p.left/4, 1) }

// delete runs a statement whose parameters are a bound and a limit.
func (p *pruner) delete(query string, bound int64) error {
	if p.left <= 0 {
		p.pruned.More = true
		return nil
	}
	limit := p.share()
	if err := p.c.exec(query, bound, limit); err != nil {
		return err
	}
	n := p.c.changes()
	p.other(n)
	p.pruned.More = p.pruned.More || n == int64(limit)
	return nil
}

const (
	deleteFigures = `delete from weir_figures where (queue, minute) in
		(select queue, minute from weir_figures indexed by weir_figures_minute where minute < ?1 limit ?2)`
	// Only of lanes whose senders have settled all that is here: of others more may come again.
	deleteLanes = `delete from weir_arrivals where lane in
		(select lane from weir_arrivals indexed by weir_arrivals_drained where drained_us < ?1 limit ?2)`
	deleteDedup = `delete from weir_dedup where (topic, key) in
		(select topic, key from weir_dedup indexed by weir_dedup_expires where expires_us < ?1 limit ?2)`
)

func (p *pruner) figures() error { return p.delete(deleteFigures, minuteOf(at(p.cutoff))) }

func (p *pruner) lanes() error { return p.delete(deleteLanes, p.cutoff) }

func (p *pruner) dedup() error { return p.delete(deleteDedup, p.now) }

const (
	auditFront     = `select id, at_us from weir_audit order by id limit ?1`
	deleteAudit    = `delete from weir_audit where id <= ?1`
	processesFront = `select id, coalesce(ended_us, beat_us) from weir_processes
		where id < (select max(id) from weir_processes) order by id limit ?1`
	ownsBatches   = `select 1 from weir_batches indexed by weir_batches_open where state < 2 and owner = ?1 limit 1`
	deleteProcess = `delete from weir_processes where id = ?1`
)

func (p *pruner) audit() error {
	if p.left <= 0 {
		p.pruned.More = true
		return nil
	}
	limit, rows, last := p.share(), 0, int64(0)
	err := p.walk(auditFront, []any{limit}, func(s *sqlite.Stmt) age {
		rows++
		a := p.age(s.ColumnInt64(1))
		if a == old {
			last = s.ColumnInt64(0)
		}
		return a
	})
	if err != nil || last == 0 {
		return err
	}
	p.pruned.More = p.pruned.More || rows == limit
	if err := p.c.exec(deleteAudit, last); err != nil {
		return err
	}
	p.other(p.c.changes())
	return nil
}

// An entity's newest version stays though it be a tombstone: how new a copy is, is told by it.
const (
	tombstonesFront = `select s.id, s.entity from weir_states s indexed by weir_states_deleted join weir_entities e on e.id = s.entity
		where s.body is null and s.as_of_us < ?1 and s.version < e.newest order by s.as_of_us limit ?2`
	deleteState  = `delete from weir_states where id = ?1`
	fewerDeleted = `update weir_entities set deleted = deleted - 1 where id = ?1`
)

func (p *pruner) tombstones() error {
	if p.left <= 0 {
		p.pruned.More = true
		return nil
	}
	limit := p.share()
	type tombstone struct{ id, entity int64 }
	var front []tombstone
	err := p.c.query(tombstonesFront, []any{p.cutoff, limit}, func(s *sqlite.Stmt) error {
		front = append(front, tombstone{s.ColumnInt64(0), s.ColumnInt64(1)})
		return nil
	})
	for _, t := range front {
		if err == nil {
			err = p.c.exec(deleteState, t.id)
		}
		if err == nil {
			err = p.c.exec(fewerDeleted, t.entity)
		}
	}
	p.other(int64(len(front)))
	p.pruned.More = p.pruned.More || len(front) == limit
	return err
}

// processes deletes those that the newest has taken over from, but for those
// whose batches are still open: what they left is found through them.
func (p *pruner) processes() error {
	if p.left <= 0 {
		p.pruned.More = true
		return nil
	}
	var ended []int64
	limit := p.share()
	err := p.walk(processesFront, []any{limit + openSkipped}, func(s *sqlite.Stmt) age {
		a := p.age(s.ColumnInt64(1))
		if a == old {
			ended = append(ended, s.ColumnInt64(0))
		}
		return a
	})
	for _, id := range ended {
		if err != nil {
			return err
		}
		if limit == 0 {
			p.pruned.More = true
			return nil
		}
		_, owns, ownErr := p.c.number(ownsBatches, id)
		if ownErr != nil || owns {
			err = ownErr
			continue
		}
		err = p.c.exec(deleteProcess, id)
		p.other(1)
		limit--
	}
	return err
}

// walk goes through rows, oldest first, until one is young.
func (p *pruner) walk(query string, args []any, row func(s *sqlite.Stmt) age) error {
	err := p.c.query(query, args, func(s *sqlite.Stmt) error {
		if row(s) == young {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

const (
	allQueues    = `select id, topic, parked_us is not null from weir_queues order by id`
	batchesFront = `select id, state, claimed_us, coalesce(done_us, claimed_us) from weir_batches
		where id >= ?1 and id < ?2 order by id limit ?3`
	deleteBatch = `delete from weir_batches where id = ?1`

	// openSkipped is how many open batches, or processes that left some, a step
	// looks past at the front; the next step begins there again, so more would stop it.
	openSkipped = 1_000
)

// batches deletes closed ones, but never the newest of a queue: it is the cursor.
func (p *pruner) batches() error {
	var queues []int64
	err := p.c.query(allQueues, nil, func(s *sqlite.Stmt) error {
		queues = append(queues, s.ColumnInt64(0))
		return nil
	})
	for _, queue := range queues {
		if err == nil {
			err = p.batchesOf(queue)
		}
	}
	return err
}

func (p *pruner) batchesOf(queue int64) error {
	after, below := idRange(queue)
	newest, found, err := p.c.number(newestBatch, after, below)
	if err != nil || !found {
		return err
	}
	var closed []int64
	limit := p.left
	err = p.walk(batchesFront, []any{after, newest, limit + openSkipped}, func(s *sqlite.Stmt) age {
		a := p.age(s.ColumnInt64(2))
		if a == old && s.ColumnInt64(1) == batchClosed && p.age(s.ColumnInt64(3)) == old {
			if len(closed) == limit {
				p.pruned.More = true
				return young
			}
			closed = append(closed, s.ColumnInt64(0))
		}
		return a
	})
	for _, id := range closed {
		if err != nil {
			return err
		}
		err = p.c.exec(deleteBatch, id)
		p.pruned.Batches++
		p.left--
	}
	return err
}

const newestBatch = `select id from weir_batches where id >= ?1 and id < ?2 order by id desc limit 1`
