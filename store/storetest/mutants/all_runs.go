package mutants

import (
	"context"
	"slices"
	"time"

	"github.com/weir-go/weir/store"
)

func runWriters() []Mutant {
	newest := updating(func(u *store.RunUpdate, m *Memory) { u.Epoch = m.run(u.RunRef) })
	return []Mutant{
		{"compares no inputs", "run-start/input", beginning(func(r *store.RunStart, m *Memory) { r.Version = m.count() })},
		{"compares no parents", "run-start/parent", beginning(func(r *store.RunStart, _ *Memory) { r.Parent, r.ParentStep = 0, 0 })},
		{"starts a run for each start", "run-start/once", beginning(func(r *store.RunStart, m *Memory) { r.Workflow += string(rune('a' + m.count()%20)) })},
		{"leases nothing that it starts", "run-start/lease", beginning(func(r *store.RunStart, _ *Memory) { r.Lease = false })},
		{"leases all that it starts", "run-claim/once", beginning(func(r *store.RunStart, _ *Memory) { r.Lease = true })},
		{"begins delayed runs at once", "run-start/at", beginning(func(r *store.RunStart, _ *Memory) { r.At = time.Time{} })},
		{"forgets deadlines", "run-claim/whole", beginning(func(r *store.RunStart, _ *Memory) { r.Deadline = time.Time{} })},
		{"forgets what caused a run", "run-claim/whole", beginning(func(r *store.RunStart, _ *Memory) { r.Cause, r.Correlation = "", "" })},
		{"says nothing of what existed", "run-start/once", answering(func(g *store.Group) {
			for _, c := range g.Changes {
				for _, r := range c.Runs {
					r.Existed = false
				}
			}
		})},
		{"starts what a refused change starts", "run-start/refused", startsApart},
		{"starts what a refused settlement starts", "run-start/settles", startsApart},
		{"forgets what AppendIn starts", "run-start/own", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, appendIn: func(c *store.Change) *store.Change { return &store.Change{Sends: c.Sends} }}
		}},
		{"ignores epochs of runs", "run-fence/older-epoch", newest},
		{"ignores epochs of runs", "run-walk", newest},
		{"writes what is beside a refused update", "run-fence/older-epoch", updatesLast},
		{"writes what is beside an update of another's run", "run-fence/unleased", updatesLast},
		{"writes records before the closures", "run-update/closure-value", updating(func(u *store.RunUpdate, _ *Memory) {
			u.Records = slices.Clone(u.Records)
			for i, r := range u.Records {
				early := *r
				u.Records[i] = &early
			}
		})},
		{"stops for what the closure of an update wrote", "run-update/fails-at-commit", stopping},
		{"has no room for a run of many records", "run-update/records", updating(func(u *store.RunUpdate, _ *Memory) {
			u.Records = slices.Clone(u.Records)
			for i, r := range u.Records {
				low := *r
				low.N &= 1<<14 - 1
				u.Records[i] = &low
			}
		})},
		{"forgets failed attempts", "run-update/attempts", updating(func(u *store.RunUpdate, _ *Memory) { u.Attempts = nil })},
		{"loses results", "run-update/ended", updating(func(u *store.RunUpdate, _ *Memory) { u.Result = nil })},
		{"calls every end a failure", "run-update/ended", updating(func(u *store.RunUpdate, _ *Memory) {
			if u.Verdict == store.Ended {
				u.Outcome = store.Failed
			}
		})},
		{"lets parked runs wait", "run-update/parked", updating(unparked)},
		{"wakes parked runs for any mail", "run-mail/parked", updating(unparked)},
		{"never clears crashes", "run-crash/sober", updating(func(u *store.RunUpdate, _ *Memory) { u.Sober = false })},
		{"clears crashes with each update", "run-crash/sober", updating(func(u *store.RunUpdate, _ *Memory) { u.Sober = true })},
		{"clears crashes with each update", "run-walk", updating(func(u *store.RunUpdate, _ *Memory) { u.Sober = true })},
	}
}

