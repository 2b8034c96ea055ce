package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

// relay sends what is in a queue to a boundary, and settles it when that boundary's store has it. It has three
// loops, so that the next batch is claimed while one is sent and another is settled:
//
//	claims ─▶ window ─▶ ships ─▶ transport
//	             │  ◀─── receipts (notes)
//	             ▼
//	          settles ─▶ committer
//
// Nothing is ever deferred: what cannot be sent now is tried again in its place. So the rows stay until the
// receiver has them, the queue's capacity is the outbox's bound, and what a process leaves behind when it dies
// are batches that the next one claims as a whole.
type relay struct {
	x     *exchange
	name  string // of the queue
	topic string // that it is on
	to    string // a boundary, or transport.Everybody
	id    store.QueueID
	duty  string
	lane  transport.Lane
	stop  context.CancelFunc // of run; the exchange's

	claimer, shipper, settler chan struct{} // capacity 1: there may be something to do

	mu        sync.Mutex
	window    window
	confirmed []*shipment // to be settled
	settling  int64       // the first batch of those that are being settled; 0: none
	strays    bool        // batches are open that nobody works: their relay was dropped
	heard     []word      // what the receiver has said, not taken in yet
	stale     bool        // the journal may hold more than was claimed
	due       time.Time   // when the next delayed message is due
	working   bool        // this process has the duty
	trouble   string      // why nothing is sent now; empty: nothing is wrong
	unasked   error       // why the receiver could not be asked how far it is, when that was tried last
	full      bool        // the queue holds as much as it may
	receiptAt time.Time
	figure    store.FigureDelta
}

// word is what a receiver says about a lane.
type word struct {
	have store.Place
	why  news
}

// wordsMost bounds what a receiver has said and nobody has taken in: of what comes then only the newest is kept.
const wordsMost = 64

func newRelay(x *exchange, s *store.QueueState, topic, to string) *relay {
	from, queue := x.home(), s.Name
	if s.Topic.Kind != store.KindCommand {
		from = ownerOf(topic)
	}
	if to == transport.Everybody {
		queue = topic
	}
	r := &relay{
		x: x, name: s.Name, topic: s.Topic.Name, to: to, id: s.ID, duty: "relay " + s.Name,
		lane:    transport.Lane{From: from, Incarnation: string(x.l.st.Info().Incarnation), Queue: queue},
		claimer: make(chan struct{}, 1), shipper: make(chan struct{}, 1), settler: make(chan struct{}, 1),
		window: newWindow(), stale: true,
	}
	r.window.heard = to == transport.Everybody // it has nothing to say
	r.window.blank = r.window.heard
	return r
}

// signal tells a loop that there may be something to do.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// more notes that the journal holds messages that are not claimed.
func (r *relay) more() {
	r.mu.Lock()
	r.stale = true
	r.mu.Unlock()
	signal(r.claimer)
}

// hear takes a receiver's word. It does not wait.
func (r *relay) hear(w word) {
	r.mu.Lock()
	if len(r.heard) == wordsMost {
		r.heard = r.heard[1:]
	}
	r.heard = append(r.heard, w)
	r.mu.Unlock()
	signal(r.shipper)
}

// run works the relay until ctx is done. First comes what others left: it was sent, perhaps.
func (r *relay) run(ctx context.Context) error {
	for {
		c, err := r.x.l.claim(ctx, store.ClaimRequest{Queue: r.id, Max: store.MaxBatch, Abandoned: true})
		if err != nil {
			return ignoreStop(ctx, err)
		}
		if c.Batch == nil {
			break
		}
		r.add(c.Batch)
	}
	if _, err := r.look(ctx); err != nil {
		return ignoreStop(ctx, err)
	}
	r.mu.Lock()
	r.working = true
	r.mu.Unlock()
	loops := []func(context.Context) error{r.claims, r.ships, r.settles}
	errs := make(chan error, len(loops))
	for _, loop := range loops {
		go func() { errs <- loop(ctx) }()
	}
	var err error
	for range loops {
		err = errors.Join(err, <-errs)
	}
	return ignoreStop(ctx, err)
}

// idle reports whether the relay has sent all that there is, and would take what comes.
func (r *relay) idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &r.window
	return r.working && !r.stale && w.next.Batch > w.newest && w.room() >= store.MaxBatch
}

func (r *relay) add(b *store.Batch) {
	if len(b.Deliveries) == 0 {
		return
	}
	r.mu.Lock()
	r.window.add(b)
	r.mu.Unlock()
}

