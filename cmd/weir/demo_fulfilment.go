package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weir-go/weir/examples/fulfilment"
	"github.com/weir-go/weir/examples/fulfilment/outside"
	"github.com/weir-go/weir/examples/restaurant"
)

// demoFulfilmentCmd is weir demo fulfilment.
type demoFulfilmentCmd struct {
	Orders  string        `placeholder:"FILE" help:"Order book: CSV with order_details_id, order_id, order_date, order_time, item_id. Default: one is made up."`
	Menu    string        `placeholder:"FILE" help:"Its menu: CSV with menu_item_id, item_name. Default: any number is a dish."`
	Fail    float64       `default:"0.05" help:"The share of requests to which the outside systems answer 500, half of them after having acted; of mails six times as many."`
	Silent  float64       `default:"0.03" help:"The share of requests on which they act and do not answer."`
	Slow    float64       `default:"0.1" help:"The share of requests that they begin late, by up to 0.3 s."`
	Restock time.Duration `default:"3s" help:"Time from one delivery of dishes that are out of stock to the next, 0.1 to 60 s."`
	demoFlags
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
	InvoicedFailed      int                 `json:"invoiced_failed"`
	UnreservedCompleted int                 `json:"unreserved_completed"`
	StockLeaked         int                 `json:"stock_leaked"`
	Unmailed            int                 `json:"unmailed"`
	MailsLost           int                 `json:"mails_lost"`
	LinesLeftOut        int                 `json:"lines_left_out"`
	ChargesUnanswered   int                 `json:"charges_unanswered"`
	ChargesRefunded     int                 `json:"charges_refunded"`
	InvoicesRefused     int                 `json:"invoices_refused"`
	KillsOf             map[string]int      `json:"kills_of"`
	Lists               []fulfilment.Listed `json:"lists"`

	demoRunResult

	count *fulfilment.Count
}

const (
	demoFulfilmentFile   = "orders.db"
	demoFulfilmentSchema = "weir_demo_fulfilment"
	demoMailFails        = 6    // times as often as the others
	demoDeclined         = 0.02 // of the cards
	demoShareMost        = 0.5  // of --fail, --silent and --slow
)

