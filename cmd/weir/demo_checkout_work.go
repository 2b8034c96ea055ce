package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/weir-go/weir/examples/checkout"
	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/transport/jetstream"
)

// checkoutWorkCmd is a process of the shop: one of its boundaries, or all. Its first line of output is
// where it listens. It stops when its standard input ends, and knows nothing of kills. Its store is in
// the environment.
type checkoutWorkCmd struct {
	Dir      string   // of the log and the vault
	Owns     []string // its boundaries
	Listen   string   // host:port
	Provider string   // the payment provider's, host:port
	Servers  []string // URLs of the brokers that lead to the other boundaries; none: all are here
}

// arguments are the command line of this process.
func (c *checkoutWorkCmd) arguments() []string {
	return []string{"demo", "checkout-work", "--dir", c.Dir, "--owns", strings.Join(c.Owns, ","), "--listen", c.Listen,
		"--provider", c.Provider, "--servers=" + strings.Join(c.Servers, ",")}
}

func (c *checkoutWorkCmd) name() string { return checkoutPart{owns: c.Owns}.name() }

// open opens the process's boundaries. What close closes comes after them.
func (c *checkoutWorkCmd) open(ctx context.Context, db *database.Database, log *slog.Logger) (_ *checkout.Process, close func() error, err error) {
	conf := checkout.Config{
		Owns: c.Owns, Database: db, Vault: filepath.Join(c.Dir, checkoutVault), Provider: "http://" + c.Provider, Log: log,
	}
	close = func() error { return nil }
	if len(c.Servers) > 0 {
		wire, err := jetstream.Open(jetstream.Config{Servers: c.Servers, Name: c.name(), Replicas: len(c.Servers), Log: log})
		if err != nil {
			return nil, nil, err
		}
		conf.Transport, close = wire, wire.Close
	}
	p, err := checkout.Open(ctx, conf)
	if err != nil {
		return nil, nil, errors.Join(err, close())
	}
	return p, close, nil
}

// Run works until the standard input ends.
func (c *checkoutWorkCmd) Run(a *app) (err error) {
	log, closeLog, err := demoLog(c.Dir, c.name())
	if err != nil {
		return err
	}
	defer closeLog()
	db, err := openDemo(a.store, a.schema)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	shop, closeWire, err := c.open(a.ctx, db, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shop.Close(), closeWire()) }()
	l, err := listenAgain(a.ctx, c.Listen)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, l.Addr())
	ctx, stop := context.WithCancel(a.ctx)
	defer stop()
	go func() {
		defer stop()
		_, _ = io.Copy(io.Discard, a.in)
	}()
	return shop.Run(ctx, l)
}
