package sqlite

import (
	"fmt"
	"slices"

	"zombiezen.com/go/sqlite"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/batchrow"
)

// teller tells what queues did with messages. It lives as long as one read
// transaction and remembers what several messages ask for: the queues of a
// topic and their open batches.
type teller struct {
	c      *conn
	queues map[int64][]*queueView // by topic
}

// queueView is a queue as far as a message's story needs it.
type queueView struct {
	id       int64
	name     string
	startPos int64
	first    int64 // the oldest batch kept
	newest   int64 // the newest batch
	cursor   int64 // its high
	open     []batchView
	last     batchView // the batch found last: neighbours are asked for together
}

// batchView is a batch with its manifest read.
type batchView struct {
	id        int64
	owner     int64
	claimedUs int64
	positions []int64
	settled   batchrow.Bits
	times     []byte
	owners    []byte
}

func newTeller(c *conn) *teller { return &teller{c: c, queues: map[int64][]*queueView{}} }

// find gives the index of a position in the batch.
func (b *batchView) find(pos int64) (int, bool) { return slices.BinarySearch(b.positions, pos) }

// leases reports whether the batch holds the position unsettled.
func (b *batchView) leases(pos int64) bool {
	i, ok := b.find(pos)
	return ok && !b.settled.Has(i)
}

