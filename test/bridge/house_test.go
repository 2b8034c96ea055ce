package bridge

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/internal/brokertest"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport/jetstream"
)

// order is what a table wants next; plate is what comes of it.
type order struct {
	Table string
	N     int
}

func (o order) key() string { return o.Table }

var (
	prepare = weir.NewCommand[order]("kitchen.prepare-food", weir.KeyedBy(order.key))
	ready   = weir.NewEvent[order]("kitchen.food-ready", weir.KeyedBy(order.key))
)

// deeds is a log of what a side has done: done twice, it would be there twice.
const deeds = `create table if not exists deeds (no integer primary key, at_table text not null, n integer not null)`

// open opens a boundary's engine, and its database.
func (o outfit) open(ctx context.Context, c weir.Config) (*weir.Engine, *sql.DB, func() error, error) {
	wire, err := jetstream.Open(jetstream.Config{Servers: o.Servers, Name: c.Owns[0], Replicas: len(o.Servers), Timeout: 2 * time.Second, Log: c.Log})
	if err != nil {
		return nil, nil, nil, err
	}
	c.Transport = wire
	eng, err := weir.Open(ctx, sqlite.File(o.File), c)
	if err != nil {
		return nil, nil, nil, errors.Join(err, wire.Close())
	}
	db, err := sqlite.OpenDB(o.File)
	if err == nil {
		_, err = db.ExecContext(ctx, deeds)
	}
	closeAll := func() error { return errors.Join(eng.Close(), wire.Close(), db.Close()) }
	if err != nil {
		return nil, nil, nil, errors.Join(err, closeAll())
	}
	return eng, db, closeAll, nil
}

// deed writes what is done, when m is acknowledged.
func deed(m *weir.Message[order]) {
	m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
		_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into deeds (at_table, n) values (?, ?)`, m.Body.Table, m.Body.N)
		return err
	})
}

// cook is the kitchen's life.
func (o outfit) cook(ctx context.Context) error {
	eng, _, closeAll, err := o.open(ctx, weir.Config{
		Owns: []string{"kitchen"}, Routes: map[string]weir.Route{"floor": {}}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	weir.Handle(eng, prepare, func(ctx context.Context, m *weir.Message[order]) error {
		deed(m)
		return weir.Publish(ctx, m, ready, m.Body)
	})
	fmt.Println("ready")
	return errors.Join(eng.Run(ctx), closeAll())
}

// house is a floor in this process, and a kitchen in a child.
type house struct {
	t       testing.TB
	eng     *weir.Engine
	floor   *sql.DB
	kitchen *child
	cooked  *sql.DB // the kitchen's, to look at

	mu       sync.Mutex
	accepted map[string]int // orders, by table
	refused  int
	told     int // how many may wait, as the newest refusal said
}

const (
	tables   = 8
	capacity = 1_000 // orders that may wait for the kitchen
)

func newHouse(t testing.TB, brokers ...*brokertest.Child) *house {
	t.Helper()
	dir, servers := t.TempDir(), brokertest.URLs(brokers)
	h := &house{t: t, accepted: map[string]int{}}
	eng, db, closeAll, err := outfit{File: filepath.Join(dir, "floor.db"), Servers: servers}.open(t.Context(), weir.Config{
		Owns: []string{"floor"}, Routes: map[string]weir.Route{"kitchen": {Capacity: capacity}}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.eng, h.floor = eng, db
	weir.Subscribe(eng, ready, "floor.serve", func(_ context.Context, m *weir.Message[order]) error {
		deed(m)
		return nil
	}, weir.FromEarliest)
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- eng.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-over, closeAll()); err != nil {
			t.Errorf("the floor ends with %v, want nil", err)
		}
	})
	file := filepath.Join(dir, "kitchen.db")
	h.kitchen = newChild(t, outfit{File: file, Servers: servers})
	if h.cooked, err = sqlite.OpenDB(file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.cooked.Close() })
	return h
}

// takeOrders sends orders from all tables, each as fast as every, until stop is called.
func (h *house) takeOrders(every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	var all sync.WaitGroup
	for i := range tables {
		all.Go(func() { h.sit(ctx, fmt.Sprint("table ", i), every) })
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// sit is one table: it orders one after the other, and again what was refused.
func (h *house) sit(ctx context.Context, table string, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 1; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := weir.Send(context.WithoutCancel(ctx), h.eng, prepare, order{table, n})
		full, isFull := errors.AsType[*weir.FullError](err)
		h.mu.Lock()
		switch {
		case err == nil:
			h.accepted[table] = n
			n++
		case isFull:
			h.refused++
			h.told = int(full.Capacity)
		default:
			h.t.Errorf("Send() = %v, want nil or a FullError", err)
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
	}
}

func (h *house) taken() (orders, refused int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.accepted {
		orders += n
	}
	return orders, h.refused
}

// bound is how many orders may wait, as those who were refused were told.
func (h *house) bound() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told
}

func (h *house) count(db *sql.DB) (n int) {
	if err := db.QueryRowContext(h.t.Context(), `select count(*) from deeds`).Scan(&n); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// waits is how many orders wait for the kitchen on the floor.
func (h *house) waits() int {
	queues, err := h.eng.Queues(h.t.Context(), 0)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, q := range queues {
		if q.Name == prepare.Name() {
			return int(q.Depth)
		}
	}
	return 0
}

// await waits until something holds.
func (h *house) await(what string, holds func() bool) {
	h.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			taken, refused := h.taken()
			h.t.Fatalf("after %v still not: %s; taken %d, refused %d, waiting %d, cooked %d, served %d; the kitchen said:\n%s", patience, what,
				taken, refused, h.waits(), h.count(h.cooked), h.count(h.floor), h.kitchen.words())
		}
	}
}

// moves waits until so many more are cooked and served.
func (h *house) moves(by int) {
	h.t.Helper()
	cooked, served := h.count(h.cooked)+by, h.count(h.floor)+by
	h.await(fmt.Sprintf("%d more are cooked and served", by), func() bool { return h.count(h.cooked) >= cooked && h.count(h.floor) >= served })
}

// audit waits until all is done that was taken, and checks that each was done once on both sides, in each table's order.
func (h *house) audit() {
	h.t.Helper()
	taken, refused := h.taken()
	h.await("all that was taken is cooked and served", func() bool { return h.count(h.cooked) >= taken && h.count(h.floor) >= taken && h.waits() == 0 })
	for side, db := range map[string]*sql.DB{"cooked": h.cooked, "served": h.floor} {
		done, lost, twice, disorder := map[string]int{}, 0, 0, 0
		rows, err := db.QueryContext(h.t.Context(), `select at_table, n from deeds order by no`)
		if err != nil {
			h.t.Fatal(err)
		}
		for rows.Next() {
			var o order
			if err := rows.Scan(&o.Table, &o.N); err != nil {
				h.t.Fatal(err)
			}
			switch next := done[o.Table] + 1; {
			case o.N == next:
				done[o.Table] = next
			case o.N < next:
				twice++
			default:
				disorder++
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			h.t.Fatal(err)
		}
		for table, n := range h.accepted {
			lost += n - done[table]
		}
		if lost != 0 || twice != 0 || disorder != 0 || !maps.Equal(done, h.accepted) {
			h.t.Errorf("%s: %d lost, %d twice or late, %d before their turn, want 0; of %d", side, lost, twice, disorder, taken)
		}
	}
	if !h.t.Failed() {
		h.t.Logf("%d orders taken, %d refused; each cooked and served once, in its table's order", taken, refused)
	}
}
