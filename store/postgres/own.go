package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/checks"
)

// callersPgx and callersSQL are transactions that the caller began on the store's database.
type (
	callersPgx struct{ tx pgx.Tx }
	callersSQL struct{ tx *sql.Tx }
)

func (callersPgx) StoreKind() string { return kind }
func (callersSQL) StoreKind() string { return kind }

// Tx lets messages be sent, and runs be started, in the caller's own transaction on the
// store's database: eng.In(postgres.Tx(tx)). They come about when it commits, with the
// caller's rows, or not at all; a savepoint that is rolled back takes what was sent since
// with it.
//
// A keyed send in an open transaction holds back other senders of that key: they wait for
// its end, as do those with the same deduplication key, so keep it short. One that is
// forgotten delays these only; other keys, unkeyed messages and all who work go on. Two
// such transactions that send with the same keys in another order may deadlock, as any two
// may: PostgreSQL then ends one of them, and its caller tries again.
//
// It should run under READ COMMITTED. Under REPEATABLE READ or SERIALIZABLE it does not see what was
// committed since its first statement: a topic declared since is refused, a deduplicated message or a run that was
// sent or started since fails with SQLSTATE 40001 and is to be tried again, and a queue's room is what it was then.
// A transaction that is over, or of another database, is refused.
func Tx(tx pgx.Tx) store.Tx { return callersPgx{tx} }

// SQLTx is Tx for a transaction of database/sql, by the driver of pgx (package
// github.com/jackc/pgx/v5/stdlib).
func SQLTx(tx *sql.Tx) store.Tx { return callersSQL{tx} }

// ownTx is the engine's transaction, lent to a closure.
type ownTx struct {
	tx   lentTx
	ctx  context.Context // the closure's, which ends with it
	conn *pgxpool.Conn
	sql  *sql.Tx // made by need
	undo func() error
}

func (*ownTx) StoreKind() string { return kind }

// Pgx is the transaction behind tx. In a closure it is the engine's: what is written
// through it commits with the acknowledgement, or not at all. It ends with the closure,
// and only the engine may commit it or roll it back.
//
// What a closure begins to read it closes before it returns (rows, and the results of a batch), and no
// goroutine of its uses the transaction for longer: else its change is refused. What is kept refuses all.
//
// Pgx panics when tx is another store's, or one of database/sql, or its closure has
// returned: all are mistakes in the program, and a closure's panic refuses its change.
func Pgx(tx store.Tx) pgx.Tx {
	switch tx := tx.(type) {
	case callersPgx:
		return tx.tx
	case *ownTx:
		if tx.tx.door.isShut() {
			panic(fmt.Errorf("postgres.Pgx: %w", errOver))
		}
		return tx.tx
	}
	panic(fmt.Errorf("postgres.Pgx: transaction of type %T is not one of pgx of this store", tx))
}

// SQL is Pgx for those who use database/sql. What is read is as the driver of pgx has it (package
// github.com/jackc/pgx/v5/stdlib).
func SQL(tx store.Tx) *sql.Tx {
	switch tx := tx.(type) {
	case callersSQL:
		return tx.tx
	case *ownTx:
		if tx.tx.door.isShut() {
			panic(fmt.Errorf("postgres.SQL: %w", errOver))
		}
		own, err := tx.openSQL()
		if err != nil {
			panic(fmt.Errorf("postgres.SQL: %w", err))
		}
		return own
	}
	panic(fmt.Errorf("postgres.SQL: transaction of type %T is not one of database/sql of this store", tx))
}

var (
	errOver  = errors.New("the closure has returned, and its transaction ended with it")
	errEnded = errors.New("closure ended the engine's transaction: Commit and Rollback are the engine's; return an error to undo the change")
)

