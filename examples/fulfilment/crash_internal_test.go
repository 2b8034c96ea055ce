package fulfilment

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/weirtest"
)

// TestCrashesEverywhere: wherever the process crashes, each order is charged once, has one
// invoice, and is reserved or given back.
func TestCrashesEverywhere(t *testing.T) {
	weirtest.CrashEverywhere(t, threeOrders((*Shop).fulfil))
}

// TestCancelsEverywhere: wherever a run is cancelled, and wherever the process crashes then, what was done is undone: the money
// is given back, the invoice has a credit note, and the stock is free again.
func TestCancelsEverywhere(t *testing.T) {
	weirtest.CrashEverywhere(t, cancelled((*Shop).fulfil))
}

// A workflow that does not give the money back keeps it when it is cancelled.
func TestCancelsFindAMissingRefund(t *testing.T) {
	report := weirtest.CrashReport(t, cancelled(func(s *Shop, r *weir.Run, o Order) (Receipt, error) {
		charge, err := weir.Once(r, "charge-card", func(ctx context.Context) (Charge, error) {
			return s.out.Payments.Charge(ctx, weir.IdempotencyKey(ctx), o)
		}, s.findCharge)
		if err != nil {
			return Receipt{}, err
		}
		return Receipt{Charge: charge.ID}, s.close(r, o.ID, stateFulfilled, Receipt{Charge: charge.ID}, "")
	}))
	found := false
	for _, f := range report.Faults {
		found = found || f.What == "charge order-2 happened once and is not undone"
	}
	if !found {
		t.Errorf("that order-2's charge is kept is not found: %s", report)
	}
}

// cancelled is a scenario of one order, whose charge is made and not answered, that is cancelled.
func cancelled(fulfil func(*Shop, *weir.Run, Order) (Receipt, error)) func(*testing.T, *weirtest.World) weirtest.Scenario {
	return func(t *testing.T, w *weirtest.World) weirtest.Scenario {
		out := newOutside(w)
		db := shopTables(t, w.File)
		shop := func(eng *weir.Engine) *Shop {
			return &Shop{eng: eng, db: db, out: out.systems(), menu: AnyItem, log: slog.New(slog.DiscardHandler)}
		}
		return weirtest.Scenario{
			Config: weir.Config{Owns: []string{"orders", "warehouse"}},
			Register: func(eng *weir.Engine) {
				s := shop(eng)
				weir.Register(eng, Fulfil, func(r *weir.Run, o Order) (Receipt, error) { return fulfil(s, r, o) },
					patient(), weir.Timeout(attemptMax))
			},
			Act: func(ctx context.Context, e *weirtest.Engine) error {
				return shop(e.Engine).TakeAll(ctx, []Want{{ID: 2, Lines: []WantLine{{Row: 3, Item: "102"}}}})
			},
			Look: func(ctx context.Context, e *weirtest.Engine) error {
				book, err := bookFates(ctx, db.DB)
				if err != nil {
					return err
				}
				runs, err := runFates(ctx, db)
				if f := judge(runs["order-2"], book["order-2"]); f.list != listFailed { // as a cancelled one's is
					w.Effect(f.list, "order-2")
				}
				return err
			},
			Cancels: true,
		}
	}
}

// A workflow that takes a charge for a step like any other charges twice.
func TestCrashesFindAStepWhereOnceIsNeeded(t *testing.T) {
	report := weirtest.CrashReport(t, threeOrders(func(s *Shop, r *weir.Run, o Order) (Receipt, error) {
		if err := s.reserve(r, o); err != nil {
			return Receipt{}, err
		}
		charge, err := weir.Step(r, "charge-card", func(ctx context.Context) (Charge, error) {
			return s.out.Payments.Charge(ctx, weir.IdempotencyKey(ctx), o)
		}, weir.FailIf(ErrDeclined))
		if err != nil {
			return Receipt{}, errors.Join(err, s.close(r, o.ID, stateFailed, Receipt{}, err.Error()))
		}
		return Receipt{Charge: charge.ID}, s.close(r, o.ID, stateFulfilled, Receipt{Charge: charge.ID}, "")
	}))
	charged := map[string]bool{}
	for _, f := range report.Faults {
		if f.Effect == "charge" && f.Times > f.Usual {
			charged[f.Key] = true
		} else {
			t.Errorf("found beside the double charges: %s", f)
		}
	}
	if !charged["order-1"] {
		t.Errorf("that order-1 is charged twice is not found: %s", report)
	}
	t.Log(report)
}

