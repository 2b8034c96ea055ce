package many

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres"
)

// workApart sends from one process what another works, keyed and not, and wants all of it done, in the order of each key.
func workApart(t *testing.T, open store.Opener) {
	t.Helper()
	const n = 60
	done := make(chan task, 2*n)
	works := runProgram(t, open, func(eng *weir.Engine) {
		weir.Handle(eng, chore, func(_ context.Context, m *weir.Message[task]) error {
			done <- m.Body
			return nil
		})
	})
	sends := runProgram(t, open, func(*weir.Engine) {})
	for i := range n {
		key := ""
		if i%2 == 0 {
			key = fmt.Sprint("key-", i%3)
		}
		if err := weir.Send(t.Context(), sends.eng, chore, task{fmt.Sprintf("%02d", i), key}); err != nil {
			t.Fatalf("Send() = %v, want nil", err)
		}
	}
	last, seen := map[string]string{}, map[string]bool{}
	for range n {
		select {
		case d := <-done:
			if d.Key != "" && d.Name < last[d.Key] {
				t.Errorf("%s of %s came after %s", d.Name, d.Key, last[d.Key])
			}
			if seen[d.Name] {
				t.Errorf("%s came twice", d.Name)
			}
			last[d.Key], seen[d.Name] = d.Name, true
		case <-time.After(patience):
			t.Fatalf("%d of %d were worked", len(seen), n)
		}
	}
	quiet(t, works.eng, works.over)
	sends.end(false)
	works.end(false)
}

// A server that refuses to notify, as one whose queue of notifications is full, delays nobody's sends or work beyond a look.
func TestNobodyIsNotified(t *testing.T) {
	t.Parallel()
	dsn := dsnOf(t)
	db, schema := poolOf(t, dsn)
	name := schema + "_dumb"
	for _, sql := range []string{
		"revoke execute on function pg_notify(text, text) from public",
		"create role " + name + " login",
		"grant all on schema " + schema + " to " + name,
	} {
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, sql := range []string{"drop owned by " + name + " cascade", "drop role " + name, "grant execute on function pg_notify(text, text) to public"} {
			if _, err := db.Exec(context.Background(), sql); err != nil {
				t.Error(err)
			}
		}
	})
	dumb := asRole(t, dsn, name)
	if _, err := dumb.Exec(t.Context(), "select pg_notify('a', 'b')"); err == nil {
		t.Fatal("the role may notify: want it refused")
	}
	workApart(t, postgres.DB(dsn+" user="+name, postgres.Schema(schema)))
}

func asRole(t *testing.T, dsn, role string) *pgxpool.Pool {
	t.Helper()
	db, err := pgxpool.New(t.Context(), dsn+" user="+role)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// A transaction that is open in another database of the server, and has written there, holds up nobody here.
func TestTransactionInAnotherDatabase(t *testing.T) {
	t.Parallel()
	dsn := dsnOf(t)
	db, schema := poolOf(t, dsn)
	other := schema + "_other"
	if _, err := db.Exec(t.Context(), "create database "+other); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := db.Exec(context.Background(), "drop database "+other+" with (force)"); err != nil {
			t.Error(err)
		}
	})
	there, err := pgxpool.New(t.Context(), dsn+" dbname="+other)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(there.Close)
	tx, err := there.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), "create table held (id int)"); err != nil {
		t.Fatal(err)
	}
	workApart(t, postgres.DB(dsn, postgres.Schema(schema)))
	if _, err := tx.Exec(t.Context(), "insert into held values (1)"); err != nil {
		t.Errorf("the transaction has ended meanwhile: %v", err)
	}
}