// end takes the transaction back from the closure.
func (t *ownTx) end() error {
	var err error
	if t.undo != nil {
		err = t.undo()
	}
	still := t.await()
	switch {
	case t.conn.Conn().PgConn().IsBusy(): // nobody can say how much is still to come
		t.hangUp()
		return errors.Join(errLeftOpen, err)
	case still:
		return errors.Join(errLeftOpen, err)
	case t.conn.Conn().IsClosed():
		return errors.Join(errors.New("the connection was lost in a closure"), err)
	case t.conn.Conn().PgConn().TxStatus() == 'E':
		return errors.New("a statement of the closure failed, which ends the engine's transaction: return its error, or use a savepoint (Begin)")
	case t.conn.Conn().PgConn().TxStatus() != 'T':
		return errEnded
	}
	return err
}

// AppendIn implements store.Store. What it decides about capacity does not count what
// other transactions have not committed.
func (s *Store) AppendIn(ctx context.Context, tx store.Tx, ch *store.Change) error {
	if err := s.checkOpen(); err != nil {
		return err
	}
	t, err := s.callersTx(ctx, tx)
	if err != nil {
		return err
	}
	a := newAppender(t)
	if err := a.appendIn(ch); err != nil {
		a.forget()
		forgetStarts(ch.Runs)
		undate(ch.States)
		return err
	}
	s.makeRoomFor(ctx, a)
	return nil
}

const (
	sqlLife = `select ` + lifeNow
	// What is sent has the time of its sending: the transaction may have begun long ago, before the run that waits for it.
	sqlCallersHead = `select coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint),
		coalesce((select lost_us is not null or ended_us is not null from weir.processes where id = $2), $2 <> 0),
		pg_current_xact_id() is null`
)

// callersTx is the transaction that a caller brought, which we neither begin nor end,
// and whose settings are its own.
func (s *Store) callersTx(ctx context.Context, theirs store.Tx) (*tx, error) {
	t := &tx{s: s, ctx: ctx, process: s.process.Load()}
	switch own := theirs.(type) {
	case callersPgx:
		if isNil(own.tx) || own.tx.Conn() == nil {
			return nil, errors.New("append in a transaction: it is nil, or one of a pool that is closed")
		}
		t.w = pgxWire{own.tx, own.tx.Conn()}
	case callersSQL:
		if own.tx == nil {
			return nil, errors.New("append in a transaction: it is nil")
		}
		t.w = sqlWire(own)
	default:
		return nil, fmt.Errorf("append in a transaction of kind %T: want one of postgres.Tx or postgres.SQLTx", theirs)
	}
	t.ask(sqlLife, func(read scan) error {
		var life string
		if err := read(&life); err != nil {
			return err
		}
		if known := s.life.Load().(string); life != known {
			return fmt.Errorf("%w: %s, and the store is %s", errOtherDatabase, life, known)
		}
		return nil
	})
	t.ask(sqlCallersHead, func(read scan) error {
		var skip bool // it has a number before it draws positions, see cursor
		return read(&t.now, &t.lost, &skip)
	}, s.clockNow(), t.process)
	return t, nil
}

// isNil also reports one that is a nil pointer, as of a pool that could not begin.
func isNil(tx pgx.Tx) bool {
	v := reflect.ValueOf(tx)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}

