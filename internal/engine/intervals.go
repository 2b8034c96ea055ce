package engine

import (
	"context"
	"time"
)

// Intervals are how often the crew looks for itself after what it is told of as a
// rule. Zero fields mean the default, which is right for all but package weirtest:
// in its fake time a day is a few steps, unless somebody looks every 10 ms.
type Intervals struct {
	Heartbeat time.Duration // how often the process says that it lives. Default 5 s, at most a fifth of the store's lease
	Reap      time.Duration // how soon handlers that ignore their context are noticed. Default 1 s
	Watch     time.Duration // how soon is seen what others have sent or done. Default 10 ms
	Poll      time.Duration // how often is claimed, whatever the hints say. Default 1 s
	Result    time.Duration // how often the end of a run is asked for that this process works. Default 2 s
	Figures   time.Duration // how often figures are written. Default 1 s
	Beat      time.Duration // how often an entity's owner tells its followers how far it is, and they look. Default 10 s
	Exchange  time.Duration // how soon relays are found that others have made, and duties taken over. Default 500 ms
	Prune     time.Duration // how often retention is looked after. Default: a tenth of it, 1 s to 1 min

	// Look makes the monitor look at once, whatever the intervals. Default nil: never.
	Look <-chan struct{}
}

// beatsOfLease is how often a process beats in the time after which it would be believed
// lost, so that a beat that is late costs it nothing.
const beatsOfLease = 5

// beatInterval is a sixth of the time after which a version that has not come is gone after.
const beatInterval = 10 * time.Second

// resultInterval is for ends that this process is told of: it should not be needed.
const resultInterval = 2 * time.Second

func (i Intervals) withDefaults(keep, lease time.Duration) Intervals {
	or := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	beat := heartbeatInterval
	if lease > 0 {
		beat = min(beat, lease/beatsOfLease)
	}
	or(&i.Heartbeat, beat)
	or(&i.Reap, reapInterval)
	or(&i.Watch, watchInterval)
	or(&i.Poll, pollInterval)
	or(&i.Result, resultInterval)
	or(&i.Figures, figuresInterval)
	or(&i.Beat, beatInterval)
	or(&i.Exchange, exchangeTick)
	or(&i.Prune, min(max(keep/10, time.Second), time.Minute))
	return i
}

type intervalsKey struct{}

// WithIntervals gives the intervals to an engine that is opened with the context.
// So they need no field in the configuration that users see.
func WithIntervals(ctx context.Context, i Intervals) context.Context {
	return context.WithValue(ctx, intervalsKey{}, i)
}

// IntervalsOf is what WithIntervals has put there; else the zero value.
func IntervalsOf(ctx context.Context) Intervals {
	i, _ := ctx.Value(intervalsKey{}).(Intervals)
	return i
}
