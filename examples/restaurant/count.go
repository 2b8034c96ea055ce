package restaurant

import (
	"context"
	"database/sql"
)

// Count is what the boundaries' own tables say; the engine is not asked.
type Count struct {
	Orders     int // taken
	Lines      int // of those
	LinesBad   int // that cannot be served
	Open       int // orders whose guests wait
	Unservable int // orders without a good line
	Cooked     int // good lines with a cooking
	Served     int // good lines with a serving

	// Lost counts good lines that were not cooked or not served, and lines that their
	// order says it has and that are not there. While orders are open, these wait.
	Lost int
	// ServedTwice and CookedTwice count servings and cookings that should not be:
	// all but the first of a line, and any of a line that is bad or unknown.
	ServedTwice int
	CookedTwice int
}

const (
	sqlCountOrders = `select count(*), cast(coalesce(sum(lines), 0) as bigint),
		count(case when state = 'open' then 1 end), count(case when state = 'unservable' then 1 end),
		(select count(*) from wait_staff_servings)
		from wait_staff_orders`
	sqlCountLines = `select l.id, l.state, (select count(*) from wait_staff_servings s where s.line = l.id)
		from wait_staff_lines l`
	sqlCountCooked = `select line, count(*) from kitchen_cooked group by line`
)

// Querier is a *database.Database, or a *sql.Conn or *sql.Tx of it.
type Querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Tables are where the boundaries' tables are: in one database, or in one each.
type Tables struct{ WaitStaff, Kitchen Querier }

// CountAll counts the outcome.
func CountAll(ctx context.Context, t Tables) (Count, error) {
	var c Count
	var promised, servings int // lines, as their orders say; all servings
	err := t.WaitStaff.QueryRowContext(ctx, sqlCountOrders).Scan(&c.Orders, &promised, &c.Open, &c.Unservable, &servings)
	if err != nil {
		return c, err
	}
	cooked := map[int64]int{} // how often, by line
	var line, times int64
	err = each(ctx, t.Kitchen, sqlCountCooked, func() {
		cooked[line] = int(times)
		c.CookedTwice += int(times)
	}, &line, &times)
	if err != nil {
		return c, err
	}
	var state string
	err = each(ctx, t.WaitStaff, sqlCountLines, func() {
		c.Lines++
		if state == "bad" {
			c.LinesBad++
			return
		}
		if cooked[line] > 0 {
			c.Cooked++
		}
		if times > 0 {
			c.Served++
		}
		if state != "served" || cooked[line] == 0 || times == 0 {
			c.Lost++
		}
	}, &line, &state, &times)
	c.Lost += promised - c.Lines
	c.ServedTwice, c.CookedTwice = servings-c.Served, c.CookedTwice-c.Cooked
	return c, err
}

// each reads the rows of a query into places, and calls row after each.
func each(ctx context.Context, db Querier, query string, row func(), places ...any) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(places...); err != nil {
			return err
		}
		row()
	}
	return rows.Err()
}

// Progress is how far the work is, at the price of a look.
type Progress struct {
	Orders, Open     int
	Cooked, Servings int
}

const (
	sqlProgress = `select
	(select count(*) from wait_staff_orders),
	(select count(*) from wait_staff_orders where state = 'open'),
	(select count(*) from wait_staff_servings)`
	sqlProgressCooked = `select count(*) from kitchen_cooked`
)

// Look reads how far the work is.
func Look(ctx context.Context, t Tables) (Progress, error) {
	var p Progress
	err := t.WaitStaff.QueryRowContext(ctx, sqlProgress).Scan(&p.Orders, &p.Open, &p.Servings)
	if err == nil {
		err = t.Kitchen.QueryRowContext(ctx, sqlProgressCooked).Scan(&p.Cooked)
	}
	return p, err
}
