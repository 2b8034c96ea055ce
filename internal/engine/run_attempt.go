package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

// stepContext is the context of one attempt of a step. Like an Attempt it becomes
// a real one, with a timer, only when the step asks for Done or Err.
type stepContext struct {
	st      *Strand
	call    *Call
	name    string
	number  int
	started time.Time
	timeout time.Duration
	// kept: a cancellation of the run does not interrupt it, since its outcome must be known.
	kept bool

	mu         sync.Mutex
	inner      context.Context
	stop       context.CancelCauseFunc
	cause      error // it was cancelled
	writtenOff bool
	leaving    leaving
}

func (c *stepContext) Deadline() (time.Time, bool) { return c.started.Add(c.timeout), true }
func (c *stepContext) Done() <-chan struct{}       { return c.real().Done() }
func (c *stepContext) Err() error                  { return c.real().Err() }

// Value implements context.Context.
func (c *stepContext) Value(key any) any {
	if key == (attemptKey{}) {
		return c
	}
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	if inner != nil {
		return inner.Value(key)
	}
	return c.st.s.w.e.work.Value(key)
}

func (c *stepContext) idempotencyKey() string {
	key := c.st.idempotencyKey(c.name)
	if c.call != nil && c.call.Kind == store.KindCompensate && !strings.HasSuffix(key, undoSuffix) {
		key += undoSuffix // whatever step has its name
	}
	return key
}

// idempotencyKey is that of the run's step of a name.
func (st *Strand) idempotencyKey(name string) string { return st.Reference() + "/" + name }

func (c *stepContext) real() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		ctx, cancel := context.WithDeadlineCause(c.st.s.w.e.work, c.started.Add(c.timeout), ErrTimeout)
		inner, stop := context.WithCancelCause(ctx)
		c.inner, c.stop = inner, func(cause error) { stop(cause); cancel() }
		if c.cause != nil {
			c.stop(c.cause)
		}
	}
	return c.inner
}

// cancel ends the context with a cause; true if it had none before.
func (c *stepContext) cancel(cause error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return false
	}
	c.cause = cause
	if c.stop != nil {
		c.stop(cause)
	}
	return true
}

func (c *stepContext) cancelled() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// withStep marks a closure's context as a step's.
func withStep(ctx context.Context, st *Strand, name string, number int) context.Context {
	return context.WithValue(ctx, attemptKey{}, &stepContext{st: st, name: name, number: number})
}

// StepOf is what a step's context tells about it: its run's workflow and ID, its name, its attempt.
func StepOf(ctx context.Context) (workflow, id, name string, attempt int) {
	c, ok := ctx.Value(attemptKey{}).(*stepContext)
	if !ok {
		return "", "", "", 0
	}
	return c.st.s.w.settings.Name, c.st.s.run.ID, c.name, c.number
}

// attempted is how an attempt ended.
type attempted struct {
	number  int
	first   time.Time // when the first attempt began
	started time.Time
	took    time.Duration
	value   []byte
	outcome Outcome // of a verification
	err     error
	stopped bool // it was interrupted, and has not failed
	leaving leaving
}

// attempt makes one attempt of a call.
func (st *Strand) attempt(c *Call, name string, number int) attempted {
	return st.try(c, name, number, c.Kind == store.KindOnce, func(ctx context.Context, a *attempted) {
		if c.DoTx == nil {
			a.value, a.err = c.Do(ctx)
		}
	})
}

// try runs f under a step's context. A panic is an error with its stack.
func (st *Strand) try(c *Call, name string, number int, kept bool, f func(context.Context, *attempted)) attempted {
	ctx := &stepContext{st: st, call: c, name: name, number: number, started: time.Now(), timeout: c.Timeout, kept: kept}
	a := attempted{number: number, started: st.s.w.e.stored(ctx.started)}
	a.first = a.started
	st.s.mu.Lock()
	if st.s.retired != nil || !kept && !st.compensating && st.s.ending != nil {
		st.s.mu.Unlock() // it came after the last look, and there was nothing to interrupt yet
		return attempted{number: number, stopped: true}
	}
	st.current = ctx
	st.s.mu.Unlock()
	func() {
		defer func() {
			if p := recover(); p != nil {
				a.err = &panicError{p, debug.Stack()}
			}
		}()
		f(ctx, &a)
	}()
	st.s.mu.Lock()
	st.current = nil
	writtenOff := ctx.writtenOff
	st.s.mu.Unlock()
	a.took = time.Since(ctx.started)
	cause := ctx.cancelled()
	ctx.cancel(errReturned)
	a.leaving = ctx.left()
	if writtenOff {
		st.unwind(endStopped)
	}
	stopped := cause != nil || st.s.w.e.work.Err() != nil
	a.stopped = stopped && a.err != nil && !definite(c, a.err) // however it puts it
	return a
}

// definite reports whether err tells what came of the step, whatever else has happened.
func definite(c *Call, err error) bool {
	if _, ok := fails(c, err); ok {
		return true
	}
	_, done := errors.AsType[*unrecordableError](err)
	for _, sentinel := range c.DoneIf {
		done = done || errors.Is(err, sentinel)
	}
	return done
}

// overdue reports whether the attempt ignores its context.
func (c *stepContext) overdue(now time.Time) bool {
	return now.Sub(c.started) > c.timeout+stuckGrace
}

