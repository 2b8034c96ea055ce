package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-go/weir/store"
	"zombiezen.com/go/sqlite"
)

// conn is one connection with its prepared statements, kept by their text.
type conn struct {
	c *sqlite.Conn
	// version is the data_version last seen: it changes when another connection commits.
	version int64
	// bridge lends the connection's open transaction to closures; nil until the first.
	bridge *bridge
	// gapEnds is when the write lock may be asked for again; see leaveGap.
	gapEnds time.Time
	// lent is set while a closure runs: then statements may neither end the
	// transaction nor write to the journal's tables.
	lent bool
}

const (
	sqlBegin       = `begin`
	sqlImmediate   = `begin immediate`
	sqlCommit      = `commit`
	sqlRollback    = `rollback`
	sqlDataVersion = `pragma data_version`
)

// us is a time as it is stored; the zero time is 0.
func us(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// at is the inverse of us.
func at(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// prepare returns the statement with this text, reset and with all parameters NULL.
func (c *conn) prepare(query string) (*sqlite.Stmt, error) {
	st, err := c.c.Prepare(query)
	return st, advise(err)
}

func (c *conn) bind(query string, args []any) (*sqlite.Stmt, error) {
	st, err := c.prepare(query)
	if err != nil {
		return nil, err
	}
	for i, a := range args {
		switch v := a.(type) {
		case nil:
		case int64:
			st.BindInt64(i+1, v)
		case int:
			st.BindInt64(i+1, int64(v))
		case string:
			st.BindText(i+1, v)
		case []byte:
			if v != nil {
				st.BindBytes(i+1, v)
			}
		case time.Time:
			if !v.IsZero() {
				st.BindInt64(i+1, v.UnixMicro())
			}
		case bool:
			st.BindBool(i+1, v)
		default:
			return nil, fmt.Errorf("bind parameter %d: unknown type %T", i+1, a)
		}
	}
	return st, nil
}

// exec runs a statement that returns no rows of interest.
func (c *conn) exec(query string, args ...any) error {
	st, err := c.bind(query, args)
	if err != nil {
		return err
	}
	return advise(finish(st))
}

// query calls row for each row; what the statement's columns hold is valid only during the call.
func (c *conn) query(query string, args []any, row func(s *sqlite.Stmt) error) error {
	st, err := c.bind(query, args)
	if err != nil {
		return err
	}
	for {
		more, err := st.Step()
		if err != nil {
			return err
		}
		if !more {
			return nil
		}
		if err := row(st); err != nil {
			if end := st.Reset(); end != nil {
				return errors.Join(err, end)
			}
			return err
		}
	}
}

// number is the first column of the first row; found is false when there is none or it is NULL.
func (c *conn) number(query string, args ...any) (n int64, found bool, err error) {
	st, err := c.bind(query, args)
	if err != nil {
		return 0, false, err
	}
	more, err := st.Step()
	if err != nil || !more {
		return 0, false, err
	}
	if !st.ColumnIsNull(0) {
		n, found = st.ColumnInt64(0), true
	}
	return n, found, st.Reset()
}

// changes is the number of rows the last statement wrote.
func (c *conn) changes() int64 { return int64(c.c.Changes()) }

// finish runs a bound statement to its end.
func finish(st *sqlite.Stmt) error {
	for {
		more, err := st.Step()
		if err != nil || !more {
			return err
		}
	}
}

// blob copies a column; NULL is nil.
func blob(st *sqlite.Stmt, col int) []byte {
	if st.ColumnIsNull(col) {
		return nil
	}
	b := make([]byte, st.ColumnLen(col))
	st.ColumnBytes(col, b)
	return b
}

// write runs f in a transaction on the one writer connection. It waits for its
// turn, and for other connections to the file, until ctx is done; f itself is
// not interrupted. When f returns an error, or panics, nothing is written.
func (s *Store) write(ctx context.Context, f func(c *conn) error) error {
	c, err := s.takeWriter(ctx)
	if err != nil {
		return err
	}
	defer s.giveWriter(c)
	return s.transact(ctx, c, f)
}

// transact is write for whoever holds the writer connection.
func (s *Store) transact(ctx context.Context, c *conn, f func(c *conn) error) (err error) {
	if err := c.begin(ctx); err != nil {
		return err
	}
	defer c.ended(time.Now())
	committed := false
	defer func() { // also when f panics
		if committed {
			return
		}
		if undo := c.rollback(); undo != nil {
			err = errors.Join(err, undo)
		}
	}()
	if err := s.noticeOthers(c); err != nil {
		return err
	}
	if err := checkLease(c, s.process.Load()); err != nil {
		return err
	}
	if err := f(c); err != nil {
		return err
	}
	if err := c.exec(sqlCommit); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	committed = true
	return nil
}

// begin takes the file's write lock. Another process, or a transaction of the
// user's own, may hold it for long: that is no fault of the database, so we ask
// again until ctx is done.
func (c *conn) begin(ctx context.Context) error {
	c.c.SetBusyTimeout(0) // SQLite's own wait grows to 100 ms a time, and knows no ctx
	defer c.c.SetBusyTimeout(busyTimeout)
	if err := c.leaveGap(ctx); err != nil {
		return err
	}
	wait := busyWaitMin
	for {
		err := c.exec(sqlImmediate)
		if err == nil || sqlite.ErrCode(err).ToPrimary() != sqlite.ResultBusy {
			return advise(err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			wait = min(2*wait, busyWaitMax)
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("wait for the file's write lock, which another transaction holds: %w", context.Cause(ctx))
		}
	}
}

const (
	// Asking costs some microseconds. A sender who commits one transaction after
	// another leaves gaps of that length, and who asks seldom never meets one.
	busyWaitMin = 100 * time.Microsecond
	busyWaitMax = 500 * time.Microsecond
	// longHold is how long a transaction holds the write lock for that is followed by a gap in which others who ask
	// meet it free. Between one that waits for a slow disk and the next there is as short a moment as between fast ones, and
	// there are few of them in the 5 s that a user's transaction waits for. The gap costs a fiftieth.
	longHold = 50 * time.Millisecond
	longGap  = 2 * busyWaitMax
)

// ended notes that a transaction is over that has held the write lock since began.
func (c *conn) ended(began time.Time) {
	if now := time.Now(); now.Sub(began) >= longHold {
		c.gapEnds = now.Add(longGap)
	}
}

// leaveGap waits until others had their chance to take the write lock.
func (c *conn) leaveGap(ctx context.Context) error {
	if c.gapEnds.IsZero() {
		return nil
	}
	timer := time.NewTimer(time.Until(c.gapEnds)) // at once, mostly
	defer timer.Stop()
	select {
	case <-timer.C:
		c.gapEnds = time.Time{}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the file's write lock: %w", context.Cause(ctx))
	}
}

// rollback ends the transaction, if SQLite has not done so itself (it does on disk full).
func (c *conn) rollback() error {
	if c.c.AutocommitEnabled() {
		return nil
	}
	if err := c.exec(sqlRollback); err != nil {
		return fmt.Errorf("rollback: %w", err)
	}
	return nil
}

// read runs f in a read transaction: it sees one committed state of the store
// and holds back no writer. When ctx is done, f's statement is interrupted.
func (s *Store) read(ctx context.Context, f func(c *conn) error) (err error) {
	c, err := s.takeReader(ctx)
	if err != nil {
		return err
	}
	defer s.giveReader(c)
	c.c.SetInterrupt(ctx.Done())
	defer func() { // also when f panics
		c.c.SetInterrupt(nil)
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("read: %w", context.Cause(ctx))
		}
		if end := c.rollback(); end != nil {
			err = errors.Join(err, end)
		}
	}()
	if err := c.exec(sqlBegin); err != nil {
		return err
	}
	return f(c)
}

func (s *Store) takeWriter(ctx context.Context) (*conn, error) {
	if err := s.checkOpen(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil { // the select below might be lucky
		return nil, fmt.Errorf("wait for the writer: %w", context.Cause(ctx))
	}
	select {
	case c := <-s.writer:
		return c, nil
	case <-s.closed:
		return nil, store.ErrClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the writer: %w", context.Cause(ctx))
	}
}

// giveWriter puts the connection back, for Close to find if that came meanwhile.
func (s *Store) giveWriter(c *conn) {
	s.writer <- c
	s.sweep()
}

// takeReader waits for a read connection; nil ones in the pool are not open yet.
func (s *Store) takeReader(ctx context.Context) (*conn, error) {
	if err := s.checkOpen(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil { // the select below might be lucky
		return nil, fmt.Errorf("wait for a reader: %w", context.Cause(ctx))
	}
	select {
	case c := <-s.readers:
		if c != nil {
			return c, nil
		}
		c, err := openConn(s.path, readerPragmas())
		if err != nil {
			s.giveReader(nil)
			return nil, err
		}
		return c, nil
	case <-s.closed:
		return nil, store.ErrClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a reader: %w", context.Cause(ctx))
	}
}

func (s *Store) giveReader(c *conn) {
	s.readers <- c
	s.sweep()
}
