package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/weir-go/weir/store"
)

// callers is a caller's way to the database: by pgx, or by database/sql.
type callers struct {
	name  string
	begin func(t *testing.T, dsn string) *callersOwn
}

// callersOwn is a transaction of a caller's.
type callersOwn struct {
	store.Tx
	exec             func(query string) error
	commit, rollback func() error
}

func bothCallers() []callers {
	return []callers{{"pgx", beginPgx}, {"database/sql", beginSQL}}
}

func beginPgx(t *testing.T, dsn string) *callersOwn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	tx, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &callersOwn{Tx(tx), func(query string) error { _, err := tx.Exec(t.Context(), query); return err },
		func() error { return tx.Commit(t.Context()) }, func() error { return tx.Rollback(t.Context()) }}
}

func beginSQL(t *testing.T, dsn string) *callersOwn {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() { _ = db.Close() })
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &callersOwn{SQLTx(tx), func(query string) error { _, err := tx.ExecContext(t.Context(), query); return err }, tx.Commit, tx.Rollback}
}

// theirs sends a message with a key in the caller's transaction, and starts a run of that ID.
func theirs(s *Store, tx store.Tx, key string) error {
	return s.AppendIn(context.Background(), tx, &store.Change{Sends: keyed(1, key), Runs: []*store.RunStart{{Workflow: "a.flow", ID: key, Version: 1}}})
}

// What is sent in a caller's transaction commits with his rows, or not at all; a savepoint that is
// rolled back takes its sends with it.
func TestCallersTransaction(t *testing.T) {
	t.Parallel()
	h, s, queue := processes(t, 1)
	want := 0
	for _, c := range bothCallers() {
		t.Run(c.name, func(t *testing.T) {
			for _, end := range []string{"commit", "rollback", "savepoint"} {
				key := c.name + "-" + end
				tx := c.begin(t, dsn(t))
				step := func(err error) {
					t.Helper()
					if err != nil {
						t.Fatalf("%s: %v, want nil", key, err)
					}
				}
				step(tx.exec("insert into " + h.schema + ".notes (word) values ('" + key + "')"))
				step(theirs(s[0], tx.Tx, key))
				if b := claimSome(t, s[0], queue, 9); b != nil {
					t.Errorf("%s: Claim() before the commit = %d messages, want none", key, len(b.Deliveries))
				}
				switch end {
				case "rollback":
					step(tx.rollback())
					continue
				case "savepoint":
					step(tx.exec("savepoint here"))
					step(theirs(s[0], tx.Tx, key+"-undone"))
					step(tx.exec("rollback to savepoint here"))
				}
				step(tx.commit())
				want++
				b := claimSome(t, s[0], queue, 9)
				if b == nil || len(b.Deliveries) != 1 || b.Deliveries[0].Message.Key != key {
					t.Fatalf("%s: Claim() after the commit = %+v, want its one message", key, b)
				}
				step(doneAll(t, s[0], b))
			}
		})
	}
	notes, err := h.Notes(t.Context())
	if err != nil || len(notes) != want {
		t.Errorf("Notes() = %v, %v, want %d", notes, err, want)
	}
	runs, err := s[0].Reader().Runs().List(t.Context(), store.RunQuery{Max: 9})
	if err != nil || len(runs) != want {
		t.Errorf("List() = %d runs, %v, want %d", len(runs), err, want)
	}
}

// A caller's transaction that stays open delays who sends with its key, and nobody else.
func TestForgottenTransaction(t *testing.T) {
	t.Parallel()
	_, s, queue := processes(t, 1)
	for _, c := range bothCallers() {
		t.Run(c.name, func(t *testing.T) {
			forgotten := c.begin(t, dsn(t))
			if err := theirs(s[0], forgotten.Tx, c.name); err != nil {
				t.Fatalf("AppendIn() = %v, want nil", err)
			}
			other := c.begin(t, dsn(t))
			if err := errors.Join(other.exec("set local lock_timeout = '100ms'"), theirs(s[0], other.Tx, c.name+"-other")); err != nil {
				t.Errorf("AppendIn() with another key = %v, want nil", err)
			}
			if err := s[0].AppendIn(t.Context(), other.Tx, &store.Change{Sends: keyed(1, c.name)}); err == nil || !strings.Contains(err.Error(), lockNotAvailable) {
				t.Errorf("AppendIn() with the same key = %v, want it to wait for the lock", err)
			}
			if err := other.rollback(); err != nil {
				t.Fatal(err)
			}
			plain := &store.Message{Topic: "a.cook", Kind: store.KindCommand, Version: 1, Body: []byte("x")}
			send(t, s[0], append(keyed(20, ""), plain)...)
			b := claimSome(t, s[0], queue, 99)
			if b == nil || len(b.Deliveries) != 21 {
				t.Fatalf("Claim() beside it = %+v, want 21 messages", b)
			}
			if err := doneAll(t, s[0], b); err != nil {
				t.Fatal(err)
			}
			if err := forgotten.commit(); err != nil {
				t.Fatal(err)
			}
			if b = claimSome(t, s[0], queue, 99); b == nil || len(b.Deliveries) != 1 || doneAll(t, s[0], b) != nil {
				t.Errorf("Claim() after it = %+v, want its message", b)
			}
		})
	}
}

// Transactions that cannot be used are refused with what is wrong.
func TestUnusableTransaction(t *testing.T) {
	t.Parallel()
	h, s, _ := processes(t, 1)
	elsewhere := fmt.Sprintf("other%d_%d", os.Getpid(), schemas.Add(1))
	if _, err := h.db.Exec(t.Context(), "create database "+elsewhere); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := h.db.Exec(context.Background(), "drop database "+elsewhere+" with (force)"); err != nil {
			t.Error(err)
		}
	})
	for _, c := range bothCallers() {
		committed, undone, failed := c.begin(t, dsn(t)), c.begin(t, dsn(t)), c.begin(t, dsn(t))
		if err := errors.Join(committed.commit(), undone.rollback()); err != nil {
			t.Fatal(err)
		}
		if err := failed.exec("select 1/0"); err == nil {
			t.Fatal("1/0 = nil, want an error")
		}
		bare := c.begin(t, dsn(t)+" dbname="+elsewhere)
		for _, x := range []struct {
			tx   store.Tx
			want string
		}{
			{committed, "the transaction is over"}, {undone, "the transaction is over"}, {failed, "roll it back"},
			{bare, "another database"}, {Tx(nil), "it is nil"}, {Tx((*pgxpool.Tx)(nil)), "it is nil"}, {SQLTx((*sql.Tx)(nil)), "it is nil"},
		} {
			if own, ok := x.tx.(*callersOwn); ok {
				x.tx = own.Tx
			}
			if err := theirs(s[0], x.tx, "never"); err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%s: AppendIn() = %v, want %q", c.name, err, x.want)
			}
		}
	}
	// One that holds a journal, too, of the same schema.
	if _, err := Migrate(t.Context(), dsn(t)+" dbname="+elsewhere, Roles{}, Schema(h.schema)); err != nil {
		t.Fatal(err)
	}
	for _, c := range bothCallers() {
		tx := c.begin(t, dsn(t)+" dbname="+elsewhere)
		if err := theirs(s[0], tx.Tx, "never"); !errors.Is(err, errOtherDatabase) {
			t.Errorf("%s: AppendIn() in another journal = %v, want errOtherDatabase", c.name, err)
		}
	}
}
