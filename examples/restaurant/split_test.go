package restaurant_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/examples/restaurant"
	"github.com/weir-go/weir/transport/local"
)

// Wait staff and kitchen with a database each: the same code, and the same outcome.
func TestInTwoDatabases(t *testing.T) {
	book, menu := generated(t, 4, 100)
	wire, err := local.New(local.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	dir := t.TempDir()
	files, sides, ended := map[string]string{}, map[string]restaurant.Side{}, make(chan error, 2)
	for _, name := range []string{restaurant.WaitStaffName, restaurant.KitchenName} {
		files[name] = filepath.Join(dir, name+".db")
		db, err := database.File(files[name])
		if err != nil {
			t.Fatal(err)
		}
		end := wire.Open()
		r, err := restaurant.Open(ctx, restaurant.Config{
			Database: db, Owns: []string{name}, Transport: end, Menu: menu, Seed: 1, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := errors.Join(r.Close(), end.Close(), db.Close()); err != nil {
				t.Errorf("Close = %v, want nil", err)
			}
		})
		sides[name] = restaurant.Side{Database: db, Engine: openEngine(t, files[name])}
		go func() { ended <- r.Work(ctx, book, upTo(len(book.Orders))) }()
	}
	staff, kitchen := sides[restaurant.WaitStaffName], sides[restaurant.KitchenName]
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for settled := false; !settled; <-tick.C {
		if settled, err = restaurant.Settled(ctx, staff, kitchen, book); err != nil {
			t.Fatalf("Settled = %v, want nil", err)
		}
	}
	stop()
	for range sides {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Work, stopped = %v, want context.Canceled", err)
		}
	}
	got, err := restaurant.CountAll(t.Context(), restaurant.Tables{WaitStaff: staff.Database, Kitchen: kitchen.Database})
	if want := outcome(book, menu); err != nil || got != want {
		t.Errorf("CountAll = %+v, %v,\nwant %+v", got, err, want)
	}
	checkDead(t, kitchen.Engine, book, menu)
}
