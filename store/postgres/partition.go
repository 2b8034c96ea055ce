package postgres

import (
	"context"
	"fmt"
)

// The journal's partitions are ranges of 1 << partitionBits of seq. One is made ahead as
// soon as the half of the newest is used: by LIKE and ATTACH under a short lock timeout,
// since CREATE … PARTITION OF waits for every open sender, and has all others wait behind it.
const (
	partitionBits = 22

	sqlLastPartition = `select coalesce(max(substr(c.relname, 10)::bigint), -1) from pg_inherits i join pg_class c on c.oid = i.inhrelid
		where i.inhparent = 'weir.messages'::regclass`
	sqlLastSeq     = `select last_value from weir.seq`
	sqlPartitioner = `select pg_advisory_xact_lock($1)`
)

// partition is the statement that makes the partition with a number, when nobody uses the table yet.
func (s *Store) partition(n int64) string {
	return s.text(fmt.Sprintf(`create table weir.messages_%d partition of weir.messages for values from (%d) to (%d)`,
		n, n<<partitionBits, (n+1)<<partitionBits))
}

// attach is the statements that make it while the table is used. The constraint spares
// the server a look at each row; the indexes are made to fit before.
func (s *Store) attach(n int64) []string {
	from, to := n<<partitionBits, (n+1)<<partitionBits
	return []string{
		s.text(fmt.Sprintf(`create table weir.messages_%d (like weir.messages including defaults including indexes,
			check (seq >= %d and seq < %d))`, n, from, to)),
		s.text(fmt.Sprintf(`alter table weir.messages attach partition weir.messages_%d for values from (%d) to (%d)`, n, from, to)),
	}
}

// makeRoom makes the next partition if the newest is half used. seq is the newest known, 0: ask.
func (s *Store) makeRoom(ctx context.Context, seq int64) error {
	const half = 1 << (partitionBits - 1)
	if s.existing || seq > 0 && seq+half < s.reach.Load() {
		return nil
	}
	return s.write(ctx, func(t *tx) error {
		t.do(sqlPartitioner, s.lockNumber("partition"))
		last, _, err := t.number(sqlLastPartition)
		if err != nil {
			return err
		}
		if seq, _, err = t.number(sqlLastSeq); err != nil {
			return err
		}
		for seq+half >= (last+1)<<partitionBits {
			last++
			for _, statement := range s.attach(last) {
				t.todo = append(t.todo, question{query: statement})
			}
			if err := t.flush(); err != nil {
				return err
			}
		}
		s.reach.Store((last + 1) << partitionBits)
		return nil
	})
}
