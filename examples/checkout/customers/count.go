package customers

import (
	"context"
	"database/sql"

	"github.com/weir-go/weir/examples/checkout/contract"
)

const (
	sqlAll     = `select id, name, address, orders, changes from customers_people`
	sqlCounted = `select cast(coalesce(sum(orders), 0) as bigint), cast(coalesce(sum(changes), 0) as bigint) from customers_people`
)

// Querier is the customers' *database.Database, or a *sql.Conn or *sql.Tx of it.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// All is who the customers are, and how many orders of theirs were counted, by ID.
func All(ctx context.Context, db Querier) (are map[string]contract.Customer, orders map[string]int, err error) {
	rows, err := db.QueryContext(ctx, sqlAll)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	are, orders = map[string]contract.Customer{}, map[string]int{}
	for rows.Next() {
		var id string
		var r row
		if err := rows.Scan(&id, &r.name, &r.address, &r.orders, &r.changes); err != nil {
			return nil, nil, err
		}
		are[id], orders[id] = r.tell(), int(r.orders)
	}
	return are, orders, rows.Err()
}

// Look says how many orders were counted, and how often a customer has changed.
func Look(ctx context.Context, db Querier) (orders, changes int, err error) {
	err = db.QueryRowContext(ctx, sqlCounted).Scan(&orders, &changes)
	return orders, changes, err
}
