package engine

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/weir-go/weir/store"
)

// sky is a store whose commits are each let through by the test, in any order. All else is
// unimplemented.
type sky struct {
	store.Store
	begun chan *aloft
}

// aloft is a commit under way.
type aloft struct {
	changes []*store.Change
	finish  chan struct{}
}

func (y *sky) Commit(_ context.Context, g *store.Group) error {
	a := &aloft{slices.Clone(g.Changes), make(chan struct{})}
	y.begun <- a
	<-a.finish
	return nil
}

// newSky is a committer that may have so many groups in flight, in a bubble of synctest.
func newSky(most int) (*sky, *committer) {
	y := &sky{begun: make(chan *aloft, 10)}
	return y, &committer{st: y, most: most, before: func(*inFlight) {}, after: func(*inFlight, error) {}}
}

// sky's commits under way, now that all callers wait.
func (y *sky) look(t *testing.T, want int) (begun []*aloft) {
	t.Helper()
	synctest.Wait()
	for len(y.begun) > 0 {
		begun = append(begun, <-y.begun)
	}
	if len(begun) != want {
		t.Fatalf("%d groups have begun, want %d", len(begun), want)
	}
	return begun
}

// plainSends is a change that may fly beside others.
func plainSends(n int) *store.Change {
	c := &store.Change{Outside: true}
	for range n {
		c.Sends = append(c.Sends, &store.Message{Topic: "a.cook"})
	}
	return c
}

func keyedSends(n int) *store.Change {
	c := plainSends(n)
	c.Sends[n-1].Key = "table-1"
	return c
}

func settles() *store.Change {
	return &store.Change{Settle: []store.Settlement{{Verdict: store.Done}}}
}

// whatever is not plain, and why it is not.
func unplain() map[string]*store.Change {
	deduplicated, run, start, update, closure := plainSends(besideWeight), plainSends(besideWeight), plainSends(besideWeight), plainSends(besideWeight), plainSends(besideWeight)
	deduplicated.Sends[0].Dedup = "once"
	run.Runs = []*store.RunStart{{}}
	start.Starts = []store.Start{{}}
	update.Run = &store.RunUpdate{}
	closure.Closures = []store.Closure{func(context.Context, store.Tx) error { return nil }}
	state, arrival, origin := plainSends(besideWeight), plainSends(besideWeight), plainSends(besideWeight)
	state.States = []store.State{{}}
	arrival.Arrival = &store.Arrival{}
	origin.Sends[0].Origin = &store.Origin{}
	settling, drained := plainSends(besideWeight), plainSends(besideWeight)
	drained.Drained = []store.Drained{{}}
	settling.Settle = settles().Settle
	return map[string]*store.Change{"a key": keyedSends(besideWeight), "a deduplication key": deduplicated, "a run": run,
		"a start": start, "a run's update": update, "a closure": closure, "a settlement": settling,
		"a state": state, "an arrival": arrival, "an origin": origin, "a lane's end": drained}
}

func TestCommitterFliesPlainSendsBesideAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y, c := newSky(2)
		var callers sync.WaitGroup
		commit := func(change *store.Change) {
			callers.Go(func() {
				if err := c.commitOne(t.Context(), change); err != nil {
					t.Errorf("commitOne = %v, want nil", err)
				}
			})
			synctest.Wait() // come one after another
		}
		commit(settles())
		first := y.look(t, 1)[0]
		commit(settles())
		commit(plainSends(1))
		y.look(t, 0) // neither is worth a commit beside another
		commit(plainSends(besideWeight))
		second := y.look(t, 1)[0]
		if n := len(second.changes); n != 2 {
			t.Errorf("beside a group that settles %d changes fly, want the 2 plain ones", n)
		}
		commit(plainSends(2 * besideWeight))
		y.look(t, 0) // two are in flight
		close(second.finish)
		third := y.look(t, 1)[0]
		if n := len(third.changes); n != 1 {
			t.Errorf("beside a group that settles %d changes fly, want the plain one", n)
		}
		close(first.finish)
		y.look(t, 0) // what settles waits for company, or for the other
		commit(keyedSends(besideWeight))
		fourth := y.look(t, 1)[0]
		if n := len(fourth.changes); n != 2 {
			t.Errorf("beside a group of plain sends %d changes fly, want both that have an order", n)
		}
		close(third.finish)
		close(fourth.finish)
		callers.Wait()
	})
}

