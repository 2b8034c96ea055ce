package weir

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
)

// Engine is weir in one process, on one store. It sends from the moment it is
// opened; it handles while Run runs. All methods may be called concurrently.
type Engine struct {
	config   Config
	owns     map[string]bool
	st       store.Store
	core     *engine.Engine
	flows    sync.Map // of workflow's name to *flow
	heard    sync.Map // names of events that somebody here subscribes to
	replicas sync.Map // of entity's name to *Replica
}

// Open opens the store and an engine on it: weir.Open(ctx, sqlite.File("kitchen.db"), weir.Config{…}).
// On SQLite several processes may open a file to send, read and operate; one at a time may Run.
// On PostgreSQL any number may Run.
// Close it when done.
func Open(ctx context.Context, open store.Opener, c Config) (*Engine, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if open == nil {
		return nil, errors.New("weir: Open: no store is given: want sqlite.File(path), or postgres.DB(dsn)")
	}
	st, err := open(ctx)
	if err != nil {
		return nil, fmt.Errorf("weir: open store: %w", err)
	}
	e := &Engine{config: c, owns: make(map[string]bool, len(c.Owns)), st: st}
	for _, name := range c.Owns {
		e.owns[name] = true
	}
	e.core = engine.New(st, engine.Config{
		Owns: c.Owns, Log: c.Log, Version: Version, Keep: c.Keep, StopTimeout: c.StopTimeout,
		Intervals: engine.IntervalsOf(ctx), Detached: engine.DetachedOf(ctx), Exchange: c.exchange(),
	})
	return e, nil
}

// Run works the registered queues until ctx is done. It returns at once, with
// every wiring fault joined, if there is any, or with a [*HeldError] if another
// process works the file; later with nil after a stop, or with the error that made it
// stop: on a failing store it stops rather than guess. At a stop it lets running handlers
// finish (Config.StopTimeout), hands back what it had claimed, and joins its goroutines.
//
// On a store that several processes work it waits for a database that is away, for as long as
// that takes. A process that others had to take for lost, since it was stopped or cut off for
// longer than its lease, cancels its handlers with [ErrLeaseLost], has nothing accepted that
// it still does for what others have taken over, and joins again as a new process. Handlers that
// ignore their context for 5 s are left behind then, and what they do is refused.
func (e *Engine) Run(ctx context.Context) error { return e.core.Run(ctx) }

// Ready is closed once Run has made its queues known to the store, with their
// capacities, and begins to work them.
func (e *Engine) Ready() <-chan struct{} { return e.core.Ready() }

// Close ends all use of the engine and its store. A running Run is stopped first.
func (e *Engine) Close() error {
	return errors.Join(e.core.Close(), e.st.Close())
}
