package ordering

import (
	"context"
	"database/sql"
)

// Fate is where an order stands.
type Fate struct {
	Customer string
	State    string // open, paid, unpaid, needs-person
	Reason   string
	Charge   string
	Cents    int64
	// Stale: it was greeted by an older version of its customer than an order before.
	Stale bool
}

// Paid says whether the order is.
func (f Fate) Paid() bool { return f.State == statePaid }

// NeedsPerson says that payment has not said anything for long.
func (f Fate) NeedsPerson() bool { return f.State == stateNeedsPerson }

// Settled says whether it is known what came of the order.
func (f Fate) Settled() bool { return f.State == statePaid || f.State == stateUnpaid }

const (
	sqlFates    = `select cart, customer, state, reason, charge, cents, greeted < seen from ordering_orders`
	sqlProgress = `select (select count(*) from ordering_orders), (select count(*) from ordering_orders where state in ('open', 'needs-person'))`
)

// Querier is ordering's *database.Database, or a *sql.Conn or *sql.Tx of it.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Fates is where all orders stand, by cart.
func Fates(ctx context.Context, db Querier) (map[string]Fate, error) {
	rows, err := db.QueryContext(ctx, sqlFates)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	fates := map[string]Fate{}
	for rows.Next() {
		var cart string
		var f Fate
		if err := rows.Scan(&cart, &f.Customer, &f.State, &f.Reason, &f.Charge, &f.Cents, &f.Stale); err != nil {
			return nil, err
		}
		fates[cart] = f
	}
	return fates, rows.Err()
}

// Look says how many orders are placed, and how many of them are not settled.
func Look(ctx context.Context, db Querier) (placed, open int, err error) {
	err = db.QueryRowContext(ctx, sqlProgress).Scan(&placed, &open)
	return placed, open, err
}
