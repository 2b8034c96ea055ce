package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/weir-go/weir/store"
)

// Claim implements store.Store. Claims of a queue are made one at a time, under a lock that
// ends with the transaction; in a process they stand in line, others' are not waited for long.
func (s *Store) Claim(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
	if err := s.checkOpen(); err != nil {
		return store.Claimed{}, err
	}
	process := s.process.Load()
	if process == 0 {
		return store.Claimed{}, errNotBegun
	}
	if len(r.Duties) > 0 {
		return s.claimDuties(ctx, r, process)
	}
	least := 1
	if r.Workflow != "" {
		least = 0
	}
	if r.Max < least || r.Max > store.MaxBatch {
		return store.Claimed{}, fmt.Errorf("claim of at most %d, want %d to %d", r.Max, least, store.MaxBatch)
	}
	if r.Workflow != "" {
		return s.claimRuns(ctx, r, process)
	}
	one, _ := s.claiming.LoadOrStore(r.Queue, &claimState{})
	state := one.(*claimState)
	state.Lock()
	defer state.Unlock()
	for tries := 0; ; {
		k := &claim{s: s, request: r, process: process, state: state}
		err := s.claimTx(ctx, k.run)
		switch {
		case err != nil:
			return store.Claimed{}, err
		case k.taken && tries < claimTries:
			tries++
			if err := pause(ctx, claimWait); err != nil {
				return store.Claimed{}, err
			}
			continue
		case k.claimed.Batch != nil || !k.claimed.More:
			s.watched.keep(k.watch)
			s.changes.note(k.xid)
			state.learn(k)
			return k.claimed, nil
		}
		// All that was looked at had to go behind others; there is more to look at.
		state.learn(k)
	}
}

const (
	claimTries = 20 // for a queue that another process claims from
	claimWait  = 2 * time.Millisecond
)

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for others: %w", context.Cause(ctx))
	}
}

// queueLock is the lock of a queue's claims. Whatever frees keys without being a settlement
// takes it too.
func (s *Store) queueLock(queue int64) int64 {
	return s.lockNumber("queue", strconv.FormatInt(queue, 10))
}

// claim is one attempt at a claim, in one transaction.
type claim struct {
	s       *Store
	request store.ClaimRequest
	process int64
	state   *claimState
	t       *tx

	found  bool // there is such a queue
	taken  bool // another process is at it
	row    claimRow
	cursor cursor
	lanes  laneBook
	open   []openBatch

	ahead    *search // asked for before it was known whether it fits
	keys     keyring
	blockers map[string]blocker
	filed    filed
	counts   counted
	batch    newBatch
	list     []store.Delivery
	watch    []watched
	claimed  store.Claimed
	xid      string // of the transaction, if it writes a batch
}

// claimRow is a queue as a claim sees it.
type claimRow struct {
	topic   int64
	name    string
	kind    int64
	onDead  store.OnDead
	stopped bool // paused or parked
}

// openBatch is a batch that is not closed.
type openBatch struct {
	no, owner, state, lanes int64
	gone                    bool // its owner is
}

// abandoned reports whether it is to be claimed again.
func (b openBatch) abandoned() bool { return b.state == batchReturned || b.gone }

// deferral that is due, as a claim reads it.
type dueRow struct {
	pos, kind, attempt, crashes, first int64
	lane                               int
	key                                string
}

const (
	sqlQueueLock    = `select pg_advisory_xact_lock($1)`
	sqlTryQueueLock = `select pg_try_advisory_xact_lock($1)`
	sqlClaimRow     = `select q.topic, t.name, t.kind, q.on_dead, q.paused_us is not null or q.parked_us is not null
		from weir.queues q join weir.topics t on t.id = q.topic where q.id = $1`
	// The batches known to be open, and those that are not known.
	sqlOpen = `select b.no, b.owner, b.state, b.lanes, coalesce(p.ended_us is not null or p.lost_us is not null, true)
		from (select o.* from unnest($2::bigint[]) as u(no)
				cross join lateral (select * from weir.batches x where x.queue = $1 and x.no = u.no and x.state < 2 limit 1) o
			union all select * from weir.batches where queue = $1 and no >= $3 and state < 2) b left join weir.processes p on p.id = b.owner`
	sqlUndefer = `delete from weir.deferred where queue = $1 and pos = any($2::bigint[])`
	sqlEdits   = `select pos, body, headers from weir.edits where queue = $1 and pos = any($2::bigint[])`
	// In the order of the positions given, and no more than fit into memory.
	sqlLoad = `select m.i,` + lookColumns + `from (
			select u.i, f.*, coalesce(sum(length(f.body)) over (order by u.i rows between unbounded preceding and 1 preceding), 0) as before
			from unnest($1::bigint[]) with ordinality as u(pos, i) cross join lateral (
				select * from weir.messages where topic = (u.pos >> 40)::int and seq = u.pos & 1099511627775
				union all select * from weir.kept where topic = (u.pos >> 40)::int and seq = u.pos & 1099511627775 limit 1) f) m
		where m.before < $2 order by m.i`
)