func unparked(u *store.RunUpdate, _ *Memory) {
	if u.Verdict == store.Parked {
		u.Verdict, u.Wake = store.Waiting, time.Time{}
	}
}

func runCounters() []Mutant {
	unbounded := changing(func(c *store.Change, _ *Memory) { c.Outside = false })
	return []Mutant{
		{"admits any number of runs", "run-capacity/exact", unbounded},
		{"admits any number of runs", "run-capacity/concurrent", unbounded},
		{"counts runs that ended", "run-capacity/exact", updating(func(u *store.RunUpdate, _ *Memory) {
			if u.Verdict == store.Ended {
				u.Verdict = store.Parked
			}
		})},
		{"counts no runs that are parked", "run-capacity/counts", updating(func(u *store.RunUpdate, _ *Memory) {
			if u.Verdict == store.Parked {
				u.Verdict, u.Outcome = store.Ended, store.Failed
			}
		})},
		{"refuses what leaves with an update", "run-capacity/inside", changing(func(c *store.Change, _ *Memory) { c.Outside = true })},
		{"takes a run that exists for another", "run-capacity/again", beginning(func(r *store.RunStart, m *Memory) { r.ID += string(rune('a' + m.count()%20)) })},
		{"counts the runs of all workflows together", "run-capacity/several", beginning(func(r *store.RunStart, _ *Memory) {
			r.Workflow, r.ID, r.Input = "orders.fulfil", r.Workflow+r.ID, nil
		})},
		{"forgets what AppendIn starts", "run-capacity/own", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, appendIn: func(c *store.Change) *store.Change { return &store.Change{Sends: c.Sends} }}
		}},
		{"forgets bounds", "run-capacity/unbounded", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, begin: func(p *store.Process) { p.Limits = nil }}
		}},
	}
}

func runWaiters() []Mutant {
	unfreed := updating(func(u *store.RunUpdate, _ *Memory) {
		for i, a := range u.Locks {
			if a.Release {
				u.Locks[i].Name = "nobody's"
			}
		}
	})
	return []Mutant{
		{"does not look back", "run-wait/earlier", awaiting(func(w *store.Wait, m *Memory) { w.After = max(w.After, m.newestPos()) })},
		{"does not look back", "run-walk", awaiting(func(w *store.Wait, m *Memory) { w.After = max(w.After, m.newestPos()) })},
		{"looks back for ever", "run-wait/earlier", awaiting(func(w *store.Wait, _ *Memory) { w.Since = time.Time{} })},
		{"looks back past what came last", "run-wait/lowest", awaiting(func(w *store.Wait, _ *Memory) { w.After = 0 })},
		{"takes signals from runs that have not ended", "run-wait/signal-kept", forgetsOld},
		{"keeps signals for ever", "run-wait/signal-kept", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, prune: func(r store.Retention) store.Retention { r.Keep = 10_000 * time.Hour; return r }}
		}},
		{"looks at topics only", "run-wait/later", awaiting(func(w *store.Wait, _ *Memory) { w.Key = "k" })},
		{"takes any reply", "run-wait/reply", awaiting(func(w *store.Wait, _ *Memory) { w.Reply, w.Key = 0, "k" })},
		{"keeps waits that were given up", "run-wait/replaced", updating(func(u *store.RunUpdate, _ *Memory) { u.Unwait = nil })},
		{"keeps waits that were given up", "run-walk", updating(func(u *store.RunUpdate, _ *Memory) { u.Unwait = nil })},
		{"deletes all mail with each read", "run-mail/read", updating(func(u *store.RunUpdate, _ *Memory) {
			if u.Read > 0 {
				u.Read = 1 << 40
			}
		})},
		{"deletes no mail", "run-mail/read", updating(func(u *store.RunUpdate, _ *Memory) { u.Read = 0 })},
		{"deletes mail that was not read", "run-mail/crash", updating(func(u *store.RunUpdate, _ *Memory) { u.Read = 1 << 40 })},
		{"deletes mail that was not read", "run-walk", updating(func(u *store.RunUpdate, _ *Memory) { u.Read = 1 << 40 })},
		{"never says that there is mail", "run-mail/unread", answering(func(g *store.Group) {
			for _, c := range g.Changes {
				if c.Run != nil {
					c.Run.Unread = false
				}
			}
		})},
		{"forgets when to wake", "run-claim/due", updating(func(u *store.RunUpdate, _ *Memory) { u.Wake = time.Time{} })},
		{"wakes before the time", "run-claim/due", updating(func(u *store.RunUpdate, _ *Memory) { u.Wake = u.Wake.Add(-time.Minute) })},
		{"releases no locks", "run-lock/one", unfreed},
		{"releases no locks", "run-walk", unfreed},
		{"says that every lock was granted", "run-lock/one", answering(func(g *store.Group) {
			for _, c := range g.Changes {
				if c.Run != nil {
					for i := range c.Run.Locks {
						c.Run.Locks[i].Fence = max(c.Run.Locks[i].Fence, 1)
					}
				}
			}
		})},
		{"gives every lock the same fence", "run-lock/fences", answering(func(g *store.Group) {
			for _, c := range g.Changes {
				if c.Run != nil {
					for i := range c.Run.Locks {
						c.Run.Locks[i].Fence = min(c.Run.Locks[i].Fence, 1)
					}
				}
			}
		})},
		{"tells of no workflow that it woke", "run-woken/ready", answering(func(g *store.Group) { g.Woken = nil })},
		{"tells of no workflow that got mail", "run-woken/mail", answering(func(g *store.Group) { g.Woken = nil })},
		{"tells of workflows that it did not wake", "run-woken/nothing", answering(func(g *store.Group) { g.Woken = []string{"orders.fulfil"} })},
	}
}

