package outside

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
)

// The payment provider's tables are logs. Nothing in charges is unique: whoever asks
// twice is charged twice, with the same key or with another. Each charge is given back once at the most.
const sqlPayments = `
create table if not exists charges (
  id     integer primary key,
  key    text not null,    -- as it was given: the provider keeps it to be asked for, and does not look at it
  ordered text not null,
  card   text not null,
  cents  integer not null,
  silent integer not null, -- the caller was not told
  at     text not null default (strftime('%Y-%m-%dT%H:%M:%fZ'))
) strict;
create index if not exists charges_key on charges (key);
create index if not exists charges_ordered on charges (ordered);
create table if not exists refunds (
  charge integer primary key references charges (id),
  at     text not null default (strftime('%Y-%m-%dT%H:%M:%fZ'))
) strict;
create table if not exists called_off ( -- orders of which all is given back
  ordered text primary key,
  at      text not null default (strftime('%Y-%m-%dT%H:%M:%fZ'))
) strict;
create table if not exists declines (
  ordered text not null,
  card   text not null,
  at     text not null default (strftime('%Y-%m-%dT%H:%M:%fZ'))
) strict;
`

const (
	sqlCharge  = `insert into charges (key, ordered, card, cents, silent) values (?1, ?2, ?3, ?4, ?5)`
	sqlDecline = `insert into declines (ordered, card) values (?1, ?2)`
	sqlFind    = `select id, ordered, cents from charges where key = ?1 order by id limit 1`
	sqlCallOff = `insert into called_off (ordered) values (?1) on conflict (ordered) do nothing`
	// sqlRefund gives back what is charged for an order, if that is called off, and is not given back.
	sqlRefund = `insert into refunds (charge) select c.id from charges c join called_off using (ordered) where c.ordered = ?1
		on conflict (charge) do nothing`
)

// charge is a charge, as it is asked for and as it is told.
type charge struct {
	ID    string `json:"id,omitempty"`
	Key   string `json:"key"`
	Order string `json:"order"`
	Card  string `json:"card,omitempty"`
	Cents int64  `json:"cents"`
}

func (s *System) payments() (schema string) {
	s.writes("POST /charges", s.charge)
	s.finds("GET /charges", findCharge)
	s.writes("PUT /refunds/{order}", refund)
	return sqlPayments
}

// charge charges a card, unless that is declined. The same cards always are.
func (s *System) charge(ctx context.Context, q querier, r *request) (answer, error) {
	var c charge
	if err := r.into(&c); err != nil {
		return answer{}, err
	}
	if c.Cents <= 0 || c.Card == "" {
		return answer{}, badRequest{errors.New("a charge is of a card and of 1 cent at the least")}
	}
	if share(s.config.Seed, c.Card) < s.config.Declined {
		_, err := q.ExecContext(ctx, sqlDecline, c.Order, c.Card)
		return answer{http.StatusPaymentRequired, refusal{What: "declined", Reason: "the card's bank has declined"}}, err
	}
	res, err := q.ExecContext(ctx, sqlCharge, c.Key, c.Order, c.Card, c.Cents, r.silent || r.fails == afterActing)
	if err != nil {
		return answer{}, err
	}
	id, err := res.LastInsertId()
	if err != nil {
		return answer{}, err
	}
	c.ID = chargeID(id)
	_, err = q.ExecContext(ctx, sqlRefund, c.Order) // if it comes after all was to be given back
	return answer{http.StatusCreated, c}, err
}

// refund gives back whatever was charged for an order, and what will be: a request to charge may still be on its way. To ask
// again, or for an order that was never charged, does no harm.
func refund(ctx context.Context, q querier, r *request) (answer, error) {
	order := r.PathValue("order")
	if _, err := q.ExecContext(ctx, sqlCallOff, order); err != nil {
		return answer{}, err
	}
	_, err := q.ExecContext(ctx, sqlRefund, order)
	return answer{http.StatusNoContent, nil}, err
}

// findCharge tells the charge that was made with a key.
func findCharge(ctx context.Context, q querier, r *request) (answer, error) {
	c := charge{Key: r.URL.Query().Get("key")}
	var id int64
	err := q.QueryRowContext(ctx, sqlFind, c.Key).Scan(&id, &c.Order, &c.Cents)
	if errors.Is(err, sql.ErrNoRows) {
		return answer{http.StatusNotFound, refusal{What: "no-charge"}}, nil
	}
	c.ID = chargeID(id)
	return answer{http.StatusOK, c}, err
}

func chargeID(id int64) string { return fmt.Sprintf("ch-%d", id) }
