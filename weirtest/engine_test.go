package weirtest_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/weirtest"
)

type ticket struct {
	Table string
	N     int
}

func (t ticket) table() string { return t.Table }

var (
	prepare = weir.NewCommand[ticket]("kitchen.prepare-food", weir.KeyedBy(ticket.table))
	clean   = weir.NewCommand[ticket]("kitchen.clean")
	ready   = weir.NewEvent[ticket]("kitchen.food-ready")
)

// patience is thousands of times what takes milliseconds takes, so that no machine is too busy for it; days that pass
// second by second take longer.
const patience = time.Minute

var kitchen = weir.Config{Owns: []string{"kitchen", "staff"}}

func TestDaysPassInMilliseconds(t *testing.T) {
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var worked time.Time
		e := weirtest.New(t, kitchen, func(e *weir.Engine) {
			weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error {
				worked = time.Now()
				return nil
			})
		})
		if err := weir.Send(t.Context(), e, clean, ticket{}, weir.Delay(30*24*time.Hour)); err != nil {
			t.Fatal(err)
		}
		e.Settle()
		if late := worked.Sub(start) - 30*24*time.Hour; late < 0 || late > time.Second {
			t.Errorf("worked after %s, want 30 days", worked.Sub(start))
		}
		if !time.Now().Equal(worked) {
			t.Errorf("Settle came back %s after the last thing happened", time.Since(worked))
		}
	})
	if took := time.Since(began); took > patience {
		t.Errorf("30 days took %s, want some milliseconds", took)
	} else {
		t.Logf("30 days took %s", took)
	}
}

func TestSettleWaitsForRetriesAndFollowers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var worked atomic.Int64
		e := weirtest.New(t, kitchen, func(e *weir.Engine) {
			weir.Handle(e, prepare, func(_ context.Context, m *weir.Message[ticket]) error {
				if m.Body.N == 1 && m.Attempt < 4 {
					return errors.New("not yet")
				}
				worked.Add(1)
				return nil
			}, weir.Queue{Retry: weir.Retry{Base: time.Hour, Cap: 24 * time.Hour}})
		})
		for n := range 5 {
			if err := weir.Send(t.Context(), e, prepare, ticket{"terrace", n + 1}); err != nil {
				t.Fatal(err)
			}
		}
		e.Settle()
		if worked.Load() != 5 {
			t.Errorf("%d worked, want 5", worked.Load())
		}
	})
}

// What a caller's own transaction sends is seen as soon as in a service.
func TestSendsInATransactionAreSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var worked time.Time
		e := weirtest.New(t, kitchen, func(e *weir.Engine) {
			weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error {
				worked = time.Now()
				return nil
			})
		})
		db, err := sqlite.OpenDB(e.File)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := weir.Send(t.Context(), e.In(sqlite.Tx(tx)), clean, ticket{}); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		e.Settle()
		if took := worked.Sub(start); took < 0 || took > 50*time.Millisecond {
			t.Errorf("worked after %s, want some 10ms", took)
		}
	})
}

func TestSettleSaysWhatGoesOnForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := weirtest.New(t, kitchen, func(e *weir.Engine) {
			weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error { return weir.NotYet("no broom", 48*time.Hour) })
		})
		if err := weir.Send(t.Context(), e, clean, ticket{}); err != nil {
			t.Fatal(err)
		}
		err := e.SettleError()
		if want := "after a year, still 1 of kitchen.clean to be worked"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("settle = %v, want %q", err, want)
		}
	})
}

// What waits for a person is no reason to wait.
func TestSettleDoesNotWaitForPersons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		e := weirtest.New(t, kitchen, func(e *weir.Engine) {
			weir.Handle(e, prepare, func(context.Context, *weir.Message[ticket]) error { return weir.Permanent(errors.New("no such dish")) })
			weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error { return nil })
		})
		if err := e.PauseQueue(t.Context(), clean.Name(), weir.Because{By: "Ada", Why: "no broom"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for n := range 3 {
			for _, c := range []weir.Command[ticket, weir.None]{prepare, clean} {
				if err := weir.Send(t.Context(), e, c, ticket{"terrace", n}); err != nil {
					t.Fatal(err)
				}
			}
		}
		e.Settle()
		if took := time.Since(start); took > time.Minute {
			t.Errorf("Settle took %s", took)
		}
	})
}
