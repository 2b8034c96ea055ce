package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir/store/postgres/pgtest"
)

// server is the PostgreSQL server that all are measured on, each in a schema of its own. It waits
// for its disk: that is checked.
type server struct {
	dsn     string
	version string
	admin   *pgxpool.Pool
	release func() error
}

// ownServer is what --store says for a throw-away server.
const ownServer = "postgres"

// openServer connects to the database of a URL, or starts a server if that is "postgres".
func openServer(ctx context.Context, store string) (*server, error) {
	s := &server{dsn: store, release: func() error { return nil }}
	if store == ownServer {
		own, err := pgtest.Start(ctx)
		if err != nil {
			return nil, err
		}
		s.dsn, s.release = own.URL("postgres"), own.Stop
	}
	err := s.connect(ctx)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *server) connect(ctx context.Context) error {
	var err error
	if s.admin, err = pgxpool.New(ctx, s.dsn); err != nil {
		return err
	}
	for name, want := range map[string]string{"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"} {
		var is string
		if err := s.admin.QueryRow(ctx, `select current_setting($1)`, name).Scan(&is); err != nil {
			return err
		}
		if is != want {
			return fmt.Errorf("%s is %s, want %s: else what is measured is not durable", name, is, want)
		}
	}
	return s.admin.QueryRow(ctx, `select current_setting('server_version')`).Scan(&s.version)
}

func (s *server) close() error {
	if s.admin != nil {
		s.admin.Close()
	}
	return s.release()
}

// room is an empty schema.
type room struct {
	*server
	schema string
}

// room begins with the work of those before written out, so that nobody pays for another's. making
// says whether the schema is to be made here.
func (s *server) room(ctx context.Context, making bool) (*room, error) {
	r := &room{s, "bench_" + strings.ToLower(rand.Text()[:12])}
	if _, err := s.admin.Exec(ctx, `checkpoint`); err != nil {
		return nil, fmt.Errorf("checkpoint, between two phases (the user must be a superuser, or a member of pg_checkpoint): %w", err)
	}
	if !making {
		return r, nil
	}
	_, err := s.admin.Exec(ctx, `create schema `+r.quoted())
	return r, err
}

func (r *room) quoted() string { return pgx.Identifier{r.schema}.Sanitize() }

// pool is a pool of connections to the schema.
func (r *room) pool(ctx context.Context, most int32) (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig(r.dsn)
	if err != nil {
		return nil, err
	}
	c.ConnConfig.RuntimeParams["search_path"] = r.schema
	c.MaxConns = most
	return pgxpool.NewWithConfig(ctx, c)
}

// analyze gives the planner the statistics that it has of a table that was not filled a moment ago.
func (r *room) analyze(ctx context.Context) error {
	rows, err := r.admin.Query(ctx, `select c.oid::regclass::text from pg_class c where c.relnamespace = $1::regnamespace and c.relkind = 'r'`, r.quoted())
	if err != nil {
		return err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) == 0 {
		return err
	}
	_, err = r.admin.Exec(ctx, `analyze `+strings.Join(tables, ", "))
	return err
}

// dropTime is how long it may take to drop a schema, also when the whole was told to end.
const dropTime = time.Minute

// drop removes the schema and all that is in it.
func (r *room) drop() error {
	ctx, cancel := context.WithTimeout(context.Background(), dropTime)
	defer cancel()
	_, err := r.admin.Exec(ctx, `drop schema if exists `+r.quoted()+` cascade`)
	return err
}

// files is an empty directory.
func files(parent string) (dir string, remove func() error, err error) {
	if dir, err = os.MkdirTemp(parent, "peers-"); err != nil {
		return "", nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", nil, err
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

// endProcess ends a server that was started, if it was.
func endProcess(cmd *exec.Cmd) error {
	if cmd == nil || cmd.Process == nil {
		return nil
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	kill := time.AfterFunc(endTime, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	_ = cmd.Wait() // ended by a signal
	return nil
}

// endTime is how long a server may take to end by itself.
const endTime = 10 * time.Second
