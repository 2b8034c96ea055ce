package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

// Exchange is what the engine needs to know of boundaries in other stores; the root package fills it.
type Exchange struct {
	Transport   transport.Transport // nil: there are none
	Routes      map[string]int      // boundaries that are reached over it, each with the capacity of a relay; 0 is unbounded
	Public      []string            // events that are published for programs that know nothing of weir
	ContentType string              // of bodies
	MaxBody     int                 // bytes of the body of what programs send that know nothing of weir
}

const (
	exchangeTick   = 500 * time.Millisecond // how soon relays are found that others have made, and duties taken over
	publicLag      = 1_000_000              // events that may wait while the transport is away, before their publication is parked
	arrivalsMost   = 2 * store.MaxLanes     // lanes of which an inlet knows how far they are here
	defaultRoute   = 100_000                // capacity of what waits for a boundary that is in nobody's Routes: one that asked
	unsubscribed   = 1                      // MaxLag of a relay whose boundary wants its event no more: it parks itself
	refusedSuffix  = ".refused"
	refusedPending = 10_000
)

// exchange is what goes between boundaries, in one life: who relays, who receives, and what they tell each other.
type exchange struct {
	l       *life
	started time.Time
	signal  chan struct{} // capacity 1: there may be relays to start
	wishes  chan wish     // subscriptions heard of
	work    sync.WaitGroup

	reported   map[string]string // the newest reports of lanes, as they were written; of run alone
	reportedAt time.Time
	sweptAt    time.Time // of run alone

	byTopic atomic.Pointer[map[string][]*relay]

	mu      sync.Mutex
	relays  map[string]*relay           // by queue
	byLane  map[string]*relay           // by the lane's name
	inlets  map[string]*inlet           // by boundary
	asks    map[string][]transport.Note // heard before the inlet is open
	held    map[string]bool             // duties
	ears    map[string]func()           // stop listening, by boundary
	strange map[string]bool             // what was told once
	wanted  map[string]time.Time        // when a subscription was last heard of, by relay
	heardOf map[string]time.Time        // when a boundary last wanted something
	agreed  map[string]time.Time        // when an owner last said that a subscription is made
	kinds   map[string]store.Kind       // of topics that have a queue here
	greeted time.Time                   // when others were asked whether they own the same
}

func newExchange(l *life) *exchange {
	return &exchange{
		l: l, started: time.Now(), signal: make(chan struct{}, 1), wishes: make(chan wish, 64),
		reported: map[string]string{}, relays: map[string]*relay{}, byLane: map[string]*relay{}, inlets: map[string]*inlet{}, asks: map[string][]transport.Note{},
		held: map[string]bool{}, ears: map[string]func(){}, strange: map[string]bool{},
		wanted: map[string]time.Time{}, heardOf: map[string]time.Time{}, agreed: map[string]time.Time{}, kinds: map[string]store.Kind{},
	}
}

func (x *exchange) transport() transport.Transport { return x.l.config.Exchange.Transport }

// home is the boundary in whose name commands are sent.
func (x *exchange) home() string { return x.l.config.Owns[0] }

func (e *Engine) owns(boundary string) bool { return slices.Contains(e.config.Owns, boundary) }

