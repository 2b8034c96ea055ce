package weir

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
)

// Sender is what can send: the [Engine], a [Message] in a handler's hand, a [Run] in its
// function's, or a caller's own transaction ([Engine.In]). It is sealed.
type Sender interface {
	send(ctx context.Context, o *outgoing) error
	start(ctx context.Context, start *store.RunStart) error
	engine() *Engine
}

// outgoing is one call's messages and options.
type outgoing struct {
	messages []*store.Message
	states   []store.State // of entities, that messages tell of

	key         *string
	dedup       string
	dedupFor    time.Duration
	due         time.Time
	delay       time.Duration
	headers     map[string]string
	bestEffort  bool
	waitForRoom time.Duration
	err         error
}

// SendOption is an option of one send.
type SendOption interface{ applySend(*outgoing) }

type (
	// Delay delivers the message no earlier than so long after its send (by the
	// sender's clock). It then takes its place among others of its key. At most 10 years.
	Delay time.Duration
	// At delivers the message no earlier than a time, at most 10 years from now.
	At time.Time
	// WaitForRoom makes a send wait so long for room in a full queue, with backoff,
	// before it is refused with a [*FullError]. Not for sends in a transaction or a handler.
	WaitForRoom time.Duration
	// Headers travel with the message: at most 8 KiB encoded.
	Headers map[string]string

	keyOption   string
	dedupOption string
	importance  int
)

// BestEffort marks a send as one to be shed first: it is refused once its queue is
// 80 % full, which leaves the rest for the others.
const BestEffort importance = 1

// Key gives the message its key, whatever the contract says; and it tells steps of one
// name apart, as in a loop. At most 512 bytes.
func Key(k string) KeyOption { return keyOption(k) }

// Dedup makes a repeated send of the same contract with the same key, within 7 days,
// a no-op that succeeds; with another body it is refused with a [*DuplicateError].
// At most 512 bytes.
func Dedup(key string) SendOption { return dedupOption(key) }

// delayMax is far beyond any use, and far from the end of the store's clock.
const delayMax = 10 * 365 * 24 * time.Hour

func (d Delay) applySend(o *outgoing) {
	o.delay = time.Duration(d)
	if d < 0 || o.delay > delayMax {
		o.err = errors.Join(o.err, fmt.Errorf("weir: Delay is %v, want 0 to 10 years", o.delay))
	}
}
func (t At) applySend(o *outgoing) {
	o.due = time.Time(t)
	if o.due.After(time.Now().Add(delayMax)) {
		o.err = errors.Join(o.err, fmt.Errorf("weir: At is %s, want at most 10 years from now", o.due.Format(time.RFC3339)))
	}
}
func (w WaitForRoom) applySend(o *outgoing) { o.waitForRoom = time.Duration(w) }
func (k keyOption) applySend(o *outgoing)   { s := string(k); o.key = &s }
func (d dedupOption) applySend(o *outgoing) { o.dedup, o.dedupFor = string(d), dedupForDefault }
func (importance) applySend(o *outgoing)    { o.bestEffort = true }
func (h Headers) applySend(o *outgoing) {
	if o.headers == nil {
		o.headers = make(map[string]string, len(h))
	}
	for k, v := range h {
		o.headers[k] = v
	}
}

// Send sends a command (or a request: its reply is an event, see [Command.Reply])
// to the boundary that owns it. When it returns nil the message is durable, or
// leaves with s's transaction; whether anybody handles it is not asked. Else nothing was sent, and the error is or matches
//
//   - [*FullError]: the queue holds as much as it may; in a caller's transaction other work can go on
//   - [*DuplicateError]: [Dedup] was given a key that another body had
//   - [ErrInHandler]: s is the engine, and ctx a handler's, a step's or a run's
//   - [ErrUnavailable], [ErrKeyHeld]: try again; [ErrUnresolved]: try again with a Dedup
//   - [ErrClosed], ctx's error, the store's own
//   - a mistake of the caller's, in words: an unknown boundary, a body or key beyond its bound
func Send[In, Out any](ctx context.Context, s Sender, c Command[In, Out], body In, o ...SendOption) error {
	return send(ctx, s, &c.contract, []In{body}, o)
}

// SendAll sends many, at most 10,000, in one commit: all or none. Options apply to
// each; [Dedup] is refused for more than one.
func SendAll[In, Out any](ctx context.Context, s Sender, c Command[In, Out], bodies []In, o ...SendOption) error {
	return send(ctx, s, &c.contract, bodies, o)
}

// Publish publishes an event of a boundary that the engine owns. That nobody subscribes is no error: it is kept
// for those who come with [FromEarliest] while messages are kept. Its errors are those of [Send]; a full subscriber
// refuses it only if its queue is Required.
func Publish[T any](ctx context.Context, s Sender, e Event[T], body T, o ...SendOption) error {
	if e.topic.Kind == store.KindReply {
		return fmt.Errorf("weir: %s is a reply: it is sent by the handler given to Answer", e.topic.Name)
	}
	return send(ctx, s, &e.contract, []T{body}, o)
}

