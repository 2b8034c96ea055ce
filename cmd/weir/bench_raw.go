package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	weirsqlite "github.com/weir-go/weir/store/sqlite"
)

const (
	rawPerCommit    = 1_000
	rawPerStatement = 100 // the fastest of 1 to 100: 1.6 times one row a statement
	rawColumns      = 9
	rawInsert       = `insert into weir_messages (pos, sent_us, version, key, due_us, cause, correlation, headers, body) values `
	rawRow          = `(?,?,?,?,?,?,?,?,?)`
)

// rawLimit is what the driver alone appends per second: the same rows into the
// same table with the same durability, one prepared statement of 100 rows bound in
// place, 1,000 rows a commit. Nothing of weir runs but the making of the empty file.
func (b *bench) rawLimit(ctx context.Context, n int) (float64, error) {
	path := filepath.Join(b.dir, "raw.db")
	st, err := weirsqlite.File(path)(ctx)
	if err != nil {
		return 0, err
	}
	if err := st.Close(); err != nil {
		return 0, err
	}
	defer removeStore(path)
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenWAL)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	for _, pragma := range []string{"pragma journal_mode = wal", "pragma synchronous = full"} {
		if err := sqlitex.ExecuteTransient(conn, pragma, nil); err != nil {
			return 0, err
		}
	}
	return b.meter(n, func() error { return appendRaw(ctx, conn, n, b.body) })
}

func appendRaw(ctx context.Context, conn *sqlite.Conn, n int, body []byte) error {
	insert, err := conn.Prepare(rawInsert + strings.Repeat(rawRow+",", rawPerStatement-1) + rawRow)
	if err != nil {
		return err
	}
	begin, err := conn.Prepare("begin immediate")
	if err != nil {
		return err
	}
	commit, err := conn.Prepare("commit")
	if err != nil {
		return err
	}
	run := func(s *sqlite.Stmt) error {
		if _, err := s.Step(); err != nil {
			return err
		}
		return s.Reset()
	}
	const topic = 1 << 40
	began := time.Now()
	for row := 0; row < n; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := run(begin); err != nil {
			return err
		}
		for range rawPerCommit / rawPerStatement {
			for p := 0; p < rawPerStatement*rawColumns; p += rawColumns {
				row++
				insert.BindInt64(p+1, topic+int64(row))
				insert.BindInt64(p+2, began.UnixMicro())
				insert.BindInt64(p+3, 1)
				insert.BindBytes(p+9, body)
			}
			if err := run(insert); err != nil {
				return err
			}
		}
		if err := run(commit); err != nil {
			return err
		}
	}
	return nil
}

// removeStore deletes a store's files.
func removeStore(path string) {
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		if err := os.Remove(path + suffix); err != nil && !os.IsNotExist(err) {
			fmt.Fprintln(os.Stderr, "weir:", err)
		}
	}
}
