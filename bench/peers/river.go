package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// riverSettings are tried; each figure takes its best.
var riverSettings = []struct {
	name    string
	workers int
	conns   int32
}{
	{"100 workers, 20 connections", 100, 20},
	{"1,000 workers, 20 connections", 1_000, 20},
	{"1,000 workers, 70 connections", 1_000, 70},
	{"10,000 workers, 70 connections", river.QueueNumWorkersMax, 70},
}

// riverPeer is River on its pgx driver.
func riverPeer(s *server, against string) *peer {
	p := &peer{
		name: "river", against: against, batch: batchSize,
		queue: func(ctx context.Context, variant int) (queue, error) { return newRiverQueue(ctx, s, variant) },
	}
	for _, v := range riverSettings {
		p.variants = append(p.variants, v.name)
	}
	return p
}

type riverArgs struct{ body }

func (riverArgs) Kind() string { return "bench_work" }

type riverQueue struct {
	river.WorkerDefaults[riverArgs]
	room    *room
	variant int
	pool    *pgxpool.Pool
	client  *river.Client[pgx.Tx]
	handled func(int64)
}

func newRiverQueue(ctx context.Context, s *server, variant int) (*riverQueue, error) {
	r, err := s.room(ctx, true)
	if err != nil {
		return nil, err
	}
	q := &riverQueue{room: r, variant: variant}
	if q.pool, err = r.pool(ctx, riverSettings[variant].conns); err != nil {
		return nil, errors.Join(err, r.drop())
	}
	m, err := rivermigrate.New(riverpgxv5.New(q.pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	}
	if err == nil {
		err = q.open()
	}
	if err != nil {
		return nil, errors.Join(err, q.close())
	}
	return q, nil
}

// open makes a client that looks for jobs as often as it may, lets none of them time out (which
// costs a timer each), and logs nothing.
func (q *riverQueue) open() error {
	workers := river.NewWorkers()
	river.AddWorker(workers, q)
	var err error
	q.client, err = river.NewClient(riverpgxv5.New(q.pool), &river.Config{
		FetchCooldown:     river.FetchCooldownMin,
		FetchPollInterval: 50 * time.Millisecond, // new jobs are notified
		JobTimeout:        -1,
		Logger:            slog.New(slog.DiscardHandler),
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: riverSettings[q.variant].workers}},
		Workers:           workers,
	})
	return err
}

// Work is River's handler.
func (q *riverQueue) Work(_ context.Context, job *river.Job[riverArgs]) error {
	q.handled(job.Args.ID)
	return nil
}

func (q *riverQueue) settled(ctx context.Context) error { return q.room.analyze(ctx) }

func (q *riverQueue) send(ctx context.Context, first int64, n int) error {
	if n == 1 {
		_, err := q.client.Insert(ctx, riverArgs{newBody(first)}, nil)
		return err
	}
	params := make([]river.InsertManyParams, n)
	for i := range params {
		params[i].Args = riverArgs{newBody(first + int64(i))}
	}
	_, err := q.client.InsertManyFast(ctx, params)
	return err
}

// work starts the client. Its stop waits until all completions are written.
func (q *riverQueue) work(ctx context.Context, handled func(int64)) (func() error, error) {
	q.handled = handled
	if err := q.client.Start(ctx); err != nil {
		return nil, err
	}
	return func() error { return q.client.Stop(context.WithoutCancel(ctx)) }, nil
}

func (q *riverQueue) close() error {
	q.pool.Close()
	return q.room.drop()
}
