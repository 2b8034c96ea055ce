package sqlite

import (
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/lives"
)

// The schema's steps, 0001.sql first. A released step is never changed. The file
// may hold the user's own tables: ours begin with weir_, and the number of steps
// taken is a row of ours, for user_version may be the user's.
//
//go:embed schema/*.sql
var schemaFS embed.FS

const (
	sqlHasMeta    = `select count(*) from sqlite_schema where name = 'weir_meta' and type = 'table'`
	sqlSchema     = `select v from weir_meta where k = 'schema'`
	sqlSetSchema  = `insert or replace into weir_meta (k, v) values ('schema', ?)`
	sqlNewJournal = `insert into weir_meta (k, v) values ('seq', 0), ('process', 0), ('run', 0), ('mail', 0)`
)

var (
	errForeign   = errors.New("has a table weir_meta that is not weir's; give weir another file, or rename that table")
	errNoJournal = errors.New("is an SQLite file without a journal in it: give the file of a service that uses weir, or start the service that makes it")
)

// migrate takes the steps that the file lacks, in the caller's transaction. A file
// that was only to be looked into must have taken them.
func (s *Store) migrate(c *conn) error {
	steps, err := fs.Glob(schemaFS, "schema/*.sql")
	if err != nil {
		return err
	}
	have, err := schemaOf(c)
	switch {
	case err != nil:
		return err
	case have > len(steps):
		return fmt.Errorf("has schema %d, and this version of weir knows %d: open it with the version that wrote it, or a newer one", have, len(steps))
	case have == 0 && s.existing:
		return errNoJournal
	case have < len(steps) && s.existing:
		return fmt.Errorf("has schema %d, and this version of weir works with %d: start the service with this version, which brings the file up to it, or use the older weir", have, len(steps))
	}
	for i, name := range steps[have:] {
		text, err := fs.ReadFile(schemaFS, name)
		if err != nil {
			return err
		}
		if err := runScript(c, string(text)); err != nil {
			return fmt.Errorf("schema step %d: %w", have+i+1, err)
		}
	}
	if have == 0 {
		if err := c.exec(sqlNewJournal); err != nil {
			return err
		}
		first := lives.Life{Incarnation: newIncarnation(), First: 1, Base: lives.Base(us(s.now()), 0)}
		if err := insertLife(c, first); err != nil {
			return err
		}
	}
	if have < len(steps) {
		if err := c.exec(sqlSetSchema, len(steps)); err != nil {
			return err
		}
	}
	s.schema = len(steps)
	return s.readLives(c)
}

// schemaOf is the number of steps that the file has taken, 0 when it holds no journal.
func schemaOf(c *conn) (int, error) {
	n, _, err := c.number(sqlHasMeta)
	if err != nil || n == 0 {
		return 0, err
	}
	schema, found, err := c.number(sqlSchema)
	if err != nil || !found || schema < 1 {
		return 0, errors.Join(errForeign, err)
	}
	return int(schema), nil
}

// newIncarnation draws six of 36 letters and digits: 31 bits, so that two stores
// of one company hardly ever share a name.
func newIncarnation() store.Incarnation {
	return store.Incarnation(strings.ToLower(rand.Text()[:6]))
}

// runScript runs statements one by one, without a transaction of its own.
func runScript(c *conn, script string) error {
	for script = strings.TrimSpace(script); script != ""; script = strings.TrimSpace(script) {
		st, rest, err := c.c.PrepareTransient(script)
		if err != nil {
			return err
		}
		script = script[len(script)-rest:]
		if err := errors.Join(finish(st), st.Finalize()); err != nil {
			return err
		}
	}
	return nil
}

// checkVersion refuses libraries that lose data: before 3.51.3 a checkpoint could
// meet a restarting WAL and drop commits; 3.53.3 broke the journal of an attached file.
func checkVersion(version string) error {
	var major, minor, patch int
	if n, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); n != 3 {
		return fmt.Errorf("SQLite version %q: %w", version, err)
	}
	number := major*1_000_000 + minor*1_000 + patch
	if number < 3_051_003 || number == 3_053_003 {
		return fmt.Errorf("SQLite %s can lose committed data: build with 3.51.3 or later, but not 3.53.3 (update modernc.org/sqlite)", version)
	}
	return nil
}
