package restaurant_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/examples/restaurant"
	"github.com/weir-go/weir/store/sqlite"
)

func TestWorkTheBook(t *testing.T) {
	book, menu := generated(t, 1, 300)
	file := filepath.Join(t.TempDir(), "restaurant.db")
	r := openRestaurant(t, file, menu)
	workAll(t, r, book)
	wantCount(t, file, book, menu)
	eng := openEngine(t, file)
	checkDead(t, eng, book, menu)
	checkStory(t, eng, book, menu)
}

// A process that is stopped, or killed, in the middle is followed by one that takes
// up where it ended, and one that finds nothing to do.
func TestWorkInShifts(t *testing.T) {
	book, menu := generated(t, 2, 60)
	file := filepath.Join(t.TempDir(), "restaurant.db")
	first := openRestaurant(t, file, menu)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- first.Work(ctx, book, upTo(25)) }()
	await(t, file, func(c restaurant.Count) bool { return c.Orders == 25 && c.Open < 25 })
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("Work, stopped = %v, want context.Canceled", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if c := count(t, file); c.Orders != 25 {
		t.Errorf("a shift of 25 orders took %d", c.Orders)
	}
	for range 2 {
		r := openRestaurant(t, file, menu)
		workAll(t, r, book)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		wantCount(t, file, book, menu)
	}
}

// Taking an order again does nothing: neither rows nor messages.
func TestTakeTwice(t *testing.T) {
	book, menu := generated(t, 3, 10)
	file := filepath.Join(t.TempDir(), "restaurant.db")
	r := openRestaurant(t, file, menu)
	for range 3 {
		for _, o := range book.Orders {
			if err := r.Staff.Take(t.Context(), o); err != nil {
				t.Fatalf("Take(order %d) = %v, want nil", o.ID, err)
			}
		}
	}
	messages, err := openEngine(t, file).Messages(t.Context(), weir.MessageQuery{Max: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if c := count(t, file); c.Orders != len(book.Orders) || c.Lines != book.Lines || len(messages) != book.Lines {
		t.Errorf("taken thrice: %d orders, %d lines, %d messages, want %d, %d, %d",
			c.Orders, c.Lines, len(messages), len(book.Orders), book.Lines, book.Lines)
	}
}

// A full kitchen refuses an order whole, and the wait staff takes it when there is room.
func TestFullKitchen(t *testing.T) {
	book, menu := generated(t, 4, 1)
	file := filepath.Join(t.TempDir(), "restaurant.db")
	r := openRestaurant(t, file, menu)
	workAll(t, r, book)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	const fill = 100 // orders of 10 lines fill the kitchen's 1,000 places
	for id := range int64(fill + 1) {
		o := restaurant.Order{ID: 100 + id, TakenAt: time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC)}
		for line := range int64(10) {
			o.Lines = append(o.Lines, restaurant.Line{ID: o.ID*1000 + line, Row: 1, Item: "101"})
		}
		book.Orders, book.Lines = append(book.Orders, o), book.Lines+len(o.Lines)
	}
	eng := openEngine(t, file)
	because := weir.Because{By: "chef", Why: "the stove is being mended"}
	if err := eng.PauseQueue(t.Context(), restaurant.PrepareFood.Name(), because); err != nil {
		t.Fatal(err)
	}
	r = openRestaurant(t, file, menu)
	ended := make(chan error, 1)
	go func() { ended <- r.Work(t.Context(), book, upTo(len(book.Orders))) }()
	await(t, file, func(c restaurant.Count) bool { return c.Orders == 1+fill })
	full, ok := errors.AsType[*weir.FullError](r.Staff.Take(t.Context(), book.Orders[1+fill]))
	if !ok || full.Depth != 1000 || full.Capacity != 1000 {
		t.Errorf("Take with a full kitchen = %v, want a FullError with depth 1000 of 1000", full)
	}
	if c := count(t, file); c.Orders != 1+fill || c.Lines != book.Lines-10 {
		t.Errorf("a refused order left rows: %d orders, %d lines", c.Orders, c.Lines)
	}
	if err := eng.ResumeQueue(t.Context(), restaurant.PrepareFood.Name(), because); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatalf("Work = %v, want nil", err)
	}
	wantCount(t, file, book, menu)
}

