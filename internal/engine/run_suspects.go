package engine

import (
	"context"
	"time"

	"github.com/weir-go/weir/store"
)

// Runs that were in memory when their process ended uncleanly are suspects, and the
// store counts their crashes, until they get on (Sober). After one crash they run
// among the others, few at a time, so that the next crash has few suspects. From the
// second on each runs alone, before anything else does, and after runCrashLimit it is
// parked. A suspect that has run alone for some time lets the next one start.

const (
	suspectGroup = 64                    // first-time suspects in memory at a time
	suspectRoom  = 50 * time.Millisecond // how soon room is looked for again
	suspectAlone = 5 * time.Second       // how long a lone suspect holds up all others
)

// suspectRuns runs alone the suspects of more than one crash. What is left is for
// the dispatchers.
func (l *life) suspectRuns(ctx context.Context) error {
	for _, w := range l.workflows {
		for ctx.Err() == nil {
			c, err := l.claim(ctx, store.ClaimRequest{Workflow: w.settings.Name, Max: 1, Suspects: true})
			if err != nil || len(c.Runs) == 0 {
				if err != nil {
					return ignoreStop(ctx, err)
				}
				break
			}
			run := c.Runs[0]
			w.mu.Lock()
			w.taken++
			w.mu.Unlock()
			gone := make(chan struct{})
			w.begin(run, gone)
			if run.Crashes < 2 {
				break // these come with the most crashes first
			}
			l.log.Warn("a run that ended its process runs alone", keyWorkflow, w.settings.Name, keyRun, run.ID, "crashes", run.Crashes)
			timer := time.NewTimer(suspectAlone)
			select {
			case <-gone:
			case <-timer.C:
			case <-ctx.Done():
			}
			timer.Stop()
		}
	}
	return nil
}

// wait waits until all have left, or some time has passed.
func (w *workflow) wait(ctx context.Context, all []chan struct{}) {
	timer := time.NewTimer(suspectAlone)
	defer timer.Stop()
	for _, gone := range all {
		select {
		case <-gone:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// suspects lets suspects in whenever there are some: those that earlier processes left,
// and, where several work a store, those of processes that end later.
func (w *workflow) suspects(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := w.admitSuspects(ctx); err != nil {
			return err
		}
		w.keep(0)
		w.look()
		select {
		case <-ctx.Done():
		case <-w.suspected:
			w.keepForSuspects()
		}
	}
	return nil
}

// keepForSuspects keeps some places for suspects, until all have begun: the others would
// take each one as it becomes free.
func (w *workflow) keepForSuspects() { w.keep(min(suspectGroup, (w.settings.Concurrency+1)/2)) }

func (w *workflow) keep(places int) {
	w.mu.Lock()
	w.kept = places
	w.mu.Unlock()
}

// admitSuspects lets suspects in, until none is ready: a group at a time, but alone
// among suspects those of more than one crash.
func (w *workflow) admitSuspects(ctx context.Context) error {
	for ctx.Err() == nil {
		first, full, err := w.claimSuspects(ctx, 1)
		if err != nil || len(first) == 0 && !full {
			return ignoreStop(ctx, err)
		}
		if full {
			select {
			case <-ctx.Done():
			case <-time.After(suspectRoom):
			}
			continue
		}
		all := w.beginSuspects(first, nil)
		if first[0].Crashes < 2 {
			others, _, err := w.claimSuspects(ctx, suspectGroup-1)
			if err != nil {
				return ignoreStop(ctx, err)
			}
			all = w.beginSuspects(others, all)
		}
		w.wait(ctx, all)
	}
	return nil
}

// claimSuspects claims at most so many, as far as there are places; full: there is none.
func (w *workflow) claimSuspects(ctx context.Context, most int) (runs []*store.Run, full bool, err error) {
	w.mu.Lock()
	room := max(min(most, w.settings.Concurrency-w.taken), 0)
	w.taken += room
	w.mu.Unlock()
	if room == 0 {
		return nil, true, nil
	}
	c, err := w.e.claim(ctx, store.ClaimRequest{Workflow: w.settings.Name, Max: room, Suspects: true})
	w.mu.Lock()
	w.taken -= room - len(c.Runs)
	w.mu.Unlock()
	return c.Runs, false, err
}

// beginSuspects begins runs and adds to all what is closed when they have left memory.
func (w *workflow) beginSuspects(runs []*store.Run, all []chan struct{}) []chan struct{} {
	for _, run := range runs {
		gone := make(chan struct{})
		w.begin(run, gone)
		all = append(all, gone)
	}
	return all
}
