package postgres

import (
	"slices"
	"strconv"

	"github.com/weir-go/weir/store"
)

// What a commit appends for a queue that is idle and caught up is claimed in its own transaction:
// from send to start it is one commit. The look that says that the queue is caught up goes out
// with what the commit asks first, under the queue's lock, and its snapshot, as it would be with
// this transaction committed, becomes the cursor's.
//
// That is done for the plain case, else it is left to a claim: one process that has all lanes,
// messages without keys and delays, no closures, nothing deferred that is due, nothing abandoned.

const (
	sqlSortOff = `select set_config('enable_sort', 'off', true)`
	sqlSortOn  = `select set_config('enable_sort', 'on', true)`
)

// eager is the claims that a commit makes beside, and their queues' states, which are held.
type eager struct {
	claims []*claim
	held   []*claimState
}

func (e *eager) release() {
	for _, c := range e.held {
		c.Unlock()
	}
	e.held = nil
}

// askEager queues what has to be known to claim for the queues that the group names.
func (t *commit) askEager(sends []*store.Message) {
	if t.patient || t.process == 0 || len(sends) == 0 || len(t.g.Eager) == 0 {
		return
	}
	if slices.ContainsFunc(t.changes, func(ch *store.Change) bool { return len(ch.Closures) > 0 }) {
		return // they may take long, and would keep others from claiming
	}
	for _, e := range t.g.Eager {
		known, ok := t.owner.claiming.Load(e.Queue)
		if !ok {
			continue
		}
		state := known.(*claimState)
		if !state.TryLock() {
			continue
		}
		t.eager.held = append(t.eager.held, state)
		if state.awaits(sends, min(e.Max, store.MaxBatch)) {
			t.eager.claims = append(t.eager.claims, &claim{s: t.owner, t: t.tx, process: t.process, state: state,
				request: store.ClaimRequest{Queue: e.Queue, Max: 1}})
		}
	}
	if len(t.eager.claims) == 0 {
		return
	}
	t.do(sqlSortOff)
	for _, k := range t.eager.claims {
		k.ask()
	}
	t.do(sqlSortOn)
}

// awaits reports whether the queue could be given what is sent to it: at most so many.
func (c *claimState) awaits(sends []*store.Message, most int) bool {
	if !c.predicts() || c.cursor.groups[0].target != "" {
		return false
	}
	n := 0
	for _, m := range sends {
		if m.Topic != c.name {
			continue
		}
		if n++; n > most || m.Key != "" || !m.Due.IsZero() {
			return false
		}
	}
	return n > 0
}

// claimEager queues the batches of what is appended, for queues that are caught up.
func (t *commit) claimEager() {
	if len(t.apart) > 0 { // should they fail, nobody would be told of the batches
		return
	}
	for _, k := range t.eager.claims {
		if k.caughtUp() {
			k.leaseOwn(t.appended)
		}
	}
}

// caughtUp reports whether the claim may be made, and there is nothing before what is appended.
func (k *claim) caughtUp() bool {
	h := k.ahead
	return !k.taken && k.found && !k.row.stopped && k.lanes.known && k.lanes.workers == 1 && k.lanes.ours == maskKeyed &&
		!slices.ContainsFunc(k.open, openBatch.abandoned) && k.fits(h) &&
		len(h.due) == 0 && h.look.whole && len(h.look.late[0]) == 0 && len(h.look.fresh) == 0
}

// leaseOwn makes a batch of what the transaction itself has appended to the queue's topic.
func (k *claim) leaseOwn(appended []*store.Message) {
	seen, ok := asCommitted(k.ahead.look.snapshot, k.t.xid)
	if !ok {
		return
	}
	for _, m := range appended {
		if topicOf(int64(m.Pos)) == k.row.topic {
			k.list = append(k.list, store.Delivery{Message: m, Attempt: 1})
		}
	}
	if len(k.list) == 0 {
		return
	}
	high := max(k.cursor.high, int64(k.list[len(k.list)-1].Message.Pos))
	k.batch = newBatch{ref: store.BatchRef{Queue: k.request.Queue, No: k.cursor.batch + 1, Epoch: 1}, high: high,
		lanes: maskFree, groups: []group{{mask: maskAll, high: high, seen: seen}}}
	for i := range k.list {
		k.list[i].Index = i
		k.batch.positions = append(k.batch.positions, int64(k.list[i].Message.Pos))
	}
	k.batch.first = k.batch.positions
	k.batch.insert(k.t)
}

// keepEager gives the group the batches, which are committed.
func (t *commit) keepEager() {
	for _, k := range t.eager.claims {
		if k.batch.ref.No == 0 {
			continue
		}
		k.state.learn(k)
		t.g.Claimed = append(t.g.Claimed, &store.Batch{BatchRef: k.batch.ref, ClaimedAt: at(k.t.now), Deliveries: k.list})
	}
}

// gapMost is how many transactions may have begun, since any was last committed, before one
// that claims what it appends: all of them go into the snapshot.
const gapMost = 1_000

// asCommitted is a transaction's own snapshot, as text, as it would be for others had the transaction been
// committed before it was taken.
func asCommitted(text, xid string) (seen string, ok bool) {
	own, err := strconv.ParseUint(xid, 10, 64)
	s, bad := parseSnapshot(text)
	if err != nil || bad != nil {
		return "", false
	}
	if own < s.end { // others that began later have ended; a snapshot does not list whose own it is
		return text, true
	}
	if own-s.end > gapMost {
		return "", false
	}
	for ; s.end < own; s.end++ { // those began, and none of them had ended
		s.running = append(s.running, s.end)
	}
	s.end = own + 1
	return s.String(), true
}
