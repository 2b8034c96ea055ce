package weir_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-go/weir"
)

// The types and contracts of the workflow examples: what a shop owns. Its workflows run in
// the restaurant's engine, under the wait staff's name.
type (
	Order   struct{ ID, SKU, Card string }
	Charge  struct{ ID string }
	Receipt struct{ Invoice, Charge string }
)

var (
	Fulfil     = weir.NewWorkflow[Order, Receipt]("wait-staff.fulfil")
	StockCame  = weir.NewEvent[Order]("wait-staff.stock-came")
	Approved   = weir.NewSignal[string]("wait-staff.approved")
	ErrNoFunds = errors.New("the card has no funds")
	ErrReserve = errors.New("it is reserved already")
)

// Shop fulfils orders. Its fields would be clients of other systems; here they are what those remember.
type Shop struct {
	stock    map[string]int
	reserved map[string]string // by order
	charges  map[string]Charge // by idempotency key
	lost     int               // answers of the bank that get lost
}

// fulfil is the business process: each call is a durable step, and after a crash or a
// wait the function begins again and gets what they gave.
func (s *Shop) fulfil(r *weir.Run, o Order) (Receipt, error) {
	// No failure: it is asked again every hour, and when stock has come.
	err := weir.Until(r, "stock-available", func(context.Context) (weir.Met, error) {
		return weir.When(s.stock[o.SKU] > 0, "need 1 of %s, have none", o.SKU), nil
	}, weir.Every(time.Hour), weir.WakeOn(StockCame.For(o.SKU)), weir.Within(72*time.Hour))
	if err != nil {
		return Receipt{}, err
	}
	weir.Compensate(r, "release-stock", func(context.Context) error {
		delete(s.reserved, o.ID)
		fmt.Println("released for", o.ID)
		return nil
	})
	reserve := func(context.Context) error {
		if s.reserved[o.ID] != "" {
			return ErrReserve
		}
		s.reserved[o.ID] = o.SKU
		return nil
	}
	if err := weir.Do(r, "reserve-stock", reserve, weir.DoneIf(ErrReserve)); err != nil {
		return Receipt{}, err
	}
	charge, err := weir.Once(r, "charge-card", s.charge(o), s.findCharge, weir.FailIf(ErrNoFunds))
	if err != nil {
		return Receipt{}, err // errors.Is(err, ErrNoFunds) holds after a replay too
	}
	invoice, err := weir.Step(r, "create-invoice", func(context.Context) (string, error) { return "invoice of " + o.ID, nil })
	if err != nil {
		return Receipt{}, err
	}
	weir.Try(r, "send-mail", func(context.Context) error { return weir.Permanent(errors.New("no such address")) })
	return Receipt{Invoice: invoice, Charge: charge.ID}, nil
}

// charge charges the card, and sometimes the answer gets lost.
func (s *Shop) charge(o Order) func(context.Context) (Charge, error) {
	return func(ctx context.Context) (Charge, error) {
		if o.Card == "empty" {
			return Charge{}, ErrNoFunds
		}
		c := Charge{ID: "charge of " + o.ID}
		s.charges[weir.IdempotencyKey(ctx)] = c
		if s.lost > 0 {
			s.lost--
			return Charge{}, errors.New("connection reset")
		}
		return c, nil
	}
}

// findCharge asks the bank what came of it.
func (s *Shop) findCharge(ctx context.Context) (Charge, weir.Outcome, error) {
	if c, ok := s.charges[weir.IdempotencyKey(ctx)]; ok {
		return c, weir.Happened, nil
	}
	return Charge{}, weir.NotHappened, nil
}

func newShop() *Shop {
	return &Shop{stock: map[string]int{"lamp": 1}, reserved: map[string]string{}, charges: map[string]Charge{}}
}

// A workflow is registered with its function, and started under a business key.
func ExampleRegister() {
	eng, _, end := restaurant()
	defer end()
	shop := newShop()
	weir.Register(eng, Fulfil, shop.fulfil)
	defer open(eng)()

	ctx := context.Background()
	for _, o := range []Order{{ID: "1", SKU: "lamp"}, {ID: "2", SKU: "lamp", Card: "empty"}} {
		run, err := weir.Start(ctx, eng, Fulfil, o.ID, o) // the same ID again is the same run
		if err != nil {
			panic(err)
		}
		receipt, err := run.Result(ctx)
		fmt.Println(receipt, err)
	}
	// Output:
	// {invoice of 1 charge of 1} <nil>
	// released for 2
	// { } run 2 of wait-staff.fulfil failed: charge-card: the card has no funds
}

// Once never charges twice: when the answer is lost, what came of the call is asked first.
func ExampleOnce() {
	eng, _, end := restaurant()
	defer end()
	shop := newShop()
	shop.lost = 1
	weir.Register(eng, Fulfil, shop.fulfil, weir.Retry{Base: time.Millisecond})
	defer open(eng)()

	ctx := context.Background()
	run, err := weir.Start(ctx, eng, Fulfil, "1", Order{ID: "1", SKU: "lamp"})
	if err != nil {
		panic(err)
	}
	receipt, err := run.Result(ctx)
	fmt.Println(receipt.Charge, err, "charges:", len(shop.charges))
	// Output:
	// charge of 1 <nil> charges: 1
}

// WaitFor waits for a signal to the run, or for an event by its key. What came before the
// call, since the run's start, is not missed: a signal never, an event as long as it is kept.
func ExampleWaitFor() {
	eng, _, end := restaurant()
	defer end()
	approve := weir.NewWorkflow[Order, string]("wait-staff.approve")
	weir.Register(eng, approve, func(r *weir.Run, o Order) (string, error) {
		who, err := weir.WaitFor(r, "approval", Approved, weir.Within(24*time.Hour))
		if errors.Is(err, weir.ErrWithin) {
			return "nobody approved it", nil
		}
		return "approved by " + who, err
	})
	defer open(eng)()

	ctx := context.Background()
	run, err := weir.Start(ctx, eng, approve, "1", Order{ID: "1"})
	if err != nil {
		panic(err)
	}
	if err := weir.Tell(ctx, eng, Approved, "1", "Ann"); err != nil {
		panic(err)
	}
	fmt.Println(run.Result(ctx))
	// Output:
	// approved by Ann <nil>
}

// All does several things in parallel, each with a Run of its own.
func ExampleAll() {
	eng, _, end := restaurant()
	defer end()
	menu := weir.NewWorkflow[Ticket, Plate]("wait-staff.serve-menu")
	weir.Register(eng, menu, func(r *weir.Run, t Ticket) (Plate, error) {
		var starter, main string
		cook := func(dish string, to *string) func(*weir.Run) error {
			return func(r *weir.Run) (err error) {
				*to, err = weir.Step(r, "cook", func(context.Context) (string, error) { return "hot " + dish, nil })
				return err
			}
		}
		err := weir.All(r, "kitchen",
			weir.Branch{Name: "starter", Do: cook("soup", &starter)},
			weir.Branch{Name: "main", Do: cook("fish", &main)})
		return Plate{Table: t.Table, Dish: starter + " and " + main}, err
	})
	defer open(eng)()

	ctx := context.Background()
	run, err := weir.Start(ctx, eng, menu, "7", Ticket{Table: "7"})
	if err != nil {
		panic(err)
	}
	fmt.Println(run.Result(ctx))
	// Output:
	// {7 hot soup and hot fish} <nil>
}
