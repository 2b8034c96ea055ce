package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The schema's steps, 0001.sql first, written for the schema weir. A released step is never changed.
//
//go:embed schema/*.sql
var schemaFS embed.FS

// embedded is the steps as this version of weir knows them.
func embedded() ([]string, error) {
	names, err := fs.Glob(schemaFS, "schema/*.sql")
	if err != nil {
		return nil, err
	}
	steps := make([]string, len(names))
	for i, name := range names {
		text, err := fs.ReadFile(schemaFS, name)
		if err != nil {
			return nil, err
		}
		steps[i] = string(text)
	}
	return steps, nil
}

// Roles are the database's roles that use a schema. They must exist; "" leaves one as it is.
type Roles struct {
	// Owner owns the schema and all in it, and may change it: the only one that migrates.
	// Who connects must be a member of it. Defaults to the schema's owner, and to who
	// connects when there is none yet, or who connects is no member of it.
	Owner string
	// Worker may do all that an engine does: send, work, operate and prune.
	Worker string
	// Viewer may read.
	Viewer string
}

// Migration says what brings a schema to this version of weir.
type Migration struct {
	Schema   string
	From, To int // the schema's versions; From is 0 when it holds no journal
	// SQL is all that is to be done, a transaction for psql; "" when there is nothing to do.
	SQL string
}

// Plan looks at the schema and says what Migrate would do. It changes nothing.
func Plan(ctx context.Context, dsn string, roles Roles, options ...Option) (Migration, error) {
	return migration(ctx, dsn, options, (*Store).looking, func(m *migrator) error { return m.plan(roles) })
}

// Migrate brings the schema to this version of weir and gives roles their rights. Opening
// a store migrates too: Migrate is for services whose own role may not.
func Migrate(ctx context.Context, dsn string, roles Roles, options ...Option) (Migration, error) {
	return migration(ctx, dsn, options, (*Store).underLock, func(m *migrator) error {
		if err := m.plan(roles); err != nil {
			return err
		}
		return m.run()
	})
}

func migration(ctx context.Context, dsn string, options []Option, in inSchemaTx, act func(m *migrator) error) (Migration, error) {
	s, err := meet(ctx, dsn, options)
	if err != nil {
		return Migration{}, fmt.Errorf("migrate: %w", err)
	}
	defer s.Close()
	var m *migrator
	err = in(s, ctx, func(tx pgx.Tx) error {
		m = &migrator{s: s, ctx: ctx, tx: tx}
		return act(m)
	})
	if err != nil {
		return Migration{}, fmt.Errorf("migrate schema %s: %w", s.schema, advise(err))
	}
	return Migration{Schema: s.schema, From: m.have, To: len(s.steps), SQL: m.script()}, nil
}

const (
	sqlMigrationLock = `select pg_advisory_xact_lock($1)`
	sqlLockWait      = `select set_config('lock_timeout', $1, true)`
	// Locks that a step waits for hold up whoever comes next.
	sqlStepLimit = `set local lock_timeout = '10s'`
	sqlSchemaNow = `select exists (select 1 from pg_namespace where nspname = $1), current_user::text,
		coalesce((select r.rolname::text from pg_class c join pg_roles r on r.oid = c.relowner where c.oid = to_regclass('weir.meta')), ''),
		coalesce((select r.rolname::text from pg_namespace n join pg_roles r on r.oid = n.nspowner
			where n.nspname = $1 and starts_with(r.rolname, 'pg_') is false and pg_has_role(r.oid, 'member')), '')`
	sqlMyself = `set local role none`
	// Six of 32 letters and digits, drawn where it is run: the same script may be run on several databases.
	sqlNewJournal = `insert into weir.lives (first, incarnation, base) select 1,
		string_agg(substr('abcdefghijklmnopqrstuvwxyz234567', 1 + (get_byte(r.b, i) & 31), 1), ''),
		(extract(epoch from clock_timestamp()) * 1000000)::bigint
		from (select uuid_send(gen_random_uuid()) as b) r, generate_series(0, 5) i`
	sqlTaken = `insert into weir.meta (k, v) values ('schema', '%d') on conflict (k) do update set v = excluded.v`
	sqlGuard = `do $weir$ begin
	if (select v from weir.meta where k = 'schema') is distinct from '%d' then
		raise exception 'the schema is no longer at %d: print the script anew';
	end if;
end $weir$`
)

