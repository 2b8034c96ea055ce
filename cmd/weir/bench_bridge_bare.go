package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
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
	bareBatch   = 500         // as many as transport/jetstream puts in one
	barePatient = time.Minute // for a publish that finds too many in flight
)

// bare measures what a publisher and a consumer of nats.go do alone.
func (b *bridgeBench) bare(ctx context.Context, br *broker.Broker) error {
	best, bestRate := 0, 0.0
	for _, n := range inFlight() {
		rate, err := b.bareRate(ctx, br, n, max(b.Messages/barePilots, 100))
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
	if err != nil {
		return err
	}
	rate, err = b.bareRate(ctx, br, 0, b.Messages/bareBatch*bareBatch)
	b.say("bare, atomic batches of %d: %s/s", bareBatch, grouped(rate))
	b.result.BareBatchPerS = max(b.result.BareBatchPerS, rate)
	return err
}

// bareWire is a publisher and a consumer with connections of their own, and a stream between them. The stream is never
// deleted: nats-server 2.15 removes the folder of all streams after the last of them, and a new one may be refused while
// it does. The broker's data is removed as a whole.
type bareWire struct {
	in, out *nats.Conn
	publish jetstream.JetStream
	consume jetstream.Consumer
	subject string // the stream, too, is named so
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
	if w.publish, err = jetstream.New(w.out, jetstream.WithPublishAsyncMaxPending(max(inFlight, 1))); err != nil {
		return nil, err
	}
	js, err := jetstream.New(w.in)
	if err != nil {
		return nil, err
	}
	w.subject = "bare-" + rand.Text()
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{
		Name: w.subject, Subjects: []string{w.subject}, Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, MaxMsgs: 20_000_000,
		AllowAtomicPublish: inFlight == 0,
	})
	if err != nil {
		return nil, err
	}
	w.consume, err = js.CreateConsumer(ctx, w.subject, jetstream.ConsumerConfig{Durable: "inbox", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: bareAcks})
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

// one publishes n messages, each acknowledged for itself.
func (w *bareWire) one(ctx context.Context, n int, body []byte) error {
	for range n {
		if _, err := w.publish.PublishMsgAsync(&nats.Msg{Subject: w.subject, Data: body}, jetstream.WithStallWait(barePatient)); err != nil {
			return err
		}
	}
	select {
	case <-w.publish.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// batches publishes n messages in atomic batches, two at a time: the server syncs and acknowledges each batch once.
func (b *bridgeBench) batches(ctx context.Context, w *bareWire, n int) error {
	return b.queue.parallel(2, n/bareBatch, func() error {
		id := nats.NewInbox() // unlike any other
		for i := range bareBatch {
			m := &nats.Msg{Subject: w.subject, Data: b.queue.body, Header: nats.Header{"Nats-Batch-Id": {id[len(id)-22:]}, "Nats-Batch-Sequence": {strconv.Itoa(i + 1)}}}
			if i < bareBatch-1 {
				if err := w.out.PublishMsg(m); err != nil {
					return err
				}
				continue
			}
			m.Header["Nats-Batch-Commit"] = []string{"1"}
			answer, err := w.out.RequestMsg(m, barePatient)
			if err != nil {
				return err
			}
			if !strings.Contains(string(answer.Data), `"count":`+strconv.Itoa(bareBatch)) {
				return fmt.Errorf("a batch was answered %s", answer.Data)
			}
		}
		return ctx.Err()
	})
}

// bareRate is from the first publish until the last message is acknowledged, on both sides. None in flight: they go
// in atomic batches.
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
		var err error
		if inFlight == 0 {
			err = b.batches(ctx, w, n)
		} else {
			err = w.one(ctx, n, b.queue.body)
		}
		if err != nil {
			return err
		}
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
		return w.in.FlushTimeout(barePatient) // the acknowledgements are with the broker
	})
	return rate, err
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
		_, err := w.publish.PublishMsg(ctx, &nats.Msg{Subject: w.subject, Data: body})
		return err
	})
	if err == nil {
		select {
		case <-done:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return took, err
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
