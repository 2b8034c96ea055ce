package weirtest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/weirtest"
)

// The program: a shop that waits for the bank's opening, charges a card and orders food.

type Purchase struct {
	ID    string
	Cents int
}

var (
	Sell    = weir.NewWorkflow[Purchase, string]("shop.sell")
	Deliver = weir.NewCommand[Purchase]("shop.deliver")
)

// Bank is what the shop needs of one. It refuses no duplicate, but can be asked.
type Bank interface {
	Charge(ctx context.Context, key string, p Purchase) (charge string, err error)
	Find(ctx context.Context, key string) (charge string, err error)
}

var ErrNoCharge = errors.New("there is no such charge")

type Shop struct{ bank Bank }

func (s *Shop) register(e *weir.Engine) {
	weir.Register(e, Sell, s.sell)
	weir.Handle(e, Deliver, s.deliver)
}

func (s *Shop) sell(r *weir.Run, p Purchase) (string, error) {
	weir.Sleep(r, "cooling-off", 14*24*time.Hour)
	charge, err := weir.Once(r, "charge-card",
		func(ctx context.Context) (string, error) { return s.bank.Charge(ctx, weir.IdempotencyKey(ctx), p) },
		func(ctx context.Context) (string, weir.Outcome, error) {
			charge, err := s.bank.Find(ctx, weir.IdempotencyKey(ctx))
			if errors.Is(err, ErrNoCharge) {
				return "", weir.NotHappened, nil
			}
			return charge, weir.Happened, err
		})
	if err != nil {
		return "", err
	}
	return charge, weir.Send(r.Context(), r, Deliver, p, weir.Key(p.ID))
}

func (s *Shop) deliver(context.Context, *weir.Message[Purchase]) error { return nil }

// The fake: it tells the world of each charge, and takes its time.

type fakeBank struct {
	effect func(name, key string)

	mu      sync.Mutex
	charges map[string]string
}

func newFakeBank(effect func(name, key string)) *fakeBank {
	return &fakeBank{effect: effect, charges: map[string]string{}}
}

func (b *fakeBank) Charge(_ context.Context, key string, p Purchase) (string, error) {
	<-time.After(50 * time.Millisecond)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.effect("charge", p.ID)
	b.charges[key] = "charge of " + p.ID
	return b.charges[key], nil
}

func (b *fakeBank) Find(_ context.Context, key string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if charge, ok := b.charges[key]; ok {
		return charge, nil
	}
	return "", ErrNoCharge
}

// The tests.

func TestSellWaitsForTwoWeeks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		shop := &Shop{newFakeBank(func(string, string) {})}
		e := weirtest.New(t, weir.Config{Owns: []string{"shop"}}, shop.register)
		p := Purchase{ID: "order-7", Cents: 1250}
		if _, err := weir.Start(t.Context(), e, Sell, p.ID, p); err != nil {
			t.Fatal(err)
		}
		time.Sleep(13 * 24 * time.Hour)
		weirtest.RequireRun(t, e, Sell, p.ID, weirtest.Waiting)
		e.Settle()
		if charge := weirtest.RequireRun(t, e, Sell, p.ID, weirtest.Completed); charge != "charge of order-7" {
			t.Errorf("charge = %q", charge)
		}
		weirtest.RequireSent(t, e, Deliver, func(d Purchase) bool { return d == p })
		if days := time.Since(start).Hours() / 24; days < 14 || days > 14.1 {
			t.Errorf("sold after %.1f days, want 14", days)
		}
	})
}

func TestSellChargesOnce(t *testing.T) {
	weirtest.CrashEverywhere(t, func(_ *testing.T, w *weirtest.World) weirtest.Scenario {
		bank := newFakeBank(w.Effect)
		return weirtest.Scenario{
			Config:   weir.Config{Owns: []string{"shop"}},
			Register: func(e *weir.Engine) { (&Shop{bank}).register(e) },
			Act: func(ctx context.Context, e *weirtest.Engine) error {
				_, err := weir.Start(ctx, e, Sell, "order-7", Purchase{ID: "order-7", Cents: 1250})
				return err
			},
		}
	})
}

// ExampleCrashEverywhere is a test of a workflow that must charge a card once,
// wherever the process crashes. In full: TestSellChargesOnce in this file.
func ExampleCrashEverywhere() {
	_ = func(t *testing.T) { // func TestSellChargesOnce(t *testing.T)
		weirtest.CrashEverywhere(t, func(_ *testing.T, w *weirtest.World) weirtest.Scenario {
			bank := newFakeBank(w.Effect) // the outside world stays through the crash
			return weirtest.Scenario{
				Config:   weir.Config{Owns: []string{"shop"}},
				Register: func(e *weir.Engine) { (&Shop{bank}).register(e) },
				Act: func(ctx context.Context, e *weirtest.Engine) error {
					_, err := weir.Start(ctx, e, Sell, "order-7", Purchase{ID: "order-7", Cents: 1250})
					return err
				},
			}
		})
	}
}

// ExampleNew is a test of a run that waits for two weeks. In full:
// TestSellWaitsForTwoWeeks in this file.
func ExampleNew() {
	_ = func(t *testing.T) { // func TestSellWaitsForTwoWeeks(t *testing.T)
		synctest.Test(t, func(t *testing.T) {
			shop := &Shop{newFakeBank(func(string, string) {})}
			e := weirtest.New(t, weir.Config{Owns: []string{"shop"}}, shop.register)
			if _, err := weir.Start(t.Context(), e, Sell, "order-7", Purchase{ID: "order-7"}); err != nil {
				t.Fatal(err)
			}
			e.Settle()
			weirtest.RequireRun(t, e, Sell, "order-7", weirtest.Completed)
			weirtest.RequireSent(t, e, Deliver)
		})
	}
}
