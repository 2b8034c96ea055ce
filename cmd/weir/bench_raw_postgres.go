package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	rawConnections = 4
	// rawPostgresMost is how many rows fit into the first partition of an empty store.
	rawPostgresMost = 4_000_000
	// rawPostgresInsert gives the columns that a message without a key has; the others are null.
	rawPostgresInsert = `insert into messages (topic, seq, sent_us, version, lane, body)
		select 1, u.seq, $1, 1, 16, u.body from unnest($2::bigint[], $3::bytea[]) as u(seq, body)`
)

// rawPostgres is pgx: one statement a commit, of 1,000 rows by unnest, on 4 connections.
type rawPostgres struct {
	plot   *plot
	bodies [][]byte
	pool   *pgxpool.Pool
	last   atomic.Int64
}

func openRawPostgres(ctx context.Context, p *plot, body []byte) (raw, error) {
	config, err := pgxpool.ParseConfig(p.database)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.RuntimeParams["search_path"] = p.name
	config.MinConns, config.MaxConns = rawConnections, rawConnections
	r := &rawPostgres{plot: p, bodies: make([][]byte, rawPerCommit)}
	for i := range r.bodies {
		r.bodies[i] = body
	}
	if r.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, err
	}
	if err := durable(ctx, r.pool); err != nil {
		r.pool.Close()
		return nil, err
	}
	return r, nil
}

// durable is an error when the server does not wait for its disk: that would be no limit to measure by.
func durable(ctx context.Context, pool *pgxpool.Pool) error {
	var fsync, commit string
	err := pool.QueryRow(ctx, `select current_setting('fsync'), current_setting('synchronous_commit')`).Scan(&fsync, &commit)
	if err == nil && (fsync != "on" || commit == "off") {
		err = errors.New("fsync or synchronous_commit is off: what is measured would not be durable")
	}
	return err
}

// connections implements raw.
func (r *rawPostgres) connections() int { return rawConnections }

// commit implements raw.
func (r *rawPostgres) commit(ctx context.Context, rows int) error {
	seqs, first := make([]int64, rows), r.last.Add(int64(rows))-int64(rows)
	for i := range seqs {
		seqs[i] = first + int64(i) + 1
	}
	_, err := r.pool.Exec(ctx, rawPostgresInsert, time.Now().UnixMicro(), seqs, r.bodies[:rows]) // a transaction of its own
	return err
}

// close implements raw.
func (r *rawPostgres) close() error {
	r.pool.Close()
	return r.plot.clear(context.Background())
}
