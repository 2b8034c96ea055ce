// Package jetstream is a wire over NATS JetStream.
//
// # Streams
//
// A boundary's inlet is a stream, made by its receiver: weir-kitchen, with the subjects
// weir.kitchen.in.>, and one durable consumer, inbox. The receiver deletes what is
// acknowledged, so the stream's bounds are those of what waits. When it is full it refuses what is
// new ("discard new"): nothing is ever dropped to make room. Notes are core NATS messages on
// weir.kitchen.notes; nobody keeps them.
//
// A foreign program sends a CloudEvent to any subject below weir.kitchen.in., such as
// weir.kitchen.in.till. A packet on a lane has a subject of its own, with its place on the
// lane:
//
//	weir.kitchen.in.floor.k7q2xw.kitchen.prepare-food.12.3
//
// Events for programs that know nothing of weir are in a stream of their own, weir-floor_events, made by
// the boundary that publishes them, each on a subject of its name: weir.floor.events.opened for floor.opened. It is
// bounded by age and bytes, and the oldest go first.
//
// # How Send keeps order and sends nothing twice
//
// A Send is written in atomic batches of up to 500 messages (NATS 2.12 or later). All of a
// batch are kept, in order and side by side, or none is. Single publishes in flight have no
// such order: when one is refused for want of room and the next finds some, the receiver
// sees a gap. A batch is also synced to disk once, which makes it several times as fast.
//
// Each message of a batch asks that its subject has no message yet. So what still waits is
// not kept twice, however late it is sent again. The usual way, a Nats-Msg-Id, remembers for a
// window of time, and both ends of it are wrong here: after the window the same packet is kept
// again and again while its receiver is away; within it, a packet that the receiver has
// taken and lost can not be sent again.
//
// # What the server must be
//
// A server that says it has a message, and does not sync it, loses it in a power cut; the
// sender then sends it again, since no receipt comes. That costs time, not messages, so it is
// a warning (see [Transport.Doubts]), not an error.
package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-go/weir/transport"
)

// Transport is a process's connection to NATS. It implements transport.Transport.
type Transport struct {
	config Config
	nc     *nats.Conn
	js     jetstream.JetStream
	// commits bounds the batches under way: a stream takes 50 at once, of all senders.
	commits chan struct{}
	done    chan struct{} // closed by Close

	mu      sync.Mutex
	closed  bool
	away    chan struct{} // closed when the connection is lost
	why     error         // the last try to connect failed
	inlets  map[*inlet]bool
	ears    map[*ear]bool
	public  map[string]bool // boundaries whose events have a stream, on this connection
	full    map[string]bool // boundaries whose stream was full when we last wrote to it
	doubted bool            // Doubts was asked, and its answer is in the log
}

var _ transport.Transport = (*Transport)(nil)

// Open begins to connect to the servers and returns at once: they may come later.
func Open(c Config) (*Transport, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	t := &Transport{
		config: c, commits: make(chan struct{}, 8), done: make(chan struct{}), away: make(chan struct{}),
		inlets: map[*inlet]bool{}, ears: map[*ear]bool{}, full: map[string]bool{}, public: map[string]bool{},
	}
	o, err := t.options()
	if err != nil {
		return nil, err
	}
	if t.nc, err = nats.Connect(strings.Join(c.Servers, ","), o...); err != nil {
		return nil, fmt.Errorf("transport/jetstream: connect: %w", err)
	}
	if t.js, err = jetstream.New(t.nc, jetstream.WithDefaultTimeout(c.Timeout)); err != nil {
		t.nc.Close()
		return nil, fmt.Errorf("transport/jetstream: %w", err)
	}
	return t, nil
}

// lost tells those who wait that the connection is gone.
func (t *Transport) lost(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.away)
	t.away = make(chan struct{})
	clear(t.public) // the next broker may know nothing of them
	if !t.closed {
		t.config.Log.Warn("connection to the broker lost", "error", err)
	}
}

// unreached remembers why there is no connection, for who asks.
func (t *Transport) unreached(err error) {
	t.config.Log.Debug("broker not reached", "error", err)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.why = err
}

func (t *Transport) found(nc *nats.Conn) {
	t.mu.Lock()
	t.why = nil
	t.mu.Unlock()
	t.config.Log.Info("connected to the broker", "url", nc.ConnectedUrlRedacted(), "server", nc.ConnectedServerName(), "version", nc.ConnectedServerVersion())
}

// whenLost is closed when the connection of now is lost.
func (t *Transport) whenLost() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.away
}

