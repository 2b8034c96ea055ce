package store

import (
	"context"
	"fmt"
	"time"
)

// Origin is where a message comes from that another store sent, or a program that knows
// nothing of weir. It keeps the ID it has there.
type Origin struct {
	ID     string    // its ID there; of a foreign program "source#id"
	From   string    // the boundary that sent it, to which a reply goes; a foreign program's source
	SentAt time.Time // there, by its clock; zero: not said
}

// Arrival says that the Sends of a change are what came on a lane between two places, and that
// nothing is missing between From and To. Tombstones and what the receiver refuses stand in no
// Sends, so there may be fewer of them, or none. The store keeps how far it has each lane, in the
// same transaction: so what comes again, however late, is refused, and what is missing is noticed.
//
// A change whose From is not the next place after what the store has is refused with a
// *MisplacedError. Of a lane never heard of, and after a Jump, any From is the next.
type Arrival struct {
	Lane string // "floor/k7q2xw/kitchen.prepare-food", at most MaxLane bytes
	From Place
	To   Place
	// Jump: the sender can give nothing of what is before From any more. It is counted.
	Jump bool
}

// Place is a packet's place on a lane: the sender's batch, the index in it, and whether that is its last one.
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

// State is the newest state of one entity: at its owner, or a follower's copy of it.
type State struct {
	Entity  string // the contract's name, "customers.customer"
	Key     string // which one; 1 to 512 bytes
	Version int64  // higher is newer, for one Entity and Key, over all lives of the owner's store
	// Of is the message of the same change that tells of this state: Version becomes its Stamp, and
	// AsOf its SentAt. nil: both are given, by a follower.
	Of       *Message
	Contract int       // version of the contract in which Body is; 1 or more
	AsOf     time.Time // when the owner's change was made
	Deleted  bool      // a tombstone, kept as long as messages are; Body is nil
	Body     []byte

	// Applied is set by Commit and AppendIn: false when what the store had was as new, or newer.
	Applied bool
}

// StateQuery asks for a page of one entity's states, by key.
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
	Newest  int64     // the highest version; 0 for none
	AsOf    time.Time // of that
}

// ArrivalRow is how far the store has a lane.
type ArrivalRow struct {
	Lane    string
	Have    Place
	At      time.Time // when that came
	Arrived int64     // messages, since the lane was first heard of
	Jumps   int64     // how often something was missing that the sender could not give any more
}

// ExchangeReader answers what is asked between boundaries.
type ExchangeReader interface {
	// Arrivals lists lanes by name, above after. At most MaxList.
	Arrivals(ctx context.Context, after string) ([]ArrivalRow, error)
	// Batch is a batch as it was claimed, with all its messages, whatever has been settled; ErrNotFound when
	// retention has deleted some of it, or there was none.
	Batch(ctx context.Context, queue QueueID, no int64) (*Batch, error)
	// State is one state, also a tombstone; ErrNotFound.
	State(ctx context.Context, entity, key string) (State, error)
	// States lists a page of states.
	States(ctx context.Context, q StateQuery) ([]State, error)
	// Changes lists states that were written after a mark, tombstones too, and gives the next mark; the
	// empty mark is before all. It leaves out nothing that is committed later; it may repeat. At most max
	// states, 1 to MaxList; fewer when no more is there now.
	Changes(ctx context.Context, entity, mark string, max int) ([]State, string, error)
	// Entities lists by name what there are states of. At most MaxList.
	Entities(ctx context.Context) ([]EntityRow, error)
}

// Bounds of what goes between boundaries.
const (
	MaxLane   = 768
	MaxOrigin = 1100 // bytes of an Origin's ID, and of its From
	MaxStates = 1_000
)