// reap writes off attempts that ignore their context: the run is released and
// begun again elsewhere, what the lost goroutine still does is refused. It also parks
// runs that were unwound and whose function goes on for all that.
func (s *slice) reap(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.strands {
		if !st.unwound.IsZero() && now.Sub(st.unwound) > unwindGrace && !s.sealed && s.retired == nil {
			s.leave(store.Parked, fmt.Sprintf("its function has not returned %s after a call has unwound it. "+
				"Its *Run was used in another goroutine, for which it waits, or a deferred function does not return", unwindGrace))
			s.retire(errMisused)
			return true
		}
		ctx := st.current
		if ctx == nil || ctx.writtenOff || !ctx.overdue(now) || s.sealed || s.retired != nil {
			continue
		}
		ctx.writtenOff = true
		err := &writtenOffError{now.Sub(ctx.started)}
		s.w.e.log.Error("a step ignores its context and is written off", keyWorkflow, s.w.settings.Name, keyRun, s.run.ID, "step", ctx.name)
		due := s.w.e.stored(now).Add(writtenOffPause)
		if rec := s.writeOff(ctx, now, err, due); rec.get().State == store.StepParked {
			s.leave(store.Parked, parkedReason(rec))
		} else {
			c := s.open()
			c.update.Verdict, c.update.Wake = store.Waiting, due
			s.seal(c)
		}
		s.retire(err)
		return true
	}
	return false
}

// writeOff records an attempt that did not return as one that failed; of a call that
// must not be made twice, that nobody knows its outcome.
func (s *slice) writeOff(ctx *stepContext, now time.Time, err error, due time.Time) *record {
	c := ctx.call
	rec := s.ledger.find(ctx.name)
	if rec == nil {
		rec = s.ledger.begin(store.Record{N: s.ledger.last + 1, Kind: c.Kind, Name: ctx.name, StartedAt: s.w.e.stored(ctx.started), Headers: c.Headers})
	}
	if rec.settled() {
		return rec
	}
	r := *rec.get()
	a := attempted{number: ctx.number, first: r.StartedAt, started: s.w.e.stored(ctx.started), took: now.Sub(ctx.started), err: err}
	v := stepVerdict{reason: err.Error()}
	switch c.Kind {
	case store.KindOnce:
		i := readIntent(r.Value)
		i.Verifies++
		v = stepVerdict{state: store.StepUnknown, value: i.encode(), reason: "outcome unknown: " + err.Error()}
		if i.Verifies > c.Retry.Max {
			v.state = store.StepParked
		}
	case store.KindUntil: // asked again without an end
	default:
		v = judgeStep(c, a)
	}
	r.State, r.Value, r.Reason, r.Due = v.state, v.value, v.reason, time.Time{}
	r.Attempt, r.Took = max(r.Attempt, ctx.number), now.Sub(r.StartedAt)
	if r.State < store.StepParked {
		r.Due = due
	}
	s.replace(rec, &r)
	s.recordAttempt(rec, a, v)
	return rec
}

// writtenOffPause is how long a run rests whose step had to be written off.
const writtenOffPause = time.Second

// stepVerdict is what an attempt's end means for its step.
type stepVerdict struct {
	state  store.StepState
	value  []byte
	reason string
	due    time.Time
	again  bool // the attempt does not count
}

// judgeStep decides: it does no I/O and reads no clock.
func judgeStep(c *Call, a attempted) stepVerdict {
	if a.err == nil {
		return stepVerdict{state: store.StepDone, value: a.value}
	}
	text := clip(a.err.Error(), store.MaxReason)
	for _, sentinel := range c.DoneIf {
		if errors.Is(a.err, sentinel) {
			return stepVerdict{state: store.StepDone, value: a.value, reason: clip("already done: "+text, store.MaxReason)}
		}
	}
	now := a.started.Add(a.took)
	if f, ok := fails(c, a.err); ok {
		return c.dropped(stepVerdict{state: store.StepFailed, value: encodeFailed(f), reason: text})
	}
	if _, ok := errors.AsType[*unrecordableError](a.err); ok {
		return stepVerdict{state: store.StepParked, reason: text} // done, and again would be twice
	}
	if later, ok := errors.AsType[*notYetError](a.err); ok {
		return stepVerdict{due: now.Add(min(max(later.after, notYetMin), notYetMax)), reason: clip(later.reason, store.MaxReason), again: true}
	}
	v := stepVerdict{reason: text, due: now.Add(c.Retry.pause(a.number, rand.Float64()))}
	switch {
	case c.Within > 0 && v.due.Sub(a.first) > c.Within:
		return c.dropped(stepVerdict{state: store.StepFailed, value: encodeFailed(failed{Within: true}),
			reason: clip("not done within "+c.Within.String()+": "+text, store.MaxReason)})
	case a.number >= c.Retry.Max, c.Retry.Elapsed > 0 && v.due.Sub(a.first) > c.Retry.Elapsed:
		v.state, v.due = store.StepParked, time.Time{}
		if c.Kind == store.KindTry {
			v.state = store.StepOmitted
		}
	}
	return v
}

// fails reports whether err is one that the function is to see.
func fails(c *Call, err error) (f failed, ok bool) {
	for _, sentinel := range c.FailIf {
		if errors.Is(err, sentinel) {
			f.Is, ok = append(f.Is, clip(sentinel.Error(), sentinelMax)), true
		}
	}
	_, permanent := errors.AsType[*permanentError](err)
	return f, ok || permanent
}

// dropped is the failure of a call for which failing means something else: a best
// effort is omitted; a compensation is for a person, it must not get lost.
func (c *Call) dropped(v stepVerdict) stepVerdict {
	switch c.Kind {
	case store.KindTry:
		v.state, v.value = store.StepOmitted, nil
	case store.KindCompensate:
		v.state, v.value = store.StepParked, nil
	}
	return v
}

func stackOf(err error) string {
	if p, ok := errors.AsType[*panicError](err); ok {
		return clip(string(p.stack), store.MaxStack)
	}
	return ""
}