// announcement is what the receiver is told when it is asked how far it has the lane.
func (r *relay) announcement() laneNote {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := laneNote{Lane: r.lane.String(), Next: r.window.unsettled(), Open: r.strays, Earlier: r.x.l.st.Info().Earlier}
	if len(r.confirmed) > 0 {
		n.Next = min(n.Next, r.confirmed[0].No)
	}
	if r.settling > 0 {
		n.Next = min(n.Next, r.settling)
	}
	return n
}

// look reads how far the queue was claimed, by whomever.
func (r *relay) look(ctx context.Context) (newest int64, err error) {
	var states []store.QueueState
	err = r.x.l.patiently(ctx, func(ctx context.Context) (err error) {
		states, err = r.x.l.st.Reader().Queues(ctx)
		return err
	})
	leased := int64(0)
	for i := range states {
		if states[i].ID == r.id {
			newest, leased = states[i].Newest, states[i].Leased
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.working { // all that others have left is in the window
		r.strays = leased > int64(r.window.held)
	}
	r.window.newest = max(r.window.newest, newest)
	return r.window.newest, err
}

// claims keeps the window supplied.
func (r *relay) claims(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.claimer:
		case <-timer.C:
			r.mu.Lock()
			r.stale = true
			r.mu.Unlock()
		}
		for ctx.Err() == nil {
			r.mu.Lock()
			due := !r.due.IsZero() && !r.due.After(r.x.l.Now())
			room := r.window.room()
			wanted := room > 0 && (r.stale || due)
			if wanted {
				r.stale = false
			}
			r.mu.Unlock()
			if !wanted {
				break
			}
			if err := r.take(ctx, room); err != nil {
				return ignoreStop(ctx, err)
			}
		}
		timer.Reset(r.x.l.intervals.Poll)
	}
}

// take makes one claim.
func (r *relay) take(ctx context.Context, room int) error {
	c, err := r.x.l.claim(ctx, store.ClaimRequest{Queue: r.id, Max: room})
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.due = c.NextDue
	r.stale = r.stale || c.More
	r.mu.Unlock()
	if c.Batch != nil {
		r.add(c.Batch)
		signal(r.shipper)
	}
	return nil
}

// settles has settled what the receiver has, a batch as a whole.
func (r *relay) settles(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.settler:
		}
		r.mu.Lock()
		done := r.confirmed
		r.confirmed = nil
		if len(done) > 0 {
			r.settling = done[0].No
		}
		r.mu.Unlock()
		if len(done) == 0 {
			continue
		}
		now := time.Now()
		changes := make([]*store.Change, len(done))
		for i, s := range done {
			changes[i] = &store.Change{Settle: s.settlements(r.x.l.stored(now))}
		}
		if err := r.x.l.commit(ctx, changes); err != nil {
			return err
		}
		for i, s := range done {
			if err := changes[i].Err; err != nil && !errors.Is(err, store.ErrFenced) {
				return fmt.Errorf("settle batch %d of %s: %w", s.No, r.name, err)
			}
			r.count(s, now)
		}
		r.mu.Lock()
		r.settling = 0
		r.mu.Unlock()
		signal(r.claimer)
	}
}

// settlements are the verdicts on a batch.
func (s *shipment) settlements(now time.Time) []store.Settlement {
	all := make([]store.Settlement, len(s.Deliveries))
	started := s.at
	if started.IsZero() { // the process before has sent it
		started = now
	}
	for i := range s.Deliveries {
		d := &s.Deliveries[i]
		all[i] = store.Settlement{
			Batch: s.BatchRef, Index: d.Index, Pos: d.Message.Pos, Key: d.Message.Key,
			Verdict: store.Done, Attempt: d.Attempt, Started: started, Took: now.Sub(started),
		}
		if why, dead := s.dead[d.Index]; dead {
			all[i].Verdict, all[i].Reason = store.Dead, why
		}
	}
	return all
}

// count adds a settled batch to the queue's figures.
func (r *relay) count(s *shipment, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := &r.figure
	f.Failed += int64(len(s.dead))
	for i := range s.Deliveries {
		m := s.Deliveries[i].Message
		if !s.at.IsZero() {
			f.Wait.Add(s.at.Sub(waitsSince(m)))
			f.Work.Add(now.Sub(s.at))
		}
		f.Lead.Add(now.Sub(m.SentAt))
	}
}

// takeFigure is what was measured since it was last asked.
func (r *relay) takeFigure() store.FigureDelta {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.figure
	f.Queue = r.id
	r.figure = store.FigureDelta{}
	return f
}

// isFull reports whether the queue holds as much as it may.
func (r *relay) isFull() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.full
}

// words takes out what the receiver has said.
func (r *relay) words() []word {
	r.mu.Lock()
	defer r.mu.Unlock()
	said := slices.Clone(r.heard)
	r.heard = r.heard[:0]
	return said
}
