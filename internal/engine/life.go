package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-go/weir/store"
)

// life is the engine as one process of the store: what it has claimed, and who works
// that. A life whose lease is lost ends, and with it all that it held: whatever is still
// under way is refused by the store. Where the store is shared the engine then begins
// another one.
type life struct {
	*Engine
	acks   acker
	scribe scribe
	// suspicion is for takeOver, then for the crew's member of its name.
	suspicion suspicion
	spawner   spawner
	exchange  *exchange
	workers   sync.WaitGroup // handlers' and runs' goroutines
	starters  sync.WaitGroup // callers who start runs that this life is to work

	// Fixed once the life has begun.
	queues  []*queue
	byName  map[string]*queue
	byTopic map[string][]*queue
	byID    map[store.QueueID]*queue
	// workflows by name
	workflows map[string]*workflow
	process   int64 // as Begin has numbered it

	// stopping is set when nothing new may begin; stopped is closed then.
	stopping atomic.Bool
	stopped  chan struct{}
	work     context.Context // of all attempts; cancelled with a cause
	cancel   context.CancelCauseFunc
	// patience is how long what was done is offered to a database that is away.
	patience  context.Context
	impatient context.CancelFunc
	beat      chan struct{} // capacity 1: the heart should beat now
	wished    chan struct{} // capacity 1: a snapshot of a replica is wanted

	mu      sync.Mutex
	end     context.CancelCauseFunc // of the crew
	failure error
}

func newLife(e *Engine) *life {
	l := &life{
		Engine: e, byName: map[string]*queue{}, byTopic: map[string][]*queue{}, byID: map[store.QueueID]*queue{},
		workflows: map[string]*workflow{}, stopped: make(chan struct{}), beat: make(chan struct{}, 1),
		wished: make(chan struct{}, 1),
	}
	l.patience, l.impatient = context.WithCancel(context.Background())
	l.work, l.cancel = context.WithCancelCause(context.Background())
	l.acks = acker{e: l, signal: make(chan struct{}, 1)}
	l.scribe = scribe{e: l, signal: make(chan struct{}, 1), at: scribes}
	l.suspicion = suspicion{e: l, signal: make(chan struct{}, 1)}
	l.spawner.tasks = make(chan func())
	l.exchange = newExchange(l)
	for _, s := range e.settings {
		q := newQueue(l, s)
		l.queues = append(l.queues, q)
		l.byName[s.Queue.Name] = q
		l.byTopic[s.Queue.Topic.Name] = append(l.byTopic[s.Queue.Topic.Name], q)
	}
	for _, s := range e.flows {
		l.workflows[s.Name] = newWorkflow(l, s)
	}
	return l
}

// run lives until ctx is done or something fails.
func (l *life) run(ctx context.Context) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer l.cancel(ErrStopping)
	defer l.impatient()
	l.end = end
	if err := l.begin(ctx); err != nil {
		return ignoreStop(ctx, err)
	}
	defer l.Engine.life.CompareAndSwap(l, nil)
	return l.operate(ctx)
}

// mayGoOn reports whether the engine may live on after a life that ended with err.
func (l *life) mayGoOn(err error) bool {
	return l.st.Info().Lease > 0 && (errors.Is(err, store.ErrLeaseLost) || errors.Is(err, store.ErrUnresolved))
}

// leaveBehind prepares the next life. One whose commits nobody knows the end of has its lease
// still: it hands back what it held, for it was not that which ended it.
func (e *Engine) leaveBehind(ctx context.Context, why error) error {
	e.mu.Lock()
	e.lives++
	lives := e.lives
	e.mu.Unlock()
	e.log.Warn("weir gives up what it held, and joins again as a new process", keyError, why, "times", lives)
	err := e.patiently(ctx, e.st.End)
	if errors.Is(err, store.ErrLeaseLost) {
		return nil
	}
	return err
}

