package fulfilment

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/store/sqlite"
)

const (
	sqlCharges      = `select ordered, count(*) from charges group by ordered`
	sqlRefunds      = `select c.ordered, count(*) from refunds r join charges c on c.id = r.charge group by c.ordered`
	sqlInvoices     = `select ordered, count(*) from invoices group by ordered`
	sqlCredits      = `select i.ordered, count(*) from invoices i join credit_notes using (ordered) group by i.ordered`
	sqlReservations = `select ordered, 1 from reservations where state = 'reserved'`
	sqlMails        = `select ordered, count(*) from mails group by ordered`
	sqlSilent       = `select '', count(*) from charges where silent`
	sqlAsked        = `select '', count(*) from invoices_refused`
	sqlDeclines     = `select '', count(*) from declines`
	sqlLeftOut      = `select '', count(*) from orders_left_out`
	sqlOmitted      = `select id, 1 from orders_book where state = 'fulfilled' and not mailed`
)

// tables reads a file's answers to queries of a text and a number, by the text.
func tables(ctx context.Context, file string, queries ...string) ([]map[string]int, error) {
	db, err := sqlite.OpenDB(file)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	all, err := tablesOf(ctx, db, queries...)
	if err != nil {
		return nil, fmt.Errorf("count in %s: %w", file, err)
	}
	return all, nil
}

func tablesOf(ctx context.Context, db *sql.DB, queries ...string) ([]map[string]int, error) {
	var all []map[string]int
	for _, q := range queries {
		m, err := table(ctx, db, q)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

func table(ctx context.Context, db *sql.DB, query string) (map[string]int, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	m := map[string]int{}
	for rows.Next() {
		var name string
		var n int
		if err := rows.Scan(&name, &n); err != nil {
			return nil, err
		}
		m[name] = n
	}
	return m, rows.Err()
}

// CountAll counts what became of a book, in the shop's database and the others' files.
func CountAll(ctx context.Context, db *database.Database, f Files, orders []string) (*Count, error) {
	ended, err := runFates(ctx, db)
	if err != nil {
		return nil, err
	}
	book, err := bookFates(ctx, db.DB)
	if err != nil {
		return nil, err
	}
	own, ownErr := tablesOf(ctx, db.DB, sqlLeftOut, sqlOmitted)
	warehouse, warehouseErr := tables(ctx, f.Warehouse, sqlReservations)
	payments, paymentsErr := tables(ctx, f.Payments, sqlCharges, sqlSilent, sqlDeclines, sqlRefunds)
	billing, billingErr := tables(ctx, f.Billing, sqlInvoices, sqlAsked, sqlCredits)
	mail, mailErr := tables(ctx, f.Mail, sqlMails)
	if err := errors.Join(ownErr, mailErr, warehouseErr, paymentsErr, billingErr); err != nil {
		return nil, err
	}
	c := tally(orders, ended, shop{book: book, omitted: own[1]}, world{
		charges: payments[0], invoices: billing[0], reservations: warehouse[0], mails: mail[0],
		refunds: payments[3], credits: billing[2],
	})
	c.LinesLeftOut = own[0][""]
	for _, n := range payments[3] {
		c.ChargesRefunded += n
	}
	c.ChargesUnanswered, c.Declines, c.InvoicesRefused = payments[1][""], payments[2][""], billing[1][""]
	return c, nil
}

// runFates is where the runs stand, by order.
func runFates(ctx context.Context, db *database.Database) (_ map[string]fate, err error) {
	eng, err := weir.Open(ctx, db.Journal, weir.Config{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, eng.Close()) }()
	fates := map[string]fate{}
	q := weir.RunQuery{Workflow: Fulfil.Name(), Max: pageRows}
	for {
		page, err := eng.Runs(ctx, q)
		if err != nil {
			return nil, err
		}
		for i := range page {
			list := listWaiting
			switch page[i].State {
			case "completed":
				list = listCompleted
			case "failed", "cancelled":
				list = listFailed
			case weir.RunNeedsPerson:
				list = listNeedsPerson
			}
			fates[page[i].ID] = fate{list, page[i].Reason}
		}
		if len(page) < q.Max {
			return fates, nil
		}
		q.Before = page[len(page)-1].No
	}
}

const pageRows = 1000

// bookFates is where the orders stand, by what the shop has written.
func bookFates(ctx context.Context, db *sql.DB) (map[string]fate, error) {
	rows, err := db.QueryContext(ctx, sqlBook)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	fates := map[string]fate{}
	for rows.Next() {
		var id, state, reason string
		if err := rows.Scan(&id, &state, &reason); err != nil {
			return nil, err
		}
		list := listWaiting
		switch state {
		case stateFulfilled:
			list = listCompleted
		case stateFailed:
			list = listFailed
		case stateRefused:
			list = listRefused
		}
		fates[id] = fate{list, reason}
	}
	return fates, rows.Err()
}
