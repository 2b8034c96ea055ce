package outside

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
)

// No order is unique in invoices: that each has one is what billing sees to, and
// what can be counted.
const sqlBilling = `
create table if not exists invoices (
  id      integer primary key,
  ordered text not null,
  key     text not null,
  cents   integer not null,
  at      text not null default (strftime('%Y-%m-%dT%H:%M:%fZ'))
) strict;
create index if not exists invoices_ordered on invoices (ordered);
create table if not exists credit_notes (          -- the order's invoice counts no more
  ordered text primary key,
  at      text not null default (strftime('%Y-%m-%dT%H:%M:%fZ'))
) strict;
create table if not exists invoices_refused (ordered text not null) strict; -- there was one
`

const (
	sqlInvoice        = `insert into invoices (ordered, key, cents) values (?1, ?2, ?3)`
	sqlInvoiceOf      = `select id, cents from invoices where ordered = ?1 order by id limit 1`
	sqlInvoiceRefused = `insert into invoices_refused (ordered) values (?1)`
	sqlCredit         = `insert into credit_notes (ordered) values (?1) on conflict (ordered) do nothing`
	sqlCredited       = `select exists (select 1 from credit_notes where ordered = ?1)`
)

// invoice is an invoice, as it is asked for and as it is told.
type invoice struct {
	Number string `json:"number,omitempty"`
	Key    string `json:"key,omitempty"`
	Order  string `json:"order"`
	Cents  int64  `json:"cents"`
}

func (s *System) billing() (schema string) {
	s.writes("POST /invoices", createInvoice)
	s.writes("PUT /credit-notes/{order}", credit)
	return sqlBilling
}

// createInvoice creates an order's invoice. If there is one, the answer is that: 409, with
// the invoice. An order that has a credit note gets none any more.
func createInvoice(ctx context.Context, q querier, r *request) (answer, error) {
	var i invoice
	if err := r.into(&i); err != nil {
		return answer{}, err
	}
	var credited bool
	if err := q.QueryRowContext(ctx, sqlCredited, i.Order).Scan(&credited); err != nil {
		return answer{}, err
	}
	if credited {
		return answer{http.StatusGone, refusal{What: "credited", Reason: "the order has a credit note"}}, nil
	}
	var id int64
	err := q.QueryRowContext(ctx, sqlInvoiceOf, i.Order).Scan(&id, &i.Cents)
	if err == nil {
		i.Number = invoiceNumber(id)
		_, err := q.ExecContext(ctx, sqlInvoiceRefused, i.Order)
		return answer{http.StatusConflict, i}, err
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return answer{}, err
	}
	res, err := q.ExecContext(ctx, sqlInvoice, i.Order, i.Key, i.Cents)
	if err != nil {
		return answer{}, err
	}
	id, err = res.LastInsertId()
	i.Number = invoiceNumber(id)
	return answer{http.StatusCreated, i}, err
}

// credit writes a credit note over whatever an order was invoiced: one, however often it is asked for. An order without an invoice
// gets one, too: the request for the invoice may still be on its way.
func credit(ctx context.Context, q querier, r *request) (answer, error) {
	_, err := q.ExecContext(ctx, sqlCredit, r.PathValue("order"))
	return answer{http.StatusNoContent, nil}, err
}

func invoiceNumber(id int64) string { return fmt.Sprintf("in-%06d", id) }