// unsettled gives the positions that are not settled, ascending.
func (b *batchView) unsettled() []int64 {
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
func (b *batchView) run(index int, story *store.QueueStory) error {
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

const (
	queuesOfTopic = `select id, name, start_pos from weir_queues where topic = ?1 order by name`
	batchEnds     = `select (select id from weir_batches where id > ?1 and id < ?2 order by id limit 1), id, high
		from weir_batches where id >= ?1 and id < ?2 order by id desc limit 1`
	batchFields = ` id, owner, claimed_us, manifest, bits, times, owners `
	// Without the hint the planner may walk all batches of the queue by rowid.
	openBatches = `select` + batchFields + `from weir_batches indexed by weir_batches_open
		where state < 2 and id >= ?1 and id < ?2 order by id`
)

func (t *teller) of(topic int64) ([]*queueView, error) {
	if known, ok := t.queues[topic]; ok {
		return known, nil
	}
	var out []*queueView
	err := t.c.query(queuesOfTopic, []any{topic}, func(s *sqlite.Stmt) error {
		out = append(out, &queueView{id: s.ColumnInt64(0), name: s.ColumnText(1), startPos: s.ColumnInt64(2)})
		return nil
	})
	for _, q := range out {
		if err == nil {
			err = t.look(q)
		}
	}
	t.queues[topic] = out
	return out, err
}

func (t *teller) look(q *queueView) error {
	after, below := idRange(q.id)
	err := t.c.query(batchEnds, []any{after, below}, func(s *sqlite.Stmt) error {
		q.first, q.newest, q.cursor = s.ColumnInt64(0), s.ColumnInt64(1), s.ColumnInt64(2)
		return nil
	})
	if err != nil {
		return err
	}
	return t.c.query(openBatches, []any{after, below}, func(s *sqlite.Stmt) error {
		b, err := viewBatch(s)
		q.open = append(q.open, b)
		return err
	})
}

func viewBatch(s *sqlite.Stmt) (batchView, error) {
	b := batchView{id: s.ColumnInt64(0), owner: s.ColumnInt64(1), claimedUs: s.ColumnInt64(2),
		settled: blob(s, 4), times: blob(s, 5), owners: blob(s, 6)}
	var err error
	if b.positions, err = batchrow.DecodeManifest(nil, blob(s, 3)); err != nil {
		err = fmt.Errorf("batch %d of queue %d: %w", numberOf(b.id), ownerOf(b.id), err)
	}
	return b, err
}

// tell gives the story of a message in each queue of its topic.
func (t *teller) tell(pos int64) ([]store.QueueStory, error) {
	queues, err := t.of(ownerOf(pos))
	if err != nil {
		return nil, err
	}
	var out []store.QueueStory
	for _, q := range queues {
		story, err := t.tellQueue(q, pos)
		if err != nil {
			return nil, err
		}
		out = append(out, story)
	}
	return out, nil
}

const (
	stateDiscarded = "discarded"

	deadState     = `select reason from weir_dead where queue = ?1 and pos = ?2`
	deferredState = `select kind, due_us, reason from weir_deferred where queue = ?1 and pos = ?2`
)

func (t *teller) tellQueue(q *queueView, pos int64) (store.QueueStory, error) {
	story := store.QueueStory{Queue: q.name}
	if pos <= q.startPos {
		story.State = "before"
		return story, nil
	}
	err := t.c.query(deadState, []any{q.id, pos}, func(s *sqlite.Stmt) error {
		story.State, story.Reason = "dead", s.ColumnText(0)
		return nil
	})
	if err != nil {
		return story, err
	}
	err = t.c.query(deferredState, []any{q.id, pos}, func(s *sqlite.Stmt) error {
		story.State, story.Due, story.Reason = "deferred", moment(s, 1), s.ColumnText(2)
		if s.ColumnInt64(0) == kindBehind {
			story.State = "behind"
		}
		return nil
	})
	if err != nil {
		return story, err
	}
	if story.Attempts, err = attemptsOf(t.c, q.id, pos); err != nil {
		return story, err
	}
	return story, t.claims(q, pos, &story)
}

// claims completes a story by what the batches say.
func (t *teller) claims(q *queueView, pos int64, story *store.QueueStory) error {
	if story.State == "" && pos > q.cursor {
		story.State = "waiting"
		return nil
	}
	var now batchView // the open batch that leases the message
	for _, b := range q.open {
		if b.leases(pos) {
			now = b
		}
	}
	last := len(story.Attempts) - 1
	switch {
	case story.State != "":
	case now.id != 0:
		story.State = "leased"
	case last >= 0 && story.Attempts[last].Verdict == stateDiscarded:
		story.State = stateDiscarded
	default:
		story.State = "done"
	}
	// What is deferred or dead without an attempt was put there by a claim, never leased.
	claimed := last >= 0 || story.State == "leased" || story.State == "done" || story.State == stateDiscarded
	first, err := t.firstClaim(q, pos, claimed)
	if err != nil {
		return err
	}
	if first.id == 0 {
		first = now
	}
	if first.id != 0 {
		story.Batch, story.Process, story.ClaimedAt = numberOf(first.id), first.owner, at(first.claimedUs)
	}
	if last >= 0 {
		a := story.Attempts[last]
		story.Started, story.Took, story.Process = a.Started, a.Took, a.Process
	} else if i, ok := first.find(pos); ok {
		err = first.run(i, story)
	}
	return err
}

const (
	batchAtOrAfter = `select id, high from weir_batches where id >= ?1 and id <= ?2 order by id limit 1`
	batchesFrom    = `select` + batchFields + `from weir_batches where id >= ?1 and id <= ?2 order by id limit ?3`

	// laterClaims is how many batches are read to find one that was claimed late:
	// beyond it a story does without its batch.
	laterClaims = 256
)

// firstClaim finds the batch that first leased a message. The cursor passed the
// message in the first batch with high >= pos, and high never falls, so that is
// a binary search. What was deferred just then (a delay, a follower) was leased
// by a later batch; late says to look for it.
func (t *teller) firstClaim(q *queueView, pos int64, late bool) (batchView, error) {
	if _, ok := q.last.find(pos); ok {
		return q.last, nil
	}
	if pos > q.cursor || q.newest == 0 {
		return batchView{}, nil
	}
	// Retention leaves gaps between the batches: found is one that is there, and
	// lo to hi are the numbers below it where another may be.
	found, lo, hi := q.newest, q.first, q.newest-1
	for lo <= hi {
		mid := lo + (hi-lo)/2
		var id, high int64
		err := t.c.query(batchAtOrAfter, []any{mid, hi}, func(s *sqlite.Stmt) error {
			id, high = s.ColumnInt64(0), s.ColumnInt64(1)
			return nil
		})
		if err != nil {
			return batchView{}, err
		}
		switch {
		case id == 0:
			hi = mid - 1
		case high >= pos:
			found, hi = id, mid-1
		default:
			lo = id + 1
		}
	}
	lo = found
	max := 1
	if late {
		max = laterClaims
	}
	for ; max > 0 && lo <= q.newest; max-- {
		b, err := t.batch(lo, q.newest)
		if err != nil || b.id == 0 {
			return batchView{}, err
		}
		if _, ok := b.find(pos); ok {
			q.last = b
			return b, nil
		}
		lo = b.id + 1
	}
	return batchView{}, nil
}

func (t *teller) batch(from, to int64) (b batchView, err error) {
	err = t.c.query(batchesFrom, []any{from, to, 1}, func(s *sqlite.Stmt) error {
		var err error
		b, err = viewBatch(s)
		return err
	})
	return b, err
}

const selectAttempts = `select attempt, started_us, took_us, verdict, reason, stack, process, due_us
	from weir_attempts where queue = ?1 and pos = ?2 order by n desc limit ?3`

// attemptsOf lists the recorded attempts of a message in a queue, first to last;
// of very many the last.
func attemptsOf(c *conn, queue, pos int64) ([]store.Attempt, error) {
	var out []store.Attempt
	err := c.query(selectAttempts, []any{queue, pos, store.MaxList}, func(s *sqlite.Stmt) error {
		out = append(out, store.Attempt{
			No: s.ColumnInt(0), Started: moment(s, 1), Took: took(s.ColumnInt64(2)),
			Verdict: s.ColumnText(3), Reason: s.ColumnText(4), Stack: s.ColumnText(5),
			Process: s.ColumnInt64(6), Due: moment(s, 7),
		})
		return nil
	})
	slices.Reverse(out)
	return out, err
}
