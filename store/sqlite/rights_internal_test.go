package sqlite

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
)

// "attempt to write a readonly database" and "unable to open database file" do not say what to look at.
func TestMissingRightsSayWhatToLookAt(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	zc, err := openLibrary(s.path, sqlite.OpenReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	c := &conn{c: zc}
	defer c.close()
	write := c.exec(`create table mine (id)`)
	_, missing := openLibrary(filepath.Join(t.TempDir(), "missing", "a.db"), sqlite.OpenReadWrite)
	for what, err := range map[string]error{"write": write, "open": missing, "begin": advise(write)} {
		if !errors.Is(err, errRights) || strings.Count(err.Error(), errRights.Error()) != 1 || sqlite.ErrCode(err) == sqlite.ResultError {
			t.Errorf("%s = %v, want SQLite's error, and once what to look at", what, err)
		}
	}
	if err := c.exec(`select nothing from nowhere`); errors.Is(err, errRights) {
		t.Errorf("%v speaks of rights", err)
	}
}
