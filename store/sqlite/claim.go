package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/checks"
	"zombiezen.com/go/sqlite"
)

// Claim implements store.Store. It looks first, on a read connection: most
// claims of an idle queue end there, and the messages of the others are read
// without holding the writer. What it saw is looked at again in the transaction
// that leases it.
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
	for {
		claimed, err := s.claimOnce(ctx, r, process)
		if err != nil || claimed.Batch != nil || !claimed.More {
			return claimed, err
		}
		// All that was looked at had to go behind others; there is more to look at.
	}
}

// claimDuties gives the one process that works the file all that it asks for.
func (s *Store) claimDuties(ctx context.Context, r store.ClaimRequest, process int64) (store.Claimed, error) {
	if refused := checks.Duties(r); refused != nil {
		return store.Claimed{}, refused
	}
	err := s.read(ctx, func(c *conn) error { return checkLease(c, process) })
	if err != nil {
		return store.Claimed{}, err
	}
	return store.Claimed{Duties: slices.Clone(r.Duties)}, nil
}

func (s *Store) claimOnce(ctx context.Context, r store.ClaimRequest, process int64) (store.Claimed, error) {
	k := &claim{s: s, request: r, process: process, now: us(s.now()), ready: map[int64]int{}}
	work := false
	err := s.read(ctx, func(c *conn) error {
		var err error
		work, err = k.look(c)
		return err
	})
	if err != nil || !work {
		return k.claimed, err
	}
	c, err := s.takeWriter(ctx)
	if err != nil {
		return store.Claimed{}, err
	}
	defer s.giveWriter(c)
	if err := s.transact(ctx, c, k.take); err != nil {
		return store.Claimed{}, err
	}
	s.keepWatch(k.watch)
	return k.claimed, nil
}

// claim is one call of Claim.
type claim struct {
	s       *Store
	request store.ClaimRequest
	process int64
	now     int64

	row    claimRow
	loader loader
	ready  map[int64]int // deferred messages read ahead: the index in the loader's messages

	// The fresh messages read are those of the loader from index fresh on, at most
	// limit, as they followed the cursor seen when the topic ended at seenLast.
	fresh, limit int
	seen         cursor
	seenLast     int64
	taken        int // of them leased or filed

	c       *conn
	q       *queueTail
	batch   *newBatch
	watch   []watched
	claimed store.Claimed
}

// claimRow is a queue as a claim sees it.
type claimRow struct {
	topic, lastPos  int64
	name            string
	kind            int64
	onDead, stopped int64 // stopped: paused or parked
}

const (
	sqlClaimRow = `select q.topic, t.last_pos, t.name, t.kind, q.on_dead, q.paused_us is not null or q.parked_us is not null
		from weir_queues q join weir_topics t on t.id = q.topic where q.id = ?1`
	sqlDue = `select pos, kind, attempt, crashes, coalesce(first_us, 0), coalesce(key, '') from weir_deferred
		where queue = ?1 and due_us <= ?2 order by due_us, pos limit ?3`
	sqlNextDue = `select min(due_us) from weir_deferred where queue = ?1 and due_us > ?2`
	sqlUndefer = `delete from weir_deferred where queue = ?1 and pos = ?2`
)

func (k *claim) queueID() int64 { return int64(k.request.Queue) }

