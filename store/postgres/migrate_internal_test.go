package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres/pgtest"
)

// freshSchema is the name of a schema that is not there, and a pool on its database.
func freshSchema(t *testing.T) (schema string, db *pgxpool.Pool) {
	t.Helper()
	db, err := pgxpool.New(t.Context(), dsn(t)+" pool_max_conns=3")
	if err != nil {
		t.Fatal(err)
	}
	schema = fmt.Sprintf("m%d_%d", os.Getpid(), schemas.Add(1))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := db.Exec(ctx, "drop schema if exists "+schema+" cascade"); err != nil {
			t.Error(err)
		}
		db.Close()
	})
	return schema, db
}

// steps opens with another list of steps than the program's.
func steps(list ...string) Option { return func(s *settings) { s.steps = list } }

// known is this version's steps, and more.
func known(t *testing.T, more ...string) []string {
	t.Helper()
	all, err := embedded()
	if err != nil {
		t.Fatal(err)
	}
	return append(all, more...)
}

// Several processes may start at once, on a database without a journal, or with one of an
// older version: one migrates, and all work the same store.
func TestStartAtOnce(t *testing.T) {
	t.Parallel()
	schema, db := freshSchema(t)
	// A step that could not be taken twice.
	newer := known(t, "create table weir.later (n int); insert into weir.later values (1);")
	var first store.Incarnation
	for _, list := range [][]string{known(t), newer} {
		stores, errs := make([]store.Store, 8), make([]error, 8)
		var all sync.WaitGroup
		for i := range stores {
			all.Go(func() {
				stores[i], errs[i] = DB(dsn(t)+" pool_max_conns=2", Schema(schema), steps(list...))(t.Context())
			})
		}
		all.Wait()
		for i, s := range stores {
			if errs[i] != nil {
				t.Fatalf("open by process %d, to schema %d = %v, want nil", i, len(list), errs[i])
			}
			if first == "" {
				first = s.Info().Incarnation
			}
			if info := s.Info(); info.Schema != len(list) || info.Incarnation != first {
				t.Errorf("process %d opened schema %d, incarnation %s, want %d, %s", i, info.Schema, info.Incarnation, len(list), first)
			}
			if err := s.Begin(t.Context(), &store.Process{Host: "here"}); err != nil {
				t.Errorf("Begin() of process %d = %v, want nil", i, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	var rows int
	if err := db.QueryRow(t.Context(), "select count(*) from "+schema+".later").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("the newer step left %d rows, %v, want 1: taken once", rows, err)
	}
	if _, err := DB(dsn(t), Schema(schema))(t.Context()); err == nil || !strings.Contains(err.Error(), "open it with the version that wrote it, or a newer one") {
		t.Errorf("open of a newer schema = %v, want a refusal that says what to do", err)
	}
	if _, err := Plan(t.Context(), dsn(t), Roles{}, Schema(schema)); err == nil || !strings.Contains(err.Error(), "this version of weir knows") {
		t.Errorf("Plan() of a newer schema = %v, want a refusal", err)
	}
}

// What a role's transactions are by default changes nothing, through a pooler neither.
func TestStartByRoleWithDefaults(t *testing.T) {
	t.Parallel()
	for i, x := range []struct{ isolation, readOnly, more string }{
		{"repeatable read", "off", ""}, {"serializable", "on", ""}, {"serializable", "on", " default_query_exec_mode=cache_describe"},
	} {
		schema, db := freshSchema(t)
		role := fmt.Sprintf("%s_careful%d", schema, i)
		makeRole(t, db, role, "login superuser")
		admin(t, dsn(t), "alter role "+role+" set default_transaction_isolation = '"+x.isolation+"'", "alter role "+role+" set default_transaction_read_only = "+x.readOnly)
		stores, errs := make([]store.Store, 4), make([]error, 4)
		var all sync.WaitGroup
		for n := range stores {
			all.Go(func() {
				stores[n], errs[n] = DB(dsn(t)+" user="+role+x.more, Schema(schema))(t.Context())
			})
		}
		all.Wait()
		for n := range stores {
			if errs[n] != nil {
				t.Fatalf("%+v: open by process %d of 4 = %v, want nil", x, n, errs[n])
			}
			ch := &store.Change{Runs: []*store.RunStart{{Workflow: "a.flow", ID: fmt.Sprint(n), Version: 1}}, Sends: keyed(1, "")}
			err := stores[n].Commit(t.Context(), &store.Group{Changes: []*store.Change{ch}})
			_, declared := stores[n].Declare(t.Context(), nil, []store.Queue{cook()})
			begun := stores[n].Begin(t.Context(), &store.Process{Host: "here"})
			if err := errors.Join(err, ch.Err, declared, begun, stores[n].Heartbeat(t.Context()), stores[n].Close()); err != nil {
				t.Errorf("%+v: what process %d does = %v, want nil", x, n, err)
			}
		}
	}
}

// A step that fails leaves the schema as it was.
func TestStepFails(t *testing.T) {
	t.Parallel()
	schema, _ := freshSchema(t)
	if _, err := Migrate(t.Context(), dsn(t), Roles{}, Schema(schema)); err != nil {
		t.Fatal(err)
	}
	broken := known(t, "create table weir.half (n int); select 1/0;")
	if _, err := DB(dsn(t), Schema(schema), steps(broken...))(t.Context()); err == nil || !strings.Contains(err.Error(), "division by zero") {
		t.Fatalf("open with a step that fails = %v, want its error", err)
	}
	s, err := DB(dsn(t), Schema(schema), Existing())(t.Context())
	if err != nil {
		t.Fatalf("open after a step that failed = %v, want nil", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// What Plan prints brings a schema to this version when psql runs it, once; and changes nothing itself.
func TestPrintedSQL(t *testing.T) {
	t.Parallel()
	schema, db := freshSchema(t)
	newer := steps(known(t, "create table weir.later (n int);")...)
	for _, c := range []struct {
		from, to int
		opts     []Option
	}{{0, len(known(t)), nil}, {len(known(t)), len(known(t)) + 1, []Option{newer}}} {
		opts := append(c.opts, Schema(schema))
		for range 2 {
			m, err := Plan(t.Context(), dsn(t), Roles{}, opts...)
			if err != nil || m.From != c.from || m.To != c.to || m.Schema != schema || m.SQL == "" {
				t.Fatalf("Plan() = from %d to %d of %s, %d bytes, %v, want from %d to %d of %s", m.From, m.To, m.Schema, len(m.SQL), err, c.from, c.to, schema)
			}
			if c.from > 0 && m.SQL != "" {
				continue
			}
			var there bool
			if err := db.QueryRow(t.Context(), "select exists (select 1 from pg_namespace where nspname = $1)", schema).Scan(&there); err != nil || there {
				t.Fatalf("after Plan() the schema is there: %t, %v, want it left alone", there, err)
			}
		}
		m, err := Plan(t.Context(), dsn(t), Roles{}, opts...)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := psql(t, m.SQL); err != nil {
			t.Fatalf("psql = %v: %s", err, out)
		}
		if out, err := psql(t, m.SQL); err == nil {
			t.Errorf("psql, run again, takes the script: %s, want an error", out)
		}
		s, err := DB(dsn(t), append(opts, Existing())...)(t.Context())
		if err != nil {
			t.Fatalf("open what psql made = %v, want nil", err)
		}
		if s.Info().Schema != c.to {
			t.Errorf("psql made schema %d, want %d", s.Info().Schema, c.to)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if m, err = Plan(t.Context(), dsn(t), Roles{}, opts...); err != nil || m.SQL != "" || m.From != m.To {
			t.Errorf("Plan() with nothing to do = %+v, %v, want no SQL", m, err)
		}
	}
}

// psql runs a script.
func psql(t *testing.T, script string) (string, error) {
	t.Helper()
	bin, err := pgtest.Binary("psql")
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.CommandContext(t.Context(), bin, "-X", "-q", dsn(t))
	cmd.Stdin = strings.NewReader(script)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

// A table meta that is somebody else's is told of, whatever its columns are.
func TestMetaOfOthers(t *testing.T) {
	t.Parallel()
	for _, columns := range []string{"(key text)", "(k text, v text)"} {
		schema, _ := freshSchema(t)
		admin(t, dsn(t), "create schema "+schema, "create table "+schema+".meta "+columns)
		if _, err := DB(dsn(t), Schema(schema))(t.Context()); err == nil || !strings.Contains(err.Error(), "a table meta that is not weir's") {
			t.Errorf("open beside a table meta %s = %v, want a refusal that says so", columns, err)
		}
	}
}

// What a DSN sets is seen, however it is written.
func TestMentions(t *testing.T) {
	t.Parallel()
	for at, want := range map[string]bool{
		"host=a pool_max_conns=3": true, "host = a pool_max_conns = 3": true, "postgres://a/b?pool_max_conns=3": true,
		"host=a": false, "dbname=pool_max_conns host=a": false, "dbname=pool_max_conns pool_max_conns =3": true,
	} {
		if got := mentions(at, "pool_max_conns"); got != want {
			t.Errorf("mentions(%q) = %t, want %t", at, got, want)
		}
	}
}
