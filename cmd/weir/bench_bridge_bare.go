package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
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
	barePatient = time.Minute // for any answer of the broker: nats.go would give up after 2 or 5 s, on a busy machine for nothing
	bareTries   = 10          // of a batch that the broker gives up
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
	subject string     // the stream, too, is named so
	refused chan error // the first publish in flight that was not kept
}

func openBare(ctx context.Context, br *broker.Broker, inFlight int) (_ *bareWire, err error) {
	w := &bareWire{refused: make(chan error, 1)}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.in, err = nats.Connect(br.URL(), nats.Timeout(barePatient)); err != nil {
		return nil, err
	}
	if w.out, err = nats.Connect(br.URL(), nats.Timeout(barePatient)); err != nil {
		return nil, err
	}
	w.publish, err = jetstream.New(w.out, jetstream.WithDefaultTimeout(barePatient), jetstream.WithPublishAsyncMaxPending(max(inFlight, 1)),
		jetstream.WithPublishAsyncErrHandler(w.refuse))
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(w.in, jetstream.WithDefaultTimeout(barePatient))
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

// refuse remembers a publish in flight that was not kept: nobody would ever consume it.
func (w *bareWire) refuse(_ jetstream.JetStream, _ *nats.Msg, err error) {
	select {
	case w.refused <- err:
	default: // the first is enough
	}
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
	case err := <-w.refused:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
	select { // what is refused last completes them, too
	case err := <-w.refused:
		return err
	default:
		return nil
	}
}

// batches publishes n messages in atomic batches, two at a time: the server syncs and acknowledges each batch once.
func (b *bridgeBench) batches(ctx context.Context, w *bareWire, n int) error {
	return b.queue.parallel(2, n/bareBatch, func() error {
		for try := 1; ; try++ {
			answer, err := w.batch(b.queue.body)
			if err != nil || ctx.Err() != nil {
				return errors.Join(err, ctx.Err())
			}
			switch {
			case answer.Error.Code == 0 && answer.Count == bareBatch:
				return nil
			case answer.Error.Code == batchGivenUp && try < bareTries:
				// None of it is kept: its end did not come within 10 s of its beginning.
			default:
				return fmt.Errorf("a batch was answered %+v", answer)
			}
		}
	})
}

// batchAnswer is what the broker says of a batch.
type batchAnswer struct {
	Count int `json:"count"`
	Error struct {
		Code        int    `json:"err_code"` // 0: it is kept
		Description string `json:"description"`
	} `json:"error"`
}

const batchGivenUp = 10176 // the server's code, which has no name in nats.go

// batch publishes one atomic batch.
func (w *bareWire) batch(body []byte) (answer batchAnswer, err error) {
	id := nats.NewInbox() // unlike any other
	for i := range bareBatch - 1 {
		if err := w.out.PublishMsg(w.inBatch(id, i, body)); err != nil {
			return answer, err
		}
	}
	last := w.inBatch(id, bareBatch-1, body)
	last.Header["Nats-Batch-Commit"] = []string{"1"}
	m, err := w.out.RequestMsg(last, barePatient)
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(m.Data, &answer)
}

func (w *bareWire) inBatch(id string, i int, body []byte) *nats.Msg {
	return &nats.Msg{Subject: w.subject, Data: body, Header: nats.Header{"Nats-Batch-Id": {id[len(id)-22:]}, "Nats-Batch-Sequence": {strconv.Itoa(i + 1)}}}
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
