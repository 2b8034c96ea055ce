package engine

import (
	"time"

	"github.com/weir-go/weir/store"
)

// What a follower decides, without doing it.

// Of the interval at which an owner says how far it is (see Intervals.Beat).
const (
	lackBeats = 6   // for so many the owner's newest version may be missing before a resync: a minute
	lackCap   = 360 // and when resyncs have not brought it: an hour
	pageBeats = 30  // without a page, while the owner is heard of, before a snapshot is begun again: 5 minutes
	hearBeats = 3   // after which the owner is not heard of
)

// progress is what a follower keeps, durably, of how it follows an entity.
type progress struct {
	Snapshot string    `json:"snapshot"` // the newest one; pages of others lead to no further ones
	Began    time.Time `json:"began"`
	PageAt   time.Time `json:"page-at"` // when its last page came; at first: Began
	Why      string    `json:"why"`
	Done     bool      `json:"done"` // that one is complete
	// Loaded: one was completed before, so what is not here does not exist.
	Loaded bool  `json:"loaded"`
	Times  int64 `json:"times"` // how many were begun

	Covered int64             `json:"covered"`          // versions up to it are in the last complete one
	Owner   store.Incarnation `json:"owner"`            // of the owner's store, then
	Own     store.Incarnation `json:"own"`              // of this store, when the newest was begun
	Gaps    int64             `json:"gaps"`             // of the subscription, as the owner counted them then
	Jumps   int64             `json:"jumps"`            // of its lanes, as this store counted them then
	Wish    int64             `json:"wish,omitempty"`   // the last one of a person's that was met
	Lacked  int               `json:"lacked,omitempty"` // resyncs in a row because of a version that did not come
}

// beat is what an owner says of an entity from time to time.
type beat struct {
	Entity      string            `json:"entity"`
	Newest      int64             `json:"newest"` // the highest version there is
	Incarnation store.Incarnation `json:"incarnation"`
	Gaps        int64             `json:"gaps,omitempty"`   // of the follower's subscription there
	Parked      bool              `json:"parked,omitempty"` // that one is: nothing comes until it is resumed
}

// sight is what a follower sees when it decides.
type sight struct {
	now      time.Time
	interval time.Duration     // between an owner's beats
	own      store.Incarnation // of this store
	jumps    int64             // of the subscription's lanes
	wish     int64             // the newest of a person's; 0: none ever
	heardAt  time.Time         // when the owner was heard last in this process; zero: never
	beat     beat              // what it said then
	lacking  time.Time         // since when its newest version is missing; zero: it is not
}

// resync says why a snapshot is to be begun now; empty when none is.
func (p *progress) resync(s sight) string {
	heard := !s.heardAt.IsZero()
	switch {
	case p.Snapshot == "":
		return "it is the first"
	case p.Own != s.own:
		return "this store was restored"
	case s.wish > p.Wish:
		return "a person wants it"
	case s.jumps != p.Jumps:
		return "the owner's store could not send again what was lost"
	case heard && s.beat.Gaps != p.Gaps:
		return "the subscription was parked, and has a gap"
	case heard && p.Done && s.beat.Incarnation != p.Owner:
		return "the owner's store was restored"
	case p.Done && !s.lacking.IsZero() && s.now.Sub(s.lacking) >= time.Duration(lackFor(p.Lacked))*s.interval:
		return whyLacking
	case !p.Done && heard && s.now.Sub(s.heardAt) < hearBeats*s.interval && s.now.Sub(p.PageAt) >= pageBeats*s.interval:
		return "no page of the last one came for long"
	}
	return ""
}

const whyLacking = "the owner's newest version did not come"

// lackFor is for how many beats a version may be missing: twice as many after each resync that did not help.
func lackFor(times int) int { return min(lackBeats<<min(times, 10), lackCap) }

// begin is the progress when a snapshot begins.
func (p *progress) begin(id, why string, s sight) {
	p.Snapshot, p.Why, p.Began, p.PageAt, p.Done = id, why, s.now.UTC(), s.now.UTC(), false
	p.Own, p.Jumps, p.Wish = s.own, s.jumps, s.wish
	p.Times++
	if !s.heardAt.IsZero() {
		p.Gaps = s.beat.Gaps
	}
	if p.Lacked++; why != whyLacking {
		p.Lacked = 0
	}
}

// lacks says whether the newest version that the owner speaks of is missing here.
func (p *progress) lacks(newest, here int64) bool { return newest > max(here, p.Covered) }

// sweep compares what is here, of the keys that a page tells of, with the page, both by key: it gives
// what the owner has to be asked about, since it is live here and not there, or newer here than there, or
// another one of the same version.
// Nothing is removed for being missing in a page: the owner may have committed it after reading the
// page and told of it before the page came.
//
// What came after the snapshot began is no suspect, but in the first snapshot of an owner's new
// life: it may have forgotten any.
func sweep(here, there []store.State, newest int64, newLife bool) []checked {
	var suspects []checked
	i := 0
	for _, h := range here {
		for i < len(there) && there[i].Key < h.Key {
			i++
		}
		known := i < len(there) && there[i].Key == h.Key
		switch {
		case known && there[i].Version > h.Version, !known && h.Deleted:
		case known && there[i].Version == h.Version && there[i].AsOf.Equal(h.AsOf):
		case h.Version > newest && !newLife:
		default:
			suspects = append(suspects, checked{h.Key, h.Version, h.AsOf.UnixMicro()})
		}
	}
	return suspects
}

// removed are the tombstones of what the owner knows nothing of. Each is one above the version that
// was asked about: so it removes that one and nothing newer, and gives way to whatever the owner makes
// under that key, because that is newer than the tombstone which it has forgotten.
func removed(entity string, missing []checked, at time.Time) []store.State {
	var states []store.State
	for _, m := range missing {
		if m.Version > 0 {
			states = append(states, store.State{Entity: entity, Key: m.Key, Version: m.Version + 1, Contract: 1, AsOf: at, Deleted: true})
		}
	}
	return states
}

// answer is what the owner says about one key: have is what its store has, if known. If that is older than
// the follower's, or another one of the same version, the owner's store was restored and has forgotten the
// follower's: its own is given a version above that, so that nobody sees a version go back. A change made meanwhile has a higher one still:
// those of a new life are above all of the lives before.
func answer(c checked, have store.State, known bool) (give store.State, raised, missing bool) {
	other := have.Version == c.Version && c.AsOf != 0 && have.AsOf.UnixMicro() != c.AsOf
	switch {
	case !known:
		return store.State{}, false, true
	case have.Version < c.Version, other:
		have.Version = c.Version + 1
		return have, true, false
	}
	return have, false, false
}
