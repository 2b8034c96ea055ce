package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
)

// server is what is known of the server, and the database, behind a connection.
type server struct {
	version            int
	fsync, pages, sync string
	standby            bool
	encoding           string
	// life is the cluster, its timeline, the database and the table meta: a copy of the
	// store differs in one of them, whether it was promoted, restored or cloned.
	life string
}

const (
	versionMin = 140000

	sqlServer = `select current_setting('server_version_num')::int, current_setting('fsync'), current_setting('full_page_writes'),
		current_setting('synchronous_commit'), pg_is_in_recovery(),
		current_setting('server_encoding'), ` + lifeNow
	// As any role may ask, of any database.
	lifeNow = `case when pg_is_in_recovery() then '' else (select system_identifier::text from pg_control_system()) || '/' ||
			substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) || '/' ||
			(select oid::text from pg_database where datname = current_database()) || '/' ||
			coalesce(to_regclass('weir.meta')::oid::text, '') end`
)

// into is where the columns of sqlServer go.
func (v *server) into() []any {
	return []any{&v.version, &v.fsync, &v.pages, &v.sync, &v.standby, &v.encoding, &v.life}
}

// greet looks at the server behind each new connection.
func (s *Store) greet(ctx context.Context, c *pgx.Conn) error {
	var v server
	if err := c.QueryRow(ctx, s.text(sqlServer)).Scan(v.into()...); err != nil {
		return err
	}
	return s.judge(v)
}

// judge refuses a server that does not keep what it commits, and one that is not the one
// that the store was opened in.
func (s *Store) judge(v server) error {
	if v.version < versionMin {
		return fmt.Errorf("PostgreSQL %d: want 14 or later", v.version/10000)
	}
	if v.encoding != "UTF8" {
		return fmt.Errorf("the database's encoding is %s, which cannot keep every text: use a database of UTF8 (create database … encoding 'UTF8' template template0)", v.encoding)
	}
	if v.standby {
		return errStandby
	}
	for _, setting := range []struct{ name, value string }{{"fsync", v.fsync}, {"full_page_writes", v.pages}, {"synchronous_commit", v.sync}} {
		if setting.value == "off" && !s.unsafe {
			return fmt.Errorf("%s is off: %w", setting.name, ErrUnsafe)
		}
	}
	if known := s.life.Load().(string); known != "" && known != v.life {
		return fmt.Errorf("%w: it was %s and is %s", errOtherLife, known, v.life)
	}
	return nil
}

// ErrUnsafe refuses a server whose settings lose what was committed, unless the store is opened with Unsafe.
var ErrUnsafe = errors.New("a crash of the server would lose what was committed; switch it on, or open the store with postgres.Unsafe()")

var (
	// errStandby may pass: the standby may be about to be promoted.
	errStandby = fmt.Errorf("%w: the server is a standby: name the primary, or list all servers in the DSN with target_session_attrs=read-write", store.ErrUnavailable)
	// errOtherLife stops the process: what it has in memory is of another database.
	errOtherLife = errors.New("the database was restored, or another server has taken over: start the process anew")
)
