package main

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver that backlite is tested with
	"github.com/mikestefanello/backlite"
)

// backliteSettings are tried; each figure takes its best. It hands out as many tasks as it has idle
// workers, and when it has none looks again after 100 ms: few workers make it slow. SQLite has one
// writer: with a connection for each worker they would only wait for its lock.
var backliteSettings = []struct {
	name           string
	workers, conns int
}{
	{"100 workers, 1 connection", 100, 1},
	{"1,000 workers, 1 connection", 1_000, 1},
	{"1,000 workers, 10 connections", 1_000, 10},
	{"10,000 workers, 1 connection", 10_000, 1},
}

// backliteDSN is that of its README, and waits for the disk as weir does: the driver's default in
// WAL mode is not to.
const backliteDSN = "?_journal=WAL&_timeout=5000&_sync=FULL&_txlock=immediate"

func backlitePeer(parent, against string) *peer {
	p := &peer{
		name: "backlite", against: against, batch: batchSize,
		queue: func(_ context.Context, variant int) (queue, error) { return newBackliteQueue(parent, variant) },
	}
	for _, v := range backliteSettings {
		p.variants = append(p.variants, v.name)
	}
	return p
}

type backliteTask struct{ Body body }

func (backliteTask) Config() backlite.QueueConfig {
	return backlite.QueueConfig{Name: "bench", MaxAttempts: 5, Backoff: time.Second, Timeout: time.Minute}
}

type backliteQueue struct {
	remove  func() error
	db      *sql.DB
	client  *backlite.Client
	handled func(int64)
}

func newBackliteQueue(parent string, variant int) (*backliteQueue, error) {
	dir, remove, err := files(parent)
	if err != nil {
		return nil, err
	}
	q := &backliteQueue{remove: remove}
	if q.db, err = sql.Open("sqlite3", filepath.Join(dir, "backlite.db")+backliteDSN); err != nil {
		return nil, errors.Join(err, remove())
	}
	q.db.SetMaxOpenConns(backliteSettings[variant].conns)
	q.client, err = backlite.NewClient(backlite.ClientConfig{
		DB: q.db, ReleaseAfter: 10 * time.Minute, NumWorkers: backliteSettings[variant].workers, CleanupInterval: time.Hour,
	})
	if err == nil {
		q.client.Register(backlite.NewQueue(func(_ context.Context, t backliteTask) error {
			q.handled(t.Body.ID)
			return nil
		}))
		err = q.client.Install()
	}
	if err != nil {
		return nil, errors.Join(err, q.close())
	}
	return q, nil
}

func (q *backliteQueue) send(ctx context.Context, first int64, n int) error {
	tasks := make([]backlite.Task, n)
	for i := range tasks {
		tasks[i] = backliteTask{newBody(first + int64(i))}
	}
	_, err := q.client.Add(tasks...).Ctx(ctx).Save()
	return err
}

func (q *backliteQueue) work(ctx context.Context, handled func(int64)) (func() error, error) {
	q.handled = handled
	q.client.Start(ctx)
	return func() error {
		if !q.client.Stop(ctx) {
			return errors.New("backlite has not stopped")
		}
		return nil
	}, nil
}

func (q *backliteQueue) close() error { return errors.Join(q.db.Close(), q.remove()) }
