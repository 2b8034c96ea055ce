package storetest

import (
	"errors"
	"time"

	"github.com/weir-go/weir/store"
)

func dedupLaws() []Law {
	return []Law{
		{"dedup/same-body", "A second send with the same deduplication key and body is a no-op with the ID of the first.", dedupSame},
		{"dedup/other-body", "A second send with the same deduplication key and another body is refused with a DuplicateError that names the first; nothing of its change is written.", dedupOther},
		{"dedup/settles-nothing", "A change that a used deduplication key refuses settles nothing either.", dedupSettles},
		{"dedup/retried", "A dead message is retried like any other when a newer one has got its deduplication key since.", dedupRetried},
		{"dedup/expires", "A deduplication key is free again when its time is over, and not before, over crashes and retention.", dedupExpires},
		{"dedup/scope", "A deduplication key belongs to its topic.", dedupScope},
		{"dedup/together", "Within a change and within a group the second send of a key repeats the first.", dedupTogether},
		{"dedup/refused", "A refused change takes no deduplication key.", dedupRefused},
		{"dedup/own", "AppendIn deduplicates like Commit.", dedupOwn},
		{"dedup/worked", "A repeated send is a no-op also when the first was worked, and counts nowhere.", dedupWorked},
	}
}

// unique makes the message of a word with a deduplication key kept for an hour.
func unique(topic, word, key string) *store.Message {
	m := message(topic, word)
	m.Dedup, m.DedupFor = key, time.Hour
	return m
}

func sends(ms ...*store.Message) *store.Change { return &store.Change{Sends: ms} }

// repeats wants a message to have got what the first one got.
func (s *scene) repeats(got, want *store.Message) {
	s.Helper()
	if got.ID != want.ID || got.Pos != want.Pos || !got.SentAt.Equal(want.SentAt) {
		s.Errorf("a repeated send = %q at %d, sent %s, want %q at %d, sent %s", got.ID, got.Pos, got.SentAt, want.ID, want.Pos, want.SentAt)
	}
}

// duplicate wants a change to be refused because of the first's key.
func (s *scene) duplicate(err error, first *store.Message) {
	s.Helper()
	d, ok := errors.AsType[*store.DuplicateError](err)
	if !ok || d.Topic != first.Topic || d.Key != first.Dedup || d.ID != first.ID {
		s.Errorf("a send with a used deduplication key and another body: %v, want a DuplicateError of %s %q with %s", err, first.Topic, first.Dedup, first.ID)
	}
}

func dedupSame(s *scene) {
	s.declareCook()
	first := unique(cook, "1", "order-7")
	s.commit(sends(first))
	s.clock.move(time.Minute)
	again := unique(cook, "1", "order-7")
	beside := sends(message(cook, "2"), again, message(cook, "3"))
	beside.Closures = []store.Closure{s.note("beside")}
	s.commit(beside)
	s.repeats(again, first)
	s.listed(cook, "1 2 3")
	s.notes("beside")
	s.holds(cook, 3, 0)
	s.crash()
	third := unique(cook, "1", "order-7")
	s.commit(sends(third))
	s.repeats(third, first)
	s.drain(cook, 9, "1 2 3")
}

func dedupOther(s *scene) {
	s.declareCook()
	first := unique(cook, "1", "order-7")
	s.commit(sends(first))
	c := sends(message(cook, "2"), unique(cook, "4", "order-7"))
	c.Closures = []store.Closure{s.note("no")}
	s.group(&store.Group{Changes: []*store.Change{c}})
	s.duplicate(c.Err, first)
	s.listed(cook, "1")
	s.notes("")
	s.holds(cook, 1, 0)
}

func dedupSettles(s *scene) {
	s.declareCook()
	first := unique(cook, "1", "order-7")
	s.commit(sends(first))
	b := s.claim(cook, 9, "1")
	c := change(s.settle(b, "1", store.Done))
	c.Sends = []*store.Message{unique(cook, "2", "order-7")}
	s.group(&store.Group{Changes: []*store.Change{c}})
	s.duplicate(c.Err, first)
	s.holds(cook, 1, 0)
	s.done(b, "1")
	s.holds(cook, 0, 0)
}

func dedupRetried(s *scene) {
	s.declareCook()
	old := unique(cook, "1", "order-7")
	s.commit(sends(old))
	s.fail(s.claim(cook, 9, "1"), "1", store.Dead)
	s.clock.move(2 * time.Hour)
	fresh := unique(cook, "2", "order-7")
	s.commit(sends(fresh))
	s.operate(store.Act{Verb: store.RetryDead, ID: old.ID})
	s.drain(cook, 9, "1 2")
	again := unique(cook, "2", "order-7")
	s.commit(sends(again))
	s.repeats(again, fresh)
}

