package mutants

import (
	"context"
	"errors"
	"slices"

	"github.com/weir-go/weir/store"
)

// broken is a store with some of its methods done wrong; nil ones are right.
type broken struct {
	store.Store
	begin   func(p *store.Process)
	commit  func(ctx context.Context, g *store.Group) error
	claim   func(ctx context.Context, r store.ClaimRequest) (store.Claimed, error)
	declare func(queues []store.Queue) []store.Queue
	operate func(a store.Act) store.Act
	end     func(ctx context.Context) error
	reader  store.Reader
	prune   func(r store.Retention) store.Retention

	appendIn func(c *store.Change) *store.Change
}

func (b *broken) Begin(ctx context.Context, p *store.Process) error {
	if b.begin != nil {
		b.begin(p)
	}
	return b.Store.Begin(ctx, p)
}

func (b *broken) Commit(ctx context.Context, g *store.Group) error {
	if b.commit != nil {
		return b.commit(ctx, g)
	}
	return b.Store.Commit(ctx, g)
}

func (b *broken) AppendIn(ctx context.Context, tx store.Tx, c *store.Change) error {
	if b.appendIn != nil {
		c = b.appendIn(c)
	}
	return b.Store.AppendIn(ctx, tx, c)
}

func (b *broken) Claim(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
	if b.claim != nil {
		return b.claim(ctx, r)
	}
	return b.Store.Claim(ctx, r)
}

func (b *broken) Declare(ctx context.Context, topics []store.Topic, queues []store.Queue) ([]store.QueueState, error) {
	if b.declare != nil {
		queues = b.declare(slices.Clone(queues))
	}
	return b.Store.Declare(ctx, topics, queues)
}

func (b *broken) Operate(ctx context.Context, a store.Act) (store.Acted, error) {
	if b.operate != nil {
		a = b.operate(a)
	}
	return b.Store.Operate(ctx, a)
}

func (b *broken) End(ctx context.Context) error {
	if b.end != nil {
		return b.end(ctx)
	}
	return b.Store.End(ctx)
}

func (b *broken) Reader() store.Reader {
	if b.reader != nil {
		return b.reader
	}
	return b.Store.Reader()
}

func (b *broken) Prune(ctx context.Context, r store.Retention) (store.Pruned, error) {
	if b.prune != nil {
		r = b.prune(r)
	}
	return b.Store.Prune(ctx, r)
}

// changing breaks each change before it is committed. What the change was is
// given back after the commit.
func changing(spoil func(c *store.Change, m *Memory)) func(store.Store, *Memory) store.Store {
	return func(s store.Store, m *Memory) store.Store {
		b := claiming(func(*store.Claimed, store.ClaimRequest) {})(s, m).(*broken)
		b.commit = func(ctx context.Context, g *store.Group) error {
			spoiled := *g
			spoiled.Changes = nil
			for _, c := range g.Changes {
				bad := *c
				bad.Settle = slices.Clone(c.Settle)
				spoil(&bad, m)
				spoiled.Changes = append(spoiled.Changes, &bad)
			}
			err := s.Commit(ctx, &spoiled)
			g.Claimed = spoiled.Claimed
			for i, c := range g.Changes {
				c.Err = spoiled.Changes[i].Err
			}
			for _, batch := range g.Claimed {
				m.saw(batch)
			}
			return err
		}
		return b
	}
}

// settling breaks each settlement.
func settling(spoil func(s *store.Settlement, m *Memory)) func(store.Store, *Memory) store.Store {
	return changing(func(c *store.Change, m *Memory) {
		for i := range c.Settle {
			spoil(&c.Settle[i], m)
		}
	})
}

// sending breaks copies of the messages of each change, and gives the senders
// what the copies got.
func sending(spoil func(m *store.Message)) func(store.Store, *Memory) store.Store {
	return func(s store.Store, _ *Memory) store.Store {
		return &broken{Store: s, commit: func(ctx context.Context, g *store.Group) error {
			whole := make([][]*store.Message, len(g.Changes))
			for i, c := range g.Changes {
				whole[i] = c.Sends
				c.Sends = nil
				for _, m := range whole[i] {
					bad := *m
					spoil(&bad)
					c.Sends = append(c.Sends, &bad)
				}
			}
			err := s.Commit(ctx, g)
			for i, c := range g.Changes {
				for n, m := range whole[i] {
					m.Pos, m.ID, m.SentAt, m.Stamp = c.Sends[n].Pos, c.Sends[n].ID, c.Sends[n].SentAt, c.Sends[n].Stamp
				}
				c.Sends = whole[i]
			}
			return err
		}}
	}
}

// claiming breaks what each claim found.
func claiming(spoil func(c *store.Claimed, r store.ClaimRequest)) func(store.Store, *Memory) store.Store {
	return func(s store.Store, m *Memory) store.Store {
		return &broken{Store: s, claim: func(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
			got, err := s.Claim(ctx, r)
			if err == nil {
				m.saw(got.Batch)
				spoil(&got, r)
			}
			return got, err
		}}
	}
}

