package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-go/weir/store/postgres/pgtest"
)

// throwAway is what --store says for a PostgreSQL server of the command's own.
const throwAway = "postgres"

// database is the URL of the PostgreSQL database that --store names, and what gives it up
// again; with --store postgres it is one on a server that is started here, and that ends
// and is removed with release. The URL is empty when --store names no database.
func (a *app) database(ctx context.Context) (url string, release func() error, err error) {
	switch {
	case a.onServer():
		return a.store, func() error { return nil }, nil
	case a.store != throwAway:
		return "", func() error { return nil }, nil
	}
	s, err := a.ownServer(ctx)
	if err != nil {
		return "", nil, err
	}
	return s.URL("postgres"), s.Stop, nil
}

// ownServer starts a PostgreSQL server from the binaries that it finds, for whoever said
// --store postgres. Stop ends and removes it.
func (a *app) ownServer(ctx context.Context) (*pgtest.Server, error) {
	a.progress("starting a PostgreSQL server of our own")
	s, err := pgtest.Start(ctx)
	if errors.Is(err, pgtest.ErrNoBinaries) {
		return nil, fmt.Errorf("--store postgres starts a server of its own: %w with --store postgres://…", err)
	}
	return s, err
}
