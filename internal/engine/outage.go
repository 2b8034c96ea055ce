package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

// outage knows whether the database can be reached, so that its going and coming are
// logged once, however many ask for it meanwhile.
type outage struct {
	mu    sync.Mutex
	since time.Time // zero: it is there
	loud  time.Time // when that was last logged
}

// While the database is away each member of the crew asks for it again and again, with a
// pause that doubles, and in no step with others.
const (
	outagePauseMin = 20 * time.Millisecond
	outagePauseMax = 2 * time.Second
	// outageAgain is how often a person hears of it while it lasts. It may be one call only that fails, again and
	// again, since it takes longer than it may.
	outageAgain = 10 * time.Minute
)

// patiently makes a call of the store, and makes it again as long as the database is
// away; until ctx is done. What fails otherwise, or nobody knows the end of, is returned.
func (e *Engine) patiently(ctx context.Context, call func(context.Context) error) error {
	for pause := outagePauseMin; ; pause = min(2*pause, outagePauseMax) {
		err := call(ctx)
		if !away(err) {
			if pause > outagePauseMin && err == nil {
				e.outage.ends(e)
			}
			return err
		}
		if ctx.Err() != nil {
			return err
		}
		e.outage.begins(e, err)
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// away reports whether err says that the database is, and that nothing was written.
func away(err error) bool {
	return err != nil && errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrUnresolved)
}

func (o *outage) begins(e *Engine, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	switch {
	case o.since.IsZero():
		o.since = now
		e.log.Warn("the database is away: weir waits for it", keyError, err)
	case now.Sub(o.loud) < outageAgain:
		return
	default:
		e.log.Error("the database is still away, or one call of it fails again and again: weir waits for it", keyError, err, "since", o.since)
	}
	o.loud = now
}

func (o *outage) ends(e *Engine) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.since.IsZero() {
		e.log.Info("the database is back", "after", time.Since(o.since).Round(time.Millisecond))
		o.since = time.Time{}
	}
}
