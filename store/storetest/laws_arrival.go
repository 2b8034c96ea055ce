package storetest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func arrivalLaws() []Law {
	return []Law{
		{"arrival/follows", "What comes on a lane is written with its mark, in one transaction, when it goes on where the store has the lane.", arrivalFollows},
		{"arrival/again", "What has come already is refused with a MisplacedError that names the place, however late it comes again; nothing is written.", arrivalAgain},
		{"arrival/gap", "What comes beyond something missing is refused likewise, within a batch and between batches.", arrivalGap},
		{"arrival/unknown", "Of a lane never heard of any place is the next.", arrivalUnknown},
		{"arrival/jump", "After a jump any place above what is there is the next; it is counted when something is missing.", arrivalJump},
		{"arrival/lanes", "Lanes do not know of each other.", arrivalLanes},
		{"arrival/empty", "An arrival without sends moves the mark: tombstones are in no sends.", arrivalEmpty},
		{"arrival/together", "Changes of one group find their lane as those before them left it, and one refused holds up no other lane.", arrivalTogether},
		{"arrival/refused", "A change refused for another reason, such as a full queue, leaves its lane where it was.", arrivalRefused},
		{"arrival/kept", "Marks are kept over crashes, and retention does not touch those of lanes whose senders may send again.", arrivalKept},
		{"arrival/listed", "Arrivals lists lanes by name, a page at a time, with how much came and when.", arrivalListed},
		{"arrival/limits", "A lane without a name or with one too long, and places that are none, are refused.", arrivalLimits},
		{"arrival/own", "AppendIn refuses an arrival.", arrivalOwn},
	}
}

const lane = "floor/zzzzzz/kitchen.cook"

// place reads "3/4", or "3/4." for the batch's last.
func place(text string) (p store.Place) {
	if _, err := fmt.Sscanf(strings.TrimSuffix(text, "."), "%d/%d", &p.Batch, &p.Index); err != nil {
		panic(err)
	}
	p.Last = strings.HasSuffix(text, ".")
	return p
}

// arrival is what came on a lane, between two places.
func arrival(lane, from, to string, ms ...*store.Message) *store.Change {
	return &store.Change{Outside: true, Sends: ms, Arrival: &store.Arrival{Lane: lane, From: place(from), To: place(to)}}
}

// jump is an arrival before which something is missing that the sender cannot give.
func jump(lane, from, to string, ms ...*store.Message) *store.Change {
	c := arrival(lane, from, to, ms...)
	c.Arrival.Jump = true
	return c
}

// misplaced wants a change to be refused, the lane being at have.
func (s *scene) misplaced(c *store.Change, have string) {
	s.Helper()
	a := c.Arrival
	s.group(&store.Group{Changes: []*store.Change{c}})
	m, ok := errors.AsType[*store.MisplacedError](c.Err)
	if !ok || m.Lane != a.Lane || m.Have != place(have) {
		s.Errorf("Commit(arrival %+v to %+v on %s, at %s): Err = %v, want a MisplacedError at %s", a.From, a.To, a.Lane, have, c.Err, have)
	}
}

// lanes are those of which the store knows how far they are.
func (s *scene) lanes() []store.ArrivalRow {
	s.Helper()
	rows, err := s.store.Reader().Exchange().Arrivals(s.ctx(), "")
	if err != nil {
		s.Fatalf("Arrivals() = %v, want nil", err)
	}
	return rows
}

// arrived wants the lanes of the line to be where it says: "a 3/4. b 1/0".
func (s *scene) arrived(line string) {
	s.Helper()
	var got []string
	for _, r := range s.lanes() {
		end := ""
		if r.Have.Last {
			end = "."
		}
		got = append(got, fmt.Sprintf("%s %d/%d%s", r.Lane, r.Have.Batch, r.Have.Index, end))
	}
	if text := strings.Join(got, " "); text != line {
		s.Errorf("Arrivals() = %q, want %q", text, line)
	}
}

func arrivalFollows(s *scene) {
	s.declareCook()
	s.commit(arrival(lane, "1/0", "1/1", s.foreign(cook, "1"), s.foreign(cook, "2")))
	s.arrived(lane + " 1/1")
	s.commit(arrival(lane, "1/2", "3/0.", s.foreign(cook, "3"), s.foreign(cook, "4"), s.foreign(cook, "5")))
	s.arrived(lane + " 3/0.")
	s.commit(arrival(lane, "4/0", "4/0", s.foreign(cook, "6")))
	s.drain(cook, 9, "1 2 3 4 5 6")
}

