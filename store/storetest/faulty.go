package storetest

import (
	"context"
	"sync"

	"github.com/weir-go/weir/store"
)

// Method is a method of store.Store that a fault can strike.
type Method string

// The methods. Info, Reader and Close do not fail.
const (
	Begin     Method = "Begin"
	Heartbeat Method = "Heartbeat"
	End       Method = "End"
	Declare   Method = "Declare"
	Commit    Method = "Commit"
	AppendIn  Method = "AppendIn"
	Claim     Method = "Claim"
	Operate   Method = "Operate"
	Prune     Method = "Prune"
)

// Call is one call of a method: the N-th of that method, from 1, over all
// stores opened with the same Faults.
type Call struct {
	Method Method
	N      int
}

// Faults says what goes wrong. It is called from the goroutines that call the
// store, several at once; a hook may kill the process.
type Faults struct {
	// Before is called before a call is executed. If it returns an error, the call
	// is not executed and returns that. May be nil.
	Before func(Call) error
	// After is called when a call was executed without an error of the database. If
	// it returns an error, the call returns that: it was executed, and then failed,
	// as when the connection breaks before the answer. May be nil.
	After func(Call) error

	mu    sync.Mutex
	calls map[Method]int
}

// FailBefore fails the n-th call over the methods, unexecuted; with n 0 each.
func FailBefore(err error, n int, methods ...Method) *Faults {
	return &Faults{Before: nth(err, n, methods)}
}

// FailAfter executes the n-th call over the methods and then fails it; with n 0 each.
func FailAfter(err error, n int, methods ...Method) *Faults {
	return &Faults{After: nth(err, n, methods)}
}

// nth returns err from its n-th call with one of the methods; with n 0 from each.
func nth(err error, n int, methods []Method) func(Call) error {
	chosen := map[Method]bool{}
	for _, m := range methods {
		chosen[m] = true
	}
	var mu sync.Mutex
	seen := 0
	return func(c Call) error {
		if !chosen[c.Method] {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		seen++
		if n == 0 || seen == n {
			return err
		}
		return nil
	}
}

// Calls is how often a method was called.
func (f *Faults) Calls(m Method) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[m]
}

// Opener is an opener of stores that suffer the faults.
func (f *Faults) Opener(open store.Opener) store.Opener {
	return func(ctx context.Context) (store.Store, error) {
		s, err := open(ctx)
		if err != nil {
			return nil, err
		}
		return f.Store(s), nil
	}
}

// Store is s with the faults.
func (f *Faults) Store(s store.Store) store.Store { return &faulty{Store: s, faults: f} }

// strike executes a call, or not.
func (f *Faults) strike(m Method, execute func() error) error {
	f.mu.Lock()
	if f.calls == nil {
		f.calls = map[Method]int{}
	}
	f.calls[m]++
	c := Call{m, f.calls[m]}
	f.mu.Unlock()
	if f.Before != nil {
		if err := f.Before(c); err != nil {
			return err
		}
	}
	if err := execute(); err != nil {
		return err
	}
	if f.After != nil {
		return f.After(c)
	}
	return nil
}

// faulty is a store that suffers faults.
type faulty struct {
	store.Store
	faults *Faults
}

func (s *faulty) Begin(ctx context.Context, p *store.Process) error {
	return s.faults.strike(Begin, func() error { return s.Store.Begin(ctx, p) })
}

func (s *faulty) Heartbeat(ctx context.Context) error {
	return s.faults.strike(Heartbeat, func() error { return s.Store.Heartbeat(ctx) })
}

func (s *faulty) End(ctx context.Context) error {
	return s.faults.strike(End, func() error { return s.Store.End(ctx) })
}

func (s *faulty) Declare(ctx context.Context, topics []store.Topic, queues []store.Queue) (states []store.QueueState, err error) {
	err = s.faults.strike(Declare, func() error {
		states, err = s.Store.Declare(ctx, topics, queues)
		return err
	})
	if err != nil {
		return nil, err
	}
	return states, nil
}

// Commit tells of a failed group what the port lets the caller know: that the
// database failed, and nothing of what it may have written.
func (s *faulty) Commit(ctx context.Context, g *store.Group) error {
	err := s.faults.strike(Commit, func() error { return s.Store.Commit(ctx, g) })
	if err != nil {
		g.Claimed = nil
		for _, c := range g.Changes {
			c.Err = err
		}
	}
	return err
}

func (s *faulty) AppendIn(ctx context.Context, tx store.Tx, c *store.Change) error {
	return s.faults.strike(AppendIn, func() error { return s.Store.AppendIn(ctx, tx, c) })
}

func (s *faulty) Claim(ctx context.Context, r store.ClaimRequest) (got store.Claimed, err error) {
	err = s.faults.strike(Claim, func() error {
		got, err = s.Store.Claim(ctx, r)
		return err
	})
	if err != nil {
		return store.Claimed{}, err
	}
	return got, nil
}

func (s *faulty) Operate(ctx context.Context, a store.Act) (acted store.Acted, err error) {
	err = s.faults.strike(Operate, func() error {
		acted, err = s.Store.Operate(ctx, a)
		return err
	})
	if err != nil {
		return store.Acted{}, err
	}
	return acted, nil
}

func (s *faulty) Prune(ctx context.Context, r store.Retention) (pruned store.Pruned, err error) {
	err = s.faults.strike(Prune, func() error {
		pruned, err = s.Store.Prune(ctx, r)
		return err
	})
	if err != nil {
		return store.Pruned{}, err
	}
	return pruned, nil
}
