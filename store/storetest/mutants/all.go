package mutants

import (
	"context"
	"slices"
	"time"

	"github.com/weir-go/weir/store"
)

// All lists the mutants.
func All() []Mutant {
	return slices.Concat(writers(), claimers(), settlers(), keepers(),
		originators(), arrivers(), drainers(), staters(), exchangers(), renewers(),
		runWriters(), runCounters(), runWaiters(), runClaimers(), runKeepers())
}

func writers() []Mutant {
	return []Mutant{
		{"drops the second half of a group", "group/order", halving},
		{"commits a change's sends apart from its settlements", "group/sends-with-settlement", splitting},
		{"commits a change's sends apart from its closures", "group/all-or-nothing", splitting},
		{"lets no failing closure refuse its change", "closure/fails", changing(func(c *store.Change, _ *Memory) {
			for i, f := range c.Closures {
				c.Closures[i] = func(ctx context.Context, tx store.Tx) error { _ = f(ctx, tx); return nil }
			}
		})},
		{"stops for what a closure wrote", "closure/fails-at-commit", stopping},
		{"forgets closures", "closure/with-ack", changing(func(c *store.Change, _ *Memory) { c.Closures = nil })},
		{"runs closures twice", "closure/many-fail", changing(func(c *store.Change, _ *Memory) {
			c.Closures = slices.Concat(c.Closures, c.Closures)
		})},
		{"loses headers", "append/visible", sending(func(m *store.Message) { m.Headers = nil })},
		{"cuts bodies at a NUL", "append/opaque", sending(func(m *store.Message) {
			if i := slices.Index(m.Body, 0); i >= 0 {
				m.Body = m.Body[:i]
			}
		})},
		{"forgets causes", "trace/conversation", sending(func(m *store.Message) { m.Cause, m.Correlation = "", "" })},
		{"delivers delayed messages at once", "due/delay", sending(func(m *store.Message) { m.Due = time.Time{} })},
		{"takes every send as new", "dedup/same-body", sending(func(m *store.Message) { m.Dedup = "" })},
		{"deduplicates for ever", "dedup/expires", sending(func(m *store.Message) { m.DedupFor *= 1000 })},
		{"treats best-effort sends like others", "capacity/best-effort", sending(func(m *store.Message) { m.BestEffort = false })},
		{"admits sends beyond the capacity", "capacity/exact", changing(func(c *store.Change, _ *Memory) { c.Outside = false })},
		{"admits sends beyond the capacity", "walk", changing(func(c *store.Change, _ *Memory) { c.Outside = false })},
		{"refuses what leaves with a settlement", "capacity/inside", changing(func(c *store.Change, _ *Memory) { c.Outside = true })},
	}
}

func claimers() []Mutant {
	return []Mutant{
		{"reverses a batch", "claim/once", delivering(func(b *store.Batch) { slices.Reverse(b.Deliveries) })},
		{"reverses a batch", "walk", delivering(func(b *store.Batch) { slices.Reverse(b.Deliveries) })},
		{"hands out the last batch twice", "claim/once", repeating},
		{"hands out the last batch twice", "walk", repeating},
		{"loses the last message of a batch", "claim/once", delivering(func(b *store.Batch) { b.Deliveries = b.Deliveries[:len(b.Deliveries)-1] })},
		{"never says more", "claim/more", claiming(func(c *store.Claimed, _ store.ClaimRequest) { c.More = false })},
		{"never says when the next is due", "due/next", claiming(func(c *store.Claimed, _ store.ClaimRequest) { c.NextDue = time.Time{} })},
		{"never suspects", "suspect/crash", delivering(func(b *store.Batch) { b.Suspect = false })},
		{"suspects what was handed back", "suspect/crash", delivering(func(b *store.Batch) { b.Suspect = b.Epoch > 1 })},
		{"forgets crashes", "suspect/lone", delivering(func(b *store.Batch) {
			for i := range b.Deliveries {
				b.Deliveries[i].Crashes = 0
			}
		})},
		{"forgets attempts", "due/retry", delivering(func(b *store.Batch) {
			for i := range b.Deliveries {
				b.Deliveries[i].Attempt = 1
			}
		})},
		{"numbers what is left of a batch anew", "lease/abandoned", delivering(func(b *store.Batch) {
			for i := range b.Deliveries {
				b.Deliveries[i].Index = i
			}
		})},
		{"gives fresh messages when asked for abandoned ones", "lease/abandoned-only", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, claim: func(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
				r.Abandoned = false
				return s.Claim(ctx, r)
			}}
		}},
		{"takes more than it was asked for", "due/max", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, claim: func(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
				r.Max = min(r.Max+1, store.MaxBatch)
				return s.Claim(ctx, r)
			}}
		}},
		{"answers eager from memory, without a lease", "eager/same", guessing},
		{"answers eager past a backlog", "eager/behind-backlog", guessing},
		{"answers eager with a blocked key", "eager/keys", guessing},
		{"starts every subscription at the earliest", "place/now-or-earliest", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, declare: func(queues []store.Queue) []store.Queue {
				for i := range queues {
					queues[i].FromEarliest = true
				}
				return queues
			}}
		}},
	}
}

