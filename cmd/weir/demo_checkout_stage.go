package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/weir-go/weir/examples/checkout"
	"github.com/weir-go/weir/examples/checkout/contract"
	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/examples/fulfilment/outside"
)

// checkoutDemo is a day of the shop: its processes, the payment provider's, the broker's, and in this
// one the shoppers.
type checkoutDemo struct {
	*stage
	dir      string
	parts    []checkoutPart
	servers  []string // of the broker
	provider string   // host:port, the same for all lives of it
	trouble  outside.Trouble
	stores   map[string]*database.Database // each boundary's
	shoppers *checkout.Shoppers
	shopping sync.WaitGroup
	begin    func()     // lets the shoppers in, once
	bought   chan error // what came of it
	isBought bool

	now     checkout.Progress
	equal   bool // ordering knows the customers as they are
	closers []func() error
}

// checkoutPart is what one process of the shop works.
type checkoutPart struct {
	owns    []string
	place   *demoPlace
	address string // host:port, the same for all its lives
}

// name is what it is called: "payment", or "shop" when it is all.
func (p checkoutPart) name() string {
	if len(p.owns) > 1 {
		return "shop"
	}
	return p.owns[0]
}

// prepare makes the stores and the actors.
func (c *demoCheckoutCmd) prepare(a *app, dir string) (_ *checkoutDemo, err error) {
	d := &checkoutDemo{dir: dir, trouble: outside.Trouble{Fail: c.Fail, Silent: c.Silent}, stores: map[string]*database.Database{}, bought: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if err := d.settle(a, c); err != nil {
		return nil, err
	}
	d.stage = newStage(a, d.parts[0].place, c.demoFlags)
	d.kills[ofBrokers].planned, d.kills[ofBrokersData].planned = c.KillBroker, c.demoSplit.kills()-c.KillBroker
	d.orders, d.effort, d.look = c.Carts, effortOfCart, d.lookAt
	traffic, err := c.traffic(dir)
	if err != nil {
		return nil, err
	}
	d.closers = append(d.closers, traffic.Close)
	d.shoppers = checkout.NewShoppers(checkout.Shopping{At: map[string]string{}, Seed: c.Seed, Carts: c.Carts, Customers: c.Customers, Traffic: traffic})
	d.told = d.shoppers.Let
	if c.Processes {
		var closeLog func() error
		if d.servers, closeLog, err = d.castBrokers(dir, c.demoSplit.brokers()); err != nil {
			return nil, err
		}
		d.closers = append(d.closers, closeLog)
	}
	if err := d.openStores(a); err != nil {
		return nil, err
	}
	return d, d.cast()
}

// effortOfCart: it is placed, charged and counted.
const effortOfCart = 3

// settle finds the parts' places. The stores are files, or schemas of one database.
func (d *checkoutDemo) settle(a *app, c *demoCheckoutCmd) error {
	if !c.Processes {
		p, err := c.place(a, d.dir, checkoutFile, checkoutSchema, 1)
		if err != nil {
			return err
		}
		d.parts, d.closers = []checkoutPart{{owns: contract.Boundaries(), place: p}}, append(d.closers, p.release)
		return nil
	}
	for i, b := range contract.Boundaries() {
		schema := checkoutSchema + "_" + b
		if i == 0 {
			p, err := c.place(a, d.dir, b+".db", schema, len(contract.Boundaries()))
			if err != nil {
				return err
			}
			p.schema = schema // whatever --schema says: there is one for each
			d.parts, d.closers = []checkoutPart{{owns: []string{b}, place: p}}, append(d.closers, p.release)
			continue
		}
		first := d.parts[0].place
		p := &demoPlace{store: first.store, schema: schema, server: first.server}
		if first.kind() == demoSQLite {
			p.store = filepath.Join(d.dir, b+".db")
			p.name = p.store
		} else if err := p.settle(a.ctx, len(contract.Boundaries())); err != nil {
			return err
		}
		d.parts = append(d.parts, checkoutPart{owns: []string{b}, place: p})
	}
	return nil
}

// openStores opens each part's store, and has its tables made. What is wrong with it is better said
// before a process is started.
func (d *checkoutDemo) openStores(a *app) error {
	for _, part := range d.parts {
		db, err := part.place.open()
		if err != nil {
			return err
		}
		d.closers = append(d.closers, db.Close)
		for _, b := range part.owns {
			d.stores[b] = db
		}
		work := d.work(part)
		shop, closeWire, err := work.open(a.ctx, db, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		if err := errors.Join(shop.Close(), closeWire()); err != nil {
			return err
		}
	}
	return nil
}

func (d *checkoutDemo) providerFile() string {
	return filepath.Join(d.dir, string(outside.Payments)+".db")
}

// work is a part's process.
func (d *checkoutDemo) work(part checkoutPart) checkoutWorkCmd {
	return checkoutWorkCmd{Dir: d.dir, Owns: part.owns, Listen: part.address, Provider: d.provider, Servers: d.servers}
}

// cast makes the actors beside the broker.
func (d *checkoutDemo) cast() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	d.others = append(d.others, &actor{name: "the payment provider", role: "provider", start: func(ctx context.Context) (*process, error) {
		c := demoOutsideCmd{System: string(outside.Payments), Dir: d.dir, Listen: orAnyPort(d.provider), Seed: d.seed, Fail: d.trouble.Fail, Silent: d.trouble.Silent}
		p, address, err := begin(ctx, program{name: "the payment provider", self: self, args: c.arguments(), err: d.app.err})
		if err == nil {
			d.provider = address
		}
		return p, err
	}})
	for i := range d.parts {
		part := &d.parts[i]
		d.workers = append(d.workers, &actor{name: part.name(), role: roleEngine, start: func(ctx context.Context) (*process, error) {
			work := d.work(*part)
			work.Listen = orAnyPort(work.Listen)
			p, address, err := begin(ctx, program{name: part.name(), self: self, args: work.arguments(), env: part.place.environment(), err: d.app.err})
			if err != nil {
				return nil, err
			}
			if part.address == "" { // in later lives it is the same, and the shoppers are reading it
				part.address = address
				for _, b := range part.owns {
					d.shoppers.At[b] = "http://" + address
				}
			}
			return p, nil
		}})
	}
	return nil
}

func orAnyPort(address string) string {
	if address == "" {
		return "127.0.0.1:0"
	}
	return address
}

// act runs the demo to its end. The shoppers come once all processes listen, which is before the stage looks
// for the first time.
func (d *checkoutDemo) act(ctx context.Context) error {
	day, end := context.WithCancel(ctx)
	d.begin = sync.OnceFunc(func() {
		d.shopping.Go(func() { d.bought <- d.shoppers.Buy(day) })
	})
	err := d.run(ctx)
	end()
	d.shopping.Wait()
	d.shoppers.End()
	return err
}

// lookAt tells how far the work is.
func (d *checkoutDemo) lookAt(ctx context.Context, _ *database.Database) (o outlook, err error) {
	d.begin()
	if !d.isBought {
		select {
		case err := <-d.bought:
			if err != nil {
				return o, err
			}
			d.isBought = true
		default:
		}
	}
	now, err := checkout.Look(ctx, d.stores)
	if err != nil {
		return o, err
	}
	if d.isBought && now.Settled(d.orders) {
		unequal, err := checkout.Unequal(ctx, d.shoppers, d.stores)
		d.equal = err == nil && len(unequal) == 0 // ordering may be away just now
	}
	d.now = now
	return outlook{taken: now.Placed, open: now.Open, done: now.Placed + now.Charged + now.Counted, settled: d.equal && d.killsLeft() == 0, line: func() string {
		return fmt.Sprintf("orders %d of %d, %d open; bills settled %d, orders counted %d, customers changed %d times",
			now.Placed, d.orders, now.Open, now.Charged, now.Counted, now.Changes)
	}}, nil
}

// close closes what was opened, the last first.
func (d *checkoutDemo) close() error {
	var errs []error
	for i := len(d.closers) - 1; i >= 0; i-- {
		errs = append(errs, d.closers[i]())
	}
	d.closers = nil
	return errors.Join(errs...)
}
