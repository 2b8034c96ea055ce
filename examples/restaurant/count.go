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

const sqlCount = `select
	(select count(*) from wait_staff_orders),
	(select count(*) from wait_staff_lines),
	(select count(*) from wait_staff_lines where state = 'bad'),
	(select count(*) from wait_staff_orders where state = 'open'),
	(select count(*) from wait_staff_orders where state = 'unservable'),
	(select count(distinct c.line) from kitchen_cooked c join wait_staff_lines l on l.id = c.line and l.state <> 'bad'),
	(select count(distinct s.line) from wait_staff_servings s join wait_staff_lines l on l.id = s.line and l.state <> 'bad'),
	(select count(*) from wait_staff_lines l where l.state <> 'bad' and not (
		l.state = 'served'
		and exists (select 1 from kitchen_cooked where line = l.id)
		and exists (select 1 from wait_staff_servings where line = l.id)))
	+ (select cast(coalesce(sum(lines), 0) as bigint) from wait_staff_orders) - (select count(*) from wait_staff_lines),
	(select count(*) from wait_staff_servings),
	(select count(*) from kitchen_cooked)`

// Querier is the restaurant's *database.Database, or a *sql.Conn or *sql.Tx of it.
type Querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// CountAll counts the outcome.
func CountAll(ctx context.Context, db Querier) (Count, error) {
	var c Count
	var servings, cookings int
	err := db.QueryRowContext(ctx, sqlCount).Scan(&c.Orders, &c.Lines, &c.LinesBad, &c.Open, &c.Unservable,
		&c.Cooked, &c.Served, &c.Lost, &servings, &cookings)
	c.ServedTwice, c.CookedTwice = servings-c.Served, cookings-c.Cooked
	return c, err
}

// Progress is how far the work is, at the price of a look.
type Progress struct {
	Orders, Open     int
	Cooked, Servings int
}

const sqlProgress = `select
	(select count(*) from wait_staff_orders),
	(select count(*) from wait_staff_orders where state = 'open'),
	(select count(*) from kitchen_cooked),
	(select count(*) from wait_staff_servings)`

// Look reads how far the work is.
func Look(ctx context.Context, db Querier) (Progress, error) {
	var p Progress
	err := db.QueryRowContext(ctx, sqlProgress).Scan(&p.Orders, &p.Open, &p.Cooked, &p.Servings)
	return p, err
}