func runClaimers() []Mutant {
	twice := finding(func(c *store.Claimed, _ store.ClaimRequest, _ *Memory) {
		c.Mail = slices.Concat(c.Mail, c.Mail)
		for _, r := range c.Runs {
			r.Mail = slices.Concat(r.Mail, r.Mail)
		}
	})
	leased := finding(func(c *store.Claimed, r store.ClaimRequest, m *Memory) {
		if len(c.Runs) == 0 && m.lastRun != nil && m.lastRun.Workflow == r.Workflow {
			c.Runs, m.lastRun = []*store.Run{m.lastRun}, nil
		}
	})
	return []Mutant{
		{"claims leased runs", "run-claim/epoch", leased},
		{"claims leased runs", "run-claim/once", leased},
		{"claims leased runs", "run-walk", leased},
		{"loses the last run that it claims", "run-claim/once", finding(func(c *store.Claimed, _ store.ClaimRequest, _ *Memory) {
			c.Runs = c.Runs[:max(0, len(c.Runs)-1)]
		})},
		{"claims the last first", "run-claim/order", finding(func(c *store.Claimed, _ store.ClaimRequest, _ *Memory) { slices.Reverse(c.Runs) })},
		{"takes more runs than asked for", "run-claim/once", asks(func(r *store.ClaimRequest) { r.Max = min(r.Max+1, store.MaxBatch) })},
		{"raises no epoch", "run-claim/epoch", eachRun(func(r *store.Run) { r.Epoch = 1 })},
		{"mixes up records", "run-update/records", eachRun(func(r *store.Run) { slices.Reverse(r.Records) })},
		{"loads all that is ready", "run-claim/bytes", finding(func(c *store.Claimed, _ store.ClaimRequest, _ *Memory) { c.More = false })},
		{"never says that more are ready", "run-claim/more", finding(func(c *store.Claimed, _ store.ClaimRequest, _ *Memory) { c.More = false })},
		{"never says when the next is due", "run-claim/next-due", finding(func(c *store.Claimed, _ store.ClaimRequest, _ *Memory) { c.NextDue = time.Time{} })},
		{"forgets crashes of runs", "run-crash/counted", eachRun(func(r *store.Run) { r.Crashes = 0 })},
		{"counts a crash after each end", "run-crash/handed-back", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, end: func(context.Context) error { return s.Close() }}
		}},
		{"gives runs with crashes to everybody", "run-crash/apart", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, claim: func(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
				got, err := s.Claim(ctx, r)
				if err != nil || r.Workflow == "" || r.Suspects || len(got.Runs) == r.Max {
					return got, err
				}
				r.Suspects, r.Max = true, r.Max-len(got.Runs)
				more, err := s.Claim(ctx, r)
				got.Runs = append(got.Runs, more.Runs...)
				return got, err
			}}
		}},
		{"does not tell how many have crashes", "run-crash/apart", finding(func(c *store.Claimed, _ store.ClaimRequest, _ *Memory) { c.Suspects = 0 })},
		{"claims those with fewest crashes first", "run-crash/order", finding(func(c *store.Claimed, r store.ClaimRequest, _ *Memory) {
			if r.Suspects {
				slices.Reverse(c.Runs)
			}
		})},
		{"gives mail twice", "run-wait/once", twice},
		{"gives mail twice", "run-walk", twice},
		{"gives leased runs no mail", "run-mail/leased", finding(func(c *store.Claimed, _ store.ClaimRequest, _ *Memory) { c.Mail = nil })},
		{"gives mail again that was given", "run-mail/leased", asks(func(r *store.ClaimRequest) { r.MailAfter = 0 })},
		{"gives mail of children without how they ended", "run-child/ends", eachRun(func(r *store.Run) {
			for i := range r.Mail {
				r.Mail[i].Child = nil
			}
		})},
	}
}

