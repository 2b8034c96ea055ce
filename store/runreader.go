package store

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// RunReader answers questions about runs, from committed data.
type RunReader interface {
	// List lists runs, newest first, without inputs and results.
	List(ctx context.Context, q RunQuery) ([]RunRow, error)
	// Counts counts runs by workflow and state; those that ended only as far as they are kept.
	Counts(ctx context.Context) ([]RunCount, error)
	// Story is a run with all that happened to it; ErrNotFound. Workflow may be empty if
	// only one workflow has a run with the ID; else a *AmbiguousError.
	Story(ctx context.Context, workflow, id string) (RunStory, error)
	// End is how a run ended, or that it has not (Running); ErrNotFound. Cheap.
	End(ctx context.Context, workflow, id string) (RunEnd, error)
	// Ends are how those of some runs ended that have, in no order; at most MaxList are asked for.
	Ends(ctx context.Context, runs []RunNo) ([]RunEnd, error)
	// Locks lists locks that are held, by name, with those who wait for them.
	Locks(ctx context.Context, max int) ([]LockRow, error)
}

// RunState is a run's state, for people.
type RunState string

const (
	RunReady   RunState = "ready"   // to be worked as soon as a process has room
	RunRunning RunState = "running" // leased
	RunWaiting RunState = "waiting" // for a time, or for mail
	RunParked  RunState = "needs-person"
	RunEnded   RunState = "ended" // in queries: completed, failed and cancelled
	// An ended run's state is its outcome: "completed", "failed", "cancelled".
)

// RunQuery selects runs; zero fields select all.
type RunQuery struct {
	Workflow string
	State    RunState // also "completed", "failed", "cancelled"
	IDPrefix string
	Before   RunNo // only lower numbers: the next page
	Max      int   // 1 to MaxList; default 50
}

// RunRow is a run in a list.
type RunRow struct {
	No        RunNo
	Workflow  string
	ID        string
	State     RunState
	StartedAt time.Time
	EndedAt   time.Time
	Wake      time.Time // waiting: until then, or for mail; zero: only for mail
	Process   int64     // that leases it
	Deadline  time.Time
	Crashes   int
	Parent    RunNo
	// Reason: parked, why; failed or cancelled, the error; waiting, the reasons of its open records, joined.
	Reason string
}

// RunCount is how many runs of a workflow are in a state.
type RunCount struct {
	Workflow string
	State    RunState
	Count    int64
	Oldest   time.Time // the start of the oldest of them
	Since    time.Time // ready: since when the first of them is, of those that have not crashed; zero: none
}

// RunStory is a run and all that happened to it.
type RunStory struct {
	RunRow
	Version     int
	Epoch       int64
	Input       []byte
	Result      []byte
	Headers     []byte
	Cause       string
	Correlation string
	ParentID    string // "workflow/id" of the parent
	Records     []Record
	Attempts    []StepAttempt // by N and attempt
	Waits       []WaitRow
	Mail        []Mail // unread
	Locks       []LockRow
	Children    []RunRow // at most MaxList
	// Late are replies to this run's requests that came after it had stopped to wait for them.
	Late []Message
}

// WaitRow is a wait that is not met.
type WaitRow struct {
	N          int
	Topic, Key string // of a reply: the request's ID
	Since      time.Time
}

// LockRow is a lock that is held or wanted.
type LockRow struct {
	Name     string
	Fence    int64
	Holder   RunNo
	HolderID string // "workflow/id"
	Since    time.Time
	Waiters  []LockWaiter // in order
}

// LockWaiter is a run in line for a lock.
type LockWaiter struct {
	Run   RunNo
	RunID string // "workflow/id"
	Since time.Time
}

// AmbiguousError tells that several workflows have a run with the ID.
type AmbiguousError struct {
	ID        string
	Workflows []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("several workflows have a run %q: say which of %s", e.ID, strings.Join(e.Workflows, ", "))
}
