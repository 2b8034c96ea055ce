package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-go/weir/store"
)

// Attempt is one delivery being worked. It is also the handler's context: a
// thin one, that becomes a real one (with a timer and a place among its parent's
// children) only when the handler asks for Done or Err. Most handlers that only
// compute never do, and then a timeout costs nothing.
type Attempt struct {
	Message *store.Message
	Number  int // 1 for the first

	q       *queue
	ref     store.BatchRef
	index   int
	crashes int
	suspect bool        // runs alone
	gone    atomic.Bool // of a suspect: it is settled
	firstAt time.Time
	started time.Time
	took    time.Duration

	change   store.Change // what it causes
	settle   [1]store.Settlement
	closures []store.Closure
	sends    []*store.Message
	states   []store.State
	runs     []*store.RunStart

	mu       sync.Mutex // below: the handler's goroutine, its children, and the reaper
	inner    context.Context
	cancel   context.CancelFunc
	returned bool // the handler has returned, or is written off
}

// OnCommit adds a closure to the acknowledgement's transaction. Its context says
// whose it is: a send through the engine would wait for the commit it is part of. One that comes
// once the handler has returned is not run, and there is nobody to return an error to but the log.
func (a *Attempt) OnCommit(f store.Closure) {
	if err := a.late(); err != nil {
		a.q.e.log.Error("OnCommit once its handler has returned: its closure is not run", keyQueue, a.q.settings.Queue.Name, keyMessage, a.Message.ID)
		return
	}
	a.closures = append(a.closures, guarded(func(ctx context.Context, tx store.Tx) error {
		return f(context.WithValue(ctx, attemptKey{}, a), tx)
	}))
}

// Send adds messages to the acknowledgement's transaction, caused by this one, and states of
// entities: those that they tell of, or a follower's. A reply goes to the boundary that asked.
func (a *Attempt) Send(messages []*store.Message, states []store.State) error {
	if err := a.late(); err != nil {
		return err
	}
	if len(a.sends)+len(messages) > store.MaxSends {
		return fmt.Errorf("weir: %d messages from one handler, want at most %d", len(a.sends)+len(messages), store.MaxSends)
	}
	if len(a.states)+len(states) > store.MaxStates {
		return fmt.Errorf("weir: %d states of entities from one handler, want at most %d", len(a.states)+len(states), store.MaxStates)
	}
	for _, m := range messages {
		m.Cause, m.Correlation = a.Message.ID, a.Message.Correlation
		if m.Correlation == "" {
			m.Correlation = a.Message.ID
		}
		if m.Kind == store.KindReply {
			m.Topic = a.q.e.replyTo(a.Message, m.Topic)
		}
	}
	if err := a.q.e.route(a, messages); err != nil {
		return err
	}
	a.sends = append(a.sends, messages...)
	a.states = append(a.states, states...)
	return nil
}

// Start adds the start of a run to the acknowledgement's transaction.
func (a *Attempt) Start(start *store.RunStart) error {
	if err := a.late(); err != nil {
		return err
	}
	if len(a.runs) >= store.MaxSends {
		return fmt.Errorf("weir: more than %d runs started by one handler", store.MaxSends)
	}
	start.Cause, start.Correlation = a.Message.ID, a.Message.Correlation
	if start.Correlation == "" {
		start.Correlation = a.Message.ID
	}
	a.runs = append(a.runs, start)
	return nil
}

// late is the error of what is to leave with the acknowledgement and comes after what that is made of.
func (a *Attempt) late() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.returned {
		return errLate
	}
	return nil
}

// Deadline implements context.Context.
func (a *Attempt) Deadline() (time.Time, bool) { return a.deadline(), true }

func (a *Attempt) deadline() time.Time { return a.started.Add(a.q.settings.Timeout) }

// Done implements context.Context.
func (a *Attempt) Done() <-chan struct{} { return a.real().Done() }

// Err implements context.Context.
func (a *Attempt) Err() error { return a.real().Err() }

// Value implements context.Context.
func (a *Attempt) Value(key any) any {
	if key == (attemptKey{}) {
		return a
	}
	a.mu.Lock()
	inner := a.inner
	a.mu.Unlock()
	if inner == nil && time.Now().After(a.deadline()) {
		inner = a.real() // for context.Cause, which asks for a value first
	}
	if inner != nil {
		return inner.Value(key)
	}
	return a.q.e.work.Value(key)
}

// real is the attempt's real context, made at the first use.
func (a *Attempt) real() context.Context {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inner == nil {
		a.inner, a.cancel = context.WithDeadlineCause(a.q.e.work, a.deadline(), ErrTimeout)
		if a.returned {
			inner, cancel := context.WithCancelCause(a.inner)
			cancel(errReturned)
			a.inner = inner
			a.cancel()
		}
	}
	return a.inner
}

// end marks the handler as returned, or written off; true for the first to say so.
func (a *Attempt) end() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.returned {
		return false
	}
	a.returned = true
	if a.cancel != nil {
		a.cancel()
	}
	return true
}

// stopped reports whether the attempt's context was cancelled by the engine.
func (a *Attempt) stopped() bool { return a.q.e.work.Err() != nil }

// conclude turns the verdict into the attempt's change.
func (a *Attempt) conclude(v verdict) {
	a.settle[0] = store.Settlement{
		Batch: a.ref, Index: a.index, Pos: a.Message.Pos, Key: a.Message.Key,
		Verdict: v.Verdict, Attempt: a.Number, Started: a.q.e.stored(a.started), Took: a.took,
		Due: v.due, Reason: v.reason, Stack: v.stack, Quarantined: v.quarantined,
	}
	a.change = store.Change{Settle: a.settle[:]}
	if v.Verdict == store.Done {
		a.change.Sends, a.change.States, a.change.Runs, a.change.Closures = a.sends, a.states, a.runs, a.closures
	}
}

// behind is the settlement of a follower that did not run because its key is blocked.
func (a *Attempt) behind() store.Settlement {
	return store.Settlement{
		Batch: a.ref, Index: a.index, Pos: a.Message.Pos, Key: a.Message.Key,
		Verdict: store.Behind, Attempt: a.Number,
	}
}

// refused is the failure of an attempt whose change the store has refused.
func refused(err error) error {
	if _, ok := errors.AsType[*store.DuplicateError](err); ok {
		return Permanent(err)
	}
	if _, ok := errors.AsType[*store.RunConflictError](err); ok {
		return Permanent(err)
	}
	return fmt.Errorf("commit: %w", err)
}
