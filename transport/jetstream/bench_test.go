package jetstream_test

import (
	"bytes"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/jetstream"
	"github.com/weir-go/weir/transport/jetstream/broker"
)

// benchBroker is a broker that syncs, with its way to connect.
func benchBroker(b *testing.B) *broker.Broker {
	b.Helper()
	br, err := broker.Start(b.Context(), broker.Config{Dir: b.TempDir(), Log: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(br.Close)
	return br
}

// BenchmarkBare is what a publisher and a consumer of nats.go do alone, on the same broker with the same
// durability: the measure for BenchmarkWire. Both report messages from the first publish to the last acknowledgement.
func BenchmarkBare(b *testing.B) {
	br := benchBroker(b)
	connect := func() natsjs.JetStream {
		nc, err := nats.Connect("", nats.InProcessServer(br))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(nc.Close)
		js, err := natsjs.New(nc, natsjs.WithPublishAsyncMaxPending(4_000))
		if err != nil {
			b.Fatal(err)
		}
		return js
	}
	in, out := connect(), connect()
	_, err := in.CreateStream(b.Context(), natsjs.StreamConfig{
		Name: "bare", Subjects: []string{"bare.>"}, Retention: natsjs.WorkQueuePolicy, Discard: natsjs.DiscardNew, MaxMsgs: 1_000_000,
	})
	if err != nil {
		b.Fatal(err)
	}
	c, err := in.CreateConsumer(b.Context(), "bare", natsjs.ConsumerConfig{Durable: "inbox", AckPolicy: natsjs.AckExplicitPolicy, MaxAckPending: 10_000})
	if err != nil {
		b.Fatal(err)
	}
	body := bytes.Repeat([]byte("x"), 200)
	b.ResetTimer()
	done := make(chan struct{})
	n := 0
	cc, err := c.Consume(func(m natsjs.Msg) {
		_ = m.Ack()
		if n++; n == b.N {
			close(done)
		}
	}, natsjs.PullMaxMessages(1_000))
	if err != nil {
		b.Fatal(err)
	}
	defer cc.Stop()
	for range b.N {
		if _, err := out.PublishMsgAsync(&nats.Msg{Subject: "bare.in", Data: body}, natsjs.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	<-done
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// BenchmarkWire is the same through Send, Next and Ack.
func BenchmarkWire(b *testing.B) {
	br := benchBroker(b)
	open := func() *jetstream.Transport {
		w, err := jetstream.Open(jetstream.Config{InProcess: br, Capacity: 1_000_000, Log: quiet()})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = w.Close() })
		return w
	}
	to, from := open(), open()
	in, err := to.Receive(b.Context(), "kitchen")
	if err != nil {
		b.Fatal(err)
	}
	body := bytes.Repeat([]byte("x"), 200)
	b.ResetTimer()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; n < b.N; {
			ds, err := in.Next(b.Context(), transport.MaxNext)
			if err != nil {
				b.Error(err)
				return
			}
			if err := in.Ack(b.Context(), ds); err != nil {
				b.Error(err)
				return
			}
			n += len(ds)
		}
	}()
	for n := 0; n < b.N; {
		ps := make([]transport.Packet, min(1_000, b.N-n))
		for i := range ps {
			ps[i] = place(n + i)
			ps[i].Body, ps[i].SentAt, ps[i].ContentType = body, time.Now(), "application/json"
			ps[i].Key = "table-" + strconv.Itoa(i%50)
		}
		if _, err := from.Send(b.Context(), "kitchen", ps); err != nil {
			b.Fatal(err)
		}
		n += len(ps)
	}
	<-done
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}
