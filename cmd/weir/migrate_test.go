package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	weir "github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres"
	"github.com/weir-go/weir/store/postgres/pgtest"
	"github.com/weir-go/weir/store/sqlite"
)

// A DBA runs what print-sql prints, a service works what that made without owning it, and a
// viewer reads with all verbs that read.
func TestMigrate(t *testing.T) {
	t.Parallel()
	at := server(t)
	psql(t, at, "create role app login; create role eyes login; create role boss nologin;")
	migrate := func(code int, verb string, args ...string) said {
		t.Helper()
		return cmdline(t, code, "", append([]string{"migrate", verb, "--store", at}, args...)...)
	}
	roles := []string{"--owner", "boss", "--worker", "app", "--viewer", "eyes"}
	migrate(0, "plan", roles...).has("Schema weir holds no journal", "print-sql")
	printed := migrate(0, "print-sql", roles...)
	printed.has("begin;", `create schema "weir" authorization "boss"`, `grant usage on schema "weir" to "eyes"`, "commit;")
	migrate(0, "plan").has("holds no journal")
	psql(t, at, printed.out)
	migrate(0, "plan").has("nothing to do")
	migrate(0, "print-sql").has("-- weir: schema weir is at version", "nothing to do")
	migrate(0, "up", "--viewer", "eyes").has("the roles have their rights")
	migrate(0, "up").has("nothing to do")
	migrate(1, "up", "--owner", "app").complains("the owner of schema weir is boss")
	migrate(0, "up", "--schema", "other").has("Schema other: brought from version 0")
	var m any
	migrate(0, "plan", "--schema", "third", "--json").object(&m)
	if f := fields(t, m, "schema_name", "from", "to", "pending"); f["pending"] != true || f["schema_name"] != "third" {
		t.Errorf("migrate plan --json = %v, want third, pending", f)
	}

	app, eyes := strings.Replace(at, "user=postgres", "user=app", 1), strings.Replace(at, "user=postgres", "user=eyes", 1)
	s, err := postgres.DB(app)(t.Context())
	if err != nil {
		t.Fatalf("open as the worker = %v, want nil", err)
	}
	defer s.Close()
	sent := &store.Message{Topic: "kitchen.cook", Kind: store.KindCommand, Version: 1, Key: "table-7", Body: []byte(`{"dish":"soup"}`)}
	g := &store.Group{Changes: []*store.Change{{Sends: []*store.Message{sent}}}}
	if err := s.Commit(t.Context(), g); err != nil || g.Changes[0].Err != nil {
		t.Fatalf("Commit() = %v, %v, want nil", err, g.Changes[0].Err)
	}
	for verb, code := range map[string]int{
		"status": 5, "doctor": 5, "queue ls": 0, "queue show kitchen.cook": 0, "message ls": 0, "message show " + sent.ID: 0,
		"run ls": 0, "run show none": 3, "run why none": 3, "lock ls": 0, "trace table-7": 0, "dead ls": 0, "dead ls --group": 0, "dead show " + sent.ID: 3, "audit ls": 0,
	} {
		cmdline(t, code, "", append(strings.Fields(verb), "--store", eyes)...)
	}
	cmdline(t, 1, "", "queue", "pause", "kitchen.cook", "--why", "x", "--store", eyes).complains("permission denied")
	cmdline(t, 1, "", "migrate", "up", "--schema", "third", "--store", eyes).complains("migrate schema third: ", "let the owner of weir's schema run weir migrate up")
	cmdline(t, 0, "", "status", "--store", at, "--schema", "other").has("No queues yet")
	cmdline(t, 1, "", "status", "--store", at, "--schema", "third").complains("holds no journal")
	cmdline(t, 1, "", "status", "--store", strings.Replace(at, "/postgres?", "/none?", 1)).complains(`database "none" does not exist`)
	cmdline(t, 1, "", "migrate", "up", "--store", strings.Replace(at, "user=postgres", "user=nobody", 1)).complains(`role "nobody" does not exist`)
}

// psql runs a script as a DBA does.
func psql(t *testing.T, at, script string) {
	t.Helper()
	bin, err := pgtest.Binary("psql")
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.CommandContext(t.Context(), bin, "-X", "-q", "-v", "ON_ERROR_STOP=1", at)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("psql = %v: %s", err, bytes.TrimSpace(out))
	}
}

// A file is migrated by whoever opens it; the verbs say so.
func TestMigrateFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kitchen.db")
	cmdline(t, 1, "", "migrate", "up", "--store", file).complains("no journal at " + file)
	e, err := weir.Open(t.Context(), sqlite.File(file), weir.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	cmdline(t, 0, "", "migrate", "plan", "--store", file).has("nothing is left to do")
	cmdline(t, 0, "", "migrate", "up", "--store", file).has("nothing is left to do")
	cmdline(t, 2, "", "migrate", "up", "--worker", "app", "--store", file).complains("for PostgreSQL")
	cmdline(t, 2, "", "migrate", "print-sql", "--store", file).complains("for PostgreSQL")
}

// What cannot be reached, and who is not let in, is told at once and plainly.
func TestNoServer(t *testing.T) {
	cmdline(t, 1, "", "status", "--store", "postgres://app@127.0.0.1:1/none").complains("the database is unavailable", "connection refused")
}