// run works the exchange until ctx is done.
func (x *exchange) run(ctx context.Context) error {
	if x.transport() == nil || len(x.l.config.Owns) == 0 {
		return nil
	}
	defer x.work.Wait()
	defer x.stopListening()
	if err := x.publish(ctx); err != nil {
		return ignoreStop(ctx, err)
	}
	tick := time.NewTicker(x.l.intervals.Exchange)
	defer tick.Stop()
	for {
		x.listen(ctx)
		x.tell(ctx)
		if err := errors.Join(x.seek(ctx), x.report(ctx), x.noteDrained(ctx), x.sweep(ctx)); err != nil {
			return ignoreStop(ctx, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-x.signal:
		case w := <-x.wishes:
			if err := x.grant(ctx, w); err != nil {
				return ignoreStop(ctx, err)
			}
		}
	}
}

// publish makes the relays of events for everybody.
func (x *exchange) publish(ctx context.Context) error {
	for _, topic := range x.l.config.Exchange.Public {
		if err := x.subscribe(ctx, relayName(topic, transport.Everybody), eventNote{Topic: topic}); err != nil {
			return err
		}
	}
	return nil
}

// relayQueue completes a relay's queue: its bounds are those of the route.
func (e *Engine) relayQueue(q store.Queue) store.Queue {
	capacity, routed := defaultRoute, false
	topic, to, at := relayed(q.Name)
	switch {
	case to == transport.Everybody:
		capacity = publicLag
	case at:
		if c, ok := e.config.Exchange.Routes[to]; ok {
			capacity = c
		}
	default:
		capacity, routed = e.config.Exchange.Routes[ownerOf(topic)]
	}
	q.OnDead = store.Skip
	if q.Topic.Kind == store.KindCommand && routed {
		q.Capacity = capacity
	} else {
		q.MaxLag = capacity
	}
	if q.Topic.Kind == store.KindReply {
		q.FromEarliest = true
	}
	return q
}

func (e *Engine) declareQueue(ctx context.Context, q store.Queue) error {
	return e.patiently(ctx, func(ctx context.Context) error {
		_, err := e.st.Declare(ctx, []store.Topic{q.Topic}, []store.Queue{q})
		return err
	})
}

func (x *exchange) declare(ctx context.Context, q store.Queue) error {
	if err := x.l.declareQueue(ctx, q); err != nil {
		return fmt.Errorf("declare relay %s: %w", q.Name, err)
	}
	return nil
}

// destination is where what is in a queue is to be sent; empty when it is no relay's.
func (x *exchange) destination(s *store.QueueState) (topic, to string) {
	topic, to, at := relayed(s.Name)
	switch {
	case at && s.MaxLag == unsubscribed, at && x.l.owns(to):
		return "", ""
	case at && to == transport.Everybody:
		if !slices.Contains(x.l.config.Exchange.Public, topic) {
			return "", ""
		}
		return topic, to
	case at && x.l.owns(ownerOf(topic)):
		return topic, to
	case !at && s.Topic.Kind == store.KindCommand && !x.l.owns(ownerOf(topic)):
		if _, routed := x.l.config.Exchange.Routes[ownerOf(topic)]; routed {
			return topic, ownerOf(topic)
		}
		x.orphan(s)
	}
	return "", ""
}

// orphan tells once of commands that wait for a boundary of which nothing is known any more.
func (x *exchange) orphan(s *store.QueueState) {
	x.mu.Lock()
	told := x.strange[s.Name]
	x.strange[s.Name] = true
	x.mu.Unlock()
	if !told && s.Depth > 0 {
		x.l.log.Error("commands wait for a boundary that is neither in Config.Owns nor in Config.Routes: add it, or see weir queue ls",
			keyQueue, s.Name, "messages", s.Depth)
	}
}

// seek finds relays, takes duties and starts what they allow.
func (x *exchange) seek(ctx context.Context) error {
	var states []store.QueueState
	err := x.l.patiently(ctx, func(ctx context.Context) (err error) {
		states, err = x.l.st.Reader().Queues(ctx)
		return err
	})
	if err != nil {
		return err
	}
	for i := range states {
		s := &states[i]
		x.mu.Lock()
		x.kinds[s.Topic.Name] = s.Topic.Kind
		r := x.relays[s.Name]
		x.mu.Unlock()
		topic, to := x.destination(s)
		switch {
		case to == "" && r != nil:
			x.drop(r)
		case to == "" && x.isForgotten(s):
			if err := x.unsubscribe(ctx, s.Queue); err != nil {
				return err
			}
		case to != "" && r == nil:
			if r, err = x.found(ctx, s, topic, to); err != nil {
				return err
			}
		}
		if r != nil {
			r.observe(s)
			if err := x.forget(ctx, r, s.Queue); err != nil {
				return err
			}
		}
	}
	return x.takeDuties(ctx)
}

// found makes the relay of a queue.
func (x *exchange) found(ctx context.Context, s *store.QueueState, topic, to string) (*relay, error) {
	if want := x.l.relayQueue(s.Queue); want.Capacity != s.Capacity || want.MaxLag != s.MaxLag || want.OnDead != s.OnDead {
		if err := x.declare(ctx, want); err != nil { // a transaction of a caller's has made it, or the configuration has changed
			return nil, err
		}
	}
	r := newRelay(x, s, topic, to)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.relays[s.Name], x.byLane[r.lane.String()] = r, r
	x.index()
	return r, nil
}

// index finds relays by topic. The caller holds mu.
func (x *exchange) index() {
	byTopic := make(map[string][]*relay, len(x.relays))
	for _, r := range x.relays {
		byTopic[r.topic] = append(byTopic[r.topic], r)
	}
	x.byTopic.Store(&byTopic)
}

// drop ends a relay that nobody wants any more. What it had claimed and not sent is sent should it be wanted again.
func (x *exchange) drop(r *relay) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.relays, r.name)
	delete(x.byLane, r.lane.String())
	delete(x.held, r.duty)
	x.index()
	if r.stop != nil {
		r.stop()
	}
}

func (x *exchange) kindOf(topic string) store.Kind {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.kinds[topic]
}

func (x *exchange) setKind(topic string, k store.Kind) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.kinds[topic] = k
}

// observe takes over the queue's state.
func (r *relay) observe(s *store.QueueState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.full = s.Capacity > 0 && s.Depth >= int64(s.Capacity)
}

// of are the relays of a topic.
func (x *exchange) of(topic string) []*relay {
	if byTopic := x.byTopic.Load(); byTopic != nil {
		return (*byTopic)[topic]
	}
	return nil
}

// more has all relays claim.
func (x *exchange) more() {
	if byTopic := x.byTopic.Load(); byTopic != nil {
		for _, relays := range *byTopic {
			for _, r := range relays {
				r.more()
			}
		}
	}
}

