package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir/store"
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

// clockNow is the time as the store was told to take it; nil is the server's.
func (s *Store) clockNow() *int64 {
	if s.clock == nil {
		return nil
	}
	now := us(s.clock())
	return &now
}

// scan reads the columns of the current row.
type scan func(into ...any) error

// question is a statement that is to be sent, and what is done with its rows.
type question struct {
	query string
	args  []any
	row   func(scan) error // nil: none are of interest
	count *int64           // if set: how many rows were written
	met   *bool            // if set: whether all before it have succeeded
}

// wire carries questions to the server, in order, as few round trips as it can.
type wire interface {
	carry(ctx context.Context, questions []question) error
}

// tx is one transaction. What is asked is queued and goes out with the next flush, or
// with the commit: statements cost little, round trips much. The server runs them in
// order, each seeing what was committed when it began.
type tx struct {
	s    *Store
	ctx  context.Context
	w    wire
	todo []question
	// now is the store's time; the number of the process that asks, and of the
	// transaction, are known with it, after the first flush.
	now     int64
	process int64
	xid     string
	server  string // since when the server has run
	lost    bool
	// settles: what the session is set to here holds for it once the transaction has committed.
	settles bool

	quit bool // to be rolled back though nothing failed
	// ending: all but the commit itself has succeeded.
	ending bool
	over   bool
	// again: to do it twice does no harm, so nobody needs to know whether it was committed.
	again bool
	// done tells, when the answer to the commit was lost, whether it came about, by what
	// there is. See fate.go.
	done func(ctx context.Context) (bool, error)
}

// ask queues a statement whose rows are of interest.
func (t *tx) ask(query string, row func(scan) error, args ...any) {
	t.todo = append(t.todo, question{query: t.s.text(query), args: args, row: row})
}

// do queues a statement.
func (t *tx) do(query string, args ...any) { t.ask(query, nil, args...) }

// tell queues a statement and has the rows that it writes counted.
func (t *tx) tell(query string, count *int64, args ...any) {
	t.todo = append(t.todo, question{query: t.s.text(query), args: args, count: count})
}

// flush sends what is queued and reads the answers.
func (t *tx) flush() error {
	if len(t.todo) == 0 {
		return nil
	}
	todo := t.todo
	t.todo = nil
	if err := t.w.carry(t.ctx, todo); err != nil {
		return outage(t.ctx, err)
	}
	if t.lost {
		return store.ErrLeaseLost
	}
	return nil
}

// get sends what is queued and a statement, and reads the answers.
func (t *tx) get(query string, row func(scan) error, args ...any) error {
	t.ask(query, row, args...)
	return t.flush()
}

// number is the first column of the first row; found is false when there is none.
func (t *tx) number(query string, args ...any) (n int64, found bool, err error) {
	err = t.get(query, func(read scan) error {
		found = true
		return read(&n)
	}, args...)
	return n, found, err
}

// pgxWire is a connection, or a caller's transaction, of pgx.
type pgxWire struct {
	c interface {
		SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	}
	conn *pgx.Conn
}

func (w pgxWire) pgConn() *pgconn.PgConn { return w.conn.PgConn() }

func (w pgxWire) carry(ctx context.Context, questions []question) error {
	b := &pgx.Batch{QueuedQueries: make([]*pgx.QueuedQuery, 0, len(questions))}
	for i := range questions {
		q := &questions[i]
		queued := b.Queue(q.query, q.args...)
		switch {
		case q.row != nil:
			queued.Query(func(rows pgx.Rows) error {
				defer rows.Close()
				if q.met != nil {
					*q.met = true
				}
				for rows.Next() {
					if err := q.row(rows.Scan); err != nil {
						return err
					}
				}
				return rows.Err()
			})
		case q.count != nil:
			queued.Exec(func(tag pgconn.CommandTag) error {
				*q.count = tag.RowsAffected()
				return nil
			})
		}
	}
	return w.c.SendBatch(ctx, b).Close()
}

const (
	sqlBegin    = `begin isolation level read committed read write`
	sqlRead     = `begin isolation level repeatable read read only`
	sqlCommit   = `commit`
	sqlRollback = `rollback`
)

// silence bounds a transaction with all its round trips. The server's own limits, by the
// statement, are shorter: one that has not answered by then is gone without a word.
func (s *Store) silence() time.Duration { return max(2*s.lease, silenceMin) }

const silenceMin = 30 * time.Second

// write runs f in a transaction. It waits for a connection until ctx is done; f itself
// is not interrupted. When f returns an error, or panics, nothing is written.
func (s *Store) write(ctx context.Context, f func(t *tx) error) error {
	return s.transact(ctx, s.pool, f)
}

func (s *Store) transact(ctx context.Context, pool *pgxpool.Pool, f func(t *tx) error) error {
	return s.transactIn(ctx, pool, s.silence(), f)
}

func (s *Store) transactIn(ctx context.Context, pool *pgxpool.Pool, limit time.Duration, f func(t *tx) error) error {
	c, err := s.acquire(ctx, pool)
	if err != nil {
		return err
	}
	defer c.Release()
	io, cancel := limited(ctx, limit)
	defer cancel()
	t := &tx{s: s, ctx: io, w: pgxWire{c, c.Conn()}, process: s.process.Load()}
	t.head(sqlBegin, writing)
	return t.run(c, f)
}

// claimTx is transact for a transaction that mostly writes nothing: it is given no number
// until it does.
func (s *Store) claimTx(ctx context.Context, f func(t *tx) error) error {
	c, err := s.acquire(ctx, s.pool)
	if err != nil {
		return err
	}
	defer c.Release()
	io, cancel := limited(ctx, s.silence())
	defer cancel()
	t := &tx{s: s, ctx: io, w: pgxWire{c, c.Conn()}, process: s.process.Load()}
	t.head(sqlBegin, claiming)
	return t.run(c, f)
}

// read runs f in a read transaction: it sees one committed state of the store and holds
// back nobody. When ctx is done, f's statement is cancelled.
func (s *Store) read(ctx context.Context, f func(t *tx) error) error {
	c, err := s.acquire(ctx, s.pool)
	if err != nil {
		return err
	}
	defer c.Release()
	ctx, cancel := bounded(ctx, s.silence())
	defer cancel()
	t := &tx{s: s, ctx: ctx, w: pgxWire{c, c.Conn()}, quit: true}
	t.head(sqlRead, reading)
	err = t.run(c, f)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("read: %w", context.Cause(ctx))
	}
	return err
}

// run runs f and ends the transaction.
func (t *tx) run(c *pgxpool.Conn, f func(t *tx) error) (err error) {
	defer func() { // also when f panics
		if c.Conn().IsClosed() {
			t.lose(c.Conn(), err)
			return
		}
		if t.over {
			return
		}
		undo, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), undoTime)
		defer cancel()
		if _, end := c.Exec(undo, sqlRollback); end != nil && err == nil {
			err = fmt.Errorf("rollback: %w", outage(undo, end))
		}
	}()
	if err := f(t); err != nil {
		return err
	}
	if t.quit {
		return nil
	}
	return t.commit(c)
}

const undoTime = 5 * time.Second

func (s *Store) acquire(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, error) {
	if err := s.checkOpen(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("wait for a connection: %w", context.Cause(ctx))
	}
	c, err := pool.Acquire(ctx)
	if err == nil {
		return c, nil
	}
	if closed := s.checkOpen(); closed != nil {
		return nil, closed
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("wait for a connection: %w", context.Cause(ctx))
	}
	return nil, outage(ctx, err)
}
