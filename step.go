package weir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
)

func newBytes(data []byte) io.Reader { return bytes.NewReader(data) }

type (
	// StepOption is an option of a step: [Retry], [Timeout], [Within], [DoneIf],
	// [FailIf], [Key], [Was], [Headers].
	StepOption interface{ applyStep(*engine.Call) }
	// WaitOption is an option of [WaitFor], [Ask] and [Call]: [Within], [Key], [Was].
	WaitOption interface{ applyWait(*engine.Call) }
	// UntilOption is an option of [Until]: [Within], [Key], [Was], [Every], [WakeOn], [Retry],
	// and [Timeout], which bounds one asking.
	UntilOption interface{ applyUntil(*engine.Call) }
	// KeyOption gives a message its key, and tells steps of one name apart.
	KeyOption interface {
		SendOption
		StepOption
		WaitOption
		UntilOption
	}

	// Within bounds a whole call: attempts, pauses and waits. Past it the call fails with
	// an error that is [ErrWithin]. Default: no bound. At most 10 years.
	Within time.Duration
	// Timeout bounds one attempt of a step: its context is done then. Default 1 minute, 1 ms to 24 h.
	Timeout time.Duration
	// Every is how often [Until] asks. Default 1 minute, 1 ms to 30 days.
	Every time.Duration
	// Was is an earlier name of a step, so that what is recorded under it is found. With a slash it is the way from
	// the run's root as its history shows it: "all/branch/pay" for a step that has left a branch, "/pay" for one that is in a branch now.
	Was string

	doneIf []error
	failIf []error
	wakeOn struct {
		awaited func(run string) (topic store.Topic, key string, err error)
	}
)

// DoneIf makes an error a success: "already exists". The value returned beside it is
// the result, and the history says so.
func DoneIf(errs ...error) StepOption { return doneIf(errs) }

// FailIf makes an error one that the function gets, and no retry mends: "card
// declined". errors.Is holds for it after a replay too; sentinels are told apart by their text.
func FailIf(errs ...error) StepOption { return failIf(errs) }

func (o Within) applyStep(c *engine.Call)    { c.Within = time.Duration(o) }
func (o Within) applyWait(c *engine.Call)    { c.Within = time.Duration(o) }
func (o Timeout) applyStep(c *engine.Call)   { c.Timeout = time.Duration(o) }
func (o Was) applyStep(c *engine.Call)       { c.Was = append(c.Was, string(o)) }
func (o Was) applyWait(c *engine.Call)       { c.Was = append(c.Was, string(o)) }
func (r Retry) applyStep(c *engine.Call)     { c.Retry = r.orDefaults().core() }
func (k keyOption) applyStep(c *engine.Call) { c.Key = string(k) }
func (k keyOption) applyWait(c *engine.Call) { c.Key = string(k) }
func (d doneIf) applyStep(c *engine.Call)    { c.DoneIf = append(c.DoneIf, d...) }
func (d failIf) applyStep(c *engine.Call)    { c.FailIf = append(c.FailIf, d...) }
func (h Headers) applyStep(c *engine.Call)   { c.Headers, _ = encodeHeaders(h) } // strings: never fails

func (o Within) applyUntil(c *engine.Call)    { c.Within = time.Duration(o) }
func (o Timeout) applyUntil(c *engine.Call)   { c.Timeout = time.Duration(o) }
func (o Every) applyUntil(c *engine.Call)     { c.Every = time.Duration(o) }
func (o Was) applyUntil(c *engine.Call)       { c.Was = append(c.Was, string(o)) }
func (r Retry) applyUntil(c *engine.Call)     { c.Retry = r.orDefaults().core() }
func (k keyOption) applyUntil(c *engine.Call) { c.Key = string(k) }
func (w wakeOn) applyUntil(*engine.Call)      {} // see Run.wake

// WakeOn makes [Until] ask again as soon as something has come: an event by its key, or a signal to the run. One of an
// Until: for more, let it ask often enough ([Every]).
func WakeOn[T any](what Awaited[T]) UntilOption {
	return wakeOn{func(run string) (store.Topic, string, error) {
		if what == nil {
			return store.Topic{}, "", errors.New("WakeOn of nil, want an event by its key, or a signal")
		}
		c, key := what.awaited(run)
		return c.topic, key, c.err
	}}
}

var (
	// ErrWithin is what an error is of a call that is past its [Within].
	ErrWithin = engine.ErrWithin
	// ErrCancelled is the cause of a step's context cancelled because its run is.
	ErrCancelled = engine.ErrCancelled
)

// StepError is why a step failed, in its recorded form.
type StepError = engine.StepError

