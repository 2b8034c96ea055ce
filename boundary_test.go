package weir_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/local"
)

// wire connects the boundaries of a test.
func newWire(t testing.TB, c local.Config) *local.Wire {
	t.Helper()
	w, err := local.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// openFloor is an engine of the boundary floor, which sends to the kitchen.
func openFloor(t testing.TB, file string, tr transport.Transport) *weir.Engine {
	return openStore(t, sqlite.File(file), weir.Config{
		Owns: []string{"floor", "staff"}, Transport: tr, Routes: map[string]weir.Route{"kitchen": {}},
	})
}

// openKitchen is an engine of the boundary kitchen.
func openKitchen(t testing.TB, file string, tr transport.Transport) *weir.Engine {
	return openStore(t, sqlite.File(file), weir.Config{
		Owns: []string{"kitchen"}, Transport: tr, Routes: map[string]weir.Route{"floor": {}, "staff": {}},
	})
}

// ledger notes what was handled, and in what order for each table.
type ledger struct {
	mu    sync.Mutex
	all   int
	table map[string][]int
}

func (l *ledger) note(table string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.table == nil {
		l.table = map[string][]int{}
	}
	l.all++
	l.table[table] = append(l.table[table], n)
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}

// wants checks that each table had 1 to n, in order, once.
func (l *ledger) wants(t testing.TB, tables, n int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.table) != tables {
		t.Errorf("%d tables were served, want %d", len(l.table), tables)
	}
	for table, got := range l.table {
		if len(got) != n {
			t.Errorf("table %s got %d, want %d", table, len(got), n)
			continue
		}
		for i := range got {
			if got[i] != i+1 {
				t.Errorf("table %s: number %d is %d, want %d: out of order, lost or doubled", table, i, got[i], i+1)
				break
			}
		}
	}
}

func (l *ledger) prepare(_ context.Context, m *weir.Message[ticket]) error {
	m.OnCommit(func(context.Context, weir.Tx) error { return nil })
	l.note(m.Body.Table, m.Body.N)
	return nil
}

func TestBoundaryCommand(t *testing.T) {
	wire := newWire(t, local.Config{})
	floor, kitchen := openFloor(t, newFile(t), wire.Open()), openKitchen(t, newFile(t), wire.Open())
	var l ledger
	weir.Handle(kitchen, prepare, l.prepare)
	run(t, kitchen)
	run(t, floor)
	for i := range 100 {
		send(t, floor, prepare, ticket{"7", i + 1}, ticket{"8", i + 1})
	}
	eventually(t, "all are prepared", func() bool { return l.count() >= 200 })
	l.wants(t, 2, 100)
	emptied(t, floor, prepare.Name())
}

func TestBoundaryRefusesUnknown(t *testing.T) {
	wire := newWire(t, local.Config{})
	floor := openFloor(t, newFile(t), wire.Open())
	err := weir.Send(t.Context(), floor, weir.NewCommand[ticket]("bar.mix"), ticket{})
	if err == nil || !strings.Contains(err.Error(), "Config.Routes") {
		t.Errorf("Send to a boundary that nobody knows = %v, want an error that names Config.Routes", err)
	}
	if _, err = weir.Start(t.Context(), floor, weir.NewWorkflow[ticket, plate]("kitchen.dinner"), "1", ticket{}); err == nil || !strings.Contains(err.Error(), "send one, whose handler does it there") {
		t.Errorf("Start in another boundary = %v, want an error that says to send a command", err)
	}
	err = weir.Tell(t.Context(), floor, weir.NewSignal[ticket]("kitchen.hurry"), "1", ticket{})
	if err == nil || !strings.Contains(err.Error(), "where only commands go") {
		t.Errorf("Tell in another boundary = %v, want an error that says to send a command", err)
	}
	if err := weir.Publish(t.Context(), floor, ready, plate{}); err == nil || !strings.Contains(err.Error(), "only boundary") {
		t.Errorf("Publish of another boundary's event = %v, want an error", err)
	}
}

func TestBoundaryRequest(t *testing.T) {
	wire := newWire(t, local.Config{})
	floor, kitchen := openFloor(t, newFile(t), wire.Open()), openKitchen(t, newFile(t), wire.Open())
	weir.Answer(kitchen, cook, func(_ context.Context, m *weir.Message[ticket]) (plate, error) { return plate(m.Body), nil })
	replies := make(chan *weir.Message[plate], 10)
	weir.Subscribe(floor, cook.Reply(), "staff.serve", into(replies))
	run(t, kitchen)
	run(t, floor)
	send(t, floor, cook, ticket{"7", 1})
	m := receive(t, replies)
	if want := (plate{"7", 1}); m.Body != want || m.Name != cook.Reply().Name() || m.Key != "7" {
		t.Errorf("the reply is %+v of %s with key %q, want %+v of %s with key 7", m.Body, m.Name, m.Key, want, cook.Reply().Name())
	}
	story, err := floor.Message(t.Context(), m.Cause)
	if err != nil || story.Topic != cook.Name() {
		t.Errorf("Message(%s), the reply's cause = %s, %v, want the request", m.Cause, story.Topic, err)
	}
	if m.Correlation != m.Cause {
		t.Errorf("the reply's correlation is %s, want the request's ID %s", m.Correlation, m.Cause)
	}
}

