package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
)

// A statement that is given up costs its connection: the driver closes it, and asks the server to
// cancel what it does. That request is lost when it comes before the statement, or when a network
// is in doubt; then the transaction stays open for as long as the statement runs, and what it has
// locked stays locked: for the group's next attempt, and for everybody else. So the server is told
// on another connection to end who runs the transaction. It is found by its number, which no other
// has, also when a pooler is between us.

const (
	// cancelTime is how long the driver's request is given: it does, as a rule.
	cancelTime = 100 * time.Millisecond
	// endTime bounds the end of a transaction that was given up. What holds out longer is
	// waited for by those who need what it has, until the server's own limits end it (see head).
	endTime = 5 * time.Second

	// A role may end its own sessions. The function waits until the session is gone.
	sqlEndLost = `select count(pg_terminate_backend(pid, $2::bigint)) from pg_stat_activity where backend_xid = $1::text::xid8::xid`
)

// lose is called when a transaction's connection was closed, err is why.
func (t *tx) lose(c *pgx.Conn, err error) {
	switch {
	case errors.Is(err, store.ErrUnavailable):
		t.s.doubt(c)
	case !t.over && t.xid != "":
		t.s.endLost(t.ctx, c, t.xid)
	}
}

// endLost returns when the transaction is over, or endTime is. That it is not fails nobody: those
// who need what it holds say so.
func (s *Store) endLost(ctx context.Context, c *pgx.Conn, xid string) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), endTime,
		fmt.Errorf("%w: transaction %s is not over after %s", store.ErrUnavailable, xid, endTime))
	defer cancel()
	timer := time.NewTimer(cancelTime)
	defer timer.Stop()
	select {
	case <-c.PgConn().CleanupDone():
	case <-timer.C:
	}
	_, _ = s.aside.Exec(ctx, sqlEndLost, xid, endTime.Milliseconds())
}
