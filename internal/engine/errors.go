package engine

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var (
	ErrTimeout  = errors.New("weir: the attempt's Timeout has passed")
	ErrStopping = errors.New("weir: the engine stops")
	// errLate refuses what would be lost: the acknowledgement leaves without it.
	errLate = errors.New("weir: a message sends until its handler has returned, and not in OnCommit: what came now would be lost; send in the handler")
	// errReturned is the cause of a context used after its handler has returned.
	errReturned = errors.New("weir: the handler has returned")
)

// permanentError is an error that no retry mends.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// Permanent marks err as one that no retry mends.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

// unrecordableError is a step that was done, with a result that cannot be recorded.
type unrecordableError struct{ error }

func (e *unrecordableError) Unwrap() error { return e.error }

// Unrecordable marks an error of recording a result.
func Unrecordable(err error) error { return &unrecordableError{err} }

// notYetError asks for the message again later; no failure.
type notYetError struct {
	reason string
	after  time.Duration
}

func (e *notYetError) Error() string { return "not yet: " + e.reason }

// NotYet postpones, which is no failure.
func NotYet(reason string, after time.Duration) error { return &notYetError{reason, after} }

// panicError is a handler's panic.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// writtenOffError is the failure of an attempt that did not return.
type writtenOffError struct{ after time.Duration }

func (e *writtenOffError) Error() string {
	return fmt.Sprintf("the handler ignored its context and has not returned after %s: written off", e.after.Round(time.Millisecond))
}

// InRun is a context for a workflow's function: its calls end with the run, not with a context, and what it sends
// through an engine would be sent again in each replay.
func InRun() context.Context { return context.WithValue(context.Background(), attemptKey{}, inRun{}) }

type inRun struct{}

// InHandler reports whether ctx is one given to a handler, a closure, a step or a workflow's function.
func InHandler(ctx context.Context) bool { return ctx.Value(attemptKey{}) != nil }

// IdempotencyKey is the queue's name and the message's ID, or the run's reference
// and the step's name: the same for all attempts.
func IdempotencyKey(ctx context.Context) string {
	if k, ok := ctx.Value(attemptKey{}).(interface{ idempotencyKey() string }); ok {
		return k.idempotencyKey()
	}
	return ""
}

func (a *Attempt) idempotencyKey() string { return a.q.settings.Queue.Name + "/" + a.Message.ID }

type attemptKey struct{}