func arrivalAgain(s *scene) {
	s.declareCook()
	s.commit(arrival(lane, "1/0", "1/4", messages(cook, "1 2")...))
	for _, c := range []*store.Change{
		arrival(lane, "1/0", "1/4", messages(cook, "1 2")...), arrival(lane, "1/4", "1/4", message(cook, "2")),
		arrival(lane, "1/3", "1/9", messages(cook, "2 3")...), // some of it is new: it comes again apart
	} {
		c.Closures = []store.Closure{s.note("again")}
		c.States = []store.State{state("a", 1)}
		s.misplaced(c, "1/4")
	}
	s.crash()
	s.misplaced(arrival(lane, "1/0", "1/4", messages(cook, "1 2")...), "1/4")
	s.listed(cook, "1 2")
	s.notes("")
	s.states("")
	s.arrived(lane + " 1/4")
}

func arrivalGap(s *scene) {
	s.declareCook()
	s.commit(arrival(lane, "1/0", "1/1", message(cook, "1")))
	s.misplaced(arrival(lane, "1/3", "1/3", message(cook, "2")), "1/1")
	s.misplaced(arrival(lane, "2/0", "2/0", message(cook, "3")), "1/1")
	s.commit(arrival(lane, "1/2", "1/2.", message(cook, "4")))
	s.misplaced(arrival(lane, "1/3", "1/3", message(cook, "5")), "1/2.")
	s.misplaced(arrival(lane, "2/1", "2/1", message(cook, "6")), "1/2.")
	s.misplaced(arrival(lane, "3/0", "3/0", message(cook, "7")), "1/2.")
	s.commit(arrival(lane, "2/0", "2/0", message(cook, "8")))
	s.listed(cook, "1 4 8")
}

func arrivalUnknown(s *scene) {
	s.declareCook()
	s.commit(arrival("a", "17/3", "17/3", message(cook, "1")))
	s.commit(jump("b", "5/0", "5/0.", message(cook, "2")))
	s.arrived("a 17/3 b 5/0.")
	s.jumps("a 0 b 1")
	s.misplaced(arrival("a", "17/2", "17/2", message(cook, "3")), "17/3")
}

// jumps wants the lanes of the line to have jumped as often as it says.
func (s *scene) jumps(line string) {
	s.Helper()
	var got []string
	for _, r := range s.lanes() {
		got = append(got, fmt.Sprint(r.Lane, " ", r.Jumps))
	}
	if text := strings.Join(got, " "); text != line {
		s.Errorf("jumps of Arrivals() = %q, want %q", text, line)
	}
}

func arrivalJump(s *scene) {
	s.declareCook()
	s.commit(arrival(lane, "1/0", "1/4", message(cook, "1")))
	s.commit(jump(lane, "1/7", "1/7", message(cook, "2")))
	s.jumps(lane + " 1")
	s.commit(jump(lane, "9/5", "9/6.", message(cook, "3")))
	s.jumps(lane + " 2")
	s.commit(jump(lane, "10/0", "10/0", message(cook, "4"))) // nothing is missing
	s.jumps(lane + " 2")
	s.misplaced(jump(lane, "10/0", "10/0", message(cook, "4")), "10/0")
	s.misplaced(jump(lane, "2/0", "11/0", message(cook, "5")), "10/0")
	s.arrived(lane + " 10/0")
	s.listed(cook, "1 2 3 4")
}

func arrivalLanes(s *scene) {
	s.declareCook()
	s.commit(arrival("a", "1/0", "1/0", message(cook, "1")), arrival("A", "7/0", "7/0", message(cook, "2")))
	s.commit(arrival("a", "1/1", "1/1", message(cook, "3")), arrival("A", "7/1", "7/1.", message(cook, "4")))
	s.arrived("A 7/1. a 1/1")
	s.listed(cook, "1 2 3 4")
}

func arrivalEmpty(s *scene) {
	s.commit(arrival(lane, "1/0", "1/0"))
	s.commit(arrival(lane, "1/1", "2/3."))
	s.arrived(lane + " 2/3.")
	s.misplaced(arrival(lane, "1/1", "2/3."), "2/3.")
}

func arrivalTogether(s *scene) {
	s.declareCook()
	changes := []*store.Change{
		arrival("a", "1/0", "1/0", message(cook, "1")), arrival("b", "4/4", "4/4", message(cook, "2")),
		arrival("a", "1/1", "1/1", message(cook, "3")), arrival("a", "1/1", "1/1", message(cook, "3")),
		arrival("b", "4/6", "4/6", message(cook, "4")), arrival("b", "4/5", "4/5", message(cook, "5")),
	}
	s.group(&store.Group{Changes: changes})
	for i, c := range changes {
		_, refused := errors.AsType[*store.MisplacedError](c.Err)
		if want := i == 3 || i == 4; refused != want || c.Err != nil && !refused {
			s.Errorf("Commit(a group of arrivals): Changes[%d].Err = %v, want misplaced: %t", i, c.Err, want)
		}
	}
	s.listed(cook, "1 2 3 5")
	s.arrived("a 1/1 b 4/5")
}

