package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func drainedLaws() []Law {
	return []Law{
		{"drained/pruned", "The mark of a lane whose sender has settled all that is here is deleted once it has said so for the last time longer ago than Keep, and not before; then any place is the next.", drainedPruned},
		{"drained/place", "What is said of another place than the lane's, or of a lane never heard of, is passed over.", drainedPlace},
		{"drained/again", "What comes on a lane afterwards undoes that, in the same group too.", drainedAgain},
		{"drained/over", "Of a lane that is over it is noted wherever it is, and once only.", drainedOver},
		{"drained/limits", "A change with too many drained lanes, or one without a name, is refused; AppendIn refuses any.", drainedLimits},
		{"drained/most", "A sender's lanes are bounded, and those of all: the first arrival on one more is refused with a LanesError, and those that are here go on.", drainedMost},
		{"drained/forget", "A person forgets a lane that is silent, with a row in the audit; one that is not, or not here, is refused.", drainedForget},
		{"drained/resync", "A person's wish for a snapshot is a state, with a row in the audit; a wish that is no newer than what is here is refused.", drainedResync},
	}
}

// drained says of lanes that all is settled up to where the line says: "a 3/4. b 1/0".
func drained(line string) *store.Change {
	c := &store.Change{}
	fields := strings.Fields(line)
	for i := 0; i < len(fields); i += 2 {
		c.Drained = append(c.Drained, store.Drained{Lane: fields[i], Have: place(fields[i+1])})
	}
	return c
}

// drainedSince wants lanes to have been drained so long ago: "a 3h0m0s b 0s"; "-": not.
func (s *scene) drainedSince(line string) {
	s.Helper()
	var got []string
	for _, r := range s.lanes() {
		ago := "-"
		if !r.DrainedAt.IsZero() {
			ago = s.clock.Now().Sub(r.DrainedAt).String()
		}
		got = append(got, r.Lane+" "+ago)
	}
	if text := strings.Join(got, " "); text != line {
		s.Errorf("DrainedAt of Arrivals() = %q ago, want %q", text, line)
	}
}

func drainedPruned(s *scene) {
	s.declareCook()
	keep := store.Retention{Keep: time.Hour}
	s.commit(arrival("a", "1/0", "1/0.", message(cook, "1")), arrival("b", "1/0", "1/0.", message(cook, "2")), arrival("c", "1/0", "1/0."))
	s.drain(cook, 9, "1 2")
	s.clock.move(100 * time.Hour)
	s.commit(drained("a 1/0. b 1/0."))
	s.clock.move(time.Hour)
	s.commit(drained("b 1/0."))
	s.drainedSince("a 1h0m0s b 0s c -")
	s.prune(keep)
	s.arrived("a 1/0. b 1/0. c 1/0.")
	s.clock.move(time.Microsecond)
	if got := s.prune(keep); got.Other == 0 {
		s.Errorf("Prune(keep 1h) = %+v, want one of the others", got)
	}
	s.arrived("b 1/0. c 1/0.")
	s.crash()
	s.drainedSince("b 1µs c -")
	s.commit(arrival("a", "7/3", "7/3", message(cook, "3")))
	s.arrived("a 7/3 b 1/0. c 1/0.")
	s.clock.move(time.Hour)
	s.prune(keep)
	s.arrived("a 7/3 c 1/0.")
}

func drainedPlace(s *scene) {
	s.declareCook()
	s.commit(arrival("a", "1/0", "2/4", message(cook, "1")), arrival("b", "1/0", "2/4.", message(cook, "2")))
	s.commit(drained("a 2/3 b 2/4 c 1/0"), drained("a 2/4. b 1/4."))
	s.drainedSince("a - b -")
	s.commit(drained("b 1/0. b 2/4. a 2/4"))
	s.drainedSince("a 0s b 0s")
	s.arrived("a 2/4 b 2/4.")
}

