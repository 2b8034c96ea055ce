package postgres

import (
	"fmt"
	"slices"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/batchrow"
)

// What queues did with messages. A story is put together from the queue's batches, whose
// manifests say what they held, and from the tables of exceptions.

// delivered is a message as one queue sees it.
type delivered struct{ queue, pos int64 }

// seenBatch is a batch with its manifest read.
type seenBatch struct {
	queue, no int64
	owner     int64
	claimedUs int64
	positions []int64
	settled   batchrow.Bits
	times     []byte
	owners    []byte
}

func (b *seenBatch) find(pos int64) (int, bool) { return slices.BinarySearch(b.positions, pos) }

// leases reports whether the batch holds the position unsettled.
func (b *seenBatch) leases(pos int64) bool {
	i, ok := b.find(pos)
	return ok && !b.settled.Has(i)
}

// unsettled gives the positions that are not settled, ascending.
func (b *seenBatch) unsettled() []int64 {
	var out []int64
	for i, pos := range b.positions {
		if !b.settled.Has(i) {
			out = append(out, pos)
		}
	}
	return out
}

// run completes a story by when the delivery started, how long it took, and in
// which process: not the batch's owner, if that has taken it over since.
func (b *seenBatch) run(index int, story *store.QueueStory) error {
	found := -1
	err := batchrow.DecodeTimes(b.times, func(r batchrow.Ran, chunk int) {
		if r.Index == index {
			story.Started, story.Took, found = at(b.claimedUs+r.Start), took(r.Took), chunk
		}
	})
	if err != nil || found < 0 {
		return err
	}
	story.Process, err = batchrow.OwnerAt(b.owners, found, b.owner)
	return err
}

const batchColumns = ` b.queue, b.no, b.owner, b.claimed_us, b.manifest, b.bits, b.times, b.owners `

// seeBatch reads a row of batchColumns.
func seeBatch(read scan) (*seenBatch, error) {
	b := &seenBatch{}
	var manifest, settled []byte
	if err := read(&b.queue, &b.no, &b.owner, &b.claimedUs, &manifest, &settled, &b.times, &b.owners); err != nil {
		return b, err
	}
	b.settled = settled
	var err error
	if b.positions, err = batchrow.DecodeManifest(nil, manifest); err != nil {
		err = fmt.Errorf("batch %d of queue %d: %w", b.no, b.queue, err)
	}
	return b, err
}

const (
	// unclaimed says of a message m whether a queue's newest batch b has yet to claim it:
	// the lanes' place is a position and a snapshot, see cursor.go.
	unclaimed = ` exists (select 1 from unnest(b.masks, b.highs, b.seens, b.targets, b.uptos) as e(mask, high, seen, target, upto)
		where (e.mask >> m.lane) & 1 = 1 and (m.seq > (e.high & 1099511627775) or not pg_visible_in_snapshot(m.xid, e.seen)
			and not (e.target is not null and pg_visible_in_snapshot(m.xid, e.target) and m.seq <= (e.upto & 1099511627775)))) `
	newestBatchOf = ` cross join lateral (select * from weir.batches where queue = q.id order by no desc limit 1) b `

	askPlaces = `select q.id, q.name, p.pos, p.pos <= q.start_pos and pg_visible_in_snapshot(m.xid, q.start_seen),` + unclaimed + `
		from unnest($1::bigint[]) as p(pos)
		cross join lateral (
			select seq, xid, lane from weir.messages where topic = (p.pos >> 40)::int and seq = p.pos & 1099511627775
			union all select seq, xid, lane from weir.kept where topic = (p.pos >> 40)::int and seq = p.pos & 1099511627775
			limit 1) m
		join weir.queues q on q.topic = (p.pos >> 40)::int` + newestBatchOf + `order by q.name collate "C"`
	askDeadOf     = `select queue, pos, reason from weir.dead where queue = any($1) and pos = any($2)`
	askDeferredOf = `select queue, pos, kind, due_us, coalesce(reason, '') from weir.deferred where queue = any($1) and pos = any($2)`
	askAttemptsOf = `select a.queue, a.pos, a.attempt, a.started_us, a.took_us, a.verdict, coalesce(a.reason, ''), coalesce(a.stack, ''), a.process, a.due_us
		from unnest($1::int[]) as q(id) cross join unnest($2::bigint[]) as p(pos)
		cross join lateral (select * from weir.attempts where queue = q.id and pos = p.pos order by n desc limit $3) a
		order by a.queue, a.pos, a.n`
	askOpenBatches = `select` + batchColumns + `from weir.batches b where b.queue = any($1) and b.state < 2 order by b.queue, b.no`
	// With an expression for the queue: no index but that of the spans will do.
	askFirstClaims = `select distinct on (b.queue, b.no)` + batchColumns + `from unnest($2::bigint[]) as p(pos)
		join weir.batches b on b.span @> p.pos and b.queue + 0 = any($1::int[]) order by b.queue, b.no`
)

// teller tells what queues did with some messages.
type teller struct {
	t        *tx
	queues   []int64
	places   []standing
	states   map[delivered]*store.QueueStory // as the tables of exceptions tell them
	attempts map[delivered][]store.Attempt
	open     map[int64][]*seenBatch // by queue
	claims   map[int64][]*seenBatch // by queue, oldest first
}

