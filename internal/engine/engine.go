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
//	heartbeat, janitor, figures
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
	"os"
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
	acks    acker
	scribe  scribe
	// suspicion is for takeOver, then for the crew's member of its name.
	suspicion suspicion
	spawner   spawner
	results   results
	workers   sync.WaitGroup // handlers' and runs' goroutines

	intervals Intervals

	operated atomic.Bool // a person has acted through this engine; the monitor has not looked yet

	// Fixed once running is set.
	running atomic.Bool
	ready   chan struct{} // closed then
	queues  []*queue
	byName  map[string]*queue
	byTopic map[string][]*queue
	byID    map[store.QueueID]*queue
	// workflows by name
	workflows map[string]*workflow
	// stopping is set when nothing new may begin; stopped is closed then.
	stopping atomic.Bool
	stopped  chan struct{}
	process  int64           // as Begin has numbered it
	work     context.Context // of all attempts; cancelled with a cause
	cancel   context.CancelCauseFunc

	mu       sync.Mutex
	faults   []error
	started  bool
	stop     context.CancelCauseFunc // of the crew
	finished chan struct{}           // closed when Run has returned
	failure  error
	rejected map[string]int64 // by queue, since the last flush
	rates    drainRates
}

// New makes an engine on st, which the caller closes after Close.
func New(st store.Store, c Config) *Engine {
	e := &Engine{
		st: st, config: c, log: c.Log,
		byName: map[string]*queue{}, byTopic: map[string][]*queue{}, byID: map[store.QueueID]*queue{},
		workflows: map[string]*workflow{}, stopped: make(chan struct{}),
		rejected: map[string]int64{}, ready: make(chan struct{}),
		intervals: c.Intervals.withDefaults(c.Keep, st.Info().Lease),
	}
	e.work, e.cancel = context.WithCancelCause(context.Background())
	e.acks = acker{e: e, signal: make(chan struct{}, 1)}
	e.scribe = scribe{e: e, signal: make(chan struct{}, 1)}
	e.suspicion = suspicion{e: e, signal: make(chan struct{}, 1)}
	e.spawner.tasks = make(chan func())
	e.commits = committer{st: st, before: e.eager, after: e.committed}
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
	case e.byName[name] != nil:
		faults = errors.Join(faults, fmt.Errorf("weir: %s is registered twice: a command has one handler, a subscriber a name of its own", name))
	}
	if faults != nil {
		e.faults = append(e.faults, faults)
		return
	}
	q := newQueue(e, s)
	e.queues = append(e.queues, q)
	e.byName[name] = q
	e.byTopic[s.Queue.Topic.Name] = append(e.byTopic[s.Queue.Topic.Name], q)
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
	defer e.cancel(ErrStopping)
	if err := e.begin(ctx); err != nil {
		return ignoreStop(ctx, err)
	}
	return e.operate(ctx)
}

// Ready is closed when the queues are known to the store.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// begin takes the store and makes the queues known.
func (e *Engine) begin(ctx context.Context) error {
	host, _ := os.Hostname()
	p := store.Process{PID: os.Getpid(), Host: host, Version: e.config.Version, Owns: e.config.Owns}
	if err := e.st.Begin(ctx, &p); err != nil {
		return err
	}
	topics, queues := make([]store.Topic, len(e.queues)), make([]store.Queue, len(e.queues))
	for i, q := range e.queues {
		topics[i], queues[i] = q.settings.Queue.Topic, q.settings.Queue
	}
	states, err := e.st.Declare(ctx, topics, queues)
	if err != nil {
		return errors.Join(err, e.st.End(context.WithoutCancel(ctx)))
	}
	for i, q := range e.queues {
		q.id = states[i].ID
		q.paused = states[i].Paused != nil || states[i].Parked
		e.byID[q.id] = q
	}
	e.process = p.ID
	e.running.Store(true)
	close(e.ready)
	e.log.Info("weir runs", "store", e.st.Info().Name, "process", p.ID, "queues", len(e.queues), "workflows", len(e.workflows))
	return nil
}

// operate runs the crew until it stops, then takes it down in order: no more
// starts, handlers finish, what they did is settled, the rest is handed back.
func (e *Engine) operate(ctx context.Context) error {
	var crew, ackers sync.WaitGroup
	drained := make(chan struct{})
	ackers.Go(func() { e.acks.run(drained) })
	for range scribes {
		ackers.Go(func() { e.scribe.run(drained) })
	}
	member := func(name string, run func(context.Context) error) {
		crew.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				e.fail(fmt.Errorf("weir: %s: %w", name, err))
			}
		})
	}
	member("heartbeat", e.heartbeat)
	member("reaper", e.reaper)
	member("queues", func(ctx context.Context) error {
		if err := e.takeOver(ctx); err != nil {
			return err
		}
		for _, q := range e.queues {
			q.start()
			member("claim "+q.settings.Queue.Name, q.claim)
		}
		for _, w := range e.workflows {
			w.start()
			member("runs of "+w.settings.Name, w.dispatch)
			member("suspects of "+w.settings.Name, w.suspects)
		}
		member("suspects", e.suspicion.run)
		member("monitor", e.monitor)
		member("figures", e.figures)
		member("janitor", e.janitor)
		return nil
	})
	<-ctx.Done()
	stuck := e.drain()
	close(drained)
	ackers.Wait()
	crew.Wait()
	return e.leave(stuck)
}

// leave hands back what is claimed and tells why the engine stopped.
func (e *Engine) leave(stuck error) error {
	e.mu.Lock()
	failure := e.failure
	e.mu.Unlock()
	if failure != nil {
		// Not handed back: whatever failed, the next process shall be careful.
		return errors.Join(failure, stuck)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(e.flushFigures(ctx), e.st.End(ctx), stuck)
}

// drain lets running handlers finish, cancels those that take too long, and gives
// up on those that ignore it.
func (e *Engine) drain() error {
	e.stopping.Store(true)
	close(e.stopped)
	for _, q := range e.queues {
		q.close()
	}
	for _, w := range e.workflows {
		w.close()
	}
	home := make(chan struct{})
	go func() {
		e.workers.Wait()
		close(home)
	}()
	if e.failed() == nil && wait(home, e.config.StopTimeout) {
		return nil
	}
	e.cancel(ErrStopping)
	if wait(home, stuckGrace) {
		return nil
	}
	return errors.New("weir: stopped with handlers that ignore their context: their goroutines live on")
}

// wait waits for done, at most so long.
func wait(done <-chan struct{}, most time.Duration) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// fail stops the engine because of err: on a failing store it stops rather than guess.
func (e *Engine) fail(err error) {
	e.mu.Lock()
	if e.failure == nil {
		e.failure = err
		e.log.Error("weir stops", keyError, err)
	}
	stop := e.stop
	e.mu.Unlock()
	e.cancel(err) // first: drain would say that it is an ordinary stop
	if stop != nil {
		stop(err)
	}
}

func (e *Engine) failed() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failure
}

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
