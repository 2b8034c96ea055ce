package postgres

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/weir-go/weir/store"
)

// claimState is what a process remembers of its claims from a queue, which stand in line. All of
// it are hints: what the last claim saw, under the queue's lock.
type claimState struct {
	sync.Mutex
	known atomic.Pointer[knownBatches]

	// What the next claim will find, if nobody else claims before it.
	cursor  cursor
	name    string // of the topic
	topic   int64
	onDead  store.OnDead
	guessed bool // the last claim found what had been expected

	mine bool // the cursor is as it was inserted with a batch of this process's
	// settled is the newest batch of the queue that this process has settled something of.
	settled atomic.Pointer[settledBatch]

	drains [keyedLanes]drain // of lanes beyond this process's share
}

// settledBatch is a batch, and the first transaction that settled something of it.
type settledBatch struct {
	no  int64
	xid string
}

// beyond is cursor.beyond as the newest batch has it by now.
func (c *claimState) beyond() string {
	if s := c.settled.Load(); c.cursor.beyond == unbounded && c.mine && s != nil && s.no == c.cursor.batch {
		return s.xid
	}
	return c.cursor.beyond
}

// settles notes that a batch was settled in.
func (c *claimState) settles(no int64, xid string) {
	if s := c.settled.Load(); s == nil || s.no < no {
		c.settled.Store(&settledBatch{no, xid})
	}
}

// knownBatches is the batches with numbers below next that were open: the others of them are
// closed, and stay so. Who looked for those that are open, without knowing, would pass over all
// that were closed since the oldest transaction began.
type knownBatches struct {
	open []int64
	next int64
}

// batches is what is known of a queue's.
func (c *claimState) batches() knownBatches {
	if k := c.known.Load(); k != nil {
		return *k
	}
	return knownBatches{}
}

// learn remembers what a claim that is over has seen and done.
func (c *claimState) learn(k *claim) {
	c.guessed = c.cursor.batch == k.cursor.batch
	known := &knownBatches{next: k.cursor.batch + 1}
	for _, b := range k.open {
		known.open = append(known.open, b.no)
	}
	c.known.Store(known)
	c.cursor, c.name, c.topic, c.onDead, c.mine = k.cursor, k.row.name, k.row.topic, k.row.onDead, false
	if len(k.batch.groups) > 0 { // it has moved the cursor
		c.cursor = cursor{batch: k.batch.ref.No, high: k.batch.high, groups: k.batch.groups, beyond: unbounded}
		c.mine = len(k.list) > 0
		if k.batch.bounded {
			c.cursor.beyond = k.xid
		}
	}
}

// search is the look for what can be leased.
type search struct {
	due  []dueRow
	look *lookup
	keys keyring
	next int64 // when the next deferred message is due
}

const (
	sqlNow = `coalesce($2::bigint, (extract(epoch from now()) * 1000000)::bigint)`
	sqlDue = `select pos, kind, lane, attempt, crashes, coalesce(first_us, 0), coalesce(key, '') from weir.deferred
		where queue = $1 and due_us <= ` + sqlNow + ` and ($3::int >> lane) & 1 = 1 order by due_us, pos limit $4`
	sqlNextDue = `select due_us from weir.deferred where queue = $1 and due_us > ` + sqlNow + ` order by due_us limit 1`
)

// clock is the time as statements take it that may go out before it is known: null is the server's.
func (k *claim) clock() *int64 { return k.t.s.clockNow() }

// searchAhead queues, with what a claim begins with, the search as it will be if nobody else
// has claimed since this process did: that saves a round trip.
func (k *claim) searchAhead() {
	c := k.state
	if !c.predicts() || k.request.Abandoned {
		return
	}
	k.row.topic, k.row.onDead, k.lanes.mask, k.cursor.beyond = c.topic, c.onDead, maskAll, c.beyond()
	k.ahead = k.search(c.cursor.groups)
}