func dedupExpires(s *scene) {
	s.declareCook()
	first := unique(cook, "1", "order-7")
	s.commit(sends(first))
	s.drain(cook, 9, "1")
	s.clock.move(time.Hour - time.Microsecond)
	s.prune(store.Retention{Keep: time.Minute})
	s.listed(cook, "")
	again := unique(cook, "1", "order-7")
	s.commit(sends(again))
	if again.ID != first.ID || again.Pos != first.Pos {
		s.Errorf("a repeated send of a deleted message = %q, want %q", again.ID, first.ID)
	}
	c := sends(unique(cook, "2", "order-7"))
	s.group(&store.Group{Changes: []*store.Change{c}})
	s.duplicate(c.Err, first)
	s.crash()
	s.clock.move(time.Microsecond)
	fresh := unique(cook, "3", "order-7")
	s.commit(sends(fresh))
	if fresh.ID == first.ID {
		s.Errorf("a send with a key that has expired = %s, the first's ID, want its own", fresh.ID)
	}
	c = sends(unique(cook, "1", "order-7"))
	s.group(&store.Group{Changes: []*store.Change{c}})
	s.duplicate(c.Err, fresh)
	s.drain(cook, 9, "3")
}

func dedupScope(s *scene) {
	s.declare(store.Queue{Name: cook}, store.Queue{Name: serve})
	a, b := unique(cook, "1", "order-7"), unique(serve, "2", "order-7")
	s.commit(sends(a), sends(b))
	s.commit(sends(unique(cook, "3", "order-8")))
	s.listed(cook, "1 3")
	s.listed(serve, "2")
}

func dedupTogether(s *scene) {
	s.declareCook()
	a, b := unique(cook, "1", "one"), unique(cook, "1", "one")
	s.commit(sends(a, message(cook, "2"), b))
	s.repeats(b, a)
	c, d, e := unique(cook, "3", "two"), unique(cook, "3", "two"), sends(unique(cook, "4", "two"))
	changes := []*store.Change{sends(c), sends(d), e, sends(message(cook, "5"))}
	s.group(&store.Group{Changes: changes})
	if changes[0].Err != nil || changes[1].Err != nil || changes[3].Err != nil {
		s.Errorf("Commit(the same twice and another): Err = %v, %v, %v, want nil", changes[0].Err, changes[1].Err, changes[3].Err)
	}
	s.repeats(d, c)
	s.duplicate(e.Err, c)
	s.listed(cook, "1 2 3 5")
	bad := sends(unique(cook, "6", "three"), unique(cook, "7", "three"))
	s.group(&store.Group{Changes: []*store.Change{bad}})
	if _, ok := errors.AsType[*store.DuplicateError](bad.Err); !ok {
		s.Errorf("Commit(one change, one key, two bodies): Err = %v, want a DuplicateError", bad.Err)
	}
	s.listed(cook, "1 2 3 5")
	s.holds(cook, 4, 0)
}

func dedupRefused(s *scene) {
	s.declareCook()
	bad := sends(unique(cook, "1", "order-7"))
	bad.Closures = []store.Closure{failing}
	good := sends(unique(cook, "2", "order-7"))
	s.group(&store.Group{Changes: []*store.Change{bad, good}})
	if !errors.Is(bad.Err, errClosure) || good.Err != nil {
		s.Errorf("Commit(refused, the same key again): Err = %v, %v, want the closure's, nil", bad.Err, good.Err)
	}
	s.drain(cook, 9, "2")
}

func dedupOwn(s *scene) {
	s.declareCook()
	first := unique(cook, "1", "order-7")
	s.commit(sends(first))
	again, fresh, twice := unique(cook, "1", "order-7"), unique(cook, "2", "order-8"), unique(cook, "2", "order-8")
	s.own(true, func(tx store.Tx) {
		s.appendIn(tx, []*store.Message{again, fresh, twice})
	})
	s.repeats(again, first)
	s.repeats(twice, fresh)
	s.own(true, func(tx store.Tx) {
		s.duplicate(s.store.AppendIn(s.ctx(), tx, &store.Change{Sends: []*store.Message{unique(cook, "3", "order-7")}}), first)
	})
	c := sends(unique(cook, "4", "order-8"))
	s.group(&store.Group{Changes: []*store.Change{c}})
	s.duplicate(c.Err, fresh)
	s.drain(cook, 9, "1 2")
	s.holds(cook, 0, 0)
}

func dedupWorked(s *scene) {
	s.declare(store.Queue{Name: cook, Capacity: 2})
	first := unique(cook, "1", "order-7")
	s.commit(sends(first))
	s.drain(cook, 9, "1")
	again := unique(cook, "1", "order-7")
	s.commit(sends(again))
	s.repeats(again, first)
	s.drain(cook, 9, "")
	s.holds(cook, 0, 0)
	s.figures(cook, store.FigureMinute{Sent: 1, Done: 1})
}
