package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir/store/internal/batchrow"
)

// A partition that is full, and wholly old and claimed, is dropped: all its messages for
// the price of one. What they are needed for is copied to kept before. It is detached
// CONCURRENTLY, outside of a transaction, so that no sender waits, whoever keeps a
// transaction open. From then on claims do not see it, and what commits later would be passed
// over by them: so it is left alone while anybody is at work who may have drawn one of its positions,
// whether he has inserted it or not (quiet). What was not known before then is made up for as it is
// dropped; should a message be in it that somebody has yet to claim, it is attached again.
//
// A partition that was filled in less than a quarter of the time that messages are kept
// is not worth deleting from row by row: it waits until it can be dropped.

// part is a partition, or what was one.
type part struct {
	n        int64
	attached bool
	pending  bool // its detaching was begun
}

func (p part) from() int64 { return p.n << partitionBits }
func (p part) to() int64   { return (p.n + 1) << partitionBits } // the first beyond it

// query is a statement on the partition, written with PART for its name and NUMBER for n.
func (p part) query(text string) string {
	return strings.NewReplacer("PART", fmt.Sprintf("weir.messages_%d", p.n), "NUMBER", fmt.Sprint(p.n)).Replace(text)
}

const (
	pruneParts = `select substr(c.relname, 10)::bigint, i.inhrelid is not null, coalesce(i.inhdetachpending, false)
		from pg_class c left join pg_inherits i on i.inhrelid = c.oid and i.inhparent = 'weir.messages'::regclass
		where c.relnamespace = (select relnamespace from pg_class where oid = 'weir.messages'::regclass)
		and c.relkind = 'r' and c.relname ~ '^messages_[0-9]+$' order by 1`
	pruneEdges = `select coalesce(min(f.sent_us), 0), coalesce(max(l.sent_us), 0) from weir.topics t
		cross join lateral (select sent_us from PART where topic = t.id order by seq limit 1) f
		cross join lateral (select sent_us from PART where topic = t.id order by seq desc limit 1) l`

	// Candidates for what a queue has yet to claim: what is beyond its place, or not surely in its snapshot.
	pruneWaits = ` weir.queues q` + newestBatchOf + `cross join lateral unnest(b.highs, b.seens) as g(high, seen) cross join lateral (
			select seq, xid, lane from PART where topic = q.topic and seq > (g.high & 1099511627775)
			union all select seq, xid, lane from PART where topic + 0 = q.topic and xid >= pg_snapshot_xmin(g.seen)) m
		where` + unclaimed
	// A command that nobody owns waits for its owner.
	pruneUnclaimed = `select exists (select 1 from` + pruneWaits + `and q.parked_us is null)
		or exists (select 1 from weir.topics t where t.kind = 1 and not exists (select 1 from weir.queues q where q.topic = t.id)
			and exists (select 1 from PART where topic = t.id))`
	prunePartGaps = `update weir.queues u set base = u.base + n.n, gaps = u.gaps + n.n
		from (select q.id, count(distinct m.seq) as n from` + pruneWaits + `and q.parked_us is not null group by q.id) n where u.id = n.id`

	// See pruneNeeded: one statement.
	prunePartNeeded = `select d.pos, null::bytea, null::bytea from weir.queues q join weir.deferred d on d.queue = q.id
			and d.pos >= (q.topic::bigint << 40 | $1) and d.pos < (q.topic::bigint << 40 | $2)
		union all select d.pos, null, null from weir.queues q join weir.dead d on d.queue = q.id
			and d.pos >= (q.topic::bigint << 40 | $1) and d.pos < (q.topic::bigint << 40 | $2)
		union all select l.pos, null, null from weir.mail l where l.pos is not null and (l.pos & 1099511627775) >= $1 and (l.pos & 1099511627775) < $2
		union all select a.topic::bigint << 40 | a.seq, null, null from weir.arrived a where a.seq >= $1 and a.seq < $2
		union all select 0, manifest, bits from weir.batches where state < 2`
	prunePartCopy = `insert into weir.kept (` + keptColumns + `) select` + keptColumns + `from unnest($1::bigint[]) as p(pos)
		join PART m on m.topic = (p.pos >> 40)::int and m.seq = p.pos & 1099511627775 on conflict (topic, seq) do nothing`
	// Signals to runs that have not ended: see pruneTellsRun.
	prunePartTold = `insert into weir.kept (` + keptColumns + `) select` + keptColumns + `from PART m
		where m.topic in (select id from weir.topics where kind = 4)
		and (select 1 from weir.kept k where k.topic = m.topic and k.seq = m.seq limit 1) is null
		and` + pruneTellsRun + ` limit $1 on conflict (topic, seq) do nothing`

	// Of attempts, edits and starts in turn.
	prunePartHistory = `delete from weir.%[1]s h using (
			select x.ctid as place from weir.queues q join weir.%[1]s x on x.queue = q.id
				and x.pos >= (q.topic::bigint << 40 | $1) and x.pos < (q.topic::bigint << 40 | $2)
			where x.pos <> all($3::bigint[]) limit $4) o
		where h.ctid = o.place`

	// Whoever has drawn positions and has not ended: PostgreSQL has them hold the lock of the sequence until then, taken
	// before the first is drawn, whatever savepoints they roll back. A prepared transaction has no process, and another name than before it was prepared.
	pruneDrawers = ` from pg_locks where relation = 'weir.seq'::regclass and mode = 'RowExclusiveLock' and granted
		and database = (select oid from pg_database where datname = current_database()) and pid is distinct from pg_backend_pid()`
	pruneDrawing  = `select virtualtransaction` + pruneDrawers
	pruneStill    = `select count(*)` + pruneDrawers + ` and (virtualtransaction = any($1::text[]) or pid is null)`
	pruneDetach   = `alter table weir.messages detach partition PART concurrently`
	pruneFinalize = `alter table weir.messages detach partition PART finalize`
	// For roles that do not own the schema.
	pruneDetachFor = `select weir.detach_partition(NUMBER)`
	pruneOwner     = `select pg_has_role(relowner, 'usage') from pg_class where oid = 'weir.messages'::regclass`
	pruneDropPart  = `select weir.drop_partition($1)`
	prunePartSize  = `select count(*) from PART`

	// detachTime is how long a detaching waits for transactions that use the messages. It
	// is gone on with by a later step.
	detachTime = 5 * time.Second
	// drawnTime is how long those who have drawn positions are waited for before a detaching. They are short,
	// as a rule; while one stays open it could not get through either.
	drawnTime = time.Second
	drawnWait = 10 * time.Millisecond
)

