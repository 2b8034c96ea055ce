package postgres

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
)

// everyOther is changes of a send each, the even ones with a closure.
func everyOther(n int, f store.Closure) *store.Group {
	g := &store.Group{}
	for i := range n {
		ch := &store.Change{Sends: keyed(1, "")}
		if i%2 == 0 {
			ch.Closures = []store.Closure{f}
		}
		g.Changes = append(g.Changes, ch)
	}
	return g
}

// A closure whose time is over in the middle of a statement refuses its own change, and no other,
// though the connection is gone with it.
func TestClosureOverrunsInStatement(t *testing.T) {
	t.Parallel()
	_, s, queue := processes(t, 1)
	g := everyOther(8, func(ctx context.Context, tx store.Tx) error {
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		_, err := Pgx(tx).Exec(short, "select pg_sleep(60)")
		return err
	})
	if err := s[0].Commit(t.Context(), g); err != nil {
		t.Fatalf("Commit() = %v, want nil", err)
	}
	for i, ch := range g.Changes {
		if (ch.Err != nil) != (i%2 == 0) || errors.Is(ch.Err, store.ErrUnavailable) {
			t.Errorf("change %d: Err %v, want one for each closure that overran its time", i, ch.Err)
		}
	}
	if b := claimSome(t, s[0], queue, 9); b == nil || len(b.Deliveries) != 4 {
		t.Errorf("Claim() = %+v, want the 4 others", b)
	}
}

// When the server ends the connection under a closure that is nobody's fault.
func TestClosureLosesServer(t *testing.T) {
	t.Parallel()
	_, s, queue := processes(t, 1)
	g := everyOther(2, func(ctx context.Context, tx store.Tx) error {
		_, err := Pgx(tx).Exec(ctx, "select pg_terminate_backend(pg_backend_pid())")
		for err == nil { // the server may answer once more
			_, err = Pgx(tx).Exec(ctx, "select 1")
		}
		return err
	})
	if err := s[0].Commit(t.Context(), g); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Commit() = %v, want ErrUnavailable", err)
	}
	if b := claimSome(t, s[0], queue, 9); b != nil {
		t.Errorf("Claim() = %+v, want nothing written", b)
	}
}

// A closure's statements are planned as in any other session of its role, whatever ours need.
func TestClosureHasOwnPlanner(t *testing.T) {
	t.Parallel()
	_, s, _ := processes(t, 1)
	names := []string{"plan_cache_mode", "enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin", "max_parallel_workers_per_gather", "jit"}
	settings := func(tx pgx.Tx) (list []string) {
		for _, name := range names {
			var v string
			if err := tx.QueryRow(t.Context(), "select name || ' ' || setting || ' ' || (setting = reset_val)::text from pg_settings where name = $1", name).Scan(&v); err != nil {
				t.Fatal(err)
			}
			list = append(list, v)
		}
		return list
	}
	send(t, s[0], keyed(1, "")...) // the session has our settings from here on
	var inside []string
	g := &store.Group{Changes: []*store.Change{{Sends: keyed(1, ""), Closures: []store.Closure{func(_ context.Context, tx store.Tx) error {
		inside = settings(Pgx(tx))
		return nil
	}}}}}
	if err := s[0].Commit(t.Context(), g); err != nil || g.Changes[0].Err != nil {
		t.Fatalf("Commit() = %v and %v, want nil", err, g.Changes[0].Err)
	}
	for _, v := range inside {
		if !strings.HasSuffix(v, " true") {
			t.Errorf("a closure has %s, want what its session has", v)
		}
	}
	if len(inside) != len(names) {
		t.Errorf("a closure saw %q, want %d settings", inside, len(names))
	}
}
