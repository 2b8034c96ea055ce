package postgres

import "github.com/weir-go/weir/store/internal/lives"

// After a restore, or when a standby was promoted, the database lives on where
// transaction numbers, and what sequences have given out, may have gone back. So positions
// go on far above all known ones, under a new incarnation, so that no ID is given out
// twice; rows whose numbers this cluster has yet to give out get one that is visible to
// all; and each queue's cursor gets a snapshot of this life. What was late is made due.
//
// Whoever writes meanwhile waits: what he commits is late, then, as always.
const (
	sqlHoldStill = `lock table weir.messages, weir.batches, weir.tally in share row exclusive mode`
	sqlSkipSeq   = `select setval('weir.seq', greatest((select last_value from weir.seq),
		(select coalesce(max(m.seq), 0) from weir.topics t cross join lateral (
			select seq from weir.messages where topic = t.id order by seq desc limit 1) m), (select coalesce(max(high & $1), 0) from weir.batches)) + $2)`
	sqlSkipNumbers = `select setval('weir.process_id', (select last_value from weir.process_id) + $1),
		setval('weir.run_no', (select last_value from weir.run_no) + $1), setval('weir.mail_no', (select last_value from weir.mail_no) + $1)`
	sqlLose = `update weir.processes set lost_us = (extract(epoch from clock_timestamp()) * 1000000)::bigint
		where ended_us is null and lost_us is null`
	sqlNewest = `(select distinct on (queue) * from weir.batches order by queue, no desc)`

	sqlReleaseLate = `insert into weir.deferred (queue, pos, kind, lane, due_us, key, attempt)
		select b.queue, m.topic::bigint << 40 | m.seq, 5, m.lane, 0, m.key, 1
		from ` + sqlNewest + ` b
		cross join lateral unnest(b.masks, b.highs, b.seens, b.targets, b.uptos) as e(mask, high, seen, target, upto)
		join weir.queues q on q.id = b.queue
		cross join lateral (
			select * from weir.messages where (topic + 0) = q.topic and xid >= pg_snapshot_xmax(e.seen)
			union all select * from weir.messages where (topic + 0) = q.topic and xid = any(array(select pg_snapshot_xip(e.seen)))) m
		where m.seq <= (e.high & $1) and (e.mask >> m.lane) & 1 = 1
		and not (e.target is not null and pg_visible_in_snapshot(m.xid, e.target) and m.seq <= (e.upto & $1))
		on conflict do nothing`
	// In the newest batch's row: a batch of nothing would leave a gap on the lanes of relays.
	sqlSeeAnew = `update weir.batches b set seens = array_fill(pg_current_snapshot(), array[cardinality(b.masks)]),
			targets = array_fill(null::pg_snapshot, array[cardinality(b.masks)]), uptos = array_fill(0::bigint, array[cardinality(b.masks)]), beyond = null
		from ` + sqlNewest + ` n where b.queue = n.queue and b.no = n.no`
	// Visible in every snapshot, so never late.
	sqlAge       = `update weir.messages m set xid = '3' from weir.topics t where (m.topic + 0) = t.id and m.xid >= pg_snapshot_xmin(pg_current_snapshot())`
	sqlAgeKept   = `update weir.kept set xid = '3' where xid >= pg_snapshot_xmin(pg_current_snapshot())`
	sqlAgeStates = `update weir.states set xid = '3' where xid >= pg_snapshot_xmin(pg_current_snapshot())`
	sqlFoldNew   = `update weir.folds set seen = pg_current_snapshot()`

	lifeSkip = 1 << 24 // far above what a lost tail of the log can have held
)

// rebirth begins the store's next life. This process is to take it up when that is committed.
func (t *tx) rebirth() (lives.Life, error) {
	for _, step := range []struct {
		query string
		args  []any
	}{
		{sqlStepLimit, nil},
		{sqlHoldStill, nil},
		{sqlSkipSeq, []any{int64(seqMask), int64(lifeSkip)}},
		{sqlSkipNumbers, []any{int64(lifeSkip)}},
		{sqlLose, nil},
		{sqlReleaseLate, []any{int64(seqMask)}},
		{sqlSeeAnew, nil},
		{sqlAge, nil},
		{sqlAgeKept, nil},
		{sqlAgeStates, nil},
		{sqlFoldAll, nil},
		{sqlFoldNew, nil},
	} {
		t.do(step.query, step.args...)
	}
	t.askLives()
	var reached, now int64
	if err := t.get(sqlReached, func(read scan) error { return read(&reached, &now) }, t.s.clockNow()); err != nil {
		return lives.Life{}, err
	}
	life := t.s.lives().Next(newIncarnation(), now, reached)
	t.do(sqlAddLife, life.First, string(life.Incarnation), life.Base)
	return life, t.flush()
}