// partitions looks at the partitions, oldest first. It prepares one that may be dropped,
// which it leaves in p.part, and gives the seq from which rows are to be deleted one by one.
func (p *pruner) partitions() (from int64, err error) {
	var parts []part
	err = p.t.get(pruneParts, func(read scan) error {
		var x part
		err := read(&x.n, &x.attached, &x.pending)
		parts = append(parts, x)
		return err
	})
	if err != nil {
		return 0, err
	}
	last, _, err := p.t.number(sqlLastSeq)
	if err != nil {
		return 0, err
	}
	for _, x := range parts {
		if x.pending || !x.attached {
			p.part = &x
			return max(from, x.to()), nil
		}
		if x.to() > last {
			return from, nil
		}
		waits, err := p.look(x)
		if err != nil || !waits {
			return from, err
		}
		from = x.to()
		if p.part != nil {
			return from, nil
		}
	}
	return from, nil
}

// look looks at a full partition. waits: nothing is to be deleted from it row by row.
func (p *pruner) look(x part) (waits bool, err error) {
	var oldest, newest int64
	if err := p.t.get(x.query(pruneEdges), func(read scan) error { return read(&oldest, &newest) }); err != nil {
		return false, err
	}
	quarter := p.keep.Microseconds() / 4
	// Messages may stand a little out of the order in which they were sent.
	if newest < p.cutoff-sinceSlack.Microseconds() || newest == 0 {
		ready, err := p.prepare(x)
		if err != nil {
			return false, err
		}
		if ready {
			p.part = &x
			return true, nil
		}
	}
	return newest-oldest <= quarter && newest > p.cutoff-quarter, nil
}

