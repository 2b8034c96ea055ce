package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

// heldLine is the changes that need what a transaction of somebody else's holds. However many they are, two commits at
// most are under way for them: one looks again for all, and one stands in the database's own line, so that somebody
// has his turn where others send with the same key all the time.
type heldLine struct {
	mu      sync.Mutex
	waiting []*heldChange // without those under way
	looking bool          // somebody sees to the line
	stands  bool          // one stands in the database's line
	knock   chan struct{} // somebody has come
}

// heldChange is a change in the line.
type heldChange struct {
	change *store.Change
	ctx    context.Context // of who waits
	until  time.Time
	over   chan error // the database's, once it is decided
}

const (
	// heldPatience is how long is waited for a key. The crew's change would be tried again anyhow, as another attempt.
	heldPatience, heldPatienceCrew = 5 * time.Second, 10 * time.Second
	heldPauseMin, heldPauseMax     = 4 * time.Millisecond, 100 * time.Millisecond
	// heldMost is how many are looked at together.
	heldMost = 500
)

func newHeldLine() heldLine { return heldLine{knock: make(chan struct{}, 1)} }

// apart commits a change that needs a key which a transaction of somebody else's holds, while
// other groups go on. Its Err is ErrKeyHeld still when that lasts too long: the other
// transaction was forgotten, or belongs to nobody any more.
func (c *committer) apart(ctx context.Context, change *store.Change) error {
	patience := heldPatienceCrew
	if change.Outside {
		patience = heldPatience
	}
	h := &heldChange{change: change, ctx: ctx, until: time.Now().Add(patience), over: make(chan error, 1)}
	if c.held.join(h) {
		go c.seeToHeld()
	}
	select {
	case err := <-h.over:
		return err
	case <-ctx.Done():
		if c.held.leave(h) {
			return context.Cause(ctx)
		}
		return <-h.over // it is under way: its outcome is near
	}
}

// join puts a change into the line; first says that nobody sees to that yet.
func (l *heldLine) join(h *heldChange) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, h)
	first, l.looking = !l.looking, true
	if !first {
		select {
		case l.knock <- struct{}{}:
		default:
		}
	}
	return first
}

// leave takes a change out of the line, unless it is under way.
func (l *heldLine) leave(h *heldChange) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.waiting)
	l.waiting = slices.DeleteFunc(l.waiting, func(w *heldChange) bool { return w == h })
	return len(l.waiting) < n
}

// next takes out of the line who is to stand in the database's, if nobody does, and who is looked at; neither when it is
// empty, and then nobody sees to it any more.
func (l *heldLine) next() (stands *heldChange, looks []*heldChange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.stands {
		if i := slices.IndexFunc(l.waiting, mayStand); i >= 0 {
			stands, l.stands = l.waiting[i], true
			l.waiting = slices.Delete(l.waiting, i, i+1)
		}
	}
	n := min(len(l.waiting), heldMost)
	looks = slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	l.looking = stands != nil || len(looks) > 0
	return stands, looks
}

// mayStand reports whether a change that waits in the database holds nothing meanwhile that others need: no row, and
// no other key.
func mayStand(h *heldChange) bool {
	ch := h.change
	return ch.Outside && len(ch.Sends)+len(ch.Runs) == 1 && len(ch.States)+len(ch.Settle)+len(ch.Drained)+len(ch.Closures) == 0 &&
		ch.Run == nil && ch.Arrival == nil && (len(ch.Runs) == 1 || (ch.Sends[0].Key == "") != (ch.Sends[0].Dedup == "") && ch.Sends[0].Origin == nil)
}

// seeToHeld looks again and again for those in the line, until it is empty.
func (c *committer) seeToHeld() {
	for pause := heldPauseMin; ; pause = min(2*pause, heldPauseMax) {
		stands, looks := c.held.next()
		if stands == nil && len(looks) == 0 {
			return
		}
		if stands != nil {
			go c.standHeld(stands)
		}
		if len(looks) > 0 && c.lookAgain(looks) {
			pause = heldPauseMin
		}
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-c.held.knock:
			timer.Stop()
			pause = heldPauseMin
			time.Sleep(pause) // others come, too
		}
	}
}

// lookAgain commits what is free by now, and puts back the rest; some says that something was.
func (c *committer) lookAgain(looks []*heldChange) (some bool) {
	f := &inFlight{group: store.Group{Held: store.HeldAgain}}
	for _, h := range looks {
		f.group.Changes = append(f.group.Changes, h.change)
	}
	err := c.st.Commit(context.Background(), &f.group)
	c.after(f, err)
	now := time.Now()
	var rest []*heldChange
	for _, h := range looks {
		switch held := err == nil && h.change.Err != nil && errors.Is(h.change.Err, store.ErrKeyHeld); {
		case !held || now.After(h.until):
			some = some || !held
			h.over <- err
		case h.ctx.Err() != nil:
			h.over <- context.Cause(h.ctx)
		default:
			rest = append(rest, h)
		}
	}
	c.held.mu.Lock()
	defer c.held.mu.Unlock()
	c.held.waiting = append(c.held.waiting, rest...) // behind those who were not looked at
	return some
}

// standHeld has a change wait in the database.
func (c *committer) standHeld(h *heldChange) {
	f := &inFlight{group: store.Group{Changes: []*store.Change{h.change}, Held: store.HeldApart}}
	err := c.st.Commit(h.ctx, &f.group)
	if err != nil && h.ctx.Err() != nil && errors.Is(err, context.Cause(h.ctx)) {
		c.after(f, errGivenUp)
	} else {
		c.after(f, err)
	}
	c.held.mu.Lock()
	c.held.stands = false
	c.held.mu.Unlock()
	h.over <- err
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
