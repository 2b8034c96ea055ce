package weir

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
)

func (r *Run) wait(kind store.StepKind, name string, opts []WaitOption) *engine.Call {
	c := r.call(kind, name)
	for _, o := range opts {
		o.applyWait(c)
	}
	return r.check(c)
}

func (r *Run) until(name string, opts []UntilOption) *engine.Call {
	c := r.call(store.KindUntil, name)
	c.Every = time.Minute
	for _, o := range opts {
		o.applyUntil(c)
		if w, ok := o.(wakeOn); ok {
			r.wake(c, w)
		}
	}
	if err := within(name+": Every", c.Every, time.Millisecond, 30*24*time.Hour); err != nil {
		r.strand.Park(err.Error())
	}
	return r.check(c)
}

// wake has a call ask again when something comes.
func (r *Run) wake(c *engine.Call, w wakeOn) {
	topic, key, err := w.awaited(r.ID())
	if c.Topic.Name != "" {
		err = errors.Join(err, errors.New("two WakeOn: it asks again for one, so let it ask often enough for the other, with Every"))
	}
	c.Topic, c.On = topic, key
	r.mayWait(c.Name, topic, key, err)
}

// mayWait parks the run when what it is to wait for cannot come.
func (r *Run) mayWait(name string, topic store.Topic, key string, err error) {
	switch {
	case err != nil:
	case key == "":
		err = fmt.Errorf("waits for %s without a key", topic.Name)
	default:
		err = errors.Join(r.flow.eng.unheard(topic), within("bytes of the key", len(key), 0, maxKey))
	}
	if err != nil {
		r.strand.Park(name + ": " + err.Error())
	}
}

// Sleep waits for a time, at most 10 years. The run costs a row meanwhile.
func Sleep(r *Run, name string, d time.Duration) {
	if err := within(name+": Sleep", d, 0, delayMax); err != nil {
		r.strand.Park(err.Error())
	}
	r.strand.Sleep(r.call(store.KindSleep, name), d)
}

// Met is whether a condition holds, and why not: see [When].
type Met struct {
	ok     bool
	reason string
}

// When is a condition's answer: whether it holds, and if not why, for people.
func When(ok bool, format string, args ...any) Met {
	if ok {
		return Met{ok: true}
	}
	return Met{reason: fmt.Sprintf(format, args...)}
}

// Until waits for a business condition, which f asks for: at once, then [Every] so
// often, or when something comes ([WakeOn]). That it does not hold is no failure;
// the reason is kept for people. An error is asked again by [Retry]'s pauses, without an end.
// f fails the call with [Permanent], and time with [Within].
func Until(r *Run, name string, f func(context.Context) (Met, error), o ...UntilOption) error {
	c := r.until(name, o)
	c.Met = func(ctx context.Context) (met bool, reason string, err error) {
		err = r.around(ctx, func(ctx context.Context) error {
			m, err := f(ctx)
			met, reason = m.ok, m.reason
			return err
		})
		return met, reason, err
	}
	return notOmitted(r.strand.Until(c))
}

// notOmitted lets a call go on that a person has skipped.
func notOmitted(err error) error {
	if errors.Is(err, engine.ErrOmitted) {
		return nil
	}
	return err
}

// Awaited is what a run can wait for: an [Event] with its key, [Event.For], or a [Signal]. It is sealed.
type Awaited[T any] interface {
	// awaited is the contract and the key; run is the ID of the run that waits.
	awaited(run string) (*contract[T], string)
}

// For is the event's occurrences with a key.
func (e Event[T]) For(key string) Awaited[T] { return eventFor[T]{e, key} }

type eventFor[T any] struct {
	event Event[T]
	key   string
}

func (e eventFor[T]) awaited(string) (*contract[T], string)   { return &e.event.contract, e.key }
func (s Signal[T]) awaited(run string) (*contract[T], string) { return &s.contract, run }

// WaitFor waits for an event, or for a signal to this run. Each call takes one
// occurrence, the oldest since the run's start that no other call took: what came
// before the call is not missed. Signals are kept until their run has ended; events as long as other messages, so one
// that came longer than [Config].Keep before the call may be gone: a run that waits for older ones needs a longer Keep. A note in the run's
// history says so the first time that it looks back so far. It fails only past its [Within], or when a person settles it so. An event of another
// store comes here only if this program subscribes to it; else the run is parked, and says so.
func WaitFor[T any](r *Run, name string, what Awaited[T], o ...WaitOption) (T, error) {
	c := r.wait(store.KindWaitFor, name, o)
	if what == nil {
		r.strand.Park(name + ": waits for nil, want an event by its key or a signal")
	}
	contract, key := what.awaited(r.ID())
	r.mayWait(name, contract.topic, key, contract.err)
	c.Topic, c.On = contract.topic, key
	got, err := r.strand.WaitFor(c)
	if err != nil {
		var none T
		return none, notOmitted(err)
	}
	return received(r, c.Name, contract, got), nil
}

