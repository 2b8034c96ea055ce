package mutants

import (
	"context"
	"errors"
	"slices"

	"github.com/weir-go/weir/store"
)

// sawRuns remembers what is known of runs after a commit or a claim.
func (m *Memory) sawRuns(g *store.Group, got store.Claimed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range got.Runs {
		m.runs[r.No] = r.Epoch
		m.lastRun = r
	}
	if g == nil {
		return
	}
	for _, c := range g.Changes {
		for _, r := range c.Runs {
			if c.Err == nil && r.Epoch > 0 {
				m.runs[r.No] = r.Epoch
			}
		}
		for _, s := range c.Sends {
			m.newest = max(m.newest, s.Pos)
		}
	}
}

// run is a run's newest epoch.
func (m *Memory) run(r store.RunRef) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.runs[r.No]; ok {
		return e
	}
	return r.Epoch
}

// count counts calls of itself.
func (m *Memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	return m.asked
}

// newestPos is the highest position of a message that was sent here.
func (m *Memory) newestPos() store.Pos {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.newest
}

// watching is a store that remembers what goes by of runs; after breaks the group's answer.
func watching(s store.Store, m *Memory, after func(g *store.Group)) *broken {
	return &broken{
		Store: s,
		commit: func(ctx context.Context, g *store.Group) error {
			err := s.Commit(ctx, g)
			m.sawRuns(g, store.Claimed{})
			after(g)
			return err
		},
		claim: func(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
			got, err := s.Claim(ctx, r)
			m.sawRuns(nil, got)
			return got, err
		},
	}
}

// answering breaks what a commit says.
func answering(spoil func(g *store.Group)) func(store.Store, *Memory) store.Store {
	return func(s store.Store, m *Memory) store.Store { return watching(s, m, spoil) }
}

// updating breaks a copy of each update, and gives its holder what the copy got.
func updating(spoil func(u *store.RunUpdate, m *Memory)) func(store.Store, *Memory) store.Store {
	return func(s store.Store, m *Memory) store.Store {
		b := watching(s, m, func(*store.Group) {})
		right := b.commit
		b.commit = func(ctx context.Context, g *store.Group) error {
			whole := make([]*store.RunUpdate, len(g.Changes))
			for i, c := range g.Changes {
				if c.Run != nil {
					whole[i], c.Run = c.Run, copyOf(c.Run)
					spoil(c.Run, m)
				}
			}
			err := right(ctx, g)
			for i, c := range g.Changes {
				if u := whole[i]; u != nil {
					u.Unread = c.Run.Unread
					for k := range c.Run.Locks {
						u.Locks[k].Fence = c.Run.Locks[k].Fence
					}
					c.Run = u
				}
			}
			return err
		}
		return b
	}
}

// copyOf copies an update down to its records.
func copyOf(u *store.RunUpdate) *store.RunUpdate {
	bad := *u
	bad.Waits, bad.Locks = slices.Clone(u.Waits), slices.Clone(u.Locks)
	return &bad
}

// awaiting breaks each wait.
func awaiting(spoil func(w *store.Wait, m *Memory)) func(store.Store, *Memory) store.Store {
	return updating(func(u *store.RunUpdate, m *Memory) {
		for i := range u.Waits {
			spoil(&u.Waits[i], m)
		}
	})
}

// forgetsOld has no wait met by what was sent before something was pruned.
func forgetsOld(s store.Store, m *Memory) store.Store {
	b := awaiting(func(w *store.Wait, m *Memory) {
		m.mu.Lock()
		defer m.mu.Unlock()
		w.After = max(w.After, m.pruned)
	})(s, m).(*broken)
	b.prune = func(r store.Retention) store.Retention {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.pruned = m.newest
		return r
	}
	return b
}

// beginning breaks a copy of each start, and tells what became of it.
func beginning(spoil func(r *store.RunStart, m *Memory)) func(store.Store, *Memory) store.Store {
	return func(s store.Store, m *Memory) store.Store {
		b := watching(s, m, func(*store.Group) {})
		b.commit = func(ctx context.Context, g *store.Group) error {
			whole := make([][]*store.RunStart, len(g.Changes))
			for i, c := range g.Changes {
				whole[i], c.Runs = c.Runs, nil
				for _, r := range whole[i] {
					bad := *r
					spoil(&bad, m)
					c.Runs = append(c.Runs, &bad)
				}
			}
			err := s.Commit(ctx, g)
			for i, c := range g.Changes {
				for n, r := range whole[i] {
					bad := c.Runs[n]
					r.No, r.Epoch, r.StartedAt, r.Existed = bad.No, bad.Epoch, bad.StartedAt, bad.Existed
				}
				c.Runs = whole[i]
			}
			return err
		}
		return b
	}
}

// startsApart commits what a change starts before the rest of it.
func startsApart(s store.Store, _ *Memory) store.Store {
	return apart(s, func(c *store.Change) (first, rest *store.Change) {
		rest = &store.Change{Settle: c.Settle, Sends: c.Sends, Outside: c.Outside, Run: c.Run, Closures: c.Closures}
		return &store.Change{Runs: c.Runs}, rest
	})
}

