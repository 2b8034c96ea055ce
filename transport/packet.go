package transport

import (
	"cmp"
	"strconv"
	"strings"
	"time"
)

// Packet is one message on its way from one boundary's store to another's, or, with a
// Tombstone, the word that there will never be one in its place.
type Packet struct {
	// Lane and Position say where it stands among those of its sender. A packet of a foreign
	// program has no lane (the zero one) and is known by its Source and ID alone.
	Lane     Lane
	Position Position
	// Begin says, on some packets of a lane, why none before it may be waited for.
	Begin Begin
	// Source is a foreign sender's name for itself, a URI reference. Empty where there is a lane.
	Source string

	// Tombstone is why the message of this position will never come: it could not be sent, and is a
	// dead letter at its sender. It keeps positions dense. Empty for a message.
	Tombstone string

	ID          string // the origin's ID of the message
	Topic       string // the contract's name; a foreign sender's event type may be anything
	Kind        Kind   // empty, as foreign programs leave it: whatever the topic is
	Version     int    // of the contract, 1 or more; 0 where a foreign sender did not say
	Key         string
	Cause       string
	Correlation string
	ReplyTo     string // the boundary that waits for the reply; empty for none
	SentAt      time.Time
	Stamp       int64 // grows with every message of the sender's store, from one of its lives to the next too; 0: not said
	// Headers are the user's. Those named traceparent and tracestate are W3C trace context, and
	// travel as such. Names that CloudEvents allows travel as extension attributes of that name, so
	// foreign programs read and write them; others travel too, for weir alone.
	Headers     map[string]string
	ContentType string // of the body, a media type
	Body        []byte
}

// Begin says that a receiver need not wait for what is before a packet.
type Begin string

const (
	// BeginFirst: the receiver has all that is before it, as far as the sender knows, or nothing is. One that
	// knows nothing of the lane begins here.
	BeginFirst Begin = "first"
	// BeginJump: the sender has nothing any more of what is before it. One that lacks it has lost that, counts
	// the loss, and goes on from here.
	BeginJump Begin = "jump"
)

// known says whether it is one of those, or none.
func (b Begin) known() bool { return b == "" || b == BeginFirst || b == BeginJump }

// Kind says what a message is.
type Kind string

const (
	KindCommand Kind = "command"
	KindEvent   Kind = "event"
	KindReply   Kind = "reply"
	KindSignal  Kind = "signal"
)

// known says whether the kind is one, or left empty.
func (k Kind) known() bool {
	switch k {
	case "", KindCommand, KindEvent, KindReply, KindSignal:
		return true
	}
	return false
}

// Lane names what one relay of one store sends to a boundary.
type Lane struct {
	From        string // the sender's boundary
	Incarnation string // of the sender's store: a restored one begins new lanes
	Queue       string // the relay queue in it
}

// String is the lane on the wire: "floor/k7q2xw/kitchen.prepare-food".
func (l Lane) String() string { return l.From + "/" + l.Incarnation + "/" + l.Queue }

// ParseLane reads what String wrote.
func ParseLane(s string) (Lane, error) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 {
		return Lane{}, invalid("lane %q: want boundary/incarnation/queue", s)
	}
	l := Lane{From: parts[0], Incarnation: parts[1], Queue: parts[2]}
	return l, l.check()
}

// check keeps a lane's parts to what every wire takes as part of a name.
func (l Lane) check() error {
	if err := CheckBoundary(l.From); err != nil {
		return err
	}
	if !nameOf(l.Incarnation, 64, "") {
		return invalid("lane's incarnation %q: want 1 to 64 lower-case letters and digits", l.Incarnation)
	}
	if !nameOf(l.Queue, MaxText, ".-@") || strings.Contains("."+l.Queue+".", "..") {
		return invalid("lane's queue %q: want 1 to %d lower-case letters, digits, hyphens, @ and single dots", l.Queue, MaxText)
	}
	return nil
}

// CheckBoundary says whether name may be a boundary's: lower-case letters, digits and
// hyphens, a letter first, up to 100. The error says what is wrong and is an ErrInvalid.
func CheckBoundary(name string) error {
	if !nameOf(name, 100, "-") || name[0] < 'a' {
		return invalid("boundary %q: want 1 to 100 lower-case letters, digits and hyphens, a letter first", name)
	}
	return nil
}

