package fulfilment

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/weirtest"
)

// without is the outside systems, one of which cannot be reached for a kind of request.
type without struct {
	*outsiders
	method, host string
}

func (o without) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == o.method && r.URL.Host == o.host {
		return nil, errors.New("nobody is there")
	}
	return o.outsiders.RoundTrip(r)
}

// nobody wants to be told.
type nobody struct{}

func (nobody) Effect(_, _ string)     {}
func (nobody) Undo(_, _ string)       {}
func (nobody) Repeatable(_, _ string) {}

// However a run ends that does not complete, the money is given back, and the order is closed.
func TestEndsThatGiveTheMoneyBack(t *testing.T) {
	abandon := func(ctx context.Context, e *weirtest.Engine) error {
		return e.AbandonRun(ctx, weir.RunSelection{ID: "order-2"}, weir.Because{By: "ada", Why: "nobody can tell"})
	}
	for _, c := range []struct {
		name         string
		method, host string // of what cannot be done
		before       weir.RunState
		o            []weir.StartOption
		end          func(context.Context, *weirtest.Engine) error
		want         weir.RunState
	}{
		{"abandoned when it is not known whether it is charged", http.MethodGet, "payments", weirtest.NeedsPerson, nil, abandon, weirtest.Failed},
		{"abandoned when it is charged", http.MethodPost, "billing", weirtest.NeedsPerson, nil, abandon, weirtest.Failed},
		{"past its deadline", http.MethodPost, "billing", weir.RunRunning, []weir.StartOption{weir.Deadline(20 * time.Second)},
			func(context.Context, *weirtest.Engine) error { return nil }, weirtest.Cancelled},
		{"settled as failed", http.MethodPost, "billing", weirtest.NeedsPerson, nil, func(ctx context.Context, e *weirtest.Engine) error {
			return e.SettleRun(ctx, weir.RunSelection{ID: "order-2"}, weir.Settled{Failed: true}, weir.Because{By: "ada", Why: "no billing any more"})
		}, weirtest.Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := newOutside(nobody{})
				systems := out.systems()
				over := &http.Client{Transport: without{out, c.method, c.host}}
				systems.Payments.http, systems.Billing.http = over, over
				shop := &Shop{out: systems, menu: AnyItem, log: slog.New(slog.DiscardHandler)}
				e := weirtest.New(t, weir.Config{Owns: []string{"orders", "warehouse"}, Log: slog.New(slog.DiscardHandler)}, func(eng *weir.Engine) {
					shop.eng = eng
					weir.Register(eng, Fulfil, shop.fulfil, patient(), weir.Timeout(attemptMax))
				})
				shop.db = shopTables(t, e.File)
				o, _ := Want{ID: 2, Lines: []WantLine{{Row: 3, Item: "102"}}}.order(AnyItem)
				if _, err := shop.db.ExecContext(t.Context(), sqlTakeOrder, o.ID, stateOpen, o.Cents(), ""); err != nil {
					t.Fatal(err)
				}
				if _, err := weir.Start(t.Context(), e, Fulfil, o.ID, o, c.o...); err != nil {
					t.Fatal(err)
				}
				if c.before == weirtest.NeedsPerson {
					e.Settle()
				} else {
					time.Sleep(10 * time.Second)
				}
				weirtest.RequireRun(t, e, Fulfil, o.ID, c.before)
				if out.taken[o.ID] != 1 {
					t.Fatalf("it is charged %d times before its end, want once", out.taken[o.ID])
				}
				if err := c.end(t.Context(), e); err != nil {
					t.Fatal(err)
				}
				e.Settle()
				weirtest.RequireRun(t, e, Fulfil, o.ID, c.want)
				book, err := bookFates(t.Context(), shop.db.DB)
				if err != nil {
					t.Fatal(err)
				}
				if f := book[o.ID]; out.taken[o.ID] != 0 || !out.off[o.ID] || out.reserved[o.ID] != "released" || f.list != listFailed || strings.TrimSpace(f.reason) == "" {
					t.Errorf("in the end %d charges are kept, the stock is %s, the order is %+v; want none, released, failed", out.taken[o.ID], out.reserved[o.ID], f)
				}
			})
		})
	}
}
