package weirtest_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/weirtest"
)

// till is an outside system that takes money and gives it back, and refuses no duplicate.
type till struct {
	world *weirtest.World

	mu    sync.Mutex
	taken map[string]int
	off   map[string]bool // all is given back, also what is taken later
}

func (s *till) take(_ context.Context, what string) error {
	<-time.After(50 * time.Millisecond) // also when nobody waits any more
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.Effect("charge", what)
	if !s.off[what] {
		s.taken[what]++
		return nil
	}
	s.world.Undo("charge", what)
	return nil
}

func (s *till) giveBack(_ context.Context, what string) error {
	<-time.After(50 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.off[what] = true; s.taken[what] > 0; s.taken[what]-- {
		s.world.Undo("charge", what)
	}
	return nil
}

func (s *till) once(r *weir.Run, what string) error {
	_, err := weir.Once(r, "charge-card",
		func(ctx context.Context) (int, error) { return 1, s.take(ctx, what) },
		func(context.Context) (int, weir.Outcome, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.taken[what] > 0 {
				return 1, weir.Happened, nil
			}
			return 0, weir.NotHappened, nil
		})
	return err
}

// Wherever a run is cancelled, and wherever it crashes then, what is not undone is found.
func TestCancelsEverywhere(t *testing.T) {
	refund := func(r *weir.Run, s *till, what string) {
		weir.Compensate(r, "refund", func(ctx context.Context) error { return s.giveBack(ctx, what) })
	}
	for _, c := range []struct {
		name string
		work func(r *weir.Run, s *till, what string) error
		want []string
	}{
		{"right", func(r *weir.Run, s *till, what string) error {
			refund(r, s, what)
			if err := s.once(r, what); err != nil {
				return err
			}
			weir.Sleep(r, "cool-down", time.Hour)
			return nil
		}, nil},
		{"nothing is undone", func(r *weir.Run, s *till, what string) error {
			if err := s.once(r, what); err != nil {
				return err
			}
			weir.Sleep(r, "cool-down", time.Hour)
			return nil
		}, []string{"charge order-7 happened once and is not undone when cancelled after commit "}},
		{"its compensation comes after its step", func(r *weir.Run, s *till, what string) error {
			if err := weir.Do(r, "charge-card", func(ctx context.Context) error { return s.take(ctx, what) }); err != nil {
				return err
			}
			refund(r, s, what)
			weir.Sleep(r, "cool-down", time.Hour)
			return nil
		}, []string{
			"charge order-7 happened 2 times with a crash before commit 3 (orders.remind order-7: step charge-card recorded",
			"charge order-7 happened once and is not undone with a crash before commit ",
		}},
		{"it is charged again before it is undone", func(r *weir.Run, s *till, what string) error {
			refund(r, s, what)
			if err := weir.Do(r, "charge-card", func(ctx context.Context) error { return s.take(ctx, what) }); err != nil {
				return err
			}
			weir.Sleep(r, "cool-down", time.Hour)
			return nil
		}, []string{"charge order-7 happened 2 times with a crash before commit 3 (orders.remind order-7: step charge-card recorded"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			report := weirtest.CrashReport(t, func(_ *testing.T, w *weirtest.World) weirtest.Scenario {
				s := &till{world: w, taken: map[string]int{}, off: map[string]bool{}}
				return weirtest.Scenario{
					Config: orders,
					Register: func(e *weir.Engine) {
						weir.Register(e, remind, func(r *weir.Run, o order) (weir.None, error) { return weir.None{}, c.work(r, s, o.ID) })
					},
					Act: func(ctx context.Context, e *weirtest.Engine) error {
						_, err := weir.Start(ctx, e, remind, order7.ID, order7)
						return err
					},
					Cancels: true,
				}
			})
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

// One trial of a report can be made alone.
func TestOneCancel(t *testing.T) {
	report := weirtest.CrashReport(t, func(_ *testing.T, w *weirtest.World) weirtest.Scenario {
		return weirtest.Scenario{
			Config: orders,
			Register: func(e *weir.Engine) {
				weir.Register(e, remind, func(r *weir.Run, o order) (weir.None, error) {
					weir.Sleep(r, "cool-down", time.Hour)
					return weir.None{}, nil
				})
			},
			Act: func(ctx context.Context, e *weirtest.Engine) error {
				_, err := weir.Start(ctx, e, remind, order7.ID, order7)
				return err
			},
			Cancels: true, Only: "before commit 3, cancelled after commit 2",
		}
	})
	if len(report.Faults) > 0 || report.Trials != 3 {
		t.Errorf("%s, want 3 trials", report)
	}
}
