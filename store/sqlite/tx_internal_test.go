package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// inClosure commits a change whose closure is f and returns the change's Err.
func inClosure(t *testing.T, s *Store, f func(ctx context.Context, tx *sql.Tx) error) error {
	t.Helper()
	ch := &store.Change{
		Sends: []*store.Message{message(cook.Topic, "", "sent")},
		Closures: []store.Closure{func(ctx context.Context, tx store.Tx) error {
			return f(ctx, SQL(tx))
		}},
	}
	if err := s.Commit(context.Background(), &store.Group{Changes: []*store.Change{ch}}); err != nil {
		t.Fatalf("Commit = %v", err)
	}
	return ch.Err
}

func depthOf(t *testing.T, s *Store) int64 {
	t.Helper()
	return declare(t, s, cook)[0].Depth
}

func mustExec(t *testing.T, s *Store, query string) {
	t.Helper()
	if err := s.write(context.Background(), func(c *conn) error { return c.exec(query) }); err != nil {
		t.Fatal(err)
	}
}

func TestBridgeValues(t *testing.T) {
	s := newStore(t)
	mustExec(t, s, `create table kinds (i integer, f real, s text, b blob, n text, at timestamp, ok boolean)`)
	when := time.Date(2026, 5, 1, 12, 30, 0, 123456000, time.FixedZone("", 7200))
	err := inClosure(t, s, func(ctx context.Context, tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, `insert into kinds values (?, ?, ?, :bytes, ?5, ?6, ?7)`,
			int64(-7), 2.5, "text\x00 and more", sql.Named("bytes", []byte{0, 1, 255}), nil, when, true)
		if err != nil {
			return err
		}
		if id, err := r.LastInsertId(); err != nil || id != 1 {
			t.Errorf("LastInsertId = %d, %v, want 1", id, err)
		}
		if n, err := r.RowsAffected(); err != nil || n != 1 {
			t.Errorf("RowsAffected = %d, %v, want 1", n, err)
		}
		var i int
		var f float64
		var text string
		var b []byte
		var null sql.NullString
		var at time.Time
		var ok bool
		if err := tx.QueryRowContext(ctx, `select * from kinds`).Scan(&i, &f, &text, &b, &null, &at, &ok); err != nil {
			return err
		}
		if i != -7 || f != 2.5 || text != "text\x00 and more" || !bytes.Equal(b, []byte{0, 1, 255}) || null.Valid || !at.Equal(when) || !ok {
			t.Errorf("read back %d %v %q %x %v %v %v", i, f, text, b, null, at, ok)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	db, err := OpenDB(s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var at time.Time
	if err := db.QueryRow(`select at from kinds`).Scan(&at); err != nil || !at.Equal(when) {
		t.Errorf("through OpenDB at = %v, %v, want %v", at, err, when)
	}
}

func TestBridgeStatements(t *testing.T) {
	s := newStore(t)
	mustExec(t, s, `create table notes (id integer primary key, word text not null)`)
	for range 2 { // the second time its statements are there already
		err := inClosure(t, s, func(ctx context.Context, tx *sql.Tx) error {
			st, err := tx.PrepareContext(ctx, `insert into notes (word) values (?) returning id`)
			if err != nil {
				return err
			}
			for _, w := range []string{"a", "b", "c"} {
				var id int
				if err := st.QueryRowContext(ctx, w).Scan(&id); err != nil {
					return err
				}
			}
			// The same statement within itself, and rows that are left open.
			outer, err := tx.QueryContext(ctx, `select id, word from notes order by id`)
			if err != nil {
				return err
			}
			n := 0
			for outer.Next() {
				inner, err := tx.QueryContext(ctx, `select id, word from notes order by id`)
				if err != nil {
					return err
				}
				for inner.Next() {
					n++
				}
				if err := inner.Close(); err != nil {
					return err
				}
			}
			if want := n; want != 9 && want != 36 {
				t.Errorf("rows of nested queries = %d, want 9 or 36", n)
			}
			rest, err := tx.QueryContext(ctx, `select id from notes`)
			if err != nil {
				return err
			}
			rest.Next()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestBridgeRefuses(t *testing.T) {
	s := newStore(t)
	mustExec(t, s, `create table notes (id integer primary key, word text not null)`)
	exec := func(query string) func(context.Context, *sql.Tx) error {
		return func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, query)
			return err
		}
	}
	for _, c := range []struct {
		name, want string
		f          func(context.Context, *sql.Tx) error
	}{
		{"Commit", "ended the engine's transaction", func(_ context.Context, tx *sql.Tx) error { return tx.Commit() }},
		{"Commit, unchecked", "ended the engine's transaction", func(_ context.Context, tx *sql.Tx) error { _ = tx.Commit(); return nil }},
		{"Rollback, unchecked", "ended the engine's transaction", func(_ context.Context, tx *sql.Tx) error { _ = tx.Rollback(); return nil }},
		{"commit as text", "not authorized", exec(`commit`)},
		{"rollback as text", "not authorized", exec(`rollback`)},
		{"a nested transaction", "not authorized", exec(`begin`)},
		{"a write to the journal", "not authorized", exec(`delete from weir_messages`)},
		{"a write to the journal's counters", "not authorized", exec(`update weir_meta set v = 0`)},
		{"a drop of the journal", "not authorized", exec(`drop table weir_dead`)},
		{"another file", "not authorized", exec(`attach 'other.db' as other`)},
		{"a pragma that stays", "not authorized", exec(`pragma synchronous = off`)},
		{"two statements", "more than one statement", exec(`delete from notes; delete from notes`)},
		{"a fault in the text", "syntax error", exec(`delete form notes`)},
		{"too many arguments", "2 arguments for 1 parameters", func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `insert into notes (word) values (?)`, 1, 2)
			return err
		}},
		{"rollback by a conflict", "rolled back", func(ctx context.Context, tx *sql.Tx) error {
			_, _ = tx.ExecContext(ctx, `insert or rollback into notes values (1, null)`)
			return nil
		}},
		{"AppendIn in a closure", "not authorized", func(ctx context.Context, tx *sql.Tx) error {
			return s.AppendIn(ctx, Tx(tx), &store.Change{Sends: []*store.Message{message(cook.Topic, "", "sent")}})
		}},
	} {
		before := depthOf(t, s)
		err := inClosure(t, s, c.f)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s in a closure: Err = %v, want %q", c.name, err, c.want)
		}
		if after := depthOf(t, s); after != before {
			t.Errorf("%s in a closure: depth %d, was %d: its change was written", c.name, after, before)
		}
	}
	if err := inClosure(t, s, exec(`insert into notes (word) values ('good')`)); err != nil {
		t.Errorf("a good closure after all these: Err = %v, want nil", err)
	}
	if err := inClosure(t, s, exec(`savepoint a`)); err != nil {
		t.Errorf("a savepoint in a closure: Err = %v, want nil", err)
	}
}

func TestBridgeLeak(t *testing.T) {
	s := newStore(t)
	mustExec(t, s, `create table notes (id integer primary key, word text not null)`)
	var leaked *sql.Tx
	var statement *sql.Stmt
	var own store.Tx
	ch := &store.Change{Closures: []store.Closure{func(ctx context.Context, tx store.Tx) error {
		own, leaked = tx, SQL(tx)
		if SQL(tx) != leaked {
			t.Error("SQL twice gives two transactions")
		}
		var err error
		statement, err = leaked.Prepare(`insert into notes (word) values ('late')`)
		return err
	}}}
	commit1(t, s, ch)
	if _, err := leaked.Exec(`insert into notes (word) values ('late')`); !errors.Is(err, sql.ErrTxDone) {
		t.Errorf("Exec on a leaked Tx = %v, want ErrTxDone", err)
	}
	if _, err := statement.Exec(); err == nil {
		t.Error("Exec of a leaked statement = nil, want an error")
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("SQL after the closure returned, want a panic")
			}
		}()
		SQL(own)
	}()
}

