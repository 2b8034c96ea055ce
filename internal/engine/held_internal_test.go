package engine

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir/store"
)

// lockers is a store in which a key may be held by somebody's open transaction. All else is unimplemented.
type lockers struct {
	store.Store
	mu     sync.Mutex
	held   string
	freed  chan struct{}
	under  map[store.Held]int // commits of each kind under way
	most   map[store.Held]int
	begun  map[store.Held]int
	stands []string // keys of those who stood in line
}

func newLockers(held string) (*lockers, *committer) {
	s := &lockers{held: held, freed: make(chan struct{}), under: map[store.Held]int{}, most: map[store.Held]int{}, begun: map[store.Held]int{}}
	return s, &committer{st: s, before: func(*inFlight) {}, after: func(*inFlight, error) {}, held: newHeldLine()}
}

func (s *lockers) Commit(_ context.Context, g *store.Group) error {
	s.mu.Lock()
	s.begun[g.Held]++
	s.under[g.Held]++
	s.most[g.Held] = max(s.most[g.Held], s.under[g.Held])
	if g.Held == store.HeldApart {
		s.stands = append(s.stands, keysOf(g.Changes[0]))
	}
	s.mu.Unlock()
	if g.Held == store.HeldApart {
		select {
		case <-s.freed:
		case <-time.After(5 * time.Second):
		}
	} else {
		<-time.After(time.Millisecond)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.under[g.Held]--
	for _, ch := range g.Changes {
		if ch.Err = nil; s.held != "" && strings.Contains(keysOf(ch), s.held) {
			ch.Err = store.ErrKeyHeld
		}
	}
	return nil
}

func (s *lockers) free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = ""
	close(s.freed)
}

func keysOf(ch *store.Change) string {
	var keys []string
	for _, m := range ch.Sends {
		keys = append(keys, m.Key)
	}
	return strings.Join(keys, " ")
}

func withKeys(keys ...string) *store.Change {
	ch := &store.Change{Outside: true}
	for _, k := range keys {
		ch.Sends = append(ch.Sends, &store.Message{Topic: "a.cook", Key: k})
	}
	return ch
}

// However many wait for a key, one commit looks again for all of them, and one stands in the database's line.
func TestHeldLineHasTwoCommitsAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const crowd = 1_000
		s, c := newLockers("held")
		var all sync.WaitGroup
		for range crowd {
			all.Go(func() {
				if err := c.commitOne(t.Context(), withKeys("held")); err != nil {
					t.Errorf("commitOne() once the key is free = %v, want nil", err)
				}
			})
		}
		time.Sleep(2 * time.Second)
		s.mu.Lock()
		before := s.begun[store.HeldAgain]
		s.mu.Unlock()
		for i := range 100 { // each comes, and is done, while they wait
			if err := c.commitOne(t.Context(), withKeys("free")); err != nil {
				t.Fatalf("commitOne() %d with another key = %v, want nil", i, err)
			}
		}
		time.Sleep(2*time.Second - 100*2*time.Millisecond)
		s.mu.Lock()
		if n, want := s.begun[store.HeldAgain]-before, 2*int(2*time.Second/heldPauseMax)*(crowd+heldMost-1)/heldMost; n > want {
			t.Errorf("%d looks in 2 s for %d changes, want %d at most", n, crowd, want)
		}
		for _, kind := range []store.Held{store.HeldAgain, store.HeldApart} {
			if n := s.most[kind]; n != 1 {
				t.Errorf("%d commits of kind %d at once, want 1", n, kind)
			}
		}
		s.mu.Unlock()
		s.free()
		all.Wait()
		time.Sleep(time.Second)
	})
}

// Who waits in vain is told, within the bound that is promised; who gives up goes at once.
func TestHeldLineTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := newLockers("held")
		var all sync.WaitGroup
		began := time.Now()
		for range 300 {
			all.Go(func() {
				err := c.commitOne(t.Context(), withKeys("held"))
				if waited := time.Since(began); !errors.Is(err, store.ErrKeyHeld) || waited < 4*time.Second || waited > 11*time.Second {
					t.Errorf("commitOne() = %v after %s, want ErrKeyHeld after 5 to 10 s", err, waited)
				}
			})
		}
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.commitOne(ctx, withKeys("held")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("commitOne() of who gives up = %v, want DeadlineExceeded", err)
		}
		if waited := time.Since(began); waited > 3*time.Second {
			t.Errorf("who gives up after 1 s waited %s more", waited-2*time.Second)
		}
		all.Wait()
		time.Sleep(time.Second)
		if l := &c.held; l.looking || l.stands || len(l.waiting) > 0 {
			t.Errorf("once all are told: looking %t, stands %t, %d waiting; want nothing", l.looking, l.stands, len(l.waiting))
		}
	})
}

// Who holds anything that others need does not stand in the database's line: he would hold it for as long.
func TestHeldLineKeepsOthersFree(t *testing.T) {
	settling := withKeys("held")
	settling.Outside, settling.Settle = false, []store.Settlement{{}}
	for name, ch := range map[string]*store.Change{"two keys": withKeys("held", "free"), "a settlement": settling} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, c := newLockers("held")
				done := make(chan error, 1)
				go func() { done <- c.commitOne(t.Context(), ch) }()
				time.Sleep(time.Second)
				s.free()
				if err := <-done; err != nil || len(s.stands) > 0 {
					t.Errorf("commitOne() = %v, stood in line: %q; want nil, and nobody", err, s.stands)
				}
				time.Sleep(time.Second)
			})
		})
	}
}