func (k *claim) queueID() int64 { return int64(k.request.Queue) }

// run looks, and leases what it finds.
func (k *claim) run(t *tx) error {
	k.t = t
	if err := k.begin(); err != nil {
		return err
	}
	if k.taken || k.row.stopped {
		t.quit = true
		return nil
	}
	k.lanes.share(k)
	abandoned := k.abandoned()
	switch {
	case abandoned != nil:
		return k.takeOver(*abandoned)
	case k.request.Abandoned:
		t.quit = !k.lanes.changed
		return k.askNextDue()
	}
	return k.lease()
}

// begin takes the lock and reads, in one round trip, what does not depend on who asks.
func (k *claim) begin() error {
	k.ask()
	if err := k.t.flush(); err != nil {
		return err
	}
	if !k.found {
		return fmt.Errorf("claim from queue %d: %w", k.queueID(), store.ErrNotFound)
	}
	slices.SortFunc(k.open, func(a, b openBatch) int { return cmp.Compare(a.no, b.no) })
	return nil
}

// ask queues what a claim begins with.
func (k *claim) ask() {
	t, known := k.t, k.state.batches()
	t.ask(sqlTryQueueLock, func(read scan) error {
		var ours bool
		err := read(&ours)
		k.taken = !ours
		return err
	}, t.s.queueLock(k.queueID()))
	t.ask(sqlClaimRow, func(read scan) error {
		k.found = true
		r := &k.row
		return read(&r.topic, &r.name, &r.kind, &r.onDead, &r.stopped)
	}, k.queueID())
	askCursor(t, k.queueID(), &k.cursor)
	t.ask(sqlOpen, func(read scan) error {
		var b openBatch
		err := read(&b.no, &b.owner, &b.state, &b.lanes, &b.gone)
		k.open = append(k.open, b)
		return err
	}, k.queueID(), known.open, known.next)
	k.lanes.ask(t, k.queueID())
	k.searchAhead()
}

// loadDue reads the messages of what is due, by their index in due. short is how many of the
// last did not fit. One that is in no table any more is put among the dead, for a person to
// see, rather than stop the queue.
func (k *claim) loadDue(due []dueRow) (messages []*store.Message, short int, err error) {
	if len(due) == 0 {
		return nil, 0, nil
	}
	positions := make([]int64, len(due))
	for i, d := range due {
		positions[i] = d.pos
	}
	messages, err = k.load(positions)
	if err != nil {
		return nil, 0, err
	}
	bytes := 0
	for i, m := range messages {
		if m != nil {
			bytes += len(m.Body)
			continue
		}
		if bytes >= loadMax {
			return messages[:i], len(due) - i, nil
		}
	}
	return messages, 0, nil
}

// load reads messages, in the order of the positions, as many as fit; the others are nil.
func (k *claim) load(positions []int64) ([]*store.Message, error) {
	messages := make([]*store.Message, len(positions))
	byPos := map[int64]*store.Message{}
	k.t.ask(sqlLoad, func(read scan) error {
		var i, seq, sentUs, due int64
		var lane int
		var m store.Message
		var from string
		if err := read(&i, &seq, &sentUs, &m.Version, &lane, &m.Key, &due, &m.Cause, &m.Correlation, &from, &m.Headers, &m.Body); err != nil {
			return err
		}
		m.SentAt, m.Due = at(sentUs), at(due)
		err := k.fill(&m, seq, from)
		messages[i-1] = &m
		byPos[int64(m.Pos)] = &m
		return err
	}, positions, loadMax)
	err := k.t.get(sqlEdits, func(read scan) error {
		var pos int64
		var e replaced
		err := read(&pos, &e.body, &e.headers)
		if m := byPos[pos]; m != nil {
			e.apply(m)
		}
		return err
	}, k.queueID(), positions)
	return messages, err
}

const lostReason = "the message is missing from the journal: restore it from a backup, then retry it"

func (k *claim) bury(pos int64, key string, attempts int64) {
	k.counts.gone++
	k.counts.died++
	k.filed.die(death{queue: k.queueID(), pos: pos, key: key, attempts: attempts, reason: lostReason})
}

