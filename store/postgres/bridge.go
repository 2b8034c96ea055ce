package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
)

// bridge is a driver of database/sql over the engine's open transaction, for closures.
// Its database has one connection; a sql.Tx of it neither begins nor ends anything, but
// is finished with its closure, so that one that leaks is of no use.
type bridge struct{ tx pgx.Tx }

var (
	_ driver.Connector      = bridge{}
	_ driver.ConnBeginTx    = bridge{}
	_ driver.ExecerContext  = bridge{}
	_ driver.QueryerContext = bridge{}
)

// openSQL lends the transaction. The sql.Tx itself does not hear of the closure's context:
// database/sql would end it from a goroutine of its own, and nobody could wait for that.
func (t *ownTx) openSQL() (*sql.Tx, error) {
	if t.sql != nil {
		return t.sql, nil
	}
	db := sql.OpenDB(bridge{t.tx})
	db.SetMaxOpenConns(1)
	tx, err := db.BeginTx(context.WithoutCancel(t.ctx), nil)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	t.sql = tx
	t.undo = func() error {
		err := tx.Rollback() // waits for rows still in use
		if errors.Is(err, sql.ErrTxDone) {
			err = errEnded
		}
		return errors.Join(err, db.Close())
	}
	return tx, nil
}

// Connect implements driver.Connector.
func (b bridge) Connect(context.Context) (driver.Conn, error) { return b, nil }

// Driver implements driver.Connector.
func (b bridge) Driver() driver.Driver { return bridgeDriver{} }

type bridgeDriver struct{}

func (bridgeDriver) Open(string) (driver.Conn, error) {
	return nil, errors.New("open it by its connector")
}

func (b bridge) Close() error { return nil }

func (b bridge) Begin() (driver.Tx, error) { return bridgeTx{}, nil }

func (b bridge) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) { return bridgeTx{}, nil }

// bridgeTx is the engine's transaction; nothing here ends it.
type bridgeTx struct{}

func (bridgeTx) Commit() error   { return errEnded }
func (bridgeTx) Rollback() error { return nil }

func (b bridge) Prepare(query string) (driver.Stmt, error) { return bridgeStmt{b, query}, nil }

// CheckNamedValue lets every value pass: pgx knows more types than database/sql.
func (b bridge) CheckNamedValue(*driver.NamedValue) error { return nil }

func (b bridge) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	values, err := valuesOf(args)
	if err != nil {
		return nil, err
	}
	tag, err := b.tx.Exec(ctx, query, values...)
	if err != nil {
		return nil, err
	}
	return driver.RowsAffected(tag.RowsAffected()), nil
}

func (b bridge) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	values, err := valuesOf(args)
	if err != nil {
		return nil, err
	}
	rows, err := b.tx.Query(ctx, query, values...)
	if err != nil {
		return nil, err
	}
	return &bridgeRows{rows: rows}, nil
}

func valuesOf(args []driver.NamedValue) ([]any, error) {
	values := make([]any, len(args))
	for i, a := range args {
		if a.Name != "" {
			return nil, fmt.Errorf("argument %q: PostgreSQL has no named parameters", a.Name)
		}
		values[i] = a.Value
	}
	return values, nil
}

type bridgeStmt struct {
	b     bridge
	query string
}

func (s bridgeStmt) Close() error  { return nil }
func (s bridgeStmt) NumInput() int { return -1 }

func (s bridgeStmt) Exec([]driver.Value) (driver.Result, error) { return nil, driver.ErrSkip }

func (s bridgeStmt) Query([]driver.Value) (driver.Rows, error) { return nil, driver.ErrSkip }

func (s bridgeStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.b.ExecContext(ctx, s.query, args)
}

func (s bridgeStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.b.QueryContext(ctx, s.query, args)
}

func (s bridgeStmt) CheckNamedValue(*driver.NamedValue) error { return nil }

type bridgeRows struct{ rows pgx.Rows }

func (r *bridgeRows) Columns() []string {
	var names []string
	for _, f := range r.rows.FieldDescriptions() {
		names = append(names, f.Name)
	}
	return names
}

func (r *bridgeRows) Close() error {
	r.rows.Close()
	return nil
}

func (r *bridgeRows) Next(dest []driver.Value) error {
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	values, err := r.rows.Values()
	if err != nil {
		return err
	}
	for i, v := range values {
		if dest[i], err = plain(v); err != nil {
			return err
		}
	}
	return nil
}

// plain is a value as database/sql knows them.
func plain(v any) (driver.Value, error) {
	switch v := v.(type) {
	case nil, int64, float64, bool, []byte, string, time.Time:
		return v, nil
	case int16:
		return int64(v), nil
	case int32:
		return int64(v), nil
	case uint32:
		return int64(v), nil
	case float32:
		return float64(v), nil
	case [16]byte:
		return fmt.Sprintf("%x-%x-%x-%x-%x", v[:4], v[4:6], v[6:8], v[8:10], v[10:]), nil
	case driver.Valuer:
		return v.Value()
	}
	return fmt.Sprint(v), nil
}
