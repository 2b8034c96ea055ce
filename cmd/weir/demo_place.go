package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/store/postgres/pgtest"
)

// demoFlags are those of both demos.
type demoFlags struct {
	Workers int    `default:"1" placeholder:"N" help:"Processes that run the engine, 1 to 16. More than one with --store postgres, or postgres://…"`
	Kill    int    `placeholder:"N" help:"Kill a process (SIGKILL) that often, at random moments of the work, and start it again."`
	KillDB  int    `name:"kill-db" placeholder:"N" help:"Kill PostgreSQL that often (immediate shutdown), and start it again: with --store postgres."`
	Dir     string `placeholder:"DIR" help:"Keep the files there, to look around. Default: a temporary directory, which is removed."`
	Seed    uint64 `default:"1" help:"Of what is random: the made-up orders, what goes wrong, who is killed when."`
}

// demoWorkersMax is as many as can be told apart; it is no limit of the store.
const demoWorkersMax = 16

// What --json says of the store.
const (
	demoSQLite   = "sqlite"
	demoPostgres = "postgres"
)

// check refuses flags that do not fit together.
func (f demoFlags) check(a *app) error {
	named := a.given("store")
	server := named && (a.onServer() || a.store == throwAway)
	switch {
	case named && !server:
		return errors.New("a demo makes its own file, and --dir DIR keeps it; of --store it takes postgres, and postgres://…, which work on PostgreSQL") // the name is not shown: it may hold a password
	case f.Workers < 1 || f.Workers > demoWorkersMax:
		return fmt.Errorf("--workers is %d, want 1 to %d", f.Workers, demoWorkersMax)
	case f.Workers > 1 && !server:
		return fmt.Errorf("--workers is %d, but one process works a file of SQLite, with all its cores: use --store postgres for several", f.Workers)
	case f.KillDB != 0 && (!server || a.onServer()):
		return errors.New("--kill-db is for --store postgres, whose server is the demo's own: it kills no other")
	}
	return nil
}

// checkKills refuses more kills than there is work for. more are those of other flags.
func (f demoFlags) checkKills(orders, more int) error {
	most := orders / 2
	if f.Kill < 0 || f.Kill > most {
		return usageError(fmt.Errorf("--kill is %d, want 0 to %d: half as many as there are orders", f.Kill, most))
	}
	if f.KillDB < 0 || f.Kill+f.KillDB > most {
		return usageError(fmt.Errorf("--kill-db is %d, want 0 to %d: half as many as there are orders, less those of --kill", f.KillDB, most-f.Kill))
	}
	if f.Kill+f.KillDB+more > most {
		return usageError(fmt.Errorf("%d kills of brokers are too many, want 0 to %d: half as many as there are orders, less those of --kill and --kill-db", more, most-f.Kill-f.KillDB))
	}
	return nil
}

// demoPlace is where a demo's journal and tables are: in a file of its directory, or in a
// schema of its own on a server. The schema is kept, in a server that is.
type demoPlace struct {
	store  string // a file, or a URL
	name   string // how people name it after --store
	schema string // on a server
	server *pgtest.Server
}

// place finds the place, and starts a server of our own if it is to be on one. engines is how many there
// will be on that server.
func (f demoFlags) place(a *app, dir, file, schema string, engines int) (*demoPlace, error) {
	p := &demoPlace{store: filepath.Join(dir, file), schema: schema}
	p.name = p.store
	switch {
	case !a.given("store"):
		return p, nil
	case a.onServer():
		p.store = a.store
	default:
		var err error
		if p.server, err = a.ownServer(a.ctx); err != nil {
			return nil, err
		}
		p.store = p.server.URL("postgres")
	}
	if a.given("schema") {
		p.schema = a.schema
	}
	if err := p.settle(a.ctx, engines); err != nil {
		return nil, errors.Join(err, p.release())
	}
	return p, nil
}

// unsecret is a database's URL without its password, wherever in it that is.
func unsecret(u *url.URL) string {
	const password = "password"
	bare := *u
	if q := u.Query(); q.Has(password) {
		q.Set(password, "xxxxx")
		bare.RawQuery = q.Encode()
	}
	return bare.Redacted()
}

// settle looks whether the schema is free, and shares out the server's connections.
func (p *demoPlace) settle(ctx context.Context, engines int) (err error) {
	u, err := url.Parse(p.store)
	if err != nil {
		return errors.New("--store is no URL: want postgres://user@host/database") // it may hold a password
	}
	p.name = fmt.Sprintf("'%s' --schema %s", unsecret(u), p.schema)
	db, err := p.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var there bool
	var free int
	if err := db.QueryRowContext(ctx, sqlLookAt, p.schema).Scan(&there, &free); err != nil {
		return err
	}
	if there {
		return fmt.Errorf("the database has a schema %s, of an earlier demo: name another with --schema, or remove it with: drop schema %s cascade", p.schema, p.schema)
	}
	q := u.Query()
	if q.Has(connsName) {
		return nil
	}
	conns := min((free-connsOurs)/engines-connsBeside, connsMost)
	if conns < connsLeast {
		return fmt.Errorf("%d processes run the engine, and each needs %d connections, but the server has only %d free: take fewer --workers, or raise its max_connections",
			engines, connsBeside+connsLeast, free)
	}
	q.Set(connsName, strconv.Itoa(conns))
	u.RawQuery = q.Encode()
	p.store = u.String()
	return nil
}

// How many connections a worker's engine works with, unless the address says it, and how many
// it has beside those; and what the demo itself looks with.
const (
	connsMost   = 12
	connsLeast  = 3
	connsBeside = 6
	connsOurs   = 8
	connsName   = "pool_max_conns"
)

const sqlLookAt = `select exists (select from pg_namespace where nspname = $1),
	current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
		- (select count(*) from pg_stat_activity where backend_type = 'client backend')`

func (p *demoPlace) open() (*database.Database, error) { return openDemo(p.store, p.schema) }

// release ends the server, if it is our own.
func (p *demoPlace) release() error {
	if p.server == nil {
		return nil
	}
	return p.server.Stop()
}

func (p *demoPlace) kind() string {
	if isServer(p.store) {
		return demoPostgres
	}
	return demoSQLite
}

// environment tells a worker where the place is: not on its command line, which all can see.
func (p *demoPlace) environment() []string {
	return []string{"WEIR_STORE=" + p.store, "WEIR_SCHEMA=" + p.schema}
}

// openDemo opens a demo's database: a file, or a schema on a server.
func openDemo(store, schema string) (*database.Database, error) {
	if isServer(store) {
		return database.Schema(store, schema)
	}
	return database.File(store)
}

// lookAround are the commands to look around with afterwards, in what is kept.
func (p *demoPlace) lookAround(kept bool, commands ...string) string {
	var b strings.Builder
	switch {
	case p.server != nil:
		return "The server is gone. Name a database with --store postgres://… to look around in it afterwards.\n"
	case p.kind() == demoPostgres:
		fmt.Fprintf(&b, "The schema %s is kept; remove it with: drop schema %s cascade\n", p.schema, p.schema)
	case !kept:
		return "Try it with --kill 20, or with --dir DIR to look around afterwards.\n"
	}
	b.WriteString("Look around:\n")
	for _, command := range commands {
		fmt.Fprintf(&b, "  weir --store %s %s\n", p.name, command)
	}
	return b.String()
}
