package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/internal/brokertest"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport/jetstream"
)

// client is a program that knows nothing of weir.
func client(t *testing.T, s *brokertest.Server) natsjs.JetStream {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.Timeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc, natsjs.WithPublishAsyncMaxPending(256))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// publish publishes commands to clean, each once, and wants each to be answered.
func publish(t *testing.T, js natsjs.JetStream, tables, each, pad int) {
	t.Helper()
	var answers []natsjs.PubAckFuture
	for n := range each {
		for table := range tables {
			m := nats.NewMsg("weir.kitchen.in.till")
			name := fmt.Sprint("table-", table)
			for attribute, value := range map[string]string{
				"specversion": "1.0", "id": fmt.Sprint(name, "/", n), "source": "/till/7", "type": clean.Name(), "partitionkey": name,
			} {
				m.Header.Set("ce-"+attribute, value)
			}
			m.Data = fmt.Appendf(nil, `{"Table":%q,"N":%d,"Pad":%q}`, name, n+1, strings.Repeat("x", pad))
			f, err := js.PublishMsgAsync(m, natsjs.WithStallWait(patience))
			if err != nil {
				t.Fatal(err)
			}
			answers = append(answers, f)
		}
	}
	for _, f := range answers {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			t.Fatalf("publish = %v, want it to be answered", err)
		case <-time.After(patience):
			t.Fatal("publish is not answered")
		}
	}
}

// What a foreign program's publish was answered for is handled, once and in the order of its key: though much more comes than
// there is room for, though the broker gives it again and again while a queue is full, and though the process is restarted then.
func TestForeignFlood(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		redeliver           time.Duration
		tables, each, bytes int
		restart             bool
	}{
		"many":         {0, 30, 120, 0, false},
		"large":        {0, 2, 60, 200_000, false},
		"few, again":   {time.Second, 3, 100, 0, true},
		"many, again":  {time.Second, 30, 100, 0, true},
		"large, again": {time.Second, 2, 60, 200_000, true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s, file := brokertest.Serve(t), filepath.Join(t.TempDir(), "weir.db")
			var cleaned served
			open := make(chan struct{})
			start := func() (stop func()) {
				log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
				w, err := jetstream.Open(jetstream.Config{InProcess: s, Log: log, Redeliver: c.redeliver})
				if err != nil {
					t.Fatal(err)
				}
				e, err := weir.Open(t.Context(), sqlite.File(file), weir.Config{Owns: []string{"kitchen"}, Transport: w, Log: log, StopTimeout: time.Millisecond})
				if err != nil {
					t.Fatal(err)
				}
				weir.Handle(e, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
					select {
					case <-open:
						cleaned.note(m.Body.Table, m.Body.N)
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}, weir.Queue{Capacity: 40, Concurrency: 4, Timeout: time.Hour})
				done := make(chan error, 1)
				go func() { done <- e.Run(context.Background()) }()
				return func() {
					if err := errors.Join(e.Close(), <-done, w.Close()); err != nil {
						t.Errorf("the engine ended with %v, want nil", err)
					}
				}
			}
			stop, js := start(), client(t, s)
			defer func() { stop() }()
			eventually(t, "the inlet is there", func() bool {
				_, err := js.Consumer(t.Context(), "weir-kitchen", "inbox")
				return err == nil
			})
			publish(t, js, c.tables, c.each, c.bytes)
			// delivered waits until the broker has given all so often.
			delivered := func(times int) {
				eventually(t, "the broker gives all", func() bool {
					in, err := js.Consumer(t.Context(), "weir-kitchen", "inbox")
					return err == nil && in.CachedInfo().Delivered.Consumer >= uint64(times*(c.tables*c.each-40))
				})
			}
			delivered(1)
			if c.restart {
				delivered(3)
				stop()
				stop = start()
			}
			if n := cleaned.count(); n != 0 {
				t.Errorf("%d were handled, want none yet", n)
			}
			close(open)
			eventually(t, "all are handled", func() bool { return cleaned.count() >= c.tables*c.each })
			eventually(t, "the broker has none any more", func() bool {
				in, err := js.Stream(t.Context(), "weir-kitchen")
				return err == nil && in.CachedInfo().State.Msgs == 0
			})
			cleaned.wants(t, "cleaned", c.tables, c.each)
		})
	}
}