// threeOrders is a scenario of three orders: the first wants a dish that is out of stock for a
// minute, the second's charge is made and not answered, the third's card is declined.
func threeOrders(fulfil func(*Shop, *weir.Run, Order) (Receipt, error)) func(*testing.T, *weirtest.World) weirtest.Scenario {
	return func(t *testing.T, w *weirtest.World) weirtest.Scenario {
		book := []Want{
			{ID: 1, Lines: []WantLine{{Row: 2, Item: scarce}}},
			{ID: 2, Lines: []WantLine{{Row: 3, Item: "102"}, {Row: 4, Item: "103"}}},
			{ID: 3, Lines: []WantLine{{Row: 5, Item: "102"}, {Row: 6, Item: "NULL"}}},
		}
		out := newOutside(w).systems()
		db := shopTables(t, w.File)
		shop := func(eng *weir.Engine) *Shop {
			return &Shop{eng: eng, db: db, out: out, menu: AnyItem, log: slog.New(slog.DiscardHandler)}
		}
		return weirtest.Scenario{
			Config: weir.Config{Owns: []string{"orders", "warehouse"}},
			Register: func(eng *weir.Engine) {
				s := shop(eng)
				weir.Register(eng, Fulfil, func(r *weir.Run, o Order) (Receipt, error) { return fulfil(s, r, o) },
					patient(), weir.Timeout(attemptMax))
			},
			Act: func(ctx context.Context, e *weirtest.Engine) error {
				if err := shop(e.Engine).TakeAll(ctx, book); err != nil {
					return err
				}
				<-time.After(deliveredAfter)
				return weir.Publish(ctx, e, StockChanged, Stock{Dish: "item " + scarce}, weir.Dedup("delivery"))
			},
			Look: func(ctx context.Context, _ *weirtest.Engine) error { return reportBook(ctx, db, w) },
		}
	}
}

func shopTables(t *testing.T, file string) *database.Database {
	t.Helper()
	db, err := database.File(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := db.MakeTables(t.Context(), "orders_book", sqlShop); err != nil {
		t.Fatal(err)
	}
	return db
}

// reportBook tells how each order stands in the shop's own table.
func reportBook(ctx context.Context, db *database.Database, w *weirtest.World) error {
	rows, err := db.QueryContext(ctx, sqlBook)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, state, reason string
		if err := rows.Scan(&id, &state, &reason); err != nil {
			return err
		}
		w.Effect(state, id)
	}
	return rows.Err()
}

const (
	scarce         = "101"
	deliveredAfter = time.Minute
	answersAfter   = 30 * time.Millisecond
)

// outsiders is the four systems in memory, behind the shop's own clients: they answer as
// package outside does, and tell the world of what they do.
type outsiders struct {
	world told
	began time.Time

	mu       sync.Mutex
	reserved map[string]string            // state, by order
	charges  map[string]map[string]any    // by key
	invoices map[string]map[string]string // by order
	taken    map[string]int               // charges that are not given back, by order
	off      map[string]bool              // orders of which all charges are given back
	credited map[string]bool              // orders
}

// told is who is told of what they do: a *weirtest.World.
type told interface {
	Effect(name, key string)
	Undo(name, key string)
	Repeatable(name, key string)
}

func newOutside(w told) *outsiders {
	return &outsiders{
		world: w, began: time.Now(),
		reserved: map[string]string{}, charges: map[string]map[string]any{}, invoices: map[string]map[string]string{},
		taken: map[string]int{}, off: map[string]bool{}, credited: map[string]bool{},
	}
}

