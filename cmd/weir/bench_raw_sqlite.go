package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const (
	rawPerStatement = 100 // the fastest of 1 to 100: 1.6 times one row a statement
	rawColumns      = 9
	rawInsert       = `insert into weir_messages (pos, sent_us, version, key, due_us, cause, correlation, headers, body) values `
	rawRow          = `(?,?,?,?,?,?,?,?,?)`
)

// rawSQLite is SQLite's driver: prepared statements of 100 rows, or of one, bound in place.
type rawSQLite struct {
	plot *plot
	body []byte

	mu                     sync.Mutex
	conn                   *sqlite.Conn
	begin, many, one, done *sqlite.Stmt
	last                   int64
}

func openRawSQLite(p *plot, body []byte) (raw, error) {
	conn, err := sqlite.OpenConn(p.path(), sqlite.OpenReadWrite|sqlite.OpenWAL)
	if err != nil {
		return nil, err
	}
	r := &rawSQLite{plot: p, body: body, conn: conn, last: 1 << 40}
	for _, pragma := range []string{"pragma journal_mode = wal", "pragma synchronous = full"} {
		if err := sqlitex.ExecuteTransient(conn, pragma, nil); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	for into, text := range map[**sqlite.Stmt]string{
		&r.begin: "begin immediate", &r.done: "commit", &r.one: rawInsert + rawRow,
		&r.many: rawInsert + strings.Repeat(rawRow+",", rawPerStatement-1) + rawRow,
	} {
		if *into, err = conn.Prepare(text); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return r, nil
}

// connections implements raw: a file has one writer.
func (r *rawSQLite) connections() int { return 1 }

// commit implements raw.
func (r *rawSQLite) commit(ctx context.Context, rows int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := step(r.begin); err != nil {
		return err
	}
	sent := time.Now().UnixMicro()
	for rows > 0 {
		insert, n := r.one, 1
		if rows >= rawPerStatement {
			insert, n = r.many, rawPerStatement
		}
		for p := 0; p < n*rawColumns; p += rawColumns {
			r.last++
			insert.BindInt64(p+1, r.last)
			insert.BindInt64(p+2, sent)
			insert.BindInt64(p+3, 1)
			insert.BindBytes(p+9, r.body)
		}
		if err := step(insert); err != nil {
			return err
		}
		rows -= n
	}
	return step(r.done)
}

func step(s *sqlite.Stmt) error {
	if _, err := s.Step(); err != nil {
		return err
	}
	return s.Reset()
}

// close implements raw.
func (r *rawSQLite) close() error {
	return errors.Join(r.conn.Close(), r.plot.clear(context.Background()))
}
