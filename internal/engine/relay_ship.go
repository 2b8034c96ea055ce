package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

// What the transport cannot take now is offered again, with a pause that doubles, and in no step with others.
const (
	shipPauseMin = 20 * time.Millisecond
	shipPauseMax = 2 * time.Second
	// troubleAfter is how long a transport may refuse before a person hears of it, and troubleAgain how often then.
	troubleAfter = 10 * time.Second
	troubleAgain = 10 * time.Minute
)

// ships sends what the window says, and sends again.
func (r *relay) ships(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var t trouble
	for ctx.Err() == nil {
		for _, w := range r.words() {
			if err := r.weigh(ctx, w); err != nil {
				return err
			}
		}
		r.mu.Lock()
		next, wake := r.window.step(time.Now())
		r.mu.Unlock()
		var err error
		switch next {
		case toShip:
			err = r.ship(ctx)
		case toLook:
			if err := r.recall(ctx); err != nil {
				return err
			}
			continue
		case toAsk:
			r.x.ask(ctx, r)
			continue
		}
		switch pause := t.is(r, err); {
		case pause > 0:
			timer.Reset(pause)
		case next != toRest:
			continue
		default:
			timer.Reset(time.Until(wake))
		}
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-r.shipper:
		}
	}
	return nil
}

// weigh takes in a receiver's word. One that has more than was ever claimed here tells that this store was
// restored from an older copy: what it gave numbers to since is lost here, and the numbers must not be used again.
func (r *relay) weigh(ctx context.Context, said word) error {
	r.mu.Lock()
	beyond := r.window.beyond(said.have)
	r.mu.Unlock()
	if beyond {
		if _, err := r.look(ctx); err != nil { // another process may have claimed it
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &r.window
	if w.restored {
		return nil
	}
	if w.beyond(said.have) {
		w.restored = true
		r.trouble = "stopped: the store is an older copy; run weir store renew"
		r.x.l.log.Error("a receiver has more than this store has ever sent: it was restored from an older copy, and nobody said so. "+
			"Nothing is sent on this lane, and nothing is lost, until you stop the process, run weir store renew and start it again",
			"lane", r.lane.String(), "receiver has batch", said.have.Batch, "newest batch here", w.newest)
		return nil
	}
	if w.heard && said.why != told && order(said.have, w.have) < 0 {
		r.x.l.log.Warn("a receiver has less than it had: it was restored from an older copy, and is sent again what it lacks, as far as that is kept",
			"lane", r.lane.String(), "had", transport.Position(w.have).String(), "has", transport.Position(said.have).String())
	}
	first := !w.heard
	r.receiptAt = time.Now()
	w.receipt(said.have, said.why, r.receiptAt)
	if first && w.blank && w.next.Batch > 1 {
		r.x.l.log.Warn("a receiver knows nothing of a lane whose queue is not new: it begins with what is not confirmed. That is right after a renewal, for a boundary that "+
			"has moved out, and where one of the two was away for longer than its messages are kept. If its store was restored from a copy that is older than the lane, what it had confirmed since is not sent again",
			"lane", r.lane.String(), "begins at batch", w.next.Batch)
	}
	r.settleConfirmed()
	return nil
}

// settleConfirmed hands on what is confirmed. The caller holds mu.
func (r *relay) settleConfirmed() {
	if done := r.window.confirmed(); len(done) > 0 {
		r.confirmed = append(r.confirmed, done...)
		signal(r.settler)
	}
	signal(r.claimer)
}

// recall gets a batch that was settled out of the store: the receiver has lost it.
func (r *relay) recall(ctx context.Context) error {
	r.mu.Lock()
	no, newest := r.window.next.Batch, r.window.newest
	r.mu.Unlock()
	b, err := r.history(ctx, no)
	if err == nil && b == nil {
		// Retention has deleted from the front: the first that is kept is found by halving.
		var failed error
		first := no + 1 + int64(sort.Search(int(newest-no), func(i int) bool {
			kept, err := r.history(ctx, no+1+int64(i))
			failed = errors.Join(failed, err)
			return kept != nil || r.has(no+1+int64(i))
		}))
		if err = failed; err == nil && first <= newest && !r.has(first) {
			b, err = r.history(ctx, first)
		}
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch w := &r.window; {
	case w.next.Batch != no: // it was moved meanwhile
	case b != nil:
		w.found(b)
	default:
		w.lost()
	}
	return nil
}

func (r *relay) has(no int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.window.find(no) != nil
}

// history is a batch as it was claimed; nil when it is not kept.
func (r *relay) history(ctx context.Context, no int64) (b *store.Batch, err error) {
	err = r.x.l.patiently(ctx, func(ctx context.Context) (err error) {
		b, err = r.x.l.st.Reader().Exchange().Batch(ctx, r.id, no)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return b, err
}

// load is what one call of the transport is given.
type load struct {
	packets []transport.Packet
	of      []*shipment // of each packet
}

// gather makes packets of what comes next: the rest of a batch, and small ones behind it.
func (r *relay) gather() load {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &r.window
	var l load
	at, begin := w.next, w.begin(w.next)
	for {
		s := w.find(at.Batch)
		if s == nil || len(l.packets) > 0 && len(l.packets)+len(s.Deliveries) > store.MaxBatch {
			break
		}
		l.packets = slices.Grow(l.packets, len(s.Deliveries))
		i := 0
		for ; at.Index <= s.last; at.Index++ {
			for i < len(s.Deliveries) && s.Deliveries[i].Index < at.Index {
				i++
			}
			place := store.Place{Batch: s.No, Index: at.Index, Last: at.Index == s.last}
			l.packets = append(l.packets, r.packet(s, i, place))
			l.of = append(l.of, s)
		}
		at = store.Place{Batch: s.No + 1}
	}
	if len(l.packets) > 0 {
		l.packets[0].Begin = begin
	}
	return l
}

// packet is the one of a place, that of delivery i if that has its index. What was settled before the
// queue became a relay's is nobody's any more.
func (r *relay) packet(s *shipment, i int, at store.Place) transport.Packet {
	if i >= len(s.Deliveries) || s.Deliveries[i].Index != at.Index {
		return r.tombstone(at, "settled before it was sent")
	}
	p, err := packetOf(r.lane, at, s.Deliveries[i].Message)
	if len(p.Body) > 0 {
		p.ContentType = r.x.l.config.Exchange.ContentType
	}
	if why, dead := s.dead[at.Index]; dead || err != nil {
		if err != nil {
			why = err.Error()
			s.bury(at.Index, why)
		}
		return r.tombstone(at, why)
	}
	return p
}

// tombstone says that there will never be a message in a place.
func (r *relay) tombstone(at store.Place, why string) transport.Packet {
	topic, _, _ := relayed(r.topic)
	return transport.Packet{
		Lane: r.lane, Position: transport.Position(at), Tombstone: why, Topic: topic,
		ID: fmt.Sprintf("%s-%d-%d", r.lane.Incarnation, at.Batch, at.Index),
	}
}

// bury has a message be a dead letter when its batch is settled.
func (s *shipment) bury(index int, why string) {
	if s.dead == nil {
		s.dead = map[int]string{}
	}
	s.dead[index] = clip("not sent: "+why, store.MaxReason)
}

// ship sends one load. What can never be sent is a dead letter, with a tombstone in its place.
func (r *relay) ship(ctx context.Context) error {
	l := r.gather()
	if len(l.packets) == 0 {
		return nil
	}
	kept, err := r.x.transport().Send(ctx, r.to, l.packets)
	kept = min(max(kept, 0), len(l.packets))
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &r.window
	if kept > 0 && order(w.next, store.Place(l.packets[0].Position)) == 0 { // else it was rewound meanwhile
		to := store.Place(l.packets[kept-1].Position)
		w.sent(to, kept, time.Now())
		if r.to == transport.Everybody {
			w.receipt(to, told, time.Now())
			r.settleConfirmed()
		}
	}
	if kept < len(l.packets) && (errors.Is(err, transport.ErrTooBig) || errors.Is(err, transport.ErrInvalid)) {
		if p := &l.packets[kept]; p.Tombstone == "" {
			r.x.l.log.Error("a message cannot be sent and is a dead letter: see weir dead ls", keyQueue, r.name, keyMessage, p.ID, keyError, err)
			l.of[kept].bury(p.Position.Index, err.Error())
			return nil
		}
	}
	return err
}

// trouble is a transport that does not take what it is given.
type trouble struct {
	pause  time.Duration
	since  time.Time
	loudAt time.Time
}

// is judges how a step ended: how long to wait before the next; 0 when it has done what it should.
func (t *trouble) is(r *relay, err error) time.Duration {
	what := ""
	switch {
	case err == nil:
	case errors.Is(err, transport.ErrFull):
		what = "waiting: the inlet of " + r.to + " is full"
	case errors.Is(err, transport.ErrUnknown):
		what = "waiting: " + r.to + " has never opened its inlet"
	case errors.Is(err, transport.ErrUnavailable), errors.Is(err, transport.ErrClosed):
		what = "waiting: the transport cannot be reached"
	case errors.Is(err, transport.ErrTooBig), errors.Is(err, transport.ErrInvalid):
		what = "waiting: the transport refuses a tombstone"
	default:
		what = "waiting: the transport fails: " + clip(err.Error(), 200)
	}
	r.mu.Lock()
	if !r.window.restored {
		r.trouble = what
	}
	r.mu.Unlock()
	if what == "" {
		*t = trouble{}
		return 0
	}
	now := time.Now()
	if t.since.IsZero() {
		t.since = now
	}
	if now.Sub(t.since) >= troubleAfter && now.Sub(t.loudAt) >= troubleAgain {
		t.loudAt = now
		r.x.l.log.Warn("a relay cannot send: nothing is lost, senders are refused when its queue is full",
			keyQueue, r.name, "to", r.to, keyError, err, "since", t.since)
	}
	t.pause = min(max(2*t.pause, shipPauseMin), shipPauseMax)
	return t.pause/2 + rand.N(t.pause/2)
}
