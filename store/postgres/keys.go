package postgres

import (
	"github.com/weir-go/weir/store"
)

// The order within a key is kept by two rules. A claim files a fresh message
// behind an earlier one of its key that is deferred or dead (blockers). And
// whenever a delivery with a key was settled, the key's followers are looked at
// again (resolve): with the lowest gone they are released, with one failing
// they go behind it.
//
// Keys with such rows are rare, and most queues have none. So the keys that have
// any are read first: as long as they are few, all other keys cost nothing.
//
// A key is of one lane, so one process claims and settles it at a time, and the engine
// does not claim while a settlement other than Done is under way. What frees a key
// otherwise (an operator's act, another rule for the dead) takes the lock of the
// queue's claims first.

// queueKey is a key in a queue.
type queueKey struct {
	queue int64
	key   string
}

// keyring is the keys of queues that have rows in deferred (and dead, where that is asked).
type keyring struct {
	keys map[queueKey]bool
	many map[int64]bool // queues that have more of them than were read
}

// keysMax bounds what is read up front for a queue; beyond it each key is looked up.
const keysMax = 64

const (
	// One step along the index for each key, however many rows a key has.
	sqlDeferredKeys = `select q.id, k.key from unnest($1::int[]) as q(id) cross join lateral (
		with recursive k(key) as (
			(select d.key from weir.deferred d where d.queue = q.id and d.key is not null order by d.key limit 1)
			union all
			select (select d.key from weir.deferred d where d.queue = q.id and d.key > k.key order by d.key limit 1) from k where k.key is not null)
		select key from k where key is not null limit 65) k`
	sqlDeadKeys = `select q.id, k.key from unnest($1::int[]) as q(id) cross join lateral (
		with recursive k(key) as (
			(select d.key from weir.dead d where d.queue = q.id and d.key is not null order by d.key limit 1)
			union all
			select (select d.key from weir.dead d where d.queue = q.id and d.key > k.key order by d.key limit 1) from k where k.key is not null)
		select key from k where key is not null limit 65) k`
)

// load queues the reading of keys.
func (k *keyring) load(t *tx, query string, queues []int32) {
	counts := map[int64]int{}
	t.ask(query, func(read scan) error {
		var found queueKey
		if err := read(&found.queue, &found.key); err != nil {
			return err
		}
		if k.keys == nil {
			k.keys, k.many = map[queueKey]bool{}, map[int64]bool{}
		}
		k.keys[found] = true
		if counts[found.queue]++; counts[found.queue] > keysMax {
			k.many[found.queue] = true
		}
		return nil
	}, queues)
}

// mayWait reports whether messages may wait for one of this key.
func (k *keyring) mayWait(queue int64, key string) bool {
	return k.many[queue] || k.keys[queueKey{queue, key}]
}

const (
	// Followers join the dead message of their key, where the queue's rule is to park.
	sqlParkFollowers = `with k as (
			select u.queue, u.key, (select min(d.pos) from weir.dead d where d.queue = u.queue and d.key = u.key) as dead
			from unnest($1::int[], $2::text[]) as u(queue, key) join weir.queues q on q.id = u.queue and q.on_dead = $3),
		moved as (
			delete from weir.deferred f using k
			where f.queue = k.queue and f.key = k.key and f.pos > k.dead and f.kind in (4, 5)
			returning f.queue, f.pos, f.lane, f.key, f.attempt, k.dead),
		parked as (
			insert into weir.dead (queue, pos, died_us, lane, key, attempts, reason, behind)
			select queue, pos, $4, lane, key, attempt - 1, $5, dead from moved
			on conflict (queue, pos) do nothing)
		insert into weir.tally (queue, gone, died) select queue, count(*), count(*) from moved group by queue`
	// The lowest of those deferred decides: followers are behind what failed. At most so
	// many are released at once.
	sqlResolve = `with k as (
			select u.queue, u.key, case when q.on_dead <> $3 then
				(select min(d.pos) from weir.dead d where d.queue = u.queue and d.key = u.key) end as dead
			from unnest($1::int[], $2::text[]) as u(queue, key) join weir.queues q on q.id = u.queue),
		low as (
			select k.queue, k.key, f.pos, f.kind, coalesce(least(k.dead, min(f.pos) filter (where f.kind in (2, 3))
				over (partition by k.queue, k.key)), 9223372036854775807) as blocker
			from k cross join lateral (
				select d.pos, d.kind from weir.deferred d where d.queue = k.queue and d.key = k.key and d.kind <> 1 order by d.pos limit $4) f),
		free as (
			update weir.deferred d set kind = 5, due_us = 0 from low
			where d.queue = low.queue and d.pos = low.pos and low.kind = 4 and low.pos < low.blocker)
		update weir.deferred d set kind = 4, due_us = null
		from (select distinct queue, key, blocker from low) b
		where d.queue = b.queue and d.key = b.key and d.kind = 5 and d.pos > b.blocker`

	parkedReason = "an earlier message of its key is dead"
)

// resolve queues a look at the followers of keys: they are released, sent behind the
// failed one again, or parked with the dead one.
func resolve(t *tx, moved map[queueKey]bool) {
	if len(moved) == 0 {
		return
	}
	queues, keys := make([]int32, 0, len(moved)), make([]string, 0, len(moved))
	for k := range moved {
		queues, keys = append(queues, int32(k.queue)), append(keys, k.key)
	}
	t.do(sqlParkFollowers, queues, keys, int(store.Park), t.now, parkedReason)
	t.do(sqlResolve, queues, keys, int(store.Skip), store.MaxRelease)
}

// blocker is the earliest message that those of its key wait for; none when pos is 0.
type blocker struct {
	pos  int64
	dead bool // they join it rather than wait
}

const sqlBlockers = `select u.key, coalesce((select min(d.pos) from weir.deferred d where d.queue = $1 and d.key = u.key and d.kind <> 1), 0),
		coalesce((select min(d.pos) from weir.dead d where d.queue = $1 and d.key = u.key), 0)
	from unnest($2::text[]) as u(key)`

// readBlockers reads what messages of the keys wait for.
func readBlockers(t *tx, queue int64, onDead store.OnDead, keys []string) (map[string]blocker, error) {
	found := map[string]blocker{}
	err := t.get(sqlBlockers, func(read scan) error {
		var key string
		var waiting, dead int64
		if err := read(&key, &waiting, &dead); err != nil {
			return err
		}
		switch {
		case dead != 0 && onDead == store.Park:
			found[key] = blocker{pos: dead, dead: true}
		case dead != 0 && onDead == store.Block && (waiting == 0 || dead < waiting):
			found[key] = blocker{pos: dead}
		case waiting != 0:
			found[key] = blocker{pos: waiting}
		}
		return nil
	}, queue, keys)
	return found, err
}
