package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/restaurant"
)

// demoSplit are the flags of a demo whose boundaries may have processes of their own.
type demoSplit struct {
	Processes  bool `help:"Each boundary has a process and a database, and they meet over a broker, which is one more process."`
	KillBroker int  `placeholder:"N" help:"With --processes: kill a broker (SIGKILL) that often, and start it again."`
	WipeBroker bool `help:"With --processes: once, kill all brokers, remove all that they have, and start them again."`
	Cluster    bool `help:"With --processes: three brokers, a cluster."`
}

// What is made for the boundaries of a restaurant that has one database each.
const (
	staffFile     = "wait-staff.db"
	staffSchema   = "weir_demo_wait_staff"
	kitchenFile   = "kitchen.db"
	kitchenSchema = "weir_demo_kitchen"
)

func (f demoSplit) check() error {
	if !f.Processes && (f.KillBroker != 0 || f.WipeBroker || f.Cluster) {
		return errors.New("--kill-broker, --wipe-broker and --cluster go with --processes: without them there is no broker")
	}
	if f.KillBroker < 0 {
		return fmt.Errorf("--kill-broker is %d, want 0 or more", f.KillBroker)
	}
	return nil
}

// kills are those of brokers.
func (f demoSplit) kills() int {
	if f.WipeBroker {
		return f.KillBroker + 1
	}
	return f.KillBroker
}

// brokers is how many there are.
func (f demoSplit) brokers() int {
	switch {
	case f.Cluster:
		return clusterSize
	case f.Processes:
		return 1
	}
	return 0
}

// demoPart is what one process of the restaurant works: both boundaries, or one.
type demoPart struct {
	boundary string // empty: both
	place    *demoPlace
}

// places makes the parts' places, and gives up what it has made when they are released.
func (c *demoRestaurantCmd) places(a *app, dir string) (_ []demoPart, release func() error, err error) {
	if !c.Processes {
		p, err := c.place(a, dir, demoFile, demoSchema, c.Workers)
		if err != nil {
			return nil, nil, err
		}
		return []demoPart{{"", p}}, p.release, nil
	}
	staff, err := c.place(a, dir, staffFile, staffSchema, 2*c.Workers)
	if err != nil {
		return nil, nil, err
	}
	kitchen, err := c.neighbour(a, staff, dir)
	if err != nil {
		return nil, nil, errors.Join(err, staff.release())
	}
	return []demoPart{{restaurant.WaitStaffName, staff}, {restaurant.KitchenName, kitchen}}, staff.release, nil
}

// neighbour is the kitchen's place: another file, another database on our own server, or another schema on one that is given.
func (c *demoRestaurantCmd) neighbour(a *app, staff *demoPlace, dir string) (*demoPlace, error) {
	p := &demoPlace{store: filepath.Join(dir, kitchenFile), schema: kitchenSchema, server: staff.server}
	p.name = p.store
	switch {
	case staff.kind() == demoSQLite:
		return p, nil
	case staff.server == nil:
		p.store = a.store
		if a.given("schema") {
			p.schema = a.schema + "_kitchen"
		}
	default:
		if err := createDatabase(a.ctx, staff.server.URL("postgres"), restaurant.KitchenName); err != nil {
			return nil, err
		}
		p.store = staff.server.URL(restaurant.KitchenName)
	}
	return p, p.settle(a.ctx, 2*c.Workers)
}

func createDatabase(ctx context.Context, url, name string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `create database `+pgx.Identifier{name}.Sanitize())
	return errors.Join(err, conn.Close(ctx))
}

// openSides opens the boundaries' databases, and their journals to read.
func (d *demo) openSides(ctx context.Context) error {
	for _, part := range d.parts {
		db, err := part.place.open()
		if err != nil {
			return err
		}
		d.closers = append(d.closers, db.Close)
		eng, err := weir.Open(ctx, db.Journal, weir.Config{})
		if err != nil {
			return err
		}
		d.closers = append(d.closers, eng.Close)
		d.sides = append(d.sides, restaurant.Side{Database: db, Engine: eng})
	}
	return nil
}

// close closes what was opened, the last first.
func (d *demo) close() error {
	var errs []error
	for i := len(d.closers) - 1; i >= 0; i-- {
		errs = append(errs, d.closers[i]())
	}
	d.closers = nil
	return errors.Join(errs...)
}

// staff and kitchen are the boundaries' sides; they may be the same.
func (d *demo) staff() restaurant.Side   { return d.sides[0] }
func (d *demo) kitchen() restaurant.Side { return d.sides[len(d.sides)-1] }

func (d *demo) tables() restaurant.Tables {
	return restaurant.Tables{WaitStaff: d.staff().Database, Kitchen: d.kitchen().Database}
}
