package postgres

import (
	"context"
	"errors"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// lentTx is the engine's transaction as a closure has it, until its door is shut: the connection is
// others' then. Nested ones are savepoints.
type lentTx struct {
	pgx.Tx
	door   *door
	nested bool
}

// lend has pgx set the session for closures where it would begin a transaction: there is one.
func lend(ctx context.Context, c *pgxpool.Conn) (pgx.Tx, error) {
	tx, err := c.Conn().BeginTx(ctx, pgx.TxOptions{BeginQuery: sqlTheirs})
	if err != nil {
		return nil, outage(ctx, err)
	}
	return tx, nil
}

// door lets calls pass until it is shut, and tells when the last of them is over.
type door struct {
	mu    sync.Mutex
	shut  bool
	calls int
	idle  chan struct{} // closed with the last call, if there was one when the door was shut
}

func (d *door) enter() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.shut {
		d.calls++
	}
	return !d.shut
}

func (d *door) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls--
	if d.calls == 0 && d.idle != nil {
		close(d.idle)
	}
}

func (d *door) isShut() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.shut
}

// close shuts the door. It returns nil when no call is under way.
func (d *door) close() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = true
	if d.calls > 0 {
		d.idle = make(chan struct{})
	}
	return d.idle
}

// errLeftOpen refuses a change whose closure has returned too early.
var errLeftOpen = errors.New("the closure returned with rows, or results of a batch, still open, or while a goroutine of its used its transaction: " +
	"close them, and wait for it, before it returns")

// await shuts the door, and waits for calls of goroutines that the closure has left behind; still says
// that there were any.
func (t *ownTx) await() (still bool) {
	idle := t.tx.door.close()
	if idle == nil {
		return false
	}
	select {
	case <-idle:
	case <-t.ctx.Done():
		_ = t.conn.Conn().PgConn().Conn().Close() // which ends the call
		<-idle
	}
	return true
}

// hangUp closes the connection: what the server still sends on it is for nobody.
func (t *ownTx) hangUp() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), undoTime)
	defer cancel()
	_ = t.conn.Conn().Close(ctx)
}

// Commit implements pgx.Tx.
func (t lentTx) Commit(ctx context.Context) error {
	if !t.nested {
		return errEnded
	}
	return t.pass(func() error { return t.Tx.Commit(ctx) })
}

// Rollback implements pgx.Tx.
func (t lentTx) Rollback(ctx context.Context) error {
	if !t.nested {
		return errEnded
	}
	return t.pass(func() error { return t.Tx.Rollback(ctx) })
}

func (t lentTx) pass(call func() error) error {
	if !t.door.enter() {
		return errOver
	}
	defer t.door.leave()
	return call()
}

// Begin implements pgx.Tx.
func (t lentTx) Begin(ctx context.Context) (nested pgx.Tx, err error) {
	err = t.pass(func() error {
		tx, err := t.Tx.Begin(ctx)
		if err == nil {
			nested = lentTx{tx, t.door, true}
		}
		return err
	})
	return nested, err
}

// CopyFrom implements pgx.Tx.
func (t lentTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (n int64, err error) {
	err = t.pass(func() error {
		n, err = t.Tx.CopyFrom(ctx, table, columns, rows)
		return err
	})
	return n, err
}

// SendBatch implements pgx.Tx.
func (t lentTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if !t.door.enter() {
		return pgx.FailedBatchResults(b, errOver)
	}
	defer t.door.leave()
	return t.Tx.SendBatch(ctx, b)
}

// LargeObjects implements pgx.Tx.
func (t lentTx) LargeObjects() pgx.LargeObjects {
	if t.door.isShut() {
		return pgx.LargeObjects{}
	}
	return t.Tx.LargeObjects()
}

// Prepare implements pgx.Tx.
func (t lentTx) Prepare(ctx context.Context, name, text string) (d *pgconn.StatementDescription, err error) {
	err = t.pass(func() error {
		d, err = t.Tx.Prepare(ctx, name, text)
		return err
	})
	return d, err
}

// Exec implements pgx.Tx.
func (t lentTx) Exec(ctx context.Context, text string, args ...any) (tag pgconn.CommandTag, err error) {
	err = t.pass(func() error {
		tag, err = t.Tx.Exec(ctx, text, args...)
		return err
	})
	return tag, err
}

// Query implements pgx.Tx.
func (t lentTx) Query(ctx context.Context, text string, args ...any) (pgx.Rows, error) {
	if !t.door.enter() {
		return noRows{}, errOver
	}
	defer t.door.leave()
	return t.Tx.Query(ctx, text, args...)
}

// QueryRow implements pgx.Tx.
func (t lentTx) QueryRow(ctx context.Context, text string, args ...any) pgx.Row {
	if !t.door.enter() {
		return noRows{}
	}
	defer t.door.leave()
	return t.Tx.QueryRow(ctx, text, args...)
}

// Conn implements pgx.Tx.
func (t lentTx) Conn() *pgx.Conn {
	if t.door.isShut() {
		return nil
	}
	return t.Tx.Conn()
}

// noRows is the answer to a query when the transaction is over.
type noRows struct{}

func (noRows) Close()                                       {}
func (noRows) Err() error                                   { return errOver }
func (noRows) CommandTag() pgconn.CommandTag                { return pgconn.CommandTag{} }
func (noRows) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (noRows) Next() bool                                   { return false }
func (noRows) Scan(...any) error                            { return errOver }
func (noRows) Values() ([]any, error)                       { return nil, errOver }
func (noRows) RawValues() [][]byte                          { return nil }
func (noRows) Conn() *pgx.Conn                              { return nil }
func (noRows) TypeMap() *pgtype.Map                         { return pgtype.NewMap() }
