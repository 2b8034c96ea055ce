package postgres

import (
	"errors"
	"fmt"
	"strings"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/lives"
	"github.com/weir-go/weir/store/internal/origin"
)

const (
	// One row, so that it is taken up whole.
	sqlLives   = `select coalesce(string_agg(first || ' ' || incarnation || ' ' || base, ',' order by first), '') from weir.lives`
	sqlAddLife = `insert into weir.lives (first, incarnation, base) values ($1, $2, $3)`
	sqlReached = `select last_value, coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) from weir.seq`
	// Waits for whoever begins a life.
	sqlNotAmid = `lock table weir.messages in row exclusive mode`
)

var errNoLife = errors.New("has no incarnation: the journal is damaged; restore it from a backup")

// lives are the store's, as far as this process knows.
func (s *Store) lives() lives.Lives { return *s.known.Load() }

// Info implements store.Store.
func (s *Store) Info() store.Info {
	l := s.lives()
	life := l.Current()
	return store.Info{Kind: kind, Name: s.name, Incarnation: life.Incarnation, Earlier: l.Earlier(), Base: life.Base, Schema: len(s.steps), Loose: true, Lease: s.lease}
}

// askLives queues a look at the store's lives: what is written or read from here on is named by them.
func (t *tx) askLives() {
	t.ask(sqlLives, func(read scan) error {
		var text string
		if err := read(&text); err != nil {
			return err
		}
		var all lives.Lives
		for line := range strings.SplitSeq(text, ",") {
			var life lives.Life
			var inc string
			if _, err := fmt.Sscan(line, &life.First, &inc, &life.Base); err != nil || len(inc) != incarnationLength {
				return errNoLife
			}
			life.Incarnation = store.Incarnation(inc)
			all = append(all, life)
		}
		t.s.know(all)
		return nil
	})
}

// know takes up what lives the store has. A snapshot of before may show fewer.
func (s *Store) know(all lives.Lives) {
	for {
		before := s.known.Load()
		if before != nil && len(*before) >= len(all) || s.known.CompareAndSwap(before, &all) {
			return
		}
	}
}

// leap notices, by the numbers that are drawn, that the store may have begun another life since this
// process last sent: a life's first number is far above all of the one before, however long this
// process only watched. It costs those nothing who send often. A lent transaction may have a snapshot of before.
func (a *appender) leap(lent bool) error {
	if len(a.seqs) == 0 {
		return nil
	}
	last := a.seqs[len(a.seqs)-1]
	if last-a.s.reached.Load() >= lifeSkip/2 {
		look := func(t *tx) error {
			t.do(sqlNotAmid)
			t.askLives()
			return t.flush()
		}
		var err error
		if lent {
			err = a.s.transact(a.ctx, a.s.aside, look)
		} else {
			err = look(a.tx)
		}
		if err != nil {
			return err
		}
	}
	a.s.reached.Store(last)
	return nil
}

// christen gives a message what follows from where it stands, and where it comes from. SentAt is
// that of its row.
func (s *Store) christen(m *store.Message) {
	l := s.lives()
	m.ID, m.Stamp = l.ID(m.Pos), l.Stamp(m.Pos)
	origin.Apply(m)
}

// christenRow is christen for one that was read with its column origin, "" for none.
func (s *Store) christenRow(m *store.Message, from string) (err error) {
	if from != "" {
		m.Origin, err = origin.Unpack(from)
	}
	s.christen(m)
	return err
}