// check parks the run when a call's options make no sense: that is the program's mistake.
func (r *Run) check(c *engine.Call) *engine.Call {
	retry := Retry{Max: c.Retry.Max, Base: c.Retry.Base, Cap: c.Retry.Cap, Elapsed: c.Retry.Elapsed}
	sound := inside(c.Timeout, time.Millisecond, 24*time.Hour) && inside(c.Within, 0, delayMax) &&
		len(c.Key) <= maxKey && len(c.Headers) <= maxHeaders && len(c.Was) <= maxNamed &&
		len(c.DoneIf) <= maxNamed && len(c.FailIf) <= maxNamed && retry.sound() &&
		!slices.Contains(c.DoneIf, nil) && !slices.Contains(c.FailIf, nil)
	if sound {
		return c // before any of the texts below is made
	}
	r.strand.Park(errors.Join(
		within(c.Name+": Timeout", c.Timeout, time.Millisecond, 24*time.Hour),
		within(c.Name+": Within", c.Within, 0, delayMax),
		retry.check(c.Name),
		within(c.Name+": bytes of Key", len(c.Key), 0, maxKey),
		within(c.Name+": bytes of Headers", len(c.Headers), 0, maxHeaders),
		within(c.Name+": names of Was", len(c.Was), 0, maxNamed),
		within(c.Name+": errors of DoneIf", len(c.DoneIf), 0, maxNamed),
		within(c.Name+": errors of FailIf", len(c.FailIf), 0, maxNamed),
		noNil(c.Name+": a nil error in DoneIf", c.DoneIf),
		noNil(c.Name+": a nil error in FailIf", c.FailIf),
	).Error())
	return c
}

// noNil gives an error if one in a list is nil, as a sentinel is that is not set yet.
func noNil(what string, list []error) error {
	if slices.Contains(list, nil) {
		return errors.New(what + ": want the errors that the step may give")
	}
	return nil
}

// maxNamed is how many errors, or earlier names, an option of a step names.
const maxNamed = 100

func inside[T int | time.Duration](v, low, high T) bool { return low <= v && v <= high }

func (r *Run) step(kind store.StepKind, name string, opts []StepOption) *engine.Call {
	c := r.call(kind, name)
	for _, o := range opts {
		o.applyStep(c)
	}
	return r.check(c)
}

// Step does something and records what it gave: it is not done again. It fails only with
// what [FailIf] or [Permanent] says, or past its [Within], or when a person settles it so;
// out of retries the run is parked for a person, and the call does not return. Its result is encoded by
// [Config].Codec, at most Config.MaxBody (256 KiB), and the function gets it decoded again. Its error is a [*StepError].
// f is done at least once, and is to honour its context: an attempt that goes on is given up 5 s after its [Timeout] and
// the next one may run beside it, with the same [IdempotencyKey]; what it returns then is not recorded.
// A name is 1 to 200 bytes without control characters, # and /; of several steps of one name the second is "name#2"
// and so on, in the order of the calls, unless a [Key] tells them apart.
func Step[T any](r *Run, name string, f func(context.Context) (T, error), o ...StepOption) (T, error) {
	c := r.step(store.KindStep, name, o)
	c.Do = attempt(r, c, f)
	return given[T](r, c)
}

// given makes a call of a step and decodes what it gave. One that a person has skipped gives the zero value.
func given[T any](r *Run, c *engine.Call) (T, error) {
	data, err := r.strand.Step(c)
	if err != nil {
		var none T
		if errors.Is(err, engine.ErrOmitted) {
			err = nil
		}
		return none, err
	}
	return recorded[T](r, c, data), nil
}

// attempt erases a step's function.
func attempt[T any](r *Run, c *engine.Call, f func(context.Context) (T, error)) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) (data []byte, err error) {
		err = r.around(ctx, func(ctx context.Context) error {
			v, err := f(ctx)
			if err != nil && !isAny(err, c.DoneIf) {
				return err
			}
			var unfit error
			if data, unfit = encodeResult(r.flow.eng, v); unfit != nil {
				return unfit
			}
			return err
		})
		return data, err
	}
}

