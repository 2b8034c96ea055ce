// Package payment is the boundary that charges carts, each once. It alone meets cards: a shopper
// gives one at its own entry point (http.go), it stays in the vault (vault.go), and all else has a token.
package payment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/checkout/contract"
	"github.com/weir-go/weir/examples/database"
)

const sqlTables = `
create table if not exists payment_carts (
  cart   text primary key,
  token  text not null,            -- stands for the card
  state  text not null,            -- card, billed, paid, unpaid
  cents  bigint not null default 0,
  charge text not null default '', -- at the provider
  reason text not null default ''  -- why it is not paid
);
`

// The states of a cart.
const (
	stateCard   = "card" // there is one
	stateBilled = "billed"
	statePaid   = "paid"
	stateUnpaid = "unpaid"
)

const (
	sqlKnow   = `insert into payment_carts (cart, token, state) values ($1, $2, $3) on conflict (cart) do nothing`
	sqlToken  = `select token from payment_carts where cart = $1`
	sqlState  = `select state from payment_carts where cart = $1`
	sqlBill   = `update payment_carts set state = $1, cents = $2 where cart = $3 and state = $4`
	sqlSettle = `update payment_carts set state = $1, charge = $2, reason = $3 where cart = $4`
)

// charging is the workflow that charges a cart. Its runs have their carts' IDs.
var charging = weir.NewWorkflow[billed, contract.Settlement]("payment.charge")

// billed is a cart to charge. It has no card, but the token that stands for it.
type billed struct {
	Cart  string `json:"cart"`
	Token string `json:"token"`
	Cents int64  `json:"cents"`
}

// Config is what payment is made of.
type Config struct {
	Database *database.Database // the engine's
	Vault    *Vault
	Provider *Provider
}

// Payment is the boundary payment.
type Payment struct {
	db       *database.Database
	vault    *Vault
	provider *Provider
}

// How long an attempt to charge may take. What was not done after twice as long never will be:
// weir.Once relies on that when it charges again after "there is no charge".
const attemptMax = time.Second

// New makes the tables if they are not there, and registers what payment does.
func New(ctx context.Context, eng *weir.Engine, c Config) (*Payment, error) {
	if err := c.Database.MakeTables(ctx, "payment_carts", sqlTables); err != nil {
		return nil, fmt.Errorf("make payment's tables: %w", err)
	}
	p := &Payment{db: c.Database, vault: c.Vault, provider: c.Provider}
	quick := weir.Retry{Base: 5 * time.Millisecond, Cap: time.Second}
	weir.Answer(eng, contract.ChargeCart, p.take, weir.Queue{Retry: quick})
	// A provider that is away comes back.
	weir.Register(eng, charging, p.charge, weir.Timeout(attemptMax),
		weir.Retry{Max: 60, Base: 50 * time.Millisecond, Cap: time.Second})
	return p, nil
}

// ErrBilled refuses a card: the cart is billed, to the one that was given before.
var ErrBilled = errors.New("the cart is billed already")

// Give keeps the card of a cart: until the cart is billed another may be given in its place, the same
// one as often as one likes.
func (p *Payment) Give(ctx context.Context, cart string, c Card) error {
	var state string
	err := p.db.Patient(ctx, func(ctx context.Context) error {
		return p.db.QueryRowContext(ctx, sqlState, cart).Scan(&state)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return err
	case state != stateCard:
		if same, err := p.vault.Has(ctx, cart, c); same || err != nil {
			return err
		}
		return ErrBilled
	}
	token, err := p.vault.Keep(ctx, cart, c)
	if err != nil {
		return fmt.Errorf("keep the card of %s: %w", cart, err)
	}
	return p.db.Patient(ctx, func(ctx context.Context) error {
		_, err := p.db.ExecContext(ctx, sqlKnow, cart, token, stateCard)
		return err
	})
}

// take takes a bill: the run that charges it, the row and the reply commit together.
func (p *Payment) take(ctx context.Context, m *weir.Message[contract.Bill]) (contract.Taken, error) {
	b := billed{Cart: m.Body.Cart, Cents: m.Body.Cents}
	err := p.db.QueryRowContext(ctx, sqlToken, b.Cart).Scan(&b.Token)
	if errors.Is(err, sql.ErrNoRows) {
		return contract.Taken{}, nil
	}
	if err != nil {
		return contract.Taken{}, err
	}
	m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
		_, err := p.db.SQL(tx).ExecContext(ctx, sqlBill, stateBilled, b.Cents, b.Cart, stateCard)
		return err
	})
	_, err = weir.Start(ctx, m, charging, b.Cart, b)
	return contract.Taken{Card: true}, err
}

// charge is charging's function. It charges, whatever happens, at most once; what came of it is
// written and told.
func (p *Payment) charge(r *weir.Run, b billed) (contract.Settlement, error) {
	made, err := weir.Once(r, "charge-card", func(ctx context.Context) (charge, error) {
		c, err := p.vault.Card(ctx, b.Token) // in the attempt: what is recorded of the run has no card
		if err != nil {
			return charge{}, err
		}
		return p.provider.Charge(ctx, weir.IdempotencyKey(ctx), b, c)
	}, p.find, weir.FailIf(errDeclined, errUnknown))
	s := contract.Settlement{Cart: b.Cart, Paid: err == nil, Charge: made.ID}
	if err != nil {
		s.Reason = err.Error()
	}
	_, err = weir.StepTx(r, "settle-cart", func(ctx context.Context, tx weir.Tx) (struct{}, error) {
		state := statePaid
		if !s.Paid {
			state = stateUnpaid
		}
		_, err := p.db.SQL(tx).ExecContext(ctx, sqlSettle, state, s.Charge, s.Reason, s.Cart)
		return struct{}{}, err
	})
	if err != nil {
		return s, err
	}
	return s, weir.Publish(r.Context(), r, contract.CartSettled, s)
}

// find asks the provider what became of a charge.
func (p *Payment) find(ctx context.Context) (charge, weir.Outcome, error) {
	c, err := p.provider.Find(ctx, weir.IdempotencyKey(ctx))
	switch {
	case errors.Is(err, errNoCharge):
		return c, weir.NotHappened, nil
	case err != nil:
		return c, weir.Unknown, err // asked again, then a person
	}
	return c, weir.Happened, nil
}