func settlers() []Mutant {
	newest := settling(func(s *store.Settlement, m *Memory) { s.Batch.Epoch = m.epoch(s.Batch) })
	unkeyed := settling(func(s *store.Settlement, _ *Memory) { s.Key = "" })
	return []Mutant{
		{"ignores epochs", "fence/older-epoch", newest},
		{"ignores epochs of what was handed back", "fence/handed-back", newest},
		{"ignores epochs", "walk", newest},
		{"says that a refused settlement was written", "fence/settled", forgiving},
		{"ignores when a retry is due", "due/retry", settling(func(s *store.Settlement, _ *Memory) { s.Due = time.Time{} })},
		{"counts what is not yet possible as failed", "due/not-yet", settling(func(s *store.Settlement, _ *Memory) {
			if s.Verdict == store.NotYet {
				s.Verdict = store.Retry
			}
		})},
		{"lets followers go past a failed message", "keys/retry-holds", settling(func(s *store.Settlement, _ *Memory) {
			if s.Verdict == store.Behind {
				s.Verdict, s.Due, s.Key = store.NotYet, time.Time{}, ""
			}
		})},
		{"forgets the key of a failed message", "keys/retry-holds", unkeyed},
		{"forgets the key of a dead message", "dead/blocks", unkeyed},
		{"forgets the key of a failed message", "walk", unkeyed},
		{"takes the dead for discarded", "dead/letter", settling(func(s *store.Settlement, _ *Memory) {
			if s.Verdict == store.Dead {
				s.Verdict = store.Discarded
			}
		})},
		{"forgets the reason of a death", "dead/letter", settling(func(s *store.Settlement, _ *Memory) { s.Reason = "" })},
		{"forgets that a message was quarantined", "suspect/quarantined", settling(func(s *store.Settlement, _ *Memory) { s.Quarantined = false })},
		{"forgets starts", "suspect/lone", changing(func(c *store.Change, _ *Memory) { c.Starts = nil })},
		{"takes every start for a lone one", "suspect/not-alone", changing(func(c *store.Change, _ *Memory) {
			c.Starts = slices.Clone(c.Starts)
			for i := range c.Starts {
				c.Starts[i].Lone = true
			}
		})},
		{"records only lone starts", "suspect/no-longer-alone", changing(func(c *store.Change, _ *Memory) {
			c.Starts = slices.DeleteFunc(slices.Clone(c.Starts), func(s store.Start) bool { return !s.Lone })
		})},
		{"blocks where it should skip", "dead/skips", declaring(store.Block)},
		{"blocks where it should park", "dead/parks", declaring(store.Block)},
		{"skips where it should block", "dead/blocks", declaring(store.Skip)},
		{"skips where it should block", "walk", declaring(store.Skip)},
	}
}

func declaring(o store.OnDead) func(store.Store, *Memory) store.Store {
	return func(s store.Store, _ *Memory) store.Store {
		return &broken{Store: s, declare: func(queues []store.Queue) []store.Queue {
			for i := range queues {
				queues[i].OnDead = o
			}
			return queues
		}}
	}
}

func keepers() []Mutant {
	signed := func(s store.Store, _ *Memory) store.Store {
		return &broken{Store: s, operate: func(a store.Act) store.Act {
			if a.By == "" {
				a.By = "somebody"
			}
			if a.Why == "" {
				a.Why = "somehow"
			}
			return a
		}}
	}
	return []Mutant{
		{"hands nothing back", "suspect/crash", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, end: func(context.Context) error { return s.Close() }}
		}},
		{"lets anybody act without a reason", "operate/why", signed},
		{"does what it should only count", "operate/dry-run", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, operate: func(a store.Act) store.Act { a.DryRun = false; return a }}
		}},
		{"forgets a person's edit", "operate/edit", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, operate: func(a store.Act) store.Act { a.Body, a.Headers = nil, nil; return a }}
		}},
		{"retries what does not match", "operate/bulk", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, operate: func(a store.Act) store.Act { a.Matching = ""; return a }}
		}},
		{"deletes what is too young", "retention/age", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, prune: func(r store.Retention) store.Retention { r.Keep = 0; return r }}
		}},
		{"counts the dead as depth", "dead/depth", asking(func(r store.Reader) store.Reader { return miscounting{r} })},
		{"calls everything waiting", "story/states", asking(func(r store.Reader) store.Reader { return vague{r} })},
		{"traces only the key", "trace/conversation", asking(func(r store.Reader) store.Reader { return narrow{r} })},
	}
}
