package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
)

// What Check takes for wrong. Each bound is far beyond what a healthy store shows.
const (
	silentAfter  = time.Minute      // a process beats every few seconds
	overdueAfter = 5 * time.Minute  // a due message is claimed within seconds
	openAfter    = 10 * time.Minute // a transaction that is open for longer has been forgotten
	fullShare    = 0.8              // of the capacity; from here best-effort sends are refused
)

// And how much it reads, so that it may be asked while the store works.
const (
	countMax      = 10_000  // messages counted of one queue
	checkedKeys   = 10_000  // keys looked at of one queue
	checkedRows   = 100_000 // rows looked at for them
	batchFindings = 3       // batches of a queue, and transactions, named one by one
)

// checkup gathers findings in one read transaction.
type checkup struct {
	s        *Store
	t        *tx
	now      time.Time
	live     bool // a process has worked the store for a while
	findings []store.Finding
}

// checkedQueue is a queue as it is checked, with its counts.
type checkedQueue struct{ *seenQueue }

func (k *checkup) found(what, do string) {
	k.findings = append(k.findings, store.Finding{What: what, Do: do})
}

// Check looks for what should not be.
func (r reader) Check(ctx context.Context) ([]store.Finding, error) {
	k := &checkup{s: r.s}
	err := r.s.read(ctx, func(t *tx) error {
		k.t = t
		return k.all()
	})
	return k.findings, err
}

func (k *checkup) all() error {
	queues, err := seeQueues(k.t, "")
	if err != nil {
		return err
	}
	k.now = at(k.t.now)
	states, err := readStates(k.t)
	if err != nil {
		return err
	}
	for _, check := range []func() error{k.server, k.life, k.lanes, k.entities, k.processes, k.runs} {
		if err := check(); err != nil {
			return err
		}
	}
	for _, seen := range queues {
		q := &checkedQueue{seen}
		if i := slices.IndexFunc(states, func(s store.QueueState) bool { return s.ID == seen.ID }); i >= 0 {
			q.QueueState = states[i]
		}
		for _, check := range []func(*checkedQueue) error{
			k.counters, k.state, k.letters, k.batches, k.overdue, k.followers,
		} {
			if err := check(q); err != nil {
				return fmt.Errorf("queue %s: %w", q.Name, err)
			}
		}
	}
	return nil
}

const (
	askSettings = `select name from pg_settings where name in ('fsync', 'full_page_writes', 'synchronous_commit') and setting = 'off' order by name`
	// By the server's own clock: whatever the store takes for the time.
	askForgotten = `select pid, coalesce(usename::text, ''), coalesce(application_name, ''), extract(epoch from clock_timestamp() - xact_start)::bigint
		from pg_stat_activity where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
		and xact_start < clock_timestamp() - make_interval(secs => $1) order by xact_start limit $2`
	// Of other roles' sessions a role sees that they are there, and no more.
	askHidden = `select count(*), current_user::text from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and backend_type is null`
)

// server looks at the settings that lose what was committed, and for forgotten transactions.
func (k *checkup) server() error {
	k.t.ask(askSettings, func(read scan) error {
		var name string
		err := read(&name)
		k.found(fmt.Sprintf("the server's setting %s is off: a crash of it loses what was committed", name), "set it to on, and reload the server")
		return err
	})
	k.t.ask(askHidden, func(read scan) error {
		var n int64
		var me string
		err := read(&n, &me)
		if n > 0 {
			k.findings = append(k.findings, store.Finding{Unseen: true,
				What: fmt.Sprintf("whether one of %d sessions of other roles has forgotten a transaction", n),
				Do:   "grant pg_read_all_stats to " + pgx.Identifier{me}.Sanitize()})
		}
		return err
	})
	return k.t.get(askForgotten, func(read scan) error {
		var pid, secs int64
		var user, program string
		err := read(&pid, &user, &program, &secs)
		k.found(fmt.Sprintf("a transaction of %q (server process %d, user %s) has been open for %s", program, pid, user, time.Duration(secs)*time.Second),
			fmt.Sprintf("it keeps the server from clearing away deleted rows, and other senders from the keys that it has sent with: end it, or select pg_terminate_backend(%d)", pid))
		return err
	}, openAfter.Seconds(), batchFindings)
}

const askAlive = `select id, pid, host, beat_us, started_us from weir.processes where ended_us is null and lost_us is null order by id`