// Of senders who come back with their next message half fly while half are gathered, if there are enough of them.
func TestCommitterFliesInHalves(t *testing.T) {
	const each = 2 // of weight: a change and its message
	for _, x := range []struct{ senders, half int }{{200, 100}, {besideLeast + 1, besideLeast / each}, {besideLeast, 0}} {
		t.Run(strconv.Itoa(x.senders), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				y, c := newSky(2)
				var callers sync.WaitGroup
				come := func(n int) {
					for range n {
						callers.Go(func() {
							if err := c.commitOne(t.Context(), plainSends(1)); err != nil {
								t.Errorf("commitOne = %v, want nil", err)
							}
						})
						synctest.Wait()
					}
				}
				come(x.senders)
				close(y.look(t, 1)[0].finish) // the first, alone: nobody was known to come
				close(y.look(t, 1)[0].finish)
				callers.Wait()
				come(1)
				flying := y.look(t, 1)
				if x.half > 0 {
					come(x.half - 1)
					y.look(t, 0)
					come(1)
					flying = append(flying, y.look(t, 1)[0])
					if n := len(flying[1].changes); n != x.half {
						t.Errorf("%d changes fly beside another, want %d", n, x.half)
					}
				} else {
					come(x.senders - 1)
					y.look(t, 0) // a half would not be worth its commit
				}
				for _, f := range flying {
					close(f.finish)
				}
				for synctest.Wait(); len(y.begun) > 0; synctest.Wait() {
					close((<-y.begun).finish)
				}
				callers.Wait()
			})
		})
	}
}

// What has an order never flies beside its like.
func TestCommitterKeepsInOrderWhatIsNotPlain(t *testing.T) {
	for name, change := range unplain() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				y, c := newSky(2)
				var callers sync.WaitGroup
				callers.Go(func() { _ = c.commitOne(t.Context(), settles()) })
				first := y.look(t, 1)[0]
				callers.Go(func() { _ = c.commitOne(t.Context(), change) })
				y.look(t, 0)
				close(first.finish)
				close(y.look(t, 1)[0].finish)
				callers.Wait()
			})
		})
	}
}

// A group is plain only if all of it is, whoever came first and last.
func TestCommitterKnowsWhatAGroupHolds(t *testing.T) {
	for _, changes := range [][]*store.Change{{settles(), plainSends(1)}, {plainSends(1), settles()}} {
		synctest.Test(t, func(t *testing.T) {
			y, c := newSky(2)
			var callers sync.WaitGroup
			commit := func(change *store.Change) {
				callers.Go(func() { _ = c.commitOne(t.Context(), change) })
				synctest.Wait()
			}
			commit(settles())
			first := y.look(t, 1)[0]
			for _, change := range changes {
				commit(change)
			}
			close(first.finish)
			mixed := y.look(t, 1)[0]
			commit(keyedSends(besideWeight))
			y.look(t, 0)
			close(mixed.finish)
			close(y.look(t, 1)[0].finish)
			callers.Wait()
		})
	}
}

