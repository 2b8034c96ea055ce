package weir_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/postgres"
	"github.com/weir-go/weir/store/postgres/pgtest"
)

// A caller's transaction on PostgreSQL, of pgx or of database/sql, takes what is sent in it with
// its rows, or leaves none of both; and a handler's rows commit with its acknowledgement.
func TestTransactionOnPostgres(t *testing.T) {
	dsn := postgresServer(t)
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(t.Context(), "create table orders (name text); create table cooked (name text)"); err != nil {
		t.Fatal(err)
	}
	e := openStore(t, postgres.DB(dsn), weir.Config{})
	done := make(chan string, 9)
	weir.Handle(e, prepare, func(ctx context.Context, m *weir.Message[ticket]) error {
		m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
			_, err := postgres.Pgx(tx).Exec(ctx, "insert into cooked values ($1)", m.Body.Table)
			return err
		})
		done <- m.Body.Table
		return nil
	})
	run(t, e)
	sendBySQL(t, e, db)
	sendByPgx(t, e, config)
	for _, want := range []string{"sql", "pgx"} {
		if got := receive(t, done); got != want {
			t.Errorf("worked %s, want %s", got, want)
		}
	}
	emptied(t, e, prepare.Name())
	var orders, cooked string
	if err := db.QueryRowContext(t.Context(), `select (select string_agg(name, ' ' order by name) from orders),
		(select string_agg(name, ' ' order by name) from cooked)`).Scan(&orders, &cooked); err != nil || orders != "pgx sql" || cooked != orders {
		t.Errorf("orders %q, cooked %q, %v, want both pgx sql", orders, cooked, err)
	}
}

func sendBySQL(t *testing.T, e *weir.Engine, db *sql.DB) {
	t.Helper()
	for _, name := range []string{"sql, undone", "sql"} {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tx.ExecContext(t.Context(), "insert into orders values ($1)", name)
		end := tx.Commit
		if name != "sql" {
			end = tx.Rollback
		}
		err = errors.Join(err, weir.Send(t.Context(), e.In(postgres.SQLTx(tx)), prepare, ticket{name, 1}), end())
		if err != nil {
			t.Fatalf("%s: %v, want nil", name, err)
		}
		if err := weir.Send(t.Context(), e.In(postgres.SQLTx(tx)), prepare, ticket{name, 2}); err == nil {
			t.Errorf("%s: Send() in a transaction that is over = nil, want an error", name)
		}
	}
}

func sendByPgx(t *testing.T, e *weir.Engine, config *pgx.ConnConfig) {
	t.Helper()
	c, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	for _, name := range []string{"pgx, undone", "pgx"} {
		err := pgx.BeginFunc(t.Context(), c, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), "insert into orders values ($1)", name)
			err = errors.Join(err, weir.Send(t.Context(), e.In(postgres.Tx(tx)), prepare, ticket{name, 1}))
			if err == nil && name != "pgx" {
				return errUndone
			}
			return err
		})
		if err != nil && !errors.Is(err, errUndone) {
			t.Fatalf("%s: %v, want nil", name, err)
		}
	}
}

var errUndone = errors.New("undone")

// postgresServer is the DSN of a database on a server of the test's own.
func postgresServer(t *testing.T) string {
	t.Helper()
	server, err := pgtest.Start(t.Context())
	if errors.Is(err, pgtest.ErrNoBinaries) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server.DSN("postgres")
}