// predicts reports whether what the next claim will find can be said.
func (c *claimState) predicts() bool {
	return c.guessed && len(c.cursor.groups) == 1 && c.cursor.groups[0].mask == maskAll
}

// fits reports whether a search that was asked ahead is what is to be searched for.
func (k *claim) fits(h *search) bool {
	c := k.state
	return h != nil && k.lanes.mask == maskAll && k.row.topic == c.topic && k.row.onDead == c.onDead &&
		k.cursor.batch == c.cursor.batch && slices.Equal(k.cursor.groups, c.cursor.groups)
}

// search queues the search in the groups of a cursor, which are what the claim may take.
func (k *claim) search(groups []group) *search {
	h := &search{}
	k.t.ask(sqlDue, func(read scan) error {
		var d dueRow
		err := read(&d.pos, &d.kind, &d.lane, &d.attempt, &d.crashes, &d.first, &d.key)
		h.due = append(h.due, d)
		return err
	}, k.queueID(), k.clock(), k.lanes.mask, k.request.Max+1)
	h.look = k.look(groups, k.request.Max)
	k.askKeys(&h.keys)
	k.t.ask(sqlNextDue, func(read scan) error { return read(&h.next) }, k.queueID(), k.clock())
	return h
}

func (k *claim) askKeys(keys *keyring) {
	q := []int32{int32(k.queueID())}
	keys.load(k.t, sqlDeferredKeys, q)
	if k.row.onDead != store.Skip { // else the dead are in nobody's way
		keys.load(k.t, sqlDeadKeys, q)
	}
}

func (k *claim) askNextDue() error {
	return k.t.get(sqlNextDue, k.readNextDue, k.queueID(), k.clock())
}

func (k *claim) readNextDue(read scan) error {
	var next int64
	err := read(&next)
	k.claimed.NextDue = at(next)
	return err
}

// lease makes a batch of what is due, what is late and what is fresh.
func (k *claim) lease() error {
	t := k.t
	within, rest := k.cursor.split(k.lanes.mask)
	h := k.ahead
	if !k.fits(h) {
		h = k.search(within)
		if err := t.flush(); err != nil {
			return err
		}
	}
	due, l := h.due, h.look
	k.keys, k.claimed.NextDue = h.keys, at(h.next)
	l.sorted()
	moreDue := len(due) > k.request.Max
	if moreDue {
		due = due[:k.request.Max]
	}
	messages, short, err := k.loadDue(due)
	if err != nil {
		return err
	}
	due = due[:len(due)-short]
	fresh, groups, more := l.take(within, k.request.Max-len(due), k.row.topic)
	if short > 0 {
		fresh, groups, more = nil, within, true
	}
	if len(due) == 0 && len(fresh) == 0 && l.whole && !worthwhile(within, groups) && !k.bounds(l) {
		k.claimed.More = more
		t.quit = !k.lanes.changed
		return nil
	}
	k.batch = newBatch{groups: merge(append(rest, groups...)), high: k.cursor.high, bounded: l.early}
	if err := k.file(due, messages, fresh); err != nil {
		return err
	}
	k.claimed.More = more || moreDue
	return k.deliver(fresh)
}

// bounds reports whether a claim of nothing is to tell, in the newest batch, who is not late: nobody else will. It does so once.
func (k *claim) bounds(l *lookup) bool {
	return l.early && k.cursor.beyond == unbounded && !slices.ContainsFunc(k.open, func(b openBatch) bool { return b.no == k.cursor.batch })
}

// worthwhile reports whether a cursor has moved so far, past messages of others' lanes, that
// it is to be kept though nothing was claimed: else the next claim passes over them again.
func worthwhile(before, after []group) bool {
	for i := range before {
		if after[i].high-before[i].high > worthwhileMoves || before[i].target != after[i].target {
			return true
		}
	}
	return false
}

const worthwhileMoves = 2_000
