package postgres

import (
	"context"
	"maps"
	"slices"

	"github.com/weir-go/weir/store"
)

// Changes that need what others' transactions hold are committed on a connection of aside, of which they have
// apartMost at most: so they take none from whoever sends or works, however many they are and however few connections
// there are. What they look at again takes the senders' turn only once it is free.

// apartMost leaves as many of aside's connections to who holds another meanwhile, these too.
const apartMost = 2

// commitOn finds a connection, and commits all of a group.
func (s *Store) commitOn(ctx context.Context, g *store.Group) (written int, err error) {
	if g.Held == store.HeldApart || g.Held == store.HeldAgain {
		return s.commitHeld(ctx, g)
	}
	x := &seat{s: s, pool: s.pool}
	defer x.leave()
	if _, err := x.take(ctx); err != nil {
		return 0, failChanges(g.Changes, err)
	}
	return s.commitGroup(ctx, x, g)
}

// commitHeld is Commit for what came back with ErrKeyHeld before.
func (s *Store) commitHeld(ctx context.Context, g *store.Group) (written int, err error) {
	select {
	case s.heldApart <- struct{}{}:
		defer func() { <-s.heldApart }()
	case <-ctx.Done():
		return 0, failChanges(g.Changes, context.Cause(ctx))
	}
	x := &seat{s: s, pool: s.aside}
	defer x.leave()
	free := *g
	if g.Held == store.HeldAgain {
		free.Held = store.HeldIsRefused
		if free.Changes, err = s.free(ctx, x, g.Changes); err != nil {
			return 0, failChanges(g.Changes, err)
		}
		if len(free.Changes) == 0 {
			return 0, nil
		}
	}
	if _, err := x.take(ctx); err != nil {
		return 0, failChanges(g.Changes, err)
	}
	written, err = s.commitGroup(ctx, x, &free)
	g.Claimed, g.Woken = free.Claimed, free.Woken
	return written, err
}

// free looks which changes need nothing that others hold; the rest have ErrKeyHeld. It keeps no lock, and draws
// no position.
func (s *Store) free(ctx context.Context, x *seat, changes []*store.Change) (free []*store.Change, err error) {
	keys, starts := map[int64]bool{}, map[int64]bool{}
	for _, ch := range changes {
		s.heldKeys(ch, keys)
		for _, st := range ch.Runs {
			starts[s.startLock(st)] = true
		}
	}
	states := s.stateLocks(changes...)
	a := &appender{}
	for _, look := range []struct {
		query string
		locks []int64
		args  []any
	}{
		{sqlTryKeys, slices.Sorted(maps.Keys(keys)), nil},
		{sqlTestStarts, slices.Sorted(maps.Keys(starts)), []any{s.startsLock()}},
		{sqlTestStarts, states, []any{s.statesLock()}},
	} {
		for part := range slices.Chunk(look.locks, keysMost) {
			if err := s.look(ctx, x, look.query, append([]any{part}, look.args...), a.readBusy); err != nil {
				return nil, err
			}
		}
	}
	for _, ch := range changes {
		if ch.Err = nil; len(a.busy) > 0 && s.needs(ch, a.busy) {
			ch.Err = store.ErrKeyHeld
			continue
		}
		free = append(free, ch)
	}
	return free, nil
}

// look asks one question in no transaction, so that what it locks is free again when it is answered.
func (s *Store) look(ctx context.Context, x *seat, query string, args []any, row func(scan) error) error {
	c, err := x.take(ctx)
	if err != nil {
		return err
	}
	io, cancel := limited(ctx, s.silence())
	defer cancel()
	t := &tx{s: s, ctx: io, w: pgxWire{c, c.Conn()}}
	return t.get(query, row, args...)
}

// heldKeys are the locks of the keys that a change sends with, and waits for.
func (s *Store) heldKeys(ch *store.Change, into map[int64]bool) {
	s.locksOf(ch.Sends, into)
	if ch.Run != nil {
		for i := range ch.Run.Waits {
			if w := &ch.Run.Waits[i]; w.Reply == 0 {
				into[s.keyLock(w.Topic.Name, w.Key)] = true
			}
		}
	}
}

// needs reports whether a change needs one of these locks.
func (s *Store) needs(ch *store.Change, busy map[int64]bool) bool {
	locks := map[int64]bool{}
	s.heldKeys(ch, locks)
	for _, st := range ch.Runs {
		locks[s.startLock(st)] = true
	}
	for _, h := range s.stateLocks(ch) {
		locks[h] = true
	}
	for h := range locks {
		if busy[h] {
			return true
		}
	}
	return false
}
