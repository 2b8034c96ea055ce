package weir_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/store/storetest"
)

// Whatever call of the store fails, before it is executed or after, the engine
// stops or goes on; and the next one brings everything to its end, once.
func TestEveryFailureOfTheStoreIsSurvived(t *testing.T) {
	for _, m := range []storetest.Method{storetest.Begin, storetest.Declare, storetest.Claim, storetest.Commit, storetest.End} {
		for what, fail := range map[string]func(error, int, ...storetest.Method) *storetest.Faults{
			"before": storetest.FailBefore, "after": storetest.FailAfter,
		} {
			t.Run(fmt.Sprintf("%s/%s", m, what), func(t *testing.T) {
				t.Parallel()
				n := 1
				for ; surviveFault(t, fail(errDisk, n, m)); n++ {
					if n == 100 {
						t.Fatal("the flow does not come to its end")
					}
				}
			})
		}
	}
}

// surviveFault runs a short flow on a store with a fault, finishes it on a healthy
// one, and looks at the effects; false when the fault did not strike.
func surviveFault(t *testing.T, faults *storetest.Faults) (struck bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		db := openTable(t, file, effects)
		quiet := weir.Config{Log: slog.New(slog.DiscardHandler)}
		const messages = 3

		sick := openStore(t, faults.Opener(sqlite.File(file)), quiet)
		work(sick)
		ctx, cancel := context.WithCancel(t.Context())
		done := runs(ctx, sick)
		for n := range messages {
			time.Sleep(50 * time.Millisecond) // so that an idle engine claims it with the send
			if order(sick, n+1) != nil {      // refused, or accepted and not told so: the sender asks again
				struck = true
				healthy := openEngine(t, file, quiet)
				if err := order(healthy, n+1); err != nil {
					t.Errorf("order %d, again = %v", n+1, err)
				}
			}
		}
		time.Sleep(1500 * time.Millisecond) // more than the flow takes, and a poll
		if len(done) == 0 && (figures(t, sick, prepare.Name()).Depth > 0 || figures(t, sick, "staff.bring").Depth > 0) {
			t.Errorf("the engine goes on, and leaves %d orders and %d plates lying",
				figures(t, sick, prepare.Name()).Depth, figures(t, sick, "staff.bring").Depth)
		}
		cancel()
		switch err := receive(t, done); {
		case errors.Is(err, errDisk):
			struck = true
		case err != nil:
			t.Errorf("Run = %v, want nil or the store's error", err)
		}
		if err := sick.Close(); err != nil && !errors.Is(err, errDisk) {
			t.Errorf("Close = %v, want nil or the store's error", err)
		}

		well := openEngine(t, file, quiet)
		work(well)
		run(t, well)
		emptied(t, well, prepare.Name())
		emptied(t, well, "staff.bring")
		got := took(t, db)
		if !slices.Equal(got["order"], upTo(messages)) {
			t.Errorf("orders took effect as %v, want 1 to %d in order, once each", got["order"], messages)
		}
		slices.Sort(got["plate"])
		if !slices.Equal(got["plate"], upTo(messages)) {
			t.Errorf("plates took effect as %v, want 1 to %d once each", got["plate"], messages)
		}
		if findings, err := well.Check(t.Context()); err != nil || len(findings) != 0 {
			t.Errorf("Check = %+v, %v, want nothing", findings, err)
		}
	})
	return struck
}

// order sends order n, once however often it is called.
func order(e *weir.Engine, n int) error {
	return weir.Send(context.Background(), e, prepare, ticket{"order", n}, weir.Dedup(fmt.Sprint("order-", n)))
}

// work registers a kitchen in which an order fails at first, and makes a plate.
func work(e *weir.Engine) {
	weir.Handle(e, prepare, func(ctx context.Context, m *weir.Message[ticket]) error {
		if m.Body.N == 2 && m.Attempt == 1 {
			return errors.New("not so fast")
		}
		effect(m)
		return weir.Publish(ctx, m, ready, plate{"plate", m.Body.N})
	}, weir.Queue{Retry: quick})
	weir.Subscribe(e, ready, "staff.bring", func(_ context.Context, m *weir.Message[plate]) error {
		m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
			_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into effects (tab, n) values (?, ?)`, m.Body.Table, m.Body.N)
			return err
		})
		return nil
	}, weir.FromEarliest)
}
