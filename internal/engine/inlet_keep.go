package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

// keeping takes what is read of an inlet into the store.
type keeping struct {
	in   *inlet
	from transport.Inlet
	busy map[*line]bool // with something in hand

	acks                  []transport.Delivery
	receipts, gaps, stuck map[*line]bool
}

// arriving is one change on its way, and what it is made of.
type arriving struct {
	line   *line
	ds     []transport.Delivery
	jump   bool
	change *store.Change
}

// roundsMost bounds how often one reading is looked at again: each time some of it is decided.
const roundsMost = 64

// keep takes in what was read, acknowledges it, and tells the senders.
func (k *keeping) keep(ctx context.Context, ds []transport.Delivery) error {
	k.acks, k.receipts, k.gaps, k.stuck = k.acks[:0], map[*line]bool{}, map[*line]bool{}, map[*line]bool{}
	lanes, of := byLane(ds, k.in.x.kindOf)
	k.in.mu.Lock()
	k.in.state = ""
	for _, lane := range lanes {
		l := k.in.line(lane)
		k.busy[l] = true
		if l.foreign() {
			l.takeForeign(of[lane])
			continue
		}
		if dropped := l.take(of[lane]); len(dropped) > 0 {
			k.acks = append(k.acks, dropped...)
			k.stuck[l] = true
		}
	}
	k.in.mu.Unlock()
	for range roundsMost {
		todo, err := k.plan(ctx)
		if err != nil {
			return err
		}
		if len(todo) == 0 {
			break
		}
		changes := make([]*store.Change, len(todo))
		for i, a := range todo {
			changes[i] = a.change
		}
		if err := k.in.x.l.commit(ctx, changes); err != nil {
			return err
		}
		for _, a := range todo {
			if err := k.decided(a); err != nil {
				return err
			}
		}
	}
	return k.finish(ctx)
}

// plan makes the changes of one round.
func (k *keeping) plan(ctx context.Context) ([]*arriving, error) {
	now := time.Now()
	var todo []*arriving
	k.in.mu.Lock()
	for l := range k.busy {
		if len(l.pending) == 0 && len(l.left) == 0 {
			delete(k.busy, l)
			if l.have == (store.Place{}) { // anybody may make up a name
				delete(k.in.lines, l.lane)
			}
			continue
		}
		if now.Before(l.until) {
			continue
		}
		s := l.sort()
		if len(s.stale) > 0 {
			l.duplicates += int64(len(s.stale))
			k.acks = append(k.acks, s.stale...)
			k.receipts[l] = true
		}
		if len(s.on) > 0 {
			todo = append(todo, &arriving{line: l, ds: s.on, jump: s.jump})
		} else if s.early {
			k.tooEarly(l, now)
		}
	}
	k.in.mu.Unlock()
	for _, a := range todo {
		var err error
		if a.change, err = k.change(ctx, a); err != nil {
			return nil, err
		}
	}
	return todo, nil
}

// tooEarly wishes for what is missing, and drops what came when that takes long: the sender sends it again.
func (k *keeping) tooEarly(l *line, now time.Time) {
	wish, drop := l.missing(now)
	if wish {
		k.gaps[l] = true
	}
	if drop {
		k.acks = append(k.acks, l.pending...)
		l.pending, l.gap = nil, time.Time{}
	}
}

// change makes what is to be committed of deliveries.
func (k *keeping) change(ctx context.Context, a *arriving) (*store.Change, error) {
	ch := &store.Change{Outside: true, Sends: make([]*store.Message, 0, len(a.ds))}
	if !a.line.foreign() {
		ch.Arrival = &store.Arrival{
			Lane: a.line.lane.String(), Jump: a.jump,
			From: store.Place(a.ds[0].Packet.Position), To: store.Place(a.ds[len(a.ds)-1].Packet.Position),
		}
	}
	rows, origins := make([]store.Message, len(a.ds)), make([]store.Origin, len(a.ds))
	judge := k.in.admission()
	for i := range a.ds {
		d := &a.ds[i]
		if d.Packet.Tombstone != "" && d.Malformed == nil && !a.line.foreign() {
			continue // a dead letter at its sender
		}
		why := judge.refuses(d)
		if why == "" {
			if err := messageOf(&d.Packet, &rows[i], &origins[i]); err != nil {
				why = err.Error()
			} else if here, err := k.in.greet(ctx, &d.Packet, &rows[i]); err != nil {
				return nil, err
			} else if here {
				continue
			}
		}
		if why != "" {
			k.in.refuse(d, why, &rows[i], &origins[i])
		}
		ch.Sends = append(ch.Sends, &rows[i])
	}
	return ch, nil
}

