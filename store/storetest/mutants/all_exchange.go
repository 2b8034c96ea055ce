package mutants

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func originators() []Mutant {
	return []Mutant{
		{"gives what comes from elsewhere IDs of its own", "origin/kept", sending(func(m *store.Message) { m.Origin = nil })},
		{"takes what comes again from elsewhere as new", "origin/duplicate", sending(func(m *store.Message) { m.Origin = nil })},
		{"forgets when it was sent elsewhere", "origin/kept", sending(func(m *store.Message) {
			if m.Origin != nil {
				m.Origin = &store.Origin{ID: m.Origin.ID, From: m.Origin.From}
			}
		})},
		{"takes every send of the caller's own as new", "origin/own", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, appendIn: func(c *store.Change) *store.Change {
				for _, m := range c.Sends {
					m.Origin = nil
				}
				return c
			}}
		}},
		{"finds only IDs of its own", "origin/found", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, reader: local{s.Reader(), s.Info().Incarnation}}
		}},
		{"asks since when it was sent elsewhere", "origin/retention", asking(func(r store.Reader) store.Reader { return elsewhere{r} })},
		{"traces without what came from elsewhere", "origin/conversation", asking(func(r store.Reader) store.Reader { return narrow{r} })},
		{"forgets stamps", "stamp/grows", delivering(func(b *store.Batch) {
			for i := range b.Deliveries {
				b.Deliveries[i].Message.Stamp = 0
			}
		})},
	}
}

func arrivers() []Mutant {
	return []Mutant{
		{"keeps no marks", "arrival/again", arriving(func(c *store.Change) { c.Arrival = nil })},
		{"takes every gap for a jump", "arrival/gap", arriving(func(c *store.Change) { c.Arrival.Jump = true })},
		{"takes every gap for a jump", "exchange-walk", arriving(func(c *store.Change) { c.Arrival.Jump = true })},
		{"refuses every gap", "arrival/jump", arriving(func(c *store.Change) { c.Arrival.Jump = false })},
		{"counts no jumps", "arrival/jump", exchanging(func(x store.ExchangeReader) store.ExchangeReader { return jumpless{x} })},
		{"mixes lanes up", "arrival/lanes", arriving(func(c *store.Change) { c.Arrival.Lane = strings.ToLower(c.Arrival.Lane) })},
		{"moves no mark for nothing", "arrival/empty", arriving(func(c *store.Change) {
			if len(c.Sends) == 0 {
				c.Arrival = nil
			}
		})},
		{"moves the mark apart from the sends", "arrival/refused", marking},
		{"does not say how far a lane is", "arrival/again", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, commit: func(ctx context.Context, g *store.Group) error {
				err := s.Commit(ctx, g)
				for _, c := range g.Changes {
					if m, ok := errors.AsType[*store.MisplacedError](c.Err); ok {
						c.Err = &store.MisplacedError{Lane: m.Lane}
					}
				}
				return err
			}}
		}},
		{"ignores arrivals in a transaction of the caller's own", "arrival/own", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, appendIn: func(c *store.Change) *store.Change { c.Arrival = nil; return c }}
		}},
	}
}

func staters() []Mutant {
	keeping := func(keep time.Duration) func(store.Store, *Memory) store.Store {
		return func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, prune: func(r store.Retention) store.Retention { r.Keep = keep; return r }}
		}
	}
	return []Mutant{
		{"takes every state for newer", "state/newer", stating(func(st *store.State, m *Memory) { st.Version += int64(m.count()) << 20 })},
		{"says that every state was applied", "state/newer", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, commit: func(ctx context.Context, g *store.Group) error {
				err := s.Commit(ctx, g)
				for _, c := range g.Changes {
					for i := range c.States {
						c.States[i].Applied = c.Err == nil
					}
				}
				return err
			}}
		}},
		{"takes a tombstone for an empty state", "state/tombstone", stating(func(st *store.State, _ *Memory) { st.Deleted = false })},
		{"dates states by its clock", "state/newer", stating(func(st *store.State, _ *Memory) { st.AsOf = st.AsOf.Add(time.Second) })},
		{"writes states apart from their change", "state/with-change", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, commit: func(ctx context.Context, g *store.Group) error {
				var apart [][]store.State
				for _, c := range g.Changes {
					first := &store.Change{States: slices.Clone(c.States)}
					if err := s.Commit(ctx, &store.Group{Changes: []*store.Change{first}}); err != nil {
						return err
					}
					apart = append(apart, first.States)
				}
				err := s.Commit(ctx, g)
				for i, c := range g.Changes {
					for n := range c.States {
						c.States[n].Applied = apart[i][n].Applied && c.Err == nil
					}
				}
				return err
			}}
		}},
		{"forgets states of the caller's own transaction", "state/own", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, appendIn: func(c *store.Change) *store.Change {
				bad := *c
				bad.States = nil
				return &bad
			}}
		}},
		{"lists the first page again and again", "state/pages", paging(func(q *store.StateQuery) { q.After = "" })},
		{"lists tombstones unasked", "state/pages", paging(func(q *store.StateQuery) { q.Deleted = true })},
		{"counts no tombstone as newest", "state/entities", exchanging(func(x store.ExchangeReader) store.ExchangeReader { return living{x} })},
		{"marks changes by their versions", "state/changes", exchanging(func(x store.ExchangeReader) store.ExchangeReader { return versioned{x} })},
		{"marks changes by their versions", "exchange-walk", exchanging(func(x store.ExchangeReader) store.ExchangeReader { return versioned{x} })},
		{"deletes tombstones that are too young", "state/retention", keeping(0)},
		{"keeps tombstones for ever", "state/retention", keeping(1000 * time.Hour)},
	}
}

func exchangers() []Mutant {
	return []Mutant{
		{"numbers what it found empty", "batch/dense", func(s store.Store, m *Memory) store.Store {
			return &broken{Store: s, claim: func(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
				got, err := s.Claim(ctx, r)
				m.mu.Lock()
				defer m.mu.Unlock()
				if got.Batch == nil {
					m.asked++
				} else {
					got.Batch.No += int64(m.asked)
				}
				return got, err
			}}
		}},
		{"counts its newest batch from elsewhere", "batch/dense", asking(func(r store.Reader) store.Reader { return newestless{r} })},
		{"reverses a batch that is read again", "batch/whole", exchanging(func(x store.ExchangeReader) store.ExchangeReader { return reversing{x} })},
		{"finds batches that are gone", "batch/gone", exchanging(func(x store.ExchangeReader) store.ExchangeReader { return inventing{x} })},
		{"gives each duty once", "duty/one", func(s store.Store, m *Memory) store.Store {
			return &broken{Store: s, claim: func(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
				got, err := s.Claim(ctx, r)
				if m.count() > 1 {
					got.Duties = nil
				}
				return got, err
			}}
		}},
		{"gives duties to anybody", "duty/limits", generous},
		{"gives duties to a process that was lost", "duty/one", generous},
	}
}

func renewers() []Mutant {
	return []Mutant{
		{"only says that it renews", "renew/life", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, operate: func(a store.Act) store.Act { a.DryRun = a.Verb == store.RenewStore; return a }}
		}},
		{"says that it renews what is worked", "renew/conflict", func(s store.Store, _ *Memory) store.Store { return &renewing{Store: s} }},
		{"calls what was sent before a renewal by its new name", "renew/ids", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, reader: renaming{s.Reader(), s}}
		}},
	}
}
