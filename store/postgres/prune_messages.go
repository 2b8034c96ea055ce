package postgres

import (
	"slices"
	"strconv"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/batchrow"
)

// subscriber is a queue as retention sees it.
type subscriber struct {
	id, topic int64
	parked    bool
}

const pruneQueues = `select id, topic, parked_us is not null from weir.queues order by id`

// subscribers reads the queues. The parked are kept from claiming: what they have not
// claimed by now may be deleted.
func (p *pruner) subscribers() error {
	row := func(read scan) error {
		var q subscriber
		err := read(&q.id, &q.topic, &q.parked)
		p.queues = append(p.queues, q)
		return err
	}
	if err := p.t.get(pruneQueues, row); err != nil {
		return err
	}
	locked := false
	for _, q := range p.queues {
		if q.parked {
			p.t.do(sqlQueueLock, p.s.queueLock(q.id))
			locked = true
		}
	}
	if !locked {
		return nil
	}
	p.queues = nil // one of them may have been resumed, and have claimed, before it was locked
	return p.t.get(pruneQueues, row)
}

// of gives the queues of topics, and which of them are parked.
func (p *pruner) of(topic int64) (queues, parked []int64) {
	for _, q := range p.queues {
		if q.topic == topic {
			queues = append(queues, q.id)
			if q.parked {
				parked = append(parked, q.id)
			}
		}
	}
	return queues, parked
}

const (
	// pruneCursors is the newest batches of a topic's queues, read once for all messages.
	pruneCursors = `with c as materialized (select q.id, q.parked_us is not null as parked, b.* from weir.queues q` + newestBatchOf + `where q.topic = $1)
		`
	pruneFront = pruneCursors + `select m.seq, m.sent_us, exists (select 1 from c b where not b.parked and` + unclaimed + `)
		from (select seq, sent_us, xid, lane from weir.messages where topic = $1 and seq > $2 order by seq limit $3) m order by m.seq`
	pruneGaps = pruneCursors + `update weir.queues q set base = q.base + g.n, gaps = q.gaps + g.n
		from (select b.id, count(*) as n from c b
			join weir.messages m on m.topic = $1 and m.seq >= $3 and m.seq <= $4 and m.seq = any($2)
			where b.parked and` + unclaimed + `group by b.id) g
		where q.id = g.id and g.n > 0`
	keptColumns = ` topic, seq, xid, sent_us, version, lane, key, due_us, cause, correlation, origin, headers, body `
	pruneCopy   = `insert into weir.kept (` + keptColumns + `) select` + keptColumns + `from weir.messages
		where topic = $1 and seq >= $3 and seq <= $4 and seq = any($2) on conflict (topic, seq) do nothing`
	pruneMessages = `delete from weir.messages where topic = $1 and seq >= $3 and seq <= $4 and seq = any($2)`
)

// messages deletes the front of each topic: what is old and what every queue that
// is not parked has claimed. Without a queue an event's messages go by age; a
// command's wait for their owner however long that takes.
func (p *pruner) messages() error {
	type topic struct {
		id   int64
		kind store.Kind
	}
	var topics []topic
	err := p.t.get(askTopics, func(read scan) error {
		var t topic
		var name string
		err := read(&t.id, &name, &t.kind)
		topics = append(topics, t)
		return err
	})
	if err != nil {
		return err
	}
	from, err := p.partitions()
	if err != nil {
		return err
	}
	slices.SortFunc(topics, func(a, b topic) int { return int(a.id - b.id) })
	for _, t := range topics {
		if queues, _ := p.of(t.id); len(queues) == 0 && t.kind == store.KindCommand {
			continue
		}
		if err := p.messagesOf(t.id, from); err != nil {
			return err
		}
	}
	return nil
}

// messagesOf deletes rows of a topic, at most what is left, from a seq on.
func (p *pruner) messagesOf(topic, from int64) error {
	var front []int64 // seqs that nobody is to claim
	olds, over := 0, false
	after, looked := from-1, 0
	for size := chunkFirst; !over && len(front) <= p.left && looked < store.MaxPrune+chunkMost; size = chunkMost {
		rows := 0
		err := p.t.get(pruneFront, func(read scan) error {
			var seq, sent int64
			var waits bool
			if err := read(&seq, &sent, &waits); err != nil {
				return err
			}
			rows++
			after = seq
			a := p.age(sent)
			if over = over || a == young; over || waits {
				return nil
			}
			if front = append(front, seq); a == old {
				olds = len(front)
			}
			return nil
		}, topic, after, size)
		if err != nil {
			return err
		}
		over = over || rows < size
		looked += rows
	}
	if olds > p.left {
		olds, p.pruned.More = p.left, true
	}
	if olds <= 0 {
		return nil
	}
	return p.drop(topic, front[:olds])
}