// Beside a commit that takes long others fly however little they are.
func TestCommitterDoesNotWaitForASlowOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y, c := newSky(2)
		var callers sync.WaitGroup
		callers.Go(func() { _ = c.commitOne(t.Context(), settles()) })
		slow := y.look(t, 1)[0]
		for range 2 {
			callers.Go(func() { _ = c.commitOne(t.Context(), plainSends(1)) })
		}
		y.look(t, 0)
		second := <-y.begun // time goes on until it is there
		if n := len(second.changes); n != 2 {
			t.Errorf("beside the slow one %d changes fly, want the 2 that waited", n)
		}
		close(second.finish)
		callers.Go(func() { _ = c.commitOne(t.Context(), plainSends(1)) })
		close(y.look(t, 1)[0].finish) // at once: the other is slow still
		callers.Go(func() { _ = c.commitOne(t.Context(), settles()) })
		y.look(t, 0)
		close(slow.finish)
		close(y.look(t, 1)[0].finish)
		callers.Wait()
	})
}

// A store that bears one commit at a time has one.
func TestCommitterFliesAloneWhereItMust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y, c := newSky(0)
		var callers sync.WaitGroup
		callers.Go(func() { _ = c.commitOne(t.Context(), plainSends(besideWeight)) })
		first := y.look(t, 1)[0]
		callers.Go(func() { _ = c.commitOne(t.Context(), plainSends(besideWeight)) })
		y.look(t, 0)
		close(first.finish)
		close(y.look(t, 1)[0].finish)
		callers.Wait()
	})
}

// airspace is a store that looks, with each commit, at what else is under way.
type airspace struct {
	store.Store
	t    *testing.T
	most int

	mu      sync.Mutex
	now     int
	unplain int
	highest int
	commits map[*store.Change]int
}

func (a *airspace) Commit(_ context.Context, g *store.Group) error {
	plain := !slices.ContainsFunc(g.Changes, func(c *store.Change) bool { return !isPlain(c) })
	a.mu.Lock()
	a.now++
	a.highest = max(a.highest, a.now)
	if !plain {
		a.unplain++
	}
	if a.now > a.most || a.unplain > 1 {
		a.t.Errorf("%d groups in flight, %d of them not plain, want at most %d and 1", a.now, a.unplain, a.most)
	}
	for _, c := range g.Changes {
		a.commits[c]++
	}
	a.mu.Unlock()
	for range rand.IntN(20) {
		runtime.Gosched() // others come meanwhile
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now--
	if !plain {
		a.unplain--
	}
	return nil
}

// Whoever comes with whatever, and gives up or not: each change is committed once or not at
// all, and nobody waits for ever.
func TestCommitterUnderManyCallers(t *testing.T) {
	a := &airspace{t: t, most: 2, commits: map[*store.Change]int{}}
	c := &committer{st: a, most: a.most, before: func(*inFlight) {}, after: func(*inFlight, error) {}}
	var callers sync.WaitGroup
	for i := range 24 {
		callers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for n := range 100 {
				change := []func() *store.Change{settles, func() *store.Change { return plainSends(1) },
					func() *store.Change { return plainSends(besideWeight) }, func() *store.Change { return keyedSends(3) }}[r.IntN(4)]()
				ctx, cancel := context.WithCancel(t.Context())
				if r.IntN(4) == 0 {
					cancel()
				}
				err := c.commitOne(ctx, change)
				cancel()
				a.mu.Lock()
				if got := a.commits[change]; got > 1 || err == nil && got != 1 {
					t.Errorf("caller %s: committed %d times, error %v", strconv.Itoa(i)+"."+strconv.Itoa(n), got, err)
				}
				a.mu.Unlock()
			}
		})
	}
	callers.Wait()
	if len(c.flying) != 0 || c.leading || len(c.waiting) != 0 || c.weight != 0 || c.plain != 0 || c.ordered || c.slow {
		t.Errorf("when all is committed: %d flying, %d waiting of weight %d and %d, leading %t, ordered %t, slow %t, want none",
			len(c.flying), len(c.waiting), c.weight, c.plain, c.leading, c.ordered, c.slow)
	}
	if a.highest < 2 {
		t.Error("no two groups were in flight at once")
	}
}
