package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weir-go/weir/examples/checkout"
	"github.com/weir-go/weir/store/postgres/pgtest"
)

// The shop, as real processes that are really killed: in one, and in three that meet over a broker.
func TestDemoCheckout(t *testing.T) {
	t.Parallel()
	weir := builtWeir(t)
	for name, c := range map[string]struct {
		args      []string
		processes int
		brokers   int
	}{
		"one process":     {nil, 1, 0},
		"three processes": {[]string{"--processes", "--kill-broker", "1"}, 3, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "kept")
			args := slices.Concat([]string{"demo", "checkout", "--json", "--carts", "60", "--customers", "10", "--kill", "3", "--silent", "0", "--fail", "0.02", "--dir", dir}, c.args)
			cmd := exec.CommandContext(t.Context(), weir, args...)
			var out, progress bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &progress
			if err := cmd.Run(); err != nil {
				t.Fatalf("weir %v: %v\n%s%s", args, err, &progress, &out)
			}
			var got demoCheckoutResult
			if err := json.Unmarshal(out.Bytes(), &got); err != nil {
				t.Fatalf("%q: %v", &out, err)
			}
			if got.Orders != 60 || got.ChargedOnce != got.Paid || got.ChargedTwice != 0 || got.Paid+got.Unpaid != 60 || got.Declined > got.Unpaid ||
				got.GreetedStale != 0 || !got.ReplicaEqual || got.CardsLeaked != 0 || got.CardsInVault < got.Paid || got.Kills != 3 ||
				got.Processes != c.processes || got.Brokers != c.brokers || got.KillsBroker != c.brokers || got.Seconds <= 0 {
				t.Errorf("weir %v = %+v, want 60 orders, each charged once or not paid, 3 kills, and no card anywhere", args, got)
			}
			if said := progress.String() + out.String(); strings.Contains(said, checkout.CardMark) {
				t.Errorf("the demo shows cards:\n%s", said)
			}
			checkCards(t, dir)
			checkFigures(t, dir)
		})
	}
}

// checkCards searches what the demo has kept, with other eyes than its own.
func checkCards(t *testing.T, dir string) {
	t.Helper()
	has := map[string]int{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if n := bytes.Count(text, []byte(checkout.CardMark)); n > 0 {
			has[filepath.Base(path)] += n
		}
		return err
	})
	for _, may := range []string{"vault.db", "payments.db"} {
		if has[may] == 0 && has[may+"-wal"] == 0 {
			t.Errorf("%s has no card", may)
		}
		for _, file := range []string{may, may + "-wal"} {
			delete(has, file)
		}
	}
	if err != nil || len(has) > 0 {
		t.Errorf("these files have cards: %v, %v", has, err)
	}
}

// checkFigures looks for cards in what weir tells people of the stores.
func checkFigures(t *testing.T, dir string) {
	t.Helper()
	stores, err := filepath.Glob(filepath.Join(dir, "*.db"))
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, store := range stores {
		for _, verb := range []string{"status", "doctor", "queue ls", "boundary ls", "replica ls", "message ls", "dead ls", "audit ls", "run ls", "run show cart-1", "trace cart-1"} {
			var out, said bytes.Buffer
			if run(t.Context(), append([]string{"--store", store, "--json"}, strings.Fields(verb)...), streams{strings.NewReader(""), &out, &said}) == exitOK {
				told++
			}
			if strings.Contains(out.String()+said.String(), checkout.CardMark) {
				t.Errorf("weir --store %s %s shows a card:\n%s%s", store, verb, &out, &said)
			}
		}
	}
	if ordering := filepath.Join(dir, "ordering.db"); slices.Contains(stores, ordering) {
		trace := cmdline(t, exitOK, "", "--store", ordering, "trace", "cart-1").out
		if n := strings.Count(trace, " payment.charge-cart.reply "); n != 1 {
			t.Errorf("weir trace cart-1 tells %d times of the reply that came from another store, want once:\n%s", n, trace)
		}
	}
	if told < 10 {
		t.Errorf("only %d questions about %v were answered", told, stores)
	}
}

