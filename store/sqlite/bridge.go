package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
)

// bridge is a driver of database/sql over the writer connection's open
// transaction, for closures. Its database has that one connection; a sql.Tx of
// it neither begins nor ends anything, but is finished with its closure, so that
// one that leaks is of no use.
type bridge struct {
	c  *conn
	db *sql.DB
	// kept are idle statements of earlier closures, which mostly repeat, by their text.
	kept map[string]*sqlite.Stmt
	// decl is the declared types of tables' columns, read when first needed.
	decl map[string]map[string]string
}

const bridgeStatementsMax = 64

var (
	_ driver.Connector        = (*bridge)(nil)
	_ driver.ConnBeginTx      = (*bridgeConn)(nil)
	_ driver.ExecerContext    = (*bridgeConn)(nil)
	_ driver.QueryerContext   = (*bridgeConn)(nil)
	_ driver.StmtExecContext  = (*bridgeStmt)(nil)
	_ driver.StmtQueryContext = (*bridgeStmt)(nil)
)

func newBridge(c *conn) *bridge {
	b := &bridge{c: c, kept: map[string]*sqlite.Stmt{}}
	b.db = sql.OpenDB(b)
	b.db.SetMaxOpenConns(1)
	return b
}

// begin lends the transaction. A statement still running when ctx is done is
// interrupted. The sql.Tx itself does not hear of ctx: database/sql would end it
// from a goroutine of its own, and nobody could wait for that.
func (b *bridge) begin(ctx context.Context) (*sql.Tx, error) {
	tx, err := b.db.BeginTx(context.WithoutCancel(ctx), nil)
	if err == nil {
		b.c.c.SetInterrupt(ctx.Done())
	}
	return tx, err
}

var errEndedTx = errors.New("closure ended the engine's transaction: Commit and Rollback are the engine's; return an error to undo the change")

// end finishes the closure's sql.Tx. That waits for rows and statements still in use.
func (b *bridge) end(ctx context.Context, tx *sql.Tx) error {
	err := tx.Rollback()
	b.c.c.SetInterrupt(nil)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case b.c.c.AutocommitEnabled():
		return errors.New("closure's statement rolled back the engine's transaction")
	case errors.Is(err, sql.ErrTxDone):
		return errEndedTx
	}
	return err
}

func (b *bridge) close() error {
	var err error
	for _, st := range b.kept {
		err = errors.Join(err, st.Finalize())
	}
	return errors.Join(err, b.db.Close())
}

// Connect implements driver.Connector.
func (b *bridge) Connect(context.Context) (driver.Conn, error) { return &bridgeConn{b}, nil }

// Driver implements driver.Connector.
func (b *bridge) Driver() driver.Driver { return bridgeDriver{} }

type bridgeDriver struct{}

func (bridgeDriver) Open(string) (driver.Conn, error) {
	return nil, errors.New("open it by its connector")
}

// take gives a statement that nobody else uses.
func (b *bridge) take(query string) (*sqlite.Stmt, error) {
	if st := b.kept[query]; st != nil {
		delete(b.kept, query)
		return st, nil
	}
	st, rest, err := b.c.c.PrepareTransient(query)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(query[len(query)-rest:]) != "" {
		return nil, errors.Join(errors.New("more than one statement in one call"), st.Finalize())
	}
	return st, nil
}

// give takes it back.
func (b *bridge) give(query string, st *sqlite.Stmt) error {
	if len(b.kept) >= bridgeStatementsMax || b.kept[query] != nil {
		return st.Finalize()
	}
	b.kept[query] = st
	// What Reset returns is the failure of the last step, which was returned then;
	// what ClearBindings does not free, after an interrupt, the next bind does.
	_ = st.Reset()
	_ = st.ClearBindings()
	return nil
}

type bridgeConn struct{ b *bridge }

func (c *bridgeConn) Close() error { return nil }

func (c *bridgeConn) Begin() (driver.Tx, error) { return bridgeTx{}, nil }

func (c *bridgeConn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) { return c.Begin() }

func (c *bridgeConn) Prepare(query string) (driver.Stmt, error) {
	st, err := c.b.take(query)
	if err != nil {
		return nil, err
	}
	return &bridgeStmt{b: c.b, query: query, st: st}, nil
}

func (c *bridgeConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (_ driver.Result, err error) {
	st, err := c.b.take(query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.b.give(query, st)) }()
	return c.b.exec(ctx, st, args)
}

func (c *bridgeConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	st, err := c.b.take(query)
	if err != nil {
		return nil, err
	}
	done := func() error { return c.b.give(query, st) }
	if err := bindValues(st, args); err != nil {
		return nil, errors.Join(err, done())
	}
	return newBridgeRows(ctx, c.b, st, done)
}

// bridgeTx is the engine's transaction; nothing here ends it.
type bridgeTx struct{}

func (bridgeTx) Commit() error   { return errEndedTx }
func (bridgeTx) Rollback() error { return nil }

type bridgeStmt struct {
	b     *bridge
	query string
	st    *sqlite.Stmt
}

func (s *bridgeStmt) Close() error { return s.b.give(s.query, s.st) }

func (s *bridgeStmt) NumInput() int { return -1 }

func (s *bridgeStmt) Exec([]driver.Value) (driver.Result, error) { return nil, driver.ErrSkip }

func (s *bridgeStmt) Query([]driver.Value) (driver.Rows, error) { return nil, driver.ErrSkip }

func (s *bridgeStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.b.exec(ctx, s.st, args)
}

