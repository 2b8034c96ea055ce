package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/fulfilment"
	"github.com/weir-go/weir/examples/fulfilment/outside"
	"github.com/weir-go/weir/examples/restaurant"
	"github.com/weir-go/weir/store/sqlite"
)

// demoFulfilmentCmd is weir demo fulfilment.
type demoFulfilmentCmd struct {
	Orders  string        `placeholder:"FILE" help:"Order book: CSV with order_details_id, order_id, order_date, order_time, item_id. Default: one is made up."`
	Menu    string        `placeholder:"FILE" help:"Its menu: CSV with menu_item_id, item_name. Default: any number is a dish."`
	Kill    int           `placeholder:"N" help:"Kill the engine's process or that of an outside system (SIGKILL) that often, at random moments of their work, and start it again."`
	Dir     string        `placeholder:"DIR" help:"Keep the files there, to look around. Default: a temporary directory, which is removed."`
	Seed    uint64        `default:"1" help:"Of what is random: the made-up orders, the trouble of the outside systems, who is killed when."`
	Fail    float64       `default:"0.05" help:"The share of requests to which the outside systems answer 500, half of them after having acted; of mails six times as many."`
	Silent  float64       `default:"0.03" help:"The share of requests on which they act and do not answer."`
	Slow    float64       `default:"0.1" help:"The share of requests that they begin late, by up to 0.3 s."`
	Restock time.Duration `default:"3s" help:"Time from one delivery of dishes that are out of stock to the next, 0.1 to 60 s."`
}

// demoFulfilmentResult is what weir demo fulfilment prints with --json. What was done to the
// world is counted from the outside systems' own files; what became of the orders from the
// engine's store and the shop's table, which have to agree.
type demoFulfilmentResult struct {
	Orders             int     `json:"orders"`
	Completed          int     `json:"completed"`
	Waiting            int     `json:"waiting"`
	NeedsPerson        int     `json:"needs_person"`
	ChargedOnce        int     `json:"charged_once"`
	ChargedTwice       int     `json:"charged_twice"`
	UnchargedCompleted int     `json:"uncharged_completed"`
	InvoicesDouble     int     `json:"invoices_double"`
	Omissions          int     `json:"omissions"`
	Kills              int     `json:"kills"`
	Seconds            float64 `json:"seconds"`

	Failed              int                 `json:"failed"`
	Refused             int                 `json:"refused"`
	Unaccounted         int                 `json:"unaccounted"`
	ChargedFailed       int                 `json:"charged_failed"`
	UninvoicedCompleted int                 `json:"uninvoiced_completed"`
	UnreservedCompleted int                 `json:"unreserved_completed"`
	StockLeaked         int                 `json:"stock_leaked"`
	Unmailed            int                 `json:"unmailed"`
	MailsLost           int                 `json:"mails_lost"`
	LinesLeftOut        int                 `json:"lines_left_out"`
	ChargesUnanswered   int                 `json:"charges_unanswered"`
	InvoicesRefused     int                 `json:"invoices_refused"`
	KillsOf             map[string]int      `json:"kills_of"`
	Lists               []fulfilment.Listed `json:"lists"`

	count *fulfilment.Count
}

const (
	demoFulfilmentFile = "orders.db"
	demoMailFails      = 6    // times as often as the others
	demoDeclined       = 0.02 // of the cards
	demoShareMost      = 0.5  // of --fail, --silent and --slow
)

// Run fulfils the order book to its end and counts.
func (c *demoFulfilmentCmd) Run(a *app) (err error) {
	if c.Menu != "" && c.Orders == "" {
		return usageError(errors.New("--menu goes with --orders: a made-up book has a menu of its own"))
	}
	for flag, share := range map[string]float64{"--fail": c.Fail, "--silent": c.Silent, "--slow": c.Slow} {
		if !(share >= 0 && share <= demoShareMost) {
			return usageError(fmt.Errorf("%s is %v, want 0 to %v", flag, share, demoShareMost))
		}
	}
	if c.Restock < 100*time.Millisecond || c.Restock > time.Minute {
		return usageError(fmt.Errorf("--restock is %v, want 100ms to 1m", c.Restock))
	}
	dir, remove, err := demoDirectory(c.Dir, demoFulfilmentFile)
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
	if r.count.Wrong() {
		return errWrong
	}
	return nil
}

// prepare reads the order book, making one up if there is none, and makes the store.
func (c *demoFulfilmentCmd) prepare(a *app, dir string) (*fulfilmentDemo, error) {
	work := fulfilmentWorkCmd{Dir: dir, Orders: c.Orders, Menu: c.Menu}
	if c.Orders == "" {
		work.Orders, work.Menu = filepath.Join(dir, "orders.csv"), filepath.Join(dir, "menu.csv")
		if err := errors.Join(
			writeNew(work.Orders, restaurant.GenerateBook(c.Seed, demoOrders)),
			writeNew(work.Menu, restaurant.GenerateMenu()),
		); err != nil {
			return nil, err
		}
	}
	book, err := work.book()
	if err != nil {
		return nil, err
	}
	if c.Kill < 0 || c.Kill > len(book)/2 {
		return nil, usageError(fmt.Errorf("--kill is %d, want 0 to %d: half as many as there are orders", c.Kill, len(book)/2))
	}
	shop, err := work.open(a.ctx, nil) // what is wrong with the file is better said before a process is started
	if err != nil {
		return nil, err
	}
	return &fulfilmentDemo{
		work: work, book: book, kills: c.Kill, app: a, killed: map[string]int{}, seed: c.Seed,
		trouble: outside.Trouble{Fail: c.Fail, Silent: c.Silent, Slow: c.Slow}, restock: c.Restock,
	}, shop.Close()
}

