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

// riverSetting is how River is set up.
type riverSetting struct {
	name    string
	workers int
	conns   int32
	fast    bool // looks for jobs as often as it may, and lets none of them time out, which costs a timer each
}

// riverSettings are tried; each figure takes its best.
var riverSettings = []riverSetting{
	{"100 workers, 20 connections", 100, 20, true},
	{"1,000 workers, 20 connections", 1_000, 20, true},
	{"1,000 workers, 70 connections", 1_000, 70, true},
	{"10,000 workers, 70 connections", river.QueueNumWorkersMax, 70, true},
}

// riverPeer is River on its pgx driver.
func riverPeer(s *server, against string) *peer {
	p := &peer{
		name: "river", against: against, batch: batchSize,
		queue: func(ctx context.Context, variant int) (queue, error) {
			return newRiverQueue(ctx, s, riverSettings[variant])
		},
	}
	for _, v := range riverSettings {
		p.variants = append(p.variants, v.name)
	}
	return p
}

// riverDefaultPeer is River as its documentation begins: 100 workers, and nothing else set.
func riverDefaultPeer(s *server, against string) *peer {
	v := riverSetting{"100 workers, 20 connections, defaults", 100, 20, false}
	return &peer{
		name: "river-default", against: against, batch: batchSize, variants: []string{v.name},
		queue: func(ctx context.Context, _ int) (queue, error) { return newRiverQueue(ctx, s, v) },
	}
}

type riverArgs struct{ body }

func (riverArgs) Kind() string { return "bench_work" }

type riverQueue struct {
	river.WorkerDefaults[riverArgs]
	room    *room
	setting riverSetting
	pool    *pgxpool.Pool
	client  *river.Client[pgx.Tx]
	handled func(int64)
}

func newRiverQueue(ctx context.Context, s *server, setting riverSetting) (*riverQueue, error) {
	r, err := s.room(ctx, true)
	if err != nil {
		return nil, err
	}
	q := &riverQueue{room: r, setting: setting}
	if q.pool, err = r.pool(ctx, setting.conns); err != nil {
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

// open makes a client that logs nothing.
func (q *riverQueue) open() error {
	workers := river.NewWorkers()
	river.AddWorker(workers, q)
	config := &river.Config{
		Logger:  slog.New(slog.DiscardHandler),
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: q.setting.workers}},
		Workers: workers,
	}
	if q.setting.fast {
		config.FetchCooldown = river.FetchCooldownMin
		config.FetchPollInterval = 50 * time.Millisecond // new jobs are notified
		config.JobTimeout = -1
	}
	var err error
	q.client, err = river.NewClient(riverpgxv5.New(q.pool), config)
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
