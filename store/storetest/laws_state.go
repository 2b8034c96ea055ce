package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func stateLaws() []Law {
	return []Law{
		{"state/newer", "A state is written if its version is higher than what the store has, and only then; Applied says so.", stateNewer},
		{"state/tombstone", "A tombstone is a state without a body, which an older state does not bring back and a newer one does.", stateTombstone},
		{"state/of", "A state of a message of its change gets that message's stamp for its version and SentAt for its time; a message that repeats another tells of nothing new.", stateOf},
		{"state/with-change", "States are written with their change or not at all.", stateWithChange},
		{"state/own", "States in the caller's own transaction are there when it commits, and gone when it does not.", stateOwn},
		{"state/order", "Of two states of a key in a change, or in a group, the newer one stays, whichever comes first.", stateOrder},
		{"state/pages", "States are listed a page at a time by key, byte by byte, with or without tombstones; what belongs to another entity is not there.", statePages},
		{"state/entities", "Entities counts live states and tombstones and says which version is the newest.", stateEntities},
		{"state/changes", "From mark to mark Changes leaves out no state that was written, tombstones too.", stateChanges},
		{"state/retention", "Retention deletes tombstones older than messages are kept, no other state, and not an entity's newest.", stateRetention},
		{"state/limits", "Too many states, and states without name, key, contract, version or time, are refused.", stateLimits},
	}
}

const guest = "customers.customer"

// state is a follower's state of a guest; the body tells key and version.
func state(key string, version int64) store.State {
	return store.State{Entity: guest, Key: key, Version: version, Contract: 1, AsOf: time.UnixMicro(version * 1e6).UTC(), Body: fmt.Append(nil, key, version)}
}

func tombstone(key string, version int64) store.State {
	st := state(key, version)
	st.Deleted, st.Body = true, nil
	return st
}

// stateLine tells states: "a1 b2 c3-" of which c is a tombstone.
func stateLine(states []store.State) string {
	words := make([]string, len(states))
	for i, st := range states {
		words[i] = fmt.Sprint(st.Key, st.Version)
		if st.Deleted {
			words[i] += "-"
		}
	}
	return strings.Join(words, " ")
}

// put writes states in one change, and wants those of the line to be applied.
func (s *scene) put(want string, states ...store.State) {
	s.Helper()
	c := &store.Change{States: states}
	s.commit(c)
	applied := slices.DeleteFunc(slices.Clone(c.States), func(st store.State) bool { return !st.Applied })
	if got := stateLine(applied); got != want {
		s.Errorf("Commit(states %s) applied %q, want %q", stateLine(states), got, want)
	}
}

// states wants the guests that there are, tombstones too.
func (s *scene) states(want string) {
	s.Helper()
	got, err := s.store.Reader().Exchange().States(s.ctx(), store.StateQuery{Entity: guest, Deleted: true, Max: store.MaxList})
	if err != nil || stateLine(got) != want {
		s.Errorf("States(%s) = %q, %v, want %q", guest, stateLine(got), err, want)
	}
}

// sameState wants a state to be read as it was written.
func (s *scene) sameState(got, want store.State) {
	s.Helper()
	if got.Entity != want.Entity || got.Key != want.Key || got.Version != want.Version || got.Contract != want.Contract ||
		!got.AsOf.Equal(want.AsOf) || got.Deleted != want.Deleted || string(got.Body) != string(want.Body) || got.Deleted && got.Body != nil || got.Of != nil {
		s.Errorf("the state of %s %s = %+v, want %+v", want.Entity, want.Key, got, want)
	}
}

func (s *scene) stateAt(key string) store.State {
	s.Helper()
	got, err := s.store.Reader().Exchange().State(s.ctx(), guest, key)
	if err != nil {
		s.Fatalf("State(%s, %s) = %v, want nil", guest, key, err)
	}
	return got
}

