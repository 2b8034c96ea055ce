package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

// What a foreign program has published is with the transport, and with nobody else: its publish was answered, and it
// sends nothing again. So of a foreign line nothing is acknowledged before the store has it. What finds no place in
// hand is left with the transport, which gives it again after a time of its own, and sooner when it is asked to: it is
// as soon as there is room. Until it comes what was published later waits, so that order is kept.

// left is a packet of a foreign program that is with the transport, since there is no place for it in hand.
type left struct {
	number int64
	bytes  int
	handle any
	asked  time.Time // when it was given back, to come again at once; zero: not yet
}

// leftPatience is for how long what was asked for is waited for before what was published after it. The transport
// gives it again in any case.
const leftPatience = time.Minute

func compareNumbers(a, b transport.Delivery) int { return cmp.Compare(a.Number, b.Number) }

// sizeOf is what a delivery takes in hand. Whoever sends to a foreign line is trusted with nothing.
func sizeOf(d *transport.Delivery) int {
	n := len(d.Packet.Body)
	for name, value := range d.Packet.Headers {
		n += len(name) + len(value)
	}
	for name, values := range d.Raw {
		n += len(name)
		for _, v := range values {
			n += len(v)
		}
	}
	return n
}

// takeForeign adds deliveries to what is in hand, by the order in which they were published, and each once: what comes
// again replaces its earlier copy. What finds no place is left.
func (l *line) takeForeign(ds []transport.Delivery) {
	if len(l.left) > 0 {
		came := make(map[int64]bool, len(ds))
		for i := range ds {
			came[ds[i].Number] = true
		}
		l.left = slices.DeleteFunc(l.left, func(o left) bool { return came[o.number] })
	}
	more := l.take(ds)
	if len(more) == 0 {
		return
	}
	for i := range more {
		l.left = append(l.left, left{number: more[i].Number, bytes: sizeOf(&more[i]), handle: more[i].Handle})
	}
	slices.SortFunc(l.left, func(a, b left) int { return cmp.Compare(a.number, b.number) })
}

// expect is told that all in hand is with the transport again, which gives it as it likes: what was published later waits for it.
func (l *line) expect(now time.Time) {
	for i := range l.pending {
		l.left = append(l.left, left{number: l.pending[i].Number, bytes: sizeOf(&l.pending[i])})
	}
	for i := range l.left {
		l.left[i].asked, l.left[i].handle = now, nil
	}
	slices.SortFunc(l.left, func(a, b left) int { return cmp.Compare(a.number, b.number) })
}

// ready is how many of those in hand have nothing before them that is left.
func (l *line) ready() int {
	if len(l.left) == 0 {
		return len(l.pending)
	}
	n, _ := slices.BinarySearchFunc(l.pending, l.left[0].number, func(d transport.Delivery, number int64) int { return cmp.Compare(d.Number, number) })
	return n
}

// asks gives those to ask the transport for: the first of those left, once half of what may be in hand is free.
func (l *line) asks(now time.Time) (ds []transport.Delivery) {
	l.left = slices.DeleteFunc(l.left, func(o left) bool { return !o.asked.IsZero() && now.Sub(o.asked) >= leftPatience })
	n, bytes := l.ready(), 0
	for i := range n {
		bytes += sizeOf(&l.pending[i])
	}
	for i := range l.left {
		if !l.left[i].asked.IsZero() {
			n++
			bytes += l.left[i].bytes
		}
	}
	if n > pendingMost/2 || bytes > pendingBytes/2 {
		return nil
	}
	for i := range l.left {
		o := &l.left[i]
		if !o.asked.IsZero() {
			continue
		}
		if n++; n > pendingMost || n > 1 && bytes+o.bytes > pendingBytes {
			break
		}
		bytes += o.bytes
		o.asked = now
		ds = append(ds, transport.Delivery{Handle: o.handle})
	}
	return ds
}

// wakesForeign is when to look at the line again, if nothing comes for it; zero: never.
func (l *line) wakesForeign() (at time.Time) {
	if l.ready() > 0 {
		return cmp.Or(l.until, time.Unix(0, 0))
	}
	for i := range l.left {
		if asked := l.left[i].asked; !asked.IsZero() && (at.IsZero() || asked.Before(at)) {
			at = asked
		}
	}
	if !at.IsZero() {
		at = at.Add(leftPatience)
	}
	return at
}

// ask has the transport give again what was left with it, where there is room by now.
func (k *keeping) ask(ctx context.Context) error {
	var ds []transport.Delivery
	now := time.Now()
	k.in.mu.Lock()
	for l := range k.busy {
		if len(l.left) > 0 {
			ds = append(ds, l.asks(now)...)
		}
	}
	k.in.mu.Unlock()
	if len(ds) == 0 {
		return nil
	}
	if err := k.from.Hold(ctx, ds, 0); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", errInlet, err)
	}
	return nil
}

// refusesForeign says why a packet of a foreign program is not taken in, beside what holds for all.
func (a admission) refusesForeign(p *transport.Packet, kind store.Kind, owner string) string {
	switch {
	case a.maxBody > 0 && len(p.Body) > a.maxBody:
		return fmt.Sprintf("its body is %d bytes, at most %d (Config.MaxBody): keep large things elsewhere and send their address", len(p.Body), a.maxBody)
	case kind == store.KindReply:
		return "replies come from boundaries, not from programs that know nothing of weir"
	case p.Stamp != 0:
		return "attribute weirstamp is what boundaries say to each other: a program that knows nothing of weir leaves it out"
	case p.ReplyTo != "":
		return "attribute weirreplyto is what boundaries say to each other: a program that knows nothing of weir gets no reply"
	case p.Tombstone != "":
		return "attribute weirtombstone is what boundaries say to each other: a program that knows nothing of weir leaves it out"
	case a.inner(p.Topic):
		return quote(p.Topic) + " is what an entity's owner and its followers say to each other"
	case kind == store.KindEvent && !a.owns(owner) && a.apart(owner):
		return "event " + quote(p.Topic) + " is published by boundary " + owner + " alone, which has a store of its own"
	}
	for name := range p.Headers {
		if strings.HasPrefix(name, weirHeaders) {
			return "header " + quote(name) + " is weir's own"
		}
	}
	return ""
}

// weirHeaders begin the names of headers that weir gives itself, such as stampHeader.
const weirHeaders = "weir-"

// apart says whether a boundary is known here to be one of weir's in another store: it is routed to, one of its entities is
// followed, or it has sent something.
func (in *inlet) apart(boundary string) bool {
	if _, routed := in.x.l.config.Exchange.Routes[boundary]; routed {
		return true
	}
	if all := in.x.l.following.Load(); all != nil {
		for entity, f := range *all {
			if f.by != "" && ownerOf(entity) == boundary {
				return true
			}
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for lane, l := range in.lines {
		if lane.From == boundary && l.have != (store.Place{}) {
			return true
		}
	}
	return false
}

// inner says whether a topic is of what owners and followers of entities say to each other.
func (in *inlet) inner(topic string) bool {
	if slices.ContainsFunc(in.x.l.owned, func(entity string) bool { return statesOf(entity).Name == topic }) {
		return true
	}
	all := in.x.l.following.Load()
	if all == nil {
		return false
	}
	entity := strings.TrimSuffix(topic, pagesOf("").Name)
	f := (*all)[entity]
	return entity != topic && f != nil && f.by != ""
}
