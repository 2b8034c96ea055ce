package many

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport/local"
)

// product is what a shop owns and each of its processes reads.
type product struct{ Price int }

var products = weir.NewEntity[product]("shop.product")

// shop is one process of the shop.
type shop struct {
	*weir.Engine
	own     *weir.Owned[product]
	replica *weir.Replica[product]
}

func openShop(t *testing.T, dsn, schema string) shop {
	t.Helper()
	e, err := weir.Open(t.Context(), postgres.DB(dsn, postgres.Schema(schema)), weir.Config{Owns: []string{"shop"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := shop{e, weir.Own(e, products), weir.Follow(e, products)}
	runs(t, e)
	return s
}

// prices waits until a process sees a price; 0 is none.
func (s shop) prices(t *testing.T, want map[string]int) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for id, price := range want {
		for got := -1; got != price; {
			e, err := s.replica.Get(id)
			if got = e.Value.Price; err != nil && !errors.Is(err, weir.ErrNotFound) {
				got = -1
			}
			select {
			case <-deadline:
				t.Fatalf("%s = %+v, %v, want price %d; %+v", id, e, err, price, s.replica.Figures())
			case <-tick.C:
			}
		}
	}
}

// All processes of a store read what one of them has changed, also in a transaction of the caller's that
// began before others and committed after them.
func TestEveryProcessReads(t *testing.T) {
	t.Parallel()
	dsn := dsnOf(t)
	db, schema := poolOf(t, dsn)
	one, two := openShop(t, dsn, schema), openShop(t, dsn, schema)
	put := func(s weir.Sender, id string, price int) {
		t.Helper()
		if err := one.own.Put(t.Context(), s, id, product{price}); err != nil {
			t.Fatal(err)
		}
	}
	put(one, "tea", 3)
	two.prices(t, map[string]int{"tea": 3, "coffee": 0})
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put(one.In(postgres.Tx(tx)), "late", 1)
	for n := range 20 {
		put(one, fmt.Sprint("cake-", n), n+1)
	}
	if err := two.own.Delete(t.Context(), two, "tea"); err != nil {
		t.Fatal(err)
	}
	for _, s := range []shop{one, two} {
		s.prices(t, map[string]int{"tea": 0, "cake-19": 20, "late": 0})
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range []shop{one, two} {
		s.prices(t, map[string]int{"late": 1, "cake-0": 1})
		if n := s.replica.Len(); n != 21 {
			t.Errorf("Len = %d, want 21", n)
		}
	}
}

// openBoundary opens a boundary with a store of its own, which knows one other.
func openBoundary(t *testing.T, wire *local.Wire, open store.Opener, owns, other string) *weir.Engine {
	t.Helper()
	end := wire.Open()
	e, err := weir.Open(t.Context(), open, weir.Config{
		Owns: []string{owns}, Routes: map[string]weir.Route{other: {}}, Transport: end, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = end.Close() }) // never fails
	return e
}

// runs runs an engine until the test ends, or stop is called.
func runs(t *testing.T, e *weir.Engine) (stop func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- e.Run(context.Background()) }()
	stop = sync.OnceFunc(func() {
		if err := errors.Join(e.Close(), <-done); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// openTill opens a process of a store that follows the shop's products, in another store.
func openTill(t *testing.T, dsn, schema string, wire *local.Wire) (r *weir.Replica[product], stop func()) {
	t.Helper()
	e := openBoundary(t, wire, postgres.DB(dsn, postgres.Schema(schema)), "till", "shop")
	r = weir.Follow(e, products)
	return r, runs(t, e)
}

// Where several processes work a follower's store each of them has the replica, whichever takes in what comes, and
// each may ask the owner; when one ends the others go on.
func TestEveryProcessFollows(t *testing.T) {
	t.Parallel()
	dsn := dsnOf(t)
	_, schema := poolOf(t, dsn)
	wire, err := local.New(local.Config{})
	if err != nil {
		t.Fatal(err)
	}
	e := openBoundary(t, wire, sqlite.File(filepath.Join(t.TempDir(), "shop.db")), "shop", "till")
	own := weir.Own(e, products)
	runs(t, e)
	put := func(id string, price int) {
		t.Helper()
		if err := own.Put(t.Context(), e, id, product{price}); err != nil {
			t.Fatal(err)
		}
	}
	put("tea", 3)
	one, stop := openTill(t, dsn, schema, wire)
	two, _ := openTill(t, dsn, schema, wire)
	both := func(want map[string]int) {
		t.Helper()
		for _, r := range []*weir.Replica[product]{one, two} {
			shop{replica: r}.prices(t, want)
		}
	}
	both(map[string]int{"tea": 3, "coffee": 0})
	for n := range 10 {
		put("cake", n+1)
		for _, r := range []*weir.Replica[product]{one, two} {
			if e, err := r.Refresh(t.Context(), "cake"); err != nil || e.Value.Price != n+1 {
				t.Fatalf("Refresh = %+v, %v, want price %d", e, err, n+1)
			}
		}
	}
	if err := own.Delete(t.Context(), e, "tea"); err != nil {
		t.Fatal(err)
	}
	both(map[string]int{"tea": 0, "cake": 10})
	stop()
	put("coffee", 4)
	shop{replica: two}.prices(t, map[string]int{"coffee": 4})
	if e, err := two.Refresh(t.Context(), "coffee"); err != nil || e.Value.Price != 4 {
		t.Errorf("Refresh by the one that is left = %+v, %v", e, err)
	}
}

// A change of a transaction that was open when the follower subscribed, or when a snapshot's page was read, comes
// when it is committed, though others with higher versions have come before.
func TestLateChangesAreFollowed(t *testing.T) {
	t.Parallel()
	dsn := dsnOf(t)
	db, schema := poolOf(t, dsn)
	wire, err := local.New(local.Config{})
	if err != nil {
		t.Fatal(err)
	}
	owner := openBoundary(t, wire, postgres.DB(dsn, postgres.Schema(schema)), "shop", "till")
	own := weir.Own(owner, products)
	runs(t, owner)
	put := func(s weir.Sender, id string, price int) {
		t.Helper()
		if err := own.Put(t.Context(), s, id, product{price}); err != nil {
			t.Fatal(err)
		}
	}
	// late begins a change, and gives what commits it.
	late := func(id string, price int) func() {
		tx, err := db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		put(owner.In(postgres.Tx(tx)), id, price)
		return func() {
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(owner, "tea", 1)
	commit := late("late", 2)
	put(owner, "coffee", 3)
	follower := openBoundary(t, wire, sqlite.File(filepath.Join(t.TempDir(), "till.db")), "till", "shop")
	r := weir.Follow(follower, products)
	runs(t, follower)
	shop{replica: r}.prices(t, map[string]int{"tea": 1, "coffee": 3, "late": 0})
	commit()
	shop{replica: r}.prices(t, map[string]int{"late": 2})
	commit = late("later", 4)
	put(owner, "cake", 5)
	if err := r.Resync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.After(patience); r.Figures().Resyncs == 0 || r.Figures().Syncing; {
		select {
		case <-deadline:
			t.Fatalf("no resync: %+v", r.Figures())
		case <-time.After(5 * time.Millisecond):
		}
	}
	commit()
	shop{replica: r}.prices(t, map[string]int{"tea": 1, "coffee": 3, "late": 2, "later": 4, "cake": 5})
	if fig := r.Figures(); fig.Resyncs != 1 || fig.Deleted != 0 {
		t.Errorf("Figures = %+v, want the one resync that was asked for, and nothing removed", fig)
	}
}