func stateNewer(s *scene) {
	s.put("a5 b1", state("a", 5), state("b", 1))
	first := s.stateAt("a")
	s.sameState(first, state("a", 5))
	same := state("a", 5)
	same.Body = []byte("other")
	s.put("", same)
	s.put("", state("a", 4))
	s.sameState(s.stateAt("a"), first)
	next := state("a", 7)
	next.Contract, next.Body = 3, nil
	s.put("a7 c1", next, state("b", 1), state("c", 1))
	s.sameState(s.stateAt("a"), next)
	s.crash()
	s.put("", state("a", 6))
	s.states("a7 b1 c1")
	if _, err := s.store.Reader().Exchange().State(s.ctx(), guest, "z"); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("State(%s, z) = %v, want ErrNotFound", guest, err)
	}
	if _, err := s.store.Reader().Exchange().State(s.ctx(), "nobody.knows", "a"); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("State(nobody.knows, a) = %v, want ErrNotFound", err)
	}
}

func stateTombstone(s *scene) {
	s.put("a3", state("a", 3))
	s.put("", tombstone("a", 2))
	s.put("a5- b9-", tombstone("a", 5), tombstone("b", 9))
	s.sameState(s.stateAt("a"), tombstone("a", 5))
	s.put("", state("a", 4), state("b", 1), state("a", 5))
	s.states("a5- b9-")
	s.put("", tombstone("a", 5))
	s.put("a6", state("a", 6))
	s.sameState(s.stateAt("a"), state("a", 6))
	s.states("a6 b9-")
}

func stateOf(s *scene) {
	s.declareCook()
	m, repeated := unique(ready, "1", "one"), unique(ready, "1", "one")
	c := &store.Change{Sends: []*store.Message{message(cook, "2"), m}, States: []store.State{
		{Entity: guest, Key: "a", Of: m, Contract: 1, Body: []byte("x")}, {Entity: guest, Key: "b", Of: m, Contract: 1, Deleted: true},
	}}
	s.commit(c)
	want := store.State{Entity: guest, Key: "a", Version: m.Stamp, Contract: 1, AsOf: s.clock.Now(), Body: []byte("x")}
	s.sameState(s.stateAt("a"), want)
	for _, st := range c.States {
		if st.Version != m.Stamp || !st.AsOf.Equal(m.SentAt) || !st.Applied {
			s.Errorf("Commit(state %s): version %d of %s, applied: %t, want %d of %s, applied", st.Key, st.Version, st.AsOf, st.Applied, m.Stamp, m.SentAt)
		}
	}
	s.clock.move(time.Minute)
	again := &store.Change{Sends: []*store.Message{repeated}, States: []store.State{{Entity: guest, Key: "a", Of: repeated, Contract: 1, Body: []byte("y")}}}
	s.commit(again)
	if again.States[0].Applied {
		s.Errorf("Commit(a state of a message that repeats another) was applied, want it not to be")
	}
	s.sameState(s.stateAt("a"), want)
	next := message(ready, "3")
	s.commit(&store.Change{Sends: []*store.Message{next}, States: []store.State{{Entity: guest, Key: "a", Of: next, Contract: 2, Deleted: true}}})
	if got := s.stateAt("a"); !got.Deleted || got.Version != next.Stamp || got.Version <= m.Stamp {
		s.Errorf("State(a) = %+v, want a tombstone of version %d", got, next.Stamp)
	}
	strange := &store.Change{Sends: []*store.Message{message(ready, "4")}, States: []store.State{{Entity: guest, Key: "a", Of: m, Contract: 1, Body: []byte("z")}}}
	s.group(&store.Group{Changes: []*store.Change{strange}})
	if strange.Err == nil {
		s.Errorf("Commit(a state of another change's message): Err = nil, want an error")
	}
	s.listed(ready, "1 3")
}