// takeDuties asks for what this process does not do yet, and begins what it is given.
func (x *exchange) takeDuties(ctx context.Context) error {
	var ask []string
	x.mu.Lock()
	for _, r := range x.relays {
		if !x.held[r.duty] {
			ask = append(ask, r.duty)
		}
	}
	if !x.greeted.IsZero() && time.Since(x.greeted) >= helloPatience {
		for _, boundary := range x.l.config.Owns {
			if x.ears[boundary] != nil && !x.held[inletDuty(boundary)] {
				ask = append(ask, inletDuty(boundary))
			}
		}
	}
	x.mu.Unlock()
	slices.Sort(ask)
	for part := range slices.Chunk(ask, store.MaxDuties) {
		c, err := x.l.claim(ctx, store.ClaimRequest{Duties: part})
		if err != nil {
			return err
		}
		for _, duty := range c.Duties {
			x.begin(ctx, duty)
		}
	}
	return nil
}

// begin starts what a duty is about.
func (x *exchange) begin(ctx context.Context, duty string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.held[duty] = true
	if boundary, ok := strings.CutPrefix(duty, inletDuty("")); ok {
		in := newInlet(x, boundary)
		x.inlets[boundary] = in
		x.member(ctx, duty, in.run)
		return
	}
	for _, r := range x.relays {
		if r.duty == duty {
			ctx, r.stop = context.WithCancel(ctx)
			x.member(ctx, duty, r.run)
		}
	}
}

// member runs one of the exchange's own until ctx is done; when it fails the life ends.
func (x *exchange) member(ctx context.Context, name string, run func(context.Context) error) {
	x.work.Go(func() {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			x.l.fail(fmt.Errorf("weir: %s: %w", name, err))
		}
	})
}

// route makes known to the store what is sent to other boundaries for the first time, so that the first message
// finds a bounded queue.
func (e *Engine) route(ctx context.Context, messages []*store.Message) error {
	if e == nil || e.config.Exchange.Transport == nil {
		return nil
	}
	last := ""
	for _, m := range messages {
		if m.Topic == last {
			continue
		}
		last = m.Topic
		if _, known := e.routed.Load(m.Topic); known {
			continue
		}
		if q, remote := e.relayOf(m); remote {
			if err := e.declareQueue(ctx, q); err != nil {
				return fmt.Errorf("weir: send %s: %w", m.Topic, err)
			}
			if l := e.life.Load(); l != nil {
				signal(l.exchange.signal)
			}
		}
		e.routed.Store(m.Topic, true)
	}
	return nil
}

// relayOf is the queue of the relay that sends a message to the one boundary it is for, if that is not here.
func (e *Engine) relayOf(m *store.Message) (store.Queue, bool) {
	_, _, reply := relayed(m.Topic)
	_, routed := e.config.Exchange.Routes[ownerOf(m.Topic)]
	if m.Kind == store.KindReply && reply || m.Kind == store.KindCommand && routed {
		return e.relayQueue(store.Queue{Name: m.Topic, Topic: store.Topic{Name: m.Topic, Kind: m.Kind}}), true
	}
	return store.Queue{}, false
}

// replyTo is the topic of a reply to a request that came from elsewhere: it goes to the boundary that asked. A foreign
// program that named no boundary, or one that is not in Routes, finds the reply in the journal.
func (e *Engine) replyTo(request *store.Message, topic string) string {
	o := request.Origin
	if o == nil || e == nil || e.config.Exchange.Transport == nil || transport.CheckBoundary(o.From) != nil || e.owns(o.From) {
		return topic
	}
	_, routed := e.config.Exchange.Routes[o.From]
	if foreign := strings.Contains(o.ID, "#"); foreign && !routed {
		return topic
	}
	return relayName(topic, o.From)
}

// figures are what the relays have measured since they were last asked.
func (x *exchange) figures() []store.FigureDelta {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := make([]store.FigureDelta, 0, len(x.relays))
	for _, r := range x.relays {
		f := r.takeFigure()
		f.Rejected += x.l.takeRejected(r.name)
		all = append(all, f)
	}
	return all
}

// eager offers the relays that have nothing to send to the group about to be committed, as far as it sends for them.
func (x *exchange) eager(g *store.Group) {
	last := ""
	for _, c := range g.Changes {
		for _, m := range c.Sends {
			if m.Topic == last {
				continue
			}
			last = m.Topic
			for _, r := range x.of(m.Topic) {
				twice := slices.ContainsFunc(g.Eager, func(e store.Eager) bool { return e.Queue == r.id })
				if !twice && r.idle() {
					g.Eager = append(g.Eager, store.Eager{Queue: r.id, Max: store.MaxBatch})
				}
			}
		}
	}
}

// deliver hands a batch that was claimed with a group to its relay. A relay that was dropped meanwhile leaves it to
// the history.
func (x *exchange) deliver(b *store.Batch) {
	byTopic := x.byTopic.Load()
	if byTopic == nil {
		return
	}
	for _, relays := range *byTopic {
		for _, r := range relays {
			if r.id == b.Queue {
				r.add(b)
				signal(r.shipper)
				return
			}
		}
	}
}
