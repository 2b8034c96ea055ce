package weirtest_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/weirtest"
)

var (
	trade     = weir.NewWorkflow[order, receipt]("orders.trade")
	pack      = weir.NewWorkflow[string, string]("orders.pack")
	cookIt    = weir.NewRequest[ticket, string]("kitchen.cook", weir.KeyedBy(ticket.table))
	cooked    = weir.NewEvent[ticket]("kitchen.cooked", weir.KeyedBy(ticket.table))
	restocked = weir.NewEvent[string]("kitchen.restocked", weir.KeyedBy(func(dish string) string { return dish }))
	ok        = weir.NewSignal[bool]("orders.go-ahead")
)

// trader is a workflow with each of the verbs, and the handlers that it talks to.
type trader struct {
	*bank
	began time.Time
}

var errRefused = errors.New("not approved")

func (s *trader) trade(r *weir.Run, o order) (receipt, error) {
	err := weir.Until(r, "stock", func(context.Context) (weir.Met, error) {
		return weir.When(time.Since(s.began) > time.Minute, "nothing there"), nil
	}, weir.Every(time.Hour), weir.WakeOn(restocked.For("soup")), weir.Within(72*time.Hour))
	if err != nil {
		return receipt{}, err
	}
	weir.Compensate(r, "release", func(ctx context.Context) error { return s.idempotent(ctx, "release "+o.ID) })
	if err := weir.Do(r, "reserve", func(ctx context.Context) error { return s.idempotent(ctx, "reserve "+o.ID) }); err != nil {
		return receipt{}, err
	}
	var paid, plate string
	err = weir.Locked(r, "desk", func(r *weir.Run, _ int64) error {
		return weir.All(r, "parts",
			weir.Branch{Name: "pay", Do: func(r *weir.Run) (err error) {
				paid, err = s.pay(r, o)
				return err
			}},
			weir.Branch{Name: "cook", Do: func(r *weir.Run) (err error) {
				plate, err = weir.Ask(r, "ask-kitchen", cookIt, ticket{Table: o.ID}, weir.Within(10*time.Minute))
				return err
			}})
	})
	if err != nil {
		return receipt{}, err
	}
	parcel, err := weir.Call(r, "pack", pack, plate)
	if err != nil {
		return receipt{}, err
	}
	if yes, err := weir.WaitFor(r, "go-ahead", ok, weir.Within(48*time.Hour)); err != nil || !yes {
		return receipt{}, cmp.Or(err, errRefused)
	}
	_, err = weir.StepTx(r, "book", func(ctx context.Context, tx weir.Tx) (int, error) {
		_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into book (id) values (?)`, o.ID)
		return 1, err
	})
	return receipt{paid, parcel}, err
}

func (s *trader) pay(r *weir.Run, o order) (string, error) {
	return weir.Once(r, "charge-card",
		func(context.Context) (string, error) { return s.charge("", o.ID), nil },
		func(context.Context) (string, weir.Outcome, error) {
			if id := s.find(o.ID); id != "" {
				return id, weir.Happened, nil
			}
			return "", weir.NotHappened, nil
		})
}

func (s *trader) pack(r *weir.Run, plate string) (string, error) {
	weir.Sleep(r, "cool-down", 2*time.Hour)
	err := weir.Do(r, "wrap", func(ctx context.Context) error { return s.idempotent(ctx, "wrap "+plate) })
	return "parcel of " + plate, err
}

func (s *trader) cook(ctx context.Context, m *weir.Message[ticket]) (string, error) {
	if err := s.idempotent(ctx, "cook "+m.Body.Table); err != nil {
		return "", err
	}
	return "soup for " + m.Body.Table, weir.Publish(ctx, m, cooked, m.Body)
}

// idempotent does something of an outside system that refuses duplicates.
func (s *trader) idempotent(ctx context.Context, what string) error {
	if s.charge(weir.IdempotencyKey(ctx), what) == "" {
		return errors.New("no answer")
	}
	return nil
}

// All verbs together, two runs that want one lock, of which one is refused and
// compensates: nothing of it is lost or happens twice.
func TestCrashesOfEverything(t *testing.T) {
	weirtest.CrashEverywhere(t, func(t *testing.T, w *weirtest.World) weirtest.Scenario {
		s := &trader{bank: &bank{world: w, charges: map[string]string{}}, began: time.Now()}
		db, err := sqlite.OpenDB(w.File)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		if _, err := db.ExecContext(t.Context(), `create table book (id text)`); err != nil {
			t.Fatal(err)
		}
		return weirtest.Scenario{
			Config: weir.Config{Owns: []string{"orders", "kitchen"}},
			Register: func(e *weir.Engine) {
				weir.Register(e, trade, s.trade)
				weir.Register(e, pack, s.pack)
				weir.Answer(e, cookIt, s.cook)
				weir.Subscribe(e, cooked, "orders.note-cooked", func(ctx context.Context, m *weir.Message[ticket]) error {
					return s.idempotent(ctx, "note "+m.Body.Table)
				}, weir.FromEarliest)
			},
			Act: actOnTrade,
			Look: func(ctx context.Context, e *weirtest.Engine) error {
				var n int
				if err := db.QueryRowContext(ctx, `select count(*) from book where id = 'order-1'`).Scan(&n); err != nil {
					return err
				}
				for range n {
					w.Effect("booked", "order-1")
				}
				findings, err := e.Check(ctx)
				if len(findings) > 0 {
					err = fmt.Errorf("the doctor finds %+v", findings)
				}
				return err
			},
		}
	})
}

func actOnTrade(ctx context.Context, e *weirtest.Engine) error {
	for _, id := range []string{"order-1", "order-2"} {
		if _, err := weir.Start(ctx, e, trade, id, order{ID: id}); err != nil {
			return err
		}
	}
	<-time.After(2 * time.Minute)
	if err := weir.Publish(ctx, e, restocked, "soup", weir.Dedup("soup")); err != nil {
		return err
	}
	for id, yes := range map[string]bool{"order-1": true, "order-2": false} {
		if err := weir.Tell(ctx, e, ok, id, yes, weir.Dedup("go-ahead "+id)); err != nil {
			return err
		}
	}
	return nil
}
