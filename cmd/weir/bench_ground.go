package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres"
	"github.com/weir-go/weir/store/sqlite"
)

// ground is what a benchmark makes its stores on: a directory for files, or a database
// for schemas.
type ground struct {
	dir      string
	database string // its URL; empty: files
}

// benchGround is what --store names: a database, or for any file's name a new directory in
// dir. release removes what has been made there.
func benchGround(a *app, dir string) (g ground, release func() error, err error) {
	url, giveUp, err := a.database(a.ctx)
	if err != nil {
		return ground{}, nil, err
	}
	g = ground{database: url}
	if g.dir, err = os.MkdirTemp(dir, "weir-bench-"); err != nil {
		return ground{}, nil, errors.Join(err, giveUp())
	}
	return g, func() error { return errors.Join(os.RemoveAll(g.dir), giveUp()) }, nil
}

// removeTime bounds how long a broker that has ended may go on writing.
const removeTime = 30 * time.Second

// removeAll removes a directory that a broker of this process had until a moment ago. nats-server 2.15 waits 0.1 s for
// a consumer's state that is being written when it ends; where the disk takes longer, a file may come after its folder was emptied.
func removeAll(dir string) error {
	for began := time.Now(); ; {
		err := os.RemoveAll(dir)
		if !errors.Is(err, fs.ErrExist) || time.Since(began) > removeTime { // ENOTEMPTY is one
			return err
		}
		_ = pause(context.Background(), untilPause) // never done
	}
}

// kind names the store that is measured.
func (g ground) kind() string {
	if g.database != "" {
		return "postgres"
	}
	return "sqlite"
}

// plot is room for one store.
type plot struct {
	ground
	name string // of the file, or of the schema
}

// plot is free room: a name that no store has.
func (g ground) plot() *plot { return &plot{g, "weir_bench_" + strings.ToLower(rand.Text()[:12])} }

func (p *plot) opener() store.Opener {
	if p.database != "" {
		return postgres.DB(p.database, postgres.Schema(p.name))
	}
	return sqlite.File(p.path())
}

func (p *plot) path() string { return filepath.Join(p.dir, p.name+".db") }

// clearTime is how long it may take to drop a schema, when the benchmark is told to end, too.
const clearTime = 30 * time.Second

// clear removes the store, which nobody may have open.
func (p *plot) clear(ctx context.Context) error {
	if p.database == "" {
		var errs []error
		for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
			if err := os.Remove(p.path() + suffix); err != nil && !os.IsNotExist(err) {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearTime)
	defer cancel()
	c, err := pgx.Connect(ctx, p.database)
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, `drop schema if exists `+pgx.Identifier{p.name}.Sanitize()+` cascade`)
	return errors.Join(err, c.Close(ctx))
}

// megabytes is what the store takes on the disk.
func (p *plot) megabytes(ctx context.Context) (float64, error) {
	bytes := int64(0)
	if p.database == "" {
		for _, suffix := range []string{"", "-wal"} {
			if info, err := os.Stat(p.path() + suffix); err == nil {
				bytes += info.Size()
			}
		}
		return float64(bytes) / 1e6, nil
	}
	c, err := pgx.Connect(ctx, p.database)
	if err != nil {
		return 0, err
	}
	err = c.QueryRow(ctx, `select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint from pg_class c
		join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relkind = 'r'`, p.name).Scan(&bytes)
	return float64(bytes) / 1e6, errors.Join(err, c.Close(ctx))
}
