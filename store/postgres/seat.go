package postgres

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
)

// seat is the connection that a group is committed on. A closure that overruns its time in a
// statement loses it, for the driver knows no other way to end that: the next attempt has another.
type seat struct {
	s    *Store
	pool *pgxpool.Pool
	c    *pgxpool.Conn
}

func (x *seat) take(ctx context.Context) (*pgxpool.Conn, error) {
	if x.c != nil && !x.c.Conn().IsClosed() {
		return x.c, nil
	}
	x.leave()
	c, err := x.s.acquire(ctx, x.pool)
	if err != nil {
		return nil, err
	}
	x.c = c
	return c, nil
}

func (x *seat) leave() {
	if x.c != nil {
		x.c.Release()
		x.c = nil
	}
}
