package postgres

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir/store"
)

// cast is a schema with its three roles.
type cast struct {
	schema         string
	db             *pgxpool.Pool // the superuser's
	owner          string
	worker, viewer string // DSNs
}

func newCast(t *testing.T) *cast {
	t.Helper()
	c := &cast{}
	c.schema, c.db = freshSchema(t)
	c.owner = c.schema + "_owner"
	makeRole(t, c.db, c.owner, "nologin")
	c.worker, c.viewer = as(t, c.db, c.schema+"_worker"), as(t, c.db, c.schema+"_viewer")
	m, err := Migrate(t.Context(), dsn(t), Roles{Owner: c.owner, Worker: c.schema + "_worker", Viewer: c.schema + "_viewer"}, Schema(c.schema))
	if err != nil || m.From != 0 {
		t.Fatalf("Migrate() = %+v, %v, want from 0, nil", m, err)
	}
	return c
}

// makeRole makes a role, for the test.
func makeRole(t testing.TB, db *pgxpool.Pool, role, attributes string) {
	t.Helper()
	if _, err := db.Exec(t.Context(), "create role "+role+" "+attributes); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := db.Exec(context.Background(), "drop owned by "+role+" cascade; drop role "+role, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Error(err)
		}
	})
}

// as is a DSN for a role that is made for the test.
func as(t testing.TB, db *pgxpool.Pool, role string) string {
	t.Helper()
	makeRole(t, db, role, "login password 'weir'")
	return dsn(t) + " pool_max_conns=4 user=" + role + " password=weir"
}

