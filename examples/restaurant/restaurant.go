package restaurant

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/database"
)

// Config is what a restaurant is made of.
type Config struct {
	Database *database.Database // of the journal and the boundaries' tables
	Menu     Menu
	Seed     uint64 // of the stove's luck
	Log      *slog.Logger

	// Takes says which orders this process takes, when several work the same book: each
	// must be taken by one. Default: all.
	Takes func(order int64) bool
}

// Restaurant is both boundaries in one process, on one store. Others may work beside it.
type Restaurant struct {
	Staff   *WaitStaff
	Kitchen *Kitchen

	eng   *weir.Engine
	db    *database.Database
	takes func(order int64) bool
}

// Open opens the store, makes the tables if they are not there, and puts the
// boundaries to it. Close it when done; the database is the caller's to close.
func Open(ctx context.Context, c Config) (*Restaurant, error) {
	db := c.Database
	eng, err := weir.Open(ctx, db.Journal, weir.Config{Owns: []string{"wait-staff", "kitchen"}, Log: c.Log})
	if err != nil {
		return nil, err
	}
	if err := db.MakeTables(ctx, "wait_staff_orders", sqlWaitStaff+sqlKitchen); err != nil {
		return nil, errors.Join(fmt.Errorf("make the restaurant's tables: %w", err), eng.Close())
	}
	r := &Restaurant{
		Staff:   &WaitStaff{eng: eng, db: db, menu: c.Menu},
		Kitchen: &Kitchen{db: db, menu: c.Menu, seed: c.Seed},
		eng:     eng, db: db, takes: c.Takes,
	}
	if r.takes == nil {
		r.takes = func(int64) bool { return true }
	}
	r.Staff.register()
	r.Kitchen.register(eng)
	return r, nil
}

// Close ends all use of the restaurant.
func (r *Restaurant) Close() error { return r.eng.Close() }

// Work runs the engine, and takes the orders of a book that are not taken yet, as many of its
// first as the last number from upTo says. It returns nil when the whole book is settled, or
// else when ctx is done, with its error.
func (r *Restaurant) Work(ctx context.Context, b Book, upTo <-chan int) error {
	day, end := context.WithCancel(ctx)
	defer end()
	run := make(chan error, 1)
	go func() {
		defer end() // without a kitchen no orders are taken
		run <- r.eng.Run(day)
	}()
	err := r.until(day, r.kitchenKnown)
	if err == nil {
		err = r.takeAll(day, b, upTo)
	}
	if err == nil {
		err = r.until(day, func(ctx context.Context) (bool, error) { return r.settled(ctx, b) })
	}
	end()
	if failure := <-run; failure != nil {
		return failure
	}
	if ctx.Err() != nil {
		return ctx.Err() // whatever it interrupted
	}
	return err
}

// takeAll takes orders as it is told to, until there are no more in the book.
func (r *Restaurant) takeAll(ctx context.Context, b Book, upTo <-chan int) error {
	for told := 0; told < len(b.Orders); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case n := <-upTo:
			n = min(n, len(b.Orders))
			if n <= told {
				continue
			}
			var ours []Order
			for _, o := range b.Orders[told:n] {
				if r.takes(o.ID) {
					ours = append(ours, o)
				}
			}
			if err := r.Staff.TakeAll(ctx, ours); err != nil {
				return err
			}
			told = n
		}
	}
	return nil
}

// lookEvery is how often until looks.
const lookEvery = 20 * time.Millisecond

// until waits for what there is no signal of.
func (r *Restaurant) until(ctx context.Context, holds func(context.Context) (bool, error)) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		var ok bool
		err := r.db.Patient(ctx, func(ctx context.Context) (err error) {
			ok, err = holds(ctx)
			return err
		})
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// kitchenKnown says whether the kitchen has ever been open on this store. Before,
// nobody has said how many tickets it takes, and a whole book would be sent to it.
func (r *Restaurant) kitchenKnown(ctx context.Context) (bool, error) {
	queues, err := r.eng.Queues(ctx, 0)
	return slices.ContainsFunc(queues, func(q weir.QueueFigures) bool { return q.Capacity == capacity }), err
}

// settled says whether all orders are taken, no guest waits, and no message either:
// the kitchen has refused what it cannot cook.
func (r *Restaurant) settled(ctx context.Context, b Book) (bool, error) {
	p, err := Look(ctx, r.db)
	if err != nil || p.Orders < len(b.Orders) || p.Open > 0 {
		return false, err
	}
	queues, err := r.eng.Queues(ctx, 0)
	for _, q := range queues {
		if q.Depth > 0 {
			return false, err
		}
	}
	return err == nil, err
}
