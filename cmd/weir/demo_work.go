package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"github.com/weir-go/weir/examples/restaurant"
)

// demoWorkCmd is the process that runs the engine and takes the orders. It knows
// nothing of kills: started again, it goes on from its tables. It stops when its
// standard input ends, so it does not outlive the one who started it.
type demoWorkCmd struct {
	File   string
	Orders string
	Menu   string
	Seed   uint64
	Take   int `default:"-1"` // how many orders more to take at the most; -1: all
}

// arguments are the command line of this process.
func (c *demoWorkCmd) arguments() []string {
	return []string{"demo", "work", "--file", c.File, "--orders", c.Orders, "--menu", c.Menu,
		"--seed", strconv.FormatUint(c.Seed, 10), "--take=" + strconv.Itoa(c.Take)}
}

func (c *demoWorkCmd) open(a *app, log *slog.Logger) (*restaurant.Restaurant, error) {
	menu, err := restaurant.OpenMenu(c.Menu)
	if err != nil {
		return nil, err
	}
	return restaurant.Open(a.ctx, restaurant.Config{File: c.File, Menu: menu, Seed: c.Seed, Log: log})
}

// Run works until the book is settled or the standard input ends.
func (c *demoWorkCmd) Run(a *app) error {
	book, err := restaurant.OpenBook(c.Orders)
	if err != nil {
		return err
	}
	// Beside the store: each kill and each dead letter has a line in it, which is no
	// news to whoever watches the demo.
	to, err := os.OpenFile(filepath.Join(filepath.Dir(c.File), "restaurant.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer to.Close()
	r, err := c.open(a, slog.New(slog.NewTextHandler(to, nil)))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(a.ctx)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, a.in) // whatever ends it, an end it is
		stop()
	}()
	most := restaurant.All
	if c.Take >= 0 {
		most = c.Take
	}
	err = r.Work(ctx, book, most)
	if ctx.Err() != nil && context.Cause(ctx) == err {
		err = nil // as it was told
	}
	if closing := r.Close(); err == nil {
		err = closing
	}
	return err
}
