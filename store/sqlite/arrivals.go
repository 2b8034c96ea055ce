package sqlite

import (
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/checks"
)

const (
	sqlArrival    = `select batch, ix, last from weir_arrivals where lane = ?1`
	sqlSetArrival = `insert into weir_arrivals (lane, batch, ix, last, at_us, arrived, jumps, jumped_us)
			values (?1, ?2, ?3, ?4, ?5, ?6, ?7, case when ?7 then ?5 end)
		on conflict (lane) do update set batch = excluded.batch, ix = excluded.ix, last = excluded.last, at_us = excluded.at_us,
			arrived = arrived + excluded.arrived, jumps = jumps + excluded.jumps, jumped_us = coalesce(excluded.jumped_us, jumped_us), drained_us = null`
	sqlDrained  = `select batch, ix, last, drained_us is not null from weir_arrivals where lane = ?1`
	sqlSetDrain = `update weir_arrivals set drained_us = ?2 where lane = ?1`

	countLanes     = `select count(*) from (select 1 from weir_arrivals limit ?1)`
	countLanesFrom = `select count(*) from (select 1 from weir_arrivals where lane >= ?1 and lane < ?2 limit ?3)`
)

// placeOf is how far the store has a lane; nil if it has never heard of it.
func placeOf(j journal, lane string) (have *store.Place, err error) {
	var batch, index, last int64
	err = j.rows(sqlArrival, []any{lane}, []any{&batch, &index, &last}, func() error {
		have = &store.Place{Batch: batch, Index: int(index), Last: last != 0}
		return nil
	})
	return have, err
}

// expect refuses what comes from another store at a place where nothing is missing, or something
// before it is, and says whether something was missed for good.
func (t *commit) expect(a *store.Arrival) (missed bool, refused, err error) {
	if a == nil {
		return false, nil, nil
	}
	if refused := checks.Arrival(a); refused != nil {
		return false, refused, nil
	}
	t.newLane = ""
	have, err := placeOf(t.c, a.Lane)
	if err != nil {
		return false, nil, err
	}
	if have == nil {
		if refused, err := t.laneRoom(a.Lane); refused != nil || err != nil {
			return false, refused, err
		}
	}
	missed, refused = checks.Arrives(a, have)
	return missed, refused, nil
}

// laneRoom refuses a new lane where there are as many as may be. They are counted once in a transaction.
func (t *commit) laneRoom(lane string) (refused, err error) {
	_, first, end := checks.LaneFrom(lane)
	if t.lanes == nil {
		t.lanes = map[string]int64{}
		if t.lanes[""], _, err = t.c.number(countLanes, store.MaxLanes); err != nil {
			return nil, err
		}
	}
	if _, counted := t.lanes[first]; !counted {
		if t.lanes[first], _, err = t.c.number(countLanesFrom, first, end, store.MaxLanesFrom); err != nil {
			return nil, err
		}
	}
	t.newLane = lane
	return checks.LaneRoom(lane, t.lanes[""], t.lanes[first]), nil
}

// drain notes that senders have settled what is here of their lanes.
func (t *commit) drain(ch *store.Change) error {
	for i := range ch.Drained {
		d := &ch.Drained[i]
		var have *store.Place
		var batch, index, last, already int64
		err := t.c.rows(sqlDrained, []any{d.Lane}, []any{&batch, &index, &last, &already}, func() error {
			have = &store.Place{Batch: batch, Index: int(index), Last: last != 0}
			return nil
		})
		if err == nil && checks.Drains(d, have, already != 0) {
			err = t.c.exec(sqlSetDrain, d.Lane, t.now)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// arrive notes how far the lane has come. A change after this one, in the same group, reads it.
func (t *commit) arrive(ch *store.Change, missed bool) error {
	a := ch.Arrival
	if a == nil {
		return nil
	}
	if t.newLane == a.Lane {
		_, first, _ := checks.LaneFrom(a.Lane)
		t.lanes[""]++
		t.lanes[first]++
		t.newLane = ""
	}
	return t.c.exec(sqlSetArrival, a.Lane, a.To.Batch, a.To.Index, a.To.Last, t.now, len(ch.Sends), missed)
}
