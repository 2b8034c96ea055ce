package postgres

import (
	"errors"
	"maps"
	"slices"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/checks"
)

// How far the store has the lanes on which others send to it. Whoever commits what came on a lane
// holds its row, so of two who commit the same one is refused. A lane never heard of has no row to
// hold: of two who bring its first, one fails, and when it is tried again there is a row.

// exchange is the part of a commit that is about what goes between stores.
type exchange struct {
	lanes     map[string]*laneRow // of the arrivals
	heldLanes map[string]bool     // of changes that are left for later
	states    []*store.State      // to be written
}

// laneRow is a lane as a transaction has it.
type laneRow struct {
	have           *store.Place // nil: never heard of
	stored         bool         // it has a row
	arrived, jumps int64
	moved          bool
}

const (
	sqlArrivals    = `select lane, batch, i, last from weir.arrivals where lane = any($1::text[]) order by lane for update`
	sqlMoveArrival = `update weir.arrivals a set batch = u.batch, i = u.i, last = u.last, at_us = $1::bigint, arrived = a.arrived + u.arrived, jumps = a.jumps + u.jumps,
			jumped_us = case when u.jumps > 0 then $1::bigint else a.jumped_us end
		from unnest($2::text[], $3::bigint[], $4::int[], $5::boolean[], $6::bigint[], $7::bigint[]) as u(lane, batch, i, last, arrived, jumps) where a.lane = u.lane`
	sqlNewArrival = `insert into weir.arrivals (lane, batch, i, last, at_us, arrived, jumps, jumped_us)
		select u.lane, u.batch, u.i, u.last, $1::bigint, u.arrived, u.jumps, case when u.jumps > 0 then $1::bigint end
		from unnest($2::text[], $3::bigint[], $4::int[], $5::boolean[], $6::bigint[], $7::bigint[]) as u(lane, batch, i, last, arrived, jumps) order by u.lane`
	sqlArrivedBy = `select (batch, i) >= ($2, $3) from weir.arrivals where lane = $1`

	arrivalsKey = "arrivals_pkey"
)

// askArrivals queues the reading, and locking, of the lanes of changes.
func (t *commit) askArrivals() {
	for _, ch := range t.changes {
		if ch.Arrival == nil || checks.Arrival(ch.Arrival) != nil {
			continue
		}
		if t.lanes == nil {
			t.lanes, t.heldLanes = map[string]*laneRow{}, map[string]bool{}
		}
		t.lanes[ch.Arrival.Lane] = &laneRow{}
	}
	if len(t.lanes) == 0 {
		return
	}
	t.ask(sqlArrivals, func(read scan) error {
		var lane string
		var have store.Place
		err := read(&lane, &have.Batch, &have.Index, &have.Last)
		if row := t.lanes[lane]; row != nil {
			row.have, row.stored = &have, true
		}
		return err
	}, slices.Sorted(maps.Keys(t.lanes)))
}

// blockedLane reports whether an earlier change of its lane is left for later, and this one with it.
func (t *commit) blockedLane(ch *store.Change) bool {
	return ch.Arrival != nil && t.heldLanes[ch.Arrival.Lane]
}

// holdLane has the later changes of a change's lane wait for it.
func (t *commit) holdLane(ch *store.Change) {
	if ch.Arrival != nil && t.heldLanes != nil {
		t.heldLanes[ch.Arrival.Lane] = true
	}
}

// misplaced refuses an arrival that is not the next of its lane; missed says that something before it
// is missing for good.
func (t *commit) misplaced(ch *store.Change) (missed bool, refused error) {
	if ch.Arrival == nil {
		return false, nil
	}
	if refused := checks.Arrival(ch.Arrival); refused != nil {
		return false, refused
	}
	return checks.Arrives(ch.Arrival, t.lanes[ch.Arrival.Lane].have)
}

// arrive moves the lane of a change on that nothing refuses.
func (t *commit) arrive(ch *store.Change, missed bool) {
	if ch.Arrival == nil {
		return
	}
	row := t.lanes[ch.Arrival.Lane]
	row.have, row.moved = &ch.Arrival.To, true
	row.arrived += int64(len(ch.Sends))
	if missed {
		row.jumps++
	}
}

// writeArrivals queues how far the lanes are now.
func (t *commit) writeArrivals() {
	var there, fresh arrivalColumns
	for _, lane := range slices.Sorted(maps.Keys(t.lanes)) {
		switch row := t.lanes[lane]; {
		case !row.moved:
		case row.stored:
			there.add(lane, row)
		default:
			fresh.add(lane, row)
		}
	}
	if len(there.lanes) > 0 {
		t.do(sqlMoveArrival, there.args(t.now)...)
	}
	if len(fresh.lanes) > 0 {
		t.do(sqlNewArrival, fresh.args(t.now)...)
	}
}

// arrivalColumns are lanes as arrays.
type arrivalColumns struct {
	lanes                   []string
	batches, arrived, jumps []int64
	indexes                 []int32
	lasts                   []bool
}

func (c *arrivalColumns) add(lane string, row *laneRow) {
	c.lanes, c.batches, c.indexes = append(c.lanes, lane), append(c.batches, row.have.Batch), append(c.indexes, int32(row.have.Index))
	c.lasts, c.arrived, c.jumps = append(c.lasts, row.have.Last), append(c.arrived, row.arrived), append(c.jumps, row.jumps)
}

func (c *arrivalColumns) args(now int64) []any {
	return []any{now, c.lanes, c.batches, c.indexes, c.lasts, c.arrived, c.jumps}
}

var errLentArrival = errors.New("an arrival in a transaction of the caller's: what other stores send is committed by the engine")
