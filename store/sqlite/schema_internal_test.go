package sqlite

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-go/weir/store"
)

// userFile makes an SQLite file by statements of the user's own.
func userFile(t *testing.T, statements ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "user.db")
	db, err := OpenDB(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	return path
}

func TestOpenRefuses(t *testing.T) {
	notes := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(notes, []byte(strings.Repeat("not a database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(notes, link); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(t.TempDir(), "newer.db")
	s := openFile(t, newer)
	if err := s.write(context.Background(), func(c *conn) error { return c.exec(sqlSetSchema, 99) }); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, want string }{
		{"a newer schema", newer, "has schema 99, and this version of weir knows 1"},
		{"another program's meta table", userFile(t, `create table weir_meta (a text)`), "not weir's"},
		{"a table in the way", userFile(t, `create table weir_messages (id integer)`), "schema step 1"},
		{"no database", notes, "not a database"},
		{"a symbolic link", link, "is a symbolic link"},
		{"a folder", t.TempDir(), "is not a regular file"},
		{"no folder", filepath.Join(t.TempDir(), "missing", "a.db"), "no such file or directory: make the folder first"},
		{"no name", "", "want the path of a file"},
		{"in memory", ":memory:", "want the path of a file"},
		{"a URI", "file:" + filepath.Join(t.TempDir(), "a.db") + "?mode=rwc", "want the path of a file"},
	} {
		s, err := File(c.path)(context.Background())
		if err == nil {
			t.Errorf("open of %s = nil, want an error with %q", c.name, c.want)
			_ = s.Close()
			continue
		}
		if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("open of %s = %q, want the path and %q", c.name, err, c.want)
		}
	}
}

func TestOpenBesideTheUsersTables(t *testing.T) {
	path := userFile(t, `create table invoices (id integer)`, `insert into invoices values (7)`,
		`create table messages (id integer)`, `create table queues (id integer)`, `pragma user_version = 7`)
	s := openFile(t, path)
	n := int64(0)
	err := s.read(context.Background(), func(c *conn) (err error) {
		n, _, err = c.number(`select id from invoices`)
		return err
	})
	if err != nil || n != 7 {
		t.Errorf("the user's row = %d, %v, want 7", n, err)
	}
}

func TestOpenAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a?b %41#.db") // nothing in a path is special
	s := openFile(t, path)
	want := s.Info()
	if want.Kind != "sqlite" || want.Name != path || len(want.Incarnation) != 6 || want.Schema != 1 {
		t.Errorf("Info = %+v", want)
	}
	again := openFile(t, path)
	if got := again.Info(); got != want {
		t.Errorf("Info of the file opened again = %+v, want %+v", got, want)
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("mode of %s = %o, want 600", info.Name(), mode)
		}
	}
	db, err := OpenDB(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var inc string
	if err := db.QueryRow(`select incarnation from weir_lives`).Scan(&inc); err != nil || inc != string(want.Incarnation) {
		t.Errorf("incarnation through OpenDB = %q, %v, want %q", inc, err, want.Incarnation)
	}
}

// A file is made by one of those who open it at once, and the others wait.
func TestOpenTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	found := make(chan store.Info)
	for range 8 {
		go func() {
			s, err := open(context.Background(), path, nil)
			if err != nil {
				t.Error(err)
				found <- store.Info{}
				return
			}
			found <- s.Info()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
	}
	first := <-found
	for range 7 {
		if got := <-found; got != first {
			t.Errorf("Info = %+v, want %+v", got, first)
		}
	}
}

func TestPragmas(t *testing.T) {
	s := openFile(t, filepath.Join(t.TempDir(), "test.db"))
	db, err := OpenDB(s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, c := range []struct{ pragma, want string }{
		{"journal_mode", "wal"}, {"synchronous", "2"}, {"foreign_keys", "1"}, {"trusted_schema", "0"}, {"page_size", "4096"},
	} {
		got := ""
		err := s.write(context.Background(), func(c2 *conn) error {
			return c2.rows("pragma "+c.pragma, nil, []any{&got}, func() error { return nil })
		})
		if err != nil || got != c.want {
			t.Errorf("writer's %s = %q, %v, want %q", c.pragma, got, err, c.want)
		}
		if err := db.QueryRow("pragma " + c.pragma).Scan(&got); err != nil || got != c.want {
			t.Errorf("OpenDB's %s = %q, %v, want %q", c.pragma, got, err, c.want)
		}
	}
	err = s.read(context.Background(), func(c *conn) error { return c.exec(`delete from weir_topics`) })
	if err == nil {
		t.Error("a reader's delete = nil, want an error")
	}
}

func TestVersionGate(t *testing.T) {
	for version, good := range map[string]bool{
		"3.51.2": false, "3.51.3": true, "3.53.2": true, "3.53.3": false, "3.53.4": true, "3.54.1": true,
		"3.7.17": false, "4.0.0": true, "newest": false,
	} {
		if err := checkVersion(version); (err == nil) != good {
			t.Errorf("checkVersion(%s) = %v, want good: %t", version, err, good)
		}
	}
}

func TestMigrationIsOneTransaction(t *testing.T) {
	path := userFile(t, `create table weir_audit (id integer)`) // the last of the schema's tables
	if _, err := open(context.Background(), path, nil); err == nil {
		t.Fatal("open = nil, want an error")
	}
	db, err := OpenDB(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var name string
	err = db.QueryRow(`select name from sqlite_schema where name <> 'weir_audit'`).Scan(&name)
	if err != sql.ErrNoRows {
		t.Errorf("after a failed migration there is %q, %v, want nothing", name, err)
	}
}