func stateWithChange(s *scene) {
	s.declare(store.Queue{Name: cook, Capacity: 1})
	s.put("a1", state("a", 1))
	bad := &store.Change{States: []store.State{state("a", 2), state("b", 2)}, Closures: []store.Closure{failing}}
	full := &store.Change{States: []store.State{state("a", 2), state("c", 2)}, Sends: messages(cook, "1 2"), Outside: true}
	good := &store.Change{States: []store.State{state("d", 1)}}
	s.group(&store.Group{Changes: []*store.Change{bad, full, good}})
	if !errors.Is(bad.Err, errClosure) || full.Err == nil || good.Err != nil {
		s.Errorf("Commit(two refused, one good): Err = %v, %v, %v, want two errors", bad.Err, full.Err, good.Err)
	}
	for _, c := range []*store.Change{bad, full} {
		for _, st := range c.States {
			if st.Applied {
				s.Errorf("state %s%d of a refused change is applied, want it not to be", st.Key, st.Version)
			}
		}
	}
	s.states("a1 d1")
	s.entity(guest, 2, 0, 1)
	s.send(cook, "1")
	b := s.claim(cook, 1, "1")
	ack := change(s.settle(b, "1", store.Done))
	ack.States = []store.State{state("a", 2)}
	s.commit(ack)
	late := change(s.settle(b, "1", store.Done))
	late.States = []store.State{state("a", 3)}
	s.refuse(late, store.ErrFenced)
	s.states("a2 d1")
}

func stateOwn(s *scene) {
	s.put("a1", state("a", 1))
	for _, commit := range []bool{false, true} {
		m := message(ready, "1")
		c := &store.Change{Sends: []*store.Message{m}, States: []store.State{
			{Entity: guest, Key: "a", Of: m, Contract: 1, Body: []byte("x")}, state("b", 3), state("c", 4), tombstone("c", 2)}}
		s.own(commit, func(tx store.Tx) {
			if err := s.store.AppendIn(s.ctx(), tx, c); err != nil {
				s.Fatalf("AppendIn(states) = %v, want nil", err)
			}
			if !c.States[0].Applied || c.States[0].Version != m.Stamp || !c.States[1].Applied || !c.States[2].Applied || c.States[3].Applied {
				s.Errorf("AppendIn(states) = %+v, want all but the last applied", c.States)
			}
			bad := &store.Change{States: []store.State{state("d", 1), {Entity: guest}}}
			if err := s.store.AppendIn(s.ctx(), tx, bad); err == nil || bad.States[0].Applied {
				s.Errorf("AppendIn(states, one bad) = %v, applied: %t, want an error", err, bad.States[0].Applied)
			}
		})
		if !commit {
			s.states("a1")
			continue
		}
		s.states(fmt.Sprint("a", m.Stamp, " b3 c4"))
		s.entity(guest, 3, 0, m.Stamp)
	}
}

func stateOrder(s *scene) {
	s.put("a1 a3 b3", state("a", 1), state("a", 3), state("a", 2), state("b", 3), state("b", 2))
	s.commit(&store.Change{States: []store.State{state("c", 5), tombstone("d", 1)}}, &store.Change{States: []store.State{tombstone("c", 4), state("d", 2)}})
	s.states("a3 b3 c5 d2")
	s.entity(guest, 4, 0, 5)
}

func statePages(s *scene) {
	other := state("a", 1)
	other.Entity = "customers.card"
	s.put("Z1 a1 b1- ä1 d1 a1", state("Z", 1), state("a", 1), tombstone("b", 1), state("ä", 1), state("d", 1), other)
	read := s.store.Reader().Exchange()
	for deleted, want := range map[bool]string{false: "Z1 a1 d1 ä1", true: "Z1 a1 b1- d1 ä1"} {
		var got []store.State
		after := ""
		for range 10 {
			page, err := read.States(s.ctx(), store.StateQuery{Entity: guest, After: after, Deleted: deleted, Max: 2})
			if err != nil || len(page) > 2 {
				s.Fatalf("States(after %q) = %d, %v, want at most 2", after, len(page), err)
			}
			if len(page) == 0 {
				break
			}
			got, after = append(got, page...), page[len(page)-1].Key
		}
		if stateLine(got) != want {
			s.Errorf("States(deleted: %t), page by page = %q, want %q", deleted, stateLine(got), want)
		}
	}
	if page, err := read.States(s.ctx(), store.StateQuery{Entity: "nobody.knows", Max: 9}); err != nil || len(page) != 0 {
		s.Errorf("States(nobody.knows) = %d, %v, want none", len(page), err)
	}
}

