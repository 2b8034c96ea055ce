package main

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/jackc/pgx/v5/pgxpool"
)

// driverPeer is pgx alone: rows are inserted, and count as handled when they are durable. Nobody
// works them, so its figures are no queue's, but what none can be better than for long.
func driverPeer(s *server, against string) *peer {
	return &peer{
		name: "pgx", against: against, batch: batchSize, variants: []string{"70 connections"}, only: []string{"both", "single", "latency"},
		queue: func(ctx context.Context, _ int) (queue, error) { return newDriverQueue(ctx, s) },
	}
}

type driverQueue struct {
	room    *room
	pool    *pgxpool.Pool
	handled func(int64)
}

const (
	sqlDriverTable = `create table driver (id bigint primary key, body bytea not null)`
	sqlDriverSend  = `insert into driver (id, body) select u.id, u.body from unnest($1::bigint[], $2::bytea[]) as u(id, body)`
)

func newDriverQueue(ctx context.Context, s *server) (*driverQueue, error) {
	r, err := s.room(ctx, true)
	if err != nil {
		return nil, err
	}
	q := &driverQueue{room: r, handled: func(int64) {}}
	if q.pool, err = r.pool(ctx, senders+6); err != nil {
		return nil, errors.Join(err, r.drop())
	}
	if _, err := q.pool.Exec(ctx, sqlDriverTable); err != nil {
		return nil, errors.Join(err, q.close())
	}
	return q, nil
}

func (q *driverQueue) send(ctx context.Context, first int64, n int) error {
	ids, bodies := make([]int64, n), make([][]byte, n)
	for i := range ids {
		var err error
		ids[i] = first + int64(i)
		if bodies[i], err = json.Marshal(newBody(ids[i])); err != nil {
			return err
		}
	}
	if _, err := q.pool.Exec(ctx, sqlDriverSend, ids, bodies); err != nil {
		return err
	}
	for _, id := range ids {
		q.handled(id)
	}
	return nil
}

func (q *driverQueue) work(_ context.Context, handled func(int64)) (func() error, error) {
	q.handled = handled
	return func() error { return nil }, nil
}

func (q *driverQueue) close() error {
	q.pool.Close()
	return q.room.drop()
}
