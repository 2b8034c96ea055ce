package postgres

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir/store"
)

// closureError is a closure's failure, and whose it is.
type closureError struct {
	change *store.Change
	err    error
}

func (e *closureError) Error() string { return e.err.Error() }
func (e *closureError) Unwrap() error { return e.err }

// closuresError is a failure after closures of several changes, by what one of them has done.
type closuresError struct{ err error }

func (e *closuresError) Error() string { return e.err.Error() }
func (e *closuresError) Unwrap() error { return e.err }

// blame makes the closures' what goes wrong after them and is no outage: a constraint that is deferred
// fails with the commit, and what they have set holds for our statements, too. Nil: it is not theirs.
func (t *commit) blame(err error) error {
	if _, known := errors.AsType[*closureError](err); known {
		return err
	}
	fault, ok := errors.AsType[*pgconn.PgError](err)
	others := []error{store.ErrUnresolved, store.ErrLeaseLost, store.ErrClosed, store.ErrUnavailable}
	if t.ending && ok && slices.Contains([]string{lockNotAvailable, deadlockDetected, queryCanceled, serializationFailure}, fault.Code) {
		others = others[:3] // a commit waits for nothing but what deferred constraints and triggers look at
	}
	for _, other := range others {
		if errors.Is(err, other) {
			return nil
		}
	}
	if len(t.lent) == 0 || ok && fault.SchemaName == t.s.schema && (hadSteps(err) || startedMeanwhile(err)) {
		return nil
	}
	if errors.Is(err, store.ErrUnavailable) {
		err = fault
	}
	err = fmt.Errorf("after the closures: %w", err)
	if len(t.lent) == 1 {
		return &closureError{t.lent[0], err}
	}
	return &closuresError{err}
}

// closureTime is how long a closure may take: the others of its group wait for it.
const closureTime = 5 * time.Second

// runClosures runs the user's own work, before the rows of the group are sent.
func (t *commit) runClosures(c *pgxpool.Conn) error {
	var lent pgx.Tx
	for _, ch := range t.changes {
		if ch.Err != nil || len(ch.Closures) == 0 || t.isApart(ch) {
			continue
		}
		t.lent = append(t.lent, ch)
		for _, f := range ch.Closures {
			if lent == nil {
				if err := t.writeSends(); err != nil { // closures come after them
					return err
				}
				if err := t.flush(); err != nil {
					return err
				}
				t.unsettle()
				var err error
				if lent, err = lend(t.ctx, c); err != nil {
					return err
				}
			}
			if err := t.runClosure(c, lent, f); err != nil && c.Conn().IsClosed() && isLoss(err) && !errors.Is(err, errLeftOpen) {
				return fmt.Errorf("%w: %w", store.ErrUnavailable, err) // no fault of the closure's
			} else if err != nil && len(t.lent) > 1 && bySetting(err) {
				return &closuresError{err}
			} else if err != nil {
				return &closureError{ch, err}
			}
		}
	}
	if lent != nil {
		return t.ours()
	}
	return nil
}

// bySetting reports whether a closure may have failed by what one of another change has set: the role, that
// nothing may be written, a limit, the search path.
func bySetting(err error) bool {
	fault, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains([]string{insufficientPrivilege, readOnly, lockNotAvailable, queryCanceled, undefinedTable, undefinedFunction}, fault.Code)
}

const readOnly = "25006"

func (t *commit) isApart(ch *store.Change) bool {
	for _, a := range t.apart {
		if a == ch {
			return true
		}
	}
	return false
}

func (t *commit) runClosure(c *pgxpool.Conn, lent pgx.Tx, f store.Closure) (err error) {
	ctx, cancel := context.WithTimeoutCause(t.callers, closureTime,
		fmt.Errorf("closure took longer than %s: %w", closureTime, context.DeadlineExceeded))
	defer cancel()
	tx := &ownTx{tx: lentTx{Tx: lent, door: &door{}}, ctx: ctx, conn: c}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("closure panicked: %v\n%s", p, debug.Stack())
		}
		if end := tx.end(); err == nil || errors.Is(end, errLeftOpen) {
			err = errors.Join(err, end)
		}
	}()
	err = f(ctx, tx)
	if ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) { // also when f did not notice
		err = errors.Join(context.Cause(ctx), err)
	}
	return err
}
