// Package ordering is the boundary that takes orders. It prices them from its own catalogue and
// from its replica of the customers, by which it also greets: so it takes orders while customers and payment
// are away. It knows no card.
package ordering

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/checkout/contract"
	"github.com/weir-go/weir/examples/database"
)

const sqlTables = `
create table if not exists ordering_orders (
  cart     text primary key,
  customer text not null,
  cents    bigint not null,
  greeting text not null,
  greeted  bigint not null,          -- the version of the customer by which we have greeted
  seen     bigint not null,          -- the newest one by which we had greeted before
  state    text not null,            -- open, paid, unpaid, needs-person
  reason   text not null default '', -- why it is not paid
  charge   text not null default ''
);
create index if not exists ordering_orders_customer on ordering_orders (customer, greeted);
create index if not exists ordering_orders_open on ordering_orders (cart) where state in ('open', 'needs-person');
`

// The states of an order.
const (
	stateOpen        = "open"
	statePaid        = "paid"
	stateUnpaid      = "unpaid"
	stateNeedsPerson = "needs-person" // payment has not said anything for long; it still may
)

const (
	sqlSeen  = `select coalesce(max(greeted), 0) from ordering_orders where customer = $1`
	sqlPlace = `insert into ordering_orders (cart, customer, cents, greeting, greeted, seen, state) values ($1, $2, $3, $4, $5, $6, $7)
		on conflict (cart) do nothing`
	sqlConfirmed = `select greeting, cents from ordering_orders where cart = $1`
	sqlClose     = `update ordering_orders set state = $1, reason = $2, charge = $3 where cart = $4`
)

// CheckOut is the workflow of an order. Its runs have their carts' IDs.
var checkOut = weir.NewWorkflow[contract.Bill, contract.Settlement]("ordering.check-out")

// settled tells an order's run what payment has told us.
var settled = weir.NewSignal[contract.Settlement]("ordering.settled")

// Config is what ordering is made of.
type Config struct {
	Database *database.Database // the engine's
	// Patience is how long payment may say nothing before an order is shown to need a person.
	// Default 1 min.
	Patience time.Duration
	Log      *slog.Logger
}

const patienceDefault = time.Minute

// Ordering is the boundary ordering.
type Ordering struct {
	eng       *weir.Engine
	db        *database.Database
	customers *weir.Replica[contract.Customer]
	patience  time.Duration
	log       *slog.Logger
}

// New makes the tables if they are not there, and registers what ordering does.
func New(ctx context.Context, eng *weir.Engine, c Config) (*Ordering, error) {
	if err := c.Database.MakeTables(ctx, "ordering_orders", sqlTables); err != nil {
		return nil, fmt.Errorf("make ordering's tables: %w", err)
	}
	o := &Ordering{eng: eng, db: c.Database, patience: c.Patience, log: c.Log, customers: weir.Follow(eng, contract.CustomerEntity, weir.As(contract.Ordering))}
	if o.patience == 0 {
		o.patience = patienceDefault
	}
	weir.Register(eng, checkOut, o.checkOut)
	weir.Subscribe(eng, contract.CartSettled, "ordering.settle", o.settle, weir.FromEarliest)
	return o, nil
}

// Order is a cart as its shopper orders it. There is no card in it.
type Order struct {
	Customer string `json:"customer"`
	Lines    []Line `json:"lines"`
}

// Confirmation is what the shopper gets.
type Confirmation struct {
	Greeting string `json:"greeting"`
	Cents    int64  `json:"cents"`
}

