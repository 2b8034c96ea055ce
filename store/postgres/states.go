package postgres

import (
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/batchrow"
)

// What a queue's state is made of. The oldest message that is not settled: the least of
// the open batches (looked at in Go), the deferred, and what is not claimed.
const sqlStates = `select q.id, q.name, t.name, t.kind, q.capacity, q.required, q.max_lag, q.on_dead, q.parked_us is not null,
		q.paused_us, coalesce(q.paused_by, ''), coalesce(q.paused_why, ''), q.gaps, ` + sqlDepth + `,
		(select count(*) from weir.deferred d where d.queue = q.id), (select count(*) from weir.dead d where d.queue = q.id),
		coalesce((select min(d.pos) from weir.deferred d where d.queue = q.id), 0),
		coalesce((select min(l.pos) from weir.unclaimed(q.id, q.topic) as l(pos)), 0),
		coalesce((select max(b.no) from weir.batches b where b.queue = q.id), 0)
	from weir.queues q join weir.topics t on t.id = q.topic order by q.name`

const (
	// $1 to $4: what this process knows, see knownBatches.
	sqlOpenBatches = `with u as (select * from unnest($1::int[], $2::bigint[]) as u(queue, next))
		select b.* from unnest($3::int[], $4::bigint[]) as k(queue, no) cross join lateral (
			select x.queue, x.manifest, x.bits from weir.batches x where x.queue = k.queue and x.no = k.no and x.state < 2 limit 1) b
		union all
		select b.* from weir.queues q left join u on u.queue = q.id cross join lateral (
			select x.queue, x.manifest, x.bits from weir.batches x where x.queue = q.id and x.no >= coalesce(u.next, 0) and x.state < 2 offset 0) b`
	sqlSentAt = `select u.pos, m.sent_us from unnest($1::bigint[]) as u(pos)
		cross join lateral (
			select sent_us from weir.messages where topic = (u.pos >> 40)::int and seq = u.pos & 1099511627775
			union all select sent_us from weir.kept where topic = (u.pos >> 40)::int and seq = u.pos & 1099511627775 limit 1) m`
)

// openBatches is what this process knows of the batches of queues: from which numbers on it knows
// nothing, and which of those below are open.
func (s *Store) openBatches() (queues []int32, nexts []int64, of []int32, nos []int64) {
	s.claiming.Range(func(queue, state any) bool {
		id, known := int32(queue.(store.QueueID)), state.(*claimState).batches()
		queues, nexts = append(queues, id), append(nexts, known.next)
		for _, no := range known.open {
			of, nos = append(of, id), append(nos, no)
		}
		return true
	})
	return queues, nexts, of, nos
}

// readStates reads all queues' states, by name, in the transaction's snapshot.
func readStates(t *tx) ([]store.QueueState, error) {
	var states []store.QueueState
	var oldest []int64 // by state: a position, 0 for none
	least := func(i int, pos int64) {
		if pos != 0 && (oldest[i] == 0 || pos < oldest[i]) {
			oldest[i] = pos
		}
	}
	index := map[int64]int{}
	t.do(sqlByIndex)
	t.ask(sqlStates, func(read scan) error {
		var q store.QueueState
		var id, deferred, fresh int64
		var paused *int64
		var p store.Pause
		err := read(&id, &q.Name, &q.Topic.Name, &q.Topic.Kind, &q.Capacity, &q.Required, &q.MaxLag, &q.OnDead, &q.Parked,
			&paused, &p.By, &p.Why, &q.Gaps, &q.Depth, &q.Deferred, &q.Dead, &deferred, &fresh, &q.Newest)
		if paused != nil {
			p.At = at(*paused)
			q.Paused = &p
		}
		q.ID = store.QueueID(id)
		index[id] = len(states)
		states, oldest = append(states, q), append(oldest, 0)
		least(len(states)-1, deferred)
		least(len(states)-1, fresh)
		return err
	})
	queues, nexts, of, nos := t.s.openBatches()
	err := t.get(sqlOpenBatches, func(read scan) error {
		var queue int64
		var manifest, set []byte
		if err := read(&queue, &manifest, &set); err != nil {
			return err
		}
		i, ok := index[queue]
		if !ok {
			return nil
		}
		positions, err := batchrow.DecodeManifest(nil, manifest)
		for n, pos := range positions {
			if !batchrow.Bits(set).Has(n) {
				states[i].Leased++
				least(i, pos)
			}
		}
		return err
	}, queues, nexts, of, nos)
	if err != nil {
		return nil, err
	}
	sent := map[int64]time.Time{}
	err = t.get(sqlSentAt, func(read scan) error {
		var pos, us int64
		err := read(&pos, &us)
		sent[pos] = at(us)
		return err
	}, oldest)
	for i := range states {
		states[i].Oldest = sent[oldest[i]]
	}
	return states, err
}
