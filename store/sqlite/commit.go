package sqlite

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/checks"
	"zombiezen.com/go/sqlite"
)

// Commit implements store.Store: one transaction for the group. A closure that
// fails undoes it, and the group is tried again without that change; after
// roundsMax of them each change is committed alone, so that a group of closures
// that all fail costs no more than twice its length. So it is when the commit
// itself fails by what closures wrote, for it does not say whose it was.
func (s *Store) Commit(ctx context.Context, g *store.Group) error {
	g.Claimed, g.Woken = nil, nil
	c, err := s.takeWriter(ctx)
	if err != nil {
		return failChanges(g.Changes, err)
	}
	defer s.giveWriter(c)
	todo := g.Changes
	for range roundsMax {
		err := s.newCommit(ctx, g, todo).attempt(c)
		if err == nil {
			return nil
		}
		if _, someones := errors.AsType[*closuresError](err); someones && ctx.Err() == nil {
			break
		}
		failed, ok := errors.AsType[*closureError](err)
		if !ok || ctx.Err() != nil {
			return failChanges(g.Changes, err)
		}
		todo = without(todo, failed)
	}
	return s.commitAlone(ctx, c, g, todo)
}

const roundsMax = 3

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

// commitAlone commits each change in a transaction of its own, then the figures.
// When the database fails midway the earlier changes stay committed, and say so.
func (s *Store) commitAlone(ctx context.Context, c *conn, g *store.Group, todo []*store.Change) error {
	for i, ch := range todo {
		alone := &store.Group{}
		err := s.newCommit(ctx, alone, todo[i:i+1]).attempt(c)
		if err == nil {
			g.Woken = union(g.Woken, alone.Woken)
			continue
		}
		failed, ok := errors.AsType[*closureError](err)
		if !ok || ctx.Err() != nil {
			return failChanges(todo[i:], err)
		}
		ch.Err = failed.err
	}
	if len(g.Figures) == 0 {
		return nil
	}
	return s.newCommit(ctx, &store.Group{Figures: g.Figures}, nil).attempt(c)
}

