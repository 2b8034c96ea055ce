package postgres

import "context"

// Counters that every transaction changes would have all transactions wait for each other.
// So each adds rows to weir.tally, and somebody folds them now and then: counts them in new
// rows of weir.counts, and deletes them.
//
// What is folded is told by a snapshot, as a queue's cursor tells what is claimed: a row is
// folded if it is visible in it. So the count is exact though rows are committed out of turn,
// and nobody passes over the rows that were folded: while some transaction stays open they
// cannot be vacuumed.
const (
	sqlTally = `insert into weir.tally (topic, queue, appended, done, gone, died)
		select nullif(u.topic, 0), nullif(u.queue, 0), u.appended, u.done, u.gone, u.died
		from (select unnest($1::int[]) as topic, unnest($2::int[]) as queue, unnest($3::bigint[]) as appended, unnest($4::bigint[]) as done,
			unnest($5::bigint[]) as gone, unnest($6::bigint[]) as died) as u`
	// sqlTallySent is of sends to one topic, as most transactions are.
	sqlTallySent = `insert into weir.tally (topic, appended) values ($1, $2)`
	sqlTallyLock = `select pg_advisory_xact_lock($1)`
	sqlTakeTally = `select pg_try_advisory_xact_lock($1)`
	sqlFold      = `with last as materialized (select no, seen from weir.folds order by no desc limit 1),
		fresh as (
			delete from weir.tally y using last where y.xid >= pg_snapshot_xmax(last.seen) returning y.*),
		late as (
			delete from weir.tally y using last where y.xid = any(array(select pg_snapshot_xip(last.seen))) returning y.*),
		folded as (select * from fresh union all select * from late),` + foldInto
	// sqlFoldAll folds without regard to snapshots, which another life's numbers have made void.
	sqlFoldAll = `with last as materialized (select no, seen from weir.folds order by no desc limit 1),
		folded as (delete from weir.tally returning *),` + foldInto
	foldInto = `
		sums as (
			select s.*, c.no, c.appended as had, c.done as had_done, c.gone as had_gone, c.died as had_died
			from (select coalesce(topic, 0) as topic, coalesce(queue, 0) as queue, sum(appended) as appended, sum(done) as done,
					sum(gone) as gone, sum(died) as died from folded where workflow is null group by 1, 2) s
			left join lateral (select * from weir.counts x where x.topic = s.topic and x.queue = s.queue order by x.no desc limit 1) c on true),
		counted as (
			insert into weir.counts (topic, queue, no, appended, done, gone, died)
			select s.topic, s.queue, last.no + 1, s.appended + coalesce(had, 0), s.done + coalesce(had_done, 0),
				s.gone + coalesce(had_gone, 0), s.died + coalesce(had_died, 0) from sums s, last),
		outdated as (
			delete from weir.counts c using sums s where c.topic = s.topic and c.queue = s.queue and c.no = s.no),
		workflows as (
			update weir.workflows w set completed = w.completed + f.done, failed = w.failed + f.gone, cancelled = w.cancelled + f.died,
				unfinished = w.unfinished + f.begun - f.done - f.gone - f.died
			from (select workflow, sum(appended)::bigint as begun, sum(done)::bigint as done, sum(gone)::bigint as gone, sum(died)::bigint as died
				from folded where workflow is not null group by workflow) f where w.id = f.workflow),
		mark as (
			insert into weir.folds (no, seen) select last.no + 1, pg_current_snapshot() from last where exists (select 1 from folded))
		delete from weir.folds f using last where f.no = last.no and exists (select 1 from folded)`

	// foldAfter is how many rows a process writes before it folds: reading a depth adds up those there are.
	foldAfter = 500
)

// tallies are what a transaction adds to the counters.
type tallies struct {
	topics, queues             []int32
	appended, done, gone, died []int64
}

func (y *tallies) sent(topic, n int64) { y.add(topic, 0, [4]int64{n}) }

func (y *tallies) settled(queue, done, gone, died int64) {
	if done != 0 || gone != 0 || died != 0 {
		y.add(0, queue, [4]int64{0, done, gone, died})
	}
}

func (y *tallies) add(topic, queue int64, n [4]int64) {
	y.topics, y.queues = append(y.topics, int32(topic)), append(y.queues, int32(queue))
	y.appended, y.done = append(y.appended, n[0]), append(y.done, n[1])
	y.gone, y.died = append(y.gone, n[2]), append(y.died, n[3])
}

// count is how many rows they are.
func (y *tallies) count() int { return len(y.topics) }

// write queues them.
func (y *tallies) write(t *tx) {
	switch {
	case len(y.topics) == 1 && y.queues[0] == 0:
		t.do(sqlTallySent, y.topics[0], y.appended[0])
	case len(y.topics) > 0:
		t.do(sqlTally, y.topics, y.queues, y.appended, y.done, y.gone, y.died)
	}
}

// foldSome folds when this process has written many rows.
func (s *Store) foldSome(ctx context.Context, written int) error {
	if s.tallied.Add(int64(written)) < foldAfter {
		return nil
	}
	return s.fold(ctx)
}

// fold adds what has been tallied to the counters, unless somebody else is at it.
func (s *Store) fold(ctx context.Context) error {
	s.tallied.Store(0)
	return s.write(ctx, func(t *tx) error {
		t.again = true
		var ours bool
		err := t.get(sqlTakeTally, func(read scan) error { return read(&ours) }, s.lockNumber("tally"))
		if err != nil {
			return err
		}
		if t.quit = !ours; ours {
			t.do(sqlFold)
		}
		return nil
	})
}
