package store

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Pos is where a message stands in the journal of one store. Within a topic a
// higher position was committed later. Positions are never used twice, not
// even after retention has deleted the newest message. Zero is no position.
type Pos int64

// Kind says what a topic's messages are.
type Kind uint8

const (
	KindCommand Kind = iota + 1 // one owner, one queue
	KindEvent                   // any number of subscribers
	KindReply                   // what a request was answered with; subscribed to like an event
	KindSignal                  // to one run, whose ID is the key
)

func (k Kind) String() string {
	switch k {
	case KindCommand:
		return "command"
	case KindEvent:
		return "event"
	case KindReply:
		return "reply"
	case KindSignal:
		return "signal"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Message is one row of the journal: written once, never updated.
//
// The store fills Pos, ID and SentAt when it appends; all else is the sender's.
// A Message handed to the store, and its slices, must not be changed until the
// call has returned; one handed out by the store is the caller's, except that
// Body and Headers may share memory with other messages of the same batch and
// must not be written to.
type Message struct {
	Pos    Pos
	ID     string // the position in text, unique over all stores: see Incarnation; that of Origin if there is one
	SentAt time.Time
	// Stamp grows with every message of a store, from one of its lives to the next too: its number
	// in the store plus the life's base, see Info. What versions of states are made of.
	Stamp int64
	// Origin is set of what came from elsewhere. A message whose origin's ID the store has already, as far
	// as retention goes, is not appended again, whatever else it says: it is a duplicate, gets Pos, ID, SentAt
	// and Stamp of the first, and needs no room in a queue.
	Origin *Origin

	Topic       string // the contract's name, "kitchen.prepare-food"
	Kind        Kind
	Version     int       // of the contract; 1 or more
	Key         string    // messages of one key are worked in order; empty: no order
	Cause       string    // the ID of the message that was being handled; empty for a root
	Correlation string    // the ID of the root of the conversation; empty for a root
	Due         time.Time // not delivered before; zero: at once
	Headers     []byte    // a JSON object of strings, or nil
	Body        []byte

	// Dedup makes a second send with the same topic and key within DedupFor a
	// no-op; with another body it is refused with a *DuplicateError. Not stored
	// with the message.
	Dedup    string
	DedupFor time.Duration

	// BestEffort is shed first: it is refused once a queue is 80 % full.
	BestEffort bool
}

// Incarnation names one life of one store, six letters and digits made at its
// creation and again when a backup is restored, so that IDs never collide.
type Incarnation string

// ID is the position p in text: "k7q2xw-1hk3".
func (i Incarnation) ID(p Pos) string {
	var b [24]byte
	return string(strconv.AppendInt(append(append(b[:0], i...), '-'), int64(p), 36))
}

// Local is the position behind an ID, if this incarnation gave it out.
func (i Incarnation) Local(id string) (Pos, bool) {
	if len(id) <= len(i)+1 || id[:len(i)] != string(i) || id[len(i)] != '-' {
		return 0, false
	}
	n, err := strconv.ParseInt(id[len(i)+1:], 36, 64)
	return Pos(n), err == nil && n > 0
}

// ParseID splits an ID into its incarnation and position.
func ParseID(id string) (Incarnation, Pos, error) {
	inc, pos, ok := strings.Cut(id, "-")
	if ok {
		if n, err := strconv.ParseInt(pos, 36, 64); err == nil && n > 0 && inc != "" {
			return Incarnation(inc), Pos(n), nil
		}
	}
	return "", 0, fmt.Errorf("message ID %q is not of the form k7q2xw-1hk3", id)
}
