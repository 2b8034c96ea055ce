package postgres

import "context"

// Counters that every transaction changes would have all transactions wait for each other.
// So each adds rows to weir.tally, and somebody folds them into the counters now and then.
const (
	sqlTally = `insert into weir.tally (topic, queue, appended, done, gone, died)
		select nullif(u.topic, 0), nullif(u.queue, 0), u.appended, u.done, u.gone, u.died
		from unnest($1::int[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) as u(topic, queue, appended, done, gone, died)`
	sqlTallyLock = `select pg_advisory_xact_lock($1)`
	sqlTakeTally = `select pg_try_advisory_xact_lock($1)`
	sqlFold      = `with folded as (
			delete from weir.tally where id in (select id from weir.tally order by id limit 10000) returning *),
		topics as (
			update weir.topics t set appended = t.appended + f.n
			from (select topic, sum(appended)::bigint as n from folded where topic is not null group by topic) f where t.id = f.topic),
		workflows as (
			update weir.workflows w set completed = w.completed + f.done, failed = w.failed + f.gone, cancelled = w.cancelled + f.died
			from (select workflow, sum(done)::bigint as done, sum(gone)::bigint as gone, sum(died)::bigint as died
				from folded where workflow is not null group by workflow) f where w.id = f.workflow)
		update weir.queues q set done = q.done + f.done, gone = q.gone + f.gone, died = q.died + f.died
		from (select queue, sum(done)::bigint as done, sum(gone)::bigint as gone, sum(died)::bigint as died
			from folded where queue is not null group by queue) f where q.id = f.queue`

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
	if len(y.topics) > 0 {
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
