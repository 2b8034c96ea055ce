package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/internal/brokertest"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport/jetstream"
)

func TestMain(m *testing.M) { brokertest.Verify(m) }

type (
	ticket struct {
		Table string
		N     int
	}
	plate struct {
		Table string
		N     int
	}
)

var (
	cook  = weir.NewRequest[ticket, plate]("kitchen.cook", weir.KeyedBy(func(t ticket) string { return t.Table }))
	clean = weir.NewCommand[ticket]("kitchen.clean")
	ready = weir.NewEvent[plate]("kitchen.food-ready")
)

const patience = 4 * time.Minute

// open opens an engine with a connection of its own.
func open(t testing.TB, s *brokertest.Server, c weir.Config) *weir.Engine {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	w, err := jetstream.Open(jetstream.Config{InProcess: s, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	c.Transport, c.Log = w, log
	e, err := weir.Open(t.Context(), sqlite.File(filepath.Join(t.TempDir(), "weir.db")), c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// run runs an engine until the test ends.
func run(t testing.TB, e *weir.Engine) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- e.Run(context.Background()) }()
	t.Cleanup(func() {
		if err := errors.Join(e.Close(), <-done); err != nil {
			t.Errorf("the engine ended with %v, want nil", err)
		}
	})
}

// served is what was handled, by table.
type served struct {
	mu    sync.Mutex
	table map[string][]int
	n     int
}

func (s *served) note(table string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table == nil {
		s.table = map[string][]int{}
	}
	s.table[table] = append(s.table[table], n)
	s.n++
}

func (s *served) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

func (s *served) wants(t testing.TB, what string, tables, each int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range tables {
		name := fmt.Sprint("table-", n)
		want := make([]int, each)
		for i := range want {
			want[i] = i + 1
		}
		if !slices.Equal(s.table[name], want) {
			t.Errorf("%s of %s: %s, want 1 to %d in order, once", what, name, stretches(s.table[name]), each)
		}
	}
}

// stretches tells numbers briefly: "1-3 5 4 6-9".
func stretches(list []int) string {
	var parts []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, fmt.Sprint(list[i]))
		} else {
			parts = append(parts, fmt.Sprint(list[i], "-", list[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, " ")
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// Requests are handled once and in order, and have their replies, though the broker is stopped, and wiped, in mid-run.
func TestBrokerStoppedAndWiped(t *testing.T) {
	t.Parallel()
	const tables, each = 10, 60
	s := brokertest.Serve(t)
	floor := open(t, s, weir.Config{Owns: []string{"floor"}, Routes: map[string]weir.Route{"kitchen": {}}})
	kitchen := open(t, s, weir.Config{Owns: []string{"kitchen"}})
	var cooked, fed served
	weir.Answer(kitchen, cook, func(_ context.Context, m *weir.Message[ticket]) (plate, error) {
		if m.Attempt == 1 { // an attempt that is made again is no second effect
			cooked.note(m.Body.Table, m.Body.N)
		}
		return plate(m.Body), nil
	})
	weir.Subscribe(floor, cook.Reply(), "floor.serve", func(_ context.Context, m *weir.Message[plate]) error {
		fed.note(m.Body.Table, m.Body.N)
		return nil
	})
	run(t, kitchen)
	run(t, floor)
	for n := 1; n <= each; n++ {
		for table := range tables {
			if err := weir.Send(t.Context(), floor, cook, ticket{fmt.Sprint("table-", table), n}); err != nil {
				t.Fatal(err)
			}
		}
		switch n {
		case each / 3:
			eventually(t, "some are served", func() bool { return fed.count() > 0 })
			s.Kill()
		case each/3 + 5:
			s.Start()
		case 2 * each / 3:
			s.Kill()
			s.Wipe()
		case 2*each/3 + 5:
			s.Start()
		}
	}
	eventually(t, "all are served", func() bool { return fed.count() >= tables*each })
	cooked.wants(t, "cooked", tables, each)
	fed.wants(t, "served", tables, each)
}

// A program that knows nothing of weir sends a command and hears a public event. What is no packet, or for nobody, is a
// dead letter with its reason.
func TestForeign(t *testing.T) {
	t.Parallel()
	s := brokertest.Serve(t)
	kitchen := open(t, s, weir.Config{Owns: []string{"kitchen"}, Public: []string{ready.Name()}})
	weir.Handle(kitchen, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
		return weir.Publish(ctx, m, ready, plate(m.Body))
	})
	run(t, kitchen)
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.Timeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := natsjs.New(nc, natsjs.WithDefaultTimeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan *nats.Msg, 10)
	if _, err := nc.ChanSubscribe("weir.kitchen.events.>", heard); err != nil {
		t.Fatal(err)
	}
	tell := func(id, topic string, headers ...string) {
		t.Helper()
		m := nats.NewMsg("weir.kitchen.in.till")
		m.Data = []byte(`{"Table":"7","N":1}`)
		for name, value := range map[string]string{"ce-specversion": "1.0", "ce-id": id, "ce-source": "/till/7", "ce-type": topic} {
			m.Header.Set(name, value)
		}
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			m.Header.Set(name, value)
		}
		eventually(t, "the inlet takes "+id, func() bool {
			_, err := js.PublishMsg(t.Context(), m)
			return err == nil
		})
	}
	tell("1", "kitchen.clean")
	tell("1", "kitchen.clean") // the same: it is done once
	tell("2", "kitchen.clean", "ce-time: yesterday")
	tell("3", "kitchen.paint")
	tell("4", "floor.clean")
	var event *nats.Msg
	select {
	case event = <-heard:
		if got := event.Header.Get("ce-type"); got != ready.Name() || string(event.Data) != `{"Table":"7","N":1}` || event.Header.Get("ce-source") != "/weir/kitchen" {
			t.Errorf("heard %s with %q, headers %v, want %s with the plate", got, event.Data, event.Header, ready.Name())
		}
	case <-time.After(patience):
		t.Fatal("the public event was not heard")
	}
	var dead []weir.DeadLetter
	eventually(t, "what was refused is dead", func() bool {
		dead, err = kitchen.Dead(t.Context(), weir.DeadQuery{Queue: "kitchen.refused"})
		if err != nil {
			t.Fatal(err)
		}
		return len(dead) >= 3
	})
	for _, want := range []string{
		`"kitchen.clean" "2" from "/till/7" was refused: malformed packet: CloudEvents attribute time is "yesterday"`,
		`nobody here handles or subscribes to "kitchen.paint"`, `nobody here handles or subscribes to "floor.clean"`,
	} {
		if !slices.ContainsFunc(dead, func(d weir.DeadLetter) bool { return strings.Contains(d.Reason, want) }) {
			t.Errorf("no dead letter says %q: %+v", want, dead)
		}
	}
	for len(heard) > 0 { // an event itself may be heard again: its sender sends what the broker was slow to confirm once more
		if m := <-heard; m.Header.Get("ce-id") != event.Header.Get("ce-id") {
			t.Errorf("another event was heard, %v, want one: what came twice is done once", m.Header)
		}
	}
}