// delivering breaks each batch that a claim found.
func delivering(spoil func(b *store.Batch)) func(store.Store, *Memory) store.Store {
	return claiming(func(c *store.Claimed, _ store.ClaimRequest) {
		if c.Batch != nil {
			spoil(c.Batch)
		}
	})
}

// halving commits the first half of a group, and says that it was all.
func halving(s store.Store, _ *Memory) store.Store {
	return &broken{Store: s, commit: func(ctx context.Context, g *store.Group) error {
		half := *g
		half.Changes = g.Changes[:(len(g.Changes)+1)/2]
		err := s.Commit(ctx, &half)
		g.Claimed = half.Claimed
		return err
	}}
}

// splitting commits a change's sends apart from the rest of it.
func splitting(s store.Store, _ *Memory) store.Store {
	return &broken{Store: s, commit: func(ctx context.Context, g *store.Group) error {
		for _, c := range g.Changes {
			first := &store.Change{Sends: c.Sends, Outside: c.Outside}
			if err := s.Commit(ctx, &store.Group{Changes: []*store.Change{first}}); err != nil {
				return err
			}
			rest := *c
			rest.Sends = nil
			if err := s.Commit(ctx, &store.Group{Changes: []*store.Change{&rest}}); err != nil {
				return err
			}
			c.Err = errors.Join(first.Err, rest.Err)
		}
		return nil
	}}
}

// forgiving says that a refused settlement was written.
func forgiving(s store.Store, _ *Memory) store.Store {
	return &broken{Store: s, commit: func(ctx context.Context, g *store.Group) error {
		err := s.Commit(ctx, g)
		for _, c := range g.Changes {
			if errors.Is(c.Err, store.ErrFenced) {
				c.Err = nil
			}
		}
		return err
	}}
}

// stopping takes what refuses a change with closures for a failure of the database.
func stopping(s store.Store, _ *Memory) store.Store {
	return &broken{Store: s, commit: func(ctx context.Context, g *store.Group) error {
		err := s.Commit(ctx, g)
		for _, c := range g.Changes {
			if err == nil && len(c.Closures) > 0 {
				err = c.Err
			}
		}
		return err
	}}
}

// repeating hands out the last batch a second time.
func repeating(s store.Store, m *Memory) store.Store {
	return &broken{Store: s, claim: func(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
		got, err := s.Claim(ctx, r)
		if err == nil && got.Batch == nil && m.last != nil && m.last.Queue == r.Queue {
			got.Batch, m.last = m.last, nil
		} else {
			m.saw(got.Batch)
		}
		return got, err
	}}
}

// guessing answers Eager with messages that it has only just seen go by.
func guessing(s store.Store, _ *Memory) store.Store {
	return &broken{Store: s, commit: func(ctx context.Context, g *store.Group) error {
		eager := g.Eager
		g.Eager = nil
		if err := s.Commit(ctx, g); err != nil {
			return err
		}
		for _, e := range eager {
			b := &store.Batch{BatchRef: store.BatchRef{Queue: e.Queue, No: 1 << 20, Epoch: 1}}
			for _, c := range g.Changes {
				for _, m := range c.Sends {
					if c.Err == nil && len(b.Deliveries) < e.Max {
						b.ClaimedAt = m.SentAt
						b.Deliveries = append(b.Deliveries, store.Delivery{Message: m, Index: len(b.Deliveries), Attempt: 1})
					}
				}
			}
			if len(b.Deliveries) > 0 {
				g.Claimed = append(g.Claimed, b)
			}
		}
		return nil
	}}
}

// asking breaks the answers to people.
func asking(spoil func(r store.Reader) store.Reader) func(store.Store, *Memory) store.Store {
	return func(s store.Store, _ *Memory) store.Store { return &broken{Store: s, reader: spoil(s.Reader())} }
}

// miscounting is a reader whose queues are one message off.
type miscounting struct{ store.Reader }

func (r miscounting) Queues(ctx context.Context) ([]store.QueueState, error) {
	all, err := r.Reader.Queues(ctx)
	for i := range all {
		all[i].Depth += all[i].Dead // the dead are not to be worked
	}
	return all, err
}

// vague is a reader that calls everything waiting.
type vague struct{ store.Reader }

func (r vague) Message(ctx context.Context, id string) (store.MessageStory, error) {
	m, err := r.Reader.Message(ctx, id)
	for i := range m.Queues {
		m.Queues[i].State = "waiting"
	}
	return m, err
}

// narrow is a reader that traces only the key itself.
type narrow struct{ store.Reader }

func (r narrow) Trace(ctx context.Context, key string, max int) ([]store.MessageStory, error) {
	all, err := r.Reader.Trace(ctx, key, max)
	return slices.DeleteFunc(all, func(m store.MessageStory) bool { return m.Key != key }), err
}
