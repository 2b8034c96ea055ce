package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/weir-go/weir"
)

// nap is what a sleeping run is given.
type nap struct {
	Until time.Time `json:"until"`
}

const (
	sleepTries = 4
	// sleepSlack is how much more time a start may take than a pilot's run.
	sleepSlack = 1.3
	// inMemory is how long a run may wait without leaving memory, and more: whoever is
	// to cost a row must be due later than that.
	inMemory = 6 * time.Second
)

// sleep is the cost of n sleeping runs, and of waking all at once. When they must wake is to
// be said before they are started, so how long that takes is estimated, and the phase
// repeated when that was too short.
func (b *workflowBench) sleep(ctx context.Context, n int) error {
	patience := 1.0
	for range sleepTries {
		s := &sleepers{
			contract: weir.NewWorkflow[nap, weir.None]("bench.sleep"), n: n, result: sleepResult{Runs: n}, all: make(chan struct{}),
		}
		err := b.sleepOnce(ctx, s, patience)
		if err == nil {
			b.result.Sleep = []sleepResult{s.result}
			return nil
		}
		if !errors.Is(err, errAwake) {
			return err
		}
		b.tell("sleep: %v; again, with twice the time", err)
		patience *= 2
	}
	return fmt.Errorf("%d tries: %w: is the machine busy?", sleepTries, errAwake)
}

// sleepers are runs that all sleep until one time.
type sleepers struct {
	contract weir.Workflow[nap, weir.None]
	n        int
	result   sleepResult

	returned atomic.Int64
	all      chan struct{} // closed when n have returned
}

// work is the sleepers' workflow.
func (s *sleepers) work(r *weir.Run, in nap) (weir.None, error) {
	weir.Sleep(r, "night", in.Until.Sub(r.Now()))
	if s.returned.Add(1) == int64(s.n) {
		close(s.all)
	}
	return weir.None{}, nil
}

func (b *workflowBench) sleepOnce(ctx context.Context, s *sleepers, patience float64) error {
	three := threeStepsContract()
	f, err := b.open(ctx, func(e *weir.Engine) {
		weir.Register(e, s.contract, s.work, b.places())
		weir.Register(e, three, threeSteps, b.places())
	})
	if err != nil {
		return err
	}
	pilots := max(s.n/20, 100)
	rate, err := b.throughput(ctx, f, three, pilots)
	if err != nil {
		return errors.Join(err, f.finish())
	}
	wake := time.Now().Add(time.Duration(patience * (float64(inMemory) + sleepSlack*float64(s.n)/rate*float64(time.Second))))
	if err = b.fallAsleep(ctx, f, s, wake); err == nil {
		err = b.awake(ctx, f, s, wake)
	}
	return errors.Join(err, f.finish())
}

// fallAsleep starts all and waits until each is a row and nothing more.
func (b *workflowBench) fallAsleep(ctx context.Context, f *flowRig, s *sleepers, wake time.Time) error {
	ctx, cancel := context.WithDeadlineCause(ctx, wake.Add(-time.Second), errAwake)
	defer cancel()
	forgetPeak()
	r, began := &s.result, time.Now()
	var number atomic.Int64
	err := b.queue.parallel(b.Callers, s.n, func() error {
		_, err := weir.Start(ctx, f.eng, s.contract, "sleeper-"+strconv.FormatInt(number.Add(1), 10), nap{wake})
		return err
	})
	if err == nil {
		err = f.waitCount(ctx, s.contract.Name(), string(weir.RunWaiting), s.n)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	r.StartedPerS = float64(s.n) / time.Since(began).Seconds()
	r.StartPeak = peakRSS()
	debug.FreeOSMemory() // collects garbage first
	r.RSS = processMB("VmRSS:")
	if r.File, err = f.plot.megabytes(ctx); err != nil {
		return err
	}
	b.tell("sleep: %s runs asleep, started at %s/s; %.0f MB, %.0f MB at most until then", grouped(float64(s.n)), grouped(r.StartedPerS), r.RSS, r.StartPeak)
	return nil
}

// awake waits until all have ended, from the time that they are due.
func (b *workflowBench) awake(ctx context.Context, f *flowRig, s *sleepers, wake time.Time) error {
	forgetPeak()
	select {
	case <-s.all:
	case err := <-f.stopped:
		f.stopped <- nil
		return fmt.Errorf("the engine has stopped: %w", err)
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := f.waitCount(ctx, s.contract.Name(), "completed", s.n); err != nil {
		return err
	}
	r := &s.result
	r.WokenSeconds = time.Since(wake).Seconds()
	r.WokenPerS = float64(s.n) / r.WokenSeconds
	r.WakePeak = peakRSS()
	b.tell("sleep: all woken and ended in %.1f s, %s/s; %.0f MB at most", r.WokenSeconds, grouped(r.WokenPerS), r.WakePeak)
	return nil
}

// forgetPeak makes peakRSS begin anew, where the system can.
func forgetPeak() {
	if f, err := os.OpenFile("/proc/self/clear_refs", os.O_WRONLY, 0); err == nil {
		_, _ = f.WriteString("5")
		_ = f.Close()
	}
}
