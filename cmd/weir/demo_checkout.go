package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weir-go/weir/examples/checkout"
	"github.com/weir-go/weir/examples/checkout/contract"
	"github.com/weir-go/weir/examples/checkout/leak"
	"github.com/weir-go/weir/store/sqlite"
)

// demoCheckoutCmd is weir demo checkout.
type demoCheckoutCmd struct {
	Carts     int     `default:"300" placeholder:"N" help:"Carts that are bought, 1 to 100000 (default ${default})."`
	Customers int     `default:"40" placeholder:"N" help:"Customers, who change their names and addresses meanwhile, 1 to 10000 (default ${default})."`
	Fail      float64 `default:"0.05" help:"The share of requests to which the payment provider answers 500, half of them after having charged (default ${default})."`
	Silent    float64 `default:"0.03" help:"The share of requests on which it acts and does not answer (default ${default})."`
	demoSplit
	demoFlags
}

// demoCheckoutResult is what weir demo checkout prints with --json. What was charged is counted
// from the payment provider's own file, what became of the orders from each boundary's own table;
// the cards are searched for in all that the demo has written.
type demoCheckoutResult struct {
	Orders       int     `json:"orders"`
	ChargedOnce  int     `json:"charged_once"`
	ChargedTwice int     `json:"charged_twice"`
	Declined     int     `json:"declined"`
	GreetedStale int     `json:"greeted_stale"`
	ReplicaEqual bool    `json:"replica_equal"`
	CardsLeaked  int     `json:"cards_leaked"`
	Kills        int     `json:"kills"`
	Seconds      float64 `json:"seconds"`

	Paid            int            `json:"paid"`
	Unpaid          int            `json:"unpaid"`
	NeedsPerson     int            `json:"needs_person"`
	Open            int            `json:"open"`
	PaidInVain      int            `json:"paid_in_vain"`
	Uncharged       int            `json:"uncharged"`
	Disagreed       int            `json:"disagreed"`
	Miscounted      int            `json:"miscounted"`
	CustomerChanges int            `json:"customer_changes"`
	CardsInVault    int            `json:"cards_in_vault"`
	Processes       int            `json:"processes"`
	Brokers         int            `json:"brokers"`
	KillsBroker     int            `json:"kills_broker"`
	WipesBroker     int            `json:"wipes_broker"`
	KillsOf         map[string]int `json:"kills_of"`
	Leaks           []string       `json:"leaks"`

	demoRunResult

	wrong bool
}

// What the demo makes in its directory, beside the stores and the broker's folder.
const (
	checkoutFile    = "shop.db" // of all boundaries in one process
	checkoutVault   = "vault.db"
	checkoutTraffic = "traffic.txt"
	checkoutSchema  = "weir_demo_checkout"

	cartsMost     = 100_000
	customersMost = 10_000
)

// check refuses flags that cannot be meant.
func (c *demoCheckoutCmd) check(a *app) error {
	switch {
	case c.Carts < 1 || c.Carts > cartsMost:
		return fmt.Errorf("--carts is %d, want 1 to %d", c.Carts, cartsMost)
	case c.Customers < 1 || c.Customers > customersMost:
		return fmt.Errorf("--customers is %d, want 1 to %d", c.Customers, customersMost)
	case c.Workers != 1:
		return fmt.Errorf("--workers is %d, but each boundary of this demo has one process", c.Workers)
	case c.Processes && a.given("schema"):
		return errors.New("--schema names one, but with --processes each boundary has a schema of its own")
	}
	for flag, share := range map[string]float64{"--fail": c.Fail, "--silent": c.Silent} {
		if !(share >= 0 && share <= demoShareMost) {
			return fmt.Errorf("%s is %v, want 0 to %v", flag, share, demoShareMost)
		}
	}
	if err := errors.Join(c.demoSplit.check(), c.demoFlags.check(a)); err != nil {
		return err
	}
	return c.checkKills(c.Carts, c.demoSplit.kills())
}

