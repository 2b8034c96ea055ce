package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/weir-go/weir"
)

// replays is how many long runs are made, and woken one after another.
const replays = 5

// replay is the time from the signal that wakes a run of many recorded steps, which
// waits and is not in memory, to its result.
func (b *workflowBench) replay(ctx context.Context) error {
	long := weir.NewWorkflow[int, int64]("bench.long")
	wake := weir.NewSignal[weir.None]("bench.wake")
	var done atomic.Int64
	f, err := b.open(ctx, func(e *weir.Engine) {
		weir.Register(e, long, func(r *weir.Run, steps int) (int64, error) {
			sum := int64(0)
			for i := range steps {
				n, err := weir.Step(r, "item", func(context.Context) (int64, error) { return done.Add(1), nil }, weir.Key(strconv.Itoa(i)))
				if err != nil {
					return 0, err
				}
				sum += n
			}
			_, err := weir.WaitFor(r, "go", wake)
			return sum, err
		}, weir.Runs{MaxSteps: b.Steps + 1})
	})
	if err != nil {
		return err
	}
	took, err := b.replayIn(ctx, f, long, wake)
	if err := errors.Join(err, f.finish()); err != nil {
		return err
	}
	if n := int(done.Load()); n != replays*b.Steps {
		return fmt.Errorf("%d steps were done for %d runs of %d", n, replays, b.Steps)
	}
	slices.Sort(took)
	b.result.ReplayMedian, b.result.ReplayLongest = milliseconds(took[replays/2]), milliseconds(took[replays-1])
	b.tell("replay: %.0f ms, %.0f the longest of %d", b.result.ReplayMedian, b.result.ReplayLongest, replays)
	return nil
}

func (b *workflowBench) replayIn(ctx context.Context, f *flowRig, long weir.Workflow[int, int64], wake weir.Signal[weir.None]) ([]time.Duration, error) {
	refs := make([]weir.RunRef[int64], replays)
	began := time.Now()
	for i := range refs {
		var err error
		if refs[i], err = weir.Start(ctx, f.eng, long, "long-"+strconv.Itoa(i), b.Steps); err != nil {
			return nil, err
		}
	}
	if err := f.waitCount(ctx, long.Name(), string(weir.RunWaiting), replays); err != nil {
		return nil, err
	}
	b.result.RecordedPerS = replays * float64(b.Steps) / time.Since(began).Seconds()
	var took []time.Duration
	for _, ref := range refs {
		began := time.Now()
		if err := weir.Tell(ctx, f.eng, wake, ref.ID, weir.None{}); err != nil {
			return nil, err
		}
		if _, err := ref.Result(ctx); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}
