package main

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	"github.com/jackc/pgx/v5/pgxpool"
)

// dbosConnections is how many connections DBOS has; by itself it takes 20.
const dbosConnections = 64

// dbosStop is how long DBOS may take to stop.
const dbosStop = 10 * time.Second

func dbosPeer(s *server, against string) *peer {
	return &peer{name: "dbos", against: against, flow: func(ctx context.Context) (flow, error) { return newDBOSFlow(ctx, s) }}
}

type dbosFlow struct {
	room *room
	pool *pgxpool.Pool
	ctx  dbos.DBOSContext
}

func newDBOSFlow(ctx context.Context, s *server) (*dbosFlow, error) {
	r, err := s.room(ctx, false)
	if err != nil {
		return nil, err
	}
	f := &dbosFlow{room: r}
	if f.pool, err = r.pool(ctx, dbosConnections); err != nil {
		return nil, err
	}
	f.ctx, err = dbos.NewDBOSContext(ctx, dbos.Config{
		AppName: "bench", SystemDBPool: f.pool, DatabaseSchema: r.schema, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.pool.Close()
		return nil, errors.Join(err, r.drop())
	}
	dbos.RegisterWorkflow(f.ctx, dbosThreeSteps)
	if err := dbos.Launch(f.ctx); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func dbosThreeSteps(ctx dbos.DBOSContext, in body) (int64, error) {
	sum := in.ID
	for _, name := range [...]string{"reserve", "charge", "ship"} {
		n, err := dbos.RunAsStep(ctx, func(context.Context) (int64, error) { return 1, nil }, dbos.WithStepName(name))
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func (f *dbosFlow) run(_ context.Context, id int64) error {
	h, err := dbos.RunWorkflow(f.ctx, dbosThreeSteps, newBody(id), dbos.WithWorkflowID("order-"+strconv.FormatInt(id, 10)))
	if err != nil {
		return err
	}
	got, err := h.GetResult()
	return result(got, id, err)
}

func (f *dbosFlow) close() error {
	dbos.Shutdown(f.ctx, dbosStop)
	f.pool.Close()
	return f.room.drop()
}
