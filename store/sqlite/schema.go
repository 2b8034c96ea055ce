package sqlite

import (
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/weir-go/weir/store"
	"zombiezen.com/go/sqlite"
)

// The schema's steps, 0001.sql first. A released step is never changed; the
// file's user_version is the number of the last step it has taken.
//
//go:embed schema/*.sql
var schemaFS embed.FS

const (
	sqlUserVersion = `pragma user_version`
	sqlIncarnation = `select v from meta where k = 'incarnation'`
	sqlNewJournal  = `insert into meta (k, v) values ('incarnation', ?), ('seq', 0), ('process', 0)`
	sqlTableExists = `select count(*) from sqlite_schema where name = 'meta' and type = 'table'`
)

var errForeign = errors.New("is an SQLite file with a schema that is not weir's (its user_version is set, but it holds no journal); give weir another file")

// migrate takes the steps that the file lacks, in the caller's transaction.
func (s *Store) migrate(c *conn) error {
	steps, err := fs.Glob(schemaFS, "schema/*.sql")
	if err != nil {
		return err
	}
	have, _, err := c.number(sqlUserVersion)
	if err != nil {
		return err
	}
	if err := checkJournal(c, have, int64(len(steps))); err != nil {
		return err
	}
	for i, name := range steps[have:] {
		text, err := fs.ReadFile(schemaFS, name)
		if err != nil {
			return err
		}
		if err := runScript(c, string(text)); err != nil {
			return fmt.Errorf("schema step %d: %w", have+int64(i)+1, err)
		}
	}
	if have == 0 {
		if err := c.exec(sqlNewJournal, string(newIncarnation())); err != nil {
			return err
		}
	}
	if have < int64(len(steps)) {
		// A pragma takes no parameters; the number is ours.
		if err := c.exec(sqlUserVersion + " = " + strconv.Itoa(len(steps))); err != nil {
			return err
		}
	}
	return s.describe(c, len(steps))
}

// checkJournal refuses what is not ours, or newer than we are.
func checkJournal(c *conn, have, know int64) error {
	if have == 0 {
		return nil
	}
	n, _, err := c.number(sqlTableExists)
	if err != nil {
		return err
	}
	if n == 0 {
		return errForeign
	}
	if _, err := incarnationOf(c); err != nil {
		return errors.Join(errForeign, err)
	}
	if have > know {
		return fmt.Errorf("has schema %d, and this version of weir knows %d: open it with the version that wrote it, or a newer one", have, know)
	}
	return nil
}

func (s *Store) describe(c *conn, schema int) error {
	inc, err := incarnationOf(c)
	if err != nil {
		return err
	}
	s.info = store.Info{Kind: kind, Name: s.path, Incarnation: inc, Schema: schema}
	return nil
}

func incarnationOf(c *conn) (store.Incarnation, error) {
	var inc store.Incarnation
	err := c.query(sqlIncarnation, nil, func(st *sqlite.Stmt) error {
		inc = store.Incarnation(st.ColumnText(0))
		return nil
	})
	if err == nil && inc == "" {
		err = errors.New("has no incarnation: the journal is damaged; restore it from a backup")
	}
	return inc, err
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
