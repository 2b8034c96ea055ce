package mutants

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-go/weir/store"
)

// arriving breaks each change with an arrival.
func arriving(spoil func(c *store.Change)) func(store.Store, *Memory) store.Store {
	return changing(func(c *store.Change, _ *Memory) {
		if c.Arrival != nil {
			a := *c.Arrival
			c.Arrival = &a
			spoil(c)
		}
	})
}

// stating breaks each state, and tells its sender what became of it.
func stating(spoil func(st *store.State, m *Memory)) func(store.Store, *Memory) store.Store {
	return func(s store.Store, m *Memory) store.Store {
		return &broken{Store: s, commit: func(ctx context.Context, g *store.Group) error {
			whole := make([][]store.State, len(g.Changes))
			for i, c := range g.Changes {
				whole[i] = c.States
				c.States = slices.Clone(c.States)
				for n := range c.States {
					spoil(&c.States[n], m)
				}
			}
			err := s.Commit(ctx, g)
			for i, c := range g.Changes {
				for n := range whole[i] {
					whole[i][n].Applied = c.States[n].Applied
				}
				c.States = whole[i]
			}
			return err
		}}
	}
}

// marking moves each mark in a change apart, before the one that brought it.
func marking(s store.Store, _ *Memory) store.Store {
	return &broken{Store: s, commit: func(ctx context.Context, g *store.Group) error {
		rest := *g
		rest.Changes = nil
		for _, c := range g.Changes {
			first := &store.Change{Arrival: c.Arrival}
			if err := s.Commit(ctx, &store.Group{Changes: []*store.Change{first}}); err != nil {
				return err
			}
			if c.Err = first.Err; c.Err == nil {
				bare := *c
				bare.Arrival = nil
				rest.Changes = append(rest.Changes, &bare)
			}
		}
		err := s.Commit(ctx, &rest)
		for _, c := range g.Changes {
			for _, bare := range rest.Changes {
				if c.Err == nil && len(c.Sends) > 0 && len(bare.Sends) > 0 && c.Sends[0] == bare.Sends[0] {
					c.Err = bare.Err
				}
			}
		}
		return err
	}}
}

// generous gives out duties without a look.
func generous(s store.Store, _ *Memory) store.Store {
	return &broken{Store: s, claim: func(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
		if len(r.Duties) > 0 {
			return store.Claimed{Duties: r.Duties}, nil
		}
		return s.Claim(ctx, r)
	}}
}

// renewing says that a renewal which is refused was done.
type renewing struct{ store.Store }

func (r *renewing) Operate(ctx context.Context, a store.Act) (store.Acted, error) {
	got, err := r.Store.Operate(ctx, a)
	if a.Verb == store.RenewStore && errors.Is(err, store.ErrConflict) {
		return store.Acted{Count: 1}, nil
	}
	return got, err
}

// local is a reader that finds only messages with IDs of its own.
type local struct {
	store.Reader
	own store.Incarnation
}

func (r local) Message(ctx context.Context, id string) (store.MessageStory, error) {
	if !strings.HasPrefix(id, string(r.own)) {
		return store.MessageStory{}, store.ErrNotFound
	}
	return r.Reader.Message(ctx, id)
}

// elsewhere is a reader that goes by origins' times.
type elsewhere struct{ store.Reader }

func (r elsewhere) Messages(ctx context.Context, q store.MessageQuery) ([]store.Message, error) {
	all, err := r.Reader.Messages(ctx, q)
	return slices.DeleteFunc(all, func(m store.Message) bool { return m.SentAt.Before(q.Since) }), err
}

// renaming is a reader that gives all messages IDs of the newest life.
type renaming struct {
	store.Reader
	s store.Store
}

func (r renaming) Message(ctx context.Context, id string) (store.MessageStory, error) {
	m, err := r.Reader.Message(ctx, id)
	m.ID = r.s.Info().Incarnation.ID(m.Pos)
	return m, err
}

