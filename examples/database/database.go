// Package database lets the examples run on each of weir's stores. A program of your own has
// one of them, and calls that store's package where these ask a Database: sqlite.Tx or
// postgres.SQLTx, sqlite.SQL or postgres.SQL.
//
// The examples' statements are what SQLite and PostgreSQL both understand: parameters are
// $1, $2 and so on, in the order in which they first stand in the statement, and integers
// are bigint.
package database

import (
	"context"
	"database/sql"
	"time"

	"github.com/weir-go/weir/store"
)

// Database holds an engine's journal and the example's own tables, so that rows and
// messages commit together.
type Database struct {
	*sql.DB              // for the example's own tables
	Journal store.Opener // for weir.Open
	kind
}

// kind is what the two stores do each in its way.
type kind interface {
	// In is a transaction on the database, to send and start in: eng.In(db.In(tx)).
	In(*sql.Tx) store.Tx
	// SQL is the engine's open transaction, for closures.
	SQL(store.Tx) *sql.Tx
	// makeTables runs statements that make tables, unless the table first is there.
	makeTables(ctx context.Context, db *sql.DB, first, tables string) error
	// away says of an error that the database cannot be reached, or ended the transaction for
	// another's sake, or that this process was given up for lost and has yet to join again.
	away(error) bool
}

// MakeTables runs statements that make the example's tables, unless the first of them is
// there. Open the engine before.
func (d *Database) MakeTables(ctx context.Context, first, tables string) error {
	return d.Patient(ctx, func(ctx context.Context) error { return d.makeTables(ctx, d.DB, first, tables) })
}

const (
	// awayMax is how long Patient waits for a database that is away: longer than a server
	// takes to recover from a crash.
	awayMax   = time.Minute
	awayPause = 50 * time.Millisecond
)

// Patient does what the database may interrupt by being away, again and again until it is
// done: a server is started anew now and then. So what it does must be what may be done twice,
// since of a commit whose answer was lost nobody knows whether it came about. It returns any
// other error, and that the database has been away for a minute.
func (d *Database) Patient(ctx context.Context, do func(context.Context) error) error {
	for begun := time.Now(); ; {
		err := do(ctx)
		if err == nil || !d.away(err) || ctx.Err() != nil || time.Since(begun) > awayMax {
			return err
		}
		pause := time.NewTimer(awayPause)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}
