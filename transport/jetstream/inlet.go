package jetstream

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/weir-go/weir/transport"
)

const (
	pullExpires   = 30 * time.Second
	pullHeartbeat = time.Second
	// silence is for how long a server that is to say a heartbeat may say nothing: it does not when
	// somebody has deleted the consumer.
	silence = 5 * pullHeartbeat
	// lastOnes is how long Next waits, once it has some, for the word that there are no more.
	lastOnes  = 100 * time.Millisecond
	closeWait = time.Second
)

// inlet pulls from a boundary's consumer.
//
// It asks for packets itself, rather than by the jetstream package's iterators: those read ahead, and
// what they have read ahead is in nobody's hands while its time to be acknowledged runs; or they drop
// what is on its way when they are given up. Here one request is under way at a time, for what Next
// was asked for; a Next that gives up leaves it, and the next one goes on with it.
type inlet struct {
	t        *Transport
	boundary string
	done     chan struct{}
	once     sync.Once

	// turn is held by the Next that reads; what follows is its.
	turn    chan struct{}
	come    chan *nats.Msg
	sub     *nats.Subscription
	prefix  string // of the subjects that sub hears
	request int64
	leader  string          // of the consumer, in a cluster
	last    uint64          // the consumer's number of the last delivery; 0: none since connect
	known   bool            // the consumer was there, on this connection
	lost    <-chan struct{} // closed when this connection is lost
	pending int             // packets that the request under way may still bring; 0: there is none
	quiet   time.Duration   // for how much longer it may say nothing while somebody listens

	mu      sync.Mutex
	hands   map[string]hold // handed out, by handle
	highest uint64          // sequence that we have acknowledged since all was swept

	acked chan struct{} // something is to be swept
	swept chan struct{} // closed when sweep has ended
}

// hold is a packet in our hands.
type hold struct {
	since time.Time
	seq   uint64 // in the stream
}

// Receive implements transport.Transport.
func (t *Transport) Receive(ctx context.Context, boundary string) (transport.Inlet, error) {
	if err := t.ready(ctx, boundary); err != nil {
		return nil, err
	}
	in := &inlet{
		t: t, boundary: boundary, done: make(chan struct{}), turn: make(chan struct{}, 1),
		acked: make(chan struct{}, 1), swept: make(chan struct{}),
		hands: map[string]hold{},
	}
	if err := in.connect(ctx); err != nil {
		return nil, err
	}
	t.warn(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		_ = in.sub.Unsubscribe() // its connection is closed
		return nil, transport.ErrClosed
	}
	t.inlets[in] = true
	in.acked <- struct{}{} // by those before us
	go in.sweep()
	return in, nil
}

func (in *inlet) open(ctx context.Context) error {
	select {
	case <-in.done:
		return transport.ErrClosed
	default:
		return ctx.Err()
	}
}

