package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-go/weir/store"
)

// What the driver says when the server cannot be reached is of many kinds; here they
// become store.ErrUnavailable. Only what comes from the wire is looked at: a closure's own
// errors, which may be of another network service, never come here.

// SQLSTATEs of what passes: nothing is wrong with what was asked, and nothing of it is written. Whoever
// works the store asks again, whoever sends is told to come again. All others are told as they are: a statement
// that fails fails again. Class 08 is connections too.
const (
	// A server, or a pooler before it, ends a connection or refuses one.
	adminShutdown      = "57P01"
	crashShutdown      = "57P02"
	cannotConnectNow   = "57P03" // it starts up, shuts down or recovers
	idleSession        = "57P05"
	idleInTransaction  = "25P03" // this process was stopped, or slept
	transactionTimeout = "25P04" // its administrator's limit, from PostgreSQL 17 on
	classConnection    = "08"    // PgBouncer says so of all that it refuses

	// It lacks something that others use. (Not 53400: the statement asks for more than is allowed.)
	diskFull           = "53100"
	outOfMemory        = "53200"
	tooManyConnections = "53300"

	// Messages have no partition yet: what makes them ahead was held up. Heartbeats make it.
	checkViolation = "23514"

	// It is reached, but was slow, or others were in the way, for longer than it waits for them: one that was
	// stopped may hold what we need, until the server ends its transaction. That a statement of ours would never
	// be done in time cannot be told from that; to stop for it would stop for every disk that is slow for some
	// seconds. So who works goes on asking, and says so in the log again and again.
	queryCanceled        = "57014" // statement_timeout, or a person's pg_cancel_backend; not ours to cancel, else ctx is done
	serializationFailure = "40001" // in a caller's transaction
)

// errBusy and errLacking say what of ErrUnavailable it is, where the server does answer.
var (
	errBusy        = fmt.Errorf("%w: it was slow, or others were in the way, for longer than is waited for", store.ErrUnavailable)
	errNoPartition = fmt.Errorf("%w: the next partition of the messages could not be made yet: somebody has the table locked (ANALYZE, CREATE INDEX CONCURRENTLY)", store.ErrUnavailable)
	errLacking     = fmt.Errorf("%w: the server lacks room", store.ErrUnavailable)
)

// outage makes an error of the driver match store.ErrUnavailable if it means that the
// server cannot be reached; ctx is what the driver was called with.
func outage(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, store.ErrUnavailable) {
		return err
	}
	if ctx.Err() != nil { // a time limit of ours has ErrUnavailable for its cause
		if cause := context.Cause(ctx); errors.Is(cause, store.ErrUnavailable) {
			return fmt.Errorf("%w: %w", cause, err)
		}
		return err
	}
	if why := reason(err); why != nil {
		return fmt.Errorf("%w: %w", why, err)
	}
	return advise(err)
}

func isOutage(err error) bool { return reason(err) != nil }

// reason is the ErrUnavailable that an error of the driver amounts to; nil for none.
func reason(err error) error {
	if fault, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch fault.Code {
		case adminShutdown, crashShutdown, cannotConnectNow, idleSession, idleInTransaction, transactionTimeout:
			return store.ErrUnavailable
		case diskFull, outOfMemory, tooManyConnections:
			return errLacking
		case checkViolation:
			if fault.TableName == "messages" && fault.ConstraintName == "" {
				return errNoPartition
			}
		case queryCanceled, serializationFailure, deadlockDetected, lockNotAvailable:
			return errBusy
		}
		if len(fault.Code) == 5 && fault.Code[:2] == classConnection {
			return store.ErrUnavailable
		}
		return nil
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "remote error" || op.Op == "local error") {
		return nil // of TLS: a certificate is refused
	}
	_, network := errors.AsType[net.Error](err)
	if network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, pgconn.ErrConnClosed) {
		return store.ErrUnavailable
	}
	return nil
}

// isLoss reports whether an error says that a connection was lost, and not that whoever used it
// took too long: then the driver closes it, too.
func isLoss(err error) bool {
	return isOutage(err) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
}

// limited bounds what is done to end a transaction, whatever becomes of the caller. A
// server that is silent for so long is as good as none.
func limited(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return bounded(context.WithoutCancel(ctx), limit)
}

// bounded is limited for what ends with its caller.
func bounded(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: no answer in %s", store.ErrUnavailable, limit))
}

// The first transaction that meets a server which went away has all connections of before
// closed: those that lie idle would each cost an error more.

const eraOf = "weir.era" // in a connection's custom data: s.era when it was made

// welcome is called with each new connection.
func (s *Store) welcome(ctx context.Context, c *pgx.Conn) error {
	c.PgConn().CustomData()[eraOf] = s.era.Load()
	codeArrays(c)
	return s.greet(ctx, c)
}

// doubt is called when a connection was lost.
func (s *Store) doubt(c *pgx.Conn) {
	era, ok := c.PgConn().CustomData()[eraOf].(int64)
	if !ok || !s.era.CompareAndSwap(era, era+1) { // others have seen to it
		return
	}
	for _, p := range s.pools() {
		p.Reset()
	}
}