// inSchemaTx runs f in a transaction.
type inSchemaTx func(s *Store, ctx context.Context, f func(tx pgx.Tx) error) error

// underLock is one that only one process at a time is in. It waits for the others', for lockWait at most: any role may take the lock.
func (s *Store) underLock(ctx context.Context, f func(tx pgx.Tx) error) error {
	// As the lock is waited for, what is read has to be as it is after it, whatever the role's or the database's defaults are.
	return s.inOwn(ctx, sqlBegin, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlLockWait, strconv.FormatInt(s.lockWait.Milliseconds(), 10)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, sqlMigrationLock, s.lockNumber("schema"))
		if fault, ok := errors.AsType[*pgconn.PgError](err); ok && fault.Code == lockNotAvailable {
			return fmt.Errorf("for %s somebody has held the lock of the schema's migration (pg_locks has it, as advisory): a process that migrates, or one that hangs: %w", s.lockWait, err)
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, sqlLockWait, "0"); err != nil {
			return err
		}
		return f(tx)
	})
}

// looking is one that reads, and waits for nobody.
func (s *Store) looking(ctx context.Context, f func(tx pgx.Tx) error) error {
	return s.inOwn(ctx, sqlRead, f)
}

func (s *Store) inOwn(ctx context.Context, begin string, f func(tx pgx.Tx) error) error {
	c, err := s.acquire(ctx, s.pool)
	if err != nil {
		return err
	}
	defer c.Release()
	return outage(ctx, pgx.BeginTxFunc(ctx, c, pgx.TxOptions{BeginQuery: begin}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlNoLimitHere); err != nil {
			return err
		}
		return f(tx)
	}))
}

// migrator brings a schema from one version to another, in a transaction.
type migrator struct {
	s     *Store
	ctx   context.Context
	tx    pgx.Tx
	have  int
	todo  []string // statements
	owner string   // whom they are run as; "": as who connects
}

// plan finds out what is to be done.
func (m *migrator) plan(roles Roles) error {
	meta, err := m.s.readMeta(m.ctx, m.tx)
	if err != nil {
		return err
	}
	if meta != nil {
		if m.have, err = strconv.Atoi(meta["schema"]); err != nil || m.have < 1 {
			return fmt.Errorf("schema %s: %w", m.s.schema, errOthersMeta)
		}
	}
	want := len(m.s.steps)
	if m.have > want {
		return fmt.Errorf("has schema %d, and this version of weir knows %d: open it with the version that wrote it, or a newer one", m.have, want)
	}
	var there bool
	var me, owner, maker string
	if err := m.tx.QueryRow(m.ctx, m.s.text(sqlSchemaNow), m.s.schema).Scan(&there, &me, &owner, &maker); err != nil {
		return err
	}
	if roles.Owner != "" && owner != "" && roles.Owner != owner {
		return fmt.Errorf("the owner of schema %s is %s, not %s", m.s.schema, owner, roles.Owner)
	}
	if owner == "" { // no journal yet: whoever the schema was made for
		owner = maker
	}
	if m.owner = roles.Owner; m.owner == "" && owner != me {
		m.owner = owner // what a step makes belongs to whom the rest belongs to
	}
	var steps []string
	if m.have < want {
		steps = m.s.stepsFrom(m.have)
	}
	if steps = append(steps, m.s.rights(roles)...); len(steps) == 0 {
		return nil
	}
	if !there { // else whoever made it may not let us make others
		m.todo = append(m.todo, m.s.newSchema(m.owner))
	}
	if m.owner != "" {
		m.todo = append(m.todo, `set local role `+pgx.Identifier{m.owner}.Sanitize())
	}
	m.todo = append(append(m.todo, sqlStepLimit), steps...)
	return nil
}

