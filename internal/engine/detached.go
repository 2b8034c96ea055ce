package engine

import (
	"context"
	"time"

	"github.com/weir-go/weir/store"
)

type detachedKey struct{}

// WithDetached makes an engine, opened with the context, that owns everything and works
// nothing: what is registered with it goes to told. It is for package weirtest, which
// calls users' handlers with messages that no queue knows.
func WithDetached(ctx context.Context, told func(s Settings, faults error)) context.Context {
	return context.WithValue(ctx, detachedKey{}, told)
}

// DetachedOf is what WithDetached has put there; else nil.
func DetachedOf(ctx context.Context) func(s Settings, faults error) {
	told, _ := ctx.Value(detachedKey{}).(func(s Settings, faults error))
	return told
}

// Detached says whether the engine was made so by WithDetached.
func (e *Engine) Detached() bool { return e.config.Detached != nil }

// Detach makes an attempt at a message outside of any queue. What it causes is
// kept and written nowhere; see Caused. Its context ends with ctx.
func Detach(ctx context.Context, m *store.Message, s Settings) *Attempt {
	q := &queue{e: &life{work: ctx}, settings: s}
	return &Attempt{Message: m, Number: 1, q: q, started: time.Now()}
}

// Caused is what the attempt would write with its acknowledgement.
func (a *Attempt) Caused() store.Change {
	return store.Change{Sends: a.sends, States: a.states, Runs: a.runs, Closures: a.closures}
}