// entity wants an entity to be as counted.
func (s *scene) entity(name string, live, deleted, newest int64) {
	s.Helper()
	rows, err := s.store.Reader().Exchange().Entities(s.ctx())
	if err != nil {
		s.Fatalf("Entities() = %v, want nil", err)
	}
	for _, r := range rows {
		if r.Entity == name {
			if r.Live != live || r.Deleted != deleted || r.Newest != newest {
				s.Errorf("Entities(): %s has %d live, %d deleted, newest %d, want %d, %d, %d", name, r.Live, r.Deleted, r.Newest, live, deleted, newest)
			}
			return
		}
	}
	s.Errorf("Entities() lacks %s", name)
}

func stateEntities(s *scene) {
	if rows, err := s.store.Reader().Exchange().Entities(s.ctx()); err != nil || len(rows) != 0 {
		s.Errorf("Entities() of an empty store = %d, %v, want none", len(rows), err)
	}
	other := tombstone("a", 9)
	other.Entity = "customers.card"
	s.put("a1 b2 a9-", state("a", 1), state("b", 2), other)
	s.entity(guest, 2, 0, 2)
	s.put("a5- c4", tombstone("a", 5), state("c", 4))
	s.entity(guest, 2, 1, 5)
	s.put("a6", state("a", 6))
	s.entity(guest, 3, 0, 6)
	s.entity("customers.card", 0, 1, 9)
	rows, err := s.store.Reader().Exchange().Entities(s.ctx())
	if err != nil || len(rows) != 2 || rows[0].Entity != "customers.card" || !rows[1].AsOf.Equal(state("a", 6).AsOf) {
		s.Errorf("Entities() = %+v, %v, want customers.card and %s, by name, as of %s", rows, err, guest, state("a", 6).AsOf)
	}
}

// changes follows an entity's changes from a mark, two at a time, and tells the newest of each key.
func (s *scene) changes(mark string) (map[string]string, string) {
	s.Helper()
	told := map[string]string{}
	versions := map[string]int64{}
	for range 1000 {
		page, next, err := s.store.Reader().Exchange().Changes(s.ctx(), guest, mark, 2)
		if err != nil || len(page) > 2 {
			s.Fatalf("Changes(mark %q) = %d, %v, want at most 2", mark, len(page), err)
		}
		mark = next
		if len(page) == 0 {
			return told, mark
		}
		for _, st := range page {
			if st.Version >= versions[st.Key] {
				versions[st.Key], told[st.Key] = st.Version, stateLine([]store.State{st})
			}
		}
	}
	s.Fatalf("Changes() goes on after 1000 pages, want an end")
	return nil, ""
}

// heard wants what Changes told to be, or to hold, what the line says.
func (s *scene) heard(got map[string]string, want string) {
	s.Helper()
	for word := range strings.FieldsSeq(want) {
		if key := word[:1]; got[key] != word {
			s.Errorf("Changes() told %q of %s, want %q", got[key], key, word)
		}
	}
}

