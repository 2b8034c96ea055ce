package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/checks"
)

// Commit implements store.Store: one transaction for the group, of two round trips when
// nothing out of the ordinary is in it. A closure that fails undoes it, and the group is
// tried again without that change; after roundsMax of them each change is committed
// alone, so that a group of closures that all fail costs no more than twice its length.
// So it is when the transaction fails after them by what one of several has done.
//
// Changes that send with a key, or a deduplication key, that another transaction holds
// are refused, or committed after the others, each alone, waiting for at most lockTime. See held.go.
func (s *Store) Commit(ctx context.Context, g *store.Group) error {
	g.Claimed, g.Woken = nil, nil
	written, err := s.commitOn(ctx, g)
	if err != nil {
		return err
	}
	// The group is committed, whatever becomes of these; Heartbeat does them too, and says so.
	_ = s.foldSome(ctx, written)
	if newest := s.newest.Load(); newest > 0 {
		_ = s.makeRoom(ctx, newest)
	}
	return nil
}

const roundsMax = 3

// commitGroup commits all of a group, and says how many rows it tallied.
func (s *Store) commitGroup(ctx context.Context, x *seat, g *store.Group) (written int, err error) {
	todo, declared := g.Changes, false
	for round := 0; round < roundsMax; {
		t := s.newCommit(ctx, g, todo)
		t.last, t.declared = true, declared
		err := t.attempt(x)
		if err == nil {
			written += t.tallies.count()
			if g.Held == store.HeldIsRefused {
				failChanges(t.apart, store.ErrKeyHeld)
				return written, nil
			}
			n, err := s.commitEach(ctx, x, g, t.apart)
			if err != nil && len(t.apart) < len(todo) {
				err = nil // the others are committed, and these say why they are not
			}
			return written + n, err
		}
		if again, ok := errors.AsType[*unknownError](err); ok {
			if err := s.declareUnknown(ctx, again.topics); err != nil {
				return 0, failChanges(todo, err)
			}
			declared = true
			continue
		}
		if _, someones := errors.AsType[*closuresError](err); someones && ctx.Err() == nil {
			break
		}
		failed, ok := errors.AsType[*closureError](err)
		if !ok || ctx.Err() != nil {
			return 0, failChanges(todo, err)
		}
		todo = without(todo, failed)
		round++
	}
	n, err := s.commitEach(ctx, x, g, todo)
	if err != nil || len(g.Figures) == 0 {
		return n, err
	}
	t := s.newCommit(ctx, g, nil)
	t.last = true
	return n, t.attempt(x)
}

// commitEach commits changes one by one. When the database fails after the first, those that
// are committed stay so, and each of the others says that it is not.
func (s *Store) commitEach(ctx context.Context, x *seat, g *store.Group, changes []*store.Change) (written int, err error) {
	for i := range changes {
		n, err := s.commitOne(ctx, x, g, changes[i])
		written += n
		if err != nil {
			err = failChanges(changes[i:], err)
			if i > 0 {
				return written, nil
			}
			return 0, err
		}
	}
	return written, nil
}

// commitOne commits a change alone.
func (s *Store) commitOne(ctx context.Context, x *seat, g *store.Group, ch *store.Change) (written int, err error) {
	t := s.newCommit(ctx, g, []*store.Change{ch})
	t.patient, t.declared = g.Held != store.HeldIsRefused, true
	err = t.attempt(x)
	if err == nil {
		failChanges(t.apart, store.ErrKeyHeld) // none when it was waited for
		return t.tallies.count(), nil
	}
	if failed, ok := errors.AsType[*closureError](err); ok && ctx.Err() == nil {
		ch.Err = failed.err
		return 0, nil
	}
	if fault, ok := errors.AsType[*pgconn.PgError](err); ok && (fault.Code == lockNotAvailable || fault.Code == deadlockDetected) {
		ch.Err = fmt.Errorf("%w: %w", store.ErrKeyHeld, fault) // not an outage
		return 0, nil
	}
	return 0, err
}

const (
	lockNotAvailable = "55P03"
	deadlockDetected = "40P01"

	// lockTime is how long a send waits for a key that another transaction has sent with.
	lockTime = 5 * time.Second
)

