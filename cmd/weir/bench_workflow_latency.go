package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/weir-go/weir"
)

// The latency of a run is measured at two paces. Processors sleep while there is nothing to
// do, and a disk does, so what comes after 10 ms of idleness first waits for them to wake:
// at idleRate that is most of what is measured. At runRate, on SQLite still less than a
// hundredth of what the engine does, it is mostly the engine.
const (
	idleRate = 100 // runs a second
	runRate  = 300

	// floorCommits is how many commits a run of three steps waits for: its start, two steps, and the
	// third with the end.
	floorCommits = 4
)

// latency is the time from a start's call to its result at both paces, each beside its floor:
// as many durable commits of one row, one after another, by the driver alone.
func (b *workflowBench) latency(ctx context.Context) error {
	r := &b.result
	for _, at := range []struct {
		rate            int
		floor, p50, p99 *float64
	}{
		{idleRate, &r.FloorIdleP50, &r.RunIdleP50, &r.RunIdleP99},
		{runRate, &r.FloorP50, &r.RunP50, &r.RunP99},
	} {
		floor, err := b.floor(ctx, at.rate)
		if err != nil {
			return err
		}
		took, err := b.runsAt(ctx, at.rate)
		if err != nil {
			return err
		}
		*at.floor, *at.p50, *at.p99 = floor.p50, took.p50, took.p99
		b.tell("latency at %d/s: p50 %.2f ms, p99 %.2f ms; %d commits of the driver alone: %.2f ms", at.rate, took.p50, took.p99, floorCommits, floor.p50)
	}
	return nil
}

func latencyRow(w io.Writer, what string, rate int, run percentiles, floor float64) {
	fmt.Fprintf(w, "one run at %d/s, %s\tp50 %.2f ms, p99 %.2f ms\tthe driver alone, %d commits: p50 %.2f ms\n", rate, what, run.p50, run.p99, floorCommits, floor)
}

// percentiles are in milliseconds.
type percentiles struct{ p50, p99 float64 }

// pace calls f so often a second, for as long as --latency says, and gathers how long it took;
// calls may overlap. f is told how many have gone before.
func (b *workflowBench) pace(rate int, f func(i int) (time.Duration, error)) (percentiles, error) {
	n := max(int(b.Latency*float64(rate)), 10)
	took, errs := make([]time.Duration, n), make([]error, n)
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	var wg sync.WaitGroup
	for i := range n {
		<-tick.C
		wg.Go(func() { took[i], errs[i] = f(i) })
	}
	wg.Wait()
	slices.Sort(took)
	return percentiles{milliseconds(took[n/2]), milliseconds(took[n*99/100])}, errors.Join(errs...)
}

// runsAt is the latency of runs of three steps at a pace.
func (b *workflowBench) runsAt(ctx context.Context, rate int) (percentiles, error) {
	w := threeStepsContract()
	f, err := b.open(ctx, func(e *weir.Engine) { weir.Register(e, w, threeSteps, b.places()) })
	if err != nil {
		return percentiles{}, err
	}
	took, err := b.pace(rate, func(i int) (time.Duration, error) {
		began := time.Now()
		err := runThree(ctx, f.eng, w, int64(i+1))
		return time.Since(began), err
	})
	return took, errors.Join(err, f.finish())
}

// floor is what the commits that a run waits for take the driver alone, at a pace: one such
// sequence at a time, measured without the wait for its turn.
func (b *workflowBench) floor(ctx context.Context, rate int) (took percentiles, err error) {
	raw, err := b.queue.openRaw(ctx)
	if err != nil {
		return percentiles{}, err
	}
	defer func() { err = errors.Join(err, raw.close()) }()
	var turn sync.Mutex
	return b.pace(rate, func(int) (time.Duration, error) {
		turn.Lock()
		defer turn.Unlock()
		began := time.Now()
		for range floorCommits {
			if err := raw.commit(ctx, 1); err != nil {
				return 0, err
			}
		}
		return time.Since(began), nil
	})
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
