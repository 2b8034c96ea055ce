package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/examples/restaurant"
)

// demoCmd shows weir at work.
type demoCmd struct {
	Restaurant     demoRestaurantCmd `cmd:"" default:"withargs" help:"Wait staff and kitchen work an order book. The engine runs in processes of its own, which --kill kills."`
	Fulfilment     demoFulfilmentCmd `cmd:"" help:"Orders are fulfilled by four outside systems that fail, are silent and slow. Processes of their own, which --kill kills."`
	Checkout       demoCheckoutCmd   `cmd:"" help:"A shop of three boundaries: ordering, payment and customers. Cards go to payment only, and each cart is charged once, whoever is killed."`
	Work           demoWorkCmd       `cmd:"" hidden:"" help:"The process that runs the engine."`
	FulfilmentWork fulfilmentWorkCmd `cmd:"" hidden:"" help:"The process that runs the fulfilment's engine."`
	CheckoutWork   checkoutWorkCmd   `cmd:"" hidden:"" help:"A process of the shop."`
	Outside        demoOutsideCmd    `cmd:"" hidden:"" help:"The process of an outside system."`
}

// demoRestaurantCmd is weir demo restaurant.
type demoRestaurantCmd struct {
	Orders string `placeholder:"FILE" help:"Order book: CSV with order_details_id, order_id, order_date, order_time, item_id. Default: one is made up."`
	Menu   string `placeholder:"FILE" help:"Its menu: CSV with menu_item_id, item_name."`
	demoSplit
	demoFlags
}

// demoResult is what weir demo restaurant prints with --json. The orders, the lines, and what
// was lost or done twice are counted by SQL from the tables of the restaurant, not asked of
// the engine.
type demoResult struct {
	Orders      int     `json:"orders"`
	Lines       int     `json:"lines"`
	LinesBad    int     `json:"lines_bad"`
	Served      int     `json:"served"`
	Dead        int     `json:"dead"`
	Kills       int     `json:"kills"`
	Lost        int     `json:"lost"`
	ServedTwice int     `json:"served_twice"`
	Seconds     float64 `json:"seconds"`

	CookedTwice int `json:"cooked_twice"`
	Unservable  int `json:"unservable"`
	Brokers     int `json:"brokers"`
	KillsBroker int `json:"kills_broker"`
	WipesBroker int `json:"wipes_broker"`

	demoRunResult

	reasons map[string]int // of the dead letters
}

// demoRunResult is how a demo was run.
type demoRunResult struct {
	Store    string `json:"store"` // sqlite, postgres
	Workers  int    `json:"workers"`
	KillsDB  int    `json:"kills_db"`
	Restarts int    `json:"restarts"` // of workers that ended by themselves, and were started again
}

const (
	demoOrders = 300 // of a made-up book: a second or two of work
	demoFile   = "restaurant.db"
	demoSchema = "weir_demo_restaurant"
)