// meet bounds the queue of a command that nobody here handles yet: it waits there for a newer program.
func (in *inlet) meet(ctx context.Context, m *store.Message) error {
	if m.Kind != store.KindCommand || in.x.kindOf(m.Topic) != 0 {
		return nil
	}
	topic := store.Topic{Name: m.Topic, Kind: m.Kind}
	if err := in.x.l.declareQueue(ctx, store.Queue{Name: m.Topic, Topic: topic, Capacity: defaultRoute}); err != nil {
		return fmt.Errorf("declare the queue of what arrived: %w", err)
	}
	in.x.setKind(m.Topic, m.Kind)
	in.x.l.log.Warn("a command arrived that nobody here handles: it waits until somebody does", keyQueue, m.Topic, "boundary", in.boundary)
	return nil
}

// greet prepares the store for a message, and says whether the store has it without its having come.
func (in *inlet) greet(ctx context.Context, p *transport.Packet, m *store.Message) (here bool, err error) {
	if err := in.meet(ctx, m); err != nil || p.Lane == (transport.Lane{}) {
		return false, err
	}
	inc, _, err := store.ParseID(p.ID)
	if err != nil || string(inc) == p.Lane.Incarnation && !slices.Contains(in.earlier, string(inc)) {
		return false, nil
	}
	// The ID is of an earlier life of this store: that and the sender's are copies of one, as when a boundary moves out, and
	// the message may be here already. Or it is of an earlier life of its store. If that was restored from an older copy it
	// gave out IDs again that it had forgotten, until its new life began: what came under this ID may be another message.
	var story store.MessageStory
	err = in.x.l.patiently(ctx, func(ctx context.Context) (err error) {
		story, err = in.x.l.st.Reader().Message(ctx, p.ID)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for %s: %w", p.ID, err)
	case story.Origin == nil && story.SentAt.Equal(p.SentAt):
		return true, nil
	case !story.SentAt.Equal(p.SentAt):
		m.Origin.ID = renamed(p.ID, p.SentAt)
		in.x.l.log.Warn("an ID came again with another message, from a store that was restored from an older copy: it is given another",
			keyMessage, p.ID, "now", m.Origin.ID, "lane", p.Lane.String())
	}
	return false, nil
}

// decided acts on how a change ended. What was not kept is taken in hand again.
func (k *keeping) decided(a *arriving) error {
	err, now, l := a.change.Err, time.Now(), a.line
	if err != nil && isOver(err) {
		return err
	}
	k.in.mu.Lock()
	defer k.in.mu.Unlock()
	if err == nil {
		k.acks = append(k.acks, a.ds...)
		k.arrived(a, now)
		return nil
	}
	l.putBack(a.ds)
	if full, ok := errors.AsType[*store.FullError](err); ok {
		if room := full.Capacity - full.Depth; room > 0 && len(a.ds) > 1 {
			l.limit = max(min(room, len(a.ds)/2), 1)
			return nil
		}
		l.full("waiting: "+full.Error(), now)
		k.stuck[l] = true
		return nil
	}
	if crowded, ok := errors.AsType[*store.LanesError](err); ok {
		k.crowded(l, crowded, now)
		return nil
	}
	if misplaced, ok := errors.AsType[*store.MisplacedError](err); ok { // another process was here
		l.have = misplaced.Have
		return nil
	}
	if errors.Is(err, store.ErrKeyHeld) {
		l.full("waiting: "+err.Error(), now)
		return nil
	}
	if len(a.ds) > 1 { // find out which
		l.limit = len(a.ds) / 2
		return nil
	}
	d := &l.pending[0]
	if errors.Is(d.Malformed, errRefused) {
		return fmt.Errorf("take in what was refused from %s: %w", k.in.boundary, err)
	}
	d.Malformed = fmt.Errorf("%w: %w", errRefused, err)
	return nil
}

// errRefused marks a packet that the store has refused.
var errRefused = errors.New("the store refuses it")

// arrived notes how far a lane is here now.
func (k *keeping) arrived(a *arriving, now time.Time) {
	if a.line.foreign() {
		a.line.kept(store.Place{}, len(a.ds), now)
		return
	}
	had := a.line.have
	a.line.kept(a.change.Arrival.To, len(a.ds), now)
	k.receipts[a.line] = true
	if a.jump {
		k.in.x.l.log.Error("messages are missing that their sender does not have any more: they were sent while this store was away, or before its backup, and retention has taken them",
			"lane", a.change.Arrival.Lane, "after", transport.Position(had).String(), "goes on at", a.ds[0].Packet.Position.String())
	}
}

// finish acknowledges, and tells the senders what is here, what is missing, and what is held.
func (k *keeping) finish(ctx context.Context) error {
	if len(k.acks) > 0 {
		if err := k.from.Ack(ctx, k.acks); err != nil && ctx.Err() == nil {
			return fmt.Errorf("%w: %w", errInlet, err)
		}
	}
	if err := k.ask(ctx); err != nil {
		return err
	}
	now := time.Now()
	k.in.mu.Lock()
	for l := range k.stuck {
		if l.foreign() || now.Sub(l.told) < heldPause {
			delete(k.stuck, l)
			continue
		}
		l.told = now
		delete(k.receipts, l)
	}
	for l := range k.gaps {
		delete(k.receipts, l)
	}
	k.in.mu.Unlock()
	k.tell(ctx, noteReceipt, k.receipts)
	k.tell(ctx, noteWish, k.gaps)
	k.tell(ctx, noteHeld, k.stuck)
	return nil
}

func (k *keeping) tell(ctx context.Context, kind string, lines map[*line]bool) {
	if len(lines) == 0 {
		return
	}
	bySender := map[string][]laneNote{}
	k.in.mu.Lock()
	for l := range lines {
		bySender[l.lane.From] = append(bySender[l.lane.From], noteOf(l))
	}
	k.in.mu.Unlock()
	for from, lanes := range bySender {
		k.in.x.notifyLanes(ctx, k.in.boundary, from, kind, lanes)
	}
}

// wakes is how long to wait for what comes, before what is in hand is looked at again.
func (k *keeping) wakes(now time.Time) time.Duration {
	k.in.mu.Lock()
	defer k.in.mu.Unlock()
	next := time.Hour
	for l := range k.busy {
		if at := l.wakes(); !at.IsZero() {
			next = min(next, max(at.Sub(now), time.Millisecond))
		}
	}
	return next
}

// letGo forgets what is in hand: the transport gives it again.
func (k *keeping) letGo() {
	k.in.mu.Lock()
	defer k.in.mu.Unlock()
	now := time.Now()
	for l := range k.busy {
		if l.foreign() {
			l.expect(now)
		}
		l.pending, l.limit, l.until, l.gap = nil, 0, time.Time{}, time.Time{}
	}
}

// admission is what is known here to tell what is for this boundary.
func (in *inlet) admission() admission {
	return admission{boundary: in.boundary, owns: in.x.l.owns, kind: in.x.kindOf, apart: in.apart, inner: in.inner, maxBody: in.x.l.config.Exchange.MaxBody}
}

// refuse makes a packet one for the boundary's dead letters.
func (in *inlet) refuse(d *transport.Delivery, why string, m *store.Message, o *store.Origin) {
	p := &d.Packet
	from := p.Source
	if from == "" {
		from = p.Lane.From
	}
	*m = store.Message{
		Topic: in.boundary + refusedSuffix, Kind: store.KindCommand, Version: 1, Headers: headersOfRefused(d, from, why), Body: slices.Clone(p.Body),
	}
	if p.ID != "" && from != "" {
		*o = store.Origin{ID: "refused/" + from + "#" + p.ID, From: from, SentAt: p.SentAt}
		m.Origin = o
	}
}

// refusedQueue are the settings of the queue of what is refused at a boundary: it makes dead letters, with the reason.
func refusedQueue(boundary string) Settings {
	name := boundary + refusedSuffix
	return Settings{
		Queue:       store.Queue{Name: name, Topic: store.Topic{Name: name, Kind: store.KindCommand}, Capacity: refusedPending, OnDead: store.Skip},
		Concurrency: 1, Timeout: time.Minute, Retry: Retry{Max: 1, Base: time.Second, Cap: time.Second},
		Work: func(_ context.Context, a *Attempt) error {
			var headers map[string]string
			if err := json.Unmarshal(a.Message.Headers, &headers); err != nil {
				return Permanent(fmt.Errorf("refused, and its headers are damaged: %w", err))
			}
			return Permanent(fmt.Errorf("%s %s from %s was refused: %s",
				quote(headers[refusedTopic]), quote(headers[refusedID]), quote(headers[refusedFrom]), headers[refusedReason]))
		},
	}
}
