package sqlite

import (
	"errors"

	"github.com/weir-go/weir/store"
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
func (s *Store) Info() store.Info {
	life := s.lives().Current()
	return store.Info{Kind: kind, Name: s.path, Incarnation: life.Incarnation, Base: life.Base, Schema: s.schema}
}