func (s *bridgeStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if err := bindValues(s.st, args); err != nil {
		return nil, err
	}
	return newBridgeRows(ctx, s.b, s.st, s.st.Reset)
}

func (b *bridge) exec(ctx context.Context, st *sqlite.Stmt, args []driver.NamedValue) (driver.Result, error) {
	if err := bindValues(st, args); err != nil {
		return nil, err
	}
	for {
		if ctx.Err() != nil {
			return nil, errors.Join(context.Cause(ctx), st.Reset())
		}
		more, err := st.Step()
		if err != nil {
			return nil, err
		}
		if !more {
			return bridgeResult{b.c.c.LastInsertRowID(), b.c.changes()}, nil
		}
	}
}

type bridgeResult struct{ id, changes int64 }

func (r bridgeResult) LastInsertId() (int64, error) { return r.id, nil }
func (r bridgeResult) RowsAffected() (int64, error) { return r.changes, nil }

// timeLayout is how modernc.org/sqlite writes times when told _time_format=sqlite.
const timeLayout = "2006-01-02 15:04:05.999999999-07:00"

func bindValues(st *sqlite.Stmt, args []driver.NamedValue) error {
	if err := errors.Join(st.Reset(), st.ClearBindings()); err != nil {
		return err
	}
	if len(args) > st.BindParamCount() {
		return fmt.Errorf("%d arguments for %d parameters", len(args), st.BindParamCount())
	}
	for _, a := range args {
		p := a.Ordinal
		if a.Name != "" {
			if p = paramNamed(st, a.Name); p == 0 {
				return fmt.Errorf("no parameter is named %q", a.Name)
			}
		}
		switch v := a.Value.(type) {
		case nil:
		case int64:
			st.BindInt64(p, v)
		case float64:
			st.BindFloat(p, v)
		case bool:
			st.BindBool(p, v)
		case string:
			st.BindText(p, v)
		case []byte:
			st.BindBytes(p, v)
		case time.Time:
			st.BindText(p, v.Format(timeLayout))
		default:
			return fmt.Errorf("argument %d: unknown type %T", a.Ordinal, v)
		}
	}
	return nil
}

func paramNamed(st *sqlite.Stmt, name string) int {
	for p := 1; p <= st.BindParamCount(); p++ {
		if n := st.BindParamName(p); n != "" && n[1:] == name {
			return p
		}
	}
	return 0
}

// bridgeRows reads one row ahead, so that an error of the first step is the query's.
type bridgeRows struct {
	ctx   context.Context
	st    *sqlite.Stmt
	done  func() error
	names []string
	times []bool // columns declared as times
	more  bool
	err   error
}

func newBridgeRows(ctx context.Context, b *bridge, st *sqlite.Stmt, done func() error) (*bridgeRows, error) {
	r := &bridgeRows{ctx: ctx, st: st, done: done}
	for i := range st.ColumnCount() {
		name := st.ColumnName(i)
		r.names = append(r.names, name)
		isTime, err := b.declaredTime(st.ColumnTableName(i), name)
		if err != nil {
			return nil, errors.Join(err, done())
		}
		r.times = append(r.times, isTime)
	}
	if r.more, r.err = st.Step(); r.err != nil {
		return nil, errors.Join(r.err, done())
	}
	return r, nil
}

const sqlColumnTypes = `select name, type from pragma_table_info(?1)`

// declaredTime reports whether a column holds times: database/sql cannot scan
// text into a time.Time, so such columns are parsed, as modernc.org/sqlite does.
func (b *bridge) declaredTime(table, column string) (bool, error) {
	if table == "" {
		return false, nil
	}
	columns, ok := b.decl[table]
	if !ok {
		columns = map[string]string{}
		err := b.c.query(sqlColumnTypes, []any{table}, func(st *sqlite.Stmt) error {
			columns[st.ColumnText(0)] = strings.ToUpper(st.ColumnText(1))
			return nil
		})
		if err != nil {
			return false, err
		}
		if b.decl == nil {
			b.decl = map[string]map[string]string{}
		}
		b.decl[table] = columns
	}
	switch columns[column] {
	case "DATE", "DATETIME", "TIMESTAMP":
		return true, nil
	}
	return false, nil
}

func (r *bridgeRows) Columns() []string { return r.names }

func (r *bridgeRows) Close() error { return r.done() }

func (r *bridgeRows) Next(dest []driver.Value) error {
	switch {
	case r.ctx.Err() != nil:
		return context.Cause(r.ctx)
	case r.err != nil:
		return r.err
	case !r.more:
		return io.EOF
	}
	for i := range dest {
		switch r.st.ColumnType(i) {
		case sqlite.TypeInteger:
			dest[i] = r.st.ColumnInt64(i)
		case sqlite.TypeFloat:
			dest[i] = r.st.ColumnFloat(i)
		case sqlite.TypeText:
			dest[i] = textValue(r.st.ColumnText(i), r.times[i])
		case sqlite.TypeBlob:
			b := make([]byte, r.st.ColumnLen(i))
			r.st.ColumnBytes(i, b)
			dest[i] = b
		default:
			dest[i] = nil
		}
	}
	r.more, r.err = r.st.Step()
	return nil
}

func textValue(s string, isTime bool) driver.Value {
	if isTime {
		for _, layout := range []string{timeLayout, time.RFC3339Nano, "2006-01-02T15:04:05.999999999", time.DateTime, time.DateOnly} {
			if t, err := time.Parse(layout, s); err == nil {
				return t
			}
		}
	}
	return s
}