// A plate that nobody has ordered is not served: it goes to the dead letters.
func TestPlateForNobody(t *testing.T) {
	book, menu := generated(t, 6, 5)
	file := filepath.Join(t.TempDir(), "restaurant.db")
	kitchen, err := weir.Open(t.Context(), sqlite.File(file), weir.Config{Owns: []string{"kitchen"}})
	if err != nil {
		t.Fatal(err)
	}
	plate := restaurant.Plate{Order: 1, Line: 999, Dish: "Lentil Stew"}
	if err := errors.Join(weir.Publish(t.Context(), kitchen, restaurant.FoodReady, plate), kitchen.Close()); err != nil {
		t.Fatal(err)
	}
	workAll(t, openRestaurant(t, file, menu), book)
	wantCount(t, file, book, menu)
	dead, err := openEngine(t, file).Dead(t.Context(), weir.DeadQuery{Queue: "wait-staff.serve-food"})
	if err != nil || len(dead) != 1 || !strings.HasSuffix(dead[0].Reason, "line 999 of order 1 was never taken") {
		t.Errorf("Dead = %+v, %v, want one: line 999 of order 1 was never taken", dead, err)
	}
}

// checkDead: the bad lines are the dead letters, each with its reason.
func checkDead(t *testing.T, eng *weir.Engine, book restaurant.Book, menu restaurant.Menu) {
	t.Helper()
	dead, err := eng.Dead(t.Context(), weir.DeadQuery{Max: 1000})
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]bool{}
	for i := range dead {
		reasons[dead[i].Reason] = true
	}
	bad := 0
	for _, o := range book.Orders {
		for _, line := range o.Lines {
			if _, err := menu.Dish(line.Item); err != nil {
				bad++
				if want := fmt.Sprintf("line %d of order %d: %v", line.ID, o.ID, err); !reasons[want] {
					t.Errorf("no dead letter with the reason %q", want)
				}
			}
		}
	}
	if len(dead) != bad || bad == 0 {
		t.Errorf("Dead = %d letters, want %d", len(dead), bad)
	}
}

// checkStory: an order's key tells what became of each of its lines.
func checkStory(t *testing.T, eng *weir.Engine, book restaurant.Book, menu restaurant.Menu) {
	t.Helper()
	for _, o := range book.Orders[:50] {
		stories, err := eng.Trace(t.Context(), restaurant.OrderKey(o.ID), 1000)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for i := range stories {
			for _, q := range stories[i].Queues {
				got[q.Queue+" "+q.State]++
			}
		}
		want := map[string]int{}
		for _, line := range o.Lines {
			if _, err := menu.Dish(line.Item); err != nil {
				want["kitchen.prepare-food dead"]++
				continue
			}
			want["kitchen.prepare-food done"]++
			want["wait-staff.serve-food done"]++
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("Trace(order-%d) tells %v, want %v", o.ID, got, want)
		}
	}
}

// wantCount compares what the tables say with what the book and the menu say.
func wantCount(t *testing.T, file string, book restaurant.Book, menu restaurant.Menu) {
	t.Helper()
	if got, want := count(t, file), outcome(book, menu); got != want {
		t.Errorf("CountAll = %+v,\nwant %+v", got, want)
	}
}

// outcome is what the book and the menu say of the tables in the end.
func outcome(book restaurant.Book, menu restaurant.Menu) restaurant.Count {
	want := restaurant.Count{Orders: len(book.Orders), Lines: book.Lines}
	for _, o := range book.Orders {
		bad := 0
		for _, line := range o.Lines {
			if _, err := menu.Dish(line.Item); err != nil {
				bad++
			}
		}
		want.LinesBad += bad
		if bad == len(o.Lines) {
			want.Unservable++
		}
	}
	want.Served = want.Lines - want.LinesBad
	want.Cooked = want.Served
	return want
}

// patience guards against hanging, and against nothing else.
const patience = 5 * time.Minute

// workAll works the book to its end.
func workAll(t *testing.T, r *restaurant.Restaurant, book restaurant.Book) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.Work(ctx, book, upTo(len(book.Orders))); err != nil {
		t.Fatalf("Work = %v, want nil", err)
	}
}

func count(t *testing.T, file string) restaurant.Count {
	t.Helper()
	db, err := sqlite.OpenDB(file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c, err := restaurant.CountAll(t.Context(), restaurant.Tables{WaitStaff: db, Kitchen: db})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// await looks at the tables until they are as wanted.
func await(t *testing.T, file string, done func(restaurant.Count) bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(patience)
	for !done(count(t, file)) {
		if <-tick.C; time.Now().After(deadline) {
			t.Fatalf("after %v the tables say %+v", patience, count(t, file))
		}
	}
}

func openRestaurant(t *testing.T, file string, menu restaurant.Menu) *restaurant.Restaurant {
	t.Helper()
	db, err := database.File(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := restaurant.Open(t.Context(), restaurant.Config{Database: db, Menu: menu, Seed: 1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), db.Close()); err != nil {
			t.Errorf("Close = %v, want nil", err)
		}
	})
	return r
}

// upTo tells to take that many orders, and no more.
func upTo(n int) <-chan int {
	c := make(chan int, 1)
	c <- n
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
