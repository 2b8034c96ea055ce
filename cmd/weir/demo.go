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
	Work           demoWorkCmd       `cmd:"" hidden:"" help:"The process that runs the engine."`
	FulfilmentWork fulfilmentWorkCmd `cmd:"" hidden:"" help:"The process that runs the fulfilment's engine."`
	Outside        demoOutsideCmd    `cmd:"" hidden:"" help:"The process of an outside system."`
}

// demoRestaurantCmd is weir demo restaurant.
type demoRestaurantCmd struct {
	Orders string `placeholder:"FILE" help:"Order book: CSV with order_details_id, order_id, order_date, order_time, item_id. Default: one is made up."`
	Menu   string `placeholder:"FILE" help:"Its menu: CSV with menu_item_id, item_name."`
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
	if err := c.check(a); err != nil {
		return usageError(err)
	}
	dir, remove, err := demoDirectory(c.Dir, demoFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	p, err := c.place(a, dir, demoFile, demoSchema)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.release()) }()
	d, err := c.prepare(a, p, dir)
	if err != nil {
		return err
	}
	started := time.Now()
	if err := d.run(a.ctx); err != nil {
		return err
	}
	r, err := d.count(a.ctx)
	if err != nil {
		return err
	}
	r.Seconds = float64(time.Since(started).Milliseconds()) / 1000
	if err := a.print(r, func(w *tabwriter.Writer) { c.summary(w, r, p) }); err != nil {
		return err
	}
	if r.Lost != 0 || r.ServedTwice != 0 || r.CookedTwice != 0 {
		return errWrong
	}
	return nil
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
	work demoWorkCmd
	book restaurant.Book
}

// prepare reads the order book, making one up if there is none, and makes the store.
func (c *demoRestaurantCmd) prepare(a *app, p *demoPlace, dir string) (_ *demo, err error) {
	d := &demo{stage: newStage(a, p, c.demoFlags)}
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
	if err := c.checkKills(len(d.book.Orders)); err != nil {
		return nil, err
	}
	db, err := p.open()
	if err != nil {
		return nil, err
	}
	// What is wrong with the menu or the store is better said before a process is started.
	r, err := d.work.open(a, db, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	d.orders, d.look = len(d.book.Orders), d.lookAt
	d.effort = 2 * float64(d.book.Lines) / float64(max(1, d.orders)) // each line is cooked and served
	return d, errors.Join(r.Close(), db.Close(), d.cast(c.Workers, d.work.arguments))
}

// lookAt tells how far the work is.
func (d *demo) lookAt(ctx context.Context, db *database.Database) (outlook, error) {
	now, err := restaurant.Look(ctx, restaurant.Tables{WaitStaff: db, Kitchen: db})
	return outlook{taken: now.Orders, open: now.Open, done: now.Cooked + now.Servings, line: func() string {
		return fmt.Sprintf("orders %d of %d, %d open; lines cooked %d, served %d", now.Orders, d.orders, now.Open, now.Cooked, now.Servings)
	}}, err
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
func (d *demo) count(ctx context.Context) (_ *demoResult, err error) {
	db, err := d.place.open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	n, err := restaurant.CountAll(ctx, restaurant.Tables{WaitStaff: db, Kitchen: db})
	if err != nil {
		return nil, err
	}
	r := &demoResult{
		Orders: n.Orders, Lines: n.Lines, LinesBad: n.LinesBad, Served: n.Served,
		Kills: d.processesKilled(), Lost: n.Lost + d.book.Lines - n.Lines, // a line that was never taken is lost, too
		ServedTwice: n.ServedTwice, CookedTwice: n.CookedTwice, Unservable: n.Unservable,
		demoRunResult: d.result(),
	}
	eng, err := weir.Open(ctx, db.Journal, weir.Config{})
	if err != nil {
		return nil, err
	}
	r.reasons, err = deadReasons(ctx, eng)
	for _, n := range r.reasons {
		r.Dead += n
	}
	return r, errors.Join(err, eng.Close())
}

// deadReasons counts the dead letters by their reason, without the line it is about.
func deadReasons(ctx context.Context, eng *weir.Engine) (map[string]int, error) {
	reasons := map[string]int{}
	q := weir.DeadQuery{Max: 1000}
	for {
		page, err := eng.Dead(ctx, q)
		if err != nil {
			return nil, err
		}
		for i := range page {
			_, reason, _ := strings.Cut(page[i].Reason, ": ")
			reasons[reason]++
		}
		if len(page) < q.Max {
			return reasons, nil
		}
		q.After = page[len(page)-1].Message.Pos
	}
}

const reasonsShown = 5

func (c *demoRestaurantCmd) summary(w *tabwriter.Writer, r *demoResult, p *demoPlace) {
	fmt.Fprintf(w, "orders\t%d\t%d served, %d unservable\n", r.Orders, r.Orders-r.Unservable, r.Unservable)
	fmt.Fprintf(w, "lines\t%d\t%d served, %d bad\n", r.Lines, r.Served, r.LinesBad)
	fmt.Fprintf(w, "dead letters\t%d\t%s\n", r.Dead, topReasons(r.reasons))
	fmt.Fprintf(w, "kills\t%d\t%s\n", r.Kills, r.text())
	fmt.Fprintf(w, "lost\t%d\n", r.Lost)
	fmt.Fprintf(w, "served twice\t%d\t%d cooked twice\n", r.ServedTwice, r.CookedTwice)
	fmt.Fprintf(w, "seconds\t%.1f\n", r.Seconds)
	fmt.Fprint(w, "\n", p.lookAround(c.Dir != "", "status", "trace order-1", "dead ls"))
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
