package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-go/weir"
)

const (
	batchSize   = 1_000
	latencyRate = 100
)

// benchBody is 200 bytes of JSON, as a small order line is.
type benchBody struct {
	ID    int64  `json:"id"`
	Table string `json:"table"`
	Item  string `json:"item"`
	Price int64  `json:"price_cents"`
	Note  string `json:"note"`
}

func newBenchBody() benchBody {
	return benchBody{ID: 1_234_567, Table: "terrace-12", Item: "Korean Beef Bowl", Price: 1795, Note: strings.Repeat("no onions, please; ", 6)[:110]}
}

// bench is one run of weir bench queue.
type bench struct {
	benchQueueCmd
	ground   ground
	plot     *plot // of the phase that is measured
	progress io.Writer
	body     []byte
	began    time.Time
	result   benchResult
	cpu      float64 // µs a message of the phase measured last
}

func (b *bench) seconds() float64 { return time.Since(b.began).Seconds() }

// run measures phase by phase, each on a fresh store, the raw limit before and after.
func (b *bench) run(ctx context.Context) error {
	b.began = time.Now()
	var err error
	if b.body, err = json.Marshal(newBenchBody()); err != nil {
		return err
	}
	phases := []struct {
		name string
		into *float64
		f    func(context.Context) (float64, error)
	}{
		{"raw", &b.result.RawLimit, b.raw},
		{"send_batch", &b.result.SendBatch, b.sendBatch},
		{"work", &b.result.Work, b.work},
		{"send", &b.result.Send, b.send},
		{"both", &b.result.Both, b.both},
		{"both_single", &b.result.BothSingle, b.bothSingle},
		{"latency", nil, b.latency},
		{"raw", &b.result.RawLimit, b.raw},
	}
	for _, p := range phases {
		if only := b.only(); len(only) > 0 && !slices.Contains(only, p.name) {
			continue
		}
		b.plot = b.ground.plot()
		v, err := p.f(ctx)
		if err := errors.Join(err, b.plot.clear(ctx)); err != nil {
			return fmt.Errorf("bench %s: %w", p.name, err)
		}
		if p.into != nil {
			*p.into = max(*p.into, v)
			fmt.Fprintf(b.progress, "%s: %s/s, %.2f µs of CPU a message\n", p.name, grouped(v), b.cpu)
		}
	}
	return nil
}

// meter measures a phase: f's messages per second, and the CPU each took.
func (b *bench) meter(n int, f func() error) (float64, error) {
	cpu, began := processCPU(), time.Now()
	err := f()
	wall := time.Since(began)
	b.cpu = float64((processCPU() - cpu).Nanoseconds()) / 1000 / float64(n)
	return float64(n) / wall.Seconds(), err
}

func (b *bench) raw(ctx context.Context) (float64, error) {
	return b.rawLimit(ctx, b.Messages/batchSize*batchSize)
}

// rig is an engine with one command and a handler that only counts.
type rig struct {
	eng     *weir.Engine
	command weir.Command[benchBody, weir.None]
	done    atomic.Int64
	target  int64
	reached chan struct{}
	onWork  func(*weir.Message[benchBody])

	stop    context.CancelFunc
	stopped chan error
}

// open makes a fresh store whose queue is known to be unbounded: one message is
// worked for that, since a queue's capacity is declared by the engine that runs it.
func (b *bench) open(ctx context.Context) (*rig, error) {
	r, err := b.openRig(ctx)
	if err != nil {
		return nil, err
	}
	r.start(ctx, 1)
	err = weir.Send(ctx, r.eng, r.command, newBenchBody())
	if err == nil {
		err = r.wait(ctx)
	}
	if err := errors.Join(err, r.finish()); err != nil {
		return nil, err
	}
	return b.openRig(ctx)
}