func drainedAgain(s *scene) {
	s.declareCook()
	s.commit(arrival("a", "1/0", "1/0.", message(cook, "1")), drained("a 1/0."))
	s.drainedSince("a 0s")
	s.commit(arrival("a", "2/0", "2/0.", message(cook, "2")))
	s.drainedSince("a -")
	s.commit(drained("a 2/0."))
	s.commit(drained("a 2/0."), arrival("a", "3/0", "3/0."))
	s.drainedSince("a -")
	s.commit(drained("a 3/0."), arrival("b", "1/0", "1/0."))
	s.misplaced(arrival("a", "3/0", "3/0."), "3/0.") // changes nothing
	s.drainedSince("a 0s b -")
}

func drainedOver(s *scene) {
	s.declareCook()
	over := func(lane string) *store.Change {
		return &store.Change{Drained: []store.Drained{{Lane: lane, Over: true}}}
	}
	s.commit(arrival("a", "1/0", "1/3", message(cook, "1")))
	s.commit(over("a"), over("b"))
	s.clock.move(time.Minute)
	s.commit(over("a"))
	s.drainedSince("a 1m0s")
	s.commit(arrival("a", "1/4", "1/4"))
	s.commit(over("a"))
	s.drainedSince("a 0s")
	s.clock.move(2 * time.Hour)
	s.prune(store.Retention{Keep: time.Hour})
	s.arrived("")
}

func drainedLimits(s *scene) {
	s.declareCook()
	s.commit(arrival("a", "1/0", "1/0.", message(cook, "1")))
	many := drained(strings.Repeat("a 1/0. ", store.MaxDrained))
	s.commit(many)
	many.Drained = append(many.Drained, many.Drained[0])
	for _, c := range []*store.Change{many, {Drained: []store.Drained{{Have: place("1/0.")}}}, {Drained: []store.Drained{{Lane: strings.Repeat("l", store.MaxLane+1)}}}} {
		s.group(&store.Group{Changes: []*store.Change{c}})
		if c.Err == nil {
			s.Errorf("Commit(%d drained lanes, the first %.10q): Err = nil, want an error", len(c.Drained), c.Drained[0].Lane)
		}
	}
	s.own(true, func(tx store.Tx) {
		if err := s.store.AppendIn(s.ctx(), tx, drained("a 1/0.")); err == nil {
			s.Errorf("AppendIn(a drained lane) = nil, want an error")
		}
	})
}

// crowd brings the first on n lanes of a sender's, a thousand to a group, and wants all to be taken up.
func (s *scene) crowd(from string, n int) {
	s.Helper()
	for first := 0; first < n; first += 1_000 {
		g := &store.Group{}
		for i := first; i < min(first+1_000, n); i++ {
			g.Changes = append(g.Changes, arrival(fmt.Sprintf("%s/zzzzzz/q%d", from, i), "1/0", "1/0."))
		}
		s.commit(g.Changes...)
	}
}

// tooMany wants a change to be refused as of one lane too many.
func (s *scene) tooMany(c *store.Change, from string, most int) {
	s.Helper()
	s.group(&store.Group{Changes: []*store.Change{c}})
	e, ok := errors.AsType[*store.LanesError](c.Err)
	if !ok || e.Lane != c.Arrival.Lane || e.From != from || e.Most != most {
		s.Errorf("Commit(arrival on %s): Err = %v, want a LanesError: %d from %q", c.Arrival.Lane, c.Err, most, from)
	}
}

// crowded wants a doctor to tell of lanes.
func (s *scene) crowded(parts ...string) {
	s.Helper()
	found, err := s.store.Reader().Check(s.ctx())
	if err != nil {
		s.Fatalf("Check() = %v, want nil", err)
	}
	for _, part := range parts {
		if !slices.ContainsFunc(found, func(f store.Finding) bool { return strings.Contains(f.What, part) && f.Do != "" }) {
			s.Errorf("Check() = %+v, want %q among them", found, part)
		}
	}
}

