package storetest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/storetest"
)

// counting is a store that counts what reaches it.
type counting struct {
	store.Store
	commits, claims int
}

func (s *counting) Commit(_ context.Context, g *store.Group) error {
	s.commits++
	g.Claimed = []*store.Batch{{}}
	return nil
}

func (s *counting) Claim(context.Context, store.ClaimRequest) (store.Claimed, error) {
	s.claims++
	return store.Claimed{Batch: &store.Batch{}}, nil
}

func TestFaults(t *testing.T) {
	broken := errors.New("disk I/O error")
	ctx := t.Context()
	for _, c := range []struct {
		name     string
		faults   *storetest.Faults
		failing  int // which of three commits and one claim between them fails
		executed int
	}{
		{"before the second commit", storetest.FailBefore(broken, 2, storetest.Commit), 2, 2},
		{"after the second commit", storetest.FailAfter(broken, 2, storetest.Commit), 2, 3},
		{"before the third of commit and claim", storetest.FailBefore(broken, 3, storetest.Commit, storetest.Claim), 2, 2},
		{"nothing", &storetest.Faults{}, 0, 3},
	} {
		inner := &counting{}
		s, err := c.faults.Opener(func(context.Context) (store.Store, error) { return inner, nil })(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			g := &store.Group{Changes: []*store.Change{{}}}
			err := s.Commit(ctx, g)
			if want := i+1 == c.failing; errors.Is(err, broken) != want || (g.Changes[0].Err != nil) != want || (g.Claimed == nil) != want {
				t.Errorf("%s: Commit %d = %v, Err %v, %d claimed, want a failure: %t", c.name, i+1, err, g.Changes[0].Err, len(g.Claimed), want)
			}
			if i == 0 {
				if got, err := s.Claim(ctx, store.ClaimRequest{}); err != nil || got.Batch == nil {
					t.Errorf("%s: Claim = %v, %v, want a batch", c.name, got.Batch, err)
				}
			}
		}
		if inner.commits != c.executed || c.faults.Calls(storetest.Commit) != 3 || c.faults.Calls(storetest.Claim) != 1 {
			t.Errorf("%s: %d commits executed, want %d", c.name, inner.commits, c.executed)
		}
	}
}

func TestFaultsHook(t *testing.T) {
	var seen []storetest.Call
	f := &storetest.Faults{Before: func(c storetest.Call) error {
		seen = append(seen, c)
		return nil
	}}
	s := f.Store(&counting{})
	for range 2 {
		if err := s.Commit(t.Context(), &store.Group{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 2 || seen[1] != (storetest.Call{Method: storetest.Commit, N: 2}) {
		t.Errorf("Before was called with %v, want the two commits", seen)
	}
}
