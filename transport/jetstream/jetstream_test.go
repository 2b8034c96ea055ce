package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weir-go/weir/internal/brokertest"
	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/jetstream"
	"github.com/weir-go/weir/transport/jetstream/broker"
	"github.com/weir-go/weir/transport/transporttest"
)

// serve starts a broker, and looks into it.
func serve(t *testing.T) (*brokertest.Server, natsjs.JetStream) {
	t.Helper()
	b := brokertest.Serve(t)
	nc, err := nats.Connect("", nats.InProcessServer(b), nats.Timeout(answer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc, natsjs.WithDefaultTimeout(answer))
	if err != nil {
		t.Fatal(err)
	}
	return b, js
}

// open starts a broker and connects to it with the config's changes.
func open(t *testing.T, change func(c *jetstream.Config)) (*jetstream.Transport, natsjs.JetStream) {
	t.Helper()
	b, js := serve(t)
	c := jetstream.Config{InProcess: b, Timeout: answer, Log: quiet()}
	if change != nil {
		change(&c)
	}
	w, err := jetstream.Open(c)
	if err != nil {
		t.Fatalf("Open() = %v, want nil", err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w, js
}

func places(from, to int) []transport.Packet {
	var ps []transport.Packet
	for n := from; n < to; n++ {
		ps = append(ps, place(n))
	}
	return ps
}

func receive(t *testing.T, w *jetstream.Transport) transport.Inlet {
	t.Helper()
	in, err := w.Receive(t.Context(), "kitchen")
	if err != nil {
		t.Fatalf("Receive() = %v, want nil", err)
	}
	return in
}

func send(t *testing.T, w *jetstream.Transport, ps []transport.Packet) {
	t.Helper()
	if kept, err := w.Send(t.Context(), "kitchen", ps); kept != len(ps) || err != nil {
		t.Fatalf("Send(%d packets) = %d, %v, want all", len(ps), kept, err)
	}
}

// insist sends until a stream that is being made anew has all.
func insist(t *testing.T, w *jetstream.Transport, ps []transport.Packet) {
	t.Helper()
	for {
		kept, err := w.Send(t.Context(), "kitchen", ps)
		if err == nil && kept == len(ps) {
			return
		}
		if !errors.Is(err, transport.ErrUnknown) && !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("Send() = %d, %v, want it to pass", kept, err)
			return
		}
		pause(t.Context(), 10*time.Millisecond)
	}
}

// reads wants packets from..to for the first time in order, and acknowledges all it gets.
func reads(t *testing.T, in transport.Inlet, from, to int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for n := from; n < to; {
		ds, err := in.Next(ctx, min(transport.MaxNext, to-n))
		if err != nil && !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("Next() = %v, want packet %d", err, n)
			return
		}
		for _, d := range ds {
			switch at := int(d.Packet.Position.Batch)*100 + d.Packet.Position.Index; {
			case at == n:
				n++
			case at > n:
				t.Errorf("Next() gave packet %d, want %d", at, n)
				return
			}
		}
		if err := in.Ack(ctx, ds); err != nil && !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("Ack() = %v, want nil or ErrUnavailable", err)
			return
		}
	}
}

// empties wants that the stream holds nothing, in the end.
func empties(t *testing.T, js natsjs.JetStream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	eventually(ctx, t, "an empty stream", func() error {
		s, err := js.Stream(ctx, "weir-kitchen")
		if err == nil && s.CachedInfo().State.Msgs > 0 {
			err = fmt.Errorf("it holds %d", s.CachedInfo().State.Msgs)
		}
		return err
	})
}

// What a process had in its hands comes to others when it closes, not when its time is over.
func TestCloseGivesBack(t *testing.T) {
	t.Parallel()
	w, _ := open(t, func(c *jetstream.Config) { c.Redeliver = time.Hour })
	in := receive(t, w)
	send(t, w, places(0, 300))
	if _, err := in.Next(t.Context(), 200); err != nil {
		t.Fatal(err)
	}
	// And what is on its way: a Next that was given up has asked for them.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = in.Next(ctx, 100)
	if err := in.Close(); err != nil {
		t.Fatalf("Close() = %v, want nil", err)
	}
	in = receive(t, w)
	reads(t, in, 0, 300)
}

