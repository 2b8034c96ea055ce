package many

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/postgres"
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
	e, err := weir.Open(t.Context(), postgres.DB(dsn, postgres.Schema(schema)), weir.Config{Owns: []string{"shop"}})
	if err != nil {
		t.Fatal(err)
	}
	s := shop{e, weir.Own(e, products), weir.Follow(e, products)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, e.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// prices waits until a process sees a price; 0 is none.
func (s shop) prices(t *testing.T, want map[string]int) {
	t.Helper()
	deadline := time.After(time.Minute)
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