// file takes the due rows out of deferred, and sorts out what cannot be leased yet. A
// delayed message whose key got blocked meanwhile goes behind the earlier one.
func (k *claim) file(due []dueRow, messages []*store.Message, fresh []found) error {
	keys := map[string]bool{}
	positions := make([]int64, 0, len(due))
	for i, d := range due {
		positions = append(positions, d.pos)
		if d.key != "" && messages[i] != nil && d.kind == kindDelay {
			keys[d.key] = true
		}
	}
	for _, m := range fresh {
		if m.Key != "" {
			keys[m.Key] = true
		}
	}
	if len(positions) > 0 {
		k.t.do(sqlUndefer, k.queueID(), positions)
	}
	if err := k.readBlockers(keys); err != nil {
		return err
	}
	for i, d := range due {
		m := messages[i]
		switch {
		case m == nil:
			k.bury(d.pos, d.key, d.attempt-1)
		case d.kind == kindDelay && k.behind(m):
		default:
			k.list = append(k.list, store.Delivery{Message: m, Attempt: int(d.attempt), Crashes: int(d.crashes), FirstAt: at(d.first),
				Index: pastIf(d.kind != kindDelay)})
			k.batch.lanes |= 1 << d.lane
		}
	}
	for _, f := range fresh {
		if due := us(f.Due); due > k.t.now {
			k.filed.postpone(deferral{queue: k.queueID(), pos: int64(f.Pos), kind: kindDelay, due: due, key: f.Key, attempt: 1})
			continue
		}
		if !k.behind(f.Message) {
			k.list = append(k.list, store.Delivery{Message: f.Message, Attempt: 1})
			k.batch.lanes |= 1 << f.lane
		}
	}
	return nil
}

// A delivery's Index is given by deliver; until then it says whether to watch it.
const hasPast = 1

func pastIf(yes bool) int {
	if yes {
		return hasPast
	}
	return 0
}

// readBlockers reads what keys wait for, as far as they may.
func (k *claim) readBlockers(keys map[string]bool) error {
	var list []string
	for key := range keys {
		if k.keys.mayWait(k.queueID(), key) {
			list = append(list, key)
		}
	}
	if len(list) == 0 {
		return nil
	}
	var err error
	k.blockers, err = readBlockers(k.t, k.queueID(), k.row.onDead, list)
	return err
}

// behind files m if an earlier message of its key is in its way.
func (k *claim) behind(m *store.Message) bool {
	b := k.blockers[m.Key]
	if m.Key == "" || b.pos == 0 || b.pos >= int64(m.Pos) {
		return false
	}
	if b.dead {
		k.counts.gone++
		k.counts.died++
		k.filed.die(death{queue: k.queueID(), pos: int64(m.Pos), key: m.Key, reason: parkedReason, behind: b.pos})
	} else {
		k.filed.postpone(deferral{queue: k.queueID(), pos: int64(m.Pos), kind: kindBehind, due: never, key: m.Key, attempt: 1})
	}
	return true
}

// deliver writes the batch and hands it out.
func (k *claim) deliver(fresh []found) error {
	list := k.list
	slices.SortFunc(list, func(a, b store.Delivery) int { return cmp.Compare(a.Message.Pos, b.Message.Pos) })
	b := &k.batch
	for _, g := range b.groups {
		b.high = max(b.high, g.high)
	}
	for _, f := range fresh {
		b.first = append(b.first, int64(f.Pos))
	}
	slices.Sort(b.first)
	b.ref = store.BatchRef{Queue: k.request.Queue, No: k.cursor.batch + 1, Epoch: 1}
	b.positions = make([]int64, len(list))
	for i := range list {
		if list[i].Index == hasPast {
			k.watch = append(k.watch, watched{b.ref, i, len(list)})
		}
		list[i].Index = i
		b.positions[i] = int64(list[i].Message.Pos)
	}
	if len(list) == 0 {
		return k.moveOn()
	}
	b.insert(k.t)
	k.claimed.Batch = &store.Batch{BatchRef: b.ref, ClaimedAt: at(k.t.now), Deliveries: list}
	return k.finish(b.ref)
}

// moveOn moves the cursor though nothing is leased: in the newest batch's row, since numbers are those
// of batches that were handed out. A relay's receiver would wait for one that never was.
func (k *claim) moveOn() error {
	b := &k.batch
	b.ref = store.BatchRef{Queue: k.request.Queue, No: k.cursor.batch}
	b.move(k.t)
	k.t.again = true // the next claim goes on from wherever the cursor is
	return k.finish(b.ref)
}

// finish queues what the claim has filed and counted, and what is due next.
func (k *claim) finish(ref store.BatchRef) error {
	k.filed.write(k.t)
	var y tallies
	y.settled(k.queueID(), k.counts.done, k.counts.gone, k.counts.died)
	y.write(k.t)
	k.t.done = func(ctx context.Context) (bool, error) {
		var ours bool
		err := k.s.aside.QueryRow(ctx, k.s.text(sqlClaimedBy), int64(ref.Queue), ref.No, ref.Epoch, k.process).Scan(&ours)
		return ours, err
	}
	k.t.ask(sqlNextDue, k.readNextDue, k.queueID(), k.clock())
	k.t.ask(sqlOwnXid, func(read scan) error { return read(&k.xid) })
	return nil
}

const sqlOwnXid = `select pg_current_xact_id()::text`

const sqlClaimedBy = `select exists (select 1 from weir.batches where queue = $1 and no = $2 and epoch = $3 and owner = $4)`