// Run fulfils the order book to its end and counts.
func (c *demoFulfilmentCmd) Run(a *app) (err error) {
	if err := c.check(a); err != nil {
		return usageError(err)
	}
	dir, remove, err := demoDirectory(c.Dir, demoFulfilmentFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	p, err := c.place(a, dir, demoFulfilmentFile, demoFulfilmentSchema, c.Workers)
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
	if r.count.Wrong() {
		return errWrong
	}
	return nil
}

// check refuses flags that cannot be meant.
func (c *demoFulfilmentCmd) check(a *app) error {
	if c.Menu != "" && c.Orders == "" {
		return errors.New("--menu goes with --orders: a made-up book has a menu of its own")
	}
	for flag, share := range map[string]float64{"--fail": c.Fail, "--silent": c.Silent, "--slow": c.Slow} {
		if !(share >= 0 && share <= demoShareMost) {
			return fmt.Errorf("%s is %v, want 0 to %v", flag, share, demoShareMost)
		}
	}
	if c.Restock < 100*time.Millisecond || c.Restock > time.Minute {
		return fmt.Errorf("--restock is %v, want 100ms to 1m", c.Restock)
	}
	return c.demoFlags.check(a)
}

// prepare reads the order book, making one up if there is none, and makes the store.
func (c *demoFulfilmentCmd) prepare(a *app, p *demoPlace, dir string) (_ *fulfilmentDemo, err error) {
	d := &fulfilmentDemo{
		stage: newStage(a, p, c.demoFlags), address: map[outside.Name]string{},
		trouble: outside.Trouble{Fail: c.Fail, Silent: c.Silent, Slow: c.Slow}, restock: c.Restock,
	}
	d.work = fulfilmentWorkCmd{Dir: dir, Orders: c.Orders, Menu: c.Menu, Workers: c.Workers}
	if c.Orders == "" {
		d.work.Orders, d.work.Menu = filepath.Join(dir, "orders.csv"), filepath.Join(dir, "menu.csv")
		if err := errors.Join(
			writeNew(d.work.Orders, restaurant.GenerateBook(c.Seed, demoOrders)),
			writeNew(d.work.Menu, restaurant.GenerateMenu()),
		); err != nil {
			return nil, err
		}
	}
	if d.book, err = d.work.book(); err != nil {
		return nil, err
	}
	if err := c.checkKills(len(d.book), 0); err != nil {
		return nil, err
	}
	db, err := p.open()
	if err != nil {
		return nil, err
	}
	// What is wrong with the menu or the store is better said before a process is started.
	shop, err := d.work.open(a.ctx, db, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	d.orders, d.effort, d.look = len(d.book), 1, d.lookAt
	return d, errors.Join(shop.Close(), db.Close(), d.castAll())
}

// files are where the outside systems keep their own.
func (c *fulfilmentWorkCmd) files() fulfilment.Files {
	of := func(name outside.Name) string { return filepath.Join(c.Dir, string(name)+".db") }
	return fulfilment.Files{Warehouse: of(outside.Warehouse), Payments: of(outside.Payments), Billing: of(outside.Billing), Mail: of(outside.Mail)}
}

// count counts what became of the book.
func (d *fulfilmentDemo) count(ctx context.Context) (_ *demoFulfilmentResult, err error) {
	db, err := d.place.open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var orders []string
	for _, want := range d.book {
		orders = append(orders, want.Key())
	}
	n, err := fulfilment.CountAll(ctx, db, d.work.files(), orders)
	if err != nil {
		return nil, err
	}
	return &demoFulfilmentResult{
		Orders: n.Orders, Completed: n.Completed, Waiting: n.Waiting, NeedsPerson: n.NeedsPerson,
		ChargedOnce: n.ChargedOnce, ChargedTwice: n.ChargedTwice, UnchargedCompleted: n.UnchargedCompleted,
		InvoicesDouble: n.InvoicesDouble, Omissions: n.Omissions, Kills: d.kills[ofProcesses].done,
		Failed: n.Failed, Refused: n.Refused, Unaccounted: n.Unaccounted, ChargedFailed: n.ChargedFailed,
		UninvoicedCompleted: n.UninvoicedCompleted, UnreservedCompleted: n.UnreservedCompleted, StockLeaked: n.StockLeaked, Unmailed: n.Unmailed, MailsLost: n.MailsLost,
		InvoicedFailed: n.InvoicedFailed, ChargesRefunded: n.ChargesRefunded,
		LinesLeftOut: n.LinesLeftOut, ChargesUnanswered: n.ChargesUnanswered, InvoicesRefused: n.InvoicesRefused,
		KillsOf: d.killed, Lists: append([]fulfilment.Listed{}, n.Lists...), count: n,
		demoRunResult: d.result(),
	}, nil
}

func (c *demoFulfilmentCmd) summary(w *tabwriter.Writer, r *demoFulfilmentResult, p *demoPlace) {
	fmt.Fprintf(w, "orders\t%d\t%d completed, %d failed, %d refused, %d need a person\n", r.Orders, r.Completed, r.Failed, r.Refused, r.NeedsPerson)
	for _, list := range []struct {
		name string
		n    int
	}{{"failed", r.Failed}, {"refused", r.Refused}, {"needs-person", r.NeedsPerson}, {"waiting", r.Waiting}, {"unaccounted", r.Unaccounted}} {
		if list.n > 0 {
			fmt.Fprintf(w, "%s\t%d\t%s\n", strings.ReplaceAll(list.name, "-", " "), list.n, first(r.count.Reasons(list.name)))
		}
	}
	fmt.Fprintf(w, "charged once\t%d\t%d of these charges were never answered, or with an error; %d were given back\n", r.ChargedOnce, r.ChargesUnanswered, r.ChargesRefunded)
	fmt.Fprintf(w, "charged twice\t%d\t%d completed uncharged, %d charged in vain\n", r.ChargedTwice, r.UnchargedCompleted, r.ChargedFailed)
	fmt.Fprintf(w, "invoices double\t%d\t%d asked for again, and there they were; %d in vain\n", r.InvoicesDouble, r.InvoicesRefused, r.InvoicedFailed)
	fmt.Fprintf(w, "stock leaked\t%d\t%d completed without stock\n", r.StockLeaked, r.UnreservedCompleted)
	fmt.Fprintf(w, "omissions\t%d\tmails that were given up; %d of them were not sent, %d others were lost\n", r.Omissions, r.Unmailed-r.MailsLost, r.MailsLost)
	fmt.Fprintf(w, "kills\t%d\t%s\n", r.Kills, strings.TrimSpace(killsText(r.KillsOf)+" "+r.text()))
	fmt.Fprintf(w, "seconds\t%.1f\n", r.Seconds)
	fmt.Fprint(w, "\n", p.lookAround(c.Dir != "", "status", "run ls --state failed", "run show order-1", "trace order-1"))
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
