package many

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/postgres"
	"github.com/weir-go/weir/store/storetest"
	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/local"
)

var order = weir.NewCommand[task]("kitchen.order", weir.KeyedBy(func(t task) string { return t.Key }))

var errKilled = errors.New("the process was killed")

// colleague is one of several processes of a boundary. Killed, it writes nothing any more, and says nothing.
type colleague struct {
	*weir.Engine
	wire transport.Transport
	dead atomic.Bool
	done chan error
}

// hire opens and runs a process; handle registers what it handles.
func hire(t *testing.T, open []string, wire *local.Wire, c weir.Config, handle func(e *weir.Engine)) *colleague {
	t.Helper()
	p := &colleague{wire: wire.Open(), done: make(chan error, 1)}
	strike := func(storetest.Call) error {
		if p.dead.Load() {
			return errKilled
		}
		return nil
	}
	faults := &storetest.Faults{Before: strike, After: strike}
	c.Transport, c.StopTimeout = p.wire, time.Second
	c.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError + 1}))
	e, err := weir.Open(context.Background(), faults.Opener(postgres.DB(open[0], postgres.Schema(open[1]), postgres.Lease(lease))), c)
	if err != nil {
		t.Fatal(err)
	}
	p.Engine = e
	if handle != nil {
		handle(e)
	}
	go func() { p.done <- e.Run(context.Background()) }()
	return p
}

func (p *colleague) kill(t *testing.T) {
	t.Helper()
	p.dead.Store(true)
	if err := <-p.done; !errors.Is(err, errKilled) {
		t.Errorf("Run of a killed process = %v, want %v", err, errKilled)
	}
	_ = p.Close()      // it has nothing to say any more
	_ = p.wire.Close() // never fails
}

func (p *colleague) stop(t *testing.T) {
	t.Helper()
	if err := errors.Join(p.Close(), <-p.done, p.wire.Close()); err != nil {
		t.Errorf("a process ended with %v, want nil", err)
	}
}

// Two processes share the sender's store and two the receiver's. One of each works what is between the boundaries, and
// when it dies the other goes on: each order takes effect once, in the order of its key.
func TestColleaguesTakeOverWhatIsBetweenBoundaries(t *testing.T) {
	t.Parallel()
	dsn := dsnOf(t)
	_, floor := poolOf(t, dsn)
	db, kitchen := poolOf(t, dsn)
	if _, err := db.Exec(t.Context(), "create table "+kitchen+".cooked (key text not null, name text not null, n bigserial)"); err != nil {
		t.Fatal(err)
	}
	wire, err := local.New(local.Config{})
	if err != nil {
		t.Fatal(err)
	}
	cooks := func(e *weir.Engine) {
		weir.Handle(e, order, func(_ context.Context, m *weir.Message[task]) error {
			m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
				_, err := postgres.Pgx(tx).Exec(ctx, "insert into "+kitchen+".cooked (key, name) values ($1, $2)", m.Body.Key, m.Body.Name)
				return err
			})
			return nil
		}, weir.Queue{Retry: weir.Retry{Max: 1_000, Base: time.Millisecond, Cap: time.Second}})
	}
	waiter := func() *colleague {
		return hire(t, []string{dsn, floor}, wire, weir.Config{Owns: []string{"floor"}, Routes: map[string]weir.Route{"kitchen": {}}}, nil)
	}
	cook := func() *colleague {
		return hire(t, []string{dsn, kitchen}, wire, weir.Config{Owns: []string{"kitchen"}}, cooks)
	}
	waiters, staff := []*colleague{waiter(), waiter()}, []*colleague{cook(), cook()}
	const keys, each = 5, 120
	for n := range each {
		for key := range keys {
			ordered := task{fmt.Sprint(n), fmt.Sprint("table-", key)}
			insist(t, t.Context(), func() error { // a connection may end whose transaction takes too long
				return weir.Send(t.Context(), waiters[0], order, ordered, weir.Dedup(ordered.Key+"/"+ordered.Name))
			})
		}
		switch n { // whoever began first has the duties
		case each / 4:
			staff[0].kill(t)
			staff = []*colleague{staff[1], cook()}
		case each / 2:
			waiters[0].kill(t)
			waiters = []*colleague{waiters[1], waiter()}
		case 3 * each / 4:
			staff[0].kill(t)
			staff = []*colleague{staff[1], cook()}
			waiters[0].kill(t)
			waiters = []*colleague{waiters[1], waiter()}
		}
	}
	cooked(t, db, kitchen, keys*each)
	for key := range keys {
		rows, err := db.Query(t.Context(), "select name from "+kitchen+".cooked where key = $1 order by n", fmt.Sprint("table-", key))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; rows.Next(); n++ {
			var name string
			if err := rows.Scan(&name); err != nil || name != fmt.Sprint(n) {
				t.Errorf("table-%d: number %d is %s, %v, want %d", key, n, name, err, n)
				break
			}
		}
		rows.Close()
		if n != each {
			t.Errorf("table-%d got %d, want %d", key, n, each)
		}
	}
	for _, p := range append(waiters, staff...) {
		p.stop(t)
	}
}

// cooked waits until so many are.
func cooked(t *testing.T, db *pgxpool.Pool, schema string, want int) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for got := 0; got < want; {
		if err := db.QueryRow(t.Context(), "select count(*) from "+schema+".cooked").Scan(&got); err != nil {
			t.Fatal(err)
		}
		select {
		case <-deadline:
			t.Fatalf("%d were cooked within %v, want %d", got, patience, want)
		case <-tick.C:
		}
	}
}
