package weirtest_test

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/weirtest"
)

// bank is an outside system as the tests' fakes are: it tells of each charge.
type bank struct {
	world *weirtest.World

	mu      sync.Mutex
	charges map[string]string // by key of the caller, or by order
}

// charge charges, once per key; without a key each time.
func (b *bank) charge(key, order string) string {
	<-time.After(50 * time.Millisecond)
	b.mu.Lock()
	defer b.mu.Unlock()
	if key != "" && b.charges[key] != "" {
		return b.charges[key]
	}
	b.world.Effect("charge", order)
	id := fmt.Sprintf("charge-%d", len(b.charges)+1)
	b.charges[cmp.Or(key, order)] = id
	return id
}

// find is an order's charge; empty if there is none.
func (b *bank) find(order string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.charges[order]
}

// mark notes that something is done; false if it was noted before.
func (b *bank) mark(what string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	known := b.charges[what] != ""
	b.charges[what] = "marked"
	return !known
}

// mail is one that takes its time.
func mail(w *weirtest.World, order string) {
	<-time.After(50 * time.Millisecond)
	w.Effect("mail", order)
}

// handling is a scenario of one order, that a handler works.
func handling(handler func(ctx context.Context, m *weir.Message[ticket], b *bank, w *weirtest.World) error) func(*testing.T, *weirtest.World) weirtest.Scenario {
	return func(_ *testing.T, w *weirtest.World) weirtest.Scenario {
		b := &bank{world: w, charges: map[string]string{}}
		return weirtest.Scenario{
			Config: kitchen,
			Register: func(e *weir.Engine) {
				weir.Handle(e, prepare, func(ctx context.Context, m *weir.Message[ticket]) error { return handler(ctx, m, b, w) })
				weir.Subscribe(e, ready, "staff.bring", func(ctx context.Context, m *weir.Message[ticket]) error {
					b.charge(weir.IdempotencyKey(ctx), "brought "+m.Body.Table)
					return nil
				}, weir.FromEarliest)
			},
			Act: func(ctx context.Context, e *weirtest.Engine) error {
				return weir.Send(ctx, e, prepare, ticket{Table: "7"}, weir.Dedup("order-7"))
			},
		}
	}
}

func TestCrashesOfHandlers(t *testing.T) {
	for _, c := range []struct {
		name    string
		handler func(ctx context.Context, m *weir.Message[ticket], b *bank, w *weirtest.World) error
		want    []string
	}{
		{"right", func(ctx context.Context, m *weir.Message[ticket], b *bank, w *weirtest.World) error {
			b.charge(weir.IdempotencyKey(ctx), m.Body.Table)
			return weir.Publish(ctx, m, ready, m.Body)
		}, nil},
		{"an effect that repeats", func(ctx context.Context, m *weir.Message[ticket], b *bank, w *weirtest.World) error {
			b.charge("", m.Body.Table)
			return weir.Publish(ctx, m, ready, m.Body)
		}, []string{"charge 7 happened 2 times with each message delivered twice, with a crash before commit "}},
		{"an effect that nobody waits for", func(ctx context.Context, m *weir.Message[ticket], b *bank, w *weirtest.World) error {
			go mail(w, m.Body.Table)
			return weir.Publish(ctx, m, ready, m.Body)
		}, []string{
			"mail 7 happened 2 times with each message delivered twice",
			"mail 7 did not happen with a crash after commit 3 (kitchen.prepare-food of 7 acknowledged, kitchen.food-ready sent)",
		}},
		{"a mark before the deed", func(ctx context.Context, m *weir.Message[ticket], b *bank, w *weirtest.World) error {
			if b.mark(m.ID) {
				mail(w, m.Body.Table)
			}
			return weir.Publish(ctx, m, ready, m.Body)
		}, []string{"mail 7 did not happen with a crash before effect 1 (mail 7)"}},
		{"an effect in a transaction", func(ctx context.Context, m *weir.Message[ticket], b *bank, w *weirtest.World) error {
			m.OnCommit(func(context.Context, weir.Tx) error {
				w.Effect("mail", m.Body.Table)
				return nil
			})
			return weir.Publish(ctx, m, ready, m.Body)
		}, []string{"mail 7 happened 2 times with a crash within commit "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			report := weirtest.CrashReport(t, handling(c.handler))
			t.Log(report)
			if len(report.Faults) != len(c.want) {
				t.Fatalf("%d faults, want %d", len(report.Faults), len(c.want))
			}
			for i, want := range c.want {
				if got := report.Faults[i].String(); !strings.HasPrefix(got, want) {
					t.Errorf("fault %q, want %q", got, want)
				}
			}
		})
	}
}
