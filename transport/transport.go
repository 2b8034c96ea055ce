// Package transport is the port between boundaries: it carries packets from one
// boundary's store to another's. Package local connects boundaries in one process,
// package jetstream over NATS.
//
// A transport is trusted with little. What it has lost is sent again, because the
// sender keeps a message until the receiver's store has it; what it delivers twice is
// recognised by its position. So a transport may forget everything when its disk is
// wiped, and costs a delay and no message. What it must do is in the laws of package
// transporttest, a sentence each; every adapter passes all of them.
//
// # Lanes and positions
//
// What one relay of a sender's store sends to a boundary is a lane: an ordered line of
// packets, each with a dense [Position]. The receiver keeps, in its store, how far it
// has each lane. So it knows a packet that it has (below), and one that is missing
// (beyond), however late they come.
//
// # Bounded
//
// An inlet holds a bounded number of packets. When it is full Send says [ErrFull] and
// how many it took; the sender keeps the rest and tries again later. Nothing is ever
// dropped to make room.
//
// # Who retries
//
// No method does. Send and Notify say at once that the wire is away ([ErrUnavailable]);
// Next does when it finds out. An adapter connects again by itself, for ever, with
// growing pauses, so it is enough to call again after a pause.
package transport

import (
	"context"
	"time"
)

// Transport carries packets and notes to boundaries. All methods may be called
// concurrently. After Close all return [ErrClosed].
type Transport interface {
	// Send hands packets to a boundary, in order, and returns how many, from the first,
	// are kept for it: durable, as far as the adapter promises any. On an error packets[kept]
	// is the one that it is about; what comes after it is not kept, and is sent again with it.
	// It returns early only when ctx is done: then more may be kept than it says.
	//
	// A packet that still waits in the inlet is not kept twice when it is sent again; one that was
	// acknowledged is. So a sender that has heard nothing may send again what it will, without flooding
	// anybody, and a receiver that has lost something can ask for it.
	//
	// To Everybody, packets of lanes are published for programs that know nothing of weir, as far as the adapter has
	// such: they are kept for a while, whether anybody reads them or not, and that is all: no inlet, no receipt,
	// never full.
	//
	// ErrFull, ErrUnknown and ErrUnavailable pass; ErrTooBig and ErrInvalid never do.
	// At most MaxSend packets. They are not changed, and not referred to after the return.
	Send(ctx context.Context, to string, packets []Packet) (kept int, err error)

	// Receive opens an inlet of a boundary: what others have sent to it and send from now on. The
	// first to do so makes the boundary known, with bounds that are the adapter's configuration. It begins with
	// what is not acknowledged; where another inlet has that in its hands it may come to both.
	// Where several inlets of a boundary are open, in one process or many, each packet goes to one of
	// them, so order on a lane is kept only while one inlet is read.
	Receive(ctx context.Context, boundary string) (Inlet, error)

	// Notify sends a note to every process of a boundary that listens: once to each Listen. It may be
	// lost, and it is no error when nobody listens. Notes carry what is repeated anyway.
	Notify(ctx context.Context, to string, n Note) error

	// Listen calls hear with each note to a boundary, one after the other, until stop is called.
	// While hear takes long up to MaxNotes wait; the next are lost. After stop has returned hear is not
	// called again; hear must not call stop.
	Listen(ctx context.Context, boundary string, hear func(Note)) (stop func(), err error)

	// Close ends all use, with all inlets, and gives back what they hold.
	Close() error
}

// Inlet is a boundary's open inlet. All methods may be called concurrently.
type Inlet interface {
	// Next waits for a packet and returns it with those behind it that are there already, up to max and
	// to MaxNextBytes, in the order in which they were kept. When ctx is done while nothing has come it
	// returns ctx's error; nothing is lost then.
	//
	// Packets are taken from the inlet by Ack only. Those not acknowledged within the adapter's time,
	// and all of an inlet that is closed or dies, come again, to any inlet: possibly after later ones.
	// So Ack and Hold are to be quick: a receiver acknowledges when its store has them, not when they are
	// worked, and reads no more than its store has room for.
	Next(ctx context.Context, max int) ([]Delivery, error)

	// Ack says that the receiver's store has them. It does not wait until the transport knows: an
	// acknowledgement that is lost with a connection or a broker makes its packet come once more. So may, when an
	// inlet is opened or connects anew, one of a packet that was kept after others that are not acknowledged yet.
	Ack(ctx context.Context, d []Delivery) error

	// Hold gives packets back, to come again after a pause of up to MaxHold. Others go on meanwhile.
	Hold(ctx context.Context, d []Delivery, pause time.Duration) error

	// Close gives back what is neither acknowledged nor held, and ends a Next that waits.
	Close() error
}

// Delivery is a packet as it came.
type Delivery struct {
	// Packet is what was sent. Where Malformed is set it holds what could be read of it.
	Packet Packet
	// Malformed says, in a sentence that is fit for a dead letter, why this is no packet; nil if it is
	// one. A packet of a foreign program may be anything.
	Malformed error
	// Raw are the headers as they came, of a malformed packet only.
	Raw Header
	// Attempt counts how often the transport has handed it out, this time included.
	Attempt int
	// Number grows in the order in which the transport has kept packets for this boundary, and is the same each
	// time one comes. A transport that has lost all may begin anew.
	Number int64
	// Handle is the adapter's own, by which it knows the delivery again.
	Handle any
}

// Note is a short message about packets: receipts, wishes, greetings. What kinds there are is the
// engine's business.
type Note struct {
	From string // the boundary that sends it
	Kind string // a word of lower-case letters, digits and hyphens
	Body []byte
}

// Check says what keeps a note from being sent, as an ErrInvalid or ErrTooBig.
func (n Note) Check() error {
	if err := CheckBoundary(n.From); err != nil {
		return err
	}
	if !nameOf(n.Kind, 64, "-") {
		return invalid("note's kind %q: want 1 to 64 lower-case letters, digits and hyphens", n.Kind)
	}
	if len(n.Body) > MaxNote {
		return tooBig("note", len(n.Body), MaxNote)
	}
	return nil
}

// Everybody is whom Send publishes to when it is no boundary.
const Everybody = "*"

// Limits of the port.
const (
	MaxSend      = 10_000   // packets in one Send
	MaxNext      = 1_000    // packets returned by one Next
	MaxNextBytes = 8 << 20  // of bodies and headers returned by one Next
	MaxBody      = 1 << 20  // bytes of a packet's body; a wire may take less
	MaxHeaders   = 8 << 10  // bytes of a packet's Headers, as names and values in JSON
	MaxWire      = 64 << 10 // bytes of the headers of a packet on the wire
	MaxKey       = 512      // bytes of a packet's key
	MaxText      = 512      // bytes of any other text in a packet, but for its tombstone
	MaxTombstone = 2 << 10  // bytes of a tombstone's reason; longer ones are cut
	MaxNote      = 64 << 10 // bytes of a note's body
	MaxNotes     = 1_000    // notes that wait for a listener
	MaxHold      = time.Hour
)