// updatesLast commits an update after the rest of its change.
func updatesLast(s store.Store, _ *Memory) store.Store {
	return apart(s, func(c *store.Change) (first, rest *store.Change) {
		if c.Run == nil {
			return c, &store.Change{}
		}
		first = &store.Change{Settle: c.Settle, Sends: c.Sends, Outside: c.Outside, Runs: c.Runs, Closures: c.Closures}
		return first, &store.Change{Run: c.Run}
	})
}

// apart commits each change in two.
func apart(s store.Store, split func(c *store.Change) (first, rest *store.Change)) store.Store {
	return &broken{Store: s, commit: func(ctx context.Context, g *store.Group) error {
		for _, c := range g.Changes {
			first, rest := split(c)
			for _, part := range []*store.Change{first, rest} {
				if err := s.Commit(ctx, &store.Group{Changes: []*store.Change{part}}); err != nil {
					return err
				}
			}
			c.Err = errors.Join(first.Err, rest.Err)
		}
		return nil
	}}
}

// finding breaks what a claim of runs found.
func finding(spoil func(c *store.Claimed, r store.ClaimRequest, m *Memory)) func(store.Store, *Memory) store.Store {
	return func(s store.Store, m *Memory) store.Store {
		b := watching(s, m, func(*store.Group) {})
		b.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
			got, err := s.Claim(ctx, r)
			if err == nil && r.Workflow != "" {
				spoil(&got, r, m)
				m.sawRuns(nil, got)
			}
			return got, err
		}
		return b
	}
}

// eachRun breaks each run that a claim found.
func eachRun(spoil func(r *store.Run)) func(store.Store, *Memory) store.Store {
	return finding(func(c *store.Claimed, _ store.ClaimRequest, _ *Memory) {
		for _, r := range c.Runs {
			spoil(r)
		}
	})
}

// asks breaks each request for runs.
func asks(spoil func(r *store.ClaimRequest)) func(store.Store, *Memory) store.Store {
	return func(s store.Store, _ *Memory) store.Store {
		return &broken{Store: s, claim: func(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
			spoil(&r)
			return s.Claim(ctx, r)
		}}
	}
}

// telling breaks the answers about runs.
func telling(spoil func(r store.RunReader) store.RunReader) func(store.Store, *Memory) store.Store {
	return asking(func(r store.Reader) store.Reader { return &teller{r, spoil(r.Runs())} })
}

type teller struct {
	store.Reader
	runs store.RunReader
}

func (t *teller) Runs() store.RunReader { return t.runs }

// quiet is a reader for whom all runs wait.
type quiet struct{ store.RunReader }

func (r quiet) List(ctx context.Context, q store.RunQuery) ([]store.RunRow, error) {
	rows, err := r.RunReader.List(ctx, q)
	for i := range rows {
		rows[i].State = store.RunWaiting
	}
	return rows, err
}

// hasty is a reader that tells of the first workflow that has the ID.
type hasty struct{ store.RunReader }

func (r hasty) Story(ctx context.Context, workflow, id string) (store.RunStory, error) {
	y, err := r.RunReader.Story(ctx, workflow, id)
	if e, ok := errors.AsType[*store.AmbiguousError](err); ok {
		return r.RunReader.Story(ctx, e.Workflows[0], id)
	}
	return y, err
}

// forgetful is a reader that does not know of what came late, nor of children.
type forgetful struct{ store.RunReader }

func (r forgetful) Story(ctx context.Context, workflow, id string) (store.RunStory, error) {
	y, err := r.RunReader.Story(ctx, workflow, id)
	y.Late, y.Children = nil, nil
	return y, err
}

// level is a reader for whom all locks have the same fence.
type level struct{ store.RunReader }

func (r level) Locks(ctx context.Context, max int) ([]store.LockRow, error) {
	rows, err := r.RunReader.Locks(ctx, max)
	for i := range rows {
		rows[i].Fence = 1
	}
	return rows, err
}

// endless is a reader for whom nothing ends.
type endless struct{ store.RunReader }

func (r endless) End(ctx context.Context, workflow, id string) (store.RunEnd, error) {
	e, err := r.RunReader.End(ctx, workflow, id)
	e.Outcome = store.Running
	return e, err
}

func (r endless) Ends(ctx context.Context, runs []store.RunNo) ([]store.RunEnd, error) {
	return nil, nil
}

// impatient is a reader that takes the start of a run for when it got ready.
type impatient struct{ store.RunReader }

func (r impatient) Counts(ctx context.Context) ([]store.RunCount, error) {
	all, err := r.RunReader.Counts(ctx)
	for i := range all {
		all[i].Since = all[i].Oldest
	}
	return all, err
}

// crowded is a reader that counts the ended with the waiting.
type crowded struct{ store.RunReader }

func (r crowded) Counts(ctx context.Context) ([]store.RunCount, error) {
	all, err := r.RunReader.Counts(ctx)
	for i := range all {
		if all[i].State == store.RunState(store.Completed.String()) {
			all[i].State = store.RunWaiting
		}
	}
	return all, err
}
