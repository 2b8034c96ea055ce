package postgres

import "time"

// Lanes are shared among the processes that claim from a queue, by the claims themselves,
// under the queue's lock:
//
//   - A lane that nobody alive has is taken by who has less than its share, unless open
//     batches still hold messages of it: those are taken over first, with their lanes.
//   - Who has more than its share claims nothing more of the lanes beyond it, and gives each
//     up once its own batches with it are closed. One message of a lane that is worked for long would
//     so hold up all other keys of it: where that takes longer than a while it claims on for as long, and
//     tries again, for twice as long each time.
//   - Abandoned batches are taken over in order. With one go all lanes of it, and of all
//     abandoned batches that share lanes with it, and so on: so their messages, and what
//     comes after them, stay with one process.
//
// So at any time the open batches with messages of a lane are of one process that is
// alive, or abandoned.

// laneBook is who has which lanes of a queue.
type laneBook struct {
	ours, free int64 // keyed lanes, as masks; those of others alive are in neither
	workers    int
	known      bool // this process is among them

	mask    int64 // what this claim may take
	changed bool  // the transaction changes the lanes
}

const (
	sqlLanes = `select l.lanes, coalesce(l.owner, 0), coalesce(p.id is null or p.ended_us is not null or p.lost_us is not null, true)
		from (select owner, bit_or(1 << lane) as lanes from weir.lanes where queue = $1 group by owner) l left join weir.processes p on p.id = l.owner`
	sqlWorkers = `select w.process from weir.workers w join weir.processes p on p.id = w.process
		where w.queue = $1 and p.ended_us is null and p.lost_us is null`
	sqlNewWorker = `insert into weir.workers (queue, process) values ($1, $2) on conflict do nothing`
	sqlTakeLanes = `update weir.lanes set owner = $2 where queue = $1 and ($3::int >> lane) & 1 = 1`
	sqlGiveLanes = `update weir.lanes set owner = null where queue = $1 and owner = $2 and ($3::int >> lane) & 1 = 1`
)

// ask queues the reading.
func (b *laneBook) ask(t *tx, queue int64) {
	t.ask(sqlLanes, func(read scan) error {
		var lanes, owner int64
		var gone bool
		err := read(&lanes, &owner, &gone)
		switch {
		case owner == t.process:
			b.ours |= lanes
		case gone:
			b.free |= lanes
		}
		return err
	}, queue)
	t.ask(sqlWorkers, func(read scan) error {
		var process int64
		err := read(&process)
		b.known = b.known || process == t.process
		b.workers++
		return err
	}, queue)
}

// share takes and gives lanes, and says what the claim may take.
func (b *laneBook) share(k *claim) {
	if !b.known {
		b.workers++
		k.t.do(sqlNewWorker, k.queueID(), k.process)
		b.changed = true
	}
	held, others := int64(0), int64(0) // lanes in open batches of ours, and of others
	for _, o := range k.open {
		if o.owner == k.process && o.state == batchLeased {
			held |= o.lanes
		} else {
			others |= o.lanes
		}
	}
	most := (keyedLanes + b.workers - 1) / b.workers
	drains := k.state.drains
	k.state.drains = [keyedLanes]drain{} // but for those that still do
	taken, given, mask, count := int64(0), int64(0), int64(0), 0
	for lane := range keyedLanes {
		bit := int64(1) << lane
		switch {
		case b.ours&bit != 0 && count < most:
			count++
			mask |= bit
		case b.ours&bit != 0 && held&bit == 0:
			given |= bit
		case b.ours&bit != 0:
			d := drains[lane].at(k.t.now)
			if k.state.drains[lane] = d; !d.stops(k.t.now) {
				mask |= bit
			}
		}
	}
	for lane := range keyedLanes {
		if bit := int64(1) << lane; b.free&^others&bit != 0 && count < most {
			count++
			taken |= bit
		}
	}
	if given != 0 {
		k.t.do(sqlGiveLanes, k.queueID(), k.process, given)
		b.ours &^= given
		b.changed = true
	}
	b.take(k, taken)
	b.mask = mask | taken | maskFree
}

// drain is the attempt of a process to be rid of a lane: for a time nothing more is claimed of it, and for as long
// something is. Times are in µs.
type drain struct {
	since, window int64 // zero: it has not begun
}

const (
	drainMin  = int64(5 * time.Second / time.Microsecond)
	drainMost = int64(time.Minute / time.Microsecond)
)

// at is the drain as it is now: it begins, or begins again for longer.
func (d drain) at(now int64) drain {
	switch {
	case d.window == 0 || now < d.since: // or the clock was set back
		return drain{since: now, window: drainMin}
	case now-d.since >= 2*d.window:
		return drain{since: now, window: min(2*d.window, drainMost)}
	}
	return d
}

// stops reports whether nothing is to be claimed of the lane now.
func (d drain) stops(now int64) bool { return now-d.since < d.window }

// take makes lanes ours.
func (b *laneBook) take(k *claim, lanes int64) {
	if lanes == 0 {
		return
	}
	k.t.do(sqlTakeLanes, k.queueID(), k.process, lanes)
	b.ours |= lanes
	b.free &^= lanes
	b.changed = true
}

// abandoned is the first open batch that is to be taken over by this process, nil for none.
// Its lanes become ours.
func (k *claim) abandoned() *openBatch {
	for i := range k.open {
		b := &k.open[i]
		if !b.abandoned() {
			continue
		}
		lanes := k.tied(b.lanes & maskKeyed)
		if lanes&^(k.lanes.ours|k.lanes.free) != 0 {
			continue // with lanes of another process: it is its to take over
		}
		k.lanes.take(k, lanes&^k.lanes.ours)
		return b
	}
	return nil
}

// tied is the lanes of all abandoned batches that are tied to those of one.
func (k *claim) tied(lanes int64) int64 {
	for {
		before := lanes
		for _, b := range k.open {
			if keyed := b.lanes & maskKeyed; b.abandoned() && keyed&lanes != 0 {
				lanes |= keyed
			}
		}
		if lanes == before {
			return lanes
		}
	}
}