// appendIn writes a change that has only sends and starts. What is refused has written
// nothing, so the caller's transaction can go on.
func (a *appender) appendIn(ch *store.Change) error {
	if err := a.flush(); err != nil {
		return callersFault(err)
	}
	if len(ch.Sends) > store.MaxSends || len(ch.Runs) > store.MaxSends {
		return fmt.Errorf("%d messages and %d runs in one change, at most %d", len(ch.Sends), len(ch.Runs), store.MaxSends)
	}
	if ch.Arrival != nil || len(ch.Drained) > 0 {
		return errLentArrival
	}
	if err := checks.States(ch); err != nil {
		return err
	}
	d := newDesk(a.tx)
	d.lent = true
	for _, m := range ch.Sends {
		if err := malformed(m); err != nil {
			return err
		}
	}
	a.lendStates(ch)
	a.prepare(ch.Sends, true, true)
	if err := d.askOwn(ch); err != nil {
		return err
	}
	if err := a.flush(); err != nil {
		return err
	}
	if err := a.leap(true); err != nil {
		return err
	}
	if unknown := a.unknown(ch.Sends); len(unknown) > 0 {
		if err := a.s.declareUnknown(a.ctx, unknown); err != nil {
			return err
		}
		names := map[string]bool{}
		for _, t := range unknown {
			names[t.Name] = true
			delete(a.known, t.Name)
		}
		a.askTails(names, true)
		if err := a.seesSince(names); err != nil {
			return err
		}
	}
	if err := a.completeTails(); err != nil {
		return err
	}
	twins, refused := a.admit(ch.Sends, true)
	if refused == nil {
		refused = d.refuseStarts(ch.Runs)
	}
	if refused != nil {
		return refused
	}
	if refused, err := d.offer(ch.Runs); refused != nil || err != nil {
		return errors.Join(refused, err)
	}
	a.add(ch.Sends, twins)
	if err := a.write(false); err != nil {
		return err
	}
	d.noteArrived(a.appended)
	a.putOwn(ch)
	a.tallies.write(a.tx)
	if err := a.flush(); err != nil {
		return err
	}
	return d.tellOwn()
}

const sqlIsolation = `select current_setting('transaction_isolation')`

// seesSince asks what is queued, and says so if topics that were declared by now are not seen for the
// transaction's isolation.
func (a *appender) seesSince(topics map[string]bool) error {
	var isolation string
	if err := a.get(sqlIsolation, func(read scan) error { return read(&isolation) }); err != nil {
		return err
	}
	for name := range topics {
		if a.known[name] == nil && isolation != "read committed" {
			return fmt.Errorf("append in a transaction: %w: topic %s, in one of %s", errOldSnapshot, name, isolation)
		}
	}
	return nil
}

var (
	errOldSnapshot   = errors.New("the transaction does not see a topic that was declared after it began: begin again, or under READ COMMITTED")
	errOtherDatabase = errors.New("the transaction is of another database than the store, or the database was restored or failed over")
	errNotOpen       = errors.New("the transaction is over: it was committed or rolled back, or its context is done")
)

const (
	undefinedTable    = "42P01"
	undefinedFunction = "42883"
	failedTransaction = "25P02"
)

// callersFault says what is wrong with a transaction that cannot be used at all.
func callersFault(err error) error {
	if errors.Is(err, pgx.ErrTxClosed) || errors.Is(err, sql.ErrTxDone) {
		return fmt.Errorf("append in a transaction: %w: %w", errNotOpen, err)
	}
	fault, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case ok && (fault.Code == undefinedTable || fault.Code == undefinedFunction):
		return fmt.Errorf("append in a transaction: %w: %w", errOtherDatabase, err)
	case ok && fault.Code == failedTransaction:
		return fmt.Errorf("append in a transaction: a statement before failed in it: roll it back, or to a savepoint: %w", err)
	case errors.Is(err, errOtherDatabase):
		return fmt.Errorf("append in a transaction: %w", err)
	}
	return err
}

// makeRoomFor makes partitions ahead of what was appended. What fails is done, or told, by
// heartbeats.
func (s *Store) makeRoomFor(ctx context.Context, a *appender) {
	if len(a.appended) > 0 {
		_ = s.makeRoom(ctx, seqOf(int64(a.appended[len(a.appended)-1].Pos)))
	}
}

// sqlWire is a caller's transaction of database/sql: a round trip for each question.
type sqlWire struct{ tx *sql.Tx }

func (w sqlWire) carry(ctx context.Context, questions []question) error {
	for i := range questions {
		if err := w.one(ctx, &questions[i]); err != nil {
			return fmt.Errorf("by database/sql: %w", err)
		}
	}
	return nil
}

func (w sqlWire) one(ctx context.Context, q *question) (err error) {
	if q.row == nil {
		done, err := w.tx.ExecContext(ctx, q.query, q.args...)
		if err == nil && q.count != nil {
			*q.count, err = done.RowsAffected()
		}
		return err
	}
	rows, err := w.tx.QueryContext(ctx, q.query, q.args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := q.row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
