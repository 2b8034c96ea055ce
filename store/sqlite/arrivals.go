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
			arrived = arrived + excluded.arrived, jumps = jumps + excluded.jumps, jumped_us = coalesce(excluded.jumped_us, jumped_us)`
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
	have, err := placeOf(t.c, a.Lane)
	if err != nil {
		return false, nil, err
	}
	missed, refused = checks.Arrives(a, have)
	return missed, refused, nil
}

// arrive notes how far the lane has come. A change after this one, in the same group, reads it.
func (t *commit) arrive(ch *store.Change, missed bool) error {
	a := ch.Arrival
	if a == nil {
		return nil
	}
	return t.c.exec(sqlSetArrival, a.Lane, a.To.Batch, a.To.Index, a.To.Last, t.now, len(ch.Sends), missed)
}