// without marks the change that failed and returns the others.
func without(changes []*store.Change, failed *closureError) []*store.Change {
	rest := make([]*store.Change, 0, len(changes))
	for _, ch := range changes {
		if ch == failed.change {
			ch.Err = failed.err
			continue
		}
		rest = append(rest, ch)
	}
	return rest
}

func failChanges(changes []*store.Change, err error) error {
	for _, ch := range changes {
		ch.Err = err
	}
	return err
}

// unknownError asks for topics to be declared, and the commit to be tried again.
type unknownError struct{ topics []store.Topic }

func (e *unknownError) Error() string {
	return fmt.Sprintf("%d topics are not declared", len(e.topics))
}

// commit is one attempt to write changes in one transaction.
type commit struct {
	*appender
	owner   *Store
	callers context.Context // of the caller: the closures'
	g       *store.Group
	changes []*store.Change
	apart   []*store.Change // left for later: others hold their locks
	patient bool            // wait for locks
	last    bool            // the figures go with it
	// declared: what could be declared of the topics sent to is; senders to others are refused.
	declared bool
	sent     bool // the messages are queued
	doubtful bool // see runDesk

	batches    map[batchKey]*leasedBatch
	batch      *leasedBatch // of the settlement before: neighbours share it
	settled    map[int64]*counted
	keys       keyring
	moved      map[queueKey]bool
	exceptions []exception
	attempts   attemptRows
	filed      filed
	watch      []watched
	book       *runCommit
	exchange
	eager   eager
	beside  []*sending // what others of this process are writing, see senders
	sending *sending
	lent    []*store.Change // that had the transaction for their closures
}

func (s *Store) newCommit(ctx context.Context, g *store.Group, changes []*store.Change) *commit {
	return &commit{owner: s, callers: ctx, g: g, changes: changes,
		batches: map[batchKey]*leasedBatch{}, settled: map[int64]*counted{}, moved: map[queueKey]bool{}}
}

func (t *commit) attempt(x *seat) error {
	c, err := x.take(t.callers)
	if err != nil {
		return err
	}
	s := t.store(c)
	io, cancel := limited(t.callers, s.silence())
	defer cancel()
	t.tx.ctx = io
	t.head(sqlBegin, writing)
	defer t.eager.release()
	err = t.tx.run(c, func(*tx) error { return t.run(c) })
	t.over(err != nil && !errors.Is(err, store.ErrUnresolved))
	if err != nil {
		t.eager.release()
		t.forget()
		t.forgetRuns()
		doubtful := hadSteps(err)
		if theirs := t.blame(err); theirs != nil || !doubtful && !startedMeanwhile(err) {
			return cmp.Or(theirs, err)
		}
		again := s.newCommit(t.callers, t.g, t.changes)
		again.patient, again.last, again.declared = t.patient, t.last, t.declared
		again.doubtful = doubtful || t.doubtful
		*t = *again
		return t.attempt(x)
	}
	t.keep(s)
	return nil
}

// store makes the attempt's transaction.
func (t *commit) store(c *pgxpool.Conn) *Store {
	s := t.owner
	t.appender = newAppender(&tx{s: s, w: pgxWire{c, c.Conn()}, process: s.process.Load(), done: t.evidence})
	return s
}

func (t *commit) run(c *pgxpool.Conn) error {
	leave := t.takeTurn()
	defer leave()
	if err := t.prepareAll(); err != nil {
		return err
	}
	for _, ch := range t.changes {
		if t.blocked(ch) || t.blockedRuns(ch) || t.blockedStates(ch) || t.blockedLane(ch) {
			t.holdRun(ch)
			t.apart = append(t.apart, ch)
			continue
		}
		var err error
		if ch.Err, err = t.apply(ch); err != nil {
			return err
		}
	}
	leave()
	if len(t.exceptions) > 0 {
		t.askPast()
		if err := t.flush(); err != nil {
			return err
		}
	}
	if err := t.runClosures(c); err != nil {
		return err
	}
	return t.writeAll()
}

