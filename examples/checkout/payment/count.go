package payment

import (
	"context"
	"database/sql"
	"errors"

	"github.com/weir-go/weir/store/sqlite"
)

const (
	sqlCharges  = `select ordered, count(*) from charges group by ordered`
	sqlDeclines = `select count(distinct ordered) from declines where ordered not in (select ordered from charges)`
	sqlSettled  = `select count(*) from payment_carts where state in ('paid', 'unpaid')`
	sqlPaid     = `select cart, cents from payment_carts where state = 'paid'`
)

// World is what the payment provider's file says.
type World struct {
	Charges  map[string]int // by cart
	Declined int            // carts whose card was declined
}

// Outside reads the provider's file.
func Outside(ctx context.Context, file string) (_ World, err error) {
	db, err := sqlite.OpenDB(file)
	if err != nil {
		return World{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var w World
	if err := db.QueryRowContext(ctx, sqlDeclines).Scan(&w.Declined); err != nil {
		return World{}, err
	}
	w.Charges, err = numbers[int](ctx, db, sqlCharges)
	return w, err
}

// Querier is payment's *database.Database, or a *sql.Conn or *sql.Tx of it.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Paid is what payment has charged, in cents by cart.
func Paid(ctx context.Context, db Querier) (map[string]int64, error) {
	return numbers[int64](ctx, db, sqlPaid)
}

// Look says how many bills are settled.
func Look(ctx context.Context, db Querier) (settled int, err error) {
	err = db.QueryRowContext(ctx, sqlSettled).Scan(&settled)
	return settled, err
}

func numbers[T int | int64](ctx context.Context, db Querier, query string) (map[string]T, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	m := map[string]T{}
	for rows.Next() {
		var name string
		var n T
		if err := rows.Scan(&name, &n); err != nil {
			return nil, err
		}
		m[name] = n
	}
	return m, rows.Err()
}
