package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/transport/jetstream"
	"github.com/weir-go/weir/transport/jetstream/broker"
)

// pair is two engines with a store each, and a broker between them: one sends, and owns entities; the other
// works, and follows them.
type pair struct {
	from, to *rig
	plots    []*plot
	wires    []*jetstream.Transport
}

const (
	benchSender   = "till"
	benchReceiver = "bench"
)

// openPair opens both sides on fresh stores.
func (b *bridgeBench) openPair(ctx context.Context, br *broker.Broker) (_ *pair, err error) {
	s := &pair{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close(ctx))
		}
	}()
	if s.from, err = b.side(ctx, s, br, benchSender, benchReceiver); err != nil {
		return nil, err
	}
	if s.to, err = b.side(ctx, s, br, benchReceiver, benchSender); err != nil {
		return nil, err
	}
	s.to.handle(b.Concurrency)
	return s, nil
}

func (b *bridgeBench) side(ctx context.Context, s *pair, br *broker.Broker, own, other string) (*rig, error) {
	log := slog.New(slog.DiscardHandler)
	wire, err := jetstream.Open(jetstream.Config{Servers: []string{br.URL()}, Name: own, Log: log})
	if err != nil {
		return nil, err
	}
	s.wires = append(s.wires, wire)
	p := b.queue.ground.plot()
	s.plots = append(s.plots, p)
	r := newRig()
	r.eng, err = weir.Open(ctx, p.opener(), weir.Config{
		Owns: []string{own}, Routes: map[string]weir.Route{other: {Capacity: -1}}, Transport: wire, Log: log,
	})
	return r, err
}

// start works both sides until close; the receiver's wait ends after so many messages.
func (s *pair) start(ctx context.Context, target int) {
	s.to.start(ctx, target)
	s.from.start(ctx, 0)
}

// settled waits until nothing waits on either side: all is handled, acknowledged, and the receipts are there.
func (s *pair) settled(ctx context.Context) error {
	for _, r := range []*rig{s.from, s.to} {
		if err := until(ctx, func() (bool, error) {
			queues, err := r.eng.Queues(ctx, 0)
			return !slices.ContainsFunc(queues, func(q weir.QueueFigures) bool { return q.Depth > 0 }), err
		}); err != nil {
			return err
		}
	}
	return nil
}

// until looks until something holds that there is no signal of.
func until(ctx context.Context, holds func() (bool, error)) error {
	for {
		ok, err := holds()
		if ok || err != nil {
			return err
		}
		if err := pause(ctx, untilPause); err != nil {
			return err
		}
	}
}

const untilPause = 2 * time.Millisecond

// close ends both sides, the sender first, and removes what they had.
func (s *pair) close(ctx context.Context) error {
	var errs []error
	for _, r := range []*rig{s.from, s.to} {
		if r != nil && r.eng != nil {
			errs = append(errs, r.finish())
		}
	}
	for _, w := range s.wires {
		errs = append(errs, w.Close())
	}
	for _, p := range s.plots {
		errs = append(errs, p.clear(ctx))
	}
	return errors.Join(errs...)
}

// withPair runs f with both sides at work, that have met: one message has gone all the way. The receiver's wait
// ends after n more.
func (b *bridgeBench) withPair(ctx context.Context, br *broker.Broker, n int, f func(*pair) error) (err error) {
	s, err := b.openPair(ctx, br)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	s.start(ctx, n+1)
	if err := weir.Send(ctx, s.from.eng, s.from.command, newBenchBody()); err != nil {
		return err
	}
	if err := until(ctx, func() (bool, error) { return s.to.done.Load() > 0, nil }); err != nil {
		return err
	}
	if err := s.settled(ctx); err != nil {
		return err
	}
	return f(s)
}

// bridge is from the first send until all is handled and the sender knows that the receiver has it.
func (b *bridgeBench) bridge(ctx context.Context, br *broker.Broker) error {
	n := b.Messages / batchSize * batchSize
	return b.withPair(ctx, br, n, func(s *pair) (err error) {
		b.result.BridgePerS, err = b.queue.meter(n, func() error {
			if err := b.queue.sendBatches(ctx, s.from, n); err != nil {
				return err
			}
			return errors.Join(s.to.wait(ctx), s.settled(ctx))
		})
		b.result.BridgeCPU = b.queue.cpu
		b.say("bridge: %s/s, %.1f µs of CPU a message", grouped(b.result.BridgePerS), b.queue.cpu)
		return err
	})
}