// prepareAll asks, in one round trip, for all that is decided about, and locks it.
func (t *commit) prepareAll() error {
	var sends []*store.Message
	var keyed []int32
	seen := map[store.QueueID]bool{}
	outside := false
	for _, ch := range t.changes {
		sends = append(sends, ch.Sends...)
		outside = outside || ch.Outside && len(ch.Sends) > 0
		for i := range ch.Settle {
			if q := ch.Settle[i].Batch.Queue; ch.Settle[i].Key != "" && !seen[q] {
				seen[q] = true
				keyed = append(keyed, int32(q))
			}
		}
	}
	t.askBatches(t.changes)
	if len(keyed) > 0 {
		t.keys.load(t.tx, sqlDeferredKeys, keyed)
	}
	if t.patient {
		t.do(sqlPatient, fmt.Sprintf("%dms", lockTime.Milliseconds()))
	}
	if len(sends) <= sendsMost {
		t.prepare(sends, outside, t.patient)
	} else { // a change that is too long is refused before its sends are looked at
		t.prepareEach(outside)
	}
	t.askArrivals()
	t.askStates()
	if err := t.askRuns(); err != nil {
		return err
	}
	t.askEager(sends)
	if err := t.flush(); err != nil {
		return err
	}
	if err := t.leap(false); err != nil {
		return err
	}
	if err := errors.Join(t.countBeside(), t.countLanes()); err != nil {
		return err
	}
	if unknown := t.unknown(sends); len(unknown) > 0 && !t.declared {
		return &unknownError{unknown}
	}
	return nil
}

// sendsMost is the most messages that the changes of a group are looked at with at once.
const sendsMost = 100 * store.MaxSends

// prepareEach leaves out the sends of changes that are too long.
func (t *commit) prepareEach(outside bool) {
	var sends []*store.Message
	for _, ch := range t.changes {
		if len(ch.Sends) <= store.MaxSends {
			sends = append(sends, ch.Sends...)
		}
	}
	t.prepare(sends, outside, t.patient)
}

// blocked reports whether others hold a lock that a change needs.
func (t *commit) blocked(ch *store.Change) bool {
	if len(t.busy) == 0 {
		return false
	}
	locks := map[int64]bool{}
	t.s.locksOf(ch.Sends, locks)
	for h := range locks {
		if t.busy[h] {
			return true
		}
	}
	return false
}

// apply decides about one change: it is written whole, or refused whole.
func (t *commit) apply(ch *store.Change) (refused, err error) {
	if refused := errors.Join(checks.States(ch), checks.Drained(ch)); refused != nil {
		return refused, nil
	}
	missed, refused := t.misplaced(ch)
	if refused != nil {
		return refused, nil
	}
	if refused := t.fence(ch); refused != nil {
		return refused, nil
	}
	twins, refused := t.admit(ch.Sends, ch.Outside)
	if refused == nil {
		refused, err = t.applyRuns(ch)
	}
	if refused != nil || err != nil {
		t.unmark(ch.Settle)
		return refused, err
	}
	t.add(ch.Sends, twins)
	t.arrive(ch, missed)
	t.drain(ch)
	t.keepStates(ch)
	for i := range ch.Settle {
		t.settle(&ch.Settle[i])
	}
	for i := range ch.Starts {
		t.begins(&ch.Starts[i])
	}
	return nil, nil
}

// writeAll queues all that is to be written; the commit sends it.
func (t *commit) writeAll() error {
	if err := t.writeSends(); err != nil {
		return err
	}
	t.claimEager()
	t.writeExceptions()
	t.writeBatches()
	resolve(t.tx, t.moved)
	if err := t.writeRuns(); err != nil {
		return err
	}
	t.writeArrivals()
	t.putStates(t.states)
	t.tallies.write(t.tx)
	if t.last && len(t.g.Figures) > 0 {
		return t.writeFigures()
	}
	return nil
}

// writeSends queues the messages, once.
func (t *commit) writeSends() error {
	if t.sent {
		return nil
	}
	t.sent = true
	return t.write(true)
}

// keep tells the store what the transaction made true, once it is.
func (t *commit) keep(s *Store) {
	s.watched.keep(t.watch)
	s.changes.note(t.xid)
	if n := len(t.appended); n > 0 {
		s.newest.Store(seqOf(int64(t.appended[n-1].Pos)))
	}
	t.keepBatches(s)
	t.keepEager()
	t.keepRuns()
	if len(t.appended) > 0 || len(t.g.Woken) > 0 {
		s.ring()
	}
}
