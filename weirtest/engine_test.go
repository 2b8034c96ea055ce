package weirtest_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
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
	if took := time.Since(began); took > time.Second {
		t.Errorf("30 days took %s, want well below a second", took)
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
