package fulfilment_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/examples/fulfilment"
	"github.com/weir-go/weir/examples/fulfilment/outside"
	"github.com/weir-go/weir/store/sqlite"
)

// aBook is orders of one to three dishes of ten; every tenth has a bad line, every
// twentieth nothing else.
func aBook(orders int) (book []fulfilment.Want) {
	row := 1
	for n := range orders {
		w := fulfilment.Want{ID: int64(n + 1)}
		for line := range 1 + n%3 {
			row++
			item := fmt.Sprint(101 + (n*7+line*3)%10)
			if n%10 == 9 && line == 1 || n%20 == 19 {
				item = "NULL"
			}
			w.Lines = append(w.Lines, fulfilment.WantLine{Row: row, Item: item})
		}
		book = append(book, w)
	}
	return book
}

// keys are the orders' IDs.
func keys(book []fulfilment.Want) (ids []string) {
	for _, w := range book {
		ids = append(ids, w.Key())
	}
	return ids
}

func openDatabase(t *testing.T, w world) *database.Database {
	t.Helper()
	db, err := database.File(w.orders)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func openShop(t *testing.T, w world) *fulfilment.Shop {
	t.Helper()
	s, err := fulfilment.Open(t.Context(), fulfilment.Config{Database: openDatabase(t, w), Addresses: w.addresses, AttemptMax: w.patience, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// patience guards against hanging, and against nothing else.
const patience = 5 * time.Minute

// workAll works a book to its end.
func workAll(t *testing.T, w world, book []fulfilment.Want) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := openShop(t, w)
	if err := errors.Join(s.Work(ctx, book, upTo(len(book))), s.Close()); err != nil {
		t.Fatalf("Work = %v, want nil", err)
	}
}

func upTo(n int) <-chan int {
	c := make(chan int, 1)
	c <- n
	return c
}

func countAll(t *testing.T, w world, book []fulfilment.Want) *fulfilment.Count {
	t.Helper()
	c, err := fulfilment.CountAll(t.Context(), openDatabase(t, w), w.files, keys(book))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func openEngine(t *testing.T, file string) *weir.Engine {
	t.Helper()
	eng, err := weir.Open(t.Context(), sqlite.File(file), weir.Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = eng.Close() })
	return eng
}

// Without trouble every order with a good line is fulfilled, and nothing is done in vain.
func TestFulfilTheBook(t *testing.T) {
	book := aBook(100)
	w := openWorld(t, t.TempDir(), outside.Config{Restock: 300 * time.Millisecond, Patience: unhurried})
	workAll(t, w, book)
	c := countAll(t, w, book)
	if c.Wrong() || c.Completed != 95 || c.Refused != 5 || c.ChargedOnce != 95 || c.LinesLeftOut != 12 || c.Omissions != 0 ||
		c.ChargesUnanswered != 0 || c.InvoicesRefused != 0 || len(c.Lists) != 5 {
		t.Errorf("CountAll = %+v, want 95 of 100 completed, 5 refused, nothing wrong or in vain", c)
	}
	if l := c.Lists[0]; l != (fulfilment.Listed{Order: "order-20", List: "refused", Reason: "no line of it can be fulfilled: no item"}) {
		t.Errorf("the first listed order is %+v", l)
	}
	checkStory(t, w)
	workAll(t, w, book) // all is there: nothing is done again
	if again := countAll(t, w, book); again.Completed != 95 || again.Wrong() || again.InvoicesRefused != 0 {
		t.Errorf("worked again: %+v, want what there was", again)
	}
}

// checkStory: a run tells what it did, step by step.
func checkStory(t *testing.T, w world) {
	t.Helper()
	story, err := openEngine(t, w.orders).RunStory(t.Context(), "", "order-1")
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, r := range story.Records {
		if r.Kind.String() != "note" {
			steps = append(steps, r.Name+" "+r.State.String())
		}
	}
	want := "stock-available[item 101] done, reserve-stock done, charge-card done, create-invoice done, send-mail done, close-order done"
	if got := strings.Join(steps, ", "); got != want || !strings.Contains(string(story.Result), `"charge":"ch-`) {
		t.Errorf("order-1: %s, result %s\nwant %s", got, story.Result, want)
	}
}

// A declined card fails its order, with the reason, and gives the stock back.
func TestDeclinedOrders(t *testing.T) {
	book := aBook(60)
	w := openWorld(t, t.TempDir(), outside.Config{Declined: 0.5, Restock: 300 * time.Millisecond, Patience: unhurried})
	workAll(t, w, book)
	c := countAll(t, w, book)
	if c.Wrong() || c.Failed < 15 || c.Failed > 42 || c.Completed+c.Failed != 57 || c.ChargedOnce != c.Completed || c.Declines != c.Failed {
		t.Errorf("CountAll = %+v, want about half of 57 failed, and nothing wrong", c)
	}
	i := slices.IndexFunc(c.Lists, func(l fulfilment.Listed) bool { return l.List == "failed" })
	if i < 0 || !strings.Contains(c.Lists[i].Reason, "the card is declined") {
		t.Errorf("the list has no order with a declined card: %+v", c.Lists)
	}
}

// Trouble of all kinds delays orders, and does nothing twice.
func TestTrouble(t *testing.T) {
	book := aBook(60)
	w := openWorld(t, t.TempDir(), outside.Config{
		Seed: 3, Declined: 0.05, Restock: 300 * time.Millisecond,
		Trouble: outside.Trouble{Fail: 0.2, Silent: 0.1, Slow: 0.2, SlowMax: 50 * time.Millisecond},
	})
	workAll(t, w, book)
	c := countAll(t, w, book)
	if c.Wrong() || c.NeedsPerson > 0 || c.Completed+c.Failed != 57 || c.ChargesUnanswered == 0 || c.InvoicesRefused == 0 {
		t.Errorf("CountAll = %+v, want 57 completed or failed, nothing wrong, and some charges not answered", c)
	}
}

// A shop that is stopped in the middle is followed by one that takes up where it ended.
func TestWorkInShifts(t *testing.T) {
	book := aBook(60)
	w := openWorld(t, t.TempDir(), outside.Config{Restock: 300 * time.Millisecond, Trouble: outside.Trouble{Slow: 0.9, SlowMax: 20 * time.Millisecond}})
	first := openShop(t, w)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- first.Work(ctx, book, upTo(30)) }()
	db := openDatabase(t, w)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		p, err := fulfilment.Look(t.Context(), db)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("after %v the shop says %+v, %v", patience, p, err)
		}
		if p.Taken == 30 && p.Open < 20 {
			break
		}
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Work, stopped = %v, want context.Canceled", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	workAll(t, w, book)
	if c := countAll(t, w, book); c.Wrong() || c.Completed != 57 {
		t.Errorf("CountAll = %+v, want 57 completed and nothing wrong", c)
	}
}

// A charge that somebody has made by hand, beside the engine, is found.
func TestCountFindsADoubleCharge(t *testing.T) {
	book := aBook(5)
	w := openWorld(t, t.TempDir(), outside.Config{})
	workAll(t, w, book)
	if _, err := connect(t, w.addresses).Payments.Charge(t.Context(), "by hand", fulfilment.Order{ID: "order-3", Card: "card-0003", Items: soup.Items}); err != nil {
		t.Fatal(err)
	}
	if c := countAll(t, w, book); !c.Wrong() || c.ChargedTwice != 1 || c.ChargedOnce != 4 || c.Completed != 5 {
		t.Errorf("CountAll = %+v, want 1 charged twice and 4 once", c)
	}
}