// stepsFrom is the statements of the steps that a schema lacks.
func (s *Store) stepsFrom(have int) (steps []string) {
	for _, text := range s.steps[have:] {
		steps = append(steps, inSchema(strings.TrimSpace(text), s.schema))
	}
	if have == 0 {
		steps = append(steps, inSchema(sqlNewJournal, s.schema))
	}
	return append(steps, inSchema(fmt.Sprintf(sqlTaken, len(s.steps)), s.schema))
}

func (s *Store) newSchema(owner string) string {
	statement := `create schema ` + pgx.Identifier{s.schema}.Sanitize()
	if owner != "" {
		statement += ` authorization ` + pgx.Identifier{owner}.Sanitize()
	}
	return statement
}

// run does what was planned.
func (m *migrator) run() error {
	for _, statement := range m.todo {
		if _, err := m.tx.Conn().PgConn().Exec(m.ctx, statement).ReadAll(); err != nil {
			return fmt.Errorf("bring the schema from version %d to %d: %w", m.have, len(m.s.steps), err)
		}
	}
	if m.owner == "" {
		return nil
	}
	_, err := m.tx.Exec(m.ctx, sqlMyself)
	return err
}

// script is what was planned, for psql.
func (m *migrator) script() string {
	if len(m.todo) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "-- weir: schema %s from version %d to %d.\n\\set ON_ERROR_STOP on\nbegin;\nset transaction isolation level read committed, read write;\n",
		m.s.schema, m.have, len(m.s.steps))
	fmt.Fprintf(&b, "select pg_advisory_xact_lock(%d);\n", m.s.lockNumber("schema"))
	if m.have > 0 {
		fmt.Fprintf(&b, "%s;\n", inSchema(fmt.Sprintf(sqlGuard, m.have, m.have), m.s.schema))
	}
	for _, statement := range m.todo {
		b.WriteString(strings.TrimSuffix(statement, ";"))
		b.WriteString(";\n")
	}
	b.WriteString("commit;\n")
	return b.String()
}

const insufficientPrivilege = "42501"

// errForbidden says who gives a role its rights.
var errForbidden = errors.New("this role may not; let the owner of weir's schema run weir migrate up, with --worker ROLE for one that sends and works, or --viewer ROLE for one that only reads")

// advise says who may, when a role may not.
func advise(err error) error {
	if fault, ok := errors.AsType[*pgconn.PgError](err); ok && fault.Code == insufficientPrivilege && !errors.Is(err, errForbidden) {
		return fmt.Errorf("%w: %w", err, errForbidden)
	}
	return err
}

// rights is the statements that give roles what they need, now and in later steps.
func (s *Store) rights(roles Roles) []string {
	var all []string
	for _, r := range []struct{ role, tables, sequences, functions string }{
		{roles.Worker, "select, insert, update, delete", "usage, select, update", "execute"},
		{roles.Viewer, "select", "select", ""},
	} {
		if r.role == "" {
			continue
		}
		schema, role := pgx.Identifier{s.schema}.Sanitize(), pgx.Identifier{r.role}.Sanitize()
		all = append(all, fmt.Sprintf(`grant usage on schema %s to %s`, schema, role))
		for _, g := range []struct{ what, on string }{{r.tables, "tables"}, {r.sequences, "sequences"}, {r.functions, "functions"}} {
			if g.what == "" {
				continue
			}
			all = append(all, fmt.Sprintf(`grant %s on all %s in schema %s to %s`, g.what, g.on, schema, role),
				fmt.Sprintf(`alter default privileges in schema %s grant %s on %s to %s`, schema, g.what, g.on, role))
		}
	}
	return all
}