// A consumer or a stream that somebody deletes is made again, and the sender's packets come.
func TestDeletedUnderway(t *testing.T) {
	t.Parallel()
	w, js := open(t, nil)
	in := receive(t, w)
	send(t, w, places(0, 10))
	reads(t, in, 0, 10)
	var all sync.WaitGroup
	all.Go(func() { reads(t, in, 10, 20) }) // waits
	if err := js.DeleteConsumer(t.Context(), "weir-kitchen", "inbox"); err != nil {
		t.Fatal(err)
	}
	send(t, w, places(10, 20))
	all.Wait()
	if err := js.DeleteStream(t.Context(), "weir-kitchen"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Send(t.Context(), "kitchen", places(20, 30)); !errors.Is(err, transport.ErrUnknown) {
		t.Errorf("Send() without its stream = %v, want ErrUnknown", err)
	}
	all.Go(func() { reads(t, in, 20, 30) })
	insist(t, w, places(20, 30))
	all.Wait()
	empties(t, js)
}

// A stream that is made anew, and has as much acknowledged as the one before it, makes room as that did.
func TestMadeAnewToTheSameFloor(t *testing.T) {
	t.Parallel()
	w, js := open(t, nil)
	in := receive(t, w)
	send(t, w, places(0, 10))
	reads(t, in, 0, 10)
	empties(t, js)
	if err := js.DeleteStream(t.Context(), "weir-kitchen"); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() { reads(t, in, 10, 20) })
	insist(t, w, places(10, 20))
	all.Wait()
	empties(t, js)
}

// The bound holds over many batches: 10,000 into 1,000, nothing dropped, in order, one at a time to the last.
func TestManyIntoFew(t *testing.T) {
	t.Parallel()
	w, js := open(t, func(c *jetstream.Config) { c.Capacity = 1_000 })
	in := receive(t, w)
	const all = 10_000
	kept, err := w.Send(t.Context(), "kitchen", places(0, all))
	if kept != 1_000 || !errors.Is(err, transport.ErrFull) {
		t.Fatalf("Send(10,000) into 1,000 = %d, %v, want 1000, ErrFull", kept, err)
	}
	s, err := js.Stream(t.Context(), "weir-kitchen")
	if err != nil || s.CachedInfo().State.Msgs != 1_000 {
		t.Fatalf("the stream holds %+v, %v, want 1,000", s.CachedInfo().State, err)
	}
	var crew sync.WaitGroup
	crew.Go(func() {
		for rest := places(kept, all); len(rest) > 0; {
			n, err := w.Send(t.Context(), "kitchen", rest)
			if rest = rest[n:]; err != nil && !errors.Is(err, transport.ErrFull) {
				t.Errorf("Send() = %v, want nil or ErrFull", err)
				return
			}
			pause(t.Context(), 10*time.Millisecond)
		}
	})
	reads(t, in, 0, all)
	crew.Wait()
	empties(t, js)
}

