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
create table if not exists invoices_refused (ordered text not null) strict; -- there was one
`

const (
	sqlInvoice        = `insert into invoices (ordered, key, cents) values (?1, ?2, ?3)`
	sqlInvoiceOf      = `select id, cents from invoices where ordered = ?1 order by id limit 1`
	sqlInvoiceRefused = `insert into invoices_refused (ordered) values (?1)`
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
	return sqlBilling
}

// createInvoice creates an order's invoice. If there is one, the answer is that: 409, with
// the invoice.
func createInvoice(ctx context.Context, q querier, r *request) (answer, error) {
	var i invoice
	if err := r.into(&i); err != nil {
		return answer{}, err
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

func invoiceNumber(id int64) string { return fmt.Sprintf("in-%06d", id) }
