package postgres

import (
	"errors"
	"testing"

	"github.com/weir-go/weir/store"
)

// wantFull wants a send to be refused by a queue of such a depth.
func wantFull(t *testing.T, err error, depth int, when string) {
	t.Helper()
	full := &store.FullError{}
	if !errors.As(err, &full) || full.Depth != depth {
		t.Errorf("a send %s = %v, want a FullError of depth %d", when, err, depth)
	}
}

// A sender that has not heard that a queue is bounded is held to its bound, and one that has not
// heard that it is no more is not: that depths are asked for is a matter of round trips only.
func TestBoundsOfOthers(t *testing.T) {
	t.Parallel()
	h, s, _ := processes(t, 2)
	sender, other := s[0], s[1]
	in := func() error {
		tx, err := h.db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(t.Context()) }()
		m := keyed(1, "")
		m[0].Key = ""
		return sender.AppendIn(t.Context(), Tx(tx), &store.Change{Sends: m, Outside: true})
	}
	for round := range 2 {
		small(t, other, 0)
		for range 3 {
			if err := offer(t, sender); err != nil {
				t.Fatalf("Commit() to a queue without a bound = %v, want nil", err)
			}
		}
		if b, _ := sender.bounds.Load(cook().Topic.Name); b != (bounds{}) {
			t.Errorf("the sender takes the queue for %+v, want without bounds", b)
		}
		depth := 3 * (round + 1)
		small(t, other, depth)
		if round == 0 {
			wantFull(t, offer(t, sender), depth, "from one who knew the queue without a bound")
		}
		wantFull(t, in(), depth, "in a transaction of the sender's own")
		wantFull(t, offer(t, sender), depth, "from one who knows the bound")
	}
}

// Two topics in one group: the one that is known to be bounded, and one that is not.
func TestBoundsOfSeveral(t *testing.T) {
	t.Parallel()
	_, s, _ := processes(t, 1)
	small(t, s[0], 1)
	if err := offer(t, s[0]); err != nil {
		t.Fatal(err)
	}
	wash := store.Queue{Name: "a.wash", Topic: store.Topic{Name: "a.wash", Kind: store.KindCommand}, Capacity: 1}
	if _, err := s[0].Declare(t.Context(), nil, []store.Queue{wash}); err != nil {
		t.Fatal(err)
	}
	g := &store.Group{Held: store.HeldIsRefused}
	for _, topic := range []string{"a.wash", "a.cook", "a.wash"} {
		g.Changes = append(g.Changes, &store.Change{Outside: true, Sends: []*store.Message{{Topic: topic, Kind: store.KindCommand, Version: 1}}})
	}
	if err := s[0].Commit(t.Context(), g); err != nil || g.Changes[0].Err != nil {
		t.Fatalf("Commit() = %v, Err %v, want nil, nil", err, g.Changes[0].Err)
	}
	wantFull(t, g.Changes[1].Err, 1, "to the queue that was full")
	wantFull(t, g.Changes[2].Err, 1, "to the queue that the group has filled")
}

// Each of an event's subscribers is held to its own depth.
func TestBoundsOfSubscribers(t *testing.T) {
	t.Parallel()
	_, s, _ := processes(t, 1)
	cooked := store.Topic{Name: "a.cooked", Kind: store.KindEvent}
	publish := func() error {
		ch := &store.Change{Outside: true, Sends: []*store.Message{{Topic: cooked.Name, Kind: cooked.Kind, Version: 1}}}
		return errors.Join(s[0].Commit(t.Context(), &store.Group{Changes: []*store.Change{ch}}), ch.Err)
	}
	for _, queue := range []store.Queue{{Name: "b.a", Topic: cooked, Capacity: 2, Required: true}, {Name: "c.a", Topic: cooked, Capacity: 9, Required: true}} {
		if _, err := s[0].Declare(t.Context(), nil, []store.Queue{queue}); err != nil {
			t.Fatal(err)
		}
		if err := publish(); err != nil {
			t.Fatalf("Commit() = %v, want nil", err)
		}
	}
	wantFull(t, publish(), 2, "to the subscriber who is full, beside one who is not")
}
