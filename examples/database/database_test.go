package database_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres/pgtest"
)

const sqlNotes = `
create table if not exists notes (no bigint primary key, word text not null, good boolean not null);
create index if not exists notes_word on notes (word);
`

var said = weir.NewCommand[string]("notes.say")

// Rows and messages commit together, and closures write in the engine's transaction: with
// the same statements on both stores.
func TestSameStatements(t *testing.T) {
	file := filepath.Join(t.TempDir(), "notes.db")
	for name, open := range map[string]func() (*database.Database, error){
		"sqlite":   func() (*database.Database, error) { return database.File(file) },
		"postgres": onServer(t, "notes"),
	} {
		t.Run(name, func(t *testing.T) {
			db, err := open()
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			sayTwice(t, db)
			var words []string
			rows, err := db.QueryContext(t.Context(), `select word from notes where good order by no`)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			for rows.Next() {
				var word string
				if err := rows.Scan(&word); err != nil {
					t.Fatal(err)
				}
				words = append(words, word)
			}
			if want := []string{"hello", "heard hello"}; !slices.Equal(words, want) || rows.Err() != nil {
				t.Errorf("notes are %v, %v, want %v", words, rows.Err(), want)
			}
		})
	}
}

// patience guards against hanging, and against nothing else.
const patience = 5 * time.Minute

// sayTwice sends with a row, once for good and once in vain, and works what was sent.
func sayTwice(t *testing.T, db *database.Database) {
	t.Helper()
	eng, err := weir.Open(t.Context(), db.Journal, weir.Config{Owns: []string{"notes"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	made := make(chan error)
	for range 4 { // as processes do that start at once
		go func() { made <- db.MakeTables(t.Context(), "notes", sqlNotes) }()
	}
	for range 4 {
		if err := <-made; err != nil {
			t.Errorf("MakeTables = %v, want nil", err)
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	weir.Handle(eng, said, func(_ context.Context, m *weir.Message[string]) error {
		m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
			defer stop()
			_, err := db.SQL(tx).ExecContext(ctx, `insert into notes (no, word, good) values ($1, $2, $3)`, 2, "heard "+m.Body, true)
			return err
		})
		return nil
	})
	for _, good := range []bool{false, true} {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), `insert into notes (no, word, good) values ($1, $2, $3) on conflict (no) do nothing`, 1, "hello", good); err != nil {
			t.Fatal(err)
		}
		if err := weir.Send(t.Context(), eng.In(db.In(tx)), said, "hello"); err != nil {
			t.Fatal(err)
		}
		end := tx.Rollback
		if good {
			end = tx.Commit
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	if err := eng.Run(ctx); err != nil || !errors.Is(ctx.Err(), context.Canceled) {
		t.Fatalf("Run = %v, want nil; and %v", err, ctx.Err())
	}
}

// Who is patient does not notice that the server was killed; a fault is told at once.
func TestPatient(t *testing.T) {
	s := pgtest.ForTest(t)
	db, err := database.Schema(s.URL("postgres"), "patient")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	one := func(ctx context.Context) error { return db.QueryRowContext(ctx, `select 1`).Scan(new(int)) }
	if err := db.Patient(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := one(t.Context()); err == nil {
		t.Fatal("a query of a killed server succeeds")
	}
	up, tried := make(chan error, 1), 0
	err = db.Patient(t.Context(), func(ctx context.Context) error {
		if tried++; tried == 1 {
			_, err := tx.ExecContext(ctx, `select 1`) // over the connection that was
			go func() { up <- s.Up(context.WithoutCancel(t.Context())) }()
			return err
		}
		return one(ctx)
	})
	if err := errors.Join(err, <-up); err != nil || tried < 2 {
		t.Errorf("Patient, of a server that comes back = %v after %d trials, want nil after several", err, tried)
	}
	_ = tx.Rollback()
	tried = 0
	err = db.Patient(t.Context(), func(ctx context.Context) error {
		tried++
		_, err := db.ExecContext(ctx, `select nonsense`)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "nonsense") || tried != 1 {
		t.Errorf("Patient with a wrong statement = %v after %d trials, want the error at once", err, tried)
	}
	tried = 0
	if err := db.Patient(t.Context(), func(context.Context) error {
		if tried++; tried == 1 {
			return fmt.Errorf("take: %w", store.ErrLeaseLost)
		}
		return nil
	}); err != nil || tried != 2 {
		t.Errorf("Patient of a process that was given up for lost = %v after %d trials, want nil after 2", err, tried)
	}
	if err := db.Patient(t.Context(), func(context.Context) error { return sql.ErrNoRows }); !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("Patient with ErrNoRows = %v, want that", err)
	}
}

func TestRefuses(t *testing.T) {
	if _, err := database.File(filepath.Join(t.TempDir(), "none", "notes.db")); err == nil {
		t.Error("File in a directory that is not there = nil, want an error")
	}
	if _, err := database.Schema("postgres://me:secret@host:port/db", "notes"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("Schema of no URL = %v, want an error without the password", err)
	}
}

func onServer(t *testing.T, schema string) func() (*database.Database, error) {
	t.Helper()
	s := pgtest.ForTest(t)
	return func() (*database.Database, error) { return database.Schema(s.URL("postgres"), schema) }
}