// union adds to a list what it lacks.
func union(list, more []string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// commit is one attempt to write changes in one transaction.
type commit struct {
	*runbook
	s       *Store
	ctx     context.Context
	c       *conn
	g       *store.Group
	changes []*store.Change
	process int64

	batches map[int64]*leasedBatch
	batch   *leasedBatch // of the settlement before: neighbours share it
	claimed []*store.Batch
	watch   []watched
	updates []update
	steps   []stepRow
	names   []string // of the workflows woken

	lanes   map[string]int64 // by what the lanes of a sender begin with, where there are new ones of its; of "" all
	newLane string           // of the change that is looked at; empty: the store has it

	lent []*store.Change // that had the transaction for their closures
}

func (s *Store) newCommit(ctx context.Context, g *store.Group, changes []*store.Change) *commit {
	return &commit{s: s, ctx: ctx, g: g, changes: changes, process: s.process.Load(), batches: map[int64]*leasedBatch{}}
}

func (t *commit) attempt(c *conn) error {
	t.c = c
	var ours *held // of a process that works the file
	if t.process != 0 {
		ours = &t.s.held
		ours.stamp++
	}
	t.runbook = newRunbook(newAppender(c, nil, t.s.now()), t.process, ours)
	err := t.s.transact(t.ctx, c, t.run)
	if err != nil {
		t.forget()
		t.forgetRuns()
		return t.blame(err)
	}
	t.keep()
	return nil
}

func (t *commit) run(c *conn) error {
	t.lives = t.s.lives() // which the transaction's begin has looked for
	if err := t.seek(c, t.changes); err != nil {
		return err
	}
	for _, ch := range t.changes {
		var err error
		if ch.Err, err = t.apply(ch); err != nil {
			return err
		}
	}
	steps := []func() error{t.flush, t.flushRuns, t.meetWaits, t.writeBatches, t.resolveKeys, t.claimEager, t.finish,
		t.writeCounters, t.closeEntities, t.writeFigures, t.runClosures, t.writeUpdates, t.closeBook, t.nameWoken}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// apply writes one change, or says why it is refused; then nothing of it is written.
func (t *commit) apply(ch *store.Change) (refused, err error) {
	if refused, err := t.fenceRun(ch); refused != nil || err != nil {
		return refused, err
	}
	if refused := errors.Join(checks.States(ch), checks.Drained(ch)); refused != nil {
		return refused, nil
	}
	missed, refused, err := t.expect(ch.Arrival)
	if refused != nil || err != nil {
		return refused, err
	}
	plans, refused, err := t.planStarts(ch.Runs, ch.Outside)
	if refused != nil || err != nil {
		return refused, err
	}
	if refused, err := t.fence(ch); refused != nil || err != nil {
		return refused, err
	}
	refused, err = t.append(ch.Sends, ch.Outside)
	if err != nil {
		return nil, err
	}
	if refused != nil {
		t.unfence(ch)
		return refused, nil
	}
	return nil, t.admit(ch, plans, missed)
}

// admit writes a change that nothing refuses any more, but for its sends.
func (t *commit) admit(ch *store.Change, plans []startPlan, missed bool) error {
	t.admitRun(ch)
	if err := t.start(ch.Runs, plans); err != nil {
		return err
	}
	if err := t.arrive(ch, missed); err != nil {
		return err
	}
	if err := errors.Join(t.drain(ch), t.writeStates(ch.States)); err != nil {
		return err
	}
	for i := range ch.Settle {
		if err := t.settle(&ch.Settle[i]); err != nil {
			return err
		}
	}
	for i := range ch.Starts {
		if err := t.begins(&ch.Starts[i]); err != nil {
			return err
		}
	}
	return nil
}

// keep tells the store what the transaction made true, once it is.
func (t *commit) keep() {
	t.g.Claimed = t.claimed
	t.g.Woken = union(t.g.Woken, t.names)
	t.s.keepWatch(t.watch)
	t.keepLeases()
	for _, b := range t.batches {
		if b.state == batchClosed {
			delete(t.s.watched, b.id)
		}
	}
}

// forgetRuns takes back what callers, and the leases, see of starts and updates that
// did not come about.
func (t *commit) forgetRuns() {
	t.restore()
	for _, ch := range t.changes {
		forgetStarts(ch.Runs)
		forgetStates(ch.States)
		if ch.Run == nil {
			continue
		}
		ch.Run.Unread = false
		for i := range ch.Run.Locks {
			ch.Run.Locks[i].Fence = 0
		}
	}
}

// keepLeases takes up the runs started here for this process, and lets go those released.
func (t *commit) keepLeases() {
	for i := range t.started {
		if r := &t.started[i]; r.epoch > 0 {
			t.ours.add(&lease{no: r.no, epoch: r.epoch, workflow: r.workflow, parent: int64(r.Parent), parentStep: r.parentStep})
		}
	}
	for _, u := range t.updates {
		if u.l.over {
			t.ours.drop(u.l.no)
		}
	}
}

func (t *commit) nameWoken() (err error) {
	t.names, err = t.wokenNames()
	return err
}

// closureError is a closure's failure, and whose it is.
type closureError struct {
	change *store.Change
	err    error
}

func (e *closureError) Error() string { return e.err.Error() }
func (e *closureError) Unwrap() error { return e.err }

// closuresError is a failure by what one of several closures wrote.
type closuresError struct{ err error }

func (e *closuresError) Error() string { return e.err.Error() }
func (e *closuresError) Unwrap() error { return e.err }

// blame makes the closures' what SQLite finds wrong with their rows no sooner than at the
// commit: a foreign key that is deferred, which the journal's are not.
func (t *commit) blame(err error) error {
	if _, known := errors.AsType[*closureError](err); known || sqlite.ErrCode(err) != sqlite.ResultConstraintForeignKey {
		return err
	}
	switch len(t.lent) {
	case 0:
		return err
	case 1:
		return &closureError{t.lent[0], err}
	}
	return &closuresError{err}
}

// closureTime is how long a closure may take: all others wait for it.
const closureTime = 5 * time.Second

// runClosures comes last: all that the closures leave with is in the transaction.
func (t *commit) runClosures() error {
	for _, ch := range t.changes {
		if ch.Err != nil || len(ch.Closures) == 0 {
			continue
		}
		t.lent = append(t.lent, ch)
		for _, f := range ch.Closures {
			if err := t.runClosure(f); err != nil {
				return &closureError{ch, err}
			}
		}
	}
	return nil
}

func (t *commit) runClosure(f store.Closure) (err error) {
	ctx, cancel := context.WithTimeoutCause(t.ctx, closureTime,
		fmt.Errorf("closure took longer than %s: %w", closureTime, context.DeadlineExceeded))
	defer cancel()
	tx := &ownTx{c: t.c, ctx: ctx}
	t.c.lent = true
	defer func() {
		t.c.lent = false
		if p := recover(); p != nil {
			err = fmt.Errorf("closure panicked: %v\n%s", p, debug.Stack())
		}
		if end := tx.end(); err == nil {
			err = end
		}
	}()
	err = f(ctx, tx)
	if ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) { // also when f did not notice
		err = errors.Join(context.Cause(ctx), err)
	}
	return err
}