// processes looks at those that have not ended.
func (k *checkup) processes() error {
	return k.t.get(askAlive, func(read scan) error {
		var id, pid, beat, started int64
		var host string
		err := read(&id, &pid, &host, &beat, &started)
		silent := k.now.Sub(at(beat))
		if silent <= max(silentAfter, k.s.lease) {
			k.live = k.live || k.now.Sub(at(started)) >= silentAfter
			return err
		}
		k.found(fmt.Sprintf("process %d (pid %d on %s) has been silent for %s without having ended", id, pid, host, silent.Round(time.Second)),
			"any process that works the store takes over from it: start one; if this one hangs, end it")
		return err
	})
}

func stopped(q *checkedQueue) bool { return q.Paused != nil || q.Parked }

// What waits is above the queue's place, or was committed late: then it is not in its snapshot.
const askCountWaiting = `with b as materialized (select q.topic, x.* from weir.queues q cross join lateral (
			select * from weir.batches where queue = q.id order by no desc limit 1) x where q.id = $1),
		low as (select min(h & 1099511627775) as seq from b, unnest(b.highs) as h)
	select (select count(*) from (select 1 from b join weir.messages m on m.topic = b.topic and m.seq > (select seq from low)
			where` + unclaimed + `limit $2) f)
		+ (select count(*) from (select 1 from b cross join lateral (
				select l.seq, l.xid, l.lane from unnest(b.seens) as s(seen) join weir.messages l
					on l.topic + 0 = b.topic and l.xid >= pg_snapshot_xmax(s.seen)
				union select l.seq, l.xid, l.lane from unnest(b.seens) as s(seen) cross join lateral pg_snapshot_xip(s.seen) as x(xid)
					join weir.messages l on l.topic + 0 = b.topic and l.xid = x.xid) m
			where m.seq <= (select seq from low) and` + unclaimed + `limit $2) l)`

// counters compares the depth, which is computed from counters, with a count of
// what waits, as far as that is cheap.
func (k *checkup) counters(q *checkedQueue) error {
	waiting := q.Depth - q.Leased - q.Deferred
	if waiting > countMax {
		return nil
	}
	limit := max(waiting, 0) + 1
	counted, _, err := k.t.number(askCountWaiting, q.id, limit)
	if err != nil || counted == waiting {
		return err
	}
	more := ""
	if counted >= limit {
		more = " or more"
	}
	k.found(fmt.Sprintf("the counters of %s say that %d messages wait to be claimed, counted are %d%s", q.Name, waiting, counted, more),
		"this is a bug in weir, please report it with the output of weir doctor; its depth and capacity are off by the difference")
	return nil
}

// state looks at the queue's own row.
func (k *checkup) state(q *checkedQueue) error {
	if p := q.Paused; p != nil {
		k.found(fmt.Sprintf("queue %s is paused since %s by %s: %s", q.Name, p.At.Format(time.RFC3339), p.By, p.Why),
			"weir queue resume "+q.Name+" when the reason is gone")
	}
	if q.Parked {
		k.found(fmt.Sprintf("queue %s is parked: more than %d messages waited for it; retention no longer waits for it", q.Name, q.MaxLag),
			"weir queue resume "+q.Name+" once its handler keeps up; it goes on at the earliest message kept")
	}
	if q.Capacity > 0 && float64(q.Depth) >= fullShare*float64(q.Capacity) {
		k.found(fmt.Sprintf("queue %s is nearly full: depth %d of %d", q.Name, q.Depth, q.Capacity),
			"weir queue show "+q.Name+" tells whether it drains; raise its concurrency or its capacity")
	}
	return nil
}

const askOldestDeath = `select died_us from weir.dead where queue = $1 order by pos limit 1`

func (k *checkup) letters(q *checkedQueue) error {
	if q.Dead == 0 {
		return nil
	}
	died, _, err := k.t.number(askOldestDeath, q.id)
	if err != nil {
		return err
	}
	k.found(fmt.Sprintf("%d dead letters wait in %s, the oldest since %s", q.Dead, q.Name, at(died).Format(time.RFC3339)),
		"weir dead ls "+q.Name+" shows why; then weir dead retry or weir dead discard")
	return nil
}

