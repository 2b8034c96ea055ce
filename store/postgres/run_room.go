package postgres

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

// How many unfinished runs a workflow has is counted as the depth of a queue is: each
// transaction adds rows to weir.tally, so that no two wait for each other. To ask for it with each start would cost more than the
// start. So who has asked, and found much room, has credit for a while: a part of the
// room that leaves enough for other processes.

// runRoom is what is known of a workflow's runs.
type runRoom struct {
	capacity int64 // 0: no bound
	depth    int64 // with what this transaction has started
}

const (
	sqlRunRooms = `select w.id, w.capacity, (w.unfinished
			+ coalesce((select sum(y.appended - y.done - y.gone - y.died) from weir.tallied y where y.workflow = w.id), 0))::bigint
		from weir.workflows w where w.id = any($1::int[])`
	// Only what changes is locked: those are rows that folding updates.
	sqlLimitRuns = `update weir.workflows w set capacity = u.most from unnest($1::text[], $2::bigint[]) as u(name, most)
		where w.name = u.name and w.capacity <> u.most`

	creditPart = 16          // of the room, is given on credit
	creditFor  = time.Second // and not for longer
)

// credits are the starts that this process makes without asking, by workflow.
type credits struct {
	mu sync.Mutex
	of map[int64]credit
}

type credit struct {
	left  int64
	until time.Time
}

// take uses credit for some starts, if there is enough.
func (c *credits) take(workflow, starts int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	have, ok := c.of[workflow]
	if !ok || have.left < starts || time.Now().After(have.until) {
		return false
	}
	have.left -= starts
	c.of[workflow] = have
	return true
}

func (c *credits) grant(workflow int64, room runRoom) {
	left := int64(math.MaxInt64)
	if room.capacity > 0 {
		left = max(room.capacity-room.depth, 0) / creditPart
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[int64]credit{}
	}
	c.of[workflow] = credit{left, time.Now().Add(creditFor)}
}

func (c *credits) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of = nil
}

// askRooms queues the question how many runs there are, of workflows of which this process has not the
// credit to start so many.
func (d *runDesk) askRooms(list []*store.RunStart) {
	wanted := map[int64]int64{}
	for _, st := range list {
		wanted[d.s.workflowID(st.Workflow)]++
	}
	var ask []int32
	for workflow, n := range wanted {
		if workflow != 0 && !d.s.runs.credits.take(workflow, n) {
			ask = append(ask, int32(workflow))
		}
	}
	if len(ask) == 0 {
		return
	}
	d.ask(sqlRunRooms, func(read scan) error {
		var workflow int64
		var room runRoom
		if err := read(&workflow, &room.capacity, &room.depth); err != nil {
			return err
		}
		if d.rooms == nil {
			d.rooms = map[int64]*runRoom{}
		}
		d.rooms[workflow] = &room
		d.s.runs.credits.grant(workflow, room)
		return nil
	}, ask)
}

// refuseFull says that there are as many unfinished runs of a workflow as there may be.
func (d *runDesk) refuseFull(list []*store.RunStart) error {
	if len(d.rooms) == 0 {
		return nil
	}
	wanted := map[runName]bool{}
	count := map[int64]int64{}
	for _, st := range list {
		name := runName{d.s.workflowID(st.Workflow), st.ID}
		room := d.rooms[name.workflow]
		if room == nil || room.capacity == 0 || d.starts.known[name] != nil || wanted[name] {
			continue
		}
		wanted[name] = true
		if count[name.workflow]++; room.depth+count[name.workflow] > room.capacity {
			return &store.FullError{Queue: st.Workflow, Depth: int(room.depth), Capacity: int(room.capacity), Runs: true}
		}
	}
	return nil
}

// limitRuns queues making the bounds of workflows known.
func limitRuns(t *tx, limits []store.RunLimit) {
	if len(limits) == 0 {
		return
	}
	limits = slices.Clone(limits)
	slices.SortFunc(limits, func(a, b store.RunLimit) int { return strings.Compare(a.Workflow, b.Workflow) })
	var names []string
	var most []int64
	for _, l := range limits {
		names, most = append(names, l.Workflow), append(most, int64(max(l.Max, 0)))
	}
	t.do(sqlNewWorkflows, names)
	t.do(sqlLimitRuns, names, most)
}
