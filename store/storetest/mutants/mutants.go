// Package mutants proves that the laws of storetest bite: each mutant is a good
// store made cheaply bad, and must fail the law it names.
package mutants

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/storetest"
)

// Mutant is a way for a store to be wrong.
type Mutant struct {
	Does string // what it does wrong
	Law  string // the name of a law that must notice, or of a subject with one that does
	// Wrap breaks one process's store. The processes of a law share the memory.
	Wrap func(s store.Store, m *Memory) store.Store
}

// Memory is what the mutants of one law's processes know together.
type Memory struct {
	mu     sync.Mutex
	epochs map[batch]int64
	last   *store.Batch

	runs    map[store.RunNo]int64 // their epochs
	lastRun *store.Run
	newest  store.Pos
	pruned  store.Pos // the newest when something was pruned
	asked   int       // how often count was called
}

type batch struct {
	queue store.QueueID
	no    int64
}

// saw remembers a batch that was handed out.
func (m *Memory) saw(b *store.Batch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b != nil {
		m.epochs[batch{b.Queue, b.No}] = b.Epoch
		m.last = b
	}
}

// epoch is the newest epoch of a batch.
func (m *Memory) epoch(r store.BatchRef) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.epochs[batch{r.Queue, r.No}]; ok {
		return e
	}
	return r.Epoch
}

// Run wants each mutant of a good store to fail the law it names.
func Run(t *testing.T, open storetest.Open) {
	for _, m := range All() {
		t.Run(m.Law+", "+m.Does, func(t *testing.T) {
			t.Parallel()
			for _, l := range storetest.Laws() {
				if l.Name != m.Law && !strings.HasPrefix(l.Name, m.Law+"/") {
					continue
				}
				if failures := l.Fails(t, m.open(open)); len(failures) > 0 {
					t.Logf("%s: %s", l.Name, failures[0])
					return
				}
			}
			t.Errorf("%s holds for a store that %s, want it to fail", m.Law, m.Does)
		})
	}
}

// open breaks what open makes.
func (m Mutant) open(open storetest.Open) storetest.Open {
	return func(t testing.TB, now func() time.Time) storetest.Harness {
		return &harness{
			Harness: open(t, now), mutant: m,
			memory: &Memory{epochs: map[batch]int64{}, runs: map[store.RunNo]int64{}}, whole: map[store.Store]store.Store{},
		}
	}
}

// harness opens broken stores.
type harness struct {
	storetest.Harness
	mutant Mutant
	memory *Memory

	mu    sync.Mutex
	whole map[store.Store]store.Store // by the broken one
}

func (h *harness) Open(ctx context.Context) (store.Store, error) {
	s, err := h.Harness.Open(ctx)
	if err != nil {
		return nil, err
	}
	broken := h.mutant.Wrap(s, h.memory)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.whole[broken] = s
	return broken, nil
}

func (h *harness) Crash(s store.Store) {
	h.mu.Lock()
	whole := h.whole[s]
	h.mu.Unlock()
	h.Harness.Crash(whole)
}
