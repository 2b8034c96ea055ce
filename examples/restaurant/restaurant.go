package restaurant

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
)

// Config is what a restaurant is made of.
type Config struct {
	File string // the store, with the boundaries' tables; made if there is none
	Menu Menu
	Seed uint64 // of the stove's luck
	Log  *slog.Logger
}

// Restaurant is both boundaries in one process, on one store.
type Restaurant struct {
	Staff   *WaitStaff
	Kitchen *Kitchen

	eng *weir.Engine
	db  *sql.DB
}

// Open opens the store, makes the tables if they are not there, and puts the
// boundaries to it. Close it when done.
func Open(ctx context.Context, c Config) (*Restaurant, error) {
	eng, err := weir.Open(ctx, sqlite.File(c.File), weir.Config{Owns: []string{"wait-staff", "kitchen"}, Log: c.Log})
	if err != nil {
		return nil, err
	}
	db, err := sqlite.OpenDB(c.File)
	if err != nil {
		return nil, errors.Join(err, eng.Close())
	}
	r := &Restaurant{
		Staff:   &WaitStaff{eng: eng, db: db, menu: c.Menu},
		Kitchen: &Kitchen{menu: c.Menu, seed: c.Seed},
		eng:     eng, db: db,
	}
	for _, schema := range []string{sqlWaitStaff, sqlKitchen} {
		if _, err := db.ExecContext(ctx, schema); err != nil {
			return nil, errors.Join(fmt.Errorf("make the tables in %s: %w", c.File, err), r.Close())
		}
	}
	r.Staff.register()
	r.Kitchen.register(eng)
	return r, nil
}

// Close ends all use of the restaurant.
func (r *Restaurant) Close() error { return errors.Join(r.eng.Close(), r.db.Close()) }

// All is the number of orders for a day that ends with the book.
const All = math.MaxInt

// Work runs the engine and takes the orders of the book that are not taken yet,
// most of them at the most. It returns nil when the whole book is settled, or else
// when ctx is done, with its error.
func (r *Restaurant) Work(ctx context.Context, b Book, most int) error {
	day, end := context.WithCancel(ctx)
	defer end()
	run := make(chan error, 1)
	go func() {
		defer end() // without a kitchen no orders are taken
		run <- r.eng.Run(day)
	}()
	err := until(day, r.kitchenKnown)
	if err == nil {
		err = r.Staff.TakeAll(day, b, most)
	}
	if err == nil {
		err = until(day, func(ctx context.Context) (bool, error) { return r.settled(ctx, b) })
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

// lookEvery is how often until looks.
const lookEvery = 20 * time.Millisecond

// until waits for what there is no signal of.
func until(ctx context.Context, holds func(context.Context) (bool, error)) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if ok, err := holds(ctx); ok || err != nil {
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