func (k *claim) readRow(c *conn) error {
	r, found := &k.row, false
	err := c.query(sqlClaimRow, []any{k.queueID()}, func(st *sqlite.Stmt) error {
		found = true
		*r = claimRow{st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnText(2), st.ColumnInt64(3), st.ColumnInt64(4), st.ColumnInt64(5)}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("claim from queue %d: %w", k.queueID(), store.ErrNotFound)
	}
	return err
}

// look reports whether there is work, and reads what can be read ahead.
func (k *claim) look(c *conn) (work bool, err error) {
	if err := checkLease(c, k.process); err != nil {
		return false, err
	}
	if err := k.readRow(c); err != nil || k.row.stopped != 0 {
		return false, err
	}
	k.loader = loader{lives: k.s.lives(), topic: k.row.name, kind: store.Kind(k.row.kind)}
	abandoned, err := k.s.abandonedBatch(c, k.process, k.queueID(), 0)
	if err != nil || abandoned != 0 {
		return abandoned != 0, err
	}
	if err := k.readNextDue(c); err != nil || k.request.Abandoned {
		return false, err
	}
	due, _, err := k.due(c)
	if err != nil {
		return false, err
	}
	if k.seen, err = readCursor(c, k.queueID()); err != nil {
		return false, err
	}
	waiting := min(k.request.Max-len(due), int(k.row.lastPos-k.seen.high))
	k.loader.messages = make([]store.Message, 0, len(due)+max(waiting, 0))
	for _, d := range due {
		at := len(k.loader.messages)
		found, err := k.loader.one(c, d.pos)
		if err != nil {
			return false, err
		}
		if found {
			k.ready[d.pos] = at
		}
		if k.loader.full() {
			break
		}
	}
	err = k.readFresh(c, k.seen, len(due))
	return len(due) > 0 || len(k.loader.messages) > 0, err
}

// readFresh reads what is after the cursor, as far as there is room beside the due.
func (k *claim) readFresh(c *conn, end cursor, due int) error {
	k.seen, k.seenLast = end, k.row.lastPos
	k.fresh, k.limit = len(k.loader.messages), k.request.Max-due
	if k.row.lastPos <= end.high || k.limit == 0 || k.loader.full() {
		return nil
	}
	return k.loader.fresh(c, end.high, k.limit)
}

// moreFresh reports whether there are messages beyond those leased or filed.
func (k *claim) moreFresh() bool {
	read := len(k.loader.messages) - k.fresh
	return k.batch.high < k.row.lastPos &&
		(k.taken < read || read >= k.limit || k.loader.full() || k.row.lastPos != k.seenLast)
}

func (k *claim) readNextDue(c *conn) error {
	next, found, err := c.number(sqlNextDue, k.queueID(), k.now)
	if found {
		k.claimed.NextDue = at(next)
	}
	return err
}

// deferral is a deferred row that is due.
type deferral struct {
	pos, kind, attempt, crashes, first int64
	key                                string
}

func (k *claim) due(c *conn) (due []deferral, more bool, err error) {
	err = c.query(sqlDue, []any{k.queueID(), k.now, k.request.Max + 1}, func(st *sqlite.Stmt) error {
		due = append(due, deferral{st.ColumnInt64(0), st.ColumnInt64(1), st.ColumnInt64(2), st.ColumnInt64(3),
			st.ColumnInt64(4), st.ColumnText(5)})
		return nil
	})
	if len(due) > k.request.Max {
		return due[:k.request.Max], true, err
	}
	return due, false, err
}

// take leases, in the writer's transaction.
func (k *claim) take(c *conn) error {
	if k.process != k.s.process.Load() { // it ended while this claim looked
		return errNotBegun
	}
	k.c, k.claimed = c, store.Claimed{}
	if err := k.readRow(c); err != nil || k.row.stopped != 0 {
		return err
	}
	k.q = &queueTail{id: k.queueID(), topic: k.row.topic, onDead: k.row.onDead}
	id, err := k.s.abandonedBatch(c, k.process, k.queueID(), 0)
	if err != nil {
		return err
	}
	switch {
	case id != 0:
		err = k.takeOver(id)
	case !k.request.Abandoned:
		err = k.lease()
	}
	if err != nil {
		return err
	}
	if q := k.q; q.newGone > 0 {
		if err := c.exec(sqlCount, q.id, q.newDone, q.newGone, q.newDied); err != nil {
			return err
		}
	}
	return k.readNextDue(c)
}

// lease makes a batch of what is due and what is fresh.
func (k *claim) lease() error {
	end, err := readCursor(k.c, k.q.id)
	if err != nil {
		return err
	}
	due, more, err := k.due(k.c)
	if err != nil {
		return err
	}
	k.batch = &newBatch{id: end.batch + 1, owner: k.process, high: end.high, at: k.now}
	read := len(k.loader.messages)
	found := len(due)
	if due, err = k.readMissing(due); err != nil {
		return err
	}
	more = more || len(due) < found
	if end != k.seen || read != len(k.loader.messages) { // another claim came between, or more is due
		if err := k.readFresh(k.c, end, len(due)); err != nil {
			return err
		}
	}
	messages := k.loader.done() // not moved from here on
	f := &filing{c: k.c, q: k.q, now: k.now}
	list, err := k.leaseDue(f, messages, due)
	if err != nil {
		return err
	}
	if list, err = k.leaseFresh(f, messages[k.fresh:], list); err != nil {
		return err
	}
	k.claimed.More = more || k.moreFresh()
	if len(list) == 0 && k.batch.high == end.high {
		return nil
	}
	return k.deliver(list)
}

// readMissing reads what became due since the look. A message that is in no
// table any more cannot be worked: it is put among the dead, for a person to
// see, rather than stop the queue.
func (k *claim) readMissing(due []deferral) ([]deferral, error) {
	kept := due[:0]
	for _, d := range due {
		if _, ok := k.ready[d.pos]; !ok {
			if k.loader.full() {
				break
			}
			at := len(k.loader.messages)
			found, err := k.loader.one(k.c, d.pos)
			if err != nil {
				return nil, err
			}
			if !found {
				if err := k.bury(d); err != nil {
					return nil, err
				}
				continue
			}
			k.ready[d.pos] = at
		}
		kept = append(kept, d)
	}
	return kept, nil
}

const lostReason = "the message is missing from the journal: restore it from a backup, then retry it"

func (k *claim) bury(d deferral) error {
	k.q.newGone++
	k.q.newDied++
	if err := k.c.exec(sqlUndefer, k.q.id, d.pos); err != nil {
		return err
	}
	return k.c.exec(sqlDie, k.q.id, d.pos, k.now, textOrNull(d.key), d.attempt-1, lostReason, false, nil)
}

// leaseDue takes the due rows out of deferred. A delayed message whose key got
// blocked meanwhile goes behind the earlier one.
func (k *claim) leaseDue(f *filing, messages []store.Message, due []deferral) ([]store.Delivery, error) {
	for _, d := range due {
		if err := k.c.exec(sqlUndefer, k.q.id, d.pos); err != nil {
			return nil, err
		}
	}
	var err error
	if f.blockers, err = newBlockers(k.c, k.q); err != nil {
		return nil, err
	}
	list := make([]store.Delivery, 0, min(len(messages), k.request.Max))
	for _, d := range due {
		m := &messages[k.ready[d.pos]]
		if d.kind == kindDelay {
			filed, err := f.behind(m)
			if err != nil {
				return nil, err
			}
			if filed {
				continue
			}
		}
		list = append(list, store.Delivery{Message: m, Attempt: int(d.attempt), Crashes: int(d.crashes), FirstAt: at(d.first),
			Index: pastIf(d.kind != kindDelay)})
	}
	return list, editDeliveries(k.c, k.q.id, list)
}

// A delivery's Index is given by deliver; until then it says whether to watch it.
const hasPast = 1

func pastIf(yes bool) int {
	if yes {
		return hasPast
	}
	return 0
}

func (k *claim) leaseFresh(f *filing, fresh []store.Message, list []store.Delivery) ([]store.Delivery, error) {
	for i := range fresh {
		if len(list) == k.request.Max {
			break
		}
		m := &fresh[i]
		k.batch.high = int64(m.Pos)
		k.taken++
		filed, err := f.file(m)
		if err != nil {
			return nil, err
		}
		if !filed {
			list = append(list, store.Delivery{Message: m, Attempt: 1})
		}
	}
	return list, nil
}

const (
	sqlEdited = `select exists (select 1 from weir_edits where queue = ?1)`
	sqlEdit   = `select body, headers from weir_edits where queue = ?1 and pos = ?2`
)

// editDeliveries puts in what a person replaced.
func editDeliveries(c *conn, queue int64, list []store.Delivery) error {
	if len(list) == 0 {
		return nil
	}
	edited, _, err := c.number(sqlEdited, queue)
	if err != nil || edited == 0 {
		return err
	}
	for _, d := range list {
		err := c.query(sqlEdit, []any{queue, int64(d.Message.Pos)}, func(st *sqlite.Stmt) error {
			if body := blob(st, 0); body != nil {
				d.Message.Body = body
			}
			if headers := blob(st, 1); headers != nil {
				d.Message.Headers = headers
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// deliver writes the batch and hands it out.
func (k *claim) deliver(list []store.Delivery) error {
	slices.SortFunc(list, func(a, b store.Delivery) int { return cmp.Compare(a.Message.Pos, b.Message.Pos) })
	k.batch.positions = make([]int64, len(list))
	for i := range list {
		if list[i].Index == hasPast {
			k.watch = append(k.watch, watched{k.batch.id, i, len(list)})
		}
		list[i].Index = i
		k.batch.positions[i] = int64(list[i].Message.Pos)
	}
	if err := k.batch.insert(k.c); err != nil || len(list) == 0 {
		return err
	}
	ref := store.BatchRef{Queue: k.request.Queue, No: numberOf(k.batch.id), Epoch: 1}
	k.claimed.Batch = &store.Batch{BatchRef: ref, ClaimedAt: at(k.now), Deliveries: list}
	return nil
}