// CheckPublic says whether the packet may be sent to Everybody: it is on a lane, and its topic is its sender's
// boundary, a dot, and a name of lower-case letters, digits, hyphens and single dots. The error is an ErrInvalid.
func (p *Packet) CheckPublic() error {
	name, own := strings.CutPrefix(p.Topic, p.Lane.From+".")
	if (p.Lane == Lane{}) || !own || !nameOf(name, MaxText, ".-") || strings.Contains("."+name+".", "..") {
		return invalid("topic %q on lane %s: to everybody go the events of the sender's own boundary, such as floor.opened", p.Topic, p.Lane)
	}
	return nil
}

// nameOf says whether s is 1 to most lower-case letters, digits and bytes of also.
func nameOf(s string, most int, also string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte(also, c) < 0 {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= most
}

// Position is where a packet stands on its lane: the relay queue's batch, the index in
// it, and whether that is its last one. After a last one comes index 0 of the next batch,
// after another the next index.
type Position struct {
	Batch int64
	Index int
	Last  bool
}

// Compare orders positions of one lane.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Batch, q.Batch), cmp.Compare(p.Index, q.Index))
}

// Precedes says whether q is the next position after p: nothing is missing between them.
func (p Position) Precedes(q Position) bool {
	if p.Last {
		return q.Batch == p.Batch+1 && q.Index == 0
	}
	return q.Batch == p.Batch && q.Index == p.Index+1
}

// String is the position on the wire: "12/3", or "12/4/last".
func (p Position) String() string {
	b := append(strconv.AppendInt(nil, p.Batch, 10), '/')
	b = strconv.AppendInt(b, int64(p.Index), 10)
	if p.Last {
		b = append(b, "/last"...)
	}
	return string(b)
}

// ParsePosition reads what String wrote.
func ParsePosition(s string) (Position, error) {
	text, last := strings.CutSuffix(s, "/last")
	batch, index, _ := strings.Cut(text, "/")
	n, err := strconv.ParseInt(batch, 10, 64)
	if err == nil {
		i, err := strconv.ParseInt(index, 10, 32)
		if p := (Position{Batch: n, Index: int(i), Last: last}); err == nil && p.String() == s && n >= 0 && i >= 0 {
			return p, nil
		}
	}
	return Position{}, invalid("position %q: want batch/index, such as 12/3, or 12/4/last", s)
}

// check says what keeps a packet from being sent, as an ErrInvalid or ErrTooBig.
func (p *Packet) check() error {
	switch {
	case p.Lane == Lane{} && p.Source == "":
		return invalid("a packet has neither a lane nor a source")
	case p.Lane != Lane{} && p.Source != "":
		return invalid("a packet has both the lane %s and the source %q", p.Lane, p.Source)
	case p.Lane == Lane{} && p.Position != Position{}:
		return invalid("a packet without a lane has the position %s", p.Position)
	case p.Lane == Lane{} && p.Begin != "" || !p.Begin.known():
		return invalid("begin %q: want first or jump, on a lane", p.Begin)
	case p.Stamp < 0:
		return invalid("stamp %d is negative", p.Stamp)
	case p.Position.Batch < 0 || p.Position.Index < 0:
		return invalid("position %s is negative", p.Position)
	case p.Version < 0 || p.Version > 1<<31-1:
		return invalid("contract version %d: want 1 to 2147483647", p.Version)
	case !p.Kind.known():
		return invalid("kind %q: want command, event, reply or signal", p.Kind)
	case p.ID == "" || p.Topic == "":
		return invalid("a packet has ID %q and topic %q: both are needed", p.ID, p.Topic)
	case len(p.Body) > MaxBody:
		return tooBig("body", len(p.Body), MaxBody)
	case len(p.Key) > MaxKey:
		return tooBig("key", len(p.Key), MaxKey)
	}
	if (p.Lane != Lane{}) {
		if err := p.Lane.check(); err != nil {
			return err
		}
	}
	if p.ReplyTo != "" {
		if err := CheckBoundary(p.ReplyTo); err != nil {
			return err
		}
	}
	texts := [...]struct{ name, value string }{
		{"ID", p.ID}, {"topic", p.Topic}, {"kind", string(p.Kind)}, {"cause", p.Cause},
		{"correlation", p.Correlation}, {"source", p.Source}, {"content type", p.ContentType},
	}
	for _, t := range texts {
		if len(t.value) > MaxText {
			return tooBig(t.name, len(t.value), MaxText)
		}
		if bad := notText(t.value); bad != "" {
			return invalid("%s %q has %s", t.name, t.value, bad)
		}
	}
	return nil
}