// newestless is a reader that takes a queue's gaps for its batches.
type newestless struct{ store.Reader }

func (r newestless) Queues(ctx context.Context) ([]store.QueueState, error) {
	all, err := r.Reader.Queues(ctx)
	for i := range all {
		all[i].Newest = all[i].Gaps
	}
	return all, err
}

// exchanging breaks what boundaries are answered.
func exchanging(spoil func(x store.ExchangeReader) store.ExchangeReader) func(store.Store, *Memory) store.Store {
	return asking(func(r store.Reader) store.Reader { return exchange{r, spoil(r.Exchange())} })
}

type exchange struct {
	store.Reader
	x store.ExchangeReader
}

func (r exchange) Exchange() store.ExchangeReader { return r.x }

// jumpless counts no jumps.
type jumpless struct{ store.ExchangeReader }

func (x jumpless) Arrivals(ctx context.Context, after string) ([]store.ArrivalRow, error) {
	rows, err := x.ExchangeReader.Arrivals(ctx, after)
	for i := range rows {
		rows[i].Jumps = 0
	}
	return rows, err
}

// pages breaks what page of states is asked for.
type pages struct {
	store.ExchangeReader
	spoil func(q *store.StateQuery)
}

func (x pages) States(ctx context.Context, q store.StateQuery) ([]store.State, error) {
	x.spoil(&q)
	return x.ExchangeReader.States(ctx, q)
}

func paging(spoil func(q *store.StateQuery)) func(store.Store, *Memory) store.Store {
	return exchanging(func(x store.ExchangeReader) store.ExchangeReader { return pages{x, spoil} })
}

// living takes the newest of the live states for an entity's newest.
type living struct{ store.ExchangeReader }

func (x living) Entities(ctx context.Context) ([]store.EntityRow, error) {
	rows, err := x.ExchangeReader.Entities(ctx)
	for i := range rows {
		rows[i].Newest = 0
		all, err := x.States(ctx, store.StateQuery{Entity: rows[i].Entity, Max: store.MaxList})
		if err != nil {
			return nil, err
		}
		for _, st := range all {
			rows[i].Newest = max(rows[i].Newest, st.Version)
		}
	}
	return rows, err
}

// versioned takes the order of versions for that of writing.
type versioned struct{ store.ExchangeReader }

func (x versioned) Changes(ctx context.Context, entity, mark string, most int) ([]store.State, string, error) {
	after := int64(0)
	if mark != "" {
		var err error
		if after, err = strconv.ParseInt(mark, 10, 64); err != nil {
			return nil, "", err
		}
	}
	all, err := x.States(ctx, store.StateQuery{Entity: entity, Deleted: true, Max: store.MaxList})
	all = slices.DeleteFunc(all, func(st store.State) bool { return st.Version <= after })
	slices.SortFunc(all, func(a, b store.State) int { return cmp.Compare(a.Version, b.Version) })
	all = all[:min(most, len(all))]
	if len(all) > 0 {
		mark = fmt.Sprint(all[len(all)-1].Version)
	}
	return all, mark, err
}

// reversing gives batches from behind.
type reversing struct{ store.ExchangeReader }

func (x reversing) Batch(ctx context.Context, queue store.QueueID, no int64) (*store.Batch, error) {
	b, err := x.ExchangeReader.Batch(ctx, queue, no)
	if b != nil {
		slices.Reverse(b.Deliveries)
	}
	return b, err
}

// inventing gives empty batches for those that are gone.
type inventing struct{ store.ExchangeReader }

func (x inventing) Batch(ctx context.Context, queue store.QueueID, no int64) (*store.Batch, error) {
	b, err := x.ExchangeReader.Batch(ctx, queue, no)
	if errors.Is(err, store.ErrNotFound) {
		return &store.Batch{BatchRef: store.BatchRef{Queue: queue, No: no}}, nil
	}
	return b, err
}
