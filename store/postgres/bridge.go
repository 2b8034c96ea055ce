package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
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
	rows, err := b.tx.Query(ctx, query, append([]any{binaryTypes()}, values...)...)
	if err != nil {
		return nil, err
	}
	r := &bridgeRows{rows: rows}
	r.more = rows.Next() // what columns there are is known with the first row, and so is what is wrong
	if err := rows.Err(); err != nil {
		rows.Close()
		return nil, err
	}
	for _, f := range rows.FieldDescriptions() {
		r.names = append(r.names, f.Name)
		r.decode = append(r.decode, decoderOf(rows.TypeMap(), f))
	}
	return r, nil
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

// bridgeRows has read the first row when it is made.
type bridgeRows struct {
	rows   pgx.Rows
	more   bool // there is a row that is read, and not given yet
	names  []string
	decode []decoder
}

func (r *bridgeRows) Columns() []string { return r.names }

func (r *bridgeRows) Close() error {
	r.rows.Close()
	return r.rows.Err()
}

func (r *bridgeRows) Next(dest []driver.Value) error {
	if !r.more && !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	r.more = false
	for i, src := range r.rows.RawValues() {
		var err error
		if dest[i] = nil; src == nil {
			continue
		}
		if dest[i], err = r.decode[i](src); err != nil {
			return fmt.Errorf("column %s: %w", r.names[i], err)
		}
	}
	return nil
}

// decoder makes a value as database/sql knows them of what the server has sent.
type decoder func(src []byte) (driver.Value, error)

// binaryTypes are those that pgx decodes for database/sql; all others come as the server writes them.
func binaryTypes() pgx.QueryResultFormatsByOID {
	return pgx.QueryResultFormatsByOID{
		pgtype.BoolOID: 1, pgtype.ByteaOID: 1, pgtype.CIDOID: 1, pgtype.DateOID: 1, pgtype.Float4OID: 1, pgtype.Float8OID: 1, pgtype.Int2OID: 1,
		pgtype.Int4OID: 1, pgtype.Int8OID: 1, pgtype.OIDOID: 1, pgtype.TimestampOID: 1, pgtype.TimestamptzOID: 1, pgtype.XIDOID: 1,
	}
}

// decoderOf decodes as the driver of pgx for database/sql does, so that a closure reads what it would read elsewhere.
func decoderOf(m *pgtype.Map, f pgconn.FieldDescription) decoder {
	switch f.DataTypeOID {
	case pgtype.BoolOID:
		return decode(m, f, same[bool])
	case pgtype.ByteaOID, pgtype.JSONOID, pgtype.JSONBOID, pgtype.XMLOID:
		return decode(m, f, same[[]byte])
	case pgtype.CIDOID, pgtype.OIDOID, pgtype.XIDOID:
		return decode(m, f, pgtype.Uint32.Value)
	case pgtype.DateOID:
		return decode(m, f, pgtype.Date.Value)
	case pgtype.TimestampOID:
		return decode(m, f, pgtype.Timestamp.Value)
	case pgtype.TimestamptzOID:
		return decode(m, f, pgtype.Timestamptz.Value)
	case pgtype.Float4OID:
		return decode(m, f, func(v float32) (driver.Value, error) { return float64(v), nil })
	case pgtype.Float8OID:
		return decode(m, f, same[float64])
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID:
		return decode(m, f, same[int64])
	}
	return decode(m, f, same[string])
}

func same[T any](v T) (driver.Value, error) { return v, nil }

func decode[T any](m *pgtype.Map, f pgconn.FieldDescription, value func(T) (driver.Value, error)) decoder {
	plan := m.PlanScan(f.DataTypeOID, f.Format, new(T))
	return func(src []byte) (driver.Value, error) {
		var v T
		if err := plan.Scan(src, &v); err != nil {
			return nil, err
		}
		return value(v)
	}
}
