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
	laneCount map[string]int64    // by what the lanes of a sender begin with, where there are new ones of its; of "" all
	states    []*store.State      // to be written
}

// laneRow is a lane as a transaction has it.
type laneRow struct {
	have           *store.Place // nil: never heard of
	stored         bool         // it has a row
	arrived, jumps int64
	moved          bool
	drained        bool // when the sender last spoke of it: before, or now
	drains         bool // it says so now
}

const (
	sqlArrivals    = `select lane, batch, i, last, drained_us is not null from weir.arrivals where lane = any($1::text[]) order by lane for update`
	sqlMoveArrival = `update weir.arrivals a set batch = u.batch, i = u.i, last = u.last, at_us = $1::bigint, arrived = a.arrived + u.arrived, jumps = a.jumps + u.jumps,
			jumped_us = case when u.jumps > 0 then $1::bigint else a.jumped_us end, drained_us = null
		from unnest($2::text[], $3::bigint[], $4::int[], $5::boolean[], $6::bigint[], $7::bigint[]) as u(lane, batch, i, last, arrived, jumps) where a.lane = u.lane`
	sqlNewArrival = `insert into weir.arrivals (lane, batch, i, last, at_us, arrived, jumps, jumped_us)
		select u.lane, u.batch, u.i, u.last, $1::bigint, u.arrived, u.jumps, case when u.jumps > 0 then $1::bigint end
		from unnest($2::text[], $3::bigint[], $4::int[], $5::boolean[], $6::bigint[], $7::bigint[]) as u(lane, batch, i, last, arrived, jumps) order by u.lane`
	sqlDrainLanes = `update weir.arrivals set drained_us = $1 where lane = any($2::text[])`
	sqlDrainedBy  = `select coalesce(drained_us >= $2, false) from weir.arrivals where lane = $1`
	sqlCountLanes = `select '', count(*) from (select 1 from weir.arrivals limit $1) a
		union all select u.first, (select count(*) from (select 1 from weir.arrivals a where a.lane >= u.first and a.lane < u.past limit $2) o)
		from unnest($3::text[], $4::text[]) as u(first, past)`
	sqlArrivedBy = `select (batch, i) >= ($2, $3) from weir.arrivals where lane = $1`

	arrivalsKey = "arrivals_pkey"
)

// askArrivals queues the reading, and locking, of the lanes of changes.
func (t *commit) askArrivals() {
	for _, ch := range t.changes {
		if ch.Arrival != nil && checks.Arrival(ch.Arrival) == nil {
			t.askLane(ch.Arrival.Lane)
		}
		for i := range ch.Drained {
			t.askLane(ch.Drained[i].Lane)
		}
	}
	if len(t.lanes) == 0 {
		return
	}
	t.ask(sqlArrivals, func(read scan) error {
		var lane string
		var have store.Place
		var drained bool
		err := read(&lane, &have.Batch, &have.Index, &have.Last, &drained)
		if row := t.lanes[lane]; row != nil {
			row.have, row.stored, row.drained = &have, true, drained
		}
		return err
	}, slices.Sorted(maps.Keys(t.lanes)))
}

func (t *commit) askLane(lane string) {
	if t.lanes == nil {
		t.lanes, t.heldLanes = map[string]*laneRow{}, map[string]bool{}
	}
	if storable(lane) {
		t.lanes[lane] = &laneRow{}
	}
}

// countLanes counts what new lanes may be too many of: all, and those of their senders.
func (t *commit) countLanes() error {
	t.laneCount = nil
	var firsts, ends []string
	for _, ch := range t.changes {
		if ch.Arrival == nil || t.lanes[ch.Arrival.Lane] == nil || t.lanes[ch.Arrival.Lane].stored {
			continue
		}
		if _, first, end := checks.LaneFrom(ch.Arrival.Lane); !slices.Contains(firsts, first) {
			firsts, ends = append(firsts, first), append(ends, end)
		}
	}
	if len(firsts) == 0 {
		return nil
	}
	t.laneCount = map[string]int64{}
	return t.get(sqlCountLanes, func(read scan) error {
		var name string
		var n int64
		err := read(&name, &n)
		t.laneCount[name] += n
		return err
	}, store.MaxLanes, store.MaxLanesFrom, firsts, ends)
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
	have := t.lanes[ch.Arrival.Lane].have
	if have == nil {
		_, from, _ := checks.LaneFrom(ch.Arrival.Lane)
		if refused := checks.LaneRoom(ch.Arrival.Lane, t.laneCount[""], t.laneCount[from]); refused != nil {
			return false, refused
		}
	}
	return checks.Arrives(ch.Arrival, have)
}

// arrive moves the lane of a change on that nothing refuses.
func (t *commit) arrive(ch *store.Change, missed bool) {
	if ch.Arrival == nil {
		return
	}
	row := t.lanes[ch.Arrival.Lane]
	if row.have == nil {
		_, from, _ := checks.LaneFrom(ch.Arrival.Lane)
		t.laneCount[""]++
		t.laneCount[from]++
	}
	row.have, row.moved, row.drained, row.drains = &ch.Arrival.To, true, false, false
	row.arrived += int64(len(ch.Sends))
	if missed {
		row.jumps++
	}
}

// drain notes that senders have settled what is here of their lanes.
func (t *commit) drain(ch *store.Change) {
	for i := range ch.Drained {
		d := &ch.Drained[i]
		if row := t.lanes[d.Lane]; row != nil && checks.Drains(d, row.have, row.drained) {
			row.drained, row.drains = true, true
		}
	}
}

// writeArrivals queues how far the lanes are now.
func (t *commit) writeArrivals() {
	var there, fresh arrivalColumns
	var drained []string
	for _, lane := range slices.Sorted(maps.Keys(t.lanes)) {
		row := t.lanes[lane]
		if row.drains {
			drained = append(drained, lane)
		}
		switch {
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
	if len(drained) > 0 {
		t.do(sqlDrainLanes, t.now, drained)
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
