package sqlite

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/runwake"
)

const (
	sqlNextProcess = `update weir_meta set v = v + 1 where k = 'process' returning v`
	sqlNewProcess  = `insert into weir_processes (id, pid, host, version, owns, started_us, beat_us) values (?1, ?2, ?3, ?4, ?5, ?6, ?6)`
	sqlLimitRuns   = `insert into weir_workflows (name, capacity) values (?1, ?2) on conflict (name) do update set capacity = excluded.capacity`
	sqlNewest      = `select coalesce(max(id), 0) from weir_processes`
	sqlBeat        = `update weir_processes set beat_us = ?2 where id = ?1`
	sqlEnd         = `update weir_processes set beat_us = ?2, ended_us = ?2 where id = ?1`
	sqlNoStarts    = `delete from weir_starts where process = ?1`
	sqlHandBack    = `update weir_batches indexed by weir_batches_open set state = 1 where state < 2 and state = 0 and owner = ?1`
)

// Begin implements store.Store. The lock file keeps a second engine out; should
// it be deleted under us, the newest row in processes decides who works the file.
func (s *Store) Begin(ctx context.Context, p *store.Process) error {
	if err := s.checkOpen(); err != nil {
		return err
	}
	now := s.now()
	h := holder{PID: p.PID, Host: p.Host, Since: now}
	if h.PID == 0 {
		h.PID = os.Getpid()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	lock, err := takeLock(s.path, h)
	if err != nil {
		return err
	}
	s.process.Store(0) // should it have lost the lease before
	var id int64
	err = s.write(ctx, func(c *conn) error {
		var err error
		if id, _, err = c.number(sqlNextProcess); err != nil {
			return err
		}
		if err := errors.Join(s.takeRuns(c, us(now)), limitRuns(c, p.Limits)); err != nil {
			return err
		}
		return c.exec(sqlNewProcess, id, p.PID, p.Host, p.Version, strings.Join(p.Owns, " "), now)
	})
	if err != nil {
		return errors.Join(err, lock.release())
	}
	s.lock = lock
	s.process.Store(id)
	p.ID, p.StartedAt, p.BeatAt = id, now, now
	return nil
}

// limitRuns makes the bounds of workflows known.
func limitRuns(c *conn, limits []store.RunLimit) error {
	for _, l := range limits {
		if err := c.exec(sqlLimitRuns, l.Workflow, int64(max(l.Max, 0))); err != nil {
			return err
		}
	}
	return nil
}

// checkLease refuses what a process does that is no longer the one working the
// store, in the transaction that would do it. Processes that never began pass:
// they only send, read and operate.
func checkLease(j journal, process int64) error {
	if process == 0 {
		return nil
	}
	var newest int64
	err := j.rows(sqlNewest, nil, []any{&newest}, func() error { return nil })
	if err == nil && newest != process {
		err = store.ErrLeaseLost
	}
	return err
}

// Heartbeat implements store.Store.
func (s *Store) Heartbeat(ctx context.Context) error {
	process := s.process.Load()
	if process == 0 {
		return errNotBegun
	}
	return s.write(ctx, func(c *conn) error {
		return c.exec(sqlBeat, process, s.now())
	})
}

var errNotBegun = errors.New("this process does not work the store: Begin was not called, or End was")

// End implements store.Store. When the database fails the lock is kept, so that
// End can be called again; Close gives it up in any case.
func (s *Store) End(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	process := s.process.Load()
	if process == 0 {
		return nil
	}
	c, err := s.takeWriter(ctx)
	if err != nil {
		return err
	}
	defer s.giveWriter(c)
	err = s.transact(ctx, c, func(c *conn) error {
		for _, statement := range []string{sqlHandBack, sqlNoStarts} {
			if err := c.exec(statement, process); err != nil {
				return err
			}
		}
		if err := c.exec(sqlHandBackRuns, runwake.LeasedBy(process), us(s.now()), runwake.Ready, runwake.CrashesMax, runwake.CrashBits); err != nil {
			return err
		}
		return c.exec(sqlEnd, process, s.now())
	})
	if err != nil {
		return err // one that lost its lease keeps its number, and is refused from now on
	}
	s.process.Store(0) // before another can write: nothing more is leased to this process
	clear(s.watched)
	s.held.reset(0)
	lock := s.lock
	s.lock = nil
	return lock.release()
}

// changed implements store.Reader's Changed. What the writer connection itself
// commits does not count: the engine knows of that.
func (s *Store) changed(ctx context.Context) (bool, error) {
	if err := s.checkOpen(); err != nil {
		return false, err
	}
	select {
	case c := <-s.writer:
		err := s.noticeOthers(c)
		s.giveWriter(c)
		if err != nil {
			return false, err
		}
	default: // who writes now has looked when it began
	}
	return s.foreign.Swap(false), nil
}

// noticeOthers looks whether another connection has committed, which may have begun a new life of the store.
func (s *Store) noticeOthers(c *conn) error {
	version, _, err := c.number(sqlDataVersion)
	if err != nil || version == c.version {
		return err
	}
	if s.known.Load() != nil { // else it is being opened
		if err := s.readLives(c); err != nil {
			return err
		}
	}
	c.version = version
	s.foreign.Store(true)
	return nil
}
