package engine

import (
	"context"
	"encoding/json"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

const (
	wishAgain = 2 * time.Second  // until the owner has said that the events will come
	wishKeep  = 30 * time.Second // after that
	// wishForgotten is after what time a boundary that goes on wanting other events is taken not to want one any
	// more: longer than two versions of a program run beside each other.
	wishForgotten = time.Hour
	wishesOfNote  = 200
)

// eventNote is one event that a boundary wants.
type eventNote struct {
	Topic    string `json:"topic"`
	Earliest bool   `json:"earliest,omitempty"` // from the earliest that is kept, if it is new
}

// wish is a note of a boundary that wants events of ours.
type wish struct {
	owner, from string
	events      []eventNote
}

// wants are the events that subscribers registered here want of other boundaries: by subscriber's boundary and owner.
func (e *Engine) wants() map[[2]string][]eventNote {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := map[[2]string][]eventNote{}
	for _, own := range e.config.Owns {
		for owner := range e.config.Exchange.Routes {
			all[[2]string{own, owner}] = nil // that it wants nothing any more is news too
		}
	}
	for _, s := range e.settings {
		topic := s.Queue.Topic
		_, routed := e.config.Exchange.Routes[ownerOf(topic.Name)]
		if topic.Kind != store.KindEvent || !routed {
			continue
		}
		pair := [2]string{ownerOf(s.Queue.Name), ownerOf(topic.Name)}
		merged := false
		for i := range all[pair] {
			if all[pair][i].Topic == topic.Name {
				all[pair][i].Earliest = all[pair][i].Earliest || s.Queue.FromEarliest
				merged = true
			}
		}
		if !merged {
			all[pair] = append(all[pair], eventNote{topic.Name, s.Queue.FromEarliest})
		}
	}
	return all
}

// tell tells owners what is wanted of them.
func (x *exchange) tell(ctx context.Context) {
	now := time.Now()
	for pair, events := range x.l.wants() {
		key := pair[0] + " " + pair[1]
		x.mu.Lock()
		due := !x.agreed[key].After(now)
		if due {
			x.agreed[key] = now.Add(wishAgain)
		}
		x.mu.Unlock()
		for due {
			n := min(len(events), wishesOfNote)
			x.notify(ctx, pair[0], pair[1], noteSubscribe, events[:n])
			if events = events[n:]; len(events) == 0 {
				break
			}
		}
	}
}

// hearGranted notes that an owner has made subscriptions.
func (x *exchange) hearGranted(n transport.Note) {
	var to string
	if json.Unmarshal(n.Body, &to) == nil {
		x.mu.Lock()
		x.agreed[to+" "+n.From] = time.Now().Add(wishKeep)
		x.mu.Unlock()
	}
}

// hearWish takes down what a boundary wants of ours.
func (x *exchange) hearWish(owner string, n transport.Note) {
	w := wish{owner: owner, from: n.From}
	if json.Unmarshal(n.Body, &w.events) != nil {
		return
	}
	select {
	case x.wishes <- w:
	default: // it is said again
	}
}

// grant makes the relays that a boundary's wish needs, and stops those that it has not wished for in a while.
func (x *exchange) grant(ctx context.Context, w wish) error {
	now := time.Now()
	x.mu.Lock()
	x.heardOf[w.from] = now
	x.mu.Unlock()
	for _, e := range w.events {
		if ownerOf(e.Topic) != w.owner {
			continue
		}
		name := relayName(e.Topic, w.from)
		x.mu.Lock()
		r := x.relays[name]
		x.wanted[name] = now
		x.mu.Unlock()
		if r != nil {
			continue
		}
		if err := x.subscribe(ctx, name, e); err != nil {
			return err
		}
	}
	x.notify(ctx, w.owner, w.from, noteSubscribed, w.from)
	return nil
}

// subscribe makes the relay of an event, or takes up again one that was not wanted for a while.
func (x *exchange) subscribe(ctx context.Context, name string, e eventNote) error {
	q := x.l.relayQueue(store.Queue{Name: name, Topic: store.Topic{Name: e.Topic, Kind: store.KindEvent}, FromEarliest: e.Earliest})
	var state store.QueueState
	err := x.l.patiently(ctx, func(ctx context.Context) error {
		states, err := x.l.st.Declare(ctx, []store.Topic{q.Topic}, []store.Queue{q})
		if err == nil {
			state = states[0]
		}
		return err
	})
	if err == nil && state.Parked {
		_, err = x.l.st.Operate(ctx, store.Act{Verb: store.ResumeQueue, Queue: name, By: "weir", Why: "its boundary wants it again"})
	}
	if err != nil {
		if isOver(err) || ctx.Err() != nil {
			return err
		}
		x.l.log.Error("a boundary wants an event that it cannot have", "relay", name, keyError, err)
		return nil
	}
	x.l.log.Info("a boundary is sent an event from now on", "relay", name)
	return nil
}

// forget stops the relay of an event that its boundary, which goes on telling what it wants, has not wanted in a while.
func (x *exchange) forget(ctx context.Context, r *relay, q store.Queue) error {
	now := time.Now()
	x.mu.Lock()
	wanted, heard, held := x.wanted[r.name], x.heardOf[r.to], x.held[r.duty]
	x.mu.Unlock()
	if wanted.IsZero() {
		wanted = x.started
	}
	if q.Topic.Kind != store.KindEvent || r.to == transport.Everybody || !held || now.Sub(heard) > 2*wishKeep || now.Sub(wanted) < wishForgotten {
		return nil
	}
	x.l.log.Info("a boundary does not want an event any more", "relay", r.name)
	return x.unsubscribe(ctx, q)
}

// isForgotten says whether a queue is of an event that is not public any more, and still fills.
func (x *exchange) isForgotten(s *store.QueueState) bool {
	topic, to, at := relayed(s.Name)
	return at && to == transport.Everybody && x.l.owns(ownerOf(topic)) && s.MaxLag != unsubscribed
}

// unsubscribe lets a relay's queue park itself: what nobody wants holds nothing back.
func (x *exchange) unsubscribe(ctx context.Context, q store.Queue) error {
	q.MaxLag = unsubscribed
	return x.declare(ctx, q)
}
