package weir

import (
	"context"
	"errors"
	"time"

	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
)

type (
	// FullError refuses a send because the queue holds as much as it may, or a start because its
	// workflow (then Queue is its name, and Runs is set) has as many unfinished runs. Branch
	// with errors.AsType[*weir.FullError](err); RetryAfter is when there should be
	// room again at the measured drain rate (10 ms to 1 min).
	FullError = store.FullError
	// DuplicateError refuses a send whose deduplication key was used before with
	// another body.
	DuplicateError = store.DuplicateError
	// RunConflictError refuses a start whose ID belongs to a run with another input.
	RunConflictError = store.RunConflictError
	// HeldError is returned by [Engine.Run] when another process works the file.
	HeldError = store.HeldError
)

var (
	// ErrInHandler is returned by a send or a start through the engine (or [Engine.In]) from inside a
	// handler, a step, a workflow's function or a transaction closure: it would escape their commit, and
	// happen again when they do. Send through the [Message], or through the [Run] outside of its steps.
	// It is noticed by the context: use the one that is given, or one derived from it.
	ErrInHandler = errors.New("weir: sent through the engine from inside a handler, step or workflow, it would escape their commit: send through the message in hand, in a workflow through the run and outside of steps")
	// ErrClosed is returned by a call on a closed engine.
	ErrClosed = store.ErrClosed
	// ErrNotFound is returned when what was asked for is not in the store.
	ErrNotFound = store.ErrNotFound
	// ErrConflict is returned by an operator's act that the present state does not allow.
	ErrConflict = store.ErrConflict
	// ErrLeaseLost is the cause (context.Cause) of a handler's cancelled context when
	// another process has taken over the store, or, where several work it, what this one held.
	ErrLeaseLost = store.ErrLeaseLost
	// ErrUnavailable is returned by sends, starts and questions while the database cannot be
	// reached. Nothing was written: try again after a pause. An engine that runs does so itself.
	ErrUnavailable = store.ErrUnavailable
	// ErrUnresolved is returned when the connection to the database was lost while a send or a
	// start was committed, and for some seconds nobody could tell whether it was. To be able to
	// try again, give messages a [Dedup]; a start with the same ID is the same run anyhow.
	ErrUnresolved = store.ErrUnresolved
	// ErrKeyHeld is returned by a send or a start, 5 to 10 s later, when a transaction of somebody
	// else's that is still open has sent with the same key or deduplication key, or started that run, on a store that
	// several may write at once: positions within a key are given in the order of commits.
	// Nothing was written. Keep transactions that send with a key short.
	ErrKeyHeld = store.ErrKeyHeld
	// ErrTimeout is the cause of a handler's context cancelled by [Queue].Timeout.
	ErrTimeout = engine.ErrTimeout
	// ErrStopping is the cause of a handler's context cancelled because the engine stops.
	ErrStopping = engine.ErrStopping
)

// Permanent marks an error that no retry mends: the message goes straight to the
// dead letters. Permanent(nil) is nil.
func Permanent(err error) error { return engine.Permanent(err) }

// NotYet tells that a condition for handling the message is not met. It is no
// failure and no attempt is counted; the message is delivered again after the
// given time (at least 1 ms, at most a year), and the reason is kept for people.
// A keyed message goes on holding back its followers.
func NotYet(reason string, after time.Duration) error { return engine.NotYet(reason, after) }

// IdempotencyKey is the same for every attempt of the message being handled, or of
// the step, and different for every other: give it to outside systems that take one.
// Empty outside of both.
//
// Mind net/http: its client sends a POST again by itself, when a reused connection
// breaks, if the request has an Idempotency-Key header. To a system that does not honour
// the key that is a second call which nobody sees; put the key into the body then.
func IdempotencyKey(ctx context.Context) string { return engine.IdempotencyKey(ctx) }
