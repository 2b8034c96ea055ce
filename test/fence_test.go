package test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
)

// A process that is thought dead and is not, a zombie, does nothing any more: what
// its handlers decide late is refused, with all that would have left with it, and
// the message's effect is that of the process which has taken over.
func TestFence(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		tamper func(*store.Change, store.BatchRef)
		relay  bool
		fault  string // what the auditor finds; empty: nothing
	}{
		{name: "the store as it is"},
		// From here on the store takes the zombie's calls for its heir's: what is
		// left is the fence itself, and then less and less of it.
		{name: "epochs alone", relay: true},
		{name: "no epochs", relay: true, tamper: renew, fault: "stale"},
		{name: "no fence", relay: true, tamper: unbind, fault: "twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDuel(t, c.relay, c.tamper)
			d.fight(t)
			b := examine(t, d.file)
			if c.fault != "" {
				if !strings.Contains(strings.Join(b.faults, "\n"), c.fault) {
					t.Errorf("the audit found %q, want it to find %q: it does not see what the fence is for", b.faults, c.fault)
				}
				return
			}
			b.show(t)
			if len(b.effects) != 3 || b.effects[0].life != 2 {
				t.Errorf("effects = %+v, want one for the dish, and one for each subscriber, by process 2", b.effects)
			}
		})
	}
}

// renew gives the zombie's settlements the epoch under which its heir has the batch.
func renew(c *store.Change, ref store.BatchRef) {
	for i := range c.Settle {
		c.Settle[i].Batch = ref
	}
}

// unbind takes the settlements away, and with them all that the fence looks at.
func unbind(c *store.Change, _ store.BatchRef) { c.Settle = nil }

// duel is a zombie and its heir on one file, each with the same message in a handler.
type duel struct {
	file         string
	zombie, heir *shop
	heirStore    atomic.Pointer[heirStore]
	succession   sync.RWMutex // no call of the zombie's is under way while the heir takes over
	relay        bool
	tamper       func(*store.Change, store.BatchRef)
}

func newDuel(t *testing.T, relay bool, tamper func(*store.Change, store.BatchRef)) *duel {
	t.Helper()
	d := &duel{file: filepath.Join(t.TempDir(), "weir.db"), relay: relay, tamper: tamper}
	openTables(t, d.file)
	d.zombie = d.open(t, 1, func(s store.Store) store.Store { return &zombieStore{s, d} })
	return d
}

// open opens one of the two.
func (d *duel) open(t *testing.T, life int, wrap func(store.Store) store.Store) *shop {
	t.Helper()
	s, err := open(t.Context(), premises{file: d.file, life: life, log: t.Output(), open: func(ctx context.Context) (store.Store, error) {
		st, err := sqlite.File(d.file)(ctx)
		if err != nil {
			return nil, err
		}
		return wrap(st), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.gate = newGate()
	return s
}

// fight has the zombie end its handler while its heir's handler is at the same message.
func (d *duel) fight(t *testing.T) {
	t.Helper()
	d.zombie.serve()
	if err := command(t.Context(), d.zombie, prepare, job{Tag: "d1", Key: "t1", N: 1, Deed: "gate"}); err != nil {
		t.Fatal(err)
	}
	ctx := arrival(t, d.zombie.gate)
	if err := os.Remove(d.file + ".lock"); err != nil { // the only thing that keeps the heir out
		t.Fatal(err)
	}
	d.succeed(t)
	d.heir.serve()
	arrival(t, d.heir.gate)
	if !d.relay {
		select {
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, weir.ErrLeaseLost) {
				t.Errorf("cause of the zombie's context = %v, want ErrLeaseLost", cause)
			}
		case <-time.After(patience):
			t.Errorf("the zombie's handler has not been told that its lease is lost")
		}
	}
	close(d.zombie.gate.opened)
	if err := d.zombie.close(); d.relay != (err == nil) || !d.relay && !errors.Is(err, weir.ErrLeaseLost) {
		t.Errorf("the zombie's Run = %v, want ErrLeaseLost: %t", err, !d.relay)
	}
	close(d.heir.gate.opened)
	if err := d.heir.rest(t.Context()); err != nil {
		t.Error(err)
	}
	if err := d.heir.close(); err != nil {
		t.Error(err)
	}
}

// succeed opens the heir, which takes the store over.
func (d *duel) succeed(t *testing.T) {
	t.Helper()
	d.succession.Lock()
	defer d.succession.Unlock()
	d.heir = d.open(t, 2, func(s store.Store) store.Store {
		h := &heirStore{Store: s}
		d.heirStore.Store(h)
		return h
	})
}

func arrival(t *testing.T, g *gate) context.Context {
	t.Helper()
	select {
	case ctx := <-g.arrived:
		return ctx
	case <-time.After(patience):
		t.Fatal("no handler has come to the gate")
		panic("unreachable")
	}
}

// heirStore remembers what it has claimed last.
type heirStore struct {
	store.Store
	batch atomic.Pointer[store.BatchRef]
}

func (s *heirStore) Claim(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
	c, err := s.Store.Claim(ctx, r)
	if c.Batch != nil {
		s.batch.Store(&c.Batch.BatchRef)
	}
	return c, err
}

// zombieStore is the zombie's. In a duel with a relay it has the heir's store carry
// out what it would commit, tampered with, and does nothing else, once there is an heir.
type zombieStore struct {
	store.Store
	duel *duel
}

// relayed gives the store that is to do what the zombie's would, if any, and what ends the call.
func (s *zombieStore) relayed() (*heirStore, func()) {
	s.duel.succession.RLock()
	if !s.duel.relay {
		return nil, s.duel.succession.RUnlock
	}
	return s.duel.heirStore.Load(), s.duel.succession.RUnlock
}

func (s *zombieStore) Commit(ctx context.Context, g *store.Group) error {
	h, done := s.relayed()
	defer done()
	if h == nil {
		return s.Store.Commit(ctx, g)
	}
	g.Eager, g.Figures = nil, nil
	if ref := h.batch.Load(); ref != nil && s.duel.tamper != nil {
		for _, c := range g.Changes {
			s.duel.tamper(c, *ref)
		}
	}
	return h.Store.Commit(ctx, g)
}

func (s *zombieStore) Claim(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
	h, done := s.relayed()
	defer done()
	if h != nil {
		return store.Claimed{}, nil
	}
	return s.Store.Claim(ctx, r)
}

func (s *zombieStore) Prune(ctx context.Context, r store.Retention) (store.Pruned, error) {
	h, done := s.relayed()
	defer done()
	if h != nil {
		return store.Pruned{}, nil
	}
	return s.Store.Prune(ctx, r)
}

func (s *zombieStore) Heartbeat(ctx context.Context) error {
	h, done := s.relayed()
	defer done()
	if h != nil {
		return nil
	}
	return s.Store.Heartbeat(ctx)
}

func (s *zombieStore) End(ctx context.Context) error {
	h, done := s.relayed()
	defer done()
	if h != nil {
		return nil
	}
	return s.Store.End(ctx)
}