func TestClosureTimesOut(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	ch := &store.Change{Closures: []store.Closure{func(ctx context.Context, tx store.Tx) error {
		_, err := SQL(tx).ExecContext(ctx, `with recursive n (i) as (select 1 union all select i + 1 from n) select count(*) from n`)
		return err
	}}}
	err := s.Commit(ctx, &store.Group{Changes: []*store.Change{ch}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Commit of a closure that does not end = %v, want its context's error", err)
	}
	send(t, s, message(cook.Topic, "", "after"))
}

// A caller's transaction may be of any driver that is this library.
func TestCallersTransaction(t *testing.T) {
	s := newStore(t)
	declare(t, s, cook)
	db, err := sql.Open("sqlite", s.path) // deferred: it takes the write lock with its first write
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx := context.Background()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	m := message(cook.Topic, "table-1", "soup")
	m.Headers, m.Due = []byte(`{"a":"b"}`), time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	m.Cause, m.Correlation = s.Info().Incarnation.ID(77), "other1-5"
	empty := &store.Message{Topic: cook.Name, Kind: store.KindCommand, Version: 2}
	if err := s.AppendIn(ctx, Tx(tx), &store.Change{Sends: []*store.Message{m, empty}}); err != nil {
		t.Fatal(err)
	}
	if SQL(Tx(tx)) != tx {
		t.Error("SQL(Tx(tx)) is not tx")
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	story, err := s.Reader().Message(ctx, m.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got := story.Message; got.Key != m.Key || string(got.Body) != "soup" || !got.Due.Equal(m.Due) ||
		got.Cause != m.Cause || got.Correlation != m.Correlation || string(got.Headers) != string(m.Headers) || !got.SentAt.Equal(m.SentAt) {
		t.Errorf("message read back = %+v, want %+v", got, *m)
	}
	if n := depthOf(t, s); n != 2 {
		t.Errorf("depth = %d, want 2", n)
	}
	if err := s.AppendIn(ctx, Tx(tx), &store.Change{Sends: []*store.Message{m}}); !errors.Is(err, sql.ErrTxDone) {
		t.Errorf("AppendIn in a finished transaction = %v, want ErrTxDone", err)
	}
}

// What is sent in a transaction of another file would be taken for sent, and nobody would work it.
func TestAppendInATransactionOfAnotherFile(t *testing.T) {
	s, other := newStore(t), newStore(t)
	declare(t, s, cook)
	declare(t, other, cook)
	send := &store.Change{Sends: []*store.Message{message(cook.Topic, "", "soup")}}
	for what, path := range map[string]string{"another store's": other.path, "a file without a journal": filepath.Join(t.TempDir(), "own.db")} {
		db, err := OpenDB(path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.AppendIn(t.Context(), Tx(tx), send); err == nil || !strings.Contains(err.Error(), "another file than "+s.path) {
			t.Errorf("AppendIn in a transaction of %s = %v, want it refused, with the file's name", what, err)
		}
		if _, err := tx.Exec(`create table mine (id)`); err != nil {
			t.Errorf("the transaction goes on with %v, want nil", err)
		}
		if err := tx.Commit(); err != nil {
			t.Error(err)
		}
	}
	for what, tx := range map[string]store.Tx{"is nil": Tx(nil), "want sqlite.Tx": otherTx{}} {
		if err := s.AppendIn(t.Context(), tx, send); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("AppendIn in %#v = %v, want it refused: %s", tx, err, what)
		}
	}
	if n := depthOf(t, s) + depthOf(t, other); n != 0 {
		t.Errorf("depths = %d, want 0", n)
	}
}

type otherTx struct{}

func (otherTx) StoreKind() string { return "other" }
