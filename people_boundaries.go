package weir

import (
	"context"

	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
)

// What people ask about other stores' boundaries.
type (
	// LaneOut is what waits here for another boundary, or is under way to it.
	LaneOut = engine.LaneOut
	// LaneIn is how far what another boundary sends has come here.
	LaneIn = engine.LaneIn
)

// Lanes lists what goes between this store's boundaries and others': out by queue, in by lane, at most 1,000 each. A boundary
// here whose inlet cannot be read has a row before those in, under its name alone.
// What a process knows of its relays and inlets it writes every 2 s, if it has changed; so anybody who opens
// the store may ask.
func (e *Engine) Lanes(ctx context.Context) (out []LaneOut, in []LaneIn, err error) {
	return e.core.ReadLanes(ctx)
}

// ForgetLane forgets how far a lane of [Engine.Lanes] is here, whose sender is gone for good. Should it come
// back all the same, what it has not heard to be here is taken in a second time. [ErrConflict] while the lane was heard of
// within the last hour, [ErrNotFound] if nothing has come on it. A lane whose sender has settled all that is here needs no
// person: it is forgotten once nothing was heard of the sender for as long as messages are kept.
func (e *Engine) ForgetLane(ctx context.Context, lane string, b Because) error {
	_, err := e.core.Operate(ctx, store.Act{Verb: store.ForgetLane, Lane: lane, By: b.By, Why: b.Why})
	return err
}

// RenewStore begins a new life of a store that was restored from an older copy, so that what it sends from now on is
// not taken for what it sent after the copy was made, and has forgotten. Messages keep their IDs; new ones get
// others. [ErrConflict] while a process works the store. PostgreSQL's failovers are noticed by themselves.
func (e *Engine) RenewStore(ctx context.Context, b Because) error {
	_, err := e.core.Operate(ctx, store.Act{Verb: store.RenewStore, By: b.By, Why: b.Why})
	return err
}
