package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres"
)

const (
	// lease is how long the others wait for a process that was killed. It is short, as
	// waiting is all that a demo would do; see postgres.Lease.
	lease = 5 * time.Second
	// tableConns is how many connections there are for the example's own tables.
	tableConns = 2
)

// Schema is a schema of a PostgreSQL database, which the engine makes by need. The address is
// a URL, postgres://… Any number of processes work it.
func Schema(address, name string) (*Database, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("the database's address is no URL: want postgres://user@host/database") // it may hold a password
	}
	q := u.Query()
	q.Set("search_path", name) // of the example's statements
	u.RawQuery = q.Encode()
	config, err := pgxpool.ParseConfig(u.String())
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDB(*config.ConnConfig)
	db.SetMaxOpenConns(tableConns)
	journal := postgres.DB(u.String(), postgres.Schema(name), postgres.Lease(lease))
	return &Database{DB: db, Journal: journal, kind: schema{}}, nil
}

type schema struct{}

func (schema) In(tx *sql.Tx) store.Tx { return postgres.SQLTx(tx) }

func (schema) SQL(tx store.Tx) *sql.Tx { return postgres.SQL(tx) }

const (
	// Two processes that make the same table at once would hinder each other.
	sqlMakeAlone = `select pg_advisory_xact_lock(hashtextextended('tables of ' || current_schema(), 0))`
	sqlIsThere   = `select to_regclass($1::text) is not null`
)

// makeTables leaves tables alone that are there: "create … if not exists" locks them, and who
// waits for several of them while others write meets deadlocks.
func (schema) makeTables(ctx context.Context, db *sql.DB, first, tables string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if _, err := tx.ExecContext(ctx, sqlMakeAlone); err != nil {
		return err
	}
	var there bool
	if err := tx.QueryRowContext(ctx, sqlIsThere, first).Scan(&there); err != nil || there {
		return err
	}
	if _, err := tx.ExecContext(ctx, tables); err != nil {
		return err
	}
	return tx.Commit()
}

func (schema) away(err error) bool {
	if fault, ok := errors.AsType[*pgconn.PgError](err); ok {
		return passes(fault.Code)
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return !errors.Is(err, context.DeadlineExceeded)
	}
	for _, lost := range []error{store.ErrUnavailable, store.ErrLeaseLost, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, driver.ErrBadConn, sql.ErrConnDone} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return pgconn.SafeToRetry(err)
}

// passes says of PostgreSQL's code of an error that trying again mends it: 08 is a lost
// connection, 40 a deadlock or the like, 53 too much at once, 57P a server that shuts down or starts.
func passes(code string) bool {
	for _, class := range []string{"08", "40", "53", "57P"} {
		if strings.HasPrefix(code, class) {
			return true
		}
	}
	return false
}
