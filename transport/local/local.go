// Package local connects boundaries in one process, each with an engine and a store
// of its own. What a [Wire] keeps is in memory and gone with the process; that is no
// loss, since each sender keeps a message until its receiver's store has it.
//
// Packets are held in the form that they have on other wires, and what another wire
// would refuse is refused here. So moving a boundary out to a process of its own is
// configuration.
package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weir-go/weir/transport"
)

// Config is a wire's configuration. Zero fields mean the documented default.
type Config struct {
	// Capacity is how many packets the inlet of each boundary holds before Send says
	// ErrFull. Default 10,000, 1 to 1,000,000. They are in memory.
	Capacity int
	// CapacityBytes bounds them together, bodies and headers. Default 64 MiB, 2 MiB to 16 GiB.
	CapacityBytes int
	// Redeliver is after what time a packet comes again that was handed out and neither acknowledged
	// nor held. Default 30 s, 1 ms to 1 h.
	Redeliver time.Duration
}

// Wire is what connects the boundaries of a process. Each engine opens it.
type Wire struct {
	config Config

	mu         sync.Mutex
	boundaries map[string]*inbox
	listeners  map[string][]*listener
}

// New makes a wire.
func New(c Config) (*Wire, error) {
	c.Capacity = orDefault(c.Capacity, 10_000)
	c.CapacityBytes = orDefault(c.CapacityBytes, 64<<20)
	c.Redeliver = orDefault(c.Redeliver, 30*time.Second)
	err := errors.Join(
		within("Capacity", c.Capacity, 1, 1_000_000),
		within("CapacityBytes", c.CapacityBytes, 2<<20, 16<<30),
		within("Redeliver", c.Redeliver, time.Millisecond, time.Hour),
	)
	if err != nil {
		return nil, err
	}
	return &Wire{config: c, boundaries: map[string]*inbox{}, listeners: map[string][]*listener{}}, nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func within[T int | time.Duration](name string, v, low, high T) error {
	if v < low || v > high {
		return fmt.Errorf("transport/local: Config.%s is %v, want %v to %v", name, v, low, high)
	}
	return nil
}

// Open gives one engine its transport. Closing it leaves the wire to others.
func (w *Wire) Open() transport.Transport {
	return &end{wire: w, inlets: map[*inlet]bool{}, ears: map[*listener]bool{}}
}

// inbox finds a boundary's; nil when nobody ever received there.
func (w *Wire) inbox(boundary string) *inbox {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.boundaries[boundary]
}

// end is one engine's end of the wire.
type end struct {
	wire *Wire

	mu     sync.Mutex
	closed bool
	inlets map[*inlet]bool
	ears   map[*listener]bool
}

// ready says whether a call may begin.
func (e *end) ready(ctx context.Context, boundary string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return transport.ErrClosed
	}
	if err := transport.CheckBoundary(boundary); err != nil {
		return err
	}
	return ctx.Err()
}

// Send implements transport.Transport.
func (e *end) Send(ctx context.Context, to string, packets []transport.Packet) (int, error) {
	public := to == transport.Everybody
	if public {
		to = "x" // some boundary: there is nobody in this process who knows nothing of weir
	}
	if err := e.ready(ctx, to); err != nil {
		return 0, err
	}
	if len(packets) > transport.MaxSend {
		return 0, fmt.Errorf("%w: %d packets in one Send, at most %d", transport.ErrTooBig, len(packets), transport.MaxSend)
	}
	if public {
		return check(packets)
	}
	box := e.wire.inbox(to)
	if box == nil {
		return 0, fmt.Errorf("send to %s: %w", to, transport.ErrUnknown)
	}
	for i := range packets {
		p := &packets[i]
		h, err := p.Encode()
		if err != nil {
			return i, fmt.Errorf("send %s to %s: %w", p.ID, to, err)
		}
		place := ""
		if (p.Lane != transport.Lane{}) {
			place = fmt.Sprintf("%s/%d/%d", p.Lane, p.Position.Batch, p.Position.Index)
		}
		if !box.put(&item{header: h, body: slices.Clone(p.Body), place: place}) {
			return i, fmt.Errorf("send to %s: %w", to, transport.ErrFull)
		}
	}
	return len(packets), nil
}

// check says how many packets could be sent to everybody.
func check(packets []transport.Packet) (int, error) {
	for i := range packets {
		p := &packets[i]
		_, err := p.Encode()
		if err = errors.Join(err, p.CheckPublic()); err != nil {
			return i, fmt.Errorf("publish %s: %w", p.ID, err)
		}
	}
	return len(packets), nil
}

// Receive implements transport.Transport.
func (e *end) Receive(ctx context.Context, boundary string) (transport.Inlet, error) {
	if err := e.ready(ctx, boundary); err != nil {
		return nil, err
	}
	w := e.wire
	w.mu.Lock()
	box := w.boundaries[boundary]
	if box == nil {
		box = newInbox(w.config)
		w.boundaries[boundary] = box
	}
	w.mu.Unlock()
	in := &inlet{end: e, box: box, done: make(chan struct{})}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, transport.ErrClosed
	}
	e.inlets[in] = true
	return in, nil
}

// Close implements transport.Transport.
func (e *end) Close() error {
	e.mu.Lock()
	e.closed = true
	inlets, ears := e.inlets, e.ears
	e.inlets, e.ears = map[*inlet]bool{}, map[*listener]bool{}
	e.mu.Unlock()
	for in := range inlets {
		_ = in.Close() // never fails
	}
	for l := range ears {
		l.stop()
	}
	return nil
}
