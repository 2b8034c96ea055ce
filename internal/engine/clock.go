package engine

import (
	"context"
	"time"
)

// Where many machines work a store, times that it keeps are by its own clock: it judges what is due. A machine's clock
// is taken for the same as long as the two differ by no more than clockTolerance. Where they differ by more the engine
// counts from the store's time, as it was when the life began; timers and the contexts of attempts go by the machine's all the same.

// clockTolerance is far beyond what clocks differ by that are set by NTP.
const clockTolerance = time.Second

// clockAhead is how far this machine's clock is at least ahead of the store's, which told its time between two moments;
// negative when it is behind.
func clockAhead(asked, told, answered time.Time) time.Duration {
	if told.Before(asked) {
		return asked.Sub(told)
	}
	return min(0, answered.Sub(told))
}

// setClock learns of the store's clock, which told its time between asked and now.
func (e *Engine) setClock(ctx context.Context, asked, told time.Time) {
	ahead := time.Duration(0)
	if clockAhead(asked, told, time.Now()).Abs() > clockTolerance {
		ahead = asked.Sub(told) // no more than it is: nothing comes early
		e.log.ErrorContext(ctx, "this machine's clock is not the database's: what is delayed, retried or asleep goes by the database's, as it was now; have both set by NTP",
			"store", e.st.Info().Name, "ahead", ahead.Round(time.Millisecond).String())
	}
	e.ahead.Store(int64(ahead))
}

// Now is the time by the store's clock.
func (e *Engine) Now() time.Time { return e.stored(time.Now()) }

// stored is what the store's clock shows when this machine's shows t.
func (e *Engine) stored(t time.Time) time.Time {
	if ahead := e.ahead.Load(); ahead != 0 {
		return t.Add(-time.Duration(ahead))
	}
	return t
}

// since is how long ago a moment was by the store's clock; until, how long it is until then.
func (e *Engine) since(t time.Time) time.Duration { return e.Now().Sub(t) }
func (e *Engine) until(t time.Time) time.Duration { return t.Sub(e.Now()) }