// prepare makes a partition ready to be dropped, and reports whether it is.
func (p *pruner) prepare(x part) (bool, error) {
	claimed, err := p.claimed(x)
	if err != nil || !claimed || p.full() {
		return false, err
	}
	needed, err := p.keepOf(x)
	if err != nil {
		return false, err
	}
	if all, err := p.keepTold(x, p.left); err != nil || !all {
		p.pruned.More = p.pruned.More || !all
		return false, err
	}
	for _, table := range []string{"attempts", "edits", "starts"} {
		limit := max(p.left, 0)
		var n int64
		p.t.tell(fmt.Sprintf(prunePartHistory, table), &n, x.from(), x.to(), needed, limit)
		if err := p.t.flush(); err != nil {
			return false, err
		}
		p.other(n)
		if n == int64(limit) {
			p.pruned.More = true
			return false, nil
		}
	}
	return true, nil
}

// claimed reports whether all queues that are not parked have claimed all of it.
func (p *pruner) claimed(x part) (bool, error) {
	waits := false
	err := p.t.get(x.query(pruneUnclaimed), func(read scan) error { return read(&waits) })
	return !waits, err
}

// keepOf copies aside what is needed of a partition, and gives the positions.
func (p *pruner) keepOf(x part) ([]int64, error) {
	needed := []int64{}
	err := p.t.get(prunePartNeeded, func(read scan) error {
		var pos int64
		var manifest, settled []byte
		if err := read(&pos, &manifest, &settled); err != nil {
			return err
		}
		if pos != 0 {
			needed = append(needed, pos)
			return nil
		}
		b := seenBatch{settled: settled}
		var err error
		b.positions, err = batchrow.DecodeManifest(nil, manifest)
		for _, pos := range b.unsettled() {
			if seq := seqOf(pos); seq >= x.from() && seq < x.to() {
				needed = append(needed, pos)
			}
		}
		return err
	}, x.from(), x.to())
	if err == nil && len(needed) > 0 {
		p.t.do(x.query(prunePartCopy), needed)
		err = p.t.flush()
	}
	return needed, err
}

// keepTold copies aside signals of a partition to runs that have not ended. all: there are no more of them. It looks at
// each signal of the partition, which may be millions, so it may take longer than other statements.
func (p *pruner) keepTold(x part, most int) (all bool, err error) {
	var n int64
	p.t.do(actNoLimit)
	p.t.tell(x.query(prunePartTold), &n, most)
	err = p.t.flush()
	return n < int64(most), err
}

// dropPart drops a partition that is prepared, or goes on where an earlier step did not
// get through. It gives up when others stand in the way.
func (s *Store) dropPart(ctx context.Context, x part, keep time.Duration) (messages int64, err error) {
	if x.attached && !x.pending {
		if quiet, err := s.quiet(ctx, x); err != nil || !quiet {
			return 0, err
		}
	}
	if x.attached {
		if done, err := s.detach(ctx, x); err != nil || !done {
			return 0, err
		}
	}
	err = s.write(ctx, func(t *tx) error {
		t.again = true
		p, err := s.newPruner(t, keep, 1)
		if err != nil || p == nil {
			return err
		}
		messages, err = p.dropDetached(x)
		return err
	})
	return messages, err
}

