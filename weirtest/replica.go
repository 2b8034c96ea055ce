package weirtest

import (
	"context"
	"testing"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
)

// Replica is a replica with these entries, by id, to call a handler with that reads one. It is loaded, nobody feeds it,
// and Refresh gives what Get does.
func Replica[T any](t testing.TB, c weir.Entity[T], entries map[string]T) *weir.Replica[T] {
	t.Helper()
	ctx := engine.WithDetached(t.Context(), func(engine.Settings, error) {})
	eng, err := weir.Open(ctx, func(context.Context) (store.Store, error) { return &shelf{}, nil }, weir.Config{Owns: []string{"weirtest"}})
	if err != nil {
		t.Fatalf("weirtest.Replica: %v", err)
	}
	r, own := weir.Follow(eng, c), weir.Own(eng, c)
	for id, v := range entries {
		if err := own.Put(ctx, eng, id, v); err != nil {
			t.Fatalf("weirtest.Replica: %v", err)
		}
	}
	return r
}

// shelf stands behind one replica: it takes states and keeps none.
type shelf struct {
	store.Store // nil: nothing else of it is asked for

	stamp int64
}

// Info implements store.Store.
func (s *shelf) Info() store.Info { return (&recorder{}).Info() }

// Commit implements store.Store.
func (s *shelf) Commit(_ context.Context, g *store.Group) error {
	for _, c := range g.Changes {
		for i := range c.States {
			s.stamp++
			c.States[i].Of.Stamp, c.States[i].Applied = s.stamp, true
		}
	}
	return nil
}
