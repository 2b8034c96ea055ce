package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/runwake"
)

// Retention works from the front, where the oldest is, so a step looks at little more than
// it may delete. Nothing pins the log: what a range of messages is still needed for is
// copied to kept, and kept is swept in turns.
//
// Where messages are many, a whole partition is dropped at once, which costs next to
// nothing (prune_partitions.go); rows are deleted one by one only where that would keep
// them much too long.

// pruner is one step.
type pruner struct {
	s      *Store
	t      *tx
	cutoff int64 // older is deleted
	keep   time.Duration
	left   int // rows that may still be deleted
	pruned store.Pruned
	queues []subscriber
	part   *part // to be dropped after the step
}

const (
	// One process prunes at a time; and nobody declares a queue meanwhile, which counts
	// the messages that there are.
	pruneTurn    = `select pg_try_advisory_xact_lock($1) and pg_try_advisory_xact_lock($2)`
	prunePatient = `select set_config('lock_timeout', $1, true)`

	// pruneLock is how long a step waits for a row that somebody else holds: it can as well be taken later.
	pruneLock = 2 * time.Second
)

// Prune deletes a step of what is older than the retention. While another process prunes,
// or what is to be deleted is held by others, nothing.
func (s *Store) Prune(ctx context.Context, r store.Retention) (store.Pruned, error) {
	if r.Keep < 0 || r.Max < 1 || r.Max > store.MaxPrune {
		return store.Pruned{}, fmt.Errorf("prune: Keep is %s and Max is %d, want at least 0s and 1 to %d", r.Keep, r.Max, store.MaxPrune)
	}
	var p *pruner
	err := s.write(ctx, func(t *tx) error {
		t.again = true
		var err error
		if p, err = s.newPruner(t, r.Keep, r.Max); err != nil || p == nil {
			return err
		}
		return p.all()
	})
	if err == nil && p != nil && p.part != nil {
		var n int64
		n, err = s.dropPart(ctx, *p.part, r.Keep)
		p.pruned.Messages += n
		p.pruned.More = p.pruned.More || n > 0
	}
	if fault, ok := errors.AsType[*pgconn.PgError](err); ok && fault.Code == lockNotAvailable {
		return store.Pruned{}, nil
	}
	if err != nil {
		return store.Pruned{}, fmt.Errorf("prune: %w", err)
	}
	if p == nil {
		return store.Pruned{}, nil
	}
	return p.pruned, nil
}

// newPruner begins a step in a transaction; nil if it is not our turn.
func (s *Store) newPruner(t *tx, keep time.Duration, most int) (*pruner, error) {
	t.do(prunePatient, fmt.Sprintf("%dms", pruneLock.Milliseconds()))
	ours := false
	err := t.get(pruneTurn, func(read scan) error { return read(&ours) }, s.lockNumber("prune"), s.lockNumber("declare"))
	if t.quit = !ours; err != nil || !ours {
		return nil, err
	}
	p := &pruner{s: s, t: t, keep: keep, cutoff: t.now - keep.Microseconds(), left: most}
	return p, p.subscribers()
}

func (p *pruner) all() error {
	// The small tables first: they cannot starve the messages, which are the many.
	for _, step := range []func() error{p.small, p.batches, p.runs, p.kept, p.messages} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
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
	case us > p.t.now:
		return unclear
	}
	return young
}

// other counts rows of the small tables that were deleted.
func (p *pruner) other(n int64) {
	p.pruned.Other += n
	p.left -= int(n)
}

// full reports whether nothing more may be deleted by this step.
func (p *pruner) full() bool {
	if p.left <= 0 {
		p.pruned.More = true
	}
	return p.left <= 0
}

