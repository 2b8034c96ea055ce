package postgres

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/store/storetest"
)

// TestDifferential wants this store to answer as that of SQLite does.
func TestDifferential(t *testing.T) { storetest.Differential(t, openFile, openHarness) }

// fileHarness is an SQLite file with a table of the user's own beside the journal.
type fileHarness struct {
	t    testing.TB
	path string
	open store.Opener
	db   *sql.DB
}

func openFile(t testing.TB, now func() time.Time) storetest.Harness {
	t.Helper()
	h := &fileHarness{t: t, path: filepath.Join(t.TempDir(), "weir.db")}
	var err error
	if h.db, err = sqlite.OpenDB(h.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.db.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := h.db.ExecContext(t.Context(), `create table notes (n integer primary key, word text not null);
		create table debts (n integer primary key, owed integer references debts deferrable initially deferred)`); err != nil {
		t.Fatal(err)
	}
	h.open = sqlite.File(h.path, sqlite.Clock(now))
	return h
}

func (h *fileHarness) Open(ctx context.Context) (store.Store, error) { return h.open(ctx) }

// Crash takes the lock file away, so that the next process finds the file free, as after a kill.
func (h *fileHarness) Crash(store.Store) {
	if err := os.Remove(h.path + ".lock"); err != nil {
		h.t.Fatal(err)
	}
}

func (h *fileHarness) Begin(ctx context.Context) (storetest.Own, error) {
	tx, err := h.db.BeginTx(ctx, nil)
	if err != nil {
		return storetest.Own{}, err
	}
	return storetest.Own{Tx: sqlite.Tx(tx), Commit: tx.Commit, Rollback: tx.Rollback}, nil
}

func (h *fileHarness) Note(ctx context.Context, tx store.Tx, word string) error {
	_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into notes (word) values (?)`, word)
	return err
}

func (h *fileHarness) Owe(ctx context.Context, tx store.Tx) error {
	_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into debts (owed) values (404)`)
	return err
}

func (h *fileHarness) Notes(ctx context.Context) (words []string, err error) {
	rows, err := h.db.QueryContext(ctx, `select word from notes order by n`)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var word string
		if err := rows.Scan(&word); err != nil {
			return nil, err
		}
		words = append(words, word)
	}
	return words, rows.Err()
}
