package main

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-go/weir/transport/jetstream/broker"
)

// inFlight are how many publishes may wait for their acknowledgement: which is best depends on the machine.
func inFlight() []int { return []int{256, 1_000, 4_000} }

const (
	barePilots  = 10 // a pilot is one in so many of the messages
	bareAcks    = 10_000
	barePull    = 1_000
	barePatient = time.Minute // for a publish that finds too many in flight
)

// bare measures what a publisher and a consumer of nats.go do alone.
func (b *bridgeBench) bare(ctx context.Context, br *broker.Broker) error {
	best, bestRate := 0, 0.0
	for _, n := range inFlight() {
		rate, err := b.bareRate(ctx, br, n, max(b.Messages/barePilots, 1_000))
		if err != nil {
			return err
		}
		if rate > bestRate {
			best, bestRate = n, rate
		}
	}
	rate, err := b.bareRate(ctx, br, best, b.Messages)
	b.say("bare: %s/s with %d in flight, %.1f µs of CPU a message", grouped(rate), best, b.queue.cpu)
	if rate > b.result.BarePerS {
		b.result.BarePerS, b.result.BareInFlight, b.result.BareCPU = rate, best, b.queue.cpu
	}
	return err
}

// bareWire is a publisher and a consumer with connections of their own, and a stream between them.
type bareWire struct {
	in, out *nats.Conn
	publish jetstream.JetStream
	consume jetstream.Consumer
	drop    func(context.Context) error
}

func openBare(ctx context.Context, br *broker.Broker, inFlight int) (_ *bareWire, err error) {
	w := &bareWire{}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.in, err = nats.Connect(br.URL()); err != nil {
		return nil, err
	}
	if w.out, err = nats.Connect(br.URL()); err != nil {
		return nil, err
	}
	if w.publish, err = jetstream.New(w.out, jetstream.WithPublishAsyncMaxPending(inFlight)); err != nil {
		return nil, err
	}
	js, err := jetstream.New(w.in)
	if err != nil {
		return nil, err
	}
	const stream = "bare"
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{
		Name: stream, Subjects: []string{"bare.>"}, Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, MaxMsgs: 20_000_000,
	})
	if err != nil {
		return nil, err
	}
	w.drop = func(ctx context.Context) error { return js.DeleteStream(ctx, stream) }
	w.consume, err = js.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{Durable: "inbox", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: bareAcks})
	return w, err
}

func (w *bareWire) close() {
	for _, nc := range []*nats.Conn{w.in, w.out} {
		if nc != nil {
			nc.Close()
		}
	}
}

// consumed calls each with a message's body after it is acknowledged, until n have come; done is closed then.
func (w *bareWire) consumed(n int, each func([]byte)) (done chan struct{}, stop func(), err error) {
	done = make(chan struct{})
	c, err := w.consume.Consume(func(m jetstream.Msg) {
		_ = m.Ack() // one that is lost makes the message come again, and be counted again
		each(m.Data())
		if n--; n == 0 {
			close(done)
		}
	}, jetstream.PullMaxMessages(barePull))
	if err != nil {
		return nil, nil, err
	}
	return done, c.Stop, nil
}

// bareRate is from the first publish until the last message is acknowledged, on both sides.
func (b *bridgeBench) bareRate(ctx context.Context, br *broker.Broker, inFlight, n int) (rate float64, err error) {
	w, err := openBare(ctx, br, inFlight)
	if err != nil {
		return 0, err
	}
	defer w.close()
	done, stop, err := w.consumed(n, func([]byte) {})
	if err != nil {
		return 0, err
	}
	defer stop()
	rate, err = b.queue.meter(n, func() error {
		for range n {
			if _, err := w.publish.PublishMsgAsync(&nats.Msg{Subject: "bare.in", Data: b.queue.body}, jetstream.WithStallWait(barePatient)); err != nil {
				return err
			}
		}
		for _, part := range []<-chan struct{}{done, w.publish.PublishAsyncComplete()} {
			select {
			case <-part:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return w.in.FlushTimeout(barePatient) // the acknowledgements are with the broker
	})
	return rate, errors.Join(err, w.drop(ctx))
}

// bareLatency is from a publish to the consumer, at a steady low rate.
func (b *bridgeBench) bareLatency(ctx context.Context, br *broker.Broker, n int) ([]time.Duration, error) {
	w, err := openBare(ctx, br, barePull)
	if err != nil {
		return nil, err
	}
	defer w.close()
	took := make([]time.Duration, 0, n)
	began := time.Now()
	done, stop, err := w.consumed(n, func(body []byte) {
		took = append(took, time.Since(began)-time.Duration(binary.LittleEndian.Uint64(body)))
	})
	if err != nil {
		return nil, err
	}
	defer stop()
	err = paced(ctx, n, func(int) error {
		body := append([]byte(nil), b.queue.body...)
		binary.LittleEndian.PutUint64(body, uint64(time.Since(began)))
		_, err := w.publish.PublishMsg(ctx, &nats.Msg{Subject: "bare.in", Data: body})
		return err
	})
	if err == nil {
		select {
		case <-done:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return took, errors.Join(err, w.drop(ctx))
}

// paced calls f so often, latencyRate times a second.
func paced(ctx context.Context, n int, f func(i int) error) error {
	tick := time.NewTicker(time.Second / latencyRate)
	defer tick.Stop()
	for i := range n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := f(i); err != nil {
			return err
		}
	}
	return nil
}
