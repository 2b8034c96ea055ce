package database

import (
	"context"
	"database/sql"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
)

// File is a database in a file of SQLite. One process works it.
func File(path string) (*Database, error) {
	db, err := sqlite.OpenDB(path)
	if err != nil {
		return nil, err
	}
	return &Database{DB: db, Journal: sqlite.File(path), kind: file{}}, nil
}

type file struct{}

func (file) In(tx *sql.Tx) store.Tx { return sqlite.Tx(tx) }

func (file) SQL(tx store.Tx) *sql.Tx { return sqlite.SQL(tx) }

func (file) makeTables(ctx context.Context, db *sql.DB, _, tables string) error {
	_, err := db.ExecContext(ctx, tables) // "if not exists" says it all
	return err
}

func (file) away(error) bool { return false }