func (b *bench) openRig(ctx context.Context) (*rig, error) {
	r := newRig()
	var err error
	r.eng, err = weir.Open(ctx, b.plot.opener(), weir.Config{Owns: []string{"bench"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	r.handle(b.Concurrency)
	return r, nil
}

// newRig is a rig without an engine.
func newRig() *rig {
	return &rig{command: weir.NewCommand[benchBody]("bench.work"), reached: make(chan struct{}), stopped: make(chan error, 1)}
}

// handle makes the command's handler known.
func (r *rig) handle(concurrency int) {
	weir.Handle(r.eng, r.command, func(_ context.Context, m *weir.Message[benchBody]) error {
		if m.Body.ID == 0 {
			return weir.Permanent(errors.New("body not decoded"))
		}
		if r.onWork != nil {
			r.onWork(m)
		}
		if r.done.Add(1) == r.target {
			close(r.reached)
		}
		return nil
	}, weir.Queue{Concurrency: concurrency, Capacity: -1})
}

// start works the queue until finish.
func (r *rig) start(ctx context.Context, target int) {
	ctx, r.stop = context.WithCancel(ctx)
	r.target = int64(target)
	go func() { r.stopped <- r.eng.Run(ctx) }()
}

// wait waits until as many messages as start was told are worked.
func (r *rig) wait(ctx context.Context) error {
	select {
	case <-r.reached:
		return nil
	case err := <-r.stopped:
		r.stopped <- nil
		return fmt.Errorf("engine stopped after %d of %d messages: %w", r.done.Load(), r.target, err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// finish stops the engine and closes it: all acknowledgements are committed then.
func (r *rig) finish() error {
	var err error
	if r.stop != nil {
		r.stop()
		err = <-r.stopped
	}
	return errors.Join(err, r.eng.Close())
}

// sendBatches sends n messages, 1,000 a commit, from several goroutines.
func (b *bench) sendBatches(ctx context.Context, r *rig, n int) error {
	bodies := make([]benchBody, batchSize)
	for i := range bodies {
		bodies[i] = newBenchBody()
	}
	return b.parallel(b.Batches, n/batchSize, func() error { return weir.SendAll(ctx, r.eng, r.command, bodies) })
}

// parallel calls f n times from so many goroutines.
func (b *bench) parallel(goroutines, n int, f func() error) error {
	var left atomic.Int64
	left.Store(int64(n))
	errs := make(chan error, goroutines)
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

func (b *bench) sendBatch(ctx context.Context) (float64, error) {
	r, err := b.open(ctx)
	if err != nil {
		return 0, err
	}
	n := b.Messages / batchSize * batchSize
	rate, err := b.meter(n, func() error { return b.sendBatches(ctx, r, n) })
	return rate, errors.Join(err, r.finish())
}

func (b *bench) work(ctx context.Context) (float64, error) {
	r, err := b.open(ctx)
	if err != nil {
		return 0, err
	}
	n := b.Backlog / batchSize * batchSize
	if err := b.sendBatches(ctx, r, n); err != nil {
		return 0, errors.Join(err, r.finish())
	}
	return b.meter(n, func() error {
		r.start(ctx, n)
		return errors.Join(r.wait(ctx), r.finish()) // with the last acknowledgement's commit
	})
}

func (b *bench) send(ctx context.Context) (float64, error) {
	r, err := b.open(ctx)
	if err != nil {
		return 0, err
	}
	body := newBenchBody()
	rate, err := b.meter(b.Messages, func() error {
		return b.parallel(b.Senders, b.Messages, func() error { return weir.Send(ctx, r.eng, r.command, body) })
	})
	return rate, errors.Join(err, r.finish())
}

func (b *bench) both(ctx context.Context) (float64, error) {
	n := b.Messages / batchSize * batchSize
	return b.together(ctx, n, func(r *rig) error { return b.sendBatches(ctx, r, n) })
}

func (b *bench) bothSingle(ctx context.Context) (float64, error) {
	body := newBenchBody()
	return b.together(ctx, b.Messages, func(r *rig) error {
		return b.parallel(b.Senders, b.Messages, func() error { return weir.Send(ctx, r.eng, r.command, body) })
	})
}

// together counts messages that were sent and worked, both at once, from the first
// send to the last acknowledgement.
func (b *bench) together(ctx context.Context, n int, send func(*rig) error) (float64, error) {
	r, err := b.open(ctx)
	if err != nil {
		return 0, err
	}
	return b.meter(n, func() error {
		r.start(ctx, n)
		if err := send(r); err != nil {
			return errors.Join(err, r.finish())
		}
		return errors.Join(r.wait(ctx), r.finish())
	})
}

// latency is the time from a send's call to its handler's start, at a steady low rate.
func (b *bench) latency(ctx context.Context) (float64, error) {
	r, err := b.open(ctx)
	if err != nil {
		return 0, err
	}
	n := max(int(b.Latency*latencyRate), 10)
	sentAt := make([]time.Time, n)
	took := make([]time.Duration, 0, n)
	var mu sync.Mutex
	r.onWork = func(m *weir.Message[benchBody]) {
		mu.Lock()
		took = append(took, time.Since(sentAt[m.Body.ID-1]))
		mu.Unlock()
	}
	r.start(ctx, n)
	tick := time.NewTicker(time.Second / latencyRate)
	defer tick.Stop()
	body := newBenchBody()
	for i := range n {
		<-tick.C
		body.ID = int64(i + 1)
		mu.Lock()
		sentAt[i] = time.Now()
		mu.Unlock()
		if err := weir.Send(ctx, r.eng, r.command, body); err != nil {
			return 0, errors.Join(err, r.finish())
		}
	}
	if err := errors.Join(r.wait(ctx), r.finish()); err != nil {
		return 0, err
	}
	slices.Sort(took)
	b.result.LatencyP50 = took[len(took)/2].Seconds() * 1000
	b.result.LatencyP99 = took[len(took)*99/100].Seconds() * 1000
	fmt.Fprintf(b.progress, "latency: p50 %.2f ms, p99 %.2f ms\n", b.result.LatencyP50, b.result.LatencyP99)
	return 0, nil
}

// startProfile begins a CPU profile, if a file is named.
func startProfile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}