// quiet reports whether nobody can insert into a partition any more, and all that is in it is claimed: then it stays
// so, whatever claims see. The partition is full, so who begins to draw from now on is given positions beyond it;
// so those are waited for who have drawn any, and once they have ended it is looked at anew. Senders wait for nothing.
func (s *Store) quiet(ctx context.Context, x part) (quiet bool, err error) {
	var drawing []string
	err = s.read(ctx, func(t *tx) error {
		return t.get(pruneDrawing, func(read scan) error {
			var who string
			err := read(&who)
			drawing = append(drawing, who)
			return err
		})
	})
	if err != nil {
		return false, err
	}
	if gone, err := s.gone(ctx, drawing); err != nil || !gone {
		return false, err
	}
	err = s.write(ctx, func(t *tx) (err error) {
		t.again = true
		quiet, err = (&pruner{t: t}).claimed(x)
		return err
	})
	return quiet, err
}

// gone waits until transactions have ended, for a while.
func (s *Store) gone(ctx context.Context, transactions []string) (gone bool, err error) {
	for deadline := time.Now().Add(drawnTime); len(transactions) > 0; {
		var still int64
		err := s.read(ctx, func(t *tx) (err error) {
			still, _, err = t.number(pruneStill, transactions)
			return err
		})
		if err != nil || still == 0 || time.Now().After(deadline) {
			return still == 0, err
		}
		if err := pause(ctx, drawnWait); err != nil {
			return false, err
		}
	}
	return true, nil
}

// detach detaches a partition, outside of a transaction; done is false if it could not get
// through in time.
func (s *Store) detach(ctx context.Context, x part) (done bool, err error) {
	c, err := s.acquire(ctx, s.aside)
	if err != nil {
		return false, err
	}
	defer c.Release()
	short, cancel := context.WithTimeout(ctx, detachTime)
	defer cancel()
	var owner bool
	if err = c.QueryRow(short, s.text(pruneOwner)).Scan(&owner); err == nil {
		query := pruneDetachFor
		switch {
		case owner && x.pending:
			query = pruneFinalize
		case owner:
			query = pruneDetach
		}
		err = s.unlimited(short, c, s.text(x.query(query))) // it bounds itself
	}
	if short.Err() != nil && ctx.Err() == nil {
		return false, nil
	}
	if fault, ok := errors.AsType[*pgconn.PgError](err); ok && (fault.Code == objectNotReady || fault.Code == lockNotAvailable) {
		return false, nil // another process is at it
	}
	return err == nil, outage(ctx, err)
}

const objectNotReady = "55000"

// unlimited runs a statement outside of a transaction, without the limits of the session.
func (s *Store) unlimited(ctx context.Context, c *pgxpool.Conn, statement string) (err error) {
	if s.direct { // else the session has none
		if _, err := c.Exec(ctx, sqlNoLimit); err != nil {
			return err
		}
		defer func() {
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
			defer cancel()
			if _, end := c.Exec(undo, sqlLimit); err == nil {
				err = end
			}
		}()
	}
	_, err = c.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol)
	return err
}

// dropDetached drops what was a partition. What has happened since it was prepared is made
// up for: nobody sees it any more.
func (p *pruner) dropDetached(x part) (messages int64, err error) {
	still := false // another process may have been faster
	err = p.t.get(pruneParts, func(read scan) error {
		var seen part
		err := read(&seen.n, &seen.attached, &seen.pending)
		still = still || seen.n == x.n && !seen.attached
		return err
	})
	if err != nil || !still {
		return 0, err
	}
	claimed, err := p.claimed(x)
	if err != nil {
		return 0, err
	}
	if !claimed {
		p.t.do(sqlAddPartition, x.n)
		return 0, p.t.flush()
	}
	if _, err := p.keepOf(x); err != nil {
		return 0, err
	}
	if _, err := p.keepTold(x, 1<<partitionBits); err != nil { // of those that there are now
		return 0, err
	}
	p.t.do(x.query(prunePartGaps))
	if messages, _, err = p.t.number(x.query(prunePartSize)); err != nil {
		return 0, err
	}
	p.t.do(pruneDropPart, x.n)
	return messages, p.t.flush()
}
