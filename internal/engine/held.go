package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/weir-go/weir/store"
)

// heldLine bounds how many commits wait in the database for keys that others hold.
type heldLine chan struct{}

const (
	// heldWaiters wait in the database's own line for a key, each with a connection; the
	// others ask again and again.
	heldWaiters = 2
	// heldPatience is how long is asked before a key counts as held for good.
	heldPatience               = 10 * time.Second
	heldPauseMin, heldPauseMax = 2 * time.Millisecond, 100 * time.Millisecond
)

// apart commits a change that needs a key which a transaction of somebody else's holds, while
// other groups go on. Its Err is ErrKeyHeld still when that lasts too long: the other
// transaction was forgotten, or belongs to nobody any more.
func (c *committer) apart(ctx context.Context, change *store.Change) error {
	until := time.Now().Add(heldPatience)
	for pause := heldPauseMin; ; pause = min(2*pause, heldPauseMax) {
		waited, err := c.commitApart(ctx, change)
		if err != nil || waited || !errors.Is(change.Err, store.ErrKeyHeld) || time.Now().After(until) {
			return err
		}
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// commitApart is one try; waited says that it stood in the database's line.
func (c *committer) commitApart(ctx context.Context, change *store.Change) (waited bool, err error) {
	f := &inFlight{group: store.Group{Changes: []*store.Change{change}, Held: store.HeldIsRefused}}
	g := &f.group
	select {
	case c.held <- struct{}{}:
		defer func() { <-c.held }()
		g.Held, waited = store.HeldApart, true
	default:
	}
	err = c.st.Commit(ctx, g)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		c.after(f, errGivenUp)
	} else {
		c.after(f, err)
	}
	return waited, err
}

// commitApart is commit for a change of the crew's that came back with ErrKeyHeld.
func (l *life) commitApart(change *store.Change) error {
	return l.patiently(l.patience, func(ctx context.Context) error {
		if err := l.commits.apart(ctx, change); err != nil {
			return err
		}
		if err := change.Err; err != nil && away(err) {
			return err
		}
		return nil
	})
}
