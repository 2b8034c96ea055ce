package jetstream

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// sweepPause lets acknowledgements gather. It is how long room in a full stream may go unnoticed.
	sweepPause = 20 * time.Millisecond
	// sweepRest is the longest pause between looks at a floor that does not rise: something is held.
	sweepRest = time.Second
)

// sweep deletes from the stream what is acknowledged, until the inlet is closed.
//
// A work queue would do it by itself, message by message, and each deletion is a write that is synced:
// half of all the work of a message. Here all below the consumer's floor goes at once. So what was acknowledged
// behind a packet that is held takes room until that one is acknowledged too.
func (in *inlet) sweep() {
	defer close(in.swept)
	for {
		select {
		case <-in.done:
			return
		case <-in.acked:
		}
		for pause := sweepPause; ; pause = min(2*pause, sweepRest) {
			if in.rest(pause) {
				pause = sweepPause
			}
			if in.over() || in.sweepOnce(context.Background()) {
				break
			}
		}
	}
}

// rest waits before the next look; when more is acknowledged meanwhile, which it says, not for long.
func (in *inlet) rest(pause time.Duration) (more bool) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-in.done:
	case <-timer.C:
	case <-in.acked:
		in.t.pause(context.Background(), sweepPause)
		return true
	}
	return false
}

func (in *inlet) over() bool {
	select {
	case <-in.done:
		return true
	default:
		return false
	}
}

// sweepOnce deletes what is acknowledged so far; true when that is all that we have acknowledged. What
// goes wrong is tried again, or done by the next inlet.
func (in *inlet) sweepOnce(ctx context.Context) bool {
	ctx, cancel := in.t.asking(ctx)
	defer cancel()
	s, err := in.t.js.Stream(ctx, streamOf(in.boundary)) // first: the floor is not one of a stream before this one
	if err != nil {
		return false
	}
	c, err := in.t.js.Consumer(ctx, streamOf(in.boundary), consumerName)
	if err != nil {
		return false
	}
	floor := c.CachedInfo().AckFloor.Stream
	// What the stream has tells, not what we deleted last: a stream that was made anew counts from 1, and comes to the same floor.
	if floor > 0 && floor >= s.CachedInfo().State.FirstSeq {
		if err := s.Purge(ctx, jetstream.WithPurgeSequence(floor+1)); err != nil {
			return false
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.highest <= floor
}