// drop deletes messages of a topic, whose seqs ascend.
func (p *pruner) drop(topic int64, seqs []int64) error {
	positions := make([]int64, len(seqs))
	for i, seq := range seqs {
		positions[i] = posOf(topic, seq)
	}
	queues, parked := p.of(topic)
	needed, err := p.needed(queues, positions)
	if err != nil {
		return err
	}
	if err := p.told(needed, pruneTold, topic, seqs, seqs[0], seqs[len(seqs)-1]); err != nil {
		return err
	}
	done, err := p.history(queues, positions, needed)
	if err != nil {
		return err
	}
	if !done { // many attempts: the next step comes back for the messages
		p.pruned.More = true
		return nil
	}
	if len(seqs) > p.left {
		seqs, p.pruned.More = seqs[:p.left], true
	}
	if len(seqs) == 0 {
		return nil
	}
	first, last := seqs[0], seqs[len(seqs)-1]
	var copied []int64
	for _, seq := range seqs {
		if needed[posOf(topic, seq)] {
			copied = append(copied, seq)
		}
	}
	if len(copied) > 0 {
		p.t.do(pruneCopy, topic, copied, first, last)
	}
	if len(parked) > 0 {
		p.t.do(pruneGaps, topic, seqs, first, last)
	}
	var n int64
	p.t.tell(pruneMessages, &n, topic, seqs, first, last)
	if err := p.t.flush(); err != nil {
		return err
	}
	p.pruned.Messages += n
	p.left -= int(n)
	return nil
}

// pruneNeeded is one statement, so that it sees one committed state: what is claimed goes
// from the open batches to the deferred and the dead and back, and is always in one of them.
const pruneNeeded = `select pos, null::bytea, null::bytea from weir.deferred where queue = any($1) and pos >= $3 and pos <= $4 and pos = any($2)
	union all select pos, null, null from weir.dead where queue = any($1) and pos >= $3 and pos <= $4 and pos = any($2)
	union all select pos, null, null from weir.mail where pos >= $3 and pos <= $4 and pos = any($2)
	union all select pos, null, null from (select topic::bigint << 40 | seq as pos from weir.arrived) a where pos >= $3 and pos <= $4 and pos = any($2)
	union all select 0, manifest, bits from weir.batches where queue = any($1) and state < 2`

const (
	// pruneTellsRun: m is a signal to a run that has not ended, of whatever workflow, which may wait for it yet. A scalar,
	// and an array, so that it stays a look into the index of each workflow's runs, also with young statistics.
	pruneTellsRun = ` (select 1 from weir.runs r where r.workflow = any(array(select id from weir.workflows)) and r.id = m.key and r.wake is not null
		and r.started_us <= m.sent_us limit 1) is not null`
	pruneTold = `select m.topic::bigint << 40 | m.seq from weir.messages m
		where m.topic = $1 and m.seq >= $3 and m.seq <= $4 and m.seq = any($2)
		and exists (select 1 from weir.topics t where t.id = $1 and t.kind = 4) and` + pruneTellsRun
	pruneKeptTold = `select m.topic::bigint << 40 | m.seq from unnest($1::bigint[]) as p(pos)
		join weir.kept m on m.topic = (p.pos >> 40)::int and m.seq = p.pos & 1099511627775
		join weir.topics t on t.id = m.topic and t.kind = 4 where` + pruneTellsRun
)

// told adds to the needed what a query gives of signals to runs that have not ended.
func (p *pruner) told(needed map[int64]bool, query string, args ...any) error {
	return p.t.get(query, func(read scan) error {
		var pos int64
		err := read(&pos)
		needed[pos] = true
		return err
	}, args...)
}

// needed gives those of the positions (ascending) that a queue, or a run's unread mail, still refers to.
func (p *pruner) needed(queues, positions []int64) (map[int64]bool, error) {
	needed := map[int64]bool{}
	err := p.t.get(pruneNeeded, func(read scan) error {
		var pos int64
		var b seenBatch
		var manifest, settled []byte
		if err := read(&pos, &manifest, &settled); err != nil {
			return err
		}
		if pos != 0 {
			needed[pos] = true
			return nil
		}
		var err error
		b.settled = settled
		b.positions, err = batchrow.DecodeManifest(nil, manifest)
		for _, pos := range b.unsettled() {
			if _, ok := slices.BinarySearch(positions, pos); ok {
				needed[pos] = true
			}
		}
		return err
	}, queues, positions, positions[0], positions[len(positions)-1])
	return needed, err
}

