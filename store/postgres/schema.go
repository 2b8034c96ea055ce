package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-go/weir/store"
)

const (
	kind = "postgres"

	// Not to_regclass: a connection that has asked before remembers that there was none.
	sqlHasMeta = `select exists (select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = 'meta')`
	sqlMeta    = `select k, v from weir.meta`
	sqlSetMeta = `insert into weir.meta (k, v) values ($1, $2) on conflict (k) do update set v = excluded.v`
)

const undefinedColumn = "42703"

// errOthersMeta refuses a schema that somebody else has a table of that name in.
var errOthersMeta = errors.New("it has a table meta that is not weir's: use another schema")

var errNoJournal = errors.New("the schema holds no journal: name the schema of a service that uses weir, or make one: weir migrate up does, and so does a service that starts and may")

// lockNumber is the advisory lock of a name, in this schema.
func (s *Store) lockNumber(names ...string) int64 {
	h := fnv.New64a()
	for _, n := range append([]string{kind, s.schema}, names...) {
		h.Write([]byte(n))
		h.Write([]byte{0})
	}
	return int64(h.Sum64())
}

// migrate brings the schema to this version. Several processes may start at once: one
// does it, under a lock that ends with its transaction. Who migrates nothing waits for nobody.
func (s *Store) migrate(ctx context.Context) error {
	in := s.underLock
	if s.existing {
		in = s.looking
	}
	return in(ctx, func(tx pgx.Tx) error {
		m := &migrator{s: s, ctx: ctx, tx: tx}
		if err := m.plan(Roles{}); err != nil {
			return err
		}
		switch want := len(s.steps); {
		case m.have == 0 && s.existing:
			return errNoJournal
		case m.have < want && s.existing:
			return fmt.Errorf("has schema %d, and this version of weir works with %d: run weir migrate up, or start the service with this version, which brings it up to it", m.have, want)
		}
		if err := m.run(); err != nil {
			return err
		}
		meta, err := s.readMeta(ctx, tx)
		if err != nil {
			return err
		}
		return s.describe(ctx, tx, meta, !s.existing)
	})
}

// adopt begins another life of a journal that is strange, unless somebody else has.
func (s *Store) adopt(ctx context.Context) error {
	err := s.underLock(ctx, func(tx pgx.Tx) error {
		meta, err := s.readMeta(ctx, tx)
		if err != nil {
			return err
		}
		return s.describe(ctx, tx, meta, true)
	})
	if err == nil {
		err = s.makeRoom(ctx, 0)
	}
	return err
}

// readMeta is the store's facts; nil when the schema holds no journal.
func (s *Store) readMeta(ctx context.Context, tx pgx.Tx) (map[string]string, error) {
	var there bool
	if err := tx.QueryRow(ctx, sqlHasMeta, s.schema).Scan(&there); err != nil || !there {
		return nil, err
	}
	rows, _ := tx.Query(ctx, s.text(sqlMeta)) // its error is that of its rows
	meta := map[string]string{}
	var k, v string
	_, err := pgx.ForEachRow(rows, []any{&k, &v}, func() error {
		meta[k] = v
		return nil
	})
	if fault, ok := errors.AsType[*pgconn.PgError](err); ok && fault.Code == undefinedColumn {
		err = errors.Join(errOthersMeta, err)
	}
	return meta, err
}

// describe notes what the store is, and where it lives. begins: if that is another place than before, a new life begins.
func (s *Store) describe(ctx context.Context, own pgx.Tx, meta map[string]string, begins bool) error {
	t := s.within(ctx, own)
	t.askLives()
	var now server
	if err := t.get(sqlServer, func(read scan) error { return read(now.into()...) }); err != nil {
		return err
	}
	life := now.life
	if meta["life"] != life && begins {
		if meta["life"] != "" {
			if _, err := t.rebirth(); err != nil {
				return fmt.Errorf("begin a new life, as the database was restored or failed over: %w", err)
			}
		}
		t.do(sqlSetMeta, "life", life)
		t.askLives()
		if err := t.flush(); err != nil {
			return err
		}
	}
	s.reached.Store(s.lives().Current().First)
	s.life.Store(life)
	s.strange.Store(meta["life"] != life && !begins)
	return nil
}

// within is a transaction that was begun by other means.
func (s *Store) within(ctx context.Context, own pgx.Tx) *tx {
	return &tx{s: s, ctx: ctx, w: pgxWire{own, own.Conn()}}
}

const incarnationLength = 6

// newIncarnation draws six of 36 letters and digits: 31 bits, so that two stores
// of one company hardly ever share a name.
func newIncarnation() store.Incarnation {
	return store.Incarnation(strings.ToLower(rand.Text()[:incarnationLength]))
}