func TestBoundaryAsk(t *testing.T) {
	wire := newWire(t, local.Config{})
	floor, kitchen := openFloor(t, newFile(t), wire.Open()), openKitchen(t, newFile(t), wire.Open())
	weir.Answer(kitchen, cook, func(_ context.Context, m *weir.Message[ticket]) (plate, error) { return plate(m.Body), nil })
	dinner := weir.NewWorkflow[ticket, plate]("floor.dinner")
	weir.Register(floor, dinner, func(r *weir.Run, in ticket) (plate, error) { return weir.Ask(r, "ask-kitchen", cook, in) })
	run(t, kitchen)
	run(t, floor)
	ref, err := weir.Start(t.Context(), floor, dinner, "7", ticket{"7", 1})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ref.Result(t.Context()); err != nil || got != (plate{"7", 1}) {
		t.Errorf("Result = %+v, %v, want the kitchen's plate", got, err)
	}
}

func TestBoundaryEvent(t *testing.T) {
	wire := newWire(t, local.Config{})
	floor, kitchen := openFloor(t, newFile(t), wire.Open()), openKitchen(t, newFile(t), wire.Open())
	heard := make(chan *weir.Message[plate], 100)
	weir.Subscribe(floor, ready, "staff.bring-food", into(heard), weir.FromEarliest)
	weir.Subscribe(floor, ready, "floor.count-plates", into(heard), weir.FromEarliest)
	publish(t, kitchen, "7", 1) // before anybody has subscribed
	run(t, kitchen)
	run(t, floor)
	first := receive(t, heard)
	publish(t, kitchen, "7", 2)
	got := map[int]int{first.Body.N: 1}
	for range 3 {
		got[receive(t, heard).Body.N]++
	}
	if got[1] != 2 || got[2] != 2 {
		t.Errorf("heard %v, want each of two subscribers to hear each of two events once", got)
	}
}

// What is sent in a caller's own transaction leaves when it commits, also as the first to its boundary ever.
func TestBoundaryInTransaction(t *testing.T) {
	wire, file := newWire(t, local.Config{}), newFile(t)
	db := openTable(t, file, effects)
	floor, kitchen := openFloor(t, file, wire.Open()), openKitchen(t, newFile(t), wire.Open())
	var l ledger
	weir.Handle(kitchen, prepare, l.prepare)
	run(t, kitchen)
	run(t, floor)
	for _, commit := range []bool{false, true} {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		send(t, floor.In(sqlite.Tx(tx)), prepare, ticket{"7", 1})
		if end := map[bool]func() error{true: tx.Commit, false: tx.Rollback}[commit]; end() != nil {
			t.Fatal("the transaction did not end")
		}
	}
	eventually(t, "it is prepared", func() bool { return l.count() > 0 })
	emptied(t, floor, prepare.Name())
	l.wants(t, 1, 1)
	if q := figures(t, floor, prepare.Name()); q.Capacity != 100_000 {
		t.Errorf("the relay's capacity is %d, want the route's 100,000", q.Capacity)
	}
}

func TestBoundaryRefusedIsNoName(t *testing.T) {
	floor := openFloor(t, newFile(t), newWire(t, local.Config{}).Open())
	if err := weir.Send(t.Context(), floor, weir.NewCommand[ticket]("floor.refused"), ticket{}); err == nil || !strings.Contains(err.Error(), "refused messages") {
		t.Errorf("Send(floor.refused) = %v, want an error: it is where refused messages go", err)
	}
}

// An event of another store comes here only for a subscriber: a run that would wait for ever needs a person instead.
func TestBoundaryEventThatNobodyHears(t *testing.T) {
	floor := openFloor(t, newFile(t), newWire(t, local.Config{}).Open())
	wait := weir.NewWorkflow[ticket, plate]("floor.wait")
	weir.Register(floor, wait, func(r *weir.Run, in ticket) (plate, error) { return weir.WaitFor(r, "food", ready.For(in.Table)) })
	run(t, floor)
	if _, err := weir.Start(t.Context(), floor, wait, "7", ticket{"7", 1}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the run needs a person", func() bool {
		runs, err := floor.Runs(t.Context(), weir.RunQuery{State: "needs-person"})
		if err != nil {
			t.Fatal(err)
		}
		return len(runs) == 1 && strings.Contains(runs[0].Reason, "Subscribe to it in this program")
	})
}