// begin takes the store and makes the queues known.
func (l *life) begin(ctx context.Context) error {
	host, _ := os.Hostname()
	p := store.Process{PID: os.Getpid(), Host: host, Version: l.config.Version, Owns: l.config.Owns}
	for _, w := range l.workflows {
		p.Limits = append(p.Limits, store.RunLimit{Workflow: w.settings.Name, Max: w.settings.MaxUnfinished})
	}
	var asked time.Time
	err := l.patiently(ctx, func(ctx context.Context) error {
		asked = time.Now()
		return l.st.Begin(ctx, &p)
	})
	if err != nil {
		return err
	}
	l.setClock(ctx, asked, p.StartedAt)
	topics, queues := make([]store.Topic, len(l.queues)), make([]store.Queue, len(l.queues))
	for i, q := range l.queues {
		topics[i], queues[i] = q.settings.Queue.Topic, q.settings.Queue
	}
	var states []store.QueueState
	err = l.patiently(ctx, func(ctx context.Context) (err error) {
		states, err = l.st.Declare(ctx, topics, queues)
		return err
	})
	if err != nil {
		return errors.Join(err, l.st.End(context.WithoutCancel(ctx)))
	}
	for i, q := range l.queues {
		q.id = states[i].ID
		q.paused = states[i].Paused != nil || states[i].Parked
		l.byID[q.id] = q
	}
	l.process = p.ID
	l.Engine.life.Store(l)
	l.first.Do(func() { close(l.ready) })
	l.log.Info("weir runs", "store", l.st.Info().Name, "process", p.ID, "queues", len(l.queues), "workflows", len(l.workflows))
	return nil
}

// operate runs the crew until it stops, then takes it down in order: no more
// starts, handlers finish, what they did is settled, the rest is handed back.
func (l *life) operate(ctx context.Context) error {
	var crew, ackers sync.WaitGroup
	drained := make(chan struct{})
	ackers.Go(func() { l.acks.run(drained) })
	for range scribes {
		ackers.Go(func() { l.scribe.run(drained) })
	}
	member := func(name string, run func(context.Context) error) {
		crew.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				l.fail(fmt.Errorf("weir: %s: %w", name, err))
			}
		})
	}
	member("heartbeat", l.heartbeat)
	member("reaper", l.reaper)
	member("queues", func(ctx context.Context) error {
		if err := l.takeOver(ctx); err != nil {
			return err
		}
		for _, q := range l.queues {
			q.start()
			member("claim "+q.settings.Queue.Name, q.claim)
		}
		for _, w := range l.workflows {
			w.start()
			member("runs of "+w.settings.Name, w.dispatch)
			member("suspects of "+w.settings.Name, w.suspects)
		}
		l.replicas(member)
		member("exchange", l.exchange.run)
		member("suspects", l.suspicion.run)
		member("monitor", l.monitor)
		member("waker", l.waker)
		member("figures", l.figures)
		member("janitor", l.janitor)
		return nil
	})
	<-ctx.Done()
	stuck := l.drain()
	close(drained)
	giveUp := time.AfterFunc(settleTime, l.impatient)
	defer giveUp.Stop()
	ackers.Wait()
	crew.Wait()
	l.starters.Wait()
	return l.leave(stuck)
}

// settleTime is how long a stop waits for a database that is away, with what handlers have done.
const settleTime = 10 * time.Second

// leave hands back what is claimed and tells why the engine stopped.
func (l *life) leave(stuck error) error {
	l.mu.Lock()
	failure := l.failure
	l.mu.Unlock()
	if failure != nil {
		// Not handed back: whatever failed, the next process shall be careful.
		return errors.Join(failure, stuck)
	}
	ctx, cancel := context.WithTimeout(context.Background(), settleTime)
	defer cancel()
	return errors.Join(l.flushFigures(ctx), l.patiently(ctx, l.st.End), stuck)
}

// drain lets running handlers finish, cancels those that take too long, and gives
// up on those that ignore it.
func (l *life) drain() error {
	l.stopping.Store(true)
	close(l.stopped)
	for _, q := range l.queues {
		q.close()
	}
	for _, w := range l.workflows {
		w.close()
	}
	home := make(chan struct{})
	go func() {
		l.workers.Wait()
		close(home)
	}()
	if l.failed() == nil && wait(home, l.config.StopTimeout) {
		return nil
	}
	l.cancel(ErrStopping)
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

// fail ends the life because of err: on a failing store it ends rather than guess.
func (l *life) fail(err error) {
	l.mu.Lock()
	if l.failure == nil {
		l.failure = err
		if !l.mayGoOn(err) {
			l.log.Error("weir stops", keyError, err)
		}
	}
	l.mu.Unlock()
	l.impatient()
	l.cancel(err) // first: drain would say that it is an ordinary stop
	l.end(err)
}

func (l *life) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}