func drainedMost(s *scene) {
	s.declareCook()
	s.crowd("bar", store.MaxLanesFrom*9/10-1)
	s.well()
	s.crowd("bare", store.MaxLanesFrom*9/10)
	s.crowded("900 lanes from bare are here")
	s.crowd("floor", store.MaxLanesFrom)
	s.tooMany(arrival("floor/zzzzzz/more", "1/0", "1/0.", message(cook, "1")), "floor", store.MaxLanesFrom)
	s.crowd("floors", 1) // another sender
	s.commit(arrival("floor/zzzzzz/q7", "2/0", "2/0.", message(cook, "2")))
	s.listed(cook, "2")
	for i := range store.MaxLanes/store.MaxLanesFrom - 4 {
		s.crowd(fmt.Sprint("cellar", i), store.MaxLanesFrom)
	}
	s.crowd("till", store.MaxLanesFrom-1)
	s.crowd("porch", 201) // which makes MaxLanes
	s.tooMany(arrival("yard/zzzzzz/more", "1/0", "1/0.", message(cook, "3")), "", store.MaxLanes)
	s.crowded("10000 lanes are here", "1000 lanes from")
	s.commit(drained("floor/zzzzzz/q7 2/0."))
	s.clock.move(2 * time.Hour)
	s.prune(store.Retention{Keep: time.Hour})
	s.commit(arrival("floor/zzzzzz/more", "1/0", "1/0.", message(cook, "4")))
	one, two := arrival("yard/zzzzzz/a", "1/0", "1/0."), arrival("yard/zzzzzz/b", "1/0", "1/0.")
	if _, err := s.store.Operate(s.ctx(), by(store.Act{Verb: store.ForgetLane, Lane: "floor/zzzzzz/q9"})); err != nil {
		s.Errorf("Operate(forget) = %v, want nil", err)
	}
	s.group(&store.Group{Changes: []*store.Change{one, two}})
	if one.Err != nil || two.Err == nil {
		s.Errorf("Commit(two new lanes, with room for one): Err = %v and %v, want one refused", one.Err, two.Err)
	}
}

func drainedForget(s *scene) {
	s.declareCook()
	forget := by(store.Act{Verb: store.ForgetLane, Lane: "a"})
	s.unacted(forget, store.ErrNotFound)
	s.unacted(by(store.Act{Verb: store.ForgetLane}), nil)
	s.commit(arrival("a", "1/0", "1/0.", message(cook, "1")), arrival("b", "1/0", "1/0.", message(cook, "2")))
	s.clock.move(store.ForgetAfter - time.Microsecond)
	s.unacted(forget, store.ErrConflict)
	s.commit(drained("b 1/0."))
	s.clock.move(time.Microsecond)
	s.unacted(by(store.Act{Verb: store.ForgetLane, Lane: "b"}), store.ErrConflict)
	dry := forget
	dry.DryRun = true
	s.unacted(dry, nil)
	if got := s.operate(forget); got.Count != 1 {
		s.Errorf("Operate(forget) = %+v, want 1", got)
	}
	s.arrived("b 1/0.")
	if rows := s.audit(); len(rows) != 1 || rows[0].Target != "lane a" || rows[0].Before == rows[0].After || rows[0].By != "ada" {
		s.Errorf("Audit() after a lane was forgotten = %+v, want one row of lane a", rows)
	}
}

func drainedResync(s *scene) {
	s.declareCook()
	wish := func(version int64) store.Act {
		st := state("wish", version)
		return by(store.Act{Verb: store.ResyncReplica, ID: "customers.customer", State: &st})
	}
	s.operate(wish(7))
	s.unacted(wish(7), store.ErrConflict)
	s.unacted(wish(6), store.ErrConflict)
	s.unacted(by(store.Act{Verb: store.ResyncReplica, ID: "customers.customer"}), nil)
	nameless := wish(9)
	nameless.ID = ""
	s.unacted(nameless, nil)
	s.operate(wish(8))
	got, err := s.store.Reader().Exchange().State(s.ctx(), guest, "wish")
	if err != nil || got.Version != 8 {
		s.Errorf("State(wish) = version %d, %v, want 8", got.Version, err)
	}
	s.entity(guest, 1, 0, 8)
	rows := s.audit()
	if len(rows) != 2 || rows[0].Verb != string(store.ResyncReplica) || rows[0].Target != "replica customers.customer" || rows[0].Why != "because" || rows[0].Before == rows[0].After {
		s.Errorf("Audit() after two wishes = %+v, want both, of replica customers.customer", rows)
	}
}