func runKeepers() []Mutant {
	acting := func(spoil func(a *store.Act)) func(store.Store, *Memory) store.Store {
		return func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, operate: func(a store.Act) store.Act { spoil(&a); return a }}
		}
	}
	return []Mutant{
		{"retries what should be abandoned", "run-operate/decide", acting(func(a *store.Act) {
			if a.Verb == store.AbandonRun {
				a.Verb = store.RetryRun
			}
		})},
		{"cancels what it should decide on", "run-operate/conflict", acting(func(a *store.Act) {
			if a.Verb == store.SkipRun {
				a.Verb = store.CancelRun
			}
		})},
		{"forgets the value that a person gave", "run-operate/decide", acting(func(a *store.Act) { a.Body = nil })},
		{"forgets that a person said it failed", "run-operate/decide", acting(func(a *store.Act) { a.Failed = false })},
		{"forgets which step was meant", "run-operate/which-step", acting(func(a *store.Act) { a.Step = "" })},
		{"lets anybody act on runs", "run-operate/audit", acting(func(a *store.Act) {
			if a.By == "" {
				a.By = "somebody"
			}
		})},
		{"deletes runs that are too young", "run-keep/age", func(s store.Store, _ *Memory) store.Store {
			return &broken{Store: s, prune: func(r store.Retention) store.Retention { r.Keep = 0; return r }}
		}},
		{"calls all runs waiting", "run-read/states", telling(func(r store.RunReader) store.RunReader { return quiet{r} })},
		{"calls all runs waiting", "run-walk", telling(func(r store.RunReader) store.RunReader { return quiet{r} })},
		{"tells of the first workflow that has the ID", "run-read/ambiguous", telling(func(r store.RunReader) store.RunReader { return hasty{r} })},
		{"does not tell of late replies", "run-read/late", telling(func(r store.RunReader) store.RunReader { return forgetful{r} })},
		{"does not tell of children", "run-read/story", telling(func(r store.RunReader) store.RunReader { return forgetful{r} })},
		{"lists locks under one fence", "run-lock/fences", telling(func(r store.RunReader) store.RunReader { return level{r} })},
		{"lists locks under one fence", "run-walk", telling(func(r store.RunReader) store.RunReader { return level{r} })},
		{"says that nothing ends", "run-update/ended", telling(func(r store.RunReader) store.RunReader { return endless{r} })},
		{"counts from the start how long runs are ready", "run-read/since", telling(func(r store.RunReader) store.RunReader { return impatient{r} })},
		{"counts the ended with the waiting", "run-read/counts", telling(func(r store.RunReader) store.RunReader { return crowded{r} })},
	}
}