func stateChanges(s *scene) {
	if page, _, err := s.store.Reader().Exchange().Changes(s.ctx(), guest, "", 9); err != nil || len(page) != 0 {
		s.Errorf("Changes() of an empty store = %d, %v, want none", len(page), err)
	}
	s.put("a1 b7 c3-", state("a", 1), state("b", 7), tombstone("c", 3))
	all, mark := s.changes("")
	s.heard(all, "a1 b7 c3-")
	if page, next, err := s.store.Reader().Exchange().Changes(s.ctx(), guest, mark, 9); err != nil || len(page) > 3 {
		s.Errorf("Changes(nothing new) = %d, mark %q, %v, want few, and nil", len(page), next, err)
	}
	other := state("x", 8)
	other.Entity = "customers.card"
	s.put("a2 b9- x8", state("a", 2), state("c", 2), tombstone("b", 9), other)
	s.own(true, func(tx store.Tx) {
		if err := s.store.AppendIn(s.ctx(), tx, &store.Change{States: []store.State{state("d", 1), state("a", 3)}}); err != nil {
			s.Fatalf("AppendIn(states) = %v, want nil", err)
		}
	})
	news, mark := s.changes(mark)
	s.heard(news, "a3 b9- d1")
	if news["x"] != "" {
		s.Errorf("Changes(%s) told of another entity's state", guest)
	}
	all, _ = s.changes("")
	s.heard(all, "a3 b9- c3- d1")
	s.put("c4", state("c", 4))
	s.crash()
	s.put("e1", state("e", 1))
	news, _ = s.changes(mark)
	s.heard(news, "c4 e1")
	if _, _, err := s.store.Reader().Exchange().Changes(s.ctx(), guest, "no mark", 9); err == nil {
		s.Errorf("Changes(mark %q) = nil, want an error", "no mark")
	}
}

func stateRetention(s *scene) {
	now := s.clock.Now()
	dated := func(st store.State, age time.Duration) store.State {
		st.AsOf = now.Add(-age)
		return st
	}
	s.put("a1 b2- c3- d4- e5-", dated(state("a", 1), 9*time.Hour), dated(tombstone("b", 2), 5*time.Hour), dated(tombstone("c", 3), 3*time.Hour),
		dated(tombstone("d", 4), time.Hour), dated(tombstone("e", 5), 4*time.Hour))
	s.prune(store.Retention{Keep: 2 * time.Hour, Max: 1})
	s.states("a1 d4- e5-")
	s.entity(guest, 1, 2, 5)
	s.clock.move(100 * time.Hour)
	s.prune(store.Retention{Keep: 2 * time.Hour})
	s.states("a1 e5-")
	s.put("f6", dated(state("f", 6), 0))
	s.prune(store.Retention{Keep: 2 * time.Hour})
	s.states("a1 f6")
	s.entity(guest, 2, 0, 6)
	all, _ := s.changes("")
	s.heard(all, "a1 f6")
}

func stateLimits(s *scene) {
	s.declareCook()
	most := make([]store.State, store.MaxStates)
	for i := range most {
		most[i] = state(fmt.Sprintf("k%04d", i), 1)
	}
	s.commit(&store.Change{States: most})
	s.entity(guest, store.MaxStates, 0, 1)
	long := state(strings.Repeat("k", 512), 1)
	s.commit(&store.Change{States: []store.State{long}})
	s.sameState(s.stateAt(long.Key), long)
	for what, spoil := range map[string]func(c *store.Change){
		"too many":       func(c *store.Change) { c.States = append(most, state("a", 1)) },
		"no entity":      func(c *store.Change) { c.States[1].Entity = "" },
		"no key":         func(c *store.Change) { c.States[1].Key = "" },
		"a long key":     func(c *store.Change) { c.States[1].Key += strings.Repeat("k", 512) },
		"no contract":    func(c *store.Change) { c.States[1].Contract = 0 },
		"no version":     func(c *store.Change) { c.States[1].Version = 0 },
		"no time":        func(c *store.Change) { c.States[1].AsOf = time.Time{} },
		"a body deleted": func(c *store.Change) { c.States[1].Deleted = true },
	} {
		c := &store.Change{Sends: messages(cook, "1"), States: []store.State{state("a", 1), state("b", 1)}}
		spoil(c)
		s.group(&store.Group{Changes: []*store.Change{c}})
		if c.Err == nil {
			s.Errorf("Commit(states, %s): Err = nil, want an error", what)
		}
	}
	s.listed(cook, "")
	s.entity(guest, store.MaxStates+1, 0, 1)
}
