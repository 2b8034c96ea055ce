package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	senders   = 64     // goroutines that send one message each and wait for its commit
	batchers  = 2      // goroutines that send batches
	batchSize = 1_000  // messages of one, where the peer has batches
	waiting   = 10_000 // messages that may wait while senders and workers run at once
	slowRate  = 100    // messages, or runs, a second while latency is measured
)

// clock says when a phase that goes by time is over.
type clock struct{ end time.Time }

func (c clock) over() bool { return !time.Now().Before(c.end) }

func lasting(seconds float64) clock {
	return clock{time.Now().Add(time.Duration(seconds * float64(time.Second)))}
}

// crew runs f in so many goroutines until one fails or all have ended.
func crew(ctx context.Context, goroutines int, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// load sends to a queue; its IDs ascend.
type load struct {
	q     queue
	size  int // of a batch
	first int64
	next  atomic.Int64
}

// newLoad begins after so many messages of another.
func newLoad(q queue, size, after int) *load {
	l := &load{q: q, size: size, first: firstID + int64(after)}
	l.next.Store(l.first)
	return l
}

func (l *load) sent() int64 { return l.next.Load() - l.first }

func (l *load) send(ctx context.Context, n int) error {
	return l.q.send(ctx, l.next.Add(int64(n))-int64(n), n)
}

// goroutines is how many send at once: a few, or many where there are no batches.
func (l *load) goroutines() int {
	if l.size == 1 {
		return senders
	}
	return batchers
}

// counter counts what was handled, and tells when a number is reached.
type counter struct {
	done    atomic.Int64
	target  atomic.Int64
	reached chan struct{}
	once    sync.Once
}

func newCounter() *counter {
	c := &counter{reached: make(chan struct{})}
	c.target.Store(1 << 62)
	return c
}

func (c *counter) handled(int64) { c.check(c.done.Add(1)) }

func (c *counter) check(done int64) {
	if done >= c.target.Load() {
		c.once.Do(func() { close(c.reached) })
	}
}

// await waits until n are handled.
func (c *counter) await(ctx context.Context, n int64) error {
	c.target.Store(n)
	c.check(c.done.Load())
	ctx, cancel := context.WithTimeout(ctx, stuck)
	defer cancel()
	select {
	case <-c.reached:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d of %d messages were handled: %w", c.done.Load(), n, ctx.Err())
	}
}

// stuck is how long a phase may wait for what must come: on a slow disk it does come, after a while.
const stuck = 5 * time.Minute

// both is how many messages a second are sent, in batches where there are any, and worked at the
// same time: from the first send until all are handled.
func (p *peer) both(ctx context.Context, variant int, seconds float64) (float64, error) {
	return p.with(ctx, variant, func(q queue) (float64, error) {
		l, c, began := newLoad(q, p.batch, 0), newCounter(), time.Now()
		stop, err := q.work(ctx, c.handled)
		if err != nil {
			return 0, err
		}
		err = errors.Join(l.flood(ctx, c, seconds), stop())
		return float64(l.sent()) / time.Since(began).Seconds(), err
	})
}

// flood sends as fast as it goes to a queue that is worked, and waits until all is handled; senders
// wait when too many messages do.
func (l *load) flood(ctx context.Context, c *counter, seconds float64) error {
	end := lasting(seconds)
	err := crew(ctx, l.goroutines(), func(ctx context.Context) error {
		for first := true; (first || !end.over()) && ctx.Err() == nil; {
			if l.sent()-c.done.Load() > waiting {
				time.Sleep(time.Millisecond)
				continue
			}
			if err := l.send(ctx, l.size); err != nil {
				return err
			}
			first = false // who began late has sent something, or there is no rate
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.await(ctx, l.sent())
}

// single is how many messages a second 64 goroutines send, one each, waiting for its commit.
func (p *peer) single(ctx context.Context, variant int, seconds float64) (float64, error) {
	return p.with(ctx, variant, func(q queue) (float64, error) {
		l, began, end := newLoad(q, 1, 0), time.Now(), lasting(seconds)
		err := crew(ctx, senders, func(ctx context.Context) error {
			for first := true; first || !end.over(); first = false {
				if err := l.send(ctx, 1); err != nil {
					return err
				}
			}
			return nil
		})
		return float64(l.sent()) / time.Since(began).Seconds(), err
	})
}

// fill sends n messages as fast as it goes.
func (l *load) fill(ctx context.Context, n int64) error {
	return crew(ctx, l.goroutines(), func(ctx context.Context) error {
		for l.sent() < n {
			if err := l.send(ctx, l.size); err != nil {
				return err
			}
		}
		return nil
	})
}

// work is how many messages of a backlog are worked a second, from the start of the workers until
// all are, or the time is over and some are.
func (p *peer) work(ctx context.Context, variant int, backlog int64, limit time.Duration) (float64, error) {
	return p.with(ctx, variant, func(q queue) (float64, error) {
		l, c := newLoad(q, p.batch, 0), newCounter()
		if err := l.fill(ctx, backlog); err != nil {
			return 0, err
		}
		if a, ok := q.(interface{ settled(context.Context) error }); ok {
			if err := a.settled(ctx); err != nil {
				return 0, err
			}
		}
		began := time.Now()
		stop, err := q.work(ctx, c.handled)
		if err != nil {
			return 0, err
		}
		timed, cancel := context.WithTimeout(ctx, limit)
		err = c.await(timed, l.sent())
		if timed.Err() != nil && ctx.Err() == nil {
			err = c.await(ctx, 1) // so many of the backlog, then; but none would be no rate
		}
		cancel()
		err = errors.Join(err, stop())
		return float64(c.done.Load()) / time.Since(began).Seconds(), err
	})
}

// latencies are in milliseconds.
type latencies struct{ p50, p99 float64 }

func percentiles(took []time.Duration) latencies {
	if len(took) == 0 {
		return latencies{}
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	return latencies{ms(took[len(took)/2]), ms(took[len(took)*99/100])}
}

// pace calls f at a steady rate, with the number of calls before; calls may overlap.
func pace(ctx context.Context, rate int, n int, f func(i int) error) error {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			wg.Wait()
			return ctx.Err()
		}
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// latency is the time from a send's call to the start of its handler, at a steady low rate.
func (p *peer) latency(ctx context.Context, variant int, seconds float64) (l latencies, err error) {
	_, err = p.with(ctx, variant, func(q queue) (float64, error) {
		w := newStopwatch(q, int(seconds*slowRate), 1)
		stop, err := q.work(ctx, w.handled)
		if err != nil {
			return 0, err
		}
		err = pace(ctx, slowRate, len(w.sentAt), func(i int) error { return w.send(ctx, i) })
		if err == nil {
			err = w.await(ctx, int64(len(w.took)))
		}
		err = errors.Join(err, stop())
		l = percentiles(w.took[len(w.took)/10:]) // without what is new to all
		return 0, err
	})
	return l, err
}

// stopwatch measures from the call that sends a message to the start of its handler.
type stopwatch struct {
	*counter
	q      queue
	size   int             // messages of a call
	sentAt []atomic.Int64  // by call, since began
	took   []time.Duration // by message
	began  time.Time
	later  *counter // of messages beyond
}

func newStopwatch(q queue, calls, size int) *stopwatch {
	return &stopwatch{
		counter: newCounter(), later: newCounter(), q: q, size: size, began: time.Now(),
		sentAt: make([]atomic.Int64, calls), took: make([]time.Duration, calls*size),
	}
}

// send is the i-th call.
func (w *stopwatch) send(ctx context.Context, i int) error {
	w.sentAt[i].Store(int64(time.Since(w.began)))
	return w.q.send(ctx, firstID+int64(i*w.size), w.size)
}

func (w *stopwatch) handled(id int64) {
	i := int(id - firstID)
	if i >= len(w.took) {
		w.later.handled(id)
		return
	}
	w.took[i] = time.Since(w.began) - time.Duration(w.sentAt[i/w.size].Load())
	w.counter.handled(id)
}

// with opens a queue for f and removes it.
func (p *peer) with(ctx context.Context, variant int, f func(q queue) (float64, error)) (float64, error) {
	q, err := p.queue(ctx, variant)
	if err != nil {
		return 0, err
	}
	rate, err := f(q)
	return rate, errors.Join(err, q.close())
}