const askAbandoned = `select b.no, b.owner, b.open from weir.batches b left join weir.processes p on p.id = b.owner
	where b.queue = $1 and b.state < 2 and b.open > 0
	and (b.state = 1 or p.id is null or p.ended_us is not null or p.lost_us is not null)
	and coalesce(greatest(p.beat_us, p.ended_us), 0) < $2 order by b.no limit $3`

// batches finds what an ended process left and the living ones have had time to take over.
func (k *checkup) batches(q *checkedQueue) error {
	if !k.live || stopped(q) {
		return nil
	}
	return k.t.get(askAbandoned, func(read scan) error {
		var no, owner, open int64
		err := read(&no, &owner, &open)
		k.found(fmt.Sprintf("batch %d of %s is open with %d messages, but process %d ended", no, q.Name, open, owner),
			"no running process works "+q.Name+": start the service that handles it (weir queue show "+q.Name+")")
		return err
	}, q.id, us(k.now.Add(-silentAfter)), batchFindings)
}

const askOverdue = `select pos, due_us from weir.deferred
	where queue = $1 and due_us > 0 and due_us < $2 order by due_us, pos limit 1`

// overdue looks at what waits for a time; what is due at once (due_us 0) carries none.
func (k *checkup) overdue(q *checkedQueue) error {
	if !k.live || stopped(q) {
		return nil
	}
	var pos, due int64
	err := k.t.get(askOverdue, func(read scan) error { return read(&pos, &due) }, q.id, us(k.now.Add(-overdueAfter)))
	if err != nil || pos == 0 {
		return err
	}
	id, err := k.t.nameAt(pos)
	k.found(fmt.Sprintf("message %s was due in %s at %s and has not been claimed", id, q.Name, at(due).Format(time.RFC3339)),
		"no running process works "+q.Name+", or all workers are busy: weir queue show "+q.Name)
	return err
}

// follower is the lowest of what is deferred of a key.
type follower struct {
	key       string
	pos, dead int64 // dead: the lowest dead message of the key; 0: none
}

const (
	askFollowers = `select f.key, f.pos, coalesce((select min(d.pos) from weir.dead d where d.queue = $1 and d.key = f.key), 0)
		from (select distinct on (r.key) r.key, r.pos, r.kind from (
			select key, pos, kind from weir.deferred where queue = $1 and key is not null order by key, pos limit $2) r
			where r.kind <> 1 order by r.key, r.pos limit $3) f
		where f.kind = 4`
	askLeasedKeys = `select m.key, min(p.pos) from unnest($1::bigint[]) as p(pos) cross join lateral (
			select key from weir.messages where topic = (p.pos >> 40)::int and seq = p.pos & 1099511627775
			union all select key from weir.kept where topic = (p.pos >> 40)::int and seq = p.pos & 1099511627775
			limit 1) m
		where m.key is not null group by m.key`
)

// followers finds keys whose followers wait for nothing: the lowest of what is
// deferred of a key must be something that moves by itself, or a dead or leased
// message must come before it.
func (k *checkup) followers(q *checkedQueue) error {
	if q.Deferred == 0 {
		return nil
	}
	var lowest []follower
	k.t.ask(askFollowers, func(read scan) error {
		var f follower
		err := read(&f.key, &f.pos, &f.dead)
		lowest = append(lowest, f)
		return err
	}, q.id, checkedRows, checkedKeys)
	var leased []int64
	err := k.t.get(askOpenBatches, func(read scan) error {
		b, err := seeBatch(read)
		leased = append(leased, b.unsettled()...)
		return err
	}, []int64{q.id})
	if err != nil || len(lowest) == 0 {
		return err
	}
	held := map[string]int64{}
	err = k.t.get(askLeasedKeys, func(read scan) error {
		var key string
		var pos int64
		err := read(&key, &pos)
		held[key] = pos
		return err
	}, leased)
	if err != nil {
		return err
	}
	for _, f := range lowest {
		pos, ok := held[f.key]
		if ok && pos < f.pos || f.dead != 0 && f.dead < f.pos && q.OnDead != store.Skip {
			continue
		}
		id, err := k.t.nameAt(f.pos)
		if err != nil {
			return err
		}
		k.found(fmt.Sprintf("message %s waits in %s behind an earlier one of key %q, but there is none", id, q.Name, f.key),
			"nothing would release it: please report this with the output of weir message show "+id)
	}
	return nil
}