// asking bounds a question to the server: by Timeout, and by the connection, since an answer does not come
// over another one.
func (t *Transport) asking(ctx context.Context) (context.Context, context.CancelFunc) {
	lost := t.whenLost()
	ctx, cancel := context.WithTimeout(ctx, t.config.Timeout)
	go func() {
		select {
		case <-lost:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// ready says whether a call may begin.
func (t *Transport) ready(ctx context.Context, boundary string) error {
	t.mu.Lock()
	closed := t.closed
	t.mu.Unlock()
	if closed {
		return transport.ErrClosed
	}
	if err := transport.CheckBoundary(boundary); err != nil {
		return err
	}
	return ctx.Err()
}

// connected says whether there is a server to talk to.
func (t *Transport) connected() error {
	if t.nc.IsConnected() {
		return nil
	}
	t.mu.Lock()
	why := t.why
	t.mu.Unlock()
	if why == nil {
		why = t.nc.LastError()
	}
	if errors.Is(why, nats.ErrAuthorization) {
		why = nats.ErrAuthorization // the server's own words, which it may be, are written otherwise
	}
	if why == nats.ErrAuthorization {
		return mendError{fmt.Errorf("%w: not connected: %w: the server wants another login than that of jetstream.Config (User and Password, NKey, Creds or Cert)", transport.ErrUnavailable, why)}
	}
	if why != nil {
		return fmt.Errorf("%w: not connected: %w", transport.ErrUnavailable, why)
	}
	return fmt.Errorf("%w: not connected", transport.ErrUnavailable)
}

// mendError is an error that takes a person: transport.ErrNeedsPerson.
type mendError struct{ error }

func (e mendError) Unwrap() error        { return e.error }
func (e mendError) Is(target error) bool { return target == transport.ErrNeedsPerson }

// mendable says what to do about a stream that the server does not make.
func (t *Transport) mendable(stream string, err error) error {
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return err
	}
	switch api.ErrorCode {
	case codeAccountFull, codeResourcesFull, codeStreamsMany, codeStorageFull:
		return mendError{fmt.Errorf("%w: the broker has no room for stream %s: each stream reserves as many bytes as it may hold, jetstream.Config.CapacityBytes (%d) for an inlet and EventsBytes (%d) for Public events. "+
			"Give the broker more (weir broker --max-store-mb, broker.Config.MaxStore, max_file_store of a NATS server, or the account's limits), or the boundaries less", err, stream, t.config.CapacityBytes, t.config.EventsBytes)}
	case codeOverlaps:
		return mendError{fmt.Errorf("%w: another stream has the subjects of stream %s: delete it, or take its subjects away", err, stream)}
	}
	return err
}

// outcome puts what went wrong with the broker into the port's words. ctx is the caller's.
func (t *Transport) outcome(ctx context.Context, err error) error {
	select {
	case <-t.done:
		return transport.ErrClosed
	default:
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		switch {
		case full(api):
			return transport.ErrFull
		case api.ErrorCode == codeTooLarge:
			return fmt.Errorf("%w: %w", transport.ErrTooBig, err)
		}
	}
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("%w: a message is at most %d bytes for this server", transport.ErrTooBig, t.nc.MaxPayload())
	}
	if errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("%w: nobody answers for JetStream: is it switched on at the server, and are enough of its cluster up? %w", transport.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", transport.ErrUnavailable, err)
}

// Error codes of the server that have no name in nats.go.
const (
	codeStoreFailed jetstream.ErrorCode = 10077 // also: the stream is full
	codeTooLarge    jetstream.ErrorCode = 10054
	codeBatchCut    jetstream.ErrorCode = 10176
	codeBatchesMany jetstream.ErrorCode = 10210
	codeBatchTwice  jetstream.ErrorCode = 10201

	// What a person must mend.
	codeAccountFull   jetstream.ErrorCode = 10002
	codeResourcesFull jetstream.ErrorCode = 10023
	codeStreamsMany   jetstream.ErrorCode = 10027
	codeStorageFull   jetstream.ErrorCode = 10047
	codeOverlaps      jetstream.ErrorCode = 10065
)

// full says whether an error means that the stream holds as much as it may. The server has one
// code for all that its store refuses, so the text tells: the laws hold us to it.
func full(e *jetstream.APIError) bool {
	return e.ErrorCode == codeStoreFailed && (e.Description == "maximum messages exceeded" || e.Description == "maximum bytes exceeded")
}

func streamOf(boundary string) string { return "weir-" + boundary }

// eventsOf is the stream of a boundary's events for everybody. No boundary has an underscore in its name, so it is nobody's inlet.
func eventsOf(boundary string) string { return streamOf(boundary) + "_events" }

// subjectOf is where a packet to a boundary goes. No two places on lanes share one.
func subjectOf(to string, p *transport.Packet) string {
	switch {
	case to == transport.Everybody:
		return "weir." + p.Lane.From + ".events." + strings.TrimPrefix(p.Topic, p.Lane.From+".")
	case p.Lane == transport.Lane{}:
		return "weir." + to + ".in.event"
	}
	return laneOf(to, p.Lane) + strconv.FormatInt(p.Position.Batch, 10) + "." + strconv.Itoa(p.Position.Index)
}

func laneOf(to string, l transport.Lane) string {
	return "weir." + to + ".in." + l.From + "." + l.Incarnation + "." + l.Queue + "."
}

// Close implements transport.Transport.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	inlets, ears := t.inlets, t.ears
	t.inlets, t.ears = map[*inlet]bool{}, map[*ear]bool{}
	t.mu.Unlock()
	for e := range ears {
		e.stop()
	}
	for in := range inlets {
		_ = in.Close() // never fails
	}
	close(t.done)
	t.nc.Close()
	return nil
}