func (c *cast) open(t *testing.T, dsn string, options ...Option) *Store {
	t.Helper()
	s, err := DB(dsn, append(options, Schema(c.schema))...)(t.Context())
	if err != nil {
		t.Fatalf("open as %s = %v, want nil", dsn, err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.(*Store)
}

// refused runs statements that a role must not get through.
func (c *cast) refused(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	db, err := pgxpool.New(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range statements {
		_, err := db.Exec(t.Context(), inSchema(statement, c.schema))
		if fault, ok := err.(*pgconn.PgError); !ok || fault.Code != insufficientPrivilege && !strings.Contains(fault.Message, "is in use") && !strings.Contains(fault.Message, "is not due") {
			t.Errorf("%s as %s = %v, want it refused", statement, dsn[strings.LastIndex(dsn, "user="):], err)
		}
	}
}

// A worker that does not own the schema does all that an engine does (the laws hold for one), makes
// and drops partitions, and can drop nothing else; a viewer sees all, and changes nothing.
func TestRoles(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	b := &bench{T: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), ids: map[string]store.QueueID{}}
	b.h = &harness{t: t, db: c.db, schema: c.schema}
	b.Store = c.open(t, c.worker, Clock(func() time.Time { return b.now }))
	if err := b.Store.Begin(t.Context(), &store.Process{Host: "here"}); err != nil {
		t.Fatalf("Begin() = %v, want nil", err)
	}
	b.declare(subscription("waiter"))
	b.fill(20)
	b.send(1, 200) // most of them in the next partition, and by COPY
	b.settle(b.claim("waiter", 200), func(i int) store.Verdict {
		if i == 0 {
			return store.Dead
		}
		return store.Done
	})
	c.sees(t)
	for role, want := range map[string]string{"worker": "select, insert, update, delete", "viewer": "select"} {
		for privilege := range strings.SplitSeq(want, ", ") {
			if n := b.number(`select has_table_privilege('` + c.schema + `_` + role + `', 'weir.messages_1', '` + privilege + `')::int`); n != 1 {
				t.Errorf("the %s may not %s a partition that was made later", role, privilege)
			}
		}
	}
	b.now = b.now.Add(100 * time.Hour)
	b.send(201, 201)
	b.settle(b.claim("waiter", 1), done)
	open := beginPgx(t, dsn(t)) // somebody's, for long
	if err := open.exec("select from " + c.schema + ".messages limit 1"); err != nil {
		t.Fatal(err)
	}
	if got := b.prune(time.Hour); got.Messages != 180 {
		t.Errorf("Prune() beside an open transaction = %d messages, want 180: the full partition waits", got.Messages)
	}
	if err := open.rollback(); err != nil {
		t.Fatal(err)
	}
	if got := b.prune(time.Hour); got.Messages != 20 {
		t.Errorf("Prune() by the worker = %d messages, want the 20 of the full partition", got.Messages)
	}
	if n := b.number(`select count(*) from pg_inherits where inhparent = 'weir.messages'::regclass`); n != 1 {
		t.Errorf("after Prune() by the worker there are %d partitions, want 1", n)
	}
	c.refused(t, c.worker, "drop table weir.queues", "truncate weir.queues", "drop schema "+c.schema+" cascade", "alter table weir.queues add x int",
		"drop table weir.messages_1", "select weir.drop_partition(1)", "select weir.drop_partition(7)", "select weir.detach_partition(1)", "select weir.add_partition(2)",
		"select weir.add_partition(9)", "create table weir.mine (n int)")
	c.refused(t, c.viewer, "delete from weir.messages", "update weir.meta set v = ''", "insert into weir.audit (at_us, who, verb, why, target, before, after) values (1, '', '', '', '', '', '')",
		"drop table weir.queues", "select nextval('weir.seq')", "select weir.add_partition(2)", "select weir.drop_partition(0)", "select weir.detach_partition(0)")
}

// sees checks that the viewer's reader tells all.
func (c *cast) sees(t *testing.T) {
	t.Helper()
	s := c.open(t, c.viewer, Existing())
	r := s.Reader()
	ctx := t.Context()
	queues, err := r.Queues(ctx)
	if err != nil || len(queues) != 1 || queues[0].Dead != 1 {
		t.Fatalf("Queues() of the viewer = %+v, %v, want one with a dead letter", queues, err)
	}
	messages, err := r.Messages(ctx, store.MessageQuery{Max: 5})
	if err != nil || len(messages) != 5 {
		t.Fatalf("Messages() of the viewer = %d, %v, want 5", len(messages), err)
	}
	for name, ask := range map[string]func() error{
		"Figures":   func() error { _, err := r.Figures(ctx, time.Time{}); return err },
		"Message":   func() error { _, err := r.Message(ctx, messages[0].ID); return err },
		"Trace":     func() error { _, err := r.Trace(ctx, "key", 5); return err },
		"Dead":      func() error { _, err := r.Dead(ctx, store.DeadQuery{Max: 5}); return err },
		"Processes": func() error { _, err := r.Processes(ctx, 5); return err },
		"Audit":     func() error { _, err := r.Audit(ctx, 5); return err },
		"Changed":   func() error { _, err := r.Changed(ctx); return err },
		"Check":     func() error { _, err := r.Check(ctx); return err },
		"Runs.List": func() error { _, err := r.Runs().List(ctx, store.RunQuery{Max: 5}); return err },
		"Counts":    func() error { _, err := r.Runs().Counts(ctx); return err },
		"Locks":     func() error { _, err := r.Runs().Locks(ctx, 5); return err },
		"Arrivals":  func() error { _, err := r.Exchange().Arrivals(ctx, ""); return err },
		"Batch":     func() error { _, err := r.Exchange().Batch(ctx, queues[0].ID, queues[0].Newest); return err },
		"Changes":   func() error { _, _, err := r.Exchange().Changes(ctx, stateEntity, "", 5); return err },
		"Entities":  func() error { _, err := r.Exchange().Entities(ctx); return err },
	} {
		if err := ask(); err != nil {
			t.Errorf("%s() of the viewer = %v, want nil", name, err)
		}
	}
	ch := &store.Change{Sends: []*store.Message{{Topic: "kitchen.ready", Kind: store.KindEvent, Version: 1, Body: []byte("x")}}}
	if err := s.Commit(ctx, &store.Group{Changes: []*store.Change{ch}}); err == nil {
		t.Error("Commit() of the viewer = nil, want an error")
	}
	if err := s.Begin(ctx, &store.Process{}); err == nil {
		t.Error("Begin() of the viewer = nil, want an error")
	}
}

// Functions with the owner's rights look nothing up where others can write, and not everybody
// may call them.
func TestOwnersFunctions(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	var all, unsafe int
	err := c.db.QueryRow(t.Context(), `select count(*), count(*) filter (where coalesce(array_to_string(proconfig, ';'), '') not like '%search_path=pg_catalog, pg_temp%'
			or has_function_privilege('`+c.schema+`_viewer', oid, 'execute')) from pg_proc where pronamespace = $1::regnamespace and prosecdef`, c.schema).Scan(&all, &unsafe)
	if err != nil || all != 3 || unsafe != 0 {
		t.Errorf("of %d functions with the owner's rights %d are unsafe, %v, want 3, 0", all, unsafe, err)
	}
	var foreign int
	err = c.db.QueryRow(t.Context(), `select count(*) from pg_class where relnamespace = $1::regnamespace and relowner <> $2::regrole`, c.schema, c.owner).Scan(&foreign)
	if err != nil || foreign != 0 {
		t.Errorf("%d tables are not the owner's, %v, want 0", foreign, err)
	}
}

// A later version's tables have the roles' rights, too; a worker that may not migrate says who may.
func TestRolesLater(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	newer := steps(known(t, "create table weir.later (n int); insert into weir.later values (1);")...)
	_, err := DB(c.worker, Schema(c.schema), newer)(t.Context())
	if err == nil || !strings.Contains(err.Error(), "weir migrate up") {
		t.Errorf("open by a worker that may not migrate = %v, want it to say who may", err)
	}
	if _, err := Migrate(t.Context(), dsn(t), Roles{Owner: "somebody"}, Schema(c.schema), newer); err == nil || !strings.Contains(err.Error(), "the owner of schema") {
		t.Errorf("Migrate() by another owner = %v, want a refusal", err)
	}
	if _, err := Migrate(t.Context(), dsn(t), Roles{}, Schema(c.schema), newer); err != nil {
		t.Fatalf("Migrate() = %v, want nil", err)
	}
	for _, d := range []string{c.worker, c.viewer} {
		s := c.open(t, d, newer)
		var n int
		if err := s.pool.QueryRow(t.Context(), s.text("select n from weir.later")).Scan(&n); err != nil || n != 1 {
			t.Errorf("a later table, read as %s = %d, %v, want 1", d, n, err)
		}
	}
	stranger := as(t, c.db, c.schema+"_stranger")
	if _, err := DB(stranger, Schema(c.schema), Existing())(t.Context()); err == nil || !strings.Contains(err.Error(), "weir migrate up") {
		t.Errorf("open by a role without rights = %v, want it to say who gives them", err)
	}
}

// In a schema that was made for a role all is that role's, whoever migrates on its behalf; who is no member of it
// makes what is its own.
func TestSchemaMadeForARole(t *testing.T) {
	t.Parallel()
	schema, db := freshSchema(t)
	theirs := schema + "_theirs"
	makeRole(t, db, theirs, "login password 'weir'")
	admin(t, dsn(t), "create schema "+schema+" authorization "+theirs)
	if _, err := Migrate(t.Context(), dsn(t), Roles{}, Schema(schema)); err != nil {
		t.Fatalf("Migrate() = %v, want nil", err)
	}
	c := &cast{schema: schema, db: db}
	s := c.open(t, dsn(t)+" user="+theirs+" password=weir")
	send(t, s, keyed(1, "")...)
	schema, db = freshSchema(t)
	guest := as(t, db, schema+"_guest")
	admin(t, dsn(t), "create schema "+schema, "grant create, usage on schema "+schema+" to "+schema+"_guest")
	c = &cast{schema: schema, db: db}
	send(t, c.open(t, guest), keyed(1, "")...)
}

// A role that does not see others' transactions is told so, and who may change that.
func TestCheckTellsWhatItMayNotSee(t *testing.T) {
	t.Parallel()
	c := newCast(t)
	other := bothCallers()[0].begin(t, dsn(t)) // of the superuser
	s := c.open(t, c.viewer, Existing())
	unseen := func() bool {
		found, err := s.Reader().Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(found, func(f store.Finding) bool {
			return f.Unseen && strings.Contains(f.What, "forgotten a transaction") && strings.Contains(f.Do, "pg_read_all_stats")
		})
	}
	if !unseen() {
		t.Error("Check() by the viewer does not say that it sees no others' transactions")
	}
	admin(t, dsn(t), "grant pg_read_all_stats to "+c.schema+"_viewer")
	if unseen() {
		t.Error("Check() by a viewer that sees all says that it does not")
	}
	if err := other.rollback(); err != nil {
		t.Error(err)
	}
}