// standing is where a message stands in a queue.
type standing struct {
	delivered
	name            string
	before, waiting bool
}

const (
	stateDiscarded = "discarded"

	kindOfFollower = 4 // of deferred: behind another of its key
	fewAttempts    = 50
)

// tell gives the stories of messages that are there, by position: one for each of its queues.
func tell(t *tx, positions []int64) (map[int64][]store.QueueStory, error) {
	w := &teller{t: t, states: map[delivered]*store.QueueStory{}, attempts: map[delivered][]store.Attempt{},
		open: map[int64][]*seenBatch{}, claims: map[int64][]*seenBatch{}}
	told := make(map[int64][]store.QueueStory, len(positions))
	if err := w.find(positions); err != nil || len(w.queues) == 0 {
		return told, err
	}
	w.ask(positions)
	if err := t.flush(); err != nil {
		return nil, err
	}
	for _, p := range w.places {
		story, err := w.story(p)
		if err != nil {
			return nil, err
		}
		told[p.pos] = append(told[p.pos], story)
	}
	return told, nil
}

// find reads which queues the messages have.
func (w *teller) find(positions []int64) error {
	return w.t.get(askPlaces, func(read scan) error {
		var p standing
		err := read(&p.queue, &p.name, &p.pos, &p.before, &p.waiting)
		w.places = append(w.places, p)
		if !slices.Contains(w.queues, p.queue) {
			w.queues = append(w.queues, p.queue)
		}
		return err
	}, positions)
}

// ask asks for all that the tables and batches say.
func (w *teller) ask(positions []int64) {
	w.t.ask(askDeadOf, func(read scan) error {
		var d delivered
		story := &store.QueueStory{State: "dead"}
		err := read(&d.queue, &d.pos, &story.Reason)
		w.states[d] = story
		return err
	}, w.queues, positions)
	w.t.ask(askDeferredOf, func(read scan) error {
		var d delivered
		var kind int
		var due *int64
		story := &store.QueueStory{State: "deferred"}
		err := read(&d.queue, &d.pos, &kind, &due, &story.Reason)
		if story.Due = moment(due); kind == kindOfFollower {
			story.State = "behind"
		}
		w.states[d] = story
		return err
	}, w.queues, positions)
	each := fewAttempts
	if len(positions) == 1 {
		each = store.MaxList
	}
	w.t.ask(askAttemptsOf, func(read scan) error {
		var d delivered
		a, err := seeAttempt(read, &d.queue, &d.pos)
		w.attempts[d] = append(w.attempts[d], a)
		return err
	}, w.queues, positions, each)
	into := func(batches map[int64][]*seenBatch) func(scan) error {
		return func(read scan) error {
			b, err := seeBatch(read)
			batches[b.queue] = append(batches[b.queue], b)
			return err
		}
	}
	w.t.ask(askOpenBatches, into(w.open), w.queues)
	w.t.ask(askFirstClaims, into(w.claims), w.queues, positions)
}

// seeAttempt reads an attempt behind the columns that say whose it is.
func seeAttempt(read scan, whose ...any) (store.Attempt, error) {
	var a store.Attempt
	var started, due *int64
	var us int64
	err := read(append(whose, &a.No, &started, &us, &a.Verdict, &a.Reason, &a.Stack, &a.Process, &due)...)
	a.Started, a.Took, a.Due = moment(started), took(us), moment(due)
	return a, err
}

func (w *teller) story(p standing) (store.QueueStory, error) {
	story := store.QueueStory{Queue: p.name}
	if p.before {
		story.State = "before"
		return story, nil
	}
	if s := w.states[p.delivered]; s != nil {
		story = *s
		story.Queue = p.name
	}
	story.Attempts = w.attempts[p.delivered]
	if story.State == "" && p.waiting {
		story.State = "waiting"
		return story, nil
	}
	return story, w.claimed(p, &story)
}

// claimed completes a story by what the batches say.
func (w *teller) claimed(p standing, story *store.QueueStory) error {
	var now *seenBatch // the open batch that leases the message
	for _, b := range w.open[p.queue] {
		if b.leases(p.pos) {
			now = b
		}
	}
	last := len(story.Attempts) - 1
	switch {
	case story.State != "":
	case now != nil:
		story.State = "leased"
	case last >= 0 && story.Attempts[last].Verdict == stateDiscarded:
		story.State = stateDiscarded
	default:
		story.State = "done"
	}
	first, index := w.first(p)
	if first == nil {
		first = now
	}
	if first != nil {
		story.Batch, story.Process, story.ClaimedAt = first.no, first.owner, at(first.claimedUs)
	}
	if last >= 0 {
		a := story.Attempts[last]
		story.Started, story.Took, story.Process = a.Started, a.Took, a.Process
	} else if index >= 0 {
		return first.run(index, story)
	}
	return nil
}

// first is the batch that first leased a message, and where in it; retention may have
// deleted it.
func (w *teller) first(p standing) (*seenBatch, int) {
	for _, b := range w.claims[p.queue] {
		if i, ok := b.find(p.pos); ok {
			return b, i
		}
	}
	return nil, -1
}