// latency is from a send's call to its handler's start on the other side, and beside it what nats.go takes alone.
func (b *bridgeBench) latency(ctx context.Context, br *broker.Broker) error {
	n := max(int(b.Latency*latencyRate), 10)
	bare, err := b.bareLatency(ctx, br, n)
	if err != nil {
		return err
	}
	b.result.BareP50, b.result.BareP99 = quantiles(bare)
	err = b.withPair(ctx, br, n, func(s *pair) error {
		sentAt := make([]time.Time, n)
		took := make([]time.Duration, 0, n)
		var mu sync.Mutex
		s.to.onWork = func(m *weir.Message[benchBody]) {
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(sentAt[m.Body.ID-1]))
		}
		err := paced(ctx, n, func(i int) error {
			body := newBenchBody()
			body.ID = int64(i + 1)
			mu.Lock()
			sentAt[i] = time.Now()
			mu.Unlock()
			return weir.Send(ctx, s.from.eng, s.from.command, body)
		})
		if err := errors.Join(err, s.to.wait(ctx)); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		b.result.BridgeP50, b.result.BridgeP99 = quantiles(took)
		return nil
	})
	b.say("latency: p50 %.2f ms, p99 %.2f ms; bare %.2f and %.2f ms", b.result.BridgeP50, b.result.BridgeP99, b.result.BareP50, b.result.BareP99)
	return err
}

// quantiles are the median and the 99th percentile, in milliseconds; 0 of none.
func quantiles(took []time.Duration) (p50, p99 float64) {
	if len(took) == 0 {
		return 0, 0
	}
	slices.Sort(took)
	return took[len(took)/2].Seconds() * 1000, took[len(took)*99/100].Seconds() * 1000
}

const (
	replicaRounds = 10 // so often all entities are put
	replicaReads  = time.Second
)

// replica puts entities on one side, until all are applied on the other, and reads there.
func (b *bridgeBench) replica(ctx context.Context, br *broker.Broker) (err error) {
	dish := weir.NewEntity[benchBody](benchSender + ".dish")
	s, err := b.openPair(ctx, br)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	owned, copied := weir.Own(s.from.eng, dish), weir.Follow(s.to.eng, dish)
	s.start(ctx, 0)
	ids := make([]string, b.Entities)
	for i := range ids {
		ids[i] = "dish-" + strconv.Itoa(i)
	}
	applied := func(round int64) (bool, error) {
		for _, id := range ids {
			if e, err := copied.Get(id); err != nil || e.Value.Price != round {
				return false, nil // not there yet
			}
		}
		return true, nil
	}
	put := func(round int64) error {
		for some := range slices.Chunk(ids, batchSize) {
			values := make(map[string]benchBody, len(some))
			for _, id := range some {
				values[id] = benchBody{ID: 1, Table: "menu", Item: id, Price: round, Note: newBenchBody().Note}
			}
			if err := owned.PutAll(ctx, s.from.eng, values); err != nil {
				return err
			}
		}
		return nil
	}
	awaitRound := func(round int64) error {
		return until(ctx, func() (bool, error) { return applied(round) })
	}
	if err := errors.Join(put(1), awaitRound(1)); err != nil { // the snapshot
		return err
	}
	began := time.Now()
	b.result.ReplicaApply, err = b.queue.meter(replicaRounds*len(ids), func() error {
		for round := range int64(replicaRounds) {
			if err := put(round + 2); err != nil {
				return err
			}
		}
		b.result.ReplicaPutPer = float64(replicaRounds*len(ids)) / time.Since(began).Seconds()
		return awaitRound(replicaRounds + 1)
	})
	if err != nil {
		return err
	}
	b.result.ReplicaReads, err = b.reads(copied, ids)
	b.say("replica: %s/s put, %s/s applied, %s/s read", grouped(b.result.ReplicaPutPer), grouped(b.result.ReplicaApply), grouped(b.result.ReplicaReads))
	return err
}

// reads is how many entities all processors together read in a second.
func (b *bridgeBench) reads(r *weir.Replica[benchBody], ids []string) (float64, error) {
	var n atomic.Int64
	failed := make(chan error, b.Batches)
	var all sync.WaitGroup
	began := time.Now()
	for g := range b.Batches {
		all.Go(func() {
			read := 0
			for i := g; read == 0 || time.Since(began) < replicaReads; { // who began late has read something, or there is no rate
				for range batchSize { // looking at the clock costs more than reading
					if e, err := r.Get(ids[i%len(ids)]); err != nil || e.Value.ID == 0 {
						failed <- errors.Join(fmt.Errorf("entity %s is empty", ids[i%len(ids)]), err)
						return
					}
					i++
				}
				read += batchSize
			}
			n.Add(int64(read))
		})
	}
	all.Wait()
	close(failed)
	return float64(n.Load()) / time.Since(began).Seconds(), <-failed
}
