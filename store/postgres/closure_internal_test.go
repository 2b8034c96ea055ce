package postgres

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
)

// sqlOther makes a role that the workers may take, and that may do nothing.
const sqlOther = `do $$ begin create role weir_test_other; exception when duplicate_object or unique_violation then null; end $$;
	do $$ begin grant weir_test_other to weir_test_worker; exception when others then null; end $$`

// What a closure leaves behind is set back, or refuses its own change and no other.
func TestClosureMistakes(t *testing.T) {
	t.Parallel()
	h, s, queue := processes(t, 1)
	elsewhere := h.schema + "_e"
	for _, q := range []string{sqlOther, "create schema " + elsewhere, "create table " + elsewhere + ".steps (n int constraint steps_pkey primary key deferrable initially deferred)",
		"create table " + elsewhere + ".runs (n int constraint runs_id unique)", "grant usage on schema " + elsewhere + " to public",
		"create table " + elsewhere + ".busy (n int)",
		"create function " + elsewhere + ".busy() returns trigger language plpgsql as $$ begin raise 'canceling statement due to lock timeout' using errcode = '55P03'; end $$",
		"create constraint trigger busy after insert on " + elsewhere + ".busy deferrable initially deferred for each row execute function " + elsewhere + ".busy()",
		"grant all on all tables in schema " + elsewhere + " to public"} {
		if _, err := h.db.Exec(t.Context(), q, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := h.db.Exec(context.Background(), "drop schema "+elsewhere+" cascade"); err != nil {
			t.Error(err)
		}
	})
	exec := func(list ...string) store.Closure {
		return func(ctx context.Context, tx store.Tx) error {
			for _, q := range list {
				if _, err := Pgx(tx).Exec(ctx, q); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, c := range []struct {
		name    string
		refused bool
		f       store.Closure
	}{
		{"the role, for the transaction", false, exec("set local role weir_test_other")},
		{"the role, for the session", false, exec("set role weir_test_other")},
		{"limits", false, exec("set local lock_timeout = 1", "set local statement_timeout = 5000")},
		{"a commit that waits for nothing", false, exec("set local synchronous_commit = off")},
		{"nothing may be written", true, exec("set transaction read only")},
		{"a name of ours, twice", true, exec("insert into "+elsewhere+".runs values (1)", "insert into "+elsewhere+".runs values (1)")},
		{"a name of ours, twice at the commit", true, exec("insert into " + elsewhere + ".steps values (1), (1)")},
		{"a trigger that waits at the commit", true, exec("insert into " + elsewhere + ".busy values (1)")},
		{"rows left open", true, func(ctx context.Context, tx store.Tx) error {
			rows, err := Pgx(tx).Query(ctx, "select repeat('x', 1000) from generate_series(1, 1000000)")
			rows.Next()
			return err
		}},
		{"a row not read", true, func(ctx context.Context, tx store.Tx) error {
			_ = Pgx(tx).QueryRow(ctx, "select 1")
			return nil
		}},
		{"a batch left open, and a failure", true, func(ctx context.Context, tx store.Tx) error {
			b := &pgx.Batch{}
			b.Queue("select 1")
			_ = Pgx(tx).SendBatch(ctx, b)
			return fmt.Errorf("elsewhere: %w", context.DeadlineExceeded)
		}},
	} {
		for _, group := range []int{1, 4} {
			g := everyOther(group, func(ctx context.Context, tx store.Tx) error { return h.Note(ctx, tx, "beside") })
			g.Changes[0].Closures[0] = c.f
			if err := s[0].Commit(t.Context(), g); err != nil {
				t.Fatalf("%s: Commit(%d changes) = %v, want nil", c.name, group, err)
			}
			for i, ch := range g.Changes {
				if refused := c.refused && i == 0; refused != (ch.Err != nil) || errors.Is(ch.Err, store.ErrUnavailable) {
					t.Errorf("%s: Changes[%d].Err of %d = %v, want it refused: %t, and no outage", c.name, i, group, ch.Err, refused)
				}
			}
			send(t, s[0], keyed(1, "")...)
			want := group + 1
			if c.refused {
				want--
			}
			b := claimSome(t, s[0], queue, 99)
			if b == nil || len(b.Deliveries) != want || doneAll(t, s[0], b) != nil {
				t.Fatalf("%s: Claim() after it = %+v, want %d messages", c.name, b, want)
			}
		}
	}
}

// A commit waits for the disk whatever a closure has set.
func TestClosureCommitsDurably(t *testing.T) {
	t.Parallel()
	_, s, _ := processes(t, 1)
	x := &seat{s: s[0], pool: s[0].pool}
	defer x.leave()
	ch := &store.Change{Sends: keyed(1, ""), Closures: []store.Closure{func(ctx context.Context, tx store.Tx) error {
		_, err := Pgx(tx).Exec(ctx, "set local synchronous_commit = off")
		return err
	}}}
	c, err := x.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	k := s[0].newCommit(t.Context(), &store.Group{}, []*store.Change{ch})
	k.store(c)
	k.tx.ctx = t.Context()
	k.head(sqlBegin, writing)
	k.tx.quit = true
	err = k.tx.run(c, func(*tx) error {
		if err := k.run(c); err != nil {
			return err
		}
		var got string
		if err := k.get("select current_setting('synchronous_commit')", func(read scan) error { return read(&got) }); err != nil {
			return err
		}
		if got == "off" {
			t.Errorf("synchronous_commit after a closure that set it off = %s, want it on", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What a closure keeps of its transaction is of no use once it has returned, not even to its successor.
func TestClosureTxKept(t *testing.T) {
	t.Parallel()
	h, s, _ := processes(t, 1)
	insert := "insert into " + h.schema + ".notes (word) values ('late')"
	var kept []pgx.Tx
	late := func(ctx context.Context, _ store.Tx) error {
		for i, tx := range kept {
			_, exec := tx.Exec(ctx, insert)
			_, query := tx.Query(ctx, "select 1")
			_, begin := tx.Begin(ctx)
			_, prepare := tx.Prepare(ctx, "late", insert)
			_, copied := tx.CopyFrom(ctx, pgx.Identifier{h.schema, "notes"}, []string{"word"}, pgx.CopyFromRows([][]any{{"late"}}))
			b := &pgx.Batch{}
			b.Queue(insert)
			for name, err := range map[string]error{"Exec": exec, "Query": query, "Begin": begin, "Prepare": prepare, "CopyFrom": copied,
				"QueryRow": tx.QueryRow(ctx, "select 1").Scan(new(int)), "SendBatch": tx.SendBatch(ctx, b).Close()} {
				if !errors.Is(err, errOver) {
					t.Errorf("%s of transaction %d that was kept = %v, want %q", name, i, err, errOver)
				}
			}
			if err := errors.Join(tx.Commit(ctx), tx.Rollback(ctx)); err == nil {
				t.Errorf("Commit and Rollback of transaction %d that was kept = nil, want errors", i)
			}
			if tx.Conn() != nil {
				t.Errorf("Conn() of transaction %d that was kept is one, want nil", i)
			}
		}
		return nil
	}
	ch := &store.Change{Closures: []store.Closure{func(ctx context.Context, tx store.Tx) error {
		nested, err := Pgx(tx).Begin(ctx)
		kept = append(kept, Pgx(tx), nested)
		return err
	}, late}}
	if err := commitOne(t.Context(), s[0], ch); err != nil {
		t.Fatalf("Commit() = %v, want nil", err)
	}
	_ = late(t.Context(), nil)
	if notes, err := h.Notes(t.Context()); err != nil || len(notes) > 0 {
		t.Errorf("Notes() = %q, %v, want none", notes, err)
	}
}

// A closure that returns while a goroutine of its own still writes is refused.
func TestClosureLeavesGoroutine(t *testing.T) {
	t.Parallel()
	h, s, _ := processes(t, 1)
	done := make(chan error, 1)
	f := func(ctx context.Context, tx store.Tx) error {
		under := make(chan bool)
		own := Pgx(tx)
		first := true
		go func() {
			_, err := own.CopyFrom(ctx, pgx.Identifier{h.schema, "notes"}, []string{"word"}, pgx.CopyFromFunc(func() ([]any, error) {
				if first {
					first = false
					under <- true
					return []any{"late"}, nil
				}
				for !own.(lentTx).door.isShut() {
					runtime.Gosched()
				}
				return nil, nil
			}))
			done <- err
		}()
		<-under
		return nil
	}
	g := everyOther(2, f)
	if err := s[0].Commit(t.Context(), g); err != nil || !errors.Is(g.Changes[0].Err, errLeftOpen) || g.Changes[1].Err != nil {
		t.Errorf("Commit() = %v, %v and %v, want nil, %q and nil", err, g.Changes[0].Err, g.Changes[1].Err, errLeftOpen)
	}
	if err := <-done; err != nil {
		t.Errorf("CopyFrom() that was under way = %v, want nil", err)
	}
	if notes, err := h.Notes(t.Context()); err != nil || len(notes) > 0 {
		t.Errorf("Notes() = %q, %v, want none", notes, err)
	}
}
