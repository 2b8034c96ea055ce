package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/storetest"
	"github.com/weir-go/weir/store/storetest/mutants"
)

func TestLaws(t *testing.T)     { storetest.Run(t, openHarness) }
func TestLawsBite(t *testing.T) { mutants.Run(t, openHarness) }

// harness is a file with a table of the user's own beside the journal.
type harness struct {
	t    testing.TB
	open store.Opener
	db   *sql.DB
}

func openHarness(t testing.TB, now func() time.Time) storetest.Harness {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weir.db")
	db, err := OpenDB(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := db.ExecContext(t.Context(), `create table notes (n integer primary key, word text not null);
		create table debts (n integer primary key, owed integer references debts deferrable initially deferred)`); err != nil {
		t.Fatal(err)
	}
	return &harness{t: t, open: File(path, Clock(now)), db: db}
}

func (h *harness) Open(ctx context.Context) (store.Store, error) { return h.open(ctx) }

// Crash drops the lock on the file, as the end of its process would: without a
// word in the database or in the lock file.
func (h *harness) Crash(s store.Store) {
	dead := s.(*Store)
	dead.mu.Lock()
	defer dead.mu.Unlock()
	if err := errors.Join(dead.lock.unlock(), dead.lock.f.Close()); err != nil {
		h.t.Fatal(err)
	}
	dead.lock = nil
}

func (h *harness) Begin(ctx context.Context) (storetest.Own, error) {
	tx, err := h.db.BeginTx(ctx, nil)
	if err != nil {
		return storetest.Own{}, err
	}
	return storetest.Own{Tx: Tx(tx), Commit: tx.Commit, Rollback: tx.Rollback}, nil
}

func (h *harness) Note(ctx context.Context, tx store.Tx, word string) error {
	_, err := SQL(tx).ExecContext(ctx, `insert into notes (word) values (?)`, word)
	return err
}

func (h *harness) Owe(ctx context.Context, tx store.Tx) error {
	_, err := SQL(tx).ExecContext(ctx, `insert into debts (owed) values (404)`)
	return err
}

func (h *harness) Notes(ctx context.Context) (words []string, err error) {
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
