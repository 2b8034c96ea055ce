package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/acts"
	"github.com/weir-go/weir/store/internal/lives"
)

const (
	sqlLives   = `select first, incarnation, base from weir_lives order by first`
	sqlNewLife = `insert into weir_lives (first, incarnation, base) values (?1, ?2, ?3)`
)

// readLives reads the store's lives, as journal j shows them.
func readLives(j journal) (lives.Lives, error) {
	var all lives.Lives
	var life lives.Life
	var inc string
	err := j.rows(sqlLives, nil, []any{&life.First, &inc, &life.Base}, func() error {
		life.Incarnation = store.Incarnation(inc)
		all = append(all, life)
		return nil
	})
	if err == nil && len(all) == 0 {
		err = errors.New("has no incarnation: the journal is damaged; restore it from a backup")
	}
	return all, err
}

// readLives takes up what lives the store has, by the writer connection.
func (s *Store) readLives(c *conn) error {
	all, err := readLives(c)
	if err == nil {
		s.known.Store(&all)
	}
	return err
}

// lives are the store's, as far as this process knows: another may have begun one, which is
// seen with the next transaction.
func (s *Store) lives() lives.Lives { return *s.known.Load() }

func insertLife(c *conn, l lives.Life) error {
	return c.exec(sqlNewLife, l.First, string(l.Incarnation), l.Base)
}

// Info implements store.Store.
func (s *Store) Info() store.Info { return s.infoOf(s.lives()) }

func (s *Store) infoOf(l lives.Lives) store.Info {
	life := l.Current()
	return store.Info{Kind: kind, Name: s.path, Incarnation: life.Incarnation, Earlier: l.Earlier(), Base: life.Base, Schema: s.schema}
}

// renew begins a new life of the store. Whoever works the file, or would begin to, is kept out
// meanwhile: what it has given out IDs to in memory would have those of the life before.
func (s *Store) renew(ctx context.Context, a store.Act) (acted store.Acted, err error) {
	if err := s.checkOpen(); err != nil {
		return store.Acted{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	host, err := os.Hostname()
	if err != nil {
		return store.Acted{}, err
	}
	lock, err := takeLock(s.path, holder{PID: os.Getpid(), Host: host, Since: s.now()})
	if held, ok := errors.AsType[*store.HeldError](err); ok {
		return store.Acted{}, fmt.Errorf("%w: process %d on %s works the store: stop it first", store.ErrConflict, held.PID, held.Host)
	}
	if err != nil {
		return store.Acted{}, err
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	if a.DryRun {
		return store.Acted{Count: 1}, nil
	}
	var all lives.Lives
	err = s.write(ctx, func(c *conn) error {
		all = s.lives()
		next, err := beginLife(c, all, s.now())
		if err != nil {
			return err
		}
		before := s.infoOf(all)
		all = append(all[:len(all):len(all)], next)
		return operation{s: s, c: c, act: a, now: s.now()}.audit(acts.Renewed(before, s.infoOf(all)))
	})
	if err != nil {
		return store.Acted{}, err
	}
	s.known.Store(&all)
	return store.Acted{Count: 1}, nil
}

// beginLife writes a life that begins after the last message. Should the life before have none,
// one number is left out, so that no two begin at the same.
func beginLife(c *conn, all lives.Lives, now time.Time) (lives.Life, error) {
	reached, _, err := c.number(sqlSeq)
	if err != nil {
		return lives.Life{}, err
	}
	if first := all.Current().First; reached < first {
		reached = first
		if err := c.exec(sqlSetSeq, reached); err != nil {
			return lives.Life{}, err
		}
	}
	next := all.Next(newIncarnation(), us(now), reached)
	return next, insertLife(c, next)
}
