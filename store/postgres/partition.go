package postgres

import (
	"context"
	"time"
)

// The journal's partitions are ranges of 1 << partitionBits of seq. One is made ahead as
// soon as the half of the newest is used: by LIKE and ATTACH under a short lock timeout,
// since CREATE … PARTITION OF waits for every open sender, and has all others wait behind it.
const (
	partitionBits = 22

	sqlLastPartition = `select coalesce(max(substr(c.relname, 10)::bigint), -1) from pg_inherits i join pg_class c on c.oid = i.inhrelid
		where i.inhparent = 'weir.messages'::regclass`
	sqlLastSeq      = `select last_value from weir.seq`
	sqlAddPartition = `select weir.add_partition($1)`
	sqlPartitioner  = `select pg_advisory_xact_lock($1)`
)

// roomPause is how long no sender tries to make a partition after one has not succeeded, or while one is at it: there is time,
// and each would wait. Heartbeats try all the same.
const roomPause = 5 * time.Second

// makeRoom makes the next partition if the newest is half used. seq is the newest known, 0: ask.
func (s *Store) makeRoom(ctx context.Context, seq int64) error {
	const half = 1 << (partitionBits - 1)
	if seq > 0 {
		tried := s.roomTried.Load()
		if seq+half < s.reach.Load() || tried != nil && time.Since(*tried) < roomPause {
			return nil
		}
	}
	now := time.Now()
	s.roomTried.Store(&now)
	err := s.write(ctx, func(t *tx) error {
		t.again = true
		return t.makeRoom()
	})
	if err == nil {
		s.roomTried.Store(nil)
	}
	return err
}

func (t *tx) makeRoom() error {
	const half = 1 << (partitionBits - 1)
	t.do(sqlPartitioner, t.s.lockNumber("partition"))
	last, _, err := t.number(sqlLastPartition)
	if err != nil {
		return err
	}
	seq, _, err := t.number(sqlLastSeq)
	if err != nil {
		return err
	}
	for seq+half >= (last+1)<<partitionBits {
		last++
		t.do(sqlAddPartition, last)
		if err := t.flush(); err != nil {
			return err
		}
	}
	t.s.reach.Store((last + 1) << partitionBits)
	return nil
}
