package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/examples/fulfilment"
	"github.com/weir-go/weir/examples/fulfilment/outside"
	"github.com/weir-go/weir/examples/restaurant"
	"github.com/weir-go/weir/internal/address"
)

// fulfilmentWorkCmd is a process that runs the engine and takes the orders of its share: of as
// many of the book's first as the last line of its standard input says. It stops when that ends.
// It knows nothing of kills: started again, it takes all orders again. Its store is in the
// environment.
type fulfilmentWorkCmd struct {
	Dir       string
	Orders    string
	Menu      string
	Warehouse string // the systems' addresses, host:port
	Payments  string
	Billing   string
	Mail      string
	Worker    int
	Workers   int
}

// arguments are the command line of this process, as one of the workers.
func (c *fulfilmentWorkCmd) arguments(worker int) []string {
	return []string{"demo", "fulfilment-work", "--dir", c.Dir, "--orders", c.Orders, "--menu=" + c.Menu,
		"--warehouse", c.Warehouse, "--payments", c.Payments, "--billing", c.Billing, "--mail", c.Mail,
		"--worker", strconv.Itoa(worker), "--workers", strconv.Itoa(c.Workers)}
}

// book reads the order book for the fulfilment.
func (c *fulfilmentWorkCmd) book() ([]fulfilment.Want, error) {
	book, err := restaurant.OpenBook(c.Orders)
	if err != nil {
		return nil, err
	}
	wants := make([]fulfilment.Want, len(book.Orders))
	for i, o := range book.Orders {
		wants[i].ID = o.ID
		for _, line := range o.Lines {
			wants[i].Lines = append(wants[i].Lines, fulfilment.WantLine{Row: line.Row, Item: line.Item})
		}
	}
	return wants, nil
}

// open opens the shop.
func (c *fulfilmentWorkCmd) open(ctx context.Context, db *database.Database, log *slog.Logger) (*fulfilment.Shop, error) {
	config := fulfilment.Config{
		Database: db, Menu: fulfilment.AnyItem, Log: log, Takes: share(c.Worker, c.Workers),
		Addresses: fulfilment.Addresses{
			Warehouse: "http://" + c.Warehouse, Payments: "http://" + c.Payments, Billing: "http://" + c.Billing, Mail: "http://" + c.Mail,
		},
	}
	if c.Menu != "" {
		menu, err := restaurant.OpenMenu(c.Menu)
		if err != nil {
			return nil, err
		}
		config.Menu = menu.Dish
	}
	return fulfilment.Open(ctx, config)
}

// Run works until the book is settled or the standard input ends.
func (c *fulfilmentWorkCmd) Run(a *app) (err error) {
	book, err := c.book()
	if err != nil {
		return err
	}
	log, closeLog, err := demoLog(c.Dir, "orders")
	if err != nil {
		return err
	}
	defer closeLog()
	db, err := openDemo(a.store, a.schema)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	shop, err := c.open(a.ctx, db, log.With("worker", c.Worker))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(a.ctx)
	defer stop()
	err = shop.Work(ctx, book, told(ctx, a.in, stop))
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil // as it was told
	}
	return errors.Join(err, shop.Close())
}

// demoLog opens a process's log beside the store: what is in it is no news to whoever watches.
func demoLog(dir, name string) (log *slog.Logger, end func(), err error) {
	to, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return slog.New(slog.NewTextHandler(to, nil)), func() { _ = to.Close() }, nil
}

// demoOutsideCmd is the process of an outside system. Its first line of output is where it
// listens. It stops when its standard input ends.
type demoOutsideCmd struct {
	System  string
	Dir     string
	Listen  string
	Seed    uint64
	Fail    float64
	Silent  float64
	Slow    float64
	Restock time.Duration
}

// arguments are the command line of this process.
func (c *demoOutsideCmd) arguments() []string {
	share := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	return []string{"demo", "outside", "--system", c.System, "--dir", c.Dir, "--listen", c.Listen,
		"--seed", strconv.FormatUint(c.Seed, 10), "--fail", share(c.Fail), "--silent", share(c.Silent), "--slow", share(c.Slow), "--restock", c.Restock.String()}
}

// Run serves until the standard input ends.
func (c *demoOutsideCmd) Run(a *app) error {
	log, closeLog, err := demoLog(c.Dir, c.System)
	if err != nil {
		return err
	}
	defer closeLog()
	system, err := outside.Open(a.ctx, outside.Name(c.System), outside.Config{
		File: filepath.Join(c.Dir, c.System+".db"), Seed: c.Seed, Declined: demoDeclined, Restock: c.Restock, Log: log,
		Trouble: outside.Trouble{Fail: c.Fail, Silent: c.Silent, Slow: c.Slow},
	})
	if err != nil {
		return err
	}
	l, err := listenAgain(a.ctx, c.Listen)
	if err != nil {
		return errors.Join(err, system.Close())
	}
	fmt.Fprintln(a.out, l.Addr())
	ctx, stop := context.WithCancel(a.ctx)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, a.in)
		stop()
	}()
	return errors.Join(system.Run(ctx, l), system.Close())
}

const (
	listenMax   = 30 * time.Second
	listenPause = 20 * time.Millisecond
)

// listenAgain listens where a process before may have listened that was just killed; on port 0, where it can be done again.
func listenAgain(ctx context.Context, at string) (net.Listener, error) {
	if host, anywhere := strings.CutSuffix(at, ":0"); anywhere {
		return address.Listen(host)
	}
	for deadline := time.Now().Add(listenMax); ; {
		l, err := net.Listen("tcp", at)
		if err == nil || time.Now().After(deadline) {
			return l, err
		}
		if err := pause(ctx, listenPause); err != nil {
			return nil, err
		}
	}
}