// received decodes a message that a run waited for.
func received[T any](r *Run, name string, c *contract[T], got engine.Received) T {
	var v T
	if _, none := any(v).(None); none || len(got.Body) == 0 {
		return v
	}
	if err := c.decode(r.flow.eng.config.Codec, got.Version, got.Body, &v); err != nil {
		r.strand.Park(fmt.Sprintf("%s: decode %s: %v", name, c.topic.Name, err))
	}
	return v
}

// Ask sends a request and waits for its reply. A reply that comes after [Within] is kept
// in the journal and shown with the run. A full queue is waited for. It fails only past its Within,
// or when a person settles it so: a handler's errors are retried there, and a request that is dead
// there is waited for until a person has retried it; when it is discarded no reply comes, and a person settles or skips this step,
// too ([Engine.SettleRun]). What the caller is to decide on, say in the reply.
// When the run is cancelled it waits no more, but the request is not taken back: it may still be done, also after this
// run's compensations. What undoes it is best a request as well, of the same key, which its handler gets after the first.
func Ask[In, Out any](r *Run, name string, c Command[In, Out], in In, o ...WaitOption) (Out, error) {
	call := r.wait(store.KindAsk, name, o)
	eng := r.flow.eng
	m, err := message(eng, &c.contract, in)
	if err != nil {
		r.strand.Park(name + ": " + err.Error())
	}
	call.Request = m
	reply := c.Reply()
	call.Topic = reply.topic
	got, err := r.strand.Ask(call)
	if err != nil {
		var none Out
		return none, notOmitted(err)
	}
	return received(r, name, &reply.contract, got), nil
}

// message makes a message of a body, with nothing but what the contract says.
func message[T any](e *Engine, c *contract[T], body T) (*store.Message, error) {
	if err := e.checkSend(c.topic, c.err, 1, &outgoing{}); err != nil {
		return nil, err
	}
	m := &store.Message{Topic: c.topic.Name, Kind: c.topic.Kind, Version: c.version}
	if c.keyOf != nil {
		m.Key = c.keyOf(body)
	}
	var err error
	if m.Body, err = e.config.Codec.Marshal(body); err != nil {
		return nil, fmt.Errorf("encode body: %w", err)
	}
	return m, errors.Join(
		within(c.topic.Name+": bytes of its key", len(m.Key), 0, maxKey),
		within(c.topic.Name+": bytes of its body", len(m.Body), 0, e.config.MaxBody),
	)
}

// Call runs another workflow as this one's child and waits for its end. The child's ID is
// this run's, a slash, and the step's name as the run's story has it: "order-7/pay", in a loop with a
// [Key] "order-7/pay[2]", in a branch of [All] "order-7/parts/left/pay". It fails with a [*StepError] when the child
// does; that has the child's reason as text, so what the caller is to decide on is better in the child's result. When this run
// is cancelled, or fails, a child that has not ended is cancelled too, and its end waited for before anything is compensated:
// if it needs a person, so long. A child whose call is past its [Within] runs on: its parent waits for
// it no more. Children nest as deep as their IDs, at most 512 bytes, allow. A child that has completed stays so when this run fails
// later: what undoes it is a [Compensate] of this run.
func Call[In, Out any](r *Run, name string, w Workflow[In, Out], in In, o ...WaitOption) (Out, error) {
	c := r.wait(store.KindChild, name, o)
	start, err := prepare(r.flow.eng, w, "-", in, nil)
	if err != nil {
		r.strand.Park(name + ": " + err.Error())
	}
	start.Headers = r.strand.Run().Headers
	c.Child = start
	data, err := r.strand.Child(c)
	if err != nil {
		var none Out
		return none, notOmitted(err)
	}
	return recorded[Out](r, c, data), nil
}

// Locked runs f while the run holds a named lock: one run at a time, in the order in
// which they came. The run keeps it while it waits, and over restarts, until f has returned or the run has
// ended. fence is higher each time the lock changes hands: give it to outside systems,
// so that they can refuse who has lost the lock. It is the run's: between its own branches it
// keeps nothing apart, and where one is inside of another, or in two branches, the last to finish releases it. A lock's name has 1 to 512 bytes.
// [Within] bounds the time in line. Runs that take several in different orders may wait for each other until somebody cancels one:
// weir doctor tells of them.
func Locked(r *Run, name string, f func(r *Run, fence int64) error, o ...Within) error {
	c := r.lock("lock", name)
	for _, opt := range o {
		opt.applyWait(c)
	}
	if err := within("Locked: bytes of the lock's name", len(name), 1, maxKey); err != nil {
		r.strand.Park(err.Error())
	}
	r.check(c)
	fence, err := r.strand.Lock(c)
	if err != nil {
		return notOmitted(err)
	}
	err = f(r, fence)
	r.strand.Unlock(r.lock("unlock", name))
	return err
}

// lock begins a call about a lock: its records are told apart by the lock's name.
func (r *Run) lock(what, name string) *engine.Call {
	c := r.call(store.KindLock, what)
	c.Key, c.Lock = name, name
	return c
}