func isAny(err error, list []error) bool {
	for _, one := range list {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// around wraps an attempt as Config.Around wants it.
func (r *Run) around(ctx context.Context, f func(context.Context) error) error {
	wrap := r.flow.eng.config.Around
	if wrap == nil {
		return f(ctx)
	}
	workflow, id, name, number := engine.StepOf(ctx)
	return wrap(ctx, Work{Kind: "step", Queue: workflow, Name: name, Key: id, ID: r.strand.Reference(), Attempt: number}, f)
}

// Do is [Step] without a result.
func Do(r *Run, name string, f func(context.Context) error, o ...StepOption) error {
	c := r.step(store.KindStep, name, o)
	c.Do = attempt(r, c, func(ctx context.Context) (None, error) { return None{}, f(ctx) })
	_, err := given[None](r, c)
	return err
}

// Try does something that is not worth failing the run for. Out of retries it is an
// omission, shown in the run's history; false then.
func Try(r *Run, name string, f func(context.Context) error, o ...StepOption) bool {
	c := r.step(store.KindTry, name, o)
	c.Do = attempt(r, c, func(ctx context.Context) (None, error) { return None{}, f(ctx) })
	_, err := r.strand.Step(c)
	return err == nil
}

// StepTx does something in the transaction that records its result: rows that it writes
// through tx commit with it, or not at all. f has 5 seconds, may run again, and acts only through tx. With an error, also one
// that [DoneIf] knows, what it wrote is undone; with that the value beside it is recorded.
func StepTx[T any](r *Run, name string, f func(context.Context, Tx) (T, error), o ...StepOption) (T, error) {
	c := r.step(store.KindStep, name, o)
	c.DoTx = func(ctx context.Context, tx store.Tx) ([]byte, error) {
		return attempt(r, c, func(ctx context.Context) (T, error) { return f(ctx, tx) })(ctx)
	}
	return given[T](r, c)
}

// Outcome is what the verification of a [Once] found.
type Outcome = engine.Outcome

const (
	Unknown     = engine.Unknown     // nobody can tell: asked again, then a person
	Happened    = engine.Happened    // with its result
	NotHappened = engine.NotHappened // believed from twice the attempt's Timeout, and 2 s, after its beginning, once it has returned
)

// Once does something that must not happen twice. Its intent is durable before f is
// called. A failure that [FailIf] or [Permanent] names has not happened; after any other
// error, or a crash, the outcome is not known: verify is asked before anything is tried
// again, with the same [IdempotencyKey]. What cannot be told, or without a verify (nil),
// goes to a person: weir run settle, retry or abandon.
//
// f must honour its context and have ended, with all that it began, when it is done by [Timeout]. One that goes on is given up 5 s later,
// and its outcome is unknown. While it still runs in this process, and for its Timeout after, [NotHappened] is not
// believed and f not called again, whoever asks: once verify was asked as often as [Retry] says, the run needs a person. Another
// process that takes the run over, or this one begun anew, does not see it.
func Once[T any](r *Run, name string, f func(context.Context) (T, error), verify func(context.Context) (T, Outcome, error), o ...StepOption) (T, error) {
	c := r.step(store.KindOnce, name, o)
	c.Do = attempt(r, c, f)
	if verify != nil {
		c.Verify = func(ctx context.Context) (data []byte, found Outcome, err error) {
			err = r.around(ctx, func(ctx context.Context) error {
				v, outcome, err := verify(ctx)
				if err != nil || outcome != Happened {
					found = outcome
					return err
				}
				found = outcome
				data, err = encodeResult(r.flow.eng, v)
				return err
			})
			return data, found, err
		}
	}
	return given[T](r, c)
}

// Compensate registers what undoes something, for the case that the run fails or is
// cancelled: it is done then, the last registered first, and retried like any step. Register
// it before the step that it undoes, so that half of that is undone too. Out of
// retries, or failing for good, it needs a person. Children that have not ended are cancelled first, and waited for.
//
// With the context that f is given it sends through r, weir.Send(ctx, r, …), and starts runs: that leaves when f has
// returned, with the record that it is done, or not at all. A full queue is waited for, and f is called again then.
//
// Registrations are recorded with the steps that follow. A run that is to end, and whose code has changed so that it does
// not come to what is recorded, is not compensated by half: it needs a person, who deploys code that does and retries, or
// abandons it. Compensations have names of their own, apart from the steps'; [Was] is for those, too.
func Compensate(r *Run, name string, f func(context.Context) error, o ...StepOption) {
	c := r.step(store.KindCompensate, name, o)
	c.Do = attempt(r, c, func(ctx context.Context) (None, error) { return None{}, f(ctx) })
	r.strand.Compensate(c)
}

// Branch is one of several pieces of work done in parallel.
type Branch struct {
	Name string // unlike the others'
	Do   func(*Run) error
	// Was are earlier names of the branch, so that what is recorded in it is found: a name, if the All has kept its own, or
	// else the way from the run's root as its history shows it, "all/branch". At most 100.
	Was []string
}

// All runs branches in parallel, each with a [Run] of its own, and returns when all
// have returned: their errors joined, in their order. At most 1,000, and 10 deep in each other.
// One that fails does not stop the others. When a branch needs a person the others go on until they have ended or wait for
// something; then the run is parked, and what they wait for is looked at when the branch is decided.
func All(r *Run, name string, branches ...Branch) error {
	list := make([]engine.Branch, len(branches))
	for i, b := range branches {
		list[i] = engine.Branch{Name: b.Name, Was: b.Was, Do: func(st *engine.Strand) error {
			return b.Do(&Run{strand: st, flow: r.flow})
		}}
		if b.Do == nil {
			r.strand.Park(fmt.Sprintf("All %s: branch %q has no function", name, b.Name))
		}
		if len(b.Was) > maxNamed {
			r.strand.Park(fmt.Sprintf("All %s: branch %q was %d names, want at most %d", name, b.Name, len(b.Was), maxNamed))
		}
	}
	return r.strand.All(name, list)
}
