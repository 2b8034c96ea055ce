package store

import (
	"context"
	"fmt"
	"time"
)

// Origin is where a message comes from that another store sent, or a program that knows
// nothing of weir. It keeps the ID it has there, and its time; but retention, waits and queries
// go by when it came.
type Origin struct {
	ID     string    // its ID there; of a foreign program "source#id". One line, at most MaxOrigin bytes
	From   string    // the boundary that sent it, to which a reply goes; a foreign program's source. As long
	SentAt time.Time // there, by its clock; zero: not said
}

// Arrival says that the Sends of a change are what came on a lane between two places, and that
// nothing is missing between From and To. Tombstones and what the receiver refuses stand in no
// Sends, so there may be fewer of them, or none. The store keeps how far it has each lane, in the
// same transaction: so what comes again, however late, is refused, and what is missing is noticed.
//
// A change whose From is not the next place after what the store has is refused with a
// *MisplacedError. Of a lane never heard of any From is the next, and with Jump any that is
// above what the store has.
type Arrival struct {
	Lane string // "floor/k7q2xw/kitchen.prepare-food", at most MaxLane bytes
	From Place
	To   Place // not before From; Last if it is
	// Jump: the sender can give nothing of what is before From any more. If something is missing
	// there, it is counted.
	Jump bool
}

// Drained says that a lane's sender has settled all that is here of it: of that it will send nothing
// again. What comes on the lane afterwards undoes that. Prune deletes the marks of lanes whose sender
// last said so longer ago than the retention; those of other lanes it never deletes, for their senders
// may have been away just as long, and send again what they do not know to be here.
type Drained struct {
	Lane string
	// Have is all that is here. Where the store has another place this is passed over.
	Have Place
	// Over: the sender's store has begun another life, so nothing will ever come on the lane. It is noted
	// whatever the store has of it, but only once: it does not say that the sender is there.
	Over bool
}

// Place is a packet's place on a lane: the sender's batch, from 1 on, the index in it, from 0
// on, and whether that is its last one.
type Place struct {
	Batch int64
	Index int
	Last  bool
}

// Precedes says whether q is the next place after p.
func (p Place) Precedes(q Place) bool {
	if p.Last {
		return q.Batch == p.Batch+1 && q.Index == 0
	}
	return q.Batch == p.Batch && q.Index == p.Index+1
}

// MisplacedError refuses an arrival: the store has the lane up to Have. What is not above that
// it has; else something between is missing.
type MisplacedError struct {
	Lane string
	Have Place
}

func (e *MisplacedError) Error() string {
	return fmt.Sprintf("lane %s: it is here up to %d/%d: what came does not go on there", e.Lane, e.Have.Batch, e.Have.Index)
}

// LanesError refuses the first arrival on a lane: there are as many as may be, MaxLanesFrom of its
// sender, or MaxLanes. Nothing is lost: the sender keeps what it has.
type LanesError struct {
	Lane string
	From string // whose lanes are too many; empty: everybody's
	Most int
}

func (e *LanesError) Error() string {
	from := ""
	if e.From != "" {
		from = " from " + e.From
	}
	return fmt.Sprintf("lane %s is not taken up: %d lanes%s are here already, as many as may be: weir boundary ls lists them, and weir boundary forget forgets one whose sender is gone for good",
		e.Lane, e.Most, from)
}

// State is the newest state of one entity: at its owner, or a follower's copy of it.
type State struct {
	Entity  string // the contract's name, "customers.customer"; 1 to 512 bytes
	Key     string // which one; 1 to 512 bytes of text, without NUL
	Version int64  // higher is newer, for one Entity and Key, over all lives of the owner's store
	// Of is the message of the same change's Sends that tells of this state: Version becomes its Stamp, and
	// AsOf its SentAt. nil: both are given, by a follower.
	Of       *Message
	Contract int       // version of the contract in which Body is; 1 or more
	AsOf     time.Time // when the owner's change was made
	// Deleted: a tombstone, without Body. It is kept as long as messages are, by AsOf, and while it is its
	// entity's newest.
	Deleted bool
	Body    []byte // at most 1 MiB

	// Applied is set by Commit and AppendIn: false when what the store had was as new, or newer.
	Applied bool
}

// StateQuery asks for a page of one entity's states, by key: in the order of its bytes.
type StateQuery struct {
	Entity  string
	After   string // only keys above it: the next page
	Deleted bool   // tombstones too
	Max     int    // 1 to MaxList
}

// EntityRow is what the store has of one entity.
type EntityRow struct {
	Entity  string
	Live    int64
	Deleted int64
	Newest  int64     // the highest version; it never falls
	AsOf    time.Time // of that
}

// ArrivalRow is how far the store has a lane.
type ArrivalRow struct {
	Lane    string
	Have    Place
	At      time.Time // when that came
	Arrived int64     // messages, duplicates too, since the lane was first heard of
	Jumps   int64     // how often something was missing that the sender could not give any more
	// DrainedAt is when the sender last said that it has settled all that; zero: not since it came.
	DrainedAt time.Time
}

// ExchangeReader answers what is asked between boundaries.
type ExchangeReader interface {
	// Arrivals lists lanes by name, above after. At most MaxList.
	Arrivals(ctx context.Context, after string) ([]ArrivalRow, error)
	// Batch is a batch as it was claimed, with all its messages, whatever has been settled, each at its Index
	// and with what a person has replaced since; Attempt is 1. ErrNotFound when retention has deleted some of
	// it, or there was none.
	Batch(ctx context.Context, queue QueueID, no int64) (*Batch, error)
	// State is one state, also a tombstone; ErrNotFound.
	State(ctx context.Context, entity, key string) (State, error)
	// States lists a page of states.
	States(ctx context.Context, q StateQuery) ([]State, error)
	// Changes lists states that were written after a mark, tombstones too, and gives the next mark; the
	// empty mark is before all. It leaves out nothing that is committed later; it may repeat. At most max
	// states, 1 to MaxList; none when no more is there now. Marks are for as long as the store is open.
	Changes(ctx context.Context, entity, mark string, max int) ([]State, string, error)
	// Entities lists by name what there are states of. At most MaxList.
	Entities(ctx context.Context) ([]EntityRow, error)
}

// Bounds of what goes between boundaries.
const (
	MaxLane   = 768
	MaxOrigin = 1100 // bytes of an Origin's ID, and of its From
	MaxStates = 1_000

	MaxLanes     = 10_000 // lanes of a store; of several processes that open new ones at once, some more
	MaxLanesFrom = 1_000  // of them with the same text before the first slash: the sender's boundary
	MaxDrained   = 1_000  // lanes of a change that are said to be drained
)
