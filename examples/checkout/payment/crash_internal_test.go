package payment

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/examples/checkout/contract"
	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/weirtest"
)

// TestCrashesEverywhere: wherever the process crashes, each cart that is billed is charged once or
// declined, and what came of it is told.
func TestCrashesEverywhere(t *testing.T) {
	weirtest.CrashEverywhere(t, func(t *testing.T, w *weirtest.World) weirtest.Scenario {
		bank := &bank{world: w, charges: map[string]charge{}}
		db, err := database.File(w.File)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		vault, err := OpenVault(t.Context(), filepath.Join(t.TempDir(), "vault.db"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = vault.Close() })
		config := Config{Database: db, Vault: vault, Provider: &Provider{base: "http://bank", http: &http.Client{Transport: bank}}}
		return weirtest.Scenario{
			Config: weir.Config{Owns: []string{contract.Payment}},
			Points: 16, // of some 30: examples/fulfilment tries all points of much the same workflow
			Register: func(eng *weir.Engine) {
				if _, err := New(t.Context(), eng, config); err != nil {
					t.Error(err)
				}
				weir.Subscribe(eng, contract.CartSettled, "payment.test", func(_ context.Context, m *weir.Message[contract.Settlement]) error {
					w.Repeatable(fmt.Sprint("told paid ", m.Body.Paid), m.Body.Cart) // a handler may run again
					return nil
				}, weir.FromEarliest)
			},
			Act: func(ctx context.Context, e *weirtest.Engine) error { return bill(ctx, e, config) },
			Look: func(ctx context.Context, _ *weirtest.Engine) error {
				paid, err := Paid(ctx, db)
				for cart := range paid {
					w.Effect("paid", cart)
				}
				return err
			},
		}
	})
}

// bill gives cards for three carts, and bills these and one without a card. The second's charge is
// made and not answered, the third's card is declined.
func bill(ctx context.Context, e *weirtest.Engine, c Config) error {
	p := &Payment{db: c.Database, vault: c.Vault}
	for n, number := range []string{"4242424242424242", "4000000000000077", declinedCard} {
		card, err := NewCard(number)
		if err != nil {
			return err
		}
		if err := p.Give(ctx, fmt.Sprintf("cart-%d", n+1), card); err != nil {
			return err
		}
	}
	for n := range 4 {
		b := contract.Bill{Cart: fmt.Sprintf("cart-%d", n+1), Cents: 100}
		if err := weir.Send(ctx, e, contract.ChargeCart, b, weir.Dedup(b.Cart)); err != nil {
			return err
		}
	}
	return nil
}

const (
	declinedCard = "4000000000000002"
	answersAfter = 30 * time.Millisecond
)

// bank is the payment provider in memory, behind payment's own client. It refuses no duplicate.
type bank struct {
	world   *weirtest.World
	mu      sync.Mutex
	charges map[string]charge // by key
}

// RoundTrip implements http.RoundTripper: it takes a while, and acts at its end.
func (b *bank) RoundTrip(r *http.Request) (*http.Response, error) {
	var asked struct{ Key, Order, Card string }
	if r.Body != nil {
		defer r.Body.Close()
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	select {
	case <-time.After(answersAfter):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	status, c := http.StatusOK, b.charges[r.URL.Query().Get("key")]
	switch {
	case r.Method == http.MethodGet && c.ID == "":
		status = http.StatusNotFound
	case r.Method == http.MethodGet:
	case asked.Card == declinedCard:
		status = http.StatusPaymentRequired
	default:
		b.world.Effect("charge", asked.Order)
		first := b.charges[asked.Key].ID == ""
		status, c = http.StatusCreated, charge{ID: "ch-" + asked.Order, Cents: 100}
		b.charges[asked.Key] = c
		if asked.Order == "cart-2" && first {
			return nil, errors.New("the connection broke before the answer")
		}
	}
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return &http.Response{Status: http.StatusText(status), StatusCode: status, Body: io.NopCloser(bytes.NewReader(text)), Request: r}, nil
}
