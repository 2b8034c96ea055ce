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
func (e *Engine) suspectRuns(ctx context.Context) error {
	for _, w := range e.workflows {
		for ctx.Err() == nil {
			c, err := e.st.Claim(ctx, store.ClaimRequest{Workflow: w.settings.Name, Max: 1, Suspects: true})
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
			e.log.Warn("a run that ended its process runs alone", keyWorkflow, w.settings.Name, keyRun, run.ID, "crashes", run.Crashes)
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

// suspects lets first-time suspects in, a group at a time. Until all have begun some
// places are kept for them: the others would take each one as it becomes free.
func (w *workflow) suspects(ctx context.Context) error {
	defer func() {
		w.mu.Lock()
		w.kept = 0
		w.mu.Unlock()
		w.look()
	}()
	for ctx.Err() == nil {
		w.mu.Lock()
		room := min(suspectGroup, w.settings.Concurrency-w.taken)
		if room <= 0 {
			w.mu.Unlock()
			select {
			case <-ctx.Done():
			case <-time.After(suspectRoom):
			}
			continue
		}
		w.taken += room
		w.mu.Unlock()
		c, err := w.e.st.Claim(ctx, store.ClaimRequest{Workflow: w.settings.Name, Max: room, Suspects: true})
		w.mu.Lock()
		w.taken -= room - len(c.Runs)
		w.mu.Unlock()
		if err != nil || len(c.Runs) == 0 {
			return err
		}
		all := make([]chan struct{}, len(c.Runs))
		for i, run := range c.Runs {
			all[i] = make(chan struct{})
			w.begin(run, all[i])
		}
		w.wait(ctx, all)
	}
	return nil
}
