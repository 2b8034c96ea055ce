package restaurant

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/database"
)

// The wait staff's tables. A line has a reason when it cannot be served. Of the
// servings no column is unique: the table is a log, in which a line served twice
// would be seen twice.
const sqlWaitStaff = `
create table if not exists wait_staff_orders (
  id       bigint primary key,
  taken_at text not null,
  lines    bigint not null,
  state    text not null,  -- open, served, unservable
  reason   text            -- why it is unservable
);
create index if not exists wait_staff_orders_open on wait_staff_orders (id) where state = 'open';
create table if not exists wait_staff_lines (
  id      bigint primary key,
  ordered bigint not null references wait_staff_orders (id),
  item    text not null,
  state   text not null,  -- ordered, served, bad
  reason  text            -- why it is bad
);
create index if not exists wait_staff_lines_ordered on wait_staff_lines (ordered);
create table if not exists wait_staff_servings (
  line    bigint not null,
  dish    text not null,
  message text not null,
  attempt bigint not null
);
create index if not exists wait_staff_servings_line on wait_staff_servings (line);
`

const (
	sqlTakeOrder = `insert into wait_staff_orders (id, taken_at, lines, state, reason) values ($1, $2, $3, $4, $5)
		on conflict (id) do nothing`
	sqlTakeLine   = `insert into wait_staff_lines (id, ordered, item, state, reason) values ($1, $2, $3, $4, $5)`
	sqlTaken      = `select id from wait_staff_orders`
	sqlServe      = `insert into wait_staff_servings (line, dish, message, attempt) values ($1, $2, $3, $4)`
	sqlServeLine  = `update wait_staff_lines set state = 'served' where id = $1 and ordered = $2`
	sqlCloseOrder = `update wait_staff_orders set state = 'served' where id = $1
		and not exists (select 1 from wait_staff_lines where ordered = $1 and state = 'ordered')`
)

// WaitStaff is the boundary wait-staff: it takes orders and serves what the
// kitchen has cooked. It knows the menu, so it knows for itself which lines will
// never come: an order does not wait for them.
type WaitStaff struct {
	eng  *weir.Engine
	db   *database.Database // the engine's: its transactions hold rows and messages
	menu Menu
}

// register makes known what the wait staff handles.
func (w *WaitStaff) register() {
	weir.Subscribe(w.eng, FoodReady, "wait-staff.serve-food", w.serve,
		weir.FromEarliest, // no plate is left on the pass, whenever this began to run
		// A plate that nobody has ordered must not keep the order's others waiting.
		weir.Queue{OnDead: weir.Skip})
}

// Take takes an order: its rows and a command for each of its lines commit
// together. An order that was taken before is left alone, so whoever does not
// know whether it was, after a crash, takes it again. A full kitchen refuses it
// with a *weir.FullError, and nothing is written.
func (w *WaitStaff) Take(ctx context.Context, o Order) error {
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	isNew, err := w.write(ctx, tx, o)
	if err != nil || !isNew {
		return err
	}
	tickets := make([]Ticket, len(o.Lines))
	for i, line := range o.Lines {
		tickets[i] = Ticket{Order: o.ID, Line: line.ID, Item: line.Item}
	}
	if err := weir.SendAll(ctx, w.eng.In(w.db.In(tx)), PrepareFood, tickets); err != nil {
		return err
	}
	return tx.Commit()
}

// write inserts the order and its lines, unless it is there.
func (w *WaitStaff) write(ctx context.Context, tx *sql.Tx, o Order) (isNew bool, err error) {
	reasons := make([]sql.NullString, len(o.Lines))
	good := 0
	for i, line := range o.Lines {
		if _, err := w.menu.Dish(line.Item); err != nil {
			reasons[i] = sql.NullString{String: fmt.Sprintf("line %d of the book: %v", line.Row, err), Valid: true}
		} else {
			good++
		}
	}
	state, reason := "open", sql.NullString{}
	if good == 0 {
		state = "unservable"
		reason = sql.NullString{String: "no line of it can be served; " + reasons[0].String, Valid: true}
	}
	res, err := tx.ExecContext(ctx, sqlTakeOrder, o.ID, o.TakenAt.Format(time.DateTime), len(o.Lines), state, reason)
	if err != nil {
		return false, fmt.Errorf("insert order %d: %w", o.ID, err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	for i, line := range o.Lines {
		state := "ordered"
		if reasons[i].Valid {
			state = "bad"
		}
		if _, err := tx.ExecContext(ctx, sqlTakeLine, line.ID, o.ID, line.Item, state, reasons[i]); err != nil {
			return false, fmt.Errorf("insert line %d of order %d: %w", line.ID, o.ID, err)
		}
	}
	return true, nil
}

// serve brings a plate to its table: in the transaction that acknowledges the
// event, or not at all. An order's plates have its key, so they are served one after
// another, and the last one sees that all others are.
func (w *WaitStaff) serve(_ context.Context, m *weir.Message[Plate]) error {
	m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
		db, p := w.db.SQL(tx), m.Body
		res, err := db.ExecContext(ctx, sqlServeLine, p.Line, p.Order)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return weir.Permanent(errors.Join(fmt.Errorf("line %d of order %d was never taken", p.Line, p.Order), err))
		}
		if _, err := db.ExecContext(ctx, sqlServe, p.Line, p.Dish, m.ID, m.Attempt); err != nil {
			return err
		}
		_, err = db.ExecContext(ctx, sqlCloseOrder, p.Order)
		return err
	})
	return nil
}

// TakeAll takes those of the orders that are not taken yet, and waits when the kitchen has
// too much to do.
func (w *WaitStaff) TakeAll(ctx context.Context, orders []Order) error {
	var taken map[int64]bool
	err := w.db.Patient(ctx, func(ctx context.Context) (err error) {
		taken, err = w.taken(ctx)
		return err
	})
	if err != nil {
		return err
	}
	for _, o := range orders {
		if taken[o.ID] {
			continue
		}
		if err := w.takeWhenRoom(ctx, o); err != nil {
			return fmt.Errorf("take order %d: %w", o.ID, err)
		}
	}
	return nil
}

// waitMax bounds a wait for room: a kitchen that stood still for a while promises
// room late, and may go on at any moment.
const waitMax = 50 * time.Millisecond

// takeWhenRoom is Take for who would rather wait than be refused. (WaitForRoom is
// for sends in a commit of their own: inside a transaction nobody must wait, since
// while it is open the kitchen cannot go on.)
func (w *WaitStaff) takeWhenRoom(ctx context.Context, o Order) error {
	for {
		err := w.db.Patient(ctx, func(ctx context.Context) error { return w.Take(ctx, o) })
		full, ok := errors.AsType[*weir.FullError](err)
		if !ok {
			return err
		}
		wait := time.NewTimer(min(full.RetryAfter, waitMax))
		select {
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
		case <-wait.C:
		}
	}
}

func (w *WaitStaff) taken(ctx context.Context) (map[int64]bool, error) {
	rows, err := w.db.QueryContext(ctx, sqlTaken)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	taken := map[int64]bool{}
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		taken[id] = true
	}
	return taken, rows.Err()
}