func send[T any](ctx context.Context, s Sender, c *contract[T], bodies []T, opts []SendOption) error {
	if s == nil {
		return fmt.Errorf("weir: send %s: the sender is nil: want an engine, a message in hand, a run or Engine.In", c.topic.Name)
	}
	eng := s.engine()
	p := &parcel{}
	o := &p.outgoing
	for _, opt := range opts {
		opt.applySend(o)
	}
	if err := eng.checkSend(c.topic, c.err, len(bodies), o); err != nil {
		return err
	}
	if len(bodies) == 0 {
		return nil
	}
	headers, err := encodeHeaders(o.headers)
	if err != nil {
		return err
	}
	if len(headers) > maxHeaders {
		return fmt.Errorf("weir: %s: headers are %d bytes encoded, want at most %d", c.topic.Name, len(headers), maxHeaders)
	}
	if o.delay > 0 {
		o.due = eng.core.Now().Add(o.delay)
	}
	rows := p.room(len(bodies))
	for i := range bodies {
		m := &rows[i]
		m.Topic, m.Kind, m.Version = c.topic.Name, c.topic.Kind, c.version
		m.Due, m.Headers, m.BestEffort = o.due, headers, o.bestEffort
		m.Dedup, m.DedupFor = o.dedup, o.dedupFor
		if o.key != nil {
			m.Key = *o.key
		} else if c.keyOf != nil {
			m.Key = c.keyOf(bodies[i])
		}
		if len(m.Key) > maxKey {
			return fmt.Errorf("weir: %s: key is %d bytes, want at most %d", c.topic.Name, len(m.Key), maxKey)
		}
		if m.Body, err = eng.config.Codec.Marshal(bodies[i]); err != nil {
			return fmt.Errorf("weir: %s: encode body: %w", c.topic.Name, err)
		}
		if len(m.Body) > eng.config.MaxBody {
			return fmt.Errorf("weir: %s: body is %d bytes encoded, want at most %d: keep large things elsewhere and send their address", c.topic.Name, len(m.Body), eng.config.MaxBody)
		}
		o.messages[i] = m
	}
	return s.send(ctx, o)
}

// parcel is an outgoing with room for one message, since most carry one.
type parcel struct {
	outgoing
	row [1]store.Message
	one [1]*store.Message
}

// room makes place for n messages, which outgoing will point to.
func (p *parcel) room(n int) []store.Message {
	if n == 1 {
		p.messages = p.one[:]
		return p.row[:]
	}
	p.messages = make([]*store.Message, n)
	return make([]store.Message, n)
}

// checkSend refuses what can be refused before anything is encoded.
func (e *Engine) checkSend(t store.Topic, contractErr error, n int, o *outgoing) error {
	if contractErr != nil || o.err != nil {
		return errors.Join(contractErr, o.err)
	}
	if !e.owns[ownerOf(t.Name)] && !e.core.Detached() {
		if t.Kind == store.KindEvent {
			return fmt.Errorf("weir: publish %s: only boundary %q publishes it, and Config.Owns has it not", t.Name, ownerOf(t.Name))
		}
		if t.Kind != store.KindCommand || !e.routes(ownerOf(t.Name)) {
			return e.homeless("send "+t.Name, t.Name)
		}
	}
	if n > store.MaxSends {
		return fmt.Errorf("weir: send %s: %d messages in one call, want at most %d", t.Name, n, store.MaxSends)
	}
	if len(o.dedup) > maxKey {
		return fmt.Errorf("weir: send %s: deduplication key is %d bytes, want at most %d", t.Name, len(o.dedup), maxKey)
	}
	if o.dedup != "" && n > 1 {
		return fmt.Errorf("weir: send %s: Dedup is for one message, not %d", t.Name, n)
	}
	return nil
}

func (e *Engine) send(ctx context.Context, o *outgoing) error {
	if engine.InHandler(ctx) {
		return ErrInHandler
	}
	err := e.core.Send(ctx, o.messages, o.states)
	if o.waitForRoom <= 0 {
		return err
	}
	deadline := time.Now().Add(o.waitForRoom)
	for {
		full, ok := errors.AsType[*FullError](err)
		left := time.Until(deadline)
		if !ok || left <= 0 {
			return err
		}
		// A tenth to all of it: those who wait together do not come together.
		most := min(full.RetryAfter, roomPoll)
		pause := min(left, most/10+rand.N(most*9/10+1))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), err)
		case <-timer.C:
		}
		err = e.core.Send(ctx, o.messages, o.states)
	}
}

// roomPoll bounds the pauses of WaitForRoom: a paused queue may be resumed, and a
// slow one drained by others, long before its RetryAfter.
const roomPoll = 250 * time.Millisecond

func (e *Engine) engine() *Engine { return e }

// In is a Sender whose messages commit with the caller's transaction, or not at
// all: eng.In(sqlite.Tx(tx)). On SQLite nothing else commits while such a
// transaction is open; its messages are picked up by polling, some milliseconds
// after it has committed. On PostgreSQL a keyed send in it holds back other senders of that
// key until it ends, see postgres.Tx.
func (e *Engine) In(tx Tx) Sender { return &inTx{e, tx} }

type inTx struct {
	eng *Engine
	tx  Tx
}

func (i *inTx) send(ctx context.Context, o *outgoing) error {
	if engine.InHandler(ctx) {
		return ErrInHandler
	}
	if i.tx == nil {
		return errors.New("weir: Engine.In: the transaction is nil")
	}
	return i.eng.core.SendIn(ctx, i.tx, o.messages, o.states)
}

func (i *inTx) engine() *Engine { return i.eng }