// files are where everybody keeps his own.
func (c *fulfilmentWorkCmd) files() fulfilment.Files {
	of := func(name outside.Name) string { return filepath.Join(c.Dir, string(name)+".db") }
	return fulfilment.Files{
		Orders:    filepath.Join(c.Dir, demoFulfilmentFile),
		Warehouse: of(outside.Warehouse), Payments: of(outside.Payments), Billing: of(outside.Billing), Mail: of(outside.Mail),
	}
}

// count counts what became of the book.
func (d *fulfilmentDemo) count(ctx context.Context) (*demoFulfilmentResult, error) {
	files := d.work.files()
	eng, err := weir.Open(ctx, sqlite.File(files.Orders), weir.Config{})
	if err != nil {
		return nil, err
	}
	var orders []string
	for _, want := range d.book {
		orders = append(orders, want.Key())
	}
	n, err := fulfilment.CountAll(ctx, eng, files, orders)
	if err := errors.Join(err, eng.Close()); err != nil {
		return nil, err
	}
	return &demoFulfilmentResult{
		Orders: n.Orders, Completed: n.Completed, Waiting: n.Waiting, NeedsPerson: n.NeedsPerson,
		ChargedOnce: n.ChargedOnce, ChargedTwice: n.ChargedTwice, UnchargedCompleted: n.UnchargedCompleted,
		InvoicesDouble: n.InvoicesDouble, Omissions: n.Omissions, Kills: d.allKilled(),
		Failed: n.Failed, Refused: n.Refused, Unaccounted: n.Unaccounted, ChargedFailed: n.ChargedFailed,
		UninvoicedCompleted: n.UninvoicedCompleted, UnreservedCompleted: n.UnreservedCompleted, StockLeaked: n.StockLeaked, Unmailed: n.Unmailed, MailsLost: n.MailsLost,
		LinesLeftOut: n.LinesLeftOut, ChargesUnanswered: n.ChargesUnanswered, InvoicesRefused: n.InvoicesRefused,
		KillsOf: d.killed, Lists: append([]fulfilment.Listed{}, n.Lists...), count: n,
	}, nil
}

func (c *demoFulfilmentCmd) summary(w *tabwriter.Writer, r *demoFulfilmentResult) {
	fmt.Fprintf(w, "orders\t%d\t%d completed, %d failed, %d refused, %d need a person\n", r.Orders, r.Completed, r.Failed, r.Refused, r.NeedsPerson)
	for _, list := range []struct {
		name string
		n    int
	}{{"failed", r.Failed}, {"refused", r.Refused}, {"needs-person", r.NeedsPerson}, {"waiting", r.Waiting}, {"unaccounted", r.Unaccounted}} {
		if list.n > 0 {
			fmt.Fprintf(w, "%s\t%d\t%s\n", strings.ReplaceAll(list.name, "-", " "), list.n, first(r.count.Reasons(list.name)))
		}
	}
	fmt.Fprintf(w, "charged once\t%d\t%d of these charges were never answered, or with an error\n", r.ChargedOnce, r.ChargesUnanswered)
	fmt.Fprintf(w, "charged twice\t%d\t%d completed uncharged, %d charged in vain\n", r.ChargedTwice, r.UnchargedCompleted, r.ChargedFailed)
	fmt.Fprintf(w, "invoices double\t%d\t%d asked for again, and there they were\n", r.InvoicesDouble, r.InvoicesRefused)
	fmt.Fprintf(w, "stock leaked\t%d\t%d completed without stock\n", r.StockLeaked, r.UnreservedCompleted)
	fmt.Fprintf(w, "omissions\t%d\tmails that were given up; %d of them were not sent, %d others were lost\n", r.Omissions, r.Unmailed-r.MailsLost, r.MailsLost)
	fmt.Fprintf(w, "kills\t%d\t%s\n", r.Kills, killsText(r.KillsOf))
	fmt.Fprintf(w, "seconds\t%.1f\n", r.Seconds)
	if c.Dir == "" {
		fmt.Fprintf(w, "\nTry it with --kill 20, or with --dir DIR to look around afterwards.\n")
		return
	}
	file := filepath.Join(c.Dir, demoFulfilmentFile)
	fmt.Fprintf(w, "\nLook around:\n")
	for _, command := range []string{"status", "run ls --state failed", "run show order-1", "trace order-1"} {
		fmt.Fprintf(w, "  weir --store %s %s\n", file, command)
	}
}

// first lists the first reasons, which are the most frequent.
func first(reasons []string) string {
	more := ""
	if len(reasons) > reasonsShown {
		more = fmt.Sprintf(", and %d other reasons", len(reasons)-reasonsShown)
		reasons = reasons[:reasonsShown]
	}
	return strings.Join(reasons, ", ") + more
}