const (
	pruneAttempts = `delete from weir.attempts a using (
			select queue, pos, n from weir.attempts where queue = any($1) and pos >= $3 and pos <= $4 and pos = any($2) order by queue, pos, n limit $5) o
		where a.queue = o.queue and a.pos = o.pos and a.n = o.n`
	pruneEdits = `delete from weir.edits e using (
			select queue, pos from weir.edits where queue = any($1) and pos >= $3 and pos <= $4 and pos = any($2) order by queue, pos limit $5) o
		where e.queue = o.queue and e.pos = o.pos`
	pruneStarts = `delete from weir.starts s using (
			select queue, pos from weir.starts where queue = any($1) and pos >= $3 and pos <= $4 and pos = any($2) order by queue, pos limit $5) o
		where s.queue = o.queue and s.pos = o.pos`
)

// history deletes attempts, edits and starts of messages, but for those needed. It
// reports whether it got through.
func (p *pruner) history(queues, positions []int64, needed map[int64]bool) (bool, error) {
	gone := slices.DeleteFunc(slices.Clone(positions), func(pos int64) bool { return needed[pos] })
	if len(gone) == 0 || len(queues) == 0 {
		return true, nil
	}
	for _, table := range [...]string{pruneAttempts, pruneEdits, pruneStarts} {
		if p.left <= 0 {
			return false, nil
		}
		limit := p.left
		var n int64
		p.t.tell(table, &n, queues, gone, gone[0], gone[len(gone)-1], limit)
		if err := p.t.flush(); err != nil {
			return false, err
		}
		p.other(n)
		if n == int64(limit) {
			return false, nil
		}
	}
	return true, nil
}

const (
	pruneKeptTurn = `select v from weir.meta where k = $1`
	pruneKeptFrom = `select topic::bigint << 40 | seq, sent_us from weir.kept
		where (topic, seq) > (($1::bigint >> 40)::int, $1::bigint & 1099511627775) order by topic, seq limit $2`
	pruneKept = `delete from weir.kept where topic = ($1::bigint >> 40)::int and seq = $1::bigint & 1099511627775`

	// keptLooked is how many rows of kept a step looks at. They stay for as long as
	// somebody's dead letter does, so steps take turns through them.
	keptLooked = 500
)

// turn is where a sweep goes on; 0 at its beginning.
func (p *pruner) turn(name string) (turn int64, err error) {
	err = p.t.get(pruneKeptTurn, func(read scan) error {
		var text string
		if err := read(&text); err != nil {
			return err
		}
		var err error
		turn, err = strconv.ParseInt(text, 10, 64)
		return err
	}, name)
	return turn, err
}

func (p *pruner) putTurn(name string, turn int64) {
	p.t.do(sqlSetMeta, name, strconv.FormatInt(turn, 10))
}

// kept deletes what was copied aside and is no longer needed.
func (p *pruner) kept() error {
	if p.full() {
		return nil
	}
	turn, err := p.turn("kept_turn")
	if err != nil {
		return err
	}
	limit := min(keptLooked, p.left)
	looked, last := 0, int64(0)
	var olds []int64
	err = p.t.get(pruneKeptFrom, func(read scan) error {
		var pos, sent int64
		err := read(&pos, &sent)
		looked, last = looked+1, pos
		if p.age(sent) != young {
			olds = append(olds, pos)
		}
		return err
	}, turn, limit)
	if err != nil {
		return err
	}
	before := p.left
	stopped, err := p.dropKept(olds)
	if err != nil {
		return err
	}
	next := int64(0) // the turn is over
	switch {
	case stopped != 0: // its history is gone, or some of it: the next step goes on here
		p.pruned.More, next = true, stopped-1
	case looked == limit:
		next = last
		p.pruned.More = p.pruned.More || p.left < before
	}
	if next != turn {
		p.putTurn("kept_turn", next)
	}
	return p.t.flush()
}

// dropKept deletes messages copied aside, with their history, unless they are needed.
// It gives the one at which it had to stop.
func (p *pruner) dropKept(positions []int64) (stopped int64, err error) {
	if len(positions) == 0 {
		return 0, nil
	}
	var all []int64
	for _, q := range p.queues {
		all = append(all, q.id)
	}
	needed, err := p.needed(all, positions)
	if err != nil {
		return 0, err
	}
	if err := p.told(needed, pruneKeptTold, positions); err != nil {
		return 0, err
	}
	for _, pos := range positions {
		if needed[pos] {
			continue
		}
		queues, _ := p.of(topicOf(pos))
		done, err := p.history(queues, []int64{pos}, nil)
		if err != nil || !done || p.left <= 0 {
			return pos, err
		}
		p.t.do(pruneKept, pos)
		p.other(1)
	}
	return 0, nil
}
