package postgres

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
)

// The schema's steps, 0001.sql first, written for the schema weir. A released step is never changed.
//
//go:embed schema/*.sql
var schemaFS embed.FS

const (
	kind       = "postgres"
	versionMin = 140000

	sqlMigrationLock = `select pg_advisory_xact_lock($1)`
	sqlHasMeta       = `select to_regclass('weir.meta') is not null`
	sqlHasSchema     = `select exists (select 1 from pg_namespace where nspname = $1)`
	sqlMeta          = `select k, v from weir.meta`
	sqlSetMeta       = `insert into weir.meta (k, v) values ($1, $2) on conflict (k) do update set v = excluded.v`

	sqlGreet = `select current_setting('server_version_num')::int, current_setting('fsync'), current_setting('full_page_writes'),
		current_setting('synchronous_commit'), pg_is_in_recovery(),
		case when pg_is_in_recovery() then '' else (select system_identifier::text from pg_control_system()) || '/' ||
			substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) || '/' ||
			(select oid::text from pg_database where datname = current_database()) end`
)

var errNoJournal = errors.New("the schema holds no journal: name the schema of a service that uses weir, or start the service that makes it")

// greet looks at the server behind each new connection: whether it keeps what it
// commits, and whether it is the one that the store was opened in.
func (s *Store) greet(ctx context.Context, c *pgx.Conn) error {
	var version int
	var fsync, pages, sync, life string
	var standby bool
	if err := c.QueryRow(ctx, sqlGreet).Scan(&version, &fsync, &pages, &sync, &standby, &life); err != nil {
		return err
	}
	if version < versionMin {
		return fmt.Errorf("PostgreSQL %d: want 14 or later", version/10000)
	}
	if standby {
		return errors.New("the server is a standby: name the primary")
	}
	for _, setting := range []struct{ name, value string }{{"fsync", fsync}, {"full_page_writes", pages}, {"synchronous_commit", sync}} {
		if setting.value == "off" && !s.unsafe {
			return fmt.Errorf("%s is off: a crash of the server would lose what was committed; switch it on, or open the store with postgres.Unsafe()", setting.name)
		}
	}
	if known := s.life.Load().(string); known != "" && known != life {
		return fmt.Errorf("%w: it was %s and is %s", errOtherLife, known, life)
	}
	return nil
}

// errOtherLife stops the process: what it has in memory is of another database.
var errOtherLife = errors.New("the database was restored, or another server has taken over: start the process anew")

// lockNumber is the advisory lock of a name, in this schema.
func (s *Store) lockNumber(names ...string) int64 {
	h := fnv.New64a()
	for _, n := range append([]string{kind, s.schema}, names...) {
		h.Write([]byte(n))
		h.Write([]byte{0})
	}
	return int64(h.Sum64())
}

// migrate takes the steps that the schema lacks. Several processes may start at once:
// one does it, under a lock that ends with its transaction.
func (s *Store) migrate(ctx context.Context) error {
	c, err := s.acquire(ctx, s.pool)
	if err != nil {
		return err
	}
	defer c.Release()
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlMigrationLock, s.lockNumber("schema")); err != nil {
			return err
		}
		return s.migrateIn(ctx, tx)
	})
}

func (s *Store) migrateIn(ctx context.Context, tx pgx.Tx) error {
	steps, err := fs.Glob(schemaFS, "schema/*.sql")
	if err != nil {
		return err
	}
	meta, err := s.readMeta(ctx, tx)
	if err != nil {
		return err
	}
	have := 0
	if meta != nil {
		if have, err = strconv.Atoi(meta["schema"]); err != nil {
			return fmt.Errorf("schema %s has a table meta that is not weir's: use another schema", s.schema)
		}
	}
	switch {
	case have > len(steps):
		return fmt.Errorf("has schema %d, and this version of weir knows %d: open it with the version that wrote it, or a newer one", have, len(steps))
	case have == 0 && s.existing:
		return errNoJournal
	case have < len(steps) && s.existing:
		return fmt.Errorf("has schema %d, and this version of weir works with %d: start the service with this version, which brings it up to it", have, len(steps))
	}
	if err := s.takeSteps(ctx, tx, steps, have); err != nil {
		return err
	}
	if have == 0 {
		meta = map[string]string{"incarnation": string(newIncarnation())}
		if _, err := tx.Exec(ctx, s.text(sqlSetMeta), "incarnation", meta["incarnation"]); err != nil {
			return err
		}
	}
	if have < len(steps) {
		if _, err := tx.Exec(ctx, s.text(sqlSetMeta), "schema", strconv.Itoa(len(steps))); err != nil {
			return err
		}
	}
	return s.describe(ctx, tx, meta, len(steps))
}

// readMeta is the store's facts; nil when the schema holds no journal.
func (s *Store) readMeta(ctx context.Context, tx pgx.Tx) (map[string]string, error) {
	var there bool
	if err := tx.QueryRow(ctx, s.text(sqlHasMeta)).Scan(&there); err != nil || !there {
		return nil, err
	}
	rows, err := tx.Query(ctx, s.text(sqlMeta))
	if err != nil {
		return nil, err
	}
	meta := map[string]string{}
	var k, v string
	_, err = pgx.ForEachRow(rows, []any{&k, &v}, func() error {
		meta[k] = v
		return nil
	})
	return meta, err
}

func (s *Store) takeSteps(ctx context.Context, tx pgx.Tx, steps []string, have int) error {
	if have == len(steps) {
		return nil
	}
	var there bool
	if err := tx.QueryRow(ctx, sqlHasSchema, s.schema).Scan(&there); err != nil {
		return err
	}
	if !there { // else whoever made it may not let us make others
		if _, err := tx.Exec(ctx, `create schema `+pgx.Identifier{s.schema}.Sanitize()); err != nil {
			return err
		}
	}
	for i, name := range steps[have:] {
		text, err := fs.ReadFile(schemaFS, name)
		if err != nil {
			return err
		}
		if _, err := tx.Conn().PgConn().Exec(ctx, s.text(string(text))).ReadAll(); err != nil {
			return fmt.Errorf("schema step %d: %w", have+i+1, err)
		}
	}
	if have == 0 {
		_, err := tx.Exec(ctx, s.partition(0))
		return err
	}
	return nil
}

// describe notes what the store is, and where it lives.
func (s *Store) describe(ctx context.Context, tx pgx.Tx, meta map[string]string, schema int) error {
	inc := store.Incarnation(meta["incarnation"])
	if len(inc) != incarnationLength {
		return errors.New("has no incarnation: the journal is damaged; restore it from a backup")
	}
	var skip any
	var life string
	if err := tx.QueryRow(ctx, sqlGreet).Scan(&skip, &skip, &skip, &skip, &skip, &life); err != nil {
		return err
	}
	if meta["life"] != life && !s.existing {
		if meta["life"] != "" {
			var err error
			if inc, err = s.rebirth(ctx, tx); err != nil {
				return fmt.Errorf("begin a new life, as the database was restored or failed over: %w", err)
			}
		}
		if _, err := tx.Exec(ctx, s.text(sqlSetMeta), "life", life); err != nil {
			return err
		}
	}
	s.life.Store(life)
	s.info = store.Info{Kind: kind, Name: s.name, Incarnation: inc, Schema: schema, Loose: true, Lease: s.lease}
	return nil
}

const incarnationLength = 6

// newIncarnation draws six of 36 letters and digits: 31 bits, so that two stores
// of one company hardly ever share a name.
func newIncarnation() store.Incarnation {
	return store.Incarnation(strings.ToLower(rand.Text()[:incarnationLength]))
}
