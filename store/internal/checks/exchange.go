package checks

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/weir-go/weir/store"
)

const (
	stateKeyMax   = 512 // bytes of a state's key
	entityNameMax = 512 // bytes of an entity's name
)

// named refuses what is empty, too long, or no text that every database can hold.
func named(what, value string, max int) error {
	if value == "" || len(value) > max || !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
		return fmt.Errorf("%s %.100q has %d bytes: want 1 to %d of text", what, value, len(value), max)
	}
	return nil
}

// States refuses a change's states.
func States(ch *store.Change) error {
	if len(ch.States) == 0 {
		return nil
	}
	if len(ch.States) > store.MaxStates {
		return fmt.Errorf("%d states in one change, at most %d", len(ch.States), store.MaxStates)
	}
	sends := make(map[*store.Message]bool, len(ch.Sends))
	for _, m := range ch.Sends {
		sends[m] = true
	}
	for i := range ch.States {
		st := &ch.States[i]
		if st.Of != nil && !sends[st.Of] {
			return fmt.Errorf("state %s of %s: its message is not among the sends of its change", st.Key, st.Entity)
		}
		if err := state(st); err != nil {
			return err
		}
	}
	return nil
}

func state(st *store.State) error {
	if err := errors.Join(named("entity", st.Entity, entityNameMax), named("state's key", st.Key, stateKeyMax)); err != nil {
		return err
	}
	what := "state " + st.Key + " of " + st.Entity
	switch {
	case st.Contract < 1:
		return fmt.Errorf("%s: contract %d, want 1 or more", what, st.Contract)
	case st.Of == nil && (st.Version < 1 || st.AsOf.IsZero()):
		return fmt.Errorf("%s: version %d of %s: want 1 or more, and a time, or the message that tells of it", what, st.Version, st.AsOf)
	case st.Deleted && st.Body != nil:
		return fmt.Errorf("%s: a tombstone with a body", what)
	}
	if err := TooLong("body", st.Body); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// dutyMax is the most bytes of a duty's name: of a relay that of its queue, and some.
const dutyMax = 1_024

// Duties refuses a claim of duties.
func Duties(r store.ClaimRequest) error {
	if r.Queue != 0 || r.Workflow != "" || r.MailAfter != 0 || r.Suspects || r.Max != 0 || r.Abandoned {
		return errors.New("a claim of duties asks for nothing else")
	}
	if len(r.Duties) > store.MaxDuties {
		return fmt.Errorf("claim of %d duties, at most %d", len(r.Duties), store.MaxDuties)
	}
	seen := make(map[string]bool, len(r.Duties))
	for _, d := range r.Duties {
		if err := named("duty", d, dutyMax); err != nil {
			return err
		}
		if seen[d] {
			return fmt.Errorf("duty %q is asked for twice", d)
		}
		seen[d] = true
	}
	return nil
}

// Arrival refuses an arrival, whatever the store has of its lane.
func Arrival(a *store.Arrival) error {
	if err := named("lane", a.Lane, store.MaxLane); err != nil {
		return err
	}
	from, to := a.From, a.To
	switch {
	case from.Batch < 1 || from.Index < 0:
		return fmt.Errorf("lane %s: place %d/%d: want a batch of 1 or more, and an index of 0 or more", a.Lane, from.Batch, from.Index)
	case above(from, to), to.Index < 0, from.Last && to.Batch == from.Batch && (to.Index > from.Index || !to.Last):
		return fmt.Errorf("lane %s: what came ends at %d/%d, before it begins at %d/%d", a.Lane, to.Batch, to.Index, from.Batch, from.Index)
	}
	return nil
}

// Drained refuses what is said of lanes, whatever the store has of them.
func Drained(ch *store.Change) error {
	if len(ch.Drained) > store.MaxDrained {
		return fmt.Errorf("%d drained lanes in one change, at most %d", len(ch.Drained), store.MaxDrained)
	}
	for i := range ch.Drained {
		if err := named("lane", ch.Drained[i].Lane, store.MaxLane); err != nil {
			return err
		}
	}
	return nil
}

// Drains says whether what is known of a lane, nil for nothing, lets it be drained.
func Drains(d *store.Drained, have *store.Place, already bool) bool {
	switch {
	case have == nil:
		return false
	case d.Over:
		return !already
	}
	return *have == d.Have
}

// LaneFrom is the sender of a lane, and the range of names of its lanes: from first on, below end.
func LaneFrom(lane string) (from, first, end string) {
	from, _, _ = strings.Cut(lane, "/")
	return from, from + "/", from + "0" // which is next to the slash
}

// LaneRoom refuses a new lane beside so many others.
func LaneRoom(lane string, all, ofSender int64) error {
	from, _, _ := LaneFrom(lane)
	switch {
	case ofSender >= store.MaxLanesFrom:
		return &store.LanesError{Lane: lane, From: from, Most: store.MaxLanesFrom}
	case all >= store.MaxLanes:
		return &store.LanesError{Lane: lane, Most: store.MaxLanes}
	}
	return nil
}

// ManyLanes and ManyLanesFrom are how many lanes a doctor tells of: nine tenths of what may be.
const (
	ManyLanes     = store.MaxLanes / 10 * 9
	ManyLanesFrom = store.MaxLanesFrom / 10 * 9
)

// LaneFinding is what a doctor says of so many lanes of a sender's; of everybody's where that is empty.
func LaneFinding(sender string, n int64) (what, do string) {
	from, most := "", store.MaxLanes
	if sender != "" {
		from, most = " from "+sender, store.MaxLanesFrom
	}
	return fmt.Sprintf("%d lanes%s are here, and %d may be: then what comes on others waits at its senders", n, from, most),
		"weir boundary ls lists them; those of senders that are gone for good go by weir boundary forget, and look who may write to the broker"
}

// above reports whether p is a later place than q.
func above(p, q store.Place) bool {
	return p.Batch > q.Batch || p.Batch == q.Batch && p.Index > q.Index
}

// Arrives judges an arrival by what the store has of its lane, nil if it has never heard of it:
// refused, it is misplaced. missed says that something before it is missing that cannot be given any more.
func Arrives(a *store.Arrival, have *store.Place) (missed bool, refused error) {
	switch {
	case have == nil:
		return a.Jump, nil
	case have.Precedes(a.From):
		return false, nil
	case a.Jump && above(a.From, *have):
		return true, nil
	}
	return false, &store.MisplacedError{Lane: a.Lane, Have: *have}
}