const (
	pruneFigures = `delete from weir.figures f using (select queue, minute from weir.figures where minute < $1 order by minute limit $2) o
		where f.queue = o.queue and f.minute = o.minute`
	pruneDedup = `delete from weir.dedup d using (select topic, key from weir.dedup where expires_us < $1 order by expires_us limit $2) o
		where d.topic = o.topic and d.key = o.key and d.expires_us < $1`
	// Of each entity the newest stays, for followers to see how far its owner is.
	pruneStates = `with gone as (delete from weir.states d using (select s.entity, s.key from weir.states s where s.deleted and s.as_of_us < $1
			and exists (select 1 from weir.states n where n.entity = s.entity and n.version > s.version) order by s.as_of_us limit $2) o
			where d.entity = o.entity and d.key = o.key and d.deleted and d.as_of_us < $1 returning d.entity),
		n as (insert into weir.entity_tally (entity, live, deleted) select entity, 0, -count(*) from gone group by entity)
		select count(*) from gone`
	// Only of lanes whose senders have settled all that is here: of others more may come again.
	pruneLanes = `delete from weir.arrivals a using (select lane from weir.arrivals where drained_us < $1 order by drained_us limit $2) o
		where a.lane = o.lane and a.drained_us < $1`
	pruneAudit = `delete from weir.audit where at_us < $1 and id in (select id from weir.audit order by id limit $2)`
	// Processes that are gone, but for those that have left something: it is found through them.
	pruneProcesses = `delete from weir.processes where id in (
		select p.id from weir.processes p
		where (p.ended_us is not null or p.lost_us is not null) and greatest(p.beat_us, p.ended_us, p.lost_us) < $1
		and p.id < (select max(id) from weir.processes)
		and not exists (select 1 from weir.batches b where b.owner = p.id and b.state = 0)
		and not exists (select 1 from weir.lanes l where l.owner = p.id)
		and not exists (select 1 from weir.workers w where w.process = p.id)
		and not exists (select 1 from weir.starts s where s.process = p.id)
		and not exists (select 1 from weir.workflows f join weir.runs r on r.workflow = f.id and r.wake = ($3 | p.id))
		order by p.id limit $2)`
)

// small deletes from the small tables, of each no more than a quarter of what is left.
func (p *pruner) small() error {
	for _, table := range []struct {
		query string
		bound int64
		more  []any
	}{
		{pruneFigures, p.cutoff / minuteUs, nil}, {pruneDedup, p.t.now, nil}, {pruneAudit, p.cutoff, nil}, {pruneLanes, p.cutoff, nil},
		{pruneProcesses, p.cutoff, []any{runwake.Leased}},
	} {
		if p.full() {
			return nil
		}
		limit := max(p.left/4, 1)
		var n int64
		p.t.tell(table.query, &n, append([]any{table.bound, limit}, table.more...)...)
		if err := p.t.flush(); err != nil {
			return err
		}
		p.other(n)
		p.pruned.More = p.pruned.More || n == int64(limit)
	}
	if p.full() {
		return nil
	}
	limit := max(p.left/4, 1)
	n, _, err := p.t.number(pruneStates, p.cutoff, limit)
	if err != nil {
		return err
	}
	p.other(n)
	p.pruned.More = p.pruned.More || n == int64(limit)
	p.t.do(sqlQueueLock, p.s.lockNumber("duties"))
	p.t.do(pruneDuties) // of processes that are forgotten: a few names
	return p.t.flush()
}

const (
	pruneBatchesFront = `select no, state, claimed_us, coalesce(done_us, claimed_us) from weir.batches
		where queue = $1 and no > $2 and no < (select max(no) from weir.batches where queue = $1) order by no limit $3`
	pruneBatches = `delete from weir.batches where queue = $1 and no = any($2) and state = 2`

	// chunkFirst and chunkMost are how many rows a walk reads at a time, at first and then.
	chunkFirst = 100
	chunkMost  = 2_000
	// openSkipped is how many open batches of a queue a step looks past at the front; the
	// next step begins there again, so more would stop it.
	openSkipped = 1_000
)

// batches deletes closed ones, but never the newest of a queue: it is the cursor.
func (p *pruner) batches() error {
	for _, q := range p.queues {
		closed, err := p.oldBatches(q.id)
		if err != nil {
			return err
		}
		if len(closed) == 0 {
			continue
		}
		p.t.do(pruneBatches, q.id, closed)
		p.pruned.Batches += int64(len(closed))
		p.left -= len(closed)
	}
	return p.t.flush()
}

// oldBatches finds the front of a queue's batches that are closed and old.
func (p *pruner) oldBatches(queue int64) (closed []int64, err error) {
	after, skipped, over := int64(-1), 0, false
	for size := chunkFirst; !over && skipped < openSkipped; size = chunkMost {
		rows := 0
		err := p.t.get(pruneBatchesFront, func(read scan) error {
			var no, state, claimed, done int64
			if err := read(&no, &state, &claimed, &done); err != nil {
				return err
			}
			rows++
			after = no
			a := p.age(claimed)
			switch {
			case over:
			case a == young:
				over = true
			case a == old && state == batchClosed && p.age(done) == old:
				if len(closed) == p.left {
					p.pruned.More, over = true, true
				} else {
					closed = append(closed, no)
				}
			default:
				skipped++
			}
			return nil
		}, queue, after, size)
		if err != nil {
			return nil, err
		}
		over = over || rows < size
	}
	return closed, nil
}
