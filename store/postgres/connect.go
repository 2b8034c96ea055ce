package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir/store"
)

const (
	connectTime = 10 * time.Second // for one connection, unless the DSN says otherwise
	awaitMin    = 50 * time.Millisecond
	awaitMax    = time.Second
)

// parse reads a DSN.
func parse(dsn string) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err // pgx takes care not to show the password
	}
	if c.ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol {
		return nil, errors.New("default_query_exec_mode=simple_protocol does not tell the server the types of values: leave it out (a pooler is noticed), or use exec")
	}
	if c.ConnConfig.ConnectTimeout == 0 {
		c.ConnConfig.ConnectTimeout = connectTime
	}
	if c.ConnConfig.RuntimeParams["application_name"] == "" {
		c.ConnConfig.RuntimeParams["application_name"] = "weir"
	}
	if suits := c.ConnConfig.ValidateConnect; suits != nil { // target_session_attrs
		c.ConnConfig.ValidateConnect = func(ctx context.Context, c *pgconn.PgConn) error {
			err := suits(ctx, c)
			if _, worse := errors.AsType[*pgconn.NotPreferredError](err); err == nil || worse {
				return err
			}
			return fmt.Errorf("%w: %w", store.ErrUnavailable, err) // one of the standbys may be promoted
		}
	}
	return c, nil
}

// await connects for the first time. A server that cannot be reached yet is waited for:
// services start beside their database.
func (s *Store) await(ctx context.Context, dsn string) (direct bool, err error) {
	config, err := parse(dsn)
	if err != nil {
		return false, err
	}
	began := time.Now()
	for wait := awaitMin; ; wait = min(2*wait, awaitMax) {
		direct, err = s.first(ctx, config.ConnConfig)
		// Jitter, so that all processes of a service do not knock at once.
		pause := wait/2 + rand.N(wait/2)
		if !errors.Is(err, store.ErrUnavailable) || time.Since(began)+pause > s.wait {
			return direct, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// first connects, looks at the server, and reports whether there is no pooler between us and it. A DSN that
// wants no named prepared statements says that there is one.
func (s *Store) first(ctx context.Context, config *pgx.ConnConfig) (direct bool, err error) {
	told := config.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement
	config = config.Copy()
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false, outage(ctx, err)
	}
	if err = s.greet(ctx, c); err == nil && !told {
		direct, err = stays(ctx, c, config)
	}
	return direct, errors.Join(outage(ctx, err), c.Close(ctx))
}

const sqlBackend = `select pg_backend_pid()`

// stays reports whether a connection stays with the backend that it is told of. Most poolers make up what they tell.
// For one that passes the server's numbers on, another connection has a transaction at the same time, which ends last: two
// by turns are then lent the other's backend in one of the next two transactions, whether the pooler lends first what was given
// back last or first.
func stays(ctx context.Context, c *pgx.Conn, config *pgx.ConnConfig) (bool, error) {
	if own, err := itself(ctx, c); err != nil || !own {
		return false, err
	}
	other, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return false, err
	}
	own, err := besideEachOther(ctx, c, other)
	for range 2 {
		if err == nil && own {
			own, err = itself(ctx, c)
		}
	}
	return own, errors.Join(err, other.Close(ctx))
}

// besideEachOther is itself of two connections whose transactions overlap; the second's ends last.
func besideEachOther(ctx context.Context, c, other *pgx.Conn) (own bool, err error) {
	own = true
	for _, x := range []*pgx.Conn{c, other} {
		if _, err := x.Exec(ctx, sqlRead); err != nil {
			return false, err
		}
		is, err := itself(ctx, x)
		if err != nil {
			return false, err
		}
		own = own && is
	}
	for _, x := range []*pgx.Conn{c, other} {
		if _, err := x.Exec(ctx, sqlRollback); err != nil {
			return false, err
		}
	}
	return own, nil
}

// itself reports whether a connection is with the backend that it was told of.
func itself(ctx context.Context, c *pgx.Conn) (bool, error) {
	var pid uint32
	err := c.QueryRow(ctx, sqlBackend).Scan(&pid)
	return pid == c.PgConn().PID(), err
}

// connect makes a pool. Connections are opened by need, and welcomed.
func (s *Store) connect(ctx context.Context, dsn string, most int32, welcome func(context.Context, *pgx.Conn) error) (*pgxpool.Pool, error) {
	c, err := parse(dsn)
	if err != nil {
		return nil, err
	}
	if most != poolMax || !mentions(dsn, "pool_max_conns") {
		c.MaxConns, c.MinConns, c.MinIdleConns = most, 0, 0
	}
	if !s.direct && !mentions(dsn, "default_query_exec_mode") {
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	if s.direct {
		s.limitSession(c.ConnConfig.RuntimeParams)
	}
	c.AfterConnect = welcome
	if s.name == "" {
		s.name = fmt.Sprintf("%s:%d/%s", c.ConnConfig.Host, c.ConnConfig.Port, c.ConnConfig.Database)
	}
	return pgxpool.NewWithConfig(ctx, c)
}
