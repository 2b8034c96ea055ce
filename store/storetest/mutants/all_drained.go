package mutants

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/weir-go/weir/store"
)

// draining breaks each word about a lane.
func draining(spoil func(d *store.Drained)) func(store.Store, *Memory) store.Store {
	return changing(func(c *store.Change, _ *Memory) {
		c.Drained = slices.Clone(c.Drained)
		for i := range c.Drained {
			spoil(&c.Drained[i])
		}
	})
}

func drainers() []Mutant {
	keeping := func(keep time.Duration) func(store.Store, *Memory) store.Store {
		return func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, prune: func(r store.Retention) store.Retention { r.Keep = keep; return r }}
		}
	}
	acting := func(verb store.Verb, spoil func(a *store.Act)) func(store.Store, *Memory) store.Store {
		return func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, operate: func(a store.Act) store.Act {
				if a.Verb == verb {
					spoil(&a)
				}
				return a
			}}
		}
	}
	return []Mutant{
		{"deletes marks too soon", "drained/pruned", keeping(0)},
		{"keeps marks for ever", "drained/pruned", keeping(1000 * time.Hour)},
		{"does not hear that lanes are drained", "drained/pruned", changing(func(c *store.Change, _ *Memory) { c.Drained = nil })},
		{"takes every lane that is spoken of for drained", "drained/place", draining(func(d *store.Drained) { d.Over = true })},
		{"takes a lane for drained that has moved", "drained/again", claimingDrained},
		{"takes a lane that is over for one that is not drained", "drained/over", draining(func(d *store.Drained) { d.Over = false })},
		{"takes any number of drained lanes", "drained/limits", changing(func(c *store.Change, _ *Memory) {
			c.Drained = c.Drained[:min(len(c.Drained), store.MaxDrained)]
		})},
		{"hears of drained lanes in a transaction of the caller's own", "drained/limits", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, appendIn: func(c *store.Change) *store.Change { c.Drained = nil; return c }}
		}},
		{"calls lanes that are too many misplaced", "drained/most", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, commit: func(ctx context.Context, g *store.Group) error {
				err := s.Commit(ctx, g)
				for _, c := range g.Changes {
					if e, ok := errors.AsType[*store.LanesError](c.Err); ok {
						c.Err = &store.MisplacedError{Lane: e.Lane}
					}
				}
				return err
			}}
		}},
		{"sees nothing of lanes that are too many", "drained/most", asking(func(r store.Reader) store.Reader { return blind{r} })},
		{"forgets another lane than it is asked to", "drained/forget", acting(store.ForgetLane, func(a *store.Act) {
			if a.Lane == "a" {
				a.Lane = "b"
			}
		})},
		{"writes wishes that nobody made", "drained/resync", acting(store.ResyncReplica, func(a *store.Act) {
			if a.State != nil {
				st := *a.State
				st.Version += 10
				a.State = &st
			}
		})},
		{"keeps wishes out of the audit", "drained/resync", func(s store.Store, _ *Memory) store.Store { return &wishing{s} }},
	}
}

// claimingDrained says of each lane that moves, once it has, that it is drained.
func claimingDrained(s store.Store, _ *Memory) store.Store {
	return &broken{Store: s, commit: func(ctx context.Context, g *store.Group) error {
		err := s.Commit(ctx, g)
		for _, c := range g.Changes {
			if c.Arrival != nil && c.Err == nil && err == nil {
				word := &store.Change{Drained: []store.Drained{{Lane: c.Arrival.Lane, Over: true}}}
				err = s.Commit(ctx, &store.Group{Changes: []*store.Change{word}})
			}
		}
		return err
	}}
}

// wishing writes a person's wish as any state.
type wishing struct{ store.Store }

func (w *wishing) Operate(ctx context.Context, a store.Act) (store.Acted, error) {
	if a.Verb != store.ResyncReplica || a.State == nil || a.ID == "" {
		return w.Store.Operate(ctx, a)
	}
	c := &store.Change{States: []store.State{*a.State}}
	if err := w.Store.Commit(ctx, &store.Group{Changes: []*store.Change{c}}); err != nil {
		return store.Acted{}, err
	}
	if c.Err == nil && !c.States[0].Applied {
		c.Err = store.ErrConflict
	}
	return store.Acted{Count: 1}, c.Err
}

// blind finds nothing wrong.
type blind struct{ store.Reader }

func (blind) Check(context.Context) ([]store.Finding, error) { return nil, nil }
