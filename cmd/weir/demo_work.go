package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"strings"

	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/examples/restaurant"
	"github.com/weir-go/weir/transport/jetstream"
)

// demoWorkCmd is a process that runs the engine, of both boundaries or of one, and takes the orders of its share: of as many
// of the book's first as the last line of its standard input says. It stops when that ends, so
// it does not outlive the one who started it. It knows nothing of kills: started again, it
// goes on from its tables. Its store is in the environment.
type demoWorkCmd struct {
	Dir      string // of the log
	Orders   string
	Menu     string
	Seed     uint64
	Worker   int
	Workers  int
	Boundary string   // the only one that lives in its store; empty: both do
	Servers  []string // URLs of the brokers that lead to the other one
	Monitor  string   // URL of the monitoring of a broker that is alone
}

// arguments are the command line of this process, as one of the workers of a boundary.
func (c *demoWorkCmd) arguments(boundary string, worker int) []string {
	args := []string{"demo", "work", "--dir", c.Dir, "--orders", c.Orders, "--menu", c.Menu,
		"--seed", strconv.FormatUint(c.Seed, 10), "--worker", strconv.Itoa(worker), "--workers", strconv.Itoa(c.Workers)}
	if boundary != "" {
		args = append(args, "--boundary", boundary, "--servers", strings.Join(c.Servers, ","), "--monitor="+c.Monitor)
	}
	return args
}

// open opens the restaurant, or its part. What close closes comes after the restaurant.
func (c *demoWorkCmd) open(a *app, db *database.Database, log *slog.Logger) (_ *restaurant.Restaurant, close func() error, err error) {
	menu, err := restaurant.OpenMenu(c.Menu)
	if err != nil {
		return nil, nil, err
	}
	conf := restaurant.Config{Database: db, Menu: menu, Seed: c.Seed, Log: log, Takes: share(c.Worker, c.Workers)}
	close = func() error { return nil }
	if c.Boundary != "" {
		wire, err := jetstream.Open(jetstream.Config{Servers: c.Servers, Name: c.Boundary, Replicas: len(c.Servers), Monitor: c.Monitor, Log: log})
		if err != nil {
			return nil, nil, err
		}
		conf.Owns, conf.Transport, close = []string{c.Boundary}, wire, wire.Close
	}
	r, err := restaurant.Open(a.ctx, conf)
	if err != nil {
		return nil, nil, errors.Join(err, close())
	}
	return r, close, nil
}

// share is which orders one of the workers takes.
func share(worker, workers int) func(order int64) bool {
	return func(order int64) bool { return uint64(order)%uint64(workers) == uint64(worker) }
}

// Run works until the book is settled or the standard input ends.
func (c *demoWorkCmd) Run(a *app) (err error) {
	book, err := restaurant.OpenBook(c.Orders)
	if err != nil {
		return err
	}
	log, closeLog, err := demoLog(c.Dir, cmp.Or(c.Boundary, "restaurant"))
	if err != nil {
		return err
	}
	defer closeLog()
	db, err := openDemo(a.store, a.schema)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	r, closeWire, err := c.open(a, db, log.With("worker", c.Worker))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(a.ctx)
	defer stop()
	err = r.Work(ctx, book, told(ctx, a.in, stop))
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil // as it was told
	}
	return errors.Join(err, r.Close(), closeWire())
}

// told are the numbers that are read, a line each. It calls stop when there are no more.
func told(ctx context.Context, in io.Reader, stop func()) <-chan int {
	numbers := make(chan int)
	go func() {
		defer stop() // whatever ends it, an end it is
		for lines := bufio.NewScanner(in); lines.Scan(); {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				return
			}
			select {
			case numbers <- n:
			case <-ctx.Done():
				return
			}
		}
	}()
	return numbers
}
