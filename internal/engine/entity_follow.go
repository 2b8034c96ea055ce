package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/weir-go/weir/store"
)

// workOf makes work of our own into that of a queue.
func workOf(work func(a *Attempt) error) func(context.Context, *Attempt) error {
	return func(_ context.Context, a *Attempt) error { return work(a) }
}

func (f *Following) exchange() store.ExchangeReader { return f.e.st.Reader().Exchange() }

// hear applies an event of the owner's, in its acknowledgement.
func (f *Following) hear(a *Attempt) error {
	m := a.Message
	var h map[string]string
	if len(m.Headers) > 0 {
		if err := json.Unmarshal(m.Headers, &h); err != nil {
			return Permanent(fmt.Errorf("decode headers: %w", err))
		}
	}
	version, err := strconv.ParseInt(h[stampHeader], 10, 64)
	if err != nil || version <= 0 || m.Key == "" {
		return Permanent(fmt.Errorf("%s: header %s is %q and the key %q, want a version and an id: it is published with Publish, which an entity's owner must not do: use Put", m.Topic, stampHeader, h[stampHeader], m.Key))
	}
	if h[headerIDOnly] != "" {
		return f.fetch(a, version)
	}
	s := store.State{Entity: f.entity, Key: m.Key, Version: version, Contract: m.Version, AsOf: m.SentAt, Deleted: h[headerDeleted] != "", Body: m.Body}
	if m.Origin != nil && !m.Origin.SentAt.IsZero() {
		s.AsOf = m.Origin.SentAt
	}
	if s.Deleted {
		s.Body = nil
	}
	return a.Send(nil, []store.State{s})
}

// fetch asks the owner for the state that an event tells of without having it. While one is asked for,
// events of its key wait: they are mostly met by the same answer.
func (f *Following) fetch(a *Attempt, version int64) error {
	key := a.Message.Key
	have, err := f.exchange().State(a, f.entity, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	now := time.Now()
	f.mu.Lock()
	asked, under := f.fetching[key]
	under = under && now.Sub(asked) < fetchMax
	if have.Version >= version {
		delete(f.fetching, key)
	} else if !under {
		f.fetching[key] = now
	}
	f.mu.Unlock()
	switch {
	case have.Version >= version:
		return nil
	case under:
		return NotYet("its state is being fetched from the owner", fetchPause)
	}
	f.refreshed.Add(1)
	m, err := f.ask(&ask{Check: []checked{{Key: key, Version: version}}}, "")
	if err != nil {
		return err
	}
	return a.Send([]*store.Message{m}, nil)
}

const (
	fetchMax   = 30 * time.Second       // after which a fetch under way is believed lost
	fetchPause = 100 * time.Millisecond // between looks whether it has come
)

// ask makes the message that asks the owner. Those of one key are answered in order.
func (f *Following) ask(q *ask, key string) (*store.Message, error) {
	q.By = f.by
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	t := statesOf(f.entity)
	return &store.Message{Topic: t.Name, Kind: t.Kind, Version: 1, Key: key, Body: body}, nil
}

// snapshotKey is the key of a snapshot's asks and pages: one after the other.
const snapshotKey = "snapshot"

// turn applies a page, and asks for the next one, in its acknowledgement: so a snapshot goes
// on from where it was, whoever stops.
func (f *Following) turn(a *Attempt) error {
	p, there, err := decodePage(f.entity, a.Message.Body)
	if err != nil {
		return Permanent(err)
	}
	now := time.Now()
	f.fetched(a.Message.Key, p, there)
	states := append(there, removed(f.entity, p.Missing, now.UTC())...)
	if p.Snapshot == "" {
		return a.Send(nil, states)
	}
	at, version, err := f.readProgress(a)
	if err != nil {
		return err
	}
	if p.Snapshot != at.Snapshot || at.Done {
		return a.Send(nil, states) // of an earlier one: what it says is true, but nothing follows from it
	}
	if p.Incarnation != p.Begun.Incarnation {
		// The owner's store was restored meanwhile: what came before may tell of what is no more.
		at.begin(f.nonce(), "the owner's store was restored", f.sight(now, at.Wish, at.Jumps))
		m, err := f.ask(&ask{Snapshot: at.Snapshot}, snapshotKey)
		if err != nil {
			return err
		}
		return a.Send([]*store.Message{m}, append(states, at.state(f.entity, version+1)))
	}
	asks, err := f.goOn(a, &p, there, &at)
	if err != nil {
		return err
	}
	at.PageAt = now.UTC()
	return a.Send(asks, append(states, at.state(f.entity, version+1)))
}

// goOn decides what follows from a snapshot's page: what to ask about, and the next page, or the end.
func (f *Following) goOn(ctx context.Context, p *page, there []store.State, at *progress) ([]*store.Message, error) {
	newLife := at.Owner != "" && at.Owner != p.Begun.Incarnation
	upto := ""
	if p.More && len(there) > 0 {
		upto = there[len(there)-1].Key
	}
	here, upto, err := f.between(ctx, p.After, upto)
	if err != nil {
		return nil, err
	}
	var asks []*store.Message
	suspects := sweep(here, there, p.Begun.Newest, newLife)
	for len(suspects) > 0 {
		n := min(len(suspects), pageStates)
		m, err := f.ask(&ask{Check: suspects[:n]}, "")
		if err != nil {
			return nil, err
		}
		asks = append(asks, m)
		suspects = suspects[n:]
	}
	if upto == "" {
		at.Done, at.Loaded = true, true
		at.Covered, at.Owner = p.Begun.Newest, p.Begun.Incarnation
		return asks, nil
	}
	m, err := f.ask(&ask{Snapshot: p.Snapshot, After: upto, Begun: &p.Begun}, snapshotKey)
	if err != nil {
		return nil, err
	}
	return append(asks, m), nil
}

// between gives what is here of the keys above after, up to upto (empty: to the end). Of very many it gives
// the first, and up to where: the snapshot goes on there, though its page tells of more.
func (f *Following) between(ctx context.Context, after, upto string) (here []store.State, to string, err error) {
	for len(here) < sweepMax {
		list, err := f.exchange().States(ctx, store.StateQuery{Entity: f.entity, After: after, Deleted: true, Max: store.MaxList})
		if err != nil {
			return nil, "", err
		}
		for i := range list {
			if upto != "" && list[i].Key > upto {
				return here, upto, nil
			}
			list[i].Body = nil
			here = append(here, list[i])
			after = list[i].Key
		}
		if len(list) < store.MaxList {
			return here, upto, nil
		}
	}
	return here, after, nil
}

// sweepMax bounds what one page is compared with.
const sweepMax = 10_000

// readProgress reads how far this store's snapshot is, and the version under which that is kept.
func (f *Following) readProgress(ctx context.Context) (progress, int64, error) {
	var p progress
	s, err := f.exchange().State(ctx, f.entity+followerSuffix, progressKey)
	if errors.Is(err, store.ErrNotFound) {
		return p, 0, nil
	}
	if err != nil {
		return p, 0, err
	}
	if err := json.Unmarshal(s.Body, &p); err != nil {
		return p, 0, fmt.Errorf("progress of the replica of %s: %w", f.entity, err)
	}
	return p, s.Version, nil
}

// fetched notes what an answer tells, for those who wait for it.
func (f *Following) fetched(nonce string, p page, there []store.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range there {
		delete(f.fetching, there[i].Key)
	}
	for _, m := range p.Missing {
		delete(f.fetching, m.Key)
	}
	f.asks.answered(nonce, there, p.Missing)
}
