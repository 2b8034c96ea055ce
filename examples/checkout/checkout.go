// Package checkout is a complete program on weir: a shop whose ordering, payment and customers
// are three boundaries, each with data of its own.
//
//		shopper ─ card ──────────────────────────▶ payment ─ charges ─▶ the payment provider
//		   │                                        ▲    │
//		   │                    payment.charge-cart │    │ payment.cart-settled
//		   │                                        │    ▼
//		   └───── order ─────────────────────────▶ ordering ── ordering.order-placed ─▶ customers
//		                                             ▲                                     │
//		                                             └──── replica of customers.customer ──┘
//
//	  - A card goes to payment only, keyed by the cart. It never passes through ordering; no message
//	    has a place for it (package contract), and what payment has of it beside its vault is a token.
//	  - ordering-placed carries IDs only. Ordering prices and greets by its replica of the customers, so it
//	    takes orders while the other two are away.
//	  - Payment charges each cart once, by a provider that refuses no duplicate.
//
// Which boundaries a process has is configuration: [Config].Owns. All three in one, on one store
// and without a transport, or each in a process of its own with its own store, it is the same code.
// count.go counts what became of the orders, from the outside system's file and each boundary's store.
package checkout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/checkout/contract"
	"github.com/weir-go/weir/examples/checkout/customers"
	"github.com/weir-go/weir/examples/checkout/ordering"
	"github.com/weir-go/weir/examples/checkout/payment"
	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/transport"
)

// Config is what a process of the shop is made of.
type Config struct {
	Owns     []string           // the boundaries that live here, of contract.Boundaries
	Database *database.Database // of the journal and of their tables
	// Transport leads to the boundaries that live elsewhere. nil when all of them are here.
	Transport transport.Transport
	Vault     string        // the file of payment's vault
	Provider  string        // where the payment provider is, http://127.0.0.1:4711
	Patience  time.Duration // see ordering.Config
	Log       *slog.Logger
}

// Process is one process of the shop: the boundaries that live in it.
type Process struct {
	eng    *weir.Engine
	mux    *http.ServeMux
	log    *slog.Logger
	closes []func() error
}

// Open opens the store, makes the boundaries' tables if they are not there, and puts the
// boundaries to it. Close it when done; the database and the transport are the caller's to close.
func Open(ctx context.Context, c Config) (_ *Process, err error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	eng, err := weir.Open(ctx, c.Database.Journal, c.engine())
	if err != nil {
		return nil, err
	}
	p := &Process{eng: eng, mux: http.NewServeMux(), log: c.Log}
	for _, b := range c.Owns {
		if err := p.add(ctx, b, c); err != nil {
			return nil, errors.Join(fmt.Errorf("open %s: %w", b, err), p.Close())
		}
	}
	return p, nil
}

// engine is the engine's configuration. This is all that differs between a boundary that is
// here and one that is elsewhere.
func (c Config) engine() weir.Config {
	e := weir.Config{Owns: c.Owns, Transport: c.Transport, Log: c.Log}
	if c.Transport == nil {
		return e
	}
	e.Routes = map[string]weir.Route{}
	for _, b := range contract.Boundaries() {
		if !slices.Contains(c.Owns, b) {
			e.Routes[b] = weir.Route{}
		}
	}
	return e
}

// add puts one boundary to the engine.
func (p *Process) add(ctx context.Context, boundary string, c Config) error {
	switch boundary {
	case contract.Ordering:
		o, err := ordering.New(ctx, p.eng, ordering.Config{Database: c.Database, Patience: c.Patience, Log: c.Log})
		if err != nil {
			return err
		}
		o.Mount(p.mux)
	case contract.Customers:
		o, err := customers.New(ctx, p.eng, c.Database)
		if err != nil {
			return err
		}
		o.Mount(p.mux)
	case contract.Payment:
		vault, err := payment.OpenVault(ctx, c.Vault)
		if err != nil {
			return err
		}
		p.closes = append(p.closes, vault.Close)
		provider := payment.NewProvider(c.Provider)
		p.closes = append(p.closes, func() error { provider.Close(); return nil })
		o, err := payment.New(ctx, p.eng, payment.Config{Database: c.Database, Vault: vault, Provider: provider})
		if err != nil {
			return err
		}
		o.Mount(p.mux)
	default:
		return fmt.Errorf("there is no boundary %q", boundary)
	}
	return nil
}

// Close ends all use of the process's boundaries.
func (p *Process) Close() error {
	err := p.eng.Close()
	for _, end := range p.closes {
		err = errors.Join(err, end())
	}
	return err
}

const (
	readMax = 10 * time.Second
	idleMax = time.Minute
)

// Run runs the engine and serves the boundaries' entry points on l until ctx is done.
func (p *Process) Run(ctx context.Context, l net.Listener) error {
	day, end := context.WithCancel(ctx)
	defer end()
	server := &http.Server{
		Handler: p.mux, ReadTimeout: readMax, IdleTimeout: idleMax,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 2)
	go func() { ended <- p.eng.Run(day) }()
	go func() {
		err := server.Serve(l)
		if day.Err() != nil {
			err = nil // as it was told
		}
		ended <- err
	}()
	var first error
	select {
	case <-ctx.Done():
	case first = <-ended: // neither can do without the other
		ended <- nil
	}
	end()
	closed := server.Close()
	return errors.Join(first, closed, <-ended, <-ended)
}