// A plain NATS client hears an event as a CloudEvent, once, however often it was sent.
func TestPublicEvents(t *testing.T) {
	t.Parallel()
	w, js := open(t, nil)
	ps := places(0, 700)
	for i := range ps {
		ps[i].Topic, ps[i].Kind = "floor.table.opened", transport.KindEvent
	}
	for _, part := range [][]transport.Packet{ps[:600], ps[:600], ps[300:]} {
		if kept, err := w.Send(t.Context(), transport.Everybody, part); kept != len(part) || err != nil {
			t.Fatalf("Send(Everybody, %d) = %d, %v, want all", len(part), kept, err)
		}
	}
	c, err := js.OrderedConsumer(t.Context(), "weir-floor_events", natsjs.OrderedConsumerConfig{FilterSubjects: []string{"weir.floor.events.table.opened"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Fetch(len(ps), natsjs.FetchMaxWait(answer))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for m := range got.Messages() {
		h := m.Headers()
		if h.Get("ce-id") != ps[n].ID || h.Get("ce-type") != "floor.table.opened" || h.Get("ce-source") != "/weir/floor" || h.Get("ce-specversion") != "1.0" || string(m.Data()) != string(ps[n].Body) {
			t.Fatalf("event %d = %v %q, want %s", n, h, m.Data(), ps[n].ID)
		}
		n++
	}
	if info, err := c.Info(t.Context()); n != len(ps) || got.Error() != nil || err != nil || info.NumPending != 0 {
		t.Errorf("heard %d events (%v), then %+v, %v, want %d and none more", n, got.Error(), info, err, len(ps))
	}
}

// The events of a boundary are in nobody's inlet, whatever others are called.
func TestEventsAreNobodysInlet(t *testing.T) {
	t.Parallel()
	w, js := open(t, nil)
	in, err := w.Receive(t.Context(), "floor-events")
	if err != nil {
		t.Fatal(err)
	}
	event := places(0, 1)
	event[0].Topic, event[0].Kind = "floor.opened", transport.KindEvent
	if _, err := w.Send(t.Context(), transport.Everybody, event); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Send(t.Context(), "floor-events", places(1, 2)); err != nil {
		t.Fatalf("Send(to floor-events) after an event of the floor = %v, want nil", err)
	}
	ds, err := in.Next(t.Context(), 10)
	if s, look := js.Stream(t.Context(), "weir-floor-events"); err != nil || len(ds) != 1 || look != nil || s.CachedInfo().Config.Discard != natsjs.DiscardNew {
		t.Errorf("Next() = %v, %v, then the stream is %+v, want the one packet and the inlet as it was", ds, err, s.CachedInfo().Config)
	}
}

// The broker of a default configuration has room for many boundaries of a default configuration; and where it has not the error says
// what to set, and that it takes a person.
func TestManyBoundaries(t *testing.T) {
	t.Parallel()
	w, _ := open(t, nil)
	many, err := 0, error(nil)
	for ; many < 50 && err == nil; many++ {
		var in transport.Inlet
		if in, err = w.Receive(t.Context(), fmt.Sprintf("service-%d", many)); err == nil {
			_ = in.Close()
		}
	}
	if many < 41 {
		t.Errorf("Receive for boundary %d = %v, want room for 40", many, err)
	}
	for _, want := range []string{"CapacityBytes (268435456)", "EventsBytes", "--max-store-mb", "max_file_store"} {
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, transport.ErrNeedsPerson) {
			t.Errorf("Receive for boundary %d = %v, want it to say %s, for a person", many, err, want)
		}
	}
}

// A consumer that somebody made otherwise is told of, with what to do.
func TestOtherConsumer(t *testing.T) {
	t.Parallel()
	for what, other := range map[string]natsjs.ConsumerConfig{
		"acknowledges nothing": {Durable: "inbox", AckPolicy: natsjs.AckNonePolicy},
		"begins at new ones":   {Durable: "inbox", AckPolicy: natsjs.AckExplicitPolicy, DeliverPolicy: natsjs.DeliverNewPolicy},
	} {
		w, js := open(t, nil)
		_ = receive(t, w).Close()
		if err := js.DeleteConsumer(t.Context(), "weir-kitchen", "inbox"); err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateConsumer(t.Context(), "weir-kitchen", other); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Receive(t.Context(), "kitchen"); !errors.Is(err, transport.ErrNeedsPerson) || !strings.Contains(err.Error(), "consumer inbox was made otherwise by somebody: delete it") {
			t.Errorf("Receive() where a consumer %s = %v, want what to do", what, err)
		}
	}
}

// Bytes are bounded as messages are.
func TestManyBytesIntoFew(t *testing.T) {
	t.Parallel()
	w, js := open(t, func(c *jetstream.Config) { c.CapacityBytes = 4 << 20 })
	in := receive(t, w)
	ps := places(0, 200)
	for i := range ps {
		ps[i].Body = make([]byte, 50_000)
	}
	kept, err := w.Send(t.Context(), "kitchen", ps)
	if kept < 4<<20/51_000 || kept > 4<<20/50_000 || !errors.Is(err, transport.ErrFull) {
		t.Fatalf("Send(200 of 50,000 bytes) into 4 MiB = %d, %v, want some 83, ErrFull", kept, err)
	}
	if s, err := js.Stream(t.Context(), "weir-kitchen"); err != nil || s.CachedInfo().State.Msgs != uint64(kept) {
		t.Fatalf("the stream holds %+v, %v, want %d", s.CachedInfo().State, err, kept)
	}
	for n := 0; n < len(ps); {
		reads(t, in, n, kept)
		n = kept
		more, err := w.Send(t.Context(), "kitchen", ps[kept:])
		if kept += more; err != nil && !errors.Is(err, transport.ErrFull) {
			t.Fatalf("Send() = %v, want nil or ErrFull", err)
		}
	}
}

// A packet that is twice in one Send is kept once.
func TestTwiceInOneSend(t *testing.T) {
	t.Parallel()
	w, _ := open(t, nil)
	in := receive(t, w)
	send(t, w, append(places(0, 3), places(1, 5)...))
	reads(t, in, 0, 5)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if ds, err := in.Next(ctx, 10); err == nil {
		t.Errorf("Next() = %d packets more, want none", len(ds))
	}
}

// A later process may have other bounds; they are those of the stream from then on.
func TestBoundsChange(t *testing.T) {
	t.Parallel()
	b, js := serve(t)
	for _, capacity := range []int64{5, 12, 8} {
		w, err := jetstream.Open(jetstream.Config{InProcess: b, Capacity: capacity, Timeout: answer, Log: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		in := receive(t, w)
		empties(t, js) // what was acknowledged may be swept by the next inlet only
		kept, err := w.Send(t.Context(), "kitchen", places(0, 20))
		if int64(kept) != capacity || !errors.Is(err, transport.ErrFull) {
			t.Errorf("Send(20) with a capacity of %d = %d, %v, want as many, ErrFull", capacity, kept, err)
		}
		reads(t, in, 0, kept)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Streams that would lose packets are refused, with what is wrong with them.
func TestStreamsThatLose(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(c *natsjs.StreamConfig){
		"persist_mode is async":     func(c *natsjs.StreamConfig) { c.PersistMode = natsjs.AsyncPersistMode; c.AllowAtomicPublish = false },
		"storage is memory":         func(c *natsjs.StreamConfig) { c.Storage = natsjs.MemoryStorage },
		"discard is old":            func(c *natsjs.StreamConfig) { c.Discard = natsjs.DiscardOld },
		"retention is WorkQueue":    func(c *natsjs.StreamConfig) { c.Retention = natsjs.WorkQueuePolicy },
		"deny_purge is set":         func(c *natsjs.StreamConfig) { c.DenyPurge = true },
		"max_age is 1h0m0s":         func(c *natsjs.StreamConfig) { c.MaxAge = time.Hour },
		"max_msgs_per_subject is 1": func(c *natsjs.StreamConfig) { c.MaxMsgsPerSubject = 1 },
		"max_msg_size is 1000":      func(c *natsjs.StreamConfig) { c.MaxMsgSize = 1_000 },
		"its subjects are weir.pub": func(c *natsjs.StreamConfig) { c.Subjects = []string{"weir.pub.in.>"} },
		"no_ack is set":             func(c *natsjs.StreamConfig) { c.NoAck = true; c.AllowAtomicPublish = false },
	} {
		t.Run(want, func(t *testing.T) {
			w, js := open(t, nil)
			c := natsjs.StreamConfig{
				Name: "weir-kitchen", Subjects: []string{"weir.kitchen.in.>"},
				Discard: natsjs.DiscardNew, MaxMsgs: 10, AllowAtomicPublish: true,
			}
			change(&c)
			if _, err := js.CreateStream(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			_, err := w.Receive(t.Context(), "kitchen")
			if e, ok := errors.AsType[*jetstream.StreamError](err); !ok || !strings.Contains(e.Error(), want) || !errors.Is(err, transport.ErrNeedsPerson) {
				t.Errorf("Receive() = %v, want a StreamError with %q, for a person", err, want)
			}
			doubts, err := w.Doubts(t.Context())
			if err != nil || len(doubts) != 1 || !strings.Contains(doubts[0], want) {
				t.Errorf("Doubts() = %q, %v, want one with %q", doubts, err, want)
			}
		})
	}
}

// journal is a log that is read while nats.go may still write to it: its handlers outlive a connection's Close.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// A server that does not sync is found out by its monitoring, and told to the log; ours does.
func TestDoubtsAboutSyncing(t *testing.T) {
	t.Parallel()
	lazy, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, HTTPHost: "127.0.0.1", HTTPPort: natsserver.RANDOM_PORT,
		JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	lazy.Start()
	defer lazy.WaitForShutdown()
	defer lazy.Shutdown()
	if !lazy.ReadyForConnections(patience) {
		t.Fatal("the server is not ready")
	}
	ours, err := broker.Start(t.Context(), broker.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Monitor: "127.0.0.1:0", Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	for name, c := range map[string]struct{ url, monitor, want string }{
		"lazy":              {lazy.ClientURL(), "http://" + lazy.MonitorAddr().String(), "the server does not sync its writes"},
		"nobody says":       {lazy.ClientURL(), "", "it is not known whether the server syncs"},
		"says nothing":      {lazy.ClientURL(), "http://127.0.0.1:1", "its monitoring does not say"},
		"something else":    {lazy.ClientURL(), "http://" + lazy.MonitorAddr().String() + "/no", "its monitoring does not say"},
		"ours":              {ours.URL(), ours.MonitorURL(), ""},
		"ours, with a stop": {ours.URL(), ours.MonitorURL() + "/", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var log journal
			w, err := jetstream.Open(jetstream.Config{Servers: []string{c.url}, Monitor: c.monitor, Timeout: answer, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			in := receive(t, w)
			doubts, err := w.Doubts(t.Context())
			if got := strings.Join(doubts, "\n"); err != nil || !strings.Contains(got, c.want) || (c.want == "") != (got == "") {
				t.Errorf("Doubts() = %q, %v, want %q", got, err, c.want)
			}
			if err := errors.Join(in.Close(), w.Close()); err != nil {
				t.Fatal(err)
			}
			said := log.String()
			if warned := strings.Contains(said, "the broker may lose"); warned != (c.want != "") {
				t.Errorf("the log has a warning: %t, want %t:\n%s", warned, c.want != "", said)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]jetstream.Config{
		"Config.Capacity is -1, want 1 to 10000000":  {Capacity: -1},
		"Config.CapacityBytes is 1, want":            {CapacityBytes: 1},
		"Config.Replicas is 7, want 1 to 5":          {Replicas: 7},
		"Config.Redeliver is 1ms, want":              {Redeliver: time.Millisecond},
		"Config.Timeout is 1h0m0s, want":             {Timeout: time.Hour},
		"User and Password go together":              {User: "floor"},
		"Cert and Key go together":                   {Cert: "a.pem"},
		"several of User, Creds and NKey":            {User: "floor", Password: "x", Creds: "a.creds"},
		`has "broker", want nats://host:port`:        {Servers: []string{"broker"}},
		`has "http://broker", want nats://host:port`: {Servers: []string{"http://broker"}},
		`"…@broker:4222" with a user`:                {Servers: []string{"nats://floor:secret@broker:4222"}},
		"another host: want tls://, or CA":           {Servers: []string{"nats://broker:4222"}, User: "floor", Password: "x"},
		"another host: want a login":                 {Servers: []string{"tls://broker:4222"}},
		"Config.NKey":                                {NKey: filepath.Join(t.TempDir(), "none")},
	} {
		c.Log = quiet()
		w, err := jetstream.Open(c)
		if err == nil {
			_ = w.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Open(%+v) = %v, want %q", c, err, want)
		}
	}
}

// Laws hold where the order to a broker's answers is not that of its questions: many ends at once.
func TestManySenders(t *testing.T) {
	t.Parallel()
	const senders, each = 12, 700
	w, _ := open(t, nil)
	in := receive(t, w)
	var crew sync.WaitGroup
	for i := range senders {
		crew.Go(func() {
			ps := places(0, each)
			for n := range ps {
				ps[n].Lane.From = "floor" + string(rune('a'+i))
			}
			for len(ps) > 0 {
				kept, err := w.Send(t.Context(), "kitchen", ps)
				if ps = ps[kept:]; err != nil && !errors.Is(err, transport.ErrUnavailable) {
					t.Errorf("Send() = %v, want nil or ErrUnavailable", err)
					return
				}
			}
		})
	}
	last := map[string]int{}
	for n := 0; n < senders*each; {
		ds, err := in.Next(t.Context(), transport.MaxNext)
		if err != nil && !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("Next() = %v, want packets", err)
			break
		}
		for _, d := range ds {
			p := d.Packet
			switch at := int(p.Position.Batch)*100 + p.Position.Index; {
			case at == last[p.Lane.From]:
				last[p.Lane.From]++
				n++
			case at > last[p.Lane.From]:
				t.Errorf("%s: packet %d, want %d", p.Lane, at, last[p.Lane.From])
			}
		}
		if err := in.Ack(t.Context(), ds); err != nil && !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("Ack() = %v, want nil or ErrUnavailable", err)
		}
	}
	crew.Wait()
}

var _ transporttest.Broker = (*rig)(nil)