// Next implements transport.Inlet.
func (in *inlet) Next(ctx context.Context, max int) ([]transport.Delivery, error) {
	if max < 1 || max > transport.MaxNext {
		return nil, fmt.Errorf("%w: Next(%d): want 1 to %d", transport.ErrInvalid, max, transport.MaxNext)
	}
	if err := in.open(ctx); err != nil {
		return nil, err
	}
	select {
	case in.turn <- struct{}{}:
		defer func() { <-in.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-in.done:
		return nil, transport.ErrClosed
	}
	msgs, err := in.pull(ctx, max)
	if len(msgs) > 0 { // whatever else: they are in our hands
		return in.deliveries(msgs), nil
	}
	return nil, err
}

// pull reads until it has some and there are no more, or as many as are wanted.
func (in *inlet) pull(ctx context.Context, most int) ([]*nats.Msg, error) {
	var got []*nats.Msg
	size := 0
	for {
		if err := in.open(ctx); err != nil {
			return got, err
		}
		if in.pending == 0 && (len(in.come) == 0 || !in.known) {
			if len(got) > 0 {
				return got, nil
			}
			if err := in.ask(ctx, most); err != nil {
				return nil, err
			}
		}
		wait := in.quiet
		if len(got) > 0 {
			wait = lastOnes
		}
		began := time.Now()
		timer := time.NewTimer(wait)
		select {
		case m := <-in.come:
			timer.Stop()
			if err := in.hear(m); err != nil {
				return got, err
			}
			if isPacket(m) && in.skipped(ctx, m) {
				in.known, in.pending = false, 0
				if len(got) > 0 {
					return got, nil
				}
				continue
			}
			if isPacket(m) {
				got = append(got, m)
				if size += m.Size(); len(got) == most || size >= transport.MaxNextBytes {
					return got, nil
				}
			}
			continue
		case <-timer.C:
			if len(in.come) > 0 {
				continue // it has spoken, and we were slow to listen
			}
		case <-ctx.Done():
		case <-in.done:
		case <-in.lost:
		}
		timer.Stop()
		in.quiet -= time.Since(began)
		if len(got) > 0 {
			return got, nil
		}
		if err := in.open(ctx); err != nil {
			return nil, err
		}
		in.known, in.pending = false, 0
		if err := in.t.connected(); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: the broker does not answer", transport.ErrUnavailable)
	}
}

// connect makes sure of the boundary's stream and consumer, and begins anew at what is not acknowledged: packets that
// the broker thinks somebody has, and that were lost with a connection or a process, would else come when their time
// is over only, and after all later ones. What others have in their hands comes twice then.
func (in *inlet) connect(ctx context.Context) error {
	t := in.t
	in.lost = t.whenLost()
	leader, err := t.establish(ctx, in.boundary)
	if err := t.established(ctx, err); err != nil {
		return fmt.Errorf("receive for %s: %w", in.boundary, err)
	}
	in.leader, in.last = leader, 0
	// Ears of its own for each time, so that nothing of before comes between.
	if in.sub != nil {
		_ = in.sub.Unsubscribe()
	}
	in.come, in.prefix, in.pending = make(chan *nats.Msg, transport.MaxNext+100), t.nc.NewInbox()+".", 0
	if in.sub, err = t.nc.ChanSubscribe(in.prefix+"*", in.come); err != nil {
		return fmt.Errorf("receive for %s: %w", in.boundary, t.outcome(ctx, err))
	}
	reset, cancel := t.asking(ctx)
	defer cancel()
	if _, err := t.js.ResetConsumer(reset, streamOf(in.boundary), consumerName); err != nil {
		if err := t.connected(); err != nil {
			return err
		}
		if reset.Err() != nil { // else what comes is not in its order
			return fmt.Errorf("receive for %s: reset its consumer: %w", in.boundary, t.outcome(ctx, err))
		}
		// An older server cannot. Then they come when their time is over.
		t.config.Log.DebugContext(ctx, "consumer not reset", "boundary", in.boundary, "error", err)
	}
	in.mu.Lock()
	in.highest = 0 // a stream that was made anew counts from 1
	in.mu.Unlock()
	in.known = true
	return nil
}

// ask sends a request for packets: those that are there at once, or the first that comes.
func (in *inlet) ask(ctx context.Context, max int) error {
	if !in.known {
		if err := in.connect(ctx); err != nil {
			return err
		}
	}
	body := fmt.Appendf(nil, `{"batch":%d,"max_bytes":%d,"no_wait":true,"expires":%d,"idle_heartbeat":%d}`,
		max, transport.MaxNextBytes, pullExpires.Nanoseconds(), pullHeartbeat.Nanoseconds())
	in.request++
	reply := in.prefix + strconv.FormatInt(in.request, 10)
	if err := in.t.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+streamOf(in.boundary)+"."+consumerName, reply, body); err != nil {
		in.known = false
		return in.t.outcome(ctx, err)
	}
	in.pending = max
	in.quiet = silence
	return nil
}

// skipped says whether deliveries before this one were lost: numbers are missing, and the consumer has another leader,
// that took them for delivered. (Where numbers are missing and it has not, another inlet has them.) Then all begins
// anew at what is not acknowledged, so that this one does not come before those.
func (in *inlet) skipped(ctx context.Context, m *nats.Msg) bool {
	if in.leader == "" {
		return false
	}
	meta, err := m.Metadata()
	if err != nil {
		return false
	}
	last := in.last
	in.last = meta.Sequence.Consumer
	if last == 0 && meta.Sequence.Consumer == 1 || last != 0 && meta.Sequence.Consumer == last+1 {
		return false
	}
	ctx, cancel := in.t.asking(ctx)
	defer cancel()
	c, err := in.t.js.Consumer(ctx, streamOf(in.boundary), consumerName)
	return err != nil || leaderOf(c.CachedInfo()) != in.leader
}

// isPacket tells a packet from a word of the server about a request.
func isPacket(m *nats.Msg) bool { return m.Reply != "" && m.Header.Get("Status") == "" }

// hear notes what a message means for the request under way.
func (in *inlet) hear(m *nats.Msg) error {
	in.quiet = silence
	current := m.Subject == in.prefix+strconv.FormatInt(in.request, 10)
	if !current {
		return nil // of a request that was given up
	}
	if isPacket(m) {
		in.pending--
		return nil
	}
	switch status, word := m.Header.Get("Status"), m.Header.Get("Description"); {
	case status == "100": // a heartbeat
	case status == "404", status == "408" && !strings.Contains(word, "Pending"):
		in.pending = 0 // no more; none at all in all that time
	case status == "408":
		in.pending = 0 // what is there is another inlet's already
		in.t.pause(context.Background(), triesPause)
	case status == "409" && (strings.Contains(word, "Batch Completed") || strings.Contains(word, "MaxBytes")):
		in.pending = 0
	default:
		// The consumer is gone, or its leader is another: look before asking again.
		in.pending, in.known = 0, false
		if status == "503" || status == "409" {
			in.t.pause(context.Background(), triesPause)
			return nil
		}
		return fmt.Errorf("%w: the broker says %s %s", transport.ErrUnavailable, status, word)
	}
	return nil
}

