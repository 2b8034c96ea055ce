package store

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrFenced is returned when a change acts for a delivery that is no longer
	// its to settle: the batch has a newer epoch, or the delivery is settled.
	ErrFenced = errors.New("fenced: another attempt owns this delivery")
	// ErrLeaseLost is returned to a process that is no longer the one working the
	// store. Everything it still does is refused.
	ErrLeaseLost = errors.New("lease lost: another process has taken over the store")
	// ErrUnresolved is returned when the connection was lost while a transaction committed,
	// and whether it did could not be found out. Doing the same again could do it twice.
	// A process that works the store should End, Begin anew, and look what there is.
	ErrUnresolved = errors.New("whether it was committed is not known")
	// ErrKeyHeld refuses a change that needs a key which an open transaction holds; see Held.
	ErrKeyHeld = errors.New("another transaction that is still open has sent with one of its keys")
	// ErrNotFound is returned when what was asked for is not in the store.
	ErrNotFound = errors.New("not found")
	// ErrClosed is returned by calls on a closed store.
	ErrClosed = errors.New("store is closed")
	// ErrConflict is returned by an operator's act that the present state does not
	// allow: retrying a message that is not dead, resuming a queue that runs.
	ErrConflict = errors.New("conflict")
	// ErrUnavailable is returned, wrapped with its cause, while the database cannot be
	// reached: connections are refused or lost, the server starts up or shuts down, lacks room, is slow, or others
	// are in the way, for longer than is waited for. It is nobody's mistake and passes;
	// the same call may succeed after a pause; of one in a caller's transaction, the whole transaction. What the call was to write is not written,
	// unless ErrUnresolved is wrapped beside it. Errors that trying again does not mend (a wrong
	// password, a statement that fails) never match it, nor does a caller's own ctx.
	ErrUnavailable = errors.New("the database is unavailable")
)

// FullError refuses a send, or a start: the queue, or the workflow, holds as much as it may.
type FullError struct {
	Queue           string // or, with Runs, the workflow
	Depth, Capacity int
	Runs            bool // unfinished runs are what there are too many of
	// RetryAfter is when there should be room again at the measured rate; the
	// store leaves it zero, the engine knows the rate.
	RetryAfter time.Duration
}

func (e *FullError) Error() string {
	s := fmt.Sprintf("queue %s is full: depth %d of %d", e.Queue, e.Depth, e.Capacity)
	if e.Runs {
		s = fmt.Sprintf("workflow %s has %d unfinished runs of %d (Runs.MaxUnfinished)", e.Queue, e.Depth, e.Capacity)
	}
	if e.RetryAfter > 0 {
		s += fmt.Sprintf("; try again in %s", e.RetryAfter.Round(time.Millisecond))
	}
	return s
}

// DuplicateError refuses a send whose deduplication key was used with another body.
type DuplicateError struct {
	Topic, Key, ID string // ID of the message that has the key
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("%s: deduplication key %q was used for %s with another body", e.Topic, e.Key, e.ID)
}

// HeldError refuses a second engine on a store that takes one.
type HeldError struct {
	Store string
	PID   int
	Host  string
	Since time.Time
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("%s is worked by process %d on %s since %s: one engine works a file at a time; "+
		"stop it first, or open this one for sending and reading only (without Run)",
		e.Store, e.PID, e.Host, e.Since.Format(time.RFC3339))
}
