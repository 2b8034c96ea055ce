// Package customers is the boundary that owns who the customers are. Others have a copy that
// follows what is put here.
package customers

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
create table if not exists customers_people (
  id      text primary key,
  name    text not null,
  address text not null,
  orders  bigint not null default 0,
  changes bigint not null default 1 -- of this row: what was read before one is not written after it
);
`

const (
	sqlPut = `insert into customers_people (id, name, address) values ($1, $2, $3)
		on conflict (id) do update set name = excluded.name, address = excluded.address, changes = customers_people.changes + 1
		returning name, address, orders, changes`
	sqlRead  = `select name, address, orders, changes from customers_people where id = $1`
	sqlCount = `update customers_people set orders = orders + 1, changes = changes + 1 where id = $1 and changes = $2`
)

// Customers is the boundary customers.
type Customers struct {
	eng   *weir.Engine
	db    *database.Database // the engine's
	owned *weir.Owned[contract.Customer]
}

// New makes the table if it is not there, and registers what customers does.
func New(ctx context.Context, eng *weir.Engine, db *database.Database) (*Customers, error) {
	if err := db.MakeTables(ctx, "customers_people", sqlTables); err != nil {
		return nil, fmt.Errorf("make the customers' table: %w", err)
	}
	c := &Customers{eng: eng, db: db, owned: weir.Own(eng, contract.CustomerEntity)}
	weir.Subscribe(eng, contract.OrderPlaced, "customers.count-orders", c.count, weir.FromEarliest,
		weir.Queue{Retry: weir.Retry{Max: 1000, Base: time.Millisecond, Cap: 100 * time.Millisecond}})
	return c, nil
}

// row is a customer's.
type row struct {
	name, address   string
	orders, changes int64
}

func (r *row) scan(from *sql.Row) error { return from.Scan(&r.name, &r.address, &r.orders, &r.changes) }

// discountMax is the discount of a good customer, in percent. One for each order leads there.
const discountMax = 10

// tell is what others have a copy of.
func (r row) tell() contract.Customer {
	return contract.Customer{Name: r.name, Address: r.address, Discount: min(r.orders, discountMax)}
}

// Put makes a customer, or changes one. The row, the new state and the event that carries it to
// whoever follows commit together.
func (c *Customers) Put(ctx context.Context, id, name, address string) error {
	return c.db.Patient(ctx, func(ctx context.Context) error {
		tx, err := c.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // after a commit it does nothing
		var now row
		if err := now.scan(tx.QueryRowContext(ctx, sqlPut, id, name, address)); err != nil {
			return fmt.Errorf("put customer %s: %w", id, err)
		}
		if err := c.owned.Put(ctx, c.eng.In(c.db.In(tx)), id, now.tell()); err != nil {
			return err
		}
		return tx.Commit()
	})
}

var errChanged = errors.New("the customer has changed meanwhile: looked at again")

// count counts a customer's order, which raises the discount: the count, the new state and the
// acknowledgement commit together, unless the row has changed since it was read.
func (c *Customers) count(ctx context.Context, m *weir.Message[contract.Placed]) error {
	var now row
	err := now.scan(c.db.QueryRowContext(ctx, sqlRead, m.Body.Customer))
	if errors.Is(err, sql.ErrNoRows) {
		return weir.Permanent(fmt.Errorf("cart %s is of a customer who is not known: %s", m.Body.Cart, m.Body.Customer))
	}
	if err != nil {
		return err
	}
	m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
		res, err := c.db.SQL(tx).ExecContext(ctx, sqlCount, m.Body.Customer, now.changes)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(errChanged, err)
		}
		return nil
	})
	now.orders++
	return c.owned.Put(ctx, m, m.Body.Customer, now.tell())
}
