package postgres

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/weir-go/weir/store"
)

// slumber is closures that are given up in the middle of a statement, which the server goes on with:
// no request to cancel it comes through.
type slumber struct {
	*testing.T
	s     *Store
	h     *harness
	queue store.QueueID
}

// fallAsleep opens a store by a line to a server, or a pooler, on which requests to cancel are lost.
func fallAsleep(t *testing.T, direct string) *slumber {
	t.Helper()
	h := openHarness(t, nil).(*harness)
	l := newLine(t, direct)
	s := opened(t, l.dsn(direct)+" pool_max_conns=4 user="+worker+" password="+worker, Schema(h.schema))
	l.deaf.Store(true)
	return &slumber{T: t, s: s, h: h, queue: declared(t, s)}
}

// closure is given up once the server sleeps for it, with no limit.
func (z *slumber) closure(ctx context.Context, tx store.Tx) error {
	if _, err := Pgx(tx).Exec(ctx, "select set_config('statement_timeout', '0', true)"); err != nil {
		return err
	}
	statement := "select pg_sleep(600) as " + z.h.schema
	ctx, giveUp := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		defer giveUp()
		for asleep := false; !asleep && ctx.Err() == nil; pauseFor(5) {
			err := z.h.db.QueryRow(ctx, "select exists (select from pg_stat_activity where wait_event = 'PgSleep' and query = $1)", statement).Scan(&asleep)
			if err != nil && ctx.Err() == nil {
				z.Error(err)
			}
		}
	})
	_, err := Pgx(tx).Exec(ctx, statement)
	giveUp()
	watch.Wait()
	return err
}

// What a transaction held that was given up in the middle of a statement is free at once, for the
// others of its group and for all, though the request to cancel the statement was lost.
func TestGivenUpTransactionHoldsNothing(t *testing.T) {
	t.Parallel()
	for name, direct := range map[string]func(t *testing.T) string{
		"server": func(t *testing.T) string { return dsn(t) },
		"pooler": func(t *testing.T) string { return pooled(t).DSN("postgres", worker) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z := fallAsleep(t, direct(t))
			g := everyOther(4, z.closure)
			if err := z.s.Commit(t.Context(), g); err != nil {
				t.Fatalf("Commit() = %v, want nil", err)
			}
			for i, ch := range g.Changes {
				if (ch.Err != nil) != (i%2 == 0) || errors.Is(ch.Err, store.ErrUnavailable) || errors.Is(ch.Err, store.ErrKeyHeld) {
					t.Errorf("change %d: Err %v, want one for each closure that was given up", i, ch.Err)
				}
			}
			alone := everyOther(1, z.closure)
			if err := z.s.Commit(t.Context(), alone); err != nil || !errors.Is(alone.Changes[0].Err, context.Canceled) {
				t.Errorf("Commit() of one that is given up = %v and %v, want it alone refused", err, alone.Changes[0].Err)
			}
			next := &store.Group{Changes: []*store.Change{{Sends: keyed(1, "")}}, Held: store.HeldIsRefused}
			if err := errors.Join(z.s.Commit(t.Context(), next), next.Changes[0].Err); err != nil {
				t.Errorf("Commit() with the same key after that = %v, want nil: nobody holds it", err)
			}
			if b := claimSome(t, z.s, z.queue, 9); b == nil || len(b.Deliveries) != 3 {
				t.Errorf("Claim() = %+v, want the 3 others", b)
			}
		})
	}
}
