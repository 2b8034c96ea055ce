package main

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres"
	"github.com/weir-go/weir/store/postgres/pgtest"
)

// server is the URL of a database on a PostgreSQL server of the test's own.
func server(t *testing.T) string {
	t.Helper()
	return pgtest.ForTest(t).URL("postgres")
}

// The verbs that look, and those that operate, work on PostgreSQL as on a file.
func TestPostgres(t *testing.T) {
	t.Parallel()
	at := server(t)
	cmdline(t, 1, "", "status", "--store", at).complains("no journal")
	s, err := postgres.DB(at)(t.Context())
	if err != nil {
		t.Fatalf("open = %v, want nil", err)
	}
	defer s.Close()
	dies := &store.Message{Topic: "kitchen.cook", Kind: store.KindCommand, Version: 1, Key: "table-7", Body: []byte(`{"dish":"soup"}`)}
	g := &store.Group{Changes: []*store.Change{{Sends: []*store.Message{dies}}}}
	if err := s.Commit(t.Context(), g); err != nil || g.Changes[0].Err != nil {
		t.Fatalf("Commit() = %v, %v, want nil", err, g.Changes[0].Err)
	}
	cmdline(t, 5, "", "status", "--store", at).has("postgres, schema", "kitchen.cook", "no process works the store")
	cmdline(t, 5, "", "doctor", "--store", at).has("no process works the store")
	for _, c := range []struct{ args, want string }{
		{"queue ls", "kitchen.cook"}, {"queue show kitchen.cook", "kitchen.cook"},
		{"trace table-7", dies.ID}, {"message show " + dies.ID, "soup"}, {"dead ls", ""}, {"run ls", ""}, {"audit ls", ""},
		{"queue pause kitchen.cook --why repair", "kitchen.cook"}, {"audit ls", "repair"}, {"queue resume kitchen.cook --why repaired", "kitchen.cook"},
	} {
		got := cmdline(t, 0, "", append(strings.Fields(c.args), "--store", at)...)
		if !strings.Contains(got.out, c.want) {
			t.Errorf("weir %s = %q, want %q in it", c.args, got.out, c.want)
		}
	}
}

// A server that loses what was committed is refused to services; here it is looked at, and that is said.
func TestUnsafeServer(t *testing.T) {
	t.Parallel()
	at := server(t)
	s, err := postgres.DB(at)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	db, err := pgx.Connect(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	for _, statement := range []string{"alter role postgres set synchronous_commit = off", "alter system set full_page_writes = off", "select pg_reload_conf()"} {
		if _, err := db.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range []string{"dead ls", "audit ls", "migrate plan", "migrate up"} {
		cmdline(t, 0, "", append(strings.Fields(args), "--store", at)...).complains(" is off", "would lose what was committed")
	}
	cmdline(t, 5, "", "doctor", "--store", at).has("setting synchronous_commit is off")
}
