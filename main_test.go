package weir_test

import (
	"context"
	"flag"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/internal/bubble"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	bubble.OnOneProcessor()
	if err := flag.Set("test.parallel", "8"); err != nil { // the parallel tests mostly wait
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// The contracts of most tests.
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

func (t ticket) table() string { return t.Table }

var (
	prepare = weir.NewCommand[ticket]("kitchen.prepare-food", weir.KeyedBy(ticket.table))
	clean   = weir.NewCommand[ticket]("kitchen.clean") // without a key
	cook    = weir.NewRequest[ticket, plate]("kitchen.cook", weir.KeyedBy(ticket.table))
	ready   = weir.NewEvent[plate]("kitchen.food-ready")
	served  = weir.NewEvent[plate]("staff.food-served")
)

// patience is how long a test waits for what must come: far beyond what it takes.
const patience = 4 * time.Minute

// quick is a retry policy that costs a test no time.
var quick = weir.Retry{Max: 3, Base: time.Millisecond, Cap: time.Millisecond}

// newFile is the path of a store that does not exist yet.
func newFile(t testing.TB) string { return filepath.Join(t.TempDir(), "weir.db") }

// openEngine opens an engine that owns kitchen and staff and stops soon, if c does
// not say otherwise.
func openEngine(t testing.TB, file string, c weir.Config) *weir.Engine {
	t.Helper()
	return openStore(t, sqlite.File(file), c)
}

// openStore is openEngine on any store.
func openStore(t testing.TB, open store.Opener, c weir.Config) *weir.Engine {
	t.Helper()
	if c.Owns == nil {
		c.Owns = []string{"kitchen", "staff"}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	if c.StopTimeout == 0 {
		c.StopTimeout = 10 * time.Millisecond // for handlers that wait for their context
	}
	e, err := weir.Open(t.Context(), open, c)
	if err != nil {
		t.Fatalf("Open = %v", err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close = %v, want nil", err)
		}
	})
	return e
}

// run runs e in the background until t ends, or until the function it gives is
// called, which waits for Run and wants it to return nil.
func run(t testing.TB, e *weir.Engine) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := receive(t, done); err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// receive is the next value of c, which must come.
func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("nothing came within %s", patience)
		panic("unreachable")
	}
}

// eventually waits until holds does.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// figures is a queue's state and figures.
func figures(t testing.TB, e *weir.Engine, queue string) weir.QueueFigures {
	t.Helper()
	all, err := e.Queues(context.Background(), 0)
	if err != nil {
		t.Fatalf("Queues = %v", err)
	}
	for _, q := range all {
		if q.Name == queue {
			return q
		}
	}
	t.Fatalf("Queues has no %s", queue)
	panic("unreachable")
}

// emptied waits until nothing is to be worked in a queue.
func emptied(t testing.TB, e *weir.Engine, queue string) {
	t.Helper()
	eventually(t, queue+" is empty", func() bool { return figures(t, e, queue).Depth == 0 })
}

// deadLetters waits for n dead letters of a queue and gives them with their history.
func deadLetters(t testing.TB, e *weir.Engine, queue string, n int) []weir.DeadLetter {
	t.Helper()
	var list []weir.DeadLetter
	eventually(t, queue+" has its dead letters", func() bool {
		var err error
		if list, err = e.Dead(context.Background(), weir.DeadQuery{Queue: queue, Max: 1000}); err != nil {
			t.Fatalf("Dead = %v", err)
		}
		return len(list) >= n
	})
	if len(list) != n {
		t.Fatalf("Dead lists %d letters of %s, want %d", len(list), queue, n)
	}
	for i := range list {
		one, err := e.Dead(context.Background(), weir.DeadQuery{Queue: queue, ID: list[i].Message.ID})
		if err != nil || len(one) != 1 {
			t.Fatalf("Dead(%s) = %d letters, %v, want one", list[i].Message.ID, len(one), err)
		}
		list[i] = one[0]
	}
	return list
}

// send sends commands one by one.
func send[In, Out any](t testing.TB, s weir.Sender, c weir.Command[In, Out], bodies ...In) {
	t.Helper()
	for _, b := range bodies {
		if err := weir.Send(context.Background(), s, c, b); err != nil {
			t.Fatalf("Send(%+v) = %v", b, err)
		}
	}
}

// tickets are n tickets of a table, numbered from 1.
func tickets(table string, n int) []ticket {
	list := make([]ticket, n)
	for i := range list {
		list[i] = ticket{table, i + 1}
	}
	return list
}

// into is a handler that puts messages in a channel.
func into[T any](c chan<- *weir.Message[T]) func(context.Context, *weir.Message[T]) error {
	return func(ctx context.Context, m *weir.Message[T]) error {
		select {
		case c <- m:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// abandoning is a store whose process ends without handing back what it holds,
// as a killed one does.
type abandoning struct{ store.Store }

func (abandoning) End(context.Context) error { return nil }

// abandon opens a file as an abandoning store.
func abandon(file string) store.Opener {
	return func(ctx context.Context) (store.Store, error) {
		st, err := sqlite.File(file)(ctx)
		if err != nil {
			return nil, err
		}
		return abandoning{st}, nil
	}
}
