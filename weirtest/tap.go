package weirtest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/weir-go/weir/store"
)

// errCrash is what a store says after the crash of the process it is in.
var errCrash = errors.New("weirtest: the process has crashed")

// tap is a store that tells of each write, and ends with the process it is in, if
// its fuse says so.
type tap struct {
	store.Store
	fuse  *fuse         // nil: it does not crash
	wrote chan struct{} // capacity 1: something was written
	stirs chan struct{} // capacity 1: the same, for pulse
}

func newTap(f *fuse) *tap {
	return &tap{fuse: f, wrote: make(chan struct{}, 1), stirs: make(chan struct{}, 1)}
}

// opener opens the store that is tapped.
func (s *tap) opener(open store.Opener) store.Opener {
	return func(ctx context.Context) (store.Store, error) {
		inner, err := open(ctx)
		if err != nil {
			return nil, err
		}
		s.Store = inner
		return s, nil
	}
}

func (s *tap) tell() {
	for _, c := range []chan struct{}{s.wrote, s.stirs} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Pauses after which a running service has looked at what it was not told of: its
// monitor has, and its polls have.
const (
	soon  = 10 * time.Millisecond
	later = time.Second
)

// pulse makes the engine look after each write as soon as it does in a service. It
// is this that lets all polls rest while nothing happens.
func (s *tap) pulse(ctx context.Context, look chan<- struct{}) {
	first, second := time.NewTimer(soon), time.NewTimer(later)
	defer first.Stop()
	defer second.Stop()
	running, again := true, false // first runs, and is to run again: what was appended may not be committed yet
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.stirs:
			if again = running; !running {
				running = true
				first.Reset(soon)
			}
			second.Reset(later)
			continue
		case <-first.C:
			if running = again; again {
				again = false
				first.Reset(soon)
			}
		case <-second.C:
		}
		select {
		case look <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
}

// strike executes a call that writes, unless the process crashes before it or has
// crashed; what tells what is written.
func (s *tap) strike(what func() string, execute func() error) error {
	point, err := s.fuse.before(what, false)
	if err != nil {
		return err
	}
	return s.finish(point, what, execute)
}

// finish executes a call whose point is counted.
func (s *tap) finish(point int, what func() string, execute func() error) error {
	if err := execute(); err != nil {
		if s.fuse.blown() {
			return errCrash
		}
		return err
	}
	s.tell()
	return s.fuse.after(point, what)
}

// idle executes a call with which nothing of the user's is written, unless the process has crashed.
func (s *tap) idle(execute func() error) error {
	if s.fuse.blown() {
		return errCrash
	}
	return execute()
}

func (s *tap) Begin(ctx context.Context, p *store.Process) error {
	return s.idle(func() error { return s.Store.Begin(ctx, p) })
}

func (s *tap) Heartbeat(ctx context.Context) error {
	return s.idle(func() error { return s.Store.Heartbeat(ctx) })
}

func (s *tap) End(ctx context.Context) error {
	return s.idle(func() error { return s.Store.End(ctx) })
}

func (s *tap) Declare(ctx context.Context, topics []store.Topic, queues []store.Queue) (states []store.QueueState, err error) {
	err = s.idle(func() error {
		states, err = s.Store.Declare(ctx, topics, queues)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.fuse.declared(states)
	return states, nil
}

// Commit is where nearly everything is written. Of a group that failed the engine
// may know no more than that.
func (s *tap) Commit(ctx context.Context, g *store.Group) error {
	var err error
	switch {
	case len(g.Changes) == 0: // figures
		err = s.idle(func() error { return s.Store.Commit(ctx, g) })
	case s.fuse == nil:
		if err = s.Store.Commit(ctx, g); err == nil {
			s.tell()
		}
	default:
		err = s.oneByOne(ctx, g)
	}
	if err != nil {
		g.Claimed, g.Woken = nil, nil
		for _, c := range g.Changes {
			c.Err = err
		}
	}
	return err
}

// oneByOne commits a group's changes apart. Which of them meet in a group is chance: so
// there is a crash between any two, and points have the same numbers in each trial.
// For that nothing is claimed with it, either, and no run leased: the engine asks for that only if it has just looked for others.
func (s *tap) oneByOne(ctx context.Context, g *store.Group) error {
	g.Claimed, g.Woken = nil, nil
	for i, c := range g.Changes {
		for _, r := range c.Runs {
			r.Lease = false
		}
		one := store.Group{Changes: g.Changes[i : i+1]}
		if i == len(g.Changes)-1 {
			one.Figures = g.Figures
		}
		if err := s.one(ctx, &one, c); err != nil {
			return err
		}
		for _, workflow := range one.Woken {
			if !slices.Contains(g.Woken, workflow) {
				g.Woken = append(g.Woken, workflow)
			}
		}
	}
	return nil
}

// one commits a group of one change.
func (s *tap) one(ctx context.Context, g *store.Group, c *store.Change) error {
	what := func() string { return s.fuse.change(c) }
	point, err := s.fuse.before(what, len(c.Closures) > 0)
	if err != nil {
		return err
	}
	if len(c.Closures) > 0 && s.fuse.splits(point) {
		closures := c.Closures
		defer func() { c.Closures = closures }()
		c.Closures = append(slices.Clip(closures), func(context.Context, store.Tx) error { return s.fuse.crash() })
	}
	return s.finish(point, what, func() error { return s.Store.Commit(ctx, g) })
}

// AppendIn writes in the caller's transaction: with a crash that is rolled back.
func (s *tap) AppendIn(ctx context.Context, tx store.Tx, c *store.Change) error {
	return s.strike(
		func() string { return s.fuse.change(c) + " in the caller's transaction" },
		func() error { return s.Store.AppendIn(ctx, tx, c) },
	)
}

// Claim writes only if it finds something, so there is no crash before it: that
// would be one after the write before.
func (s *tap) Claim(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
	var got store.Claimed
	err := s.idle(func() (err error) {
		got, err = s.Store.Claim(ctx, r)
		return err
	})
	if err == nil && (got.Batch != nil || len(got.Runs) > 0) {
		s.tell()
		err = s.fuse.claimed(&got)
	}
	if err != nil {
		return store.Claimed{}, err
	}
	return got, nil
}

func (s *tap) Operate(ctx context.Context, a store.Act) (acted store.Acted, err error) {
	err = s.strike(func() string { return "a person's act" }, func() error {
		acted, err = s.Store.Operate(ctx, a)
		return err
	})
	if err != nil {
		return store.Acted{}, err
	}
	return acted, nil
}

func (s *tap) Prune(ctx context.Context, r store.Retention) (pruned store.Pruned, err error) {
	err = s.idle(func() error {
		pruned, err = s.Store.Prune(ctx, r)
		return err
	})
	if err != nil {
		return store.Pruned{}, err
	}
	return pruned, nil
}
