package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

// Own registers an entity that is owned here, before Run. remote: others may follow it in other stores,
// and are answered.
func (e *Engine) Own(entity string, remote bool, faults error) {
	if e.Detached() {
		return
	}
	e.mu.Lock()
	if e.named["entity "+entity] {
		faults = errors.Join(faults, fmt.Errorf("weir: %s is owned twice: share what Own gives", entity))
	}
	e.named["entity "+entity] = true
	e.owned = append(e.owned, entity)
	if !remote && faults != nil {
		e.faults = append(e.faults, faults)
	}
	e.mu.Unlock()
	if remote {
		t := statesOf(entity)
		e.Register(internalQueue(t.Name, t, owning{e: e, entity: entity}.give), faults)
	}
}

// owning is an entity that is owned here.
type owning struct {
	e      *Engine
	entity string
}

// subscribePause is between looks whether a follower has subscribed.
const subscribePause = 200 * time.Millisecond

// give answers a follower, in the acknowledgement of its question.
func (o owning) give(a *Attempt) error {
	var q ask
	if err := json.Unmarshal(a.Message.Body, &q); err != nil {
		return Permanent(fmt.Errorf("a question about %s: %w", o.entity, err))
	}
	if len(q.Check) > pageStates {
		return Permanent(fmt.Errorf("a question about %d of %s, want at most %d", len(q.Check), o.entity, pageStates))
	}
	if q.Snapshot != "" {
		return o.givePage(a, &q)
	}
	return o.giveStates(a, &q)
}

// givePage answers with a page of a snapshot. The first waits until the follower has subscribed: between the
// page and the first event there must be nothing that it gets neither with the one nor the other.
func (o owning) givePage(a *Attempt, q *ask) error {
	inc := o.e.st.Info().Incarnation
	if q.Begun == nil {
		subscribed, err := o.subscribed(a, q.By)
		if err != nil {
			return err
		}
		if !subscribed {
			return NotYet("boundary "+q.By+", which asks, has not subscribed yet", subscribePause)
		}
		q.Begun = &begun{Newest: a.Message.Stamp, Incarnation: inc}
	}
	p := page{Snapshot: q.Snapshot, After: q.After, Begun: *q.Begun, Incarnation: inc}
	states, err := o.e.st.Reader().Exchange().States(a, store.StateQuery{Entity: o.entity, After: q.After, Deleted: true, Max: pageStates})
	if err != nil {
		return err
	}
	n := pageful(states)
	p.More = n < len(states) || n == pageStates
	return o.reply(a, &p, states[:n], nil)
}

// subscribed says whether events go to a boundary.
func (o owning) subscribed(ctx context.Context, by string) (bool, error) {
	queues, err := o.e.st.Reader().Queues(ctx)
	name := relayName(o.entity, by)
	return slices.ContainsFunc(queues, func(q store.QueueState) bool { return q.Name == name }), err
}

// giveStates answers with single states.
func (o owning) giveStates(a *Attempt, q *ask) error {
	inc := o.e.st.Info().Incarnation
	p := page{Begun: begun{Newest: a.Message.Stamp, Incarnation: inc}, Incarnation: inc}
	var states, raised []store.State
	unknown := 0
	for _, c := range q.Check {
		if c.Version >= a.Message.Stamp {
			// All that this store has given is below, of its former lives too. Nothing may follow from it: raised
			// above it, what is put later would be older.
			c, unknown = checked{Key: c.Key}, unknown+1
		}
		have, err := o.e.st.Reader().Exchange().State(a, o.entity, c.Key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		give, above, missing := answer(c, have, err == nil)
		if missing {
			p.Missing = append(p.Missing, c)
			continue
		}
		states = append(states, give)
		if above {
			raised = append(raised, give)
		}
	}
	if len(raised) > 0 {
		o.e.log.Warn("a follower knows newer versions than this store, which has forgotten them: they are passed over", keyEntity, o.entity, "entries", len(raised))
	}
	if unknown > 0 {
		o.e.log.Error("a follower has versions that this store has never given: somebody else has, or it was restored without weir store renew",
			keyEntity, o.entity, "follower", q.By, "entries", unknown)
	}
	for first := true; first || len(states) > 0; first = false {
		n := pageful(states)
		if err := o.reply(a, &p, states[:n], raised); err != nil {
			return err
		}
		p.States, p.Missing, raised, states = nil, nil, nil, states[n:]
	}
	return nil
}

func (o owning) reply(a *Attempt, p *page, states, own []store.State) error {
	body, err := p.encode(states)
	if err != nil {
		return err
	}
	t := pagesOf(o.entity)
	return a.Send([]*store.Message{{Topic: t.Name, Kind: t.Kind, Version: 1, Key: a.Message.Key, Body: body}}, own)
}

const (
	noteNewest  = "newest" // how far an owner is with its entities
	beatsOfNote = 20       // so that a note stays below its bound
)

// tellFollowers tells those who follow what is owned here how far it is, from time to time, as a member of the crew.
func (l *life) tellFollowers(ctx context.Context) error {
	tell := func(bool) error {
		return ignoreStop(ctx, l.patiently(ctx, func(ctx context.Context) error {
			queues, err := l.st.Reader().Queues(ctx)
			if err != nil {
				return err
			}
			rows, err := l.st.Reader().Exchange().Entities(ctx)
			if err != nil {
				return err
			}
			for to, all := range beats(l.owned, queues, rows, l.st.Info().Incarnation) {
				l.tellBeats(ctx, to, all)
			}
			return nil
		}))
	}
	if err := tell(true); err != nil {
		return err
	}
	return every(ctx, l.intervals.Beat, nil, tell)
}

// tellBeats sends beats in the names of the boundaries that own what they are about. They may be lost.
func (l *life) tellBeats(ctx context.Context, to string, all []beat) {
	byOwner := map[string][]beat{}
	for _, b := range all {
		byOwner[ownerOf(b.Entity)] = append(byOwner[ownerOf(b.Entity)], b)
	}
	for from, list := range byOwner {
		for part := range slices.Chunk(list, beatsOfNote) {
			body, err := json.Marshal(part)
			if err == nil {
				err = l.Notify(ctx, from, to, noteNewest, body)
			}
			if err != nil {
				l.log.Debug("followers were not told", "to", to, keyError, err)
			}
		}
	}
}

// beats are what each boundary that follows entities owned here is told from time to time.
func beats(owned []string, queues []store.QueueState, rows []store.EntityRow, inc store.Incarnation) map[string][]beat {
	newest := make(map[string]int64, len(rows))
	for _, r := range rows {
		newest[r.Entity] = r.Newest
	}
	told := map[string][]beat{}
	for i := range queues {
		q := &queues[i]
		entity, to, ok := strings.Cut(q.Name, "@")
		if !ok || to == "" || to == "*" || !slices.Contains(owned, entity) {
			continue
		}
		told[to] = append(told[to], beat{Entity: entity, Newest: newest[entity], Incarnation: inc, Gaps: q.Gaps, Parked: q.Parked})
	}
	return told
}