// deliveries takes messages into the caller's hands.
func (in *inlet) deliveries(msgs []*nats.Msg) []transport.Delivery {
	ds := make([]transport.Delivery, len(msgs))
	now := time.Now()
	in.mu.Lock()
	defer in.mu.Unlock()
	for i, m := range msgs {
		d := transport.Delivery{Handle: m.Reply, Attempt: 1}
		h := hold{since: now}
		if meta, err := m.Metadata(); err == nil {
			d.Attempt, h.seq = int(min(meta.NumDelivered, 1<<30)), meta.Sequence.Stream
			d.Number = int64(h.seq)
		}
		in.hands[m.Reply] = h
		raw := transport.Header(m.Header)
		d.Packet, d.Malformed = transport.Decode(raw, m.Data)
		if d.Malformed != nil {
			d.Raw = raw
		}
		ds[i] = d
	}
	if len(in.hands) > 2*maxAckPending { // those long forgotten: they are anybody's by now
		in.forget(now)
	}
	return ds
}

// forget drops handles whose packets come again, or came, to somebody.
func (in *inlet) forget(now time.Time) {
	for handle, h := range in.hands {
		if now.Sub(h.since) >= in.t.config.Redeliver {
			delete(in.hands, handle)
		}
	}
}

// Ack implements transport.Inlet.
func (in *inlet) Ack(ctx context.Context, ds []transport.Delivery) error {
	return in.answer(ctx, ds, []byte("+ACK"), false)
}

// Hold implements transport.Inlet.
func (in *inlet) Hold(ctx context.Context, ds []transport.Delivery, pause time.Duration) error {
	if pause < 0 || pause > transport.MaxHold {
		return fmt.Errorf("%w: Hold for %s: want 0 to %s", transport.ErrInvalid, pause, transport.MaxHold)
	}
	word := []byte("-NAK")
	if pause > 0 {
		word = fmt.Appendf(word, ` {"delay":%d}`, pause.Nanoseconds())
	}
	return in.answer(ctx, ds, word, true)
}

// answer says to the server what becomes of deliveries. Those that are no longer in our hands are left out
// where told: the server would take it for a word about who has them now.
func (in *inlet) answer(ctx context.Context, ds []transport.Delivery, word []byte, onlyHeld bool) error {
	if err := in.open(ctx); err != nil {
		return err
	}
	if err := in.t.connected(); err != nil {
		return err
	}
	for _, d := range ds {
		handle, ok := d.Handle.(string)
		if !ok {
			return fmt.Errorf("%w: a delivery of another transport", transport.ErrInvalid)
		}
		in.mu.Lock()
		h, held := in.hands[handle]
		delete(in.hands, handle)
		if !onlyHeld {
			in.highest = max(in.highest, h.seq)
		}
		in.mu.Unlock()
		if onlyHeld && !held {
			continue
		}
		if err := in.t.nc.Publish(handle, word); err != nil {
			return in.t.outcome(ctx, err)
		}
	}
	if !onlyHeld {
		select {
		case in.acked <- struct{}{}:
		default: // it knows
		}
	}
	return nil
}

// Close implements transport.Inlet.
func (in *inlet) Close() error {
	in.once.Do(func() {
		close(in.done)
		in.turn <- struct{}{} // the Next that reads has returned, and none reads again
		in.t.mu.Lock()
		delete(in.t.inlets, in)
		in.t.mu.Unlock()
		in.giveBack()
		<-in.swept
		if in.t.connected() == nil {
			ctx, cancel := context.WithTimeout(context.Background(), closeWait)
			defer cancel()
			in.sweepOnce(ctx)
		}
	})
	return nil
}

// giveBack hands back what is in our hands, and what is on its way to them, so that others need not wait
// until its time is over. If it fails they wait.
func (in *inlet) giveBack() {
	_ = in.sub.Unsubscribe()
	if in.t.connected() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	_ = in.t.nc.FlushWithContext(ctx) // nothing more comes after its answer
	in.mu.Lock()
	defer in.mu.Unlock()
	in.forget(time.Now())
	// In order, since that is the order in which they come again.
	byPlace := func(a, b string) int { return cmp.Compare(in.hands[a].seq, in.hands[b].seq) }
	for _, handle := range slices.SortedFunc(maps.Keys(in.hands), byPlace) {
		_ = in.t.nc.Publish(handle, []byte("-NAK"))
	}
	for {
		select {
		case m := <-in.come:
			if isPacket(m) {
				_ = in.t.nc.Publish(m.Reply, []byte("-NAK"))
			}
			continue
		default:
		}
		break
	}
	_ = in.t.nc.FlushWithContext(ctx)
}
