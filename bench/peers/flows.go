package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// callersTried are how many goroutines start runs and wait for their results; each peer takes its best.
var callersTried = [...]int{64, 256, callersMost}

const callersMost = 1_000

// runs is how many runs of three steps a second end, each waited for by its caller.
func (p *peer) runs(ctx context.Context, callers int, seconds float64) (float64, error) {
	return p.withFlow(ctx, func(f flow) (float64, error) {
		var number, ended atomic.Int64
		number.Store(firstID)
		began, end := time.Now(), lasting(seconds)
		err := crew(ctx, callers, func(ctx context.Context) error {
			for first := true; first || !end.over(); first = false {
				if err := f.run(ctx, number.Add(1)); err != nil {
					return err
				}
				ended.Add(1)
			}
			return nil
		})
		return float64(ended.Load()) / time.Since(began).Seconds(), err
	})
}

// runLatency is the time from a run's start to its result, at a steady low rate.
func (p *peer) runLatency(ctx context.Context, seconds float64) (l latencies, err error) {
	_, err = p.withFlow(ctx, func(f flow) (float64, error) {
		took := make([]time.Duration, int(seconds*slowRate))
		err := pace(ctx, slowRate, len(took), func(i int) error {
			began := time.Now()
			err := f.run(ctx, firstID+int64(i))
			took[i] = time.Since(began)
			return err
		})
		l = percentiles(took[len(took)/10:]) // without what is new to all
		return 0, err
	})
	return l, err
}

func (p *peer) withFlow(ctx context.Context, do func(f flow) (float64, error)) (float64, error) {
	f, err := p.flow(ctx)
	if err != nil {
		return 0, err
	}
	rate, err := do(f)
	return rate, errors.Join(err, f.close())
}
