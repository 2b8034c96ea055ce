package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/weir-go/weir/store"
)

const (
	sqlNewProcess = `insert into weir.processes (id, pid, host, version, owns, started_us, beat_us)
		values (nextval('weir.process_id'), $1, $2, $3, $4, $5, $5) returning id`
	sqlBeat = `update weir.processes set beat_us = $2 where id = $1`
	// Rows that another process is marking, or that are beating, are passed over. Who has not
	// beaten for a lease himself marks nobody: the server was away, and the others are about to beat.
	sqlMarkLost = `update weir.processes set lost_us = $1::bigint where id in (
		select id from weir.processes where ended_us is null and lost_us is null and beat_us < $1::bigint - $2::bigint and id <> $3::bigint
		and ($3::bigint = 0 or exists (select 1 from weir.processes me where me.id = $3::bigint and me.beat_us >= $1::bigint - $2::bigint))
		order by id for update skip locked)`
	sqlSupersede  = `update weir.processes set lost_us = coalesce(lost_us, $2), ended_us = $2 where id = $1 and ended_us is null`
	sqlEnd        = `update weir.processes set beat_us = $2, ended_us = $2 where id = $1`
	sqlNoStarts   = `delete from weir.starts where process = $1`
	sqlHandBack   = `update weir.batches set state = 1 where owner = $1 and state = 0`
	sqlLeaveLanes = `update weir.lanes set owner = null where owner = $1`
	sqlLeaveWork  = `delete from weir.workers where process = $1`
	// Those of processes that are gone.
	sqlForgetWorkers = `delete from weir.workers w using weir.processes p where p.id = w.process
		and (p.ended_us is not null or p.lost_us is not null)`
	sqlSnapshot = `select pg_current_snapshot()::text`
)

// Begin implements store.Store. Several processes may work the store at once.
func (s *Store) Begin(ctx context.Context, p *store.Process) error {
	if err := s.checkOpen(); err != nil {
		return err
	}
	if s.strange.Load() { // who opened only what exists may look at it; who works it does not go on with it
		if err := s.adopt(ctx); err != nil {
			return err
		}
	}
	if p.PID == 0 {
		p.PID = os.Getpid()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if former := s.process.Swap(0); former != 0 { // it has lost its lease, as a rule
		s.former = former
	}
	var id, now int64
	err := s.write(ctx, func(t *tx) error {
		t.again = true
		if err := t.flush(); err != nil {
			return err
		}
		now = t.now
		t.do(sqlSupersede, s.former, now)
		t.do(sqlMarkLost, now, s.lease.Microseconds(), 0)
		t.ask(sqlOthers, s.readOthers, 0)
		t.ask(sqlNewProcess, func(read scan) error { return read(&id) },
			p.PID, p.Host, p.Version, strings.Join(p.Owns, " "), now)
		limitRuns(t, p.Limits)
		t.askLives() // as long as this process lives nobody begins another
		return s.beginRuns(t)
	})
	if err != nil {
		return err
	}
	s.listen(id)
	s.watched.clear()
	s.claiming.Clear()
	s.former = 0
	s.process.Store(id)
	p.ID, p.StartedAt, p.BeatAt = id, at(now), at(now)
	return nil
}

var errNotBegun = errors.New("this process does not work the store: Begin was not called, or End was")

// Heartbeat implements store.Store. It has a connection of its own. It also says of
// others that they are lost, looks whether the server is still the same, and keeps the
// small tables small.
func (s *Store) Heartbeat(ctx context.Context) error {
	process := s.process.Load()
	if process == 0 {
		return errNotBegun
	}
	// Soon enough to beat on another connection before the lease is over.
	err := s.transactIn(ctx, s.pulse, s.lease/2, func(t *tx) error {
		t.again = true
		if err := t.flush(); err != nil {
			return err
		}
		t.do(sqlMarkLost, t.now, s.lease.Microseconds(), process)
		t.do(sqlBeat, process, t.now)
		t.do(sqlForgetWorkers)
		t.ask(sqlOthers, s.readOthers, process)
		t.ask(sqlServer, func(read scan) error {
			var v server
			if err := read(v.into()...); err != nil {
				return err
			}
			return s.judge(v)
		})
		return nil
	})
	if err != nil {
		return err
	}
	return s.chores(ctx)
}

// chores keeps tables in order. What is in their way is waited for less than the lease
// bears, and left to the next heartbeat.
func (s *Store) chores(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.lease/4, fmt.Errorf("%w: all connections are in use", store.ErrUnavailable))
	defer cancel()
	for _, chore := range []func() error{func() error { return s.makeRoom(ctx, 0) }, func() error { return s.fold(ctx) }, func() error { return s.foldEntities(ctx) }} {
		if err := chore(); err != nil && !errors.Is(err, store.ErrUnavailable) {
			return err
		}
	}
	return nil
}

// End implements store.Store.
func (s *Store) End(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	process := s.process.Load()
	if process == 0 {
		return nil
	}
	err := s.write(ctx, func(t *tx) error {
		t.again = true
		if err := t.flush(); err != nil {
			return err
		}
		for _, statement := range []string{sqlHandBack, sqlNoStarts, sqlLeaveLanes, sqlLeaveWork, sqlLeaveDuties} {
			t.do(statement, process)
		}
		if err := s.endRuns(t, process); err != nil {
			return err
		}
		t.do(sqlEnd, process, t.now)
		return nil
	})
	if err != nil {
		return err // one that lost its lease keeps its number, and is refused from now on
	}
	s.process.Store(0)
	s.watched.clear()
	s.claiming.Clear()
	s.deafen()
	return nil
}
