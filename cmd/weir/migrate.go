package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres"
	"github.com/weir-go/weir/store/sqlite"
)

// migrateCmd is weir migrate.
type migrateCmd struct {
	Up       migrateUpCmd    `cmd:"" help:"Bring the journal to this version of weir, and give roles their rights (PostgreSQL)."`
	Plan     migratePlanCmd  `cmd:"" help:"Say what up would do. Changes nothing."`
	PrintSQL migratePrintCmd `cmd:"" name:"print-sql" help:"Print what up would do as SQL for psql (PostgreSQL). Changes nothing."`
}

// rolesFlags are the roles of a PostgreSQL schema.
type rolesFlags struct {
	Owner  string `placeholder:"ROLE" help:"Who owns the schema, and alone may change it. Default: its owner, or who connects."`
	Worker string `placeholder:"ROLE" help:"Who gets the rights of a service: to send, work, operate and prune."`
	Viewer string `placeholder:"ROLE" help:"Who gets the right to read."`
}

func (f rolesFlags) roles() postgres.Roles {
	return postgres.Roles{Owner: f.Owner, Worker: f.Worker, Viewer: f.Viewer}
}

// onFile refuses roles where there are none.
func (f rolesFlags) onFile() error {
	if f != (rolesFlags{}) {
		return usageError(errors.New("--owner, --worker and --viewer are for PostgreSQL: an SQLite file belongs to who may write it"))
	}
	return nil
}

// migrateView is a migration, in JSON.
type migrateView struct {
	Schema  string `json:"schema_name,omitempty"` // of PostgreSQL
	From    int    `json:"from"`                  // versions; 0: no journal
	To      int    `json:"to"`
	Pending bool   `json:"pending"` // there is something left to do
	SQL     string `json:"sql,omitempty"`
}

type migrateUpCmd struct{ rolesFlags }

// Run migrates.
func (c *migrateUpCmd) Run(a *app) error {
	if !a.onServer() {
		if err := c.onFile(); err != nil {
			return err
		}
		return a.migrateFile(sqlite.File(a.store))
	}
	m, err := a.migration(postgres.Migrate, c.rolesFlags)
	if err != nil {
		return err
	}
	return a.print(migrateView{Schema: m.Schema, From: m.From, To: m.To}, func(w *tabwriter.Writer) {
		switch {
		case m.From != m.To:
			fmt.Fprintf(w, "Schema %s: brought from version %d to %d.\n", m.Schema, m.From, m.To)
		case m.SQL != "":
			fmt.Fprintf(w, "Schema %s is at version %d; the roles have their rights.\n", m.Schema, m.To)
		default:
			fmt.Fprintf(w, "Schema %s is at version %d: nothing to do.\n", m.Schema, m.To)
		}
	})
}

type migratePlanCmd struct{ rolesFlags }

// Run says what is to be done.
func (c *migratePlanCmd) Run(a *app) error {
	if !a.onServer() {
		if err := c.onFile(); err != nil {
			return err
		}
		return a.migrateFile(sqlite.File(a.store, sqlite.Existing()))
	}
	m, err := a.migration(postgres.Plan, c.rolesFlags)
	if err != nil {
		return err
	}
	return a.print(migrateView{Schema: m.Schema, From: m.From, To: m.To, Pending: m.SQL != ""}, func(w *tabwriter.Writer) {
		switch {
		case m.From == 0:
			fmt.Fprintf(w, "Schema %s holds no journal: weir migrate up makes one, of version %d.\n", m.Schema, m.To)
		case m.From != m.To:
			fmt.Fprintf(w, "Schema %s is at version %d: weir migrate up brings it to %d.\n", m.Schema, m.From, m.To)
		case m.SQL != "":
			fmt.Fprintf(w, "Schema %s is at version %d: weir migrate up gives the roles their rights.\n", m.Schema, m.To)
		default:
			fmt.Fprintf(w, "Schema %s is at version %d: nothing to do.\n", m.Schema, m.To)
			return
		}
		fmt.Fprintln(w, "weir migrate print-sql shows each statement.")
	})
}

type migratePrintCmd struct{ rolesFlags }

// Run prints the statements.
func (c *migratePrintCmd) Run(a *app) error {
	if !a.onServer() {
		return usageError(errors.New("print-sql is for PostgreSQL: an SQLite file is migrated by weir migrate up, or by the service that opens it"))
	}
	m, err := a.migration(postgres.Plan, c.rolesFlags)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(migrateView{Schema: m.Schema, From: m.From, To: m.To, Pending: m.SQL != "", SQL: m.SQL})
	}
	if m.SQL == "" {
		m.SQL = fmt.Sprintf("-- weir: schema %s is at version %d: nothing to do.\n", m.Schema, m.To)
	}
	_, err = io.WriteString(a.out, m.SQL)
	return err
}

// migration plans a migration of the schema, or does it.
func (a *app) migration(act func(context.Context, string, postgres.Roles, ...postgres.Option) (postgres.Migration, error), f rolesFlags) (m postgres.Migration, err error) {
	err = a.onSchema(func(options ...postgres.Option) (err error) {
		m, err = act(a.ctx, a.store, f.roles(), options...)
		return err
	})
	return m, err
}

// migrateFile opens a journal's file, which migrates it or refuses to, and says how it stands.
func (a *app) migrateFile(opener store.Opener) error {
	if err := checkStore(a.store); err != nil {
		return err
	}
	s, err := opener(a.ctx)
	if err != nil {
		return err
	}
	version := s.Info().Schema
	if err := s.Close(); err != nil {
		return err
	}
	return a.print(migrateView{From: version, To: version}, func(w *tabwriter.Writer) {
		fmt.Fprintf(w, "%s is at version %d: nothing is left to do.\n", safe(a.store), version)
	})
}