func arrivalRefused(s *scene) {
	s.declare(store.Queue{Name: cook, Capacity: 2})
	s.commit(arrival(lane, "1/0", "1/0", message(cook, "1")))
	full := arrival(lane, "1/1", "1/2", messages(cook, "2 3")...)
	closure := arrival(lane, "1/1", "1/1", message(cook, "2"))
	closure.Closures = []store.Closure{failing}
	misnamed := arrival(lane, "1/1", "1/1", &store.Message{Topic: cook, Kind: store.KindEvent, Version: 1})
	for _, c := range []*store.Change{full, closure, misnamed} {
		s.group(&store.Group{Changes: []*store.Change{c}})
		if _, ok := errors.AsType[*store.MisplacedError](c.Err); c.Err == nil || ok {
			s.Errorf("Commit(an arrival that something else refuses): Err = %v, want that", c.Err)
		}
	}
	s.arrived(lane + " 1/0")
	s.commit(arrival(lane, "1/1", "1/1", message(cook, "2")))
	s.drain(cook, 9, "1 2")
}

func arrivalKept(s *scene) {
	s.declareCook()
	s.commit(arrival(lane, "1/0", "1/0", message(cook, "1")))
	s.drain(cook, 9, "1")
	s.clock.move(100 * time.Hour)
	s.prune(store.Retention{Keep: time.Hour})
	s.listed(cook, "")
	s.crash()
	s.arrived(lane + " 1/0")
	s.misplaced(arrival(lane, "1/0", "1/0", message(cook, "1")), "1/0")
}

func arrivalListed(s *scene) {
	s.declareCook()
	first := s.clock.Now()
	s.commit(arrival("b", "1/0", "1/2", messages(cook, "1 2")...), arrival("a", "1/0", "1/0"), arrival("c", "1/0", "1/0"))
	s.clock.move(time.Minute)
	dup := s.foreign(cook, "3")
	s.commit(sends(dup))
	s.commit(arrival("b", "1/3", "1/5.", message(cook, "4"), s.foreign(cook, "3")))
	read := s.store.Reader().Exchange()
	rows, err := read.Arrivals(s.ctx(), "a")
	if err != nil || len(rows) != 2 || rows[0].Lane != "b" || rows[1].Lane != "c" {
		s.Fatalf("Arrivals(above a) = %+v, %v, want b and c", rows, err)
	}
	want := store.ArrivalRow{Lane: "b", Have: place("1/5."), At: s.clock.Now(), Arrived: 4}
	if got := rows[0]; !got.At.Equal(want.At) || got.Have != want.Have || got.Arrived != want.Arrived || got.Jumps != 0 {
		s.Errorf("Arrivals() = %+v, want %+v", got, want)
	}
	if !rows[1].At.Equal(first) || rows[1].Arrived != 0 {
		s.Errorf("Arrivals() = %+v, want none, at %s", rows[1], first)
	}
	if rows, err := read.Arrivals(s.ctx(), "c"); err != nil || len(rows) != 0 {
		s.Errorf("Arrivals(above c) = %d, %v, want none", len(rows), err)
	}
}

func arrivalLimits(s *scene) {
	s.declareCook()
	long := strings.Repeat("l", store.MaxLane)
	s.commit(arrival(long, "1/0", "1/0", message(cook, "1")))
	for _, c := range []*store.Change{
		arrival("", "1/0", "1/0"), arrival(long+"l", "1/0", "1/0"), arrival("a", "0/0", "1/0"), arrival("a", "1/-1", "1/0"),
		arrival("a", "2/0", "1/9"), arrival("a", "1/2", "1/1"), arrival("a", "1/0.", "1/1"), arrival("a", "1/0.", "1/0"),
	} {
		c.Sends = messages(cook, "2")
		s.group(&store.Group{Changes: []*store.Change{c}})
		if c.Err == nil {
			s.Errorf("Commit(arrival %+v): Err = nil, want an error", *c.Arrival)
		}
	}
	s.arrived(long + " 1/0")
	s.listed(cook, "1")
}

func arrivalOwn(s *scene) {
	s.declareCook()
	s.own(true, func(tx store.Tx) {
		if err := s.store.AppendIn(s.ctx(), tx, arrival(lane, "1/0", "1/0", message(cook, "1"))); err == nil {
			s.Errorf("AppendIn(an arrival) = nil, want an error")
		}
	})
	s.arrived("")
	s.listed(cook, "")
}
