package engine

import (
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

// line is what an inlet knows of one lane, and what it has in hand of it. What foreign programs send is in a line of
// its topic's, in the order in which it was published.
type line struct {
	lane    transport.Lane
	have    store.Place          // the zero Place: nothing is known here of the lane
	begins  int64                // of an unknown lane: the batch before which its sender sends nothing again; 0: it has not said so
	pending []transport.Delivery // read and not kept, by place or number, each once
	left    []left               // of foreign programs, with the transport, by number
	bytes   int
	limit   int // of one change, while a queue has little room or one of them is refused; 0: none

	wish  time.Time // when what is missing was last wished for
	gap   time.Time // since when something is missing; zero: nothing
	until time.Time // nothing is tried before: a queue here is full
	pause time.Duration
	why   string    // what holds it; empty: nothing
	told  time.Time // when the sender was last told that it is held
	at    time.Time // of the last arrival

	drained   store.Place // up to here the sender has settled all, as was last noted
	drainedAt time.Time

	duplicates, gaps int64
}

const (
	// Of a lane that something holds so much is kept in hand. The rest is dropped, lest it fill the transport and
	// hold up other lanes; its sender has it, and is told to send less.
	pendingMost  = 2_000
	pendingBytes = 16 << 20

	// gapPatience is how long what comes too early is kept, in case that what is missing is just behind. Then it is
	// dropped: what is missing may find no room in the transport otherwise.
	gapPatience = time.Second
	// While a queue here is full its lane waits, with a pause that doubles.
	fullPauseMin = 20 * time.Millisecond
	fullPauseMax = 500 * time.Millisecond
	heldPause    = time.Second // between words to the sender that its lane is held
)

func (l *line) foreign() bool { return l.lane.From == "" }

func compareDeliveries(a, b transport.Delivery) int {
	return a.Packet.Position.Compare(b.Packet.Position)
}

// take adds deliveries to what is in hand, and gives back those for which there is no place.
func (l *line) take(ds []transport.Delivery) (dropped []transport.Delivery) {
	if len(ds) == 0 {
		return nil
	}
	compare, size := compareDeliveries, func(d *transport.Delivery) int { return len(d.Packet.Body) }
	if l.foreign() {
		compare, size = compareNumbers, sizeOf
	}
	ordered := slices.IsSortedFunc(ds, compare) &&
		(len(l.pending) == 0 || compare(l.pending[len(l.pending)-1], ds[0]) < 0)
	l.pending = append(l.pending, ds...)
	if !ordered { // of those that came twice the later is the one to be acknowledged
		slices.SortStableFunc(l.pending, compare)
		n := 0
		for i := range l.pending {
			if i+1 < len(l.pending) && compare(l.pending[i], l.pending[i+1]) == 0 {
				continue
			}
			l.pending[n] = l.pending[i]
			n++
		}
		clear(l.pending[n:])
		l.pending = l.pending[:n]
	}
	l.bytes = 0
	for i := range l.pending {
		if l.bytes += size(&l.pending[i]); i >= pendingMost || l.bytes > pendingBytes && i > 0 {
			l.bytes -= size(&l.pending[i])
			dropped = slices.Clone(l.pending[i:])
			l.pending = l.pending[:i]
			break
		}
	}
	return dropped
}

// sorted is what is to be done with what is in hand of a lane.
type sorted struct {
	on    []transport.Delivery // go on where the lane ends, without a gap, in order
	jump  bool                 // but for one before them that nobody can fill
	stale []transport.Delivery // are here already
	early bool                 // something is missing before the rest, which stays in hand
}

// sort says what each in hand is. It does no I/O and reads no clock.
func (l *line) sort() sorted {
	if l.foreign() {
		n := l.most(l.ready())
		s := sorted{on: l.pending[:n:n]}
		l.pending = l.pending[n:]
		return s
	}
	var s sorted
	have, known := l.have, l.have != store.Place{}
	first := 0
	for first < len(l.pending) && known && order(store.Place(l.pending[first].Packet.Position), have) <= 0 {
		first++
	}
	s.stale = l.pending[:first:first]
	n := first
	for ; n < len(l.pending); n++ {
		p := &l.pending[n].Packet
		at := store.Place(p.Position)
		if !known || !have.Precedes(at) {
			if n > first || !l.mayBegin(p, known) {
				break
			}
			s.jump = p.Begin == transport.BeginJump
		}
		have, known = at, true
	}
	s.early = n < len(l.pending)
	n = first + l.most(n-first)
	s.on = l.pending[first:n:n]
	l.pending = l.pending[n:]
	return s
}

// mayBegin says whether the lane goes on with a packet though what is before it is not here. What comes late of a lane
// whose mark was deleted, since all was settled, may say that it is the first, too; so of an unknown lane only
// what its sender has just spoken of is.
func (l *line) mayBegin(p *transport.Packet, known bool) bool {
	if known {
		return p.Begin == transport.BeginJump
	}
	return p.Begin != "" && l.begins > 0 && p.Position.Batch >= l.begins
}

// most is how many of n may go into one change.
func (l *line) most(n int) int {
	if l.limit > 0 {
		return min(n, l.limit)
	}
	return n
}

// putBack takes in hand again what was sorted out.
func (l *line) putBack(ds []transport.Delivery) {
	l.pending = append(slices.Clip(ds), l.pending...)
}

// missing is told that what came is too early: it says whether to wish for what is not here, and whether to drop
// what came.
func (l *line) missing(now time.Time) (wish, drop bool) {
	if l.gap.IsZero() {
		l.gap = now
		l.gaps++
	}
	if wish = now.Sub(l.wish) >= wishPause; wish {
		l.wish = now
	}
	return wish, now.Sub(l.gap) >= gapPatience
}

// kept is told that the store has n more.
func (l *line) kept(to store.Place, n int, now time.Time) {
	l.have, l.gap, l.at = to, time.Time{}, now
	l.pause, l.why, l.until = 0, "", time.Time{}
	if l.limit > 0 {
		if l.limit = 2 * max(l.limit, n); l.limit > pendingMost {
			l.limit = 0
		}
	}
}

// full is told that a queue here has no room.
func (l *line) full(why string, now time.Time) {
	l.pause = min(max(2*l.pause, fullPauseMin), fullPauseMax)
	l.until, l.why, l.limit = now.Add(l.pause), why, 0
}

// wakes is when to look at the line again, if nothing comes for it; zero: never.
func (l *line) wakes() time.Time {
	switch {
	case l.foreign():
		return l.wakesForeign()
	case len(l.pending) == 0:
		return time.Time{}
	case !l.until.IsZero():
		return l.until
	}
	return l.gap.Add(gapPatience)
}

// byLane splits deliveries by lane, in the order in which each lane came first; those of foreign programs by topic, and
// those whose topic is not known all together: anybody may make up topics, and they are refused.
func byLane(ds []transport.Delivery, known func(topic string) store.Kind) (lanes []transport.Lane, of map[transport.Lane][]transport.Delivery) {
	of = map[transport.Lane][]transport.Delivery{}
	for len(ds) > 0 {
		lane, n := laneOf(&ds[0], known), 1
		for n < len(ds) && laneOf(&ds[n], known) == lane {
			n++
		}
		if _, seen := of[lane]; !seen {
			lanes = append(lanes, lane)
			of[lane] = ds[:n:n]
		} else {
			of[lane] = append(of[lane], ds[:n]...)
		}
		ds = ds[n:]
	}
	return lanes, of
}

// laneOf is the lane of a delivery; for those of nobody's one without a sender, by topic.
func laneOf(d *transport.Delivery, known func(topic string) store.Kind) transport.Lane {
	if onLane(d) {
		return d.Packet.Lane
	}
	if known(d.Packet.Topic) == 0 {
		return transport.Lane{}
	}
	return transport.Lane{Queue: d.Packet.Topic}
}

// onLane says whether a delivery has a place on a lane: if not, it is of a foreign program, or malformed just there.
func onLane(d *transport.Delivery) bool {
	if d.Packet.Lane == (transport.Lane{}) || d.Packet.Position.Batch < 1 {
		return false
	}
	bad, malformed := d.Malformed.(*transport.MalformedError)
	return !malformed || bad.Attribute != "weirlane" && bad.Attribute != "weirpos" && bad.Attribute != "source"
}

// admission is what an inlet knows to tell what is for its boundary.
type admission struct {
	boundary string
	owns     func(boundary string) bool
	kind     func(topic string) store.Kind // of a topic that somebody here handles or subscribes to; 0: nobody
	apart    func(boundary string) bool    // one of weir's, in another store, as far as is known here
	inner    func(topic string) bool       // what owners and followers of entities say to each other
	maxBody  int                           // of foreign programs; 0: any
}

// refuses says why a packet is not taken in; empty when it is. One of a foreign program that has no kind gets that of
// its topic. It does no I/O.
func (a admission) refuses(d *transport.Delivery) string {
	p := &d.Packet
	if d.Malformed != nil {
		return d.Malformed.Error()
	}
	known := a.kind(p.Topic)
	if p.Kind == "" && known != 0 {
		p.Kind = kinds[known]
	}
	foreign := p.Lane == transport.Lane{}
	switch kind, owner := kindOf(p.Kind), ownerOf(p.Topic); {
	case !topicName(p.Topic):
		return "event type " + quote(p.Topic) + " is no contract's name, such as kitchen.prepare-food"
	case p.Topic == a.boundary+refusedSuffix:
		return quote(p.Topic) + " is where what is refused goes"
	case foreign && known == 0:
		return "nobody here handles or subscribes to " + quote(p.Topic)
	case known != 0 && known != kind:
		return quote(p.Topic) + " came as " + kind.String() + ", and is known here as " + known.String()
	case kind == store.KindSignal:
		return "signals do not go between stores: send a command, whose handler tells the run"
	case foreign && a.refusesForeign(p, kind, owner) != "":
		return a.refusesForeign(p, kind, owner)
	case kind == store.KindCommand && owner != a.boundary:
		return "command " + quote(p.Topic) + " came to boundary " + a.boundary + ", which does not own it"
	case kind == store.KindCommand:
		return ""
	case a.owns(owner):
		return kind.String() + " " + quote(p.Topic) + " is published here, by boundary " + owner + " alone"
	case !foreign && owner != p.Lane.From:
		return kind.String() + " " + quote(p.Topic) + " came from boundary " + p.Lane.From + ", which does not own it"
	}
	return ""
}

func quote(s string) string { return `"` + clip(s, 200) + `"` }

// topicName says whether s is a contract's name: its owner's, a dot, and words of lower-case letters, digits and hyphens.
func topicName(s string) bool {
	owner, rest, ok := strings.Cut(s, ".")
	if !ok || len(s) > 220 || transport.CheckBoundary(owner) != nil {
		return false
	}
	for word := range strings.SplitSeq(rest, ".") {
		if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || word[0] == '-' {
			return false
		}
	}
	return true
}