// Run has all carts bought, and counts.
func (c *demoCheckoutCmd) Run(a *app) (err error) {
	if err := c.check(a); err != nil {
		return usageError(err)
	}
	main := checkoutFile
	if c.Processes {
		main = contract.Ordering + ".db"
	}
	dir, remove, err := demoDirectory(c.Dir, main)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	d, err := c.prepare(a, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	started := time.Now()
	if err := d.act(a.ctx); err != nil {
		return err
	}
	r, err := d.count(a.ctx)
	if err != nil {
		return err
	}
	r.Seconds = float64(time.Since(started).Milliseconds()) / 1000
	if err := a.print(r, func(w *tabwriter.Writer) { c.summary(w, r, d) }); err != nil {
		return err
	}
	if r.wrong {
		return errWrong
	}
	return nil
}

// count counts what became of the carts, and searches for the cards.
func (d *checkoutDemo) count(ctx context.Context) (*demoCheckoutResult, error) {
	n, err := checkout.CountAll(ctx, checkout.Places{Stores: d.stores, Provider: d.providerFile()})
	if err != nil {
		return nil, err
	}
	r := &demoCheckoutResult{
		Orders: n.Orders, ChargedOnce: n.ChargedOnce, ChargedTwice: n.ChargedTwice, Declined: n.Declined,
		GreetedStale: n.GreetedStale, ReplicaEqual: d.equal, Kills: d.kills[ofProcesses].done,
		Paid: n.Paid, Unpaid: n.Unpaid, NeedsPerson: n.NeedsPerson, Open: n.Open, PaidInVain: n.PaidInVain,
		Uncharged: n.Uncharged, Disagreed: n.Disagreed, Miscounted: n.Miscounted, CustomerChanges: d.now.Changes,
		Processes: len(d.workers), Brokers: len(d.brokers), KillsBroker: d.kills[ofBrokers].done, WipesBroker: d.kills[ofBrokersData].done, KillsOf: d.killed, demoRunResult: d.result(),
	}
	found, inVault, err := d.searchCards(ctx)
	if err != nil {
		return nil, err
	}
	r.CardsLeaked, r.CardsInVault, r.Leaks = leak.Times(found), inVault, []string{}
	for _, f := range found {
		r.Leaks = append(r.Leaks, f.String())
	}
	// A vault without cards would mean that what is searched for is not what the cards are.
	r.wrong = n.Wrong() || n.Orders != d.orders || !d.equal || r.CardsLeaked > 0 || inVault < n.Paid
	return r, nil
}

// searchCards searches all files of the demo, and all tables, for what only payment's vault and the payment
// provider may have. inVault is how many cards are in the vault.
func (d *checkoutDemo) searchCards(ctx context.Context) (found []leak.Find, inVault int, err error) {
	look, err := leak.For(checkout.CardMark)
	if err != nil {
		return nil, 0, err
	}
	mayHave := func(path string) bool {
		name := filepath.Base(path)
		return filepath.Dir(path) == d.dir && (strings.HasPrefix(name, checkoutVault) || strings.HasPrefix(name, filepath.Base(d.providerFile())))
	}
	found, _, err = look.Files(d.dir, mayHave)
	if err != nil {
		return nil, 0, err
	}
	if inVault, err = d.cardsInVault(ctx, look); err != nil {
		return nil, 0, err
	}
	if d.place.server != nil {
		some, _, err := look.Files(d.place.server.Host(), nil)
		if err != nil {
			return nil, 0, err
		}
		found = append(found, some...)
	}
	tables := leak.TablesSQLite
	if d.place.kind() == demoPostgres {
		tables = leak.TablesPostgres
	}
	for _, part := range d.parts {
		some, _, err := look.Tables(ctx, part.name(), d.stores[part.owns[0]], tables)
		if err != nil {
			return nil, 0, err
		}
		found = append(found, some...)
	}
	return found, inVault, nil
}

// cardsInVault counts the cards where they belong.
func (d *checkoutDemo) cardsInVault(ctx context.Context, look *leak.Search) (n int, err error) {
	vault, err := sqlite.OpenDB(filepath.Join(d.dir, checkoutVault))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, vault.Close()) }()
	found, _, err := look.Tables(ctx, "vault", vault, leak.TablesSQLite)
	return leak.Times(found), err
}

func (c *demoCheckoutCmd) summary(w *tabwriter.Writer, r *demoCheckoutResult, d *checkoutDemo) {
	fmt.Fprintf(w, "orders\t%d\t%d paid, %d not paid: %d cards were declined, the others' shoppers gave none; %d are open, %d need a person\n",
		r.Orders, r.Paid, r.Unpaid, r.Declined, r.Open, r.NeedsPerson)
	fmt.Fprintf(w, "charged once\t%d\n", r.ChargedOnce)
	fmt.Fprintf(w, "charged twice\t%d\t%d charged in vain, %d paid without a charge, %d of which the boundaries say different things\n",
		r.ChargedTwice, r.PaidInVain, r.Uncharged, r.Disagreed)
	equal := "ordering knows all customers as they are"
	if !r.ReplicaEqual {
		equal = "ordering does NOT know all customers as they are"
	}
	fmt.Fprintf(w, "greeted stale\t%d\tafter %d changes of %d customers %s\n", r.GreetedStale, r.CustomerChanges, c.Customers, equal)
	fmt.Fprintf(w, "miscounted\t%d\tcustomers of whom not all orders were counted, or one twice\n", r.Miscounted)
	fmt.Fprintf(w, "cards leaked\t%d\tin files, logs, tables, the broker's data and requests; %d are in payment's vault\n", r.CardsLeaked, r.CardsInVault)
	for _, where := range r.Leaks {
		fmt.Fprintf(w, "\t\t%s\n", where)
	}
	fmt.Fprintf(w, "kills\t%d\t%s\n", r.Kills, strings.TrimSpace(killsText(r.KillsOf)+" "+r.text()))
	if r.Brokers > 0 {
		fmt.Fprintf(w, "brokers\t%d\t%d times one was killed, %d times all lost what they had\n", r.Brokers, r.KillsBroker, r.WipesBroker)
	}
	fmt.Fprintf(w, "seconds\t%.1f\n", r.Seconds)
	said := ""
	for _, part := range d.parts {
		text := part.place.lookAround(c.Dir != "", "status", "trace cart-1", "run ls")
		if text != said { // of what is not kept the same is said
			fmt.Fprint(w, "\n", text)
		}
		said = text
	}
}

// traffic opens the file in which the shoppers' requests are kept, but those that bring payment a card.
func (c *demoCheckoutCmd) traffic(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, checkoutTraffic), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}