// The demo's own search finds a card that is put anywhere: a file that nobody should have written, and a table.
func TestDemoCheckoutFindsLeaks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := &app{ctx: t.Context(), err: &bytes.Buffer{}, given: func(string) bool { return false }}
	got := plantCards(t, a, dir, demoCheckoutCmd{Carts: 1, Customers: 1, demoFlags: demoFlags{Workers: 1, Seed: 1}})
	if want := []string{"payment.log", "shop ordering_orders", "shop.db-wal"}; !slices.Equal(got, want) {
		t.Errorf("cards are found in %v, want %v", got, want)
	}
}

// So it does on a server: in the table, in its file or the log of writes, and in the one process's file.
func TestDemoCheckoutFindsLeaksOnServer(t *testing.T) {
	t.Parallel()
	pgtest.ForTest(t) // skips where there are no binaries
	a := &app{ctx: t.Context(), err: &bytes.Buffer{}, store: throwAway, given: func(flag string) bool { return flag == "store" }}
	c := demoCheckoutCmd{Carts: 1, Customers: 1, demoFlags: demoFlags{Workers: 1, Seed: 1}}
	c.Processes = true
	got := plantCards(t, a, t.TempDir(), c)
	if len(got) < 3 || !slices.Contains(got, "payment.log") || !slices.Contains(got, "ordering ordering_orders") {
		t.Errorf("cards are found in %v, want in payment.log, the table ordering_orders, and the server's files", got)
	}
}

// plantCards plants cards in what a demo has prepared, and gives where its search finds them.
func plantCards(t *testing.T, a *app, dir string, c demoCheckoutCmd) (where []string) {
	t.Helper()
	d, err := c.prepare(a, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}()
	if found, _, err := d.searchCards(t.Context()); err != nil || len(found) != 0 {
		t.Fatalf("before anything happened cards are found: %v, %v", found, err)
	}
	card := checkout.CardNumber(1)
	if _, err := d.stores["ordering"].ExecContext(t.Context(), `insert into ordering_orders (cart, customer, cents, greeting, greeted, seen, state)
		values ('cart-1', 'customer-1', 1, $1, 1, 0, 'open')`, "Card "+card); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"payment.log", "payments.db-wal"} { // in the second it may be
		if err := os.WriteFile(filepath.Join(dir, file), []byte(card), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, _, err := d.searchCards(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		where = append(where, filepath.Base(f.Where))
	}
	slices.Sort(where)
	return where
}

func TestDemoCheckoutRefuses(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--carts", "0"}, "--carts is 0, want 1 to 100000"},
		{[]string{"--customers", "10001"}, "--customers is 10001, want 1 to 10000"},
		{[]string{"--workers", "2", "--store", "postgres"}, "each boundary of this demo has one process"},
		{[]string{"--processes", "--schema", "shop", "--store", "postgres"}, "each boundary has a schema of its own"},
		{[]string{"--kill-broker", "1"}, "go with --processes"},
		{[]string{"--fail", "0.6"}, "--fail is 0.6, want 0 to 0.5"},
		{[]string{"--carts", "10", "--kill", "6"}, "--kill is 6, want 0 to 5"},
	} {
		var out, said bytes.Buffer
		code := run(t.Context(), append([]string{"demo", "checkout"}, c.args...), streams{strings.NewReader(""), &out, &said})
		if code != exitUsage || !strings.Contains(said.String(), c.want) {
			t.Errorf("weir demo checkout %v = %d, %q, want %d, %q", c.args, code, said.String(), exitUsage, c.want)
		}
	}
}

// The shop on a server, which is killed, too.
func TestDemoCheckoutSurvivesTheDatabase(t *testing.T) {
	t.Parallel()
	var got demoCheckoutResult
	onOwnServer(t, &got, "checkout", "--processes", "--carts", "40", "--customers", "10", "--kill", "1", "--kill-db", "1", "--silent", "0", "--fail", "0.02")
	if got.Orders != 40 || got.ChargedOnce != got.Paid || got.Paid+got.Unpaid != 40 || got.ChargedTwice+got.GreetedStale+got.CardsLeaked != 0 || !got.ReplicaEqual ||
		got.Store != "postgres" || got.Processes != 3 || got.Kills != 1 || got.KillsDB != 1 {
		t.Errorf("weir demo checkout = %+v, want 40 orders, each charged once or not paid, by 3 processes on postgres, and no card anywhere", got)
	}
}
