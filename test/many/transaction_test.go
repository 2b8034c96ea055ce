package many

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store/postgres"
)

// A caller's transaction on PostgreSQL, of pgx or of database/sql, takes what is sent in it with
// its rows, or leaves none of both; and a handler's rows commit with its acknowledgement.
func TestCallersTransactions(t *testing.T) {
	t.Parallel()
	dsn, schema := dsnOf(t), fmt.Sprintf("callers_%d", os.Getpid())
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["search_path"] = schema
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() {
		if _, err := db.ExecContext(context.Background(), "drop schema "+schema+" cascade"); err != nil {
			t.Error(err)
		}
		_ = db.Close()
	})
	for _, statement := range []string{"create schema " + schema, "create table orders (name text)", "create table cooked (name text)"} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	e, err := weir.Open(t.Context(), postgres.DB(dsn, postgres.Schema(schema)), weir.Config{Owns: []string{"kitchen"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done, over := make(chan string, 9), make(chan error, 1)
	weir.Handle(e, prepare, func(ctx context.Context, m *weir.Message[string]) error {
		m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
			_, err := postgres.Pgx(tx).Exec(ctx, "insert into "+schema+".cooked values ($1)", m.Body)
			return err
		})
		done <- m.Body
		return nil
	})
	go func() { over <- e.Run(ctx) }()
	sendBySQL(t, e, db)
	sendByPgx(t, e, config)
	for _, want := range []string{"sql", "pgx"} {
		select {
		case got := <-done:
			if got != want {
				t.Errorf("worked %s, want %s", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("%s is not worked", want)
		}
	}
	stop() // what was done is acknowledged first
	if err := errors.Join(<-over, e.Close()); err != nil {
		t.Errorf("Run() and Close() = %v, want nil", err)
	}
	var orders, cooked string
	if err := db.QueryRowContext(t.Context(), `select (select string_agg(name, ' ' order by name) from orders),
		(select string_agg(name, ' ' order by name) from cooked)`).Scan(&orders, &cooked); err != nil || orders != "pgx sql" || cooked != orders {
		t.Errorf("orders %q, cooked %q, %v, want both pgx sql", orders, cooked, err)
	}
}

var prepare = weir.NewCommand[string]("kitchen.prepare", weir.KeyedBy(func(name string) string { return name }))

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
		err = errors.Join(err, weir.Send(t.Context(), e.In(postgres.SQLTx(tx)), prepare, name), end())
		if err != nil {
			t.Fatalf("%s: %v, want nil", name, err)
		}
		if err := weir.Send(t.Context(), e.In(postgres.SQLTx(tx)), prepare, name); err == nil {
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
			err = errors.Join(err, weir.Send(t.Context(), e.In(postgres.Tx(tx)), prepare, name))
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

// A run is brought what a caller's transaction sends after the run has started, though the transaction began before.
func TestTransactionOlderThanTheRun(t *testing.T) {
	t.Parallel()
	dsn := dsnOf(t)
	pool, schema := poolOf(t, dsn)
	p := runProgram(t, postgres.DB(dsn, postgres.Schema(schema)), func(eng *weir.Engine) {
		weir.Register(eng, dawdle, func(r *weir.Run, _ string) (string, error) {
			return weir.WaitFor(r, "rung", rung.For("door"))
		})
	})
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), "select 1"); err != nil { // it begins
		t.Fatal(err)
	}
	run, err := weir.Start(t.Context(), p.eng, dawdle, "one", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := weir.Publish(t.Context(), p.eng.In(postgres.Tx(tx)), rung, "the bell", weir.Key("door")); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if got, err := run.Result(ctx); err != nil || got != "the bell" {
		t.Errorf("Result() = %q, %v, want the bell", got, err)
	}
	p.end(false)
}
