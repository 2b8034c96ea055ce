package weir_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
)

// The types and contracts of the examples: what a kitchen owns and others import.
type (
	Ticket struct{ Table, Dish string }
	Plate  struct{ Table, Dish string }
)

func (t Ticket) TableNo() string { return t.Table }

var (
	PrepareFood = weir.NewCommand[Ticket]("kitchen.prepare-food", weir.KeyedBy(Ticket.TableNo))
	CookFood    = weir.NewRequest[Ticket, Plate]("kitchen.cook-food")
	FoodReady   = weir.NewEvent[Plate]("kitchen.food-ready")
)

// restaurant opens an engine on a file of its own, and gives what ends both.
func restaurant() (eng *weir.Engine, file string, end func()) {
	dir, err := os.MkdirTemp("", "weir-example")
	if err != nil {
		panic(err)
	}
	file = filepath.Join(dir, "restaurant.db")
	eng, err = weir.Open(context.Background(), sqlite.File(file), weir.Config{
		Owns: []string{"kitchen", "wait-staff"},
		Log:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	return eng, file, func() {
		if err := errors.Join(eng.Close(), os.RemoveAll(dir)); err != nil {
			panic(err)
		}
	}
}

// open opens the doors: it runs the engine until close is called.
func open(eng *weir.Engine) (shut func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- eng.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			panic(err)
		}
	}
}

// A command is sent, worked, and what comes of it is published with the
// acknowledgement, or not at all.
func Example() {
	eng, _, end := restaurant() // weir.Open(ctx, sqlite.File("restaurant.db"), weir.Config{Owns: …})
	defer end()
	served := make(chan string)

	weir.Handle(eng, PrepareFood, func(ctx context.Context, m *weir.Message[Ticket]) error {
		return weir.Publish(ctx, m, FoodReady, Plate(m.Body))
	}, weir.Queue{Concurrency: 4, Capacity: 500})
	weir.Subscribe(eng, FoodReady, "wait-staff.bring-food", func(_ context.Context, m *weir.Message[Plate]) error {
		served <- fmt.Sprintf("%s for table %s", m.Body.Dish, m.Body.Table)
		return nil
	}, weir.FromEarliest)

	defer open(eng)() // eng.Run(ctx)
	if err := weir.Send(context.Background(), eng, PrepareFood, Ticket{"7", "soup"}); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-served)
	// Output: soup for table 7
}

// A request is a command with a reply, which leaves with the acknowledgement. The
// reply is subscribed to like an event; its Cause is the request's ID.
func ExampleAnswer() {
	eng, _, end := restaurant()
	defer end()
	replies := make(chan *weir.Message[Plate])

	weir.Answer(eng, CookFood, func(_ context.Context, m *weir.Message[Ticket]) (Plate, error) {
		return Plate(m.Body), nil
	})
	weir.Subscribe(eng, CookFood.Reply(), "wait-staff.cooked", func(_ context.Context, m *weir.Message[Plate]) error {
		replies <- m
		return nil
	}, weir.FromEarliest)

	defer open(eng)()
	if err := weir.Send(context.Background(), eng, CookFood, Ticket{"7", "soup"}); err != nil {
		fmt.Println(err)
	}
	reply := <-replies
	fmt.Println(reply.Name, reply.Body.Dish, reply.Cause != "")
	// Output: kitchen.cook-food.reply soup true
}

// A message sent in the caller's own transaction commits with the caller's rows.
func ExampleEngine_In() {
	eng, file, end := restaurant()
	defer end()
	ctx := context.Background()
	db, err := sqlite.OpenDB(file)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()

	take := func(t Ticket) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, `create table if not exists orders (dish text not null check (dish <> ''))`); err != nil {
			return err
		}
		if err := weir.Send(ctx, eng.In(sqlite.Tx(tx)), PrepareFood, t); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `insert into orders values (?)`, t.Dish); err != nil {
			return err // and nothing was sent
		}
		return tx.Commit()
	}
	fmt.Println(take(Ticket{"7", "soup"}))
	fmt.Println(take(Ticket{"8", ""}) != nil)

	sent, err := eng.Messages(ctx, weir.MessageQuery{})
	fmt.Println(len(sent), err)
	// Output:
	// <nil>
	// true
	// 1 <nil>
}

