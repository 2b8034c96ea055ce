package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// servers are the peers on PostgreSQL that send in batches.
func (b *bench) servers() []*peer {
	var some []*peer
	for _, p := range b.peers {
		if p.queue != nil && p.only == nil && p.batch > 1 && (p.against == weirPostgres || p.name == weirPostgres) {
			some = append(some, p)
		}
	}
	return some
}

// besideOpen measures each peer without and beside a REPEATABLE READ transaction that is held open
// all the time, and from before its queue was made: what a report, a dump or a forgotten session does.
func (b *bench) besideOpen(ctx context.Context) error {
	for round := range b.rounds {
		b.tell("round %d of %d", round+1, b.rounds)
		for _, p := range b.servers() {
			v, err := b.variant(ctx, b.phases()[0], p)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			alone, err := b.steady(ctx, p, v)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			done, err := b.server.hold(ctx)
			if err != nil {
				return err
			}
			open, err := b.steady(ctx, p, v)
			if err := errors.Join(err, done()); err != nil {
				return fmt.Errorf("%s beside an open transaction: %w", p.name, err)
			}
			b.record("alone_p50_ms", p, alone.p50)
			b.record("alone_p99_ms", p, alone.p99)
			b.record("alone_both_per_s", p, alone.flood)
			b.record("open_p50_ms", p, open.p50)
			b.record("open_p99_ms", p, open.p99)
			b.record("open_both_per_s", p, open.flood)
			b.record("p99_open_to_alone", p, open.p99/alone.p99)
			b.record("both_open_to_alone", p, open.flood/alone.flood)
		}
	}
	return nil
}

// hold begins a transaction with a snapshot and holds it open until done.
func (s *server) hold(ctx context.Context) (done func() error, err error) {
	tx, err := s.admin.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return nil, err
	}
	var n int
	if err := tx.QueryRow(ctx, `select count(*) from pg_class`).Scan(&n); err != nil {
		return nil, errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
	}
	return func() error { return tx.Rollback(context.WithoutCancel(ctx)) }, nil
}

// steadyFigures are latencies of a steady load, and the rate of a flood after it, on one queue.
type steadyFigures struct {
	latencies
	flood float64
}

// callsPerSecond is how many calls send the messages of a steady load.
const callsPerSecond = 100

// steady sends at --rate for --open-tx, in 100 calls a second, and works. Latency is that of the
// last half of the messages: what builds up has built up by then. A flood follows at once.
func (b *bench) steady(ctx context.Context, p *peer, variant int) (f steadyFigures, err error) {
	f.flood, err = p.with(ctx, variant, func(q queue) (float64, error) {
		w := newStopwatch(q, int(b.openTx.Seconds()*callsPerSecond), b.rate/callsPerSecond)
		stop, err := q.work(ctx, w.handled)
		if err != nil {
			return 0, err
		}
		err = pace(ctx, callsPerSecond, len(w.sentAt), func(i int) error { return w.send(ctx, i) })
		if err == nil {
			err = w.await(ctx, int64(len(w.took)))
		}
		if err != nil {
			return 0, errors.Join(err, stop())
		}
		f.latencies = percentiles(w.took[len(w.took)/2:])
		l, began := newLoad(q, p.batch, len(w.took)), time.Now()
		err = errors.Join(l.flood(ctx, w.later, b.seconds), stop())
		return float64(l.sent()) / time.Since(began).Seconds(), err
	})
	return f, err
}

// behindBacklog measures the work of a backlog, and of one of a tenth: what is worked of it in a
// phase's time.
func (b *bench) behindBacklog(ctx context.Context) error {
	for round := range b.rounds {
		b.tell("round %d of %d", round+1, b.rounds)
		for _, p := range b.servers() {
			v, err := b.variant(ctx, b.phases()[0], p)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			limit := time.Duration(b.seconds * float64(time.Second))
			small, err := p.work(ctx, v, b.backlog/10, limit)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			large, err := p.work(ctx, v, b.backlog, limit)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			b.record("work_small_per_s", p, small)
			b.record("work_large_per_s", p, large)
			b.record("work_large_to_small", p, large/small)
		}
	}
	return nil
}