func (o *outsiders) systems() *Systems {
	out := Connect(Addresses{"http://warehouse", "http://payments", "http://billing", "http://mail"})
	over := &http.Client{Transport: o}
	out.Warehouse.http, out.Payments.http, out.Billing.http, out.Mail.http = over, over, over, over
	return out
}

var errNoAnswer = errors.New("the connection broke before the answer")

// RoundTrip implements http.RoundTripper: it takes a while, and acts at its end.
func (o *outsiders) RoundTrip(r *http.Request) (*http.Response, error) {
	body := map[string]any{}
	if r.Body != nil {
		defer r.Body.Close()
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	select {
	case <-time.After(answersAfter):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	_, id, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	var status int
	var answer any
	switch r.URL.Host {
	case "warehouse":
		status, answer = o.warehouse(r.Method, r.URL.Path, id)
	case "payments":
		status, answer = o.payments(r, id, body)
	case "billing":
		status, answer = o.billing(r.Method, cmp.Or(id, fmt.Sprint(body["order"])))
	case "mail":
		o.world.Repeatable("mail", fmt.Sprint(body["order"])) // who orders does not mind two
		status = http.StatusAccepted
	}
	if status == 0 {
		return nil, errNoAnswer
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(bytes.NewReader(text)), Request: r}, nil
}

func (o *outsiders) warehouse(method, path, id string) (int, any) {
	switch {
	case strings.HasPrefix(path, "/stock/"):
		if id == "item "+scarce && time.Since(o.began) < deliveredAfter {
			return http.StatusOK, map[string]any{"free": 0}
		}
		return http.StatusOK, map[string]any{"free": 1000}
	case method == http.MethodDelete:
		if o.reserved[id] == "reserved" {
			o.world.Undo("reserve", id)
		}
		o.reserved[id] = "released"
		return http.StatusNoContent, nil
	}
	if state := o.reserved[id]; state != "" {
		return http.StatusConflict, refused("already-" + state)
	}
	o.world.Effect("reserve", id)
	o.reserved[id] = "reserved"
	return http.StatusCreated, nil
}

func refused(what string) map[string]string { return map[string]string{"error": what} }

// payments refuses no duplicate.
func (o *outsiders) payments(r *http.Request, id string, body map[string]any) (int, any) {
	switch r.Method {
	case http.MethodPut:
		o.refund(id)
		return http.StatusNoContent, nil
	case http.MethodGet:
		if c := o.charges[r.URL.Query().Get("key")]; c != nil {
			return http.StatusOK, c
		}
		return http.StatusNotFound, refused("no-charge")
	}
	order := fmt.Sprint(body["order"])
	if order == "order-3" {
		return http.StatusPaymentRequired, refused("declined")
	}
	o.world.Effect("charge", order)
	o.taken[order]++
	key := fmt.Sprint(body["key"])
	first := o.charges[key] == nil
	o.charges[key] = map[string]any{"id": "ch-" + order, "key": key, "order": order, "cents": body["cents"]}
	if o.off[order] {
		o.refund(order)
	}
	if order == "order-2" && first {
		return 0, nil
	}
	return http.StatusCreated, o.charges[key]
}

// refund gives back what is charged, now and later.
func (o *outsiders) refund(order string) {
	for o.off[order] = true; o.taken[order] > 0; o.taken[order]-- {
		o.world.Undo("charge", order)
	}
}

func (o *outsiders) billing(method, order string) (int, any) {
	switch {
	case method == http.MethodPut:
		if o.invoices[order] != nil && !o.credited[order] {
			o.world.Undo("invoice", order)
		}
		o.credited[order] = true
		return http.StatusNoContent, nil
	case o.credited[order]:
		return http.StatusGone, refused("credited")
	}
	if i := o.invoices[order]; i != nil {
		return http.StatusConflict, i
	}
	o.world.Effect("invoice", order)
	o.invoices[order] = map[string]string{"number": "in-" + order, "order": order}
	return http.StatusCreated, o.invoices[order]
}
