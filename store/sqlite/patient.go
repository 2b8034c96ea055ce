package sqlite

import (
	"context"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"time"

	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// patient makes connections whose transactions ask for the write lock as often as
// the engine does. SQLite's own wait grows to 100 ms a time: beside an engine that
// commits one group after another it hardly ever meets a gap.
type patient struct{ sqldriver.Connector }

// moderncConn is what modernc's connections can do, all of which patientConn passes on.
type moderncConn interface {
	sqldriver.Conn
	sqldriver.ConnBeginTx
	sqldriver.ConnPrepareContext
	sqldriver.ExecerContext
	sqldriver.QueryerContext
	sqldriver.Pinger
	sqldriver.SessionResetter
	sqldriver.Validator
}

type patientConn struct{ moderncConn }

const (
	sqlAskOnce = `pragma busy_timeout = 0`
	sqlAsk     = `pragma busy_timeout = 5000` // as in OpenDB
)

// Connect implements driver.Connector.
func (p patient) Connect(ctx context.Context) (sqldriver.Conn, error) {
	c, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	full, ok := c.(moderncConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("connection of type %T", c), c.Close())
	}
	return patientConn{full}, nil
}

// BeginTx implements driver.ConnBeginTx.
func (c patientConn) BeginTx(ctx context.Context, opts sqldriver.TxOptions) (sqldriver.Tx, error) {
	if _, err := c.ExecContext(ctx, sqlAskOnce, nil); err != nil {
		return nil, err
	}
	tx, err := c.begin(ctx, opts)
	if _, restore := c.ExecContext(context.WithoutCancel(ctx), sqlAsk, nil); restore != nil && err == nil {
		return nil, errors.Join(restore, tx.Rollback())
	}
	return tx, err
}

func (c patientConn) begin(ctx context.Context, opts sqldriver.TxOptions) (sqldriver.Tx, error) {
	wait := busyWaitMin
	for asked := time.Now(); ; {
		tx, err := c.moderncConn.BeginTx(ctx, opts)
		if busy, ok := errors.AsType[*modernc.Error](err); !ok || busy.Code()&0xff != sqlite3.SQLITE_BUSY || time.Since(asked) > busyTimeout {
			return tx, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			wait = min(2*wait, busyWaitMax)
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
	}
}