// What a handler writes in OnCommit commits with the acknowledgement, so it is
// there once, however often the handler ran.
func ExampleMessage_OnCommit() {
	eng, file, end := restaurant()
	defer end()
	db, err := sqlite.OpenDB(file)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	if _, err := db.Exec(`create table cooked (id text, dish text)`); err != nil {
		fmt.Println(err)
	}

	weir.Handle(eng, PrepareFood, func(ctx context.Context, m *weir.Message[Ticket]) error {
		m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
			_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into cooked values (?, ?)`, m.ID, m.Body.Dish)
			return err
		})
		if m.Attempt == 1 {
			return errors.New("the stove is out")
		}
		return weir.Publish(ctx, m, FoodReady, Plate(m.Body))
	}, weir.Queue{Retry: weir.Retry{Base: time.Millisecond}})
	ready := make(chan struct{})
	weir.Subscribe(eng, FoodReady, "wait-staff.bring-food", func(context.Context, *weir.Message[Plate]) error {
		close(ready)
		return nil
	}, weir.FromEarliest)

	defer open(eng)()
	if err := weir.Send(context.Background(), eng, PrepareFood, Ticket{"7", "soup"}); err != nil {
		fmt.Println(err)
	}
	<-ready
	var n int
	var dish string
	err = db.QueryRow(`select count(*), max(dish) from cooked`).Scan(&n, &dish)
	fmt.Println(n, dish, err)
	// Output: 1 soup <nil>
}

// A condition that is not met is no failure: no attempt is counted, and people
// see the reason.
func ExampleNotYet() {
	eng, _, end := restaurant()
	defer end()
	eggs, done := 0, make(chan int)

	weir.Handle(eng, PrepareFood, func(_ context.Context, m *weir.Message[Ticket]) error {
		if eggs++; eggs < 3 {
			return weir.NotYet(fmt.Sprintf("need 3 eggs, have %d", eggs), time.Millisecond)
		}
		done <- m.Attempt
		return nil
	})

	defer open(eng)()
	if err := weir.Send(context.Background(), eng, PrepareFood, Ticket{"7", "omelette"}); err != nil {
		fmt.Println(err)
	}
	fmt.Println("attempt", <-done)
	// Output: attempt 1
}

// A message that no retry mends is dead at once; a person edits and retries it.
func ExamplePermanent() {
	eng, _, end := restaurant()
	defer end()
	ctx := context.Background()
	cooked := make(chan string)

	weir.Handle(eng, PrepareFood, func(_ context.Context, m *weir.Message[Ticket]) error {
		if m.Body.Dish == "" {
			return weir.Permanent(errors.New("the ticket has no dish"))
		}
		cooked <- m.Body.Dish
		return nil
	})

	defer open(eng)()
	if err := weir.Send(ctx, eng, PrepareFood, Ticket{"7", ""}); err != nil {
		fmt.Println(err)
	}
	var dead []weir.DeadLetter
	for len(dead) == 0 {
		var err error
		if dead, err = eng.Dead(ctx, weir.DeadQuery{Queue: PrepareFood.Name()}); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Println(dead[0].Reason)

	_, err := eng.EditDead(ctx, weir.DeadSelection{ID: dead[0].Message.ID}, []byte(`{"Table":"7","Dish":"soup"}`),
		weir.Because{By: "ada", Why: "the guest was asked"})
	fmt.Println(<-cooked, err)
	// Output:
	// the ticket has no dish
	// soup <nil>
}

// A deduplication key makes a repeated send harmless.
func ExampleDedup() {
	eng, _, end := restaurant()
	defer end()
	ctx := context.Background()
	order := func(dish string) error {
		return weir.Send(ctx, eng, PrepareFood, Ticket{"7", dish}, weir.Dedup("order-42"))
	}
	fmt.Println(order("soup"))
	fmt.Println(order("soup")) // the guest pressed twice
	err := order("steak")
	_, duplicate := errors.AsType[*weir.DuplicateError](err)
	fmt.Println(duplicate)

	sent, err := eng.Messages(ctx, weir.MessageQuery{})
	fmt.Println(len(sent), err)
	// Output:
	// <nil>
	// <nil>
	// true
	// 1 <nil>
}

// Version 2 of a contract says the size in numbers; messages of version 1, stored
// or on their way, are converted when they are handled.
func ExampleUpcast() {
	type SizedV1 struct{ Size string }
	type Sized struct{ Grams int }
	brew := weir.NewCommand[Sized]("kitchen.brew-coffee",
		weir.Upcast(1, func(old SizedV1) (Sized, error) {
			grams, ok := map[string]int{"small": 8, "large": 16}[old.Size]
			if !ok {
				return Sized{}, fmt.Errorf("size %q is unknown", old.Size)
			}
			return Sized{grams}, nil
		}))

	eng, _, end := restaurant()
	defer end()
	brewed := make(chan int)
	weir.Handle(eng, brew, func(_ context.Context, m *weir.Message[Sized]) error {
		brewed <- m.Body.Grams
		return nil
	})
	older := weir.NewCommand[SizedV1]("kitchen.brew-coffee")
	if err := weir.Send(context.Background(), eng, older, SizedV1{"large"}); err != nil {
		fmt.Println(err)
	}
	defer open(eng)()
	fmt.Println(<-brewed, "grams")
	// Output: 16 grams
}
