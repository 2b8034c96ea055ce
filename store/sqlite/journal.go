package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/lives"
	"github.com/weir-go/weir/store/internal/origin"
	"zombiezen.com/go/sqlite"
)

// journal is a transaction to append in: the writer's own, or one that a caller
// brought. What is appended, and who is refused, is decided in one place for
// both; see appender.
type journal interface {
	exec(query string, args ...any) error
	// rows fills into (*int64, *string or *[]byte each) and calls each, for every row.
	// No column may be NULL.
	rows(query string, args []any, into []any, each func() error) error
	// insert writes messages, whose Pos is set, as sent at the time given.
	insert(messages []*store.Message, l lives.Lives, sent int64) error
	insertRuns(runs []newRun, l lives.Lives) error
}

var (
	_ journal = (*conn)(nil)
	_ journal = (*callerTx)(nil)
)

func (c *conn) rows(query string, args []any, into []any, each func() error) error {
	return c.query(query, args, func(st *sqlite.Stmt) error {
		for i, p := range into {
			switch p := p.(type) {
			case *int64:
				*p = st.ColumnInt64(i)
			case *string:
				*p = st.ColumnText(i)
			case *[]byte:
				*p = blob(st, i)
			default:
				return fmt.Errorf("column %d: unknown type %T", i, p)
			}
		}
		return each()
	})
}

// The hot statement takes many rows at once: stepping a statement costs about as
// much as the row itself. What a group has is cut into such of 64, 16, 4 and 1.
// With "or fail" SQLite keeps no journal for the rows before one that fails: they
// go with the transaction.
const (
	insertInto   = `insert or fail into weir_messages (pos, sent_us, version, key, due_us, cause, correlation, origin, headers, body) values `
	messageRow   = `(?,?,?,?,?,?,?,?,?,?)`
	messageRow4  = messageRow + `,` + messageRow + `,` + messageRow + `,` + messageRow
	messageRow16 = messageRow4 + `,` + messageRow4 + `,` + messageRow4 + `,` + messageRow4
	messageRow64 = messageRow16 + `,` + messageRow16 + `,` + messageRow16 + `,` + messageRow16

	insertOne = insertInto + messageRow
	insert4   = insertInto + messageRow4
	insert16  = insertInto + messageRow16
	insert64  = insertInto + messageRow64

	messageColumnCount = 10
)

// insertFor is the statement for the next of n messages, and how many it takes.
func insertFor(n int) (text string, rows int) {
	switch {
	case n >= 64:
		return insert64, 64
	case n >= 16:
		return insert16, 16
	case n >= 4:
		return insert4, 4
	}
	return insertOne, 1
}

func (c *conn) insert(messages []*store.Message, l lives.Lives, sent int64) error {
	for len(messages) > 0 {
		text, n := insertFor(len(messages))
		st, err := c.prepare(text)
		if err != nil {
			return err
		}
		for i, m := range messages[:n] {
			bindMessage(st, i*messageColumnCount, m, l, sent)
		}
		if _, err := st.Step(); err != nil {
			return err
		}
		messages = messages[n:]
	}
	return nil
}

// bindMessage binds a row's parameters, all NULL before, without boxing them.
func bindMessage(st *sqlite.Stmt, p int, m *store.Message, l lives.Lives, sent int64) {
	st.BindInt64(p+1, int64(m.Pos))
	st.BindInt64(p+2, sent)
	st.BindInt64(p+3, int64(m.Version))
	if m.Key != "" {
		st.BindText(p+4, m.Key)
	}
	if !m.Due.IsZero() {
		st.BindInt64(p+5, us(m.Due))
	}
	bindReference(st, p+6, m.Cause, l)
	bindReference(st, p+7, m.Correlation, l)
	if m.Origin != nil {
		st.BindText(p+8, origin.Pack(m.Origin))
	}
	if m.Headers != nil {
		st.BindBytes(p+9, m.Headers)
	}
	st.BindBytes(p+10, m.Body)
}

// bindReference stores an ID of this store as its position: eight bytes or
// fewer instead of fifteen, in the row and in the index.
func bindReference(st *sqlite.Stmt, p int, id string, l lives.Lives) {
	if id == "" {
		return
	}
	if pos, ok := l.Local(id); ok {
		st.BindInt64(p, int64(pos))
		return
	}
	st.BindText(p, id)
}

// callerTx is a caller's own transaction, by any driver of database/sql.
type callerTx struct {
	ctx context.Context // of the one call that the value lives for
	tx  *sql.Tx
}

func (t *callerTx) exec(query string, args ...any) error {
	for i, a := range args {
		if at, ok := a.(time.Time); ok { // drivers differ in how they store times
			args[i] = us(at)
		}
	}
	_, err := t.tx.ExecContext(t.ctx, query, args...)
	return err
}

func (t *callerTx) rows(query string, args []any, into []any, each func() error) (err error) {
	rows, err := t.tx.QueryContext(t.ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := each(); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (t *callerTx) insert(messages []*store.Message, l lives.Lives, sent int64) (err error) {
	if len(messages) == 0 {
		return nil
	}
	st, err := t.tx.PrepareContext(t.ctx, insertOne)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	for _, m := range messages {
		_, err := st.ExecContext(t.ctx, int64(m.Pos), sent, m.Version, textOrNull(m.Key), timeOrNull(m.Due),
			reference(m.Cause, l), reference(m.Correlation, l), originOrNull(m.Origin), blobOrNull(m.Headers), notNull(m.Body))
		if err != nil {
			return err
		}
	}
	return nil
}

// reference is what bindReference binds.
func reference(id string, l lives.Lives) any {
	if pos, ok := l.Local(id); ok {
		return int64(pos)
	}
	return textOrNull(id)
}

func originOrNull(o *store.Origin) any {
	if o == nil {
		return nil
	}
	return origin.Pack(o)
}

func textOrNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func blobOrNull(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

func timeOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return us(t)
}
