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
	"github.com/weir-go/weir/transport"
)

// The boundaries of a restaurant.
const (
	WaitStaffName = "wait-staff"
	KitchenName   = "kitchen"
)

// Config is what a restaurant is made of, or a part of it that has a database of its own.
type Config struct {
	Database *database.Database // of the journal and the boundaries' tables
	Menu     Menu
	Seed     uint64 // of the stove's luck
	Log      *slog.Logger

	// Owns names the boundaries that live in Database. Default: both.
	Owns []string
	// Transport leads to the boundary that lives elsewhere. The caller closes it, after the restaurant.
	// Default: none, where both live in Database.
	Transport transport.Transport

	// Takes says which orders this process takes, when several work the same book: each
	// must be taken by one. Default: all.
	Takes func(order int64) bool
}

// engine is the configuration of the engine. A boundary is moved out by what stands here, and
// by nothing else.
func (c Config) engine() weir.Config {
	conf := weir.Config{Owns: c.Owns, Transport: c.Transport, Log: c.Log, Routes: map[string]weir.Route{}}
	if len(c.Owns) == 0 {
		conf.Owns = []string{WaitStaffName, KitchenName}
	}
	if !slices.Contains(conf.Owns, KitchenName) {
		conf.Routes[KitchenName] = weir.Route{Capacity: capacity}
	}
	if !slices.Contains(conf.Owns, WaitStaffName) {
		conf.Routes[WaitStaffName] = weir.Route{}
	}
	return conf
}

// Restaurant is both boundaries in one process, on one store, or one of them. Others may work beside it.
type Restaurant struct {
	Staff   *WaitStaff // nil: elsewhere
	Kitchen *Kitchen   // nil: elsewhere

	eng   *weir.Engine
	db    *database.Database
	takes func(order int64) bool
}

// Open opens the store, makes the tables if they are not there, and puts the
// boundaries to it. Close it when done; the database is the caller's to close.
func Open(ctx context.Context, c Config) (*Restaurant, error) {
	conf, db := c.engine(), c.Database
	eng, err := weir.Open(ctx, db.Journal, conf)
	if err != nil {
		return nil, err
	}
	r := &Restaurant{eng: eng, db: db, takes: c.Takes}
	if r.takes == nil {
		r.takes = func(int64) bool { return true }
	}
	if slices.Contains(conf.Owns, WaitStaffName) {
		err = db.MakeTables(ctx, "wait_staff_orders", sqlWaitStaff)
		r.Staff = &WaitStaff{eng: eng, db: db, menu: c.Menu}
		r.Staff.register()
	}
	if slices.Contains(conf.Owns, KitchenName) {
		err = errors.Join(err, db.MakeTables(ctx, "kitchen_cooked", sqlKitchen))
		r.Kitchen = &Kitchen{db: db, menu: c.Menu, seed: c.Seed}
		r.Kitchen.register(eng)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the restaurant's tables: %w", err), eng.Close())
	}
	return r, nil
}

// Close ends all use of the restaurant.
func (r *Restaurant) Close() error { return r.eng.Close() }

// Work runs the engine, and the wait staff takes the orders of a book that are not taken yet, as many of
// its first as the last number from upTo says. It returns nil when the whole book is settled, or
// else when ctx is done, with its error. Where one of the boundaries lives elsewhere nobody here knows what is
// settled (see Settled): then it works until ctx is done.
func (r *Restaurant) Work(ctx context.Context, b Book, upTo <-chan int) error {
	day, end := context.WithCancel(ctx)
	defer end()
	run := make(chan error, 1)
	go func() {
		defer end() // without a kitchen no orders are taken
		run <- r.eng.Run(day)
	}()
	var err error
	if r.Staff != nil {
		if r.Kitchen != nil {
			err = r.until(day, r.kitchenKnown)
		}
		if err == nil {
			err = r.takeAll(day, b, upTo)
		}
	}
	switch {
	case err != nil:
	case r.Staff != nil && r.Kitchen != nil:
		here := Side{r.db, r.eng}
		err = r.until(day, func(ctx context.Context) (bool, error) { return Settled(ctx, here, here, b) })
	default:
		err = ignore(day, upTo)
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

// ignore reads the numbers that come when all orders are taken, until ctx is done.
func ignore(ctx context.Context, numbers <-chan int) error {
	for {
		select {
		case <-numbers:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
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

// kitchenKnown says whether the kitchen has ever been open on this store. Before, nobody has said
// how many tickets it takes, and a whole book would be sent to it. (Of a kitchen elsewhere the route says it.)
func (r *Restaurant) kitchenKnown(ctx context.Context) (bool, error) {
	queues, err := r.eng.Queues(ctx, 0)
	return slices.ContainsFunc(queues, func(q weir.QueueFigures) bool { return q.Capacity == capacity }), err
}

// Side is a boundary's database, with an engine that reads its journal.
type Side struct {
	Database *database.Database
	Engine   *weir.Engine
}

// Settled says whether all orders are taken, no guest waits, and no message either: the kitchen
// has refused what it cannot cook. Both sides may be the same.
func Settled(ctx context.Context, staff, kitchen Side, b Book) (bool, error) {
	p, err := Look(ctx, Tables{WaitStaff: staff.Database, Kitchen: kitchen.Database})
	if err != nil || p.Orders < len(b.Orders) || p.Open > 0 {
		return false, err
	}
	// What has left one side is with the other by then; what the kitchen tells comes back.
	for _, side := range []Side{staff, kitchen, staff} {
		queues, err := side.Engine.Queues(ctx, 0)
		if err != nil {
			return false, err
		}
		for _, q := range queues {
			if q.Depth > 0 {
				return false, nil
			}
		}
	}
	return true, nil
}