// What is refused is a dead letter with its reason, with the headers that it came with, and with its body if that is not too large.
func TestForeignRefused(t *testing.T) {
	t.Parallel()
	s := brokertest.Serve(t)
	kitchen := open(t, s, weir.Config{Owns: []string{"kitchen"}})
	var cleaned served
	weir.Handle(kitchen, clean, func(_ context.Context, m *weir.Message[ticket]) error {
		cleaned.note(m.Body.Table, m.Body.N)
		return nil
	})
	run(t, kitchen)
	js := client(t, s)
	body := func(size int) []byte {
		return fmt.Appendf(nil, `{"Table":"table-0","N":1,"Pad":%q}`, strings.Repeat("x", size))
	}
	cases := map[string]struct {
		headers map[string]string
		body    []byte
		reason  string
		kept    bool
	}{
		"unknown":    {map[string]string{"ce-type": "kitchen.paint"}, body(10), "nobody here handles or subscribes", true},
		"malformed":  {map[string]string{"ce-time": "noon"}, body(10), `attribute time is "noon"`, true},
		"stamped":    {map[string]string{"ce-weirstamp": "9000000000000000000"}, body(10), "attribute weirstamp", true},
		"large":      {nil, body(256 << 10), "at most 262144 (Config.MaxBody)", true},
		"very large": {nil, body(3 << 19), "at most 1048576: they are not kept", false},
	}
	for id, c := range cases {
		m := nats.NewMsg("weir.kitchen.in.till")
		for name, value := range map[string]string{
			"ce-specversion": "1.0", "ce-id": id, "ce-source": "/till/7", "ce-type": clean.Name(), "ce-partitionkey": "table-7", "ce-tenant": "north", "traceparent": "00-a",
		} {
			m.Header.Set(name, value)
		}
		for name, value := range c.headers {
			m.Header.Set(name, value)
		}
		m.Data = c.body
		eventually(t, "the inlet takes "+id, func() bool {
			_, err := js.PublishMsg(t.Context(), m)
			return err == nil
		})
	}
	var dead []weir.DeadLetter
	eventually(t, "all are refused", func() bool {
		var err error
		if dead, err = kitchen.Dead(t.Context(), weir.DeadQuery{Queue: "kitchen.refused"}); err != nil {
			t.Fatal(err)
		}
		return len(dead) >= len(cases)
	})
	for _, d := range dead {
		story, err := kitchen.Message(t.Context(), d.Message.ID)
		if err != nil {
			t.Fatal(err)
		}
		var h map[string]string
		if err := json.Unmarshal(story.Headers, &h); err != nil {
			t.Fatal(err)
		}
		id := h["weir-refused-id"]
		c := cases[id]
		if !strings.Contains(d.Reason, c.reason) || c.reason == "" {
			t.Errorf("%q is dead since %q, want %q", id, d.Reason, c.reason)
		}
		if h["ce-partitionkey"] != "table-7" || h["ce-tenant"] != "north" || h["traceparent"] != "00-a" || h["weir-refused-from"] != "/till/7" {
			t.Errorf("%q has the headers %v, want those that it came with", id, h)
		}
		if kept := string(story.Body) == string(c.body); kept != c.kept || !c.kept && len(story.Body) != 0 {
			t.Errorf("%q has a body of %d bytes, want it to be kept: %t", id, len(story.Body), c.kept)
		}
	}
	if cleaned.count() != 0 {
		t.Errorf("%d were handled, want none", cleaned.count())
	}
}

// While the queue of what a foreign program sends is full, and far more of it waits at the broker than is in hand, other
// boundaries' messages are handled.
func TestForeignFloodHoldsUpNobody(t *testing.T) {
	t.Parallel()
	s := brokertest.Serve(t)
	floor := open(t, s, weir.Config{Owns: []string{"floor"}, Routes: map[string]weir.Route{"kitchen": {}}})
	kitchen := open(t, s, weir.Config{Owns: []string{"kitchen"}, StopTimeout: time.Millisecond})
	var cooked, cleaned served
	open := make(chan struct{})
	weir.Handle(kitchen, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
		select {
		case <-open:
			cleaned.note(m.Body.Table, m.Body.N)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, weir.Queue{Capacity: 20, Timeout: time.Hour})
	weir.Answer(kitchen, cook, func(_ context.Context, m *weir.Message[ticket]) (plate, error) {
		cooked.note(m.Body.Table, m.Body.N)
		return plate(m.Body), nil
	})
	run(t, kitchen)
	run(t, floor)
	js := client(t, s)
	eventually(t, "the inlet is there", func() bool {
		_, err := js.Consumer(t.Context(), "weir-kitchen", "inbox")
		return err == nil
	})
	const tables, each = 40, 80
	publish(t, js, tables, each, 0)
	for n := range 50 {
		if err := weir.Send(t.Context(), floor, cook, ticket{"table-0", n + 1}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the floor's are cooked", func() bool { return cooked.count() >= 50 })
	cooked.wants(t, "cooked", 1, 50)
	if n := cleaned.count(); n != 0 {
		t.Errorf("%d were cleaned, want none yet", n)
	}
	close(open)
	eventually(t, "all are cleaned", func() bool { return cleaned.count() >= tables*each })
	cleaned.wants(t, "cleaned", tables, each)
}