// Run works the order book to its end and counts.
func (c *demoRestaurantCmd) Run(a *app) (err error) {
	if (c.Orders == "") != (c.Menu == "") {
		return usageError(errors.New("--orders and --menu go together: the menu tells what can be cooked"))
	}
	if err := errors.Join(c.demoFlags.check(a), c.demoSplit.check()); err != nil {
		return usageError(err)
	}
	main := demoFile
	if c.Processes {
		main = staffFile
	}
	dir, remove, err := demoDirectory(c.Dir, main)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	parts, release, err := c.places(a, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	d, err := c.prepare(a, parts, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	started := time.Now()
	if err := d.run(a.ctx); err != nil {
		return err
	}
	r, err := d.count(a.ctx)
	if err != nil {
		return err
	}
	r.Seconds = float64(time.Since(started).Milliseconds()) / 1000
	if err := a.print(r, func(w *tabwriter.Writer) { c.summary(w, r, parts) }); err != nil {
		return err
	}
	if r.wrong() {
		return errWrong
	}
	return nil
}

// wrong says whether anything is not as it must be.
func (r *demoResult) wrong() bool {
	return r.Lost != 0 || r.ServedTwice != 0 || r.CookedTwice != 0 || r.Served != r.Lines-r.LinesBad || r.Dead != r.LinesBad
}

// demoDirectory is where the files are made, and what is done with it at the end. A
// directory that was given is kept, and must be without the demo's main file.
func demoDirectory(given, main string) (dir string, remove func() error, err error) {
	if given == "" {
		dir, err = os.MkdirTemp("", "weir-demo-")
		return dir, func() error { return os.RemoveAll(dir) }, err
	}
	if err := os.MkdirAll(given, 0o700); err != nil {
		return "", nil, err
	}
	file := filepath.Join(given, main)
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return "", nil, errors.Join(fmt.Errorf("%s is of another run: remove it, or give another --dir", file), err)
	}
	return given, func() error { return nil }, nil
}

// demo is a restaurant's day.
type demo struct {
	*stage
	work    demoWorkCmd
	book    restaurant.Book
	parts   []demoPart
	sides   []restaurant.Side // of the parts
	closers []func() error
}

// prepare reads the order book, making one up if there is none, and makes the stores.
func (c *demoRestaurantCmd) prepare(a *app, parts []demoPart, dir string) (_ *demo, err error) {
	d := &demo{stage: newStage(a, parts[0].place, c.demoFlags), parts: parts}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	d.work = demoWorkCmd{Dir: dir, Orders: c.Orders, Menu: c.Menu, Seed: c.Seed, Workers: c.Workers}
	if c.Orders == "" {
		d.work.Orders, d.work.Menu = filepath.Join(dir, "orders.csv"), filepath.Join(dir, "menu.csv")
		if err := errors.Join(
			writeNew(d.work.Orders, restaurant.GenerateBook(c.Seed, demoOrders)),
			writeNew(d.work.Menu, restaurant.GenerateMenu()),
		); err != nil {
			return nil, err
		}
	}
	if d.book, err = restaurant.OpenBook(d.work.Orders); err != nil {
		return nil, err
	}
	if err := c.checkKills(len(d.book.Orders), c.demoSplit.kills()); err != nil {
		return nil, err
	}
	d.kills[ofBrokers].planned, d.kills[ofBrokersData].planned = c.KillBroker, c.demoSplit.kills()-c.KillBroker
	d.orders, d.look = len(d.book.Orders), d.lookAt
	d.effort = 2 * float64(d.book.Lines) / float64(max(1, d.orders)) // each line is cooked and served
	if err := d.castAll(c.demoSplit.brokers()); err != nil {
		return nil, err
	}
	// What is wrong with the menu or the store is better said before a process is started.
	for _, part := range parts {
		if err := d.tryOut(part); err != nil {
			return nil, err
		}
	}
	return d, d.openSides(a.ctx)
}

// tryOut opens a part of the restaurant, which makes its tables.
func (d *demo) tryOut(part demoPart) (err error) {
	db, err := part.place.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	work := d.work
	work.Boundary = part.boundary
	r, closeWire, err := work.open(d.app, db, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return errors.Join(r.Close(), closeWire())
}

// castAll makes the actors: brokers, and the workers of each part.
func (d *demo) castAll(brokers int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if brokers > 0 {
		servers, closeLog, err := d.castBrokers(d.work.Dir, brokers)
		if err != nil {
			return err
		}
		d.work.Servers, d.work.Monitor, d.closers = servers, d.monitor, append(d.closers, closeLog)
	}
	for _, part := range d.parts {
		name := roleEngine
		for n := range d.work.Workers {
			switch {
			case part.boundary == "" && d.work.Workers > 1:
				name = fmt.Sprintf("worker %d", n+1)
			case d.work.Workers > 1:
				name = fmt.Sprintf("%s %d", part.boundary, n+1)
			case part.boundary != "":
				name = part.boundary
			}
			as := name
			d.hire(as, func() program {
				return program{name: as, self: self, args: d.work.arguments(part.boundary, n), env: part.place.environment(), err: d.app.err}
			})
		}
	}
	return nil
}

// lookAt tells how far the work is.
func (d *demo) lookAt(ctx context.Context, _ *database.Database) (o outlook, err error) {
	now, err := restaurant.Look(ctx, d.tables())
	o = outlook{taken: now.Orders, open: now.Open, done: now.Cooked + now.Servings, line: func() string {
		return fmt.Sprintf("orders %d of %d, %d open; lines cooked %d, served %d", now.Orders, d.orders, now.Open, now.Cooked, now.Servings)
	}}
	if err == nil && len(d.parts) > 1 && now.Orders == d.orders && now.Open == 0 {
		o.settled, err = restaurant.Settled(ctx, d.staff(), d.kitchen(), d.book)
	}
	return o, err
}

func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// count counts by SQL what became of the book, and by the engine's API its dead letters.
func (d *demo) count(ctx context.Context) (*demoResult, error) {
	n, err := restaurant.CountAll(ctx, d.tables())
	if err != nil {
		return nil, err
	}
	r := &demoResult{
		Orders: n.Orders, Lines: n.Lines, LinesBad: n.LinesBad, Served: n.Served,
		Kills: d.kills[ofProcesses].done, Lost: n.Lost + d.book.Lines - n.Lines, // a line that was never taken is lost, too
		ServedTwice: n.ServedTwice, CookedTwice: n.CookedTwice, Unservable: n.Unservable,
		Brokers: len(d.brokers), KillsBroker: d.kills[ofBrokers].done, WipesBroker: d.kills[ofBrokersData].done,
		demoRunResult: d.result(), reasons: map[string]int{},
	}
	for _, side := range d.sides {
		if err := deadReasons(ctx, side.Engine, r.reasons); err != nil {
			return nil, err
		}
	}
	for _, n := range r.reasons {
		r.Dead += n
	}
	return r, nil
}

// deadReasons counts the dead letters by their reason, without the line it is about.
func deadReasons(ctx context.Context, eng *weir.Engine, reasons map[string]int) error {
	q := weir.DeadQuery{Max: 1000}
	for {
		page, err := eng.Dead(ctx, q)
		if err != nil {
			return err
		}
		for i := range page {
			_, reason, _ := strings.Cut(page[i].Reason, ": ")
			reasons[reason]++
		}
		if len(page) < q.Max {
			return nil
		}
		q.After = page[len(page)-1].Message.Pos
	}
}

const reasonsShown = 5

func (c *demoRestaurantCmd) summary(w *tabwriter.Writer, r *demoResult, parts []demoPart) {
	fmt.Fprintf(w, "orders\t%d\t%d served, %d unservable\n", r.Orders, r.Orders-r.Unservable, r.Unservable)
	fmt.Fprintf(w, "lines\t%d\t%d served, %d bad\n", r.Lines, r.Served, r.LinesBad)
	fmt.Fprintf(w, "dead letters\t%d\t%s\n", r.Dead, topReasons(r.reasons))
	fmt.Fprintf(w, "kills\t%d\t%s\n", r.Kills, r.text())
	if r.Brokers > 0 {
		fmt.Fprintf(w, "brokers\t%d\t%d times one was killed, %d times all lost what they had\n", r.Brokers, r.KillsBroker, r.WipesBroker)
	}
	fmt.Fprintf(w, "lost\t%d\n", r.Lost)
	fmt.Fprintf(w, "served twice\t%d\t%d cooked twice\n", r.ServedTwice, r.CookedTwice)
	fmt.Fprintf(w, "seconds\t%.1f\n", r.Seconds)
	said := ""
	for _, part := range parts {
		text := part.place.lookAround(c.Dir != "", "status", "trace order-1", "dead ls")
		if text != said { // of what is not kept the same is said
			fmt.Fprint(w, "\n", text)
		}
		said = text
	}
}

// topReasons lists the most frequent ones.
func topReasons(reasons map[string]int) string {
	byCount := slices.SortedFunc(maps.Keys(reasons), func(a, b string) int {
		if n := reasons[b] - reasons[a]; n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	var text []string
	for i, reason := range byCount {
		if i == reasonsShown {
			text = append(text, fmt.Sprintf("and %d other reasons", len(byCount)-i))
			break
		}
		text = append(text, fmt.Sprintf("%d × %s", reasons[reason], reason))
	}
	return strings.Join(text, ", ")
}
