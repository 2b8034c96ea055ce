// Package engine works the queues of a store. It knows no types and no SQL: the
// root package erases the one, an adapter hides the other.
//
// It is a crew, each in a small file:
//
//	committer  group commit: whoever comes leads, the others ride along
//	claimer    one per queue: claims ahead of the workers, never too far
//	worker     started by need, runs attempts, judges how they ended
//	acker      settles what workers have finished, many at a time
//	suspicion  runs alone, after a crash, what may have caused it
//	dispatcher one per workflow: claims runs that are ready, delivers their mail
//	strand     a goroutine of a run; slice: its run's stay in memory
//	scribe     commits what runs write, many at a time
//	reaper     writes off handlers that ignore their context
//	monitor    sees what other processes did: sends, pauses
//	waker      hears of their sends, where the store tells
//	exchange   relays, inlets, and what boundaries tell each other
//	relay      sends what is in a queue to a boundary of another store, and settles it when it is there
//	inlet      takes in what others send to a boundary
//	heartbeat, janitor, figures
//
// All that belongs to one process of the store is a life. Where several processes may
// work a store, one that was given up for lost joins again, as a new life.
//
// The life of a message in a process:
//
//	claim ─▶ ready ─▶ attempt ─▶ judge ─▶ acker ─▶ committer ─▶ settled
//	          ▲  (behind another of its key)                       │
//	          └────────────────────────────────────────────────────┘
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-go/weir/store"
)

// Config is what the engine needs to know; the root package fills it.
type Config struct {
	Owns        []string
	Log         *slog.Logger
	Version     string
	Keep        time.Duration
	StopTimeout time.Duration
	Intervals   Intervals
	Detached    func(s Settings, faults error) // see WithDetached
	Exchange    Exchange
}

// Log keys, in one place.
const (
	keyQueue   = "queue"
	keyMessage = "message"
	keyError   = "error"
)

// Engine works registered queues while Run runs, and sends at any time.
type Engine struct {
	st      store.Store
	config  Config
	log     *slog.Logger
	commits committer
	results results
	outage  outage
	calls   underWay
	ahead   atomic.Int64 // nanoseconds that the machine's clock is ahead of the store's; see clock.go

	intervals Intervals

	instance string   // of the process, in its notes
	routed   sync.Map // topics of which the store knows the relay, if they have one
	hearers  map[string]func(to, from string, body []byte)

	following atomic.Pointer[map[string]*Following] // replicas, by entity
	owned     []string                              // entities whose owners live here

	operated atomic.Bool // a person has acted through this engine; the monitor has not looked yet

	life  atomic.Pointer[life] // what Run is living; nil before, after, and between two
	ready chan struct{}        // closed when the first life has begun
	first sync.Once            // closes it

	mu       sync.Mutex
	faults   []error
	settings []Settings
	flows    []Workflow
	named    map[string]bool // of both
	started  bool
	lives    int
	stop     context.CancelCauseFunc // of Run
	finished chan struct{}           // closed when Run has returned
	rejected map[string]int64        // by queue, since the last flush
	rates    drainRates
}

// New makes an engine on st, which the caller closes after Close.
func New(st store.Store, c Config) *Engine {
	e := &Engine{
		st: st, config: c, log: c.Log, named: map[string]bool{},
		rejected: map[string]int64{}, ready: make(chan struct{}), instance: newInstance(),
		hearers:   map[string]func(to, from string, body []byte){},
		intervals: c.Intervals.withDefaults(c.Keep, st.Info().Lease),
	}
	e.commits = committer{st: st, before: e.eager, after: e.committed, held: newHeldLine()}
	if st.Info().Loose {
		e.commits.most = flightsMost
	}
	if c.Exchange.Transport != nil && !e.Detached() {
		for _, boundary := range c.Owns {
			e.Register(refusedQueue(boundary), nil)
		}
	}
	return e
}

// Register adds a queue before Run. Faults (nil if none) are what is wrong with it.
func (e *Engine) Register(s Settings, faults error) {
	if e.Detached() {
		e.config.Detached(s, faults)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	name := s.Queue.Name
	switch {
	case e.started:
		faults = errors.Join(faults, fmt.Errorf("weir: %s is registered after Run: register before", name))
		e.log.Error("registered too late: nothing handles it", keyQueue, name)
	case e.named["queue "+name]:
		faults = errors.Join(faults, fmt.Errorf("weir: %s is registered twice: a command has one handler, a subscriber a name of its own", name))
	case s.Queue.Topic.Kind != store.KindEvent && slices.Contains(e.config.Exchange.Public, s.Queue.Topic.Name):
		faults = errors.Join(faults, fmt.Errorf("weir: Config.Public has %s, which is no event: only events are published for everybody", s.Queue.Topic.Name))
	}
	if faults != nil {
		e.faults = append(e.faults, faults)
		return
	}
	e.named["queue "+name] = true
	e.settings = append(e.settings, s)
}

// Run works the queues until ctx is done or something fails.
func (e *Engine) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	e.mu.Lock()
	if e.started {
		e.mu.Unlock()
		return errors.New("weir: Run was called before: an engine runs once")
	}
	if err := errors.Join(e.faults...); err != nil {
		e.mu.Unlock()
		return err
	}
	e.started, e.stop, e.finished = true, stop, make(chan struct{})
	e.mu.Unlock()
	defer close(e.finished)
	for {
		l := newLife(e)
		err := l.run(ctx)
		if !l.mayGoOn(err) {
			return err
		}
		if ctx.Err() != nil {
			return nil // others have taken over, or will
		}
		if err := e.leaveBehind(ctx, err); err != nil {
			return ignoreStop(ctx, err)
		}
	}
}

// Ready is closed when the queues are known to the store.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Close stops Run, if it runs, and waits for it.
func (e *Engine) Close() error {
	e.mu.Lock()
	stop, finished := e.stop, e.finished
	e.mu.Unlock()
	if stop == nil {
		return e.flushRejected()
	}
	stop(ErrStopping)
	<-finished
	return e.flushRejected()
}
