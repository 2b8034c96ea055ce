package postgres

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/weir-go/weir/store"
)

// The newest states of entities, upserted when they are newer. Rows are written, and so held, with
// the commit, so that writers of one state hardly wait for each other. A caller's transaction may
// stay open for long: it holds a lock of each state that it writes, and others look for those, as
// for the runs that it starts (sqlTestStarts).

const (
	// What it adds to the counts of its entities goes with it.
	sqlPutStates = `with w as (insert into weir.states as s (entity, key, version, contract, as_of_us, deleted, body)
		select u.entity, u.key, u.version, u.contract, u.as_of, u.deleted, u.body
		from unnest($1::text[], $2::text[], $3::bigint[], $4::int[], $5::bigint[], $6::boolean[], $7::bytea[])
			as u(entity, key, version, contract, as_of, deleted, body) order by u.entity collate "C", u.key collate "C"
		on conflict (entity, key) do update set xid = excluded.xid, version = excluded.version, contract = excluded.contract,
			as_of_us = excluded.as_of_us, deleted = excluded.deleted, was = s.deleted, body = excluded.body
			where s.version < excluded.version returning s.entity, s.key, s.deleted, s.was),
		n as (insert into weir.entity_tally (entity, live, deleted) select entity, live, deleted from (
			select entity, sum((not deleted)::int - (was is false)::int) as live, sum(deleted::int - (was is true)::int) as deleted
			from w group by entity) d where live <> 0 or deleted <> 0)
		select entity, key from w`
	sqlFoldEntities = `with d as (delete from weir.entity_tally returning entity, live, deleted)
		insert into weir.entity_tally select entity, sum(live), sum(deleted) from d group by entity`
	sqlEntityRows = `select count(*) from (select 1 from weir.entity_tally limit $1) r`
	// entityRows is from how many rows on they are folded.
	entityRows = 200

	sqlPutBy = `select version >= $3 from weir.states where entity = $1 and key = $2`
)

// entityKey names a state.
type entityKey struct{ entity, key string }

func (s *Store) stateLock(st *store.State) int64 { return s.lockNumber("state", st.Entity, st.Key) }

// statesLock is shared by callers' transactions that have written states.
func (s *Store) statesLock() int64 { return s.lockNumber("states") }

// date gives the states of a change the version and time of the messages that tell of them.
func date(states []store.State) {
	for i := range states {
		if st := &states[i]; st.Of != nil {
			st.Version, st.AsOf = st.Of.Stamp, st.Of.SentAt
		}
	}
}

// foldEntities folds the counts of entities, if they are many rows and nobody else is at it.
func (s *Store) foldEntities(ctx context.Context) error {
	return s.write(ctx, func(t *tx) error {
		t.again = true
		rows, _, err := t.number(sqlEntityRows, entityRows)
		if t.quit = rows < entityRows; err != nil || t.quit {
			return err
		}
		var ours bool
		err = t.get(sqlTryQueueLock, func(read scan) error { return read(&ours) }, s.lockNumber("entities"))
		if t.quit = !ours; ours {
			t.do(sqlFoldEntities)
		}
		return err
	})
}

// keepStates notes the states of a change that nothing refuses; its sends have their stamps.
func (t *commit) keepStates(ch *store.Change) {
	date(ch.States)
	for i := range ch.States {
		t.states = append(t.states, &ch.States[i])
	}
}

// undate takes back what callers see of states that were not written.
func undate(states []store.State) {
	for i := range states {
		st := &states[i]
		if st.Applied = false; st.Of != nil {
			st.Version, st.AsOf = 0, time.Time{}
		}
	}
}

// stateLocks are the locks of states, each once.
func (s *Store) stateLocks(changes ...*store.Change) []int64 {
	var locks map[int64]bool
	for _, ch := range changes {
		for i := range ch.States {
			if locks == nil {
				locks = map[int64]bool{}
			}
			locks[s.stateLock(&ch.States[i])] = true
		}
	}
	return slices.Sorted(maps.Keys(locks))
}

// askStates queues a look whether callers' transactions have written the states of changes.
func (t *commit) askStates() {
	if t.patient {
		return
	}
	if locks := t.s.stateLocks(t.changes...); len(locks) > 0 {
		t.ask(sqlTestStarts, t.readBusy, locks, t.s.statesLock())
	}
}

func (t *commit) blockedStates(ch *store.Change) bool {
	return len(t.busy) > 0 && slices.ContainsFunc(t.s.stateLocks(ch), func(h int64) bool { return t.busy[h] })
}

// putStates queues states, in their order: each is applied if it is newer than what there is then.
// One statement cannot write a row twice, so what comes again goes with the next.
func (t *tx) putStates(states []*store.State) {
	for len(states) > 0 {
		var round, rest []*store.State
		seen := map[entityKey]*store.State{}
		for _, st := range states {
			if k := (entityKey{st.Entity, st.Key}); seen[k] != nil {
				rest = append(rest, st)
			} else {
				seen[k] = st
				round = append(round, st)
			}
		}
		// In one order, so that nobody waits in a circle.
		slices.SortFunc(round, func(a, b *store.State) int { return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Key, b.Key)) })
		for part := range slices.Chunk(round, rowsMost) {
			t.putRound(part, seen)
		}
		states = rest
	}
}

func (t *tx) putRound(round []*store.State, seen map[entityKey]*store.State) {
	var entities, keys []string
	var versions, asOfs []int64
	var contracts []int32
	var deleted []bool
	var bodies [][]byte
	for _, st := range round {
		st.Applied = false
		entities, keys, versions = append(entities, st.Entity), append(keys, st.Key), append(versions, st.Version)
		contracts, asOfs = append(contracts, int32(st.Contract)), append(asOfs, us(st.AsOf))
		deleted, bodies = append(deleted, st.Deleted), append(bodies, st.Body)
	}
	t.ask(sqlPutStates, func(read scan) error {
		var k entityKey
		err := read(&k.entity, &k.key)
		if st := seen[k]; st != nil {
			st.Applied = true
		}
		return err
	}, entities, keys, versions, contracts, asOfs, deleted, bodies)
}

// lendStates queues, for a change in a caller's transaction, the locks of its states.
func (a *appender) lendStates(ch *store.Change) {
	if len(ch.States) > 0 {
		a.do(sqlShareProcess, a.s.statesLock())
		a.do(sqlKeys, a.s.stateLocks(ch))
	}
}

// putOwn queues the states of one change.
func (a *appender) putOwn(ch *store.Change) {
	date(ch.States)
	states := make([]*store.State, len(ch.States))
	for i := range ch.States {
		states[i] = &ch.States[i]
	}
	a.putStates(states)
}
