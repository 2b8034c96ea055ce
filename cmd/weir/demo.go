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
	"github.com/weir-go/weir/examples/restaurant"
	"github.com/weir-go/weir/store/sqlite"
)

// demoCmd shows weir at work.
type demoCmd struct {
	Restaurant     demoRestaurantCmd `cmd:"" default:"withargs" help:"Wait staff and kitchen work an order book. The engine runs in a process of its own, which --kill kills."`
	Fulfilment     demoFulfilmentCmd `cmd:"" help:"Orders are fulfilled by four outside systems that fail, are silent and slow. Processes of their own, which --kill kills."`
	Work           demoWorkCmd       `cmd:"" hidden:"" help:"The process that runs the engine."`
	FulfilmentWork fulfilmentWorkCmd `cmd:"" hidden:"" help:"The process that runs the fulfilment's engine."`
	Outside        demoOutsideCmd    `cmd:"" hidden:"" help:"The process of an outside system."`
}

// demoRestaurantCmd is weir demo restaurant.
type demoRestaurantCmd struct {
	Orders string `placeholder:"FILE" help:"Order book: CSV with order_details_id, order_id, order_date, order_time, item_id. Default: one is made up."`
	Menu   string `placeholder:"FILE" help:"Its menu: CSV with menu_item_id, item_name."`
	Kill   int    `placeholder:"N" help:"Kill the engine's process (SIGKILL) that often, at random moments of its work, and start it again."`
	Dir    string `placeholder:"DIR" help:"Keep the files there, to look around. Default: a temporary directory, which is removed."`
	Seed   uint64 `default:"1" help:"Of what is random: the made-up orders, what goes wrong in the kitchen, the moments of the kills."`
}

// demoResult is what weir demo restaurant prints with --json. All but dead, kills and
// seconds are counted by SQL from the tables of the restaurant, not asked of the engine.
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

	reasons map[string]int // of the dead letters
}

const (
	demoOrders = 300 // of a made-up book: a second or two of work
	demoFile   = "restaurant.db"
)

// Run works the order book to its end and counts.
func (c *demoRestaurantCmd) Run(a *app) (err error) {
	if (c.Orders == "") != (c.Menu == "") {
		return usageError(errors.New("--orders and --menu go together: the menu tells what can be cooked"))
	}
	dir, remove, err := demoDirectory(c.Dir, demoFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	d, err := c.prepare(a, dir)
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
	if err := a.print(r, func(w *tabwriter.Writer) { c.summary(w, r) }); err != nil {
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

// prepare reads the order book, making one up if there is none, and makes the store.
func (c *demoRestaurantCmd) prepare(a *app, dir string) (*demo, error) {
	d := &demo{
		demoWorkCmd: demoWorkCmd{File: filepath.Join(dir, demoFile), Orders: c.Orders, Menu: c.Menu, Seed: c.Seed},
		kills:       c.Kill, app: a,
	}
	if c.Orders == "" {
		d.Orders, d.Menu = filepath.Join(dir, "orders.csv"), filepath.Join(dir, "menu.csv")
		if err := errors.Join(
			writeNew(d.Orders, restaurant.GenerateBook(c.Seed, demoOrders)),
			writeNew(d.Menu, restaurant.GenerateMenu()),
		); err != nil {
			return nil, err
		}
	}
	var err error
	if d.book, err = restaurant.OpenBook(d.Orders); err != nil {
		return nil, err
	}
	if c.Kill < 0 || c.Kill > len(d.book.Orders)/2 {
		return nil, usageError(fmt.Errorf("--kill is %d, want 0 to %d: half as many as there are orders", c.Kill, len(d.book.Orders)/2))
	}
	r, err := d.open(a, slog.New(slog.DiscardHandler)) // what is wrong with the menu or the file is better said before a process is started
	if err != nil {
		return nil, err
	}
	return d, r.Close()
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
	db, err := sqlite.OpenDB(d.File)
	if err != nil {
		return nil, err
	}
	n, err := restaurant.CountAll(ctx, db)
	if err := errors.Join(err, db.Close()); err != nil {
		return nil, err
	}
	r := &demoResult{
		Orders: n.Orders, Lines: n.Lines, LinesBad: n.LinesBad, Served: n.Served,
		Kills: d.killed, Lost: n.Lost + d.book.Lines - n.Lines, // a line that was never taken is lost, too
		ServedTwice: n.ServedTwice, CookedTwice: n.CookedTwice, Unservable: n.Unservable,
	}
	eng, err := weir.Open(ctx, sqlite.File(d.File), weir.Config{})
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

func (c *demoRestaurantCmd) summary(w *tabwriter.Writer, r *demoResult) {
	fmt.Fprintf(w, "orders\t%d\t%d served, %d unservable\n", r.Orders, r.Orders-r.Unservable, r.Unservable)
	fmt.Fprintf(w, "lines\t%d\t%d served, %d bad\n", r.Lines, r.Served, r.LinesBad)
	fmt.Fprintf(w, "dead letters\t%d\t%s\n", r.Dead, topReasons(r.reasons))
	fmt.Fprintf(w, "kills\t%d\n", r.Kills)
	fmt.Fprintf(w, "lost\t%d\n", r.Lost)
	fmt.Fprintf(w, "served twice\t%d\t%d cooked twice\n", r.ServedTwice, r.CookedTwice)
	fmt.Fprintf(w, "seconds\t%.1f\n", r.Seconds)
	if c.Dir == "" {
		fmt.Fprintf(w, "\nTry it with --kill 20, or with --dir DIR to look around afterwards.\n")
		return
	}
	file := filepath.Join(c.Dir, demoFile)
	fmt.Fprintf(w, "\nLook around:\n")
	for _, command := range []string{"status", "trace order-1", "dead ls"} {
		fmt.Fprintf(w, "  weir --store %s %s\n", file, command)
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
