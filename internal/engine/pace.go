package engine

import (
	"time"

	"github.com/weir-go/weir/store"
)

// pace decides how far ahead of its workers a queue claims: about what a second
// of work needs, so that a fast queue takes full batches and a slow one leaves
// its messages to others (and has few suspects after a crash). It starts at the
// number of workers, doubles while a claim lasts less than half a second, and
// shrinks to what was worked when one lasts longer than a second.
type pace struct {
	floor  int
	target int
	since  time.Time // of the claim before
	done   int64     // by then
}

func newPace(workers int) pace {
	return pace{floor: min(workers, store.MaxBatch), target: min(workers, store.MaxBatch)}
}

// low is the level of what is claimed and not started at which to claim again.
func (p *pace) low() int { return p.target / 2 }

// claimed is told of a claim at now that found work, with the count of messages done so far.
func (p *pace) claimed(now time.Time, done int64) {
	lasted := now.Sub(p.since)
	switch {
	case p.since.IsZero():
	case lasted < time.Second/2:
		p.target = min(2*p.target, paceMax)
	case lasted > time.Second:
		perSecond := int(float64(done-p.done) / lasted.Seconds())
		p.target = min(max(perSecond, p.floor), paceMax)
	}
	p.since, p.done = now, done
}

// paceMax lets one batch be worked while the next is claimed.
const paceMax = 2 * store.MaxBatch