// Place places an order: its row, the event and its run commit together, or not at all. An
// order that was placed before is left alone, so whoever does not know whether it was places it
// again. One that can never be placed is refused with a *Refusal.
func (o *Ordering) Place(ctx context.Context, cart string, order Order) (Confirmation, error) {
	if _, err := price(order.Lines, 0); err != nil {
		return Confirmation{}, err
	}
	var seen int64 // before the replica is read: so it must not be newer
	err := o.db.Patient(ctx, func(ctx context.Context) error {
		return o.db.QueryRowContext(ctx, sqlSeen, order.Customer).Scan(&seen)
	})
	if err != nil {
		return Confirmation{}, err
	}
	who, err := o.customer(ctx, order.Customer)
	if err != nil {
		return Confirmation{}, err
	}
	c := Confirmation{Greeting: greet(who.Value)}
	if c.Cents, err = price(order.Lines, who.Value.Discount); err != nil {
		return Confirmation{}, err
	}
	err = o.db.Patient(ctx, func(ctx context.Context) error {
		tx, err := o.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after a commit it does nothing
		res, err := tx.ExecContext(ctx, sqlPlace, cart, order.Customer, c.Cents, c.Greeting, who.Version, seen, stateOpen)
		if err != nil {
			return fmt.Errorf("place %s: %w", cart, err)
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 0 { // what was confirmed before is confirmed again
			return tx.QueryRowContext(ctx, sqlConfirmed, cart).Scan(&c.Greeting, &c.Cents)
		}
		out := o.eng.In(o.db.In(tx))
		if err := weir.Publish(ctx, out, contract.OrderPlaced, contract.Placed{Cart: cart, Customer: order.Customer}); err != nil {
			return err
		}
		if _, err := weir.Start(ctx, out, checkOut, cart, contract.Bill{Cart: cart, Cents: c.Cents}); err != nil {
			return err
		}
		return tx.Commit()
	})
	return c, err
}

// askMax is how long customers may take to answer, while a shopper waits.
const askMax = 3 * time.Second

// customer is a customer as we know them. One of whom we have never heard is asked for.
func (o *Ordering) customer(ctx context.Context, id string) (weir.Entry[contract.Customer], error) {
	who, err := o.customers.Get(id)
	if errors.Is(err, weir.ErrNotFound) || errors.Is(err, weir.ErrNotLoaded) {
		ctx, cancel := context.WithTimeout(ctx, askMax)
		defer cancel()
		who, err = o.customers.Refresh(ctx, id)
	}
	if errors.Is(err, weir.ErrNotFound) {
		err = refused("there is no customer %s", id)
	}
	return who, err
}

func greet(c contract.Customer) string {
	return fmt.Sprintf("Thank you, %s! It goes to %s.", c.Name, c.Address)
}

// settle hands what payment tells to the order's run.
func (o *Ordering) settle(ctx context.Context, m *weir.Message[contract.Settlement]) error {
	return weir.Tell(ctx, m, settled, m.Body.Cart, m.Body)
}

// checkOut is checkOut's function: payment is asked to charge the cart, says whether it will, and
// tells when it has, or cannot.
func (o *Ordering) checkOut(r *weir.Run, b contract.Bill) (contract.Settlement, error) {
	taken, err := weir.Ask(r, "ask-payment", contract.ChargeCart, b)
	if err != nil {
		return contract.Settlement{}, err
	}
	if !taken.Card {
		s := contract.Settlement{Cart: b.Cart, Reason: "no card was given"}
		return s, o.close(r, "close", stateUnpaid, s)
	}
	s, err := weir.WaitFor(r, "settled", settled, weir.Within(o.patience))
	if errors.Is(err, weir.ErrWithin) {
		late := contract.Settlement{Cart: b.Cart, Reason: fmt.Sprintf("payment has said nothing for %v", o.patience)}
		if err := o.close(r, "needs-person", stateNeedsPerson, late); err != nil {
			return late, err
		}
		s, err = weir.WaitFor(r, "settled-late", settled)
	}
	if err != nil {
		return s, err
	}
	state := stateUnpaid
	if s.Paid {
		state = statePaid
	}
	return s, o.close(r, "close", state, s)
}

// close writes where an order stands, in the step's transaction.
func (o *Ordering) close(r *weir.Run, name, state string, s contract.Settlement) error {
	_, err := weir.StepTx(r, name, func(ctx context.Context, tx weir.Tx) (struct{}, error) {
		_, err := o.db.SQL(tx).ExecContext(ctx, sqlClose, state, s.Reason, s.Charge, s.Cart)
		return struct{}{}, err
	})
	return err
}
