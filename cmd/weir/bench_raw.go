package main

import (
	"context"
	"errors"
)

const rawPerCommit = 1_000

// raw is a database's driver alone: it appends the rows that a send makes to the table of an
// empty store, as durably as the store does, its fastest way. What it does is the limit that
// the store is measured by. commit may be called by many.
type raw interface {
	connections() int
	commit(ctx context.Context, rows int) error // at most rawPerCommit of them
	close() error
}

// openRaw makes an empty store, which is removed by the raw's close; nothing of weir runs after it is made.
func (b *bench) openRaw(ctx context.Context) (raw, error) {
	p := b.ground.plot()
	st, err := p.opener()(ctx)
	if err == nil {
		err = st.Close()
	}
	var r raw
	if err == nil && p.database == "" {
		r, err = openRawSQLite(p, b.body)
	} else if err == nil {
		r, err = openRawPostgres(ctx, p, b.body)
	}
	if err != nil {
		return nil, errors.Join(err, p.clear(ctx))
	}
	return r, nil
}

// rawLimit is how many rows a second the driver alone appends, 1,000 a commit.
func (b *bench) rawLimit(ctx context.Context, n int) (rate float64, err error) {
	r, err := b.openRaw(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if b.ground.database != "" {
		n = min(n, rawPostgresMost)
	}
	return b.meter(n, func() error {
		return b.parallel(r.connections(), n/rawPerCommit, func() error { return r.commit(ctx, rawPerCommit) })
	})
}
