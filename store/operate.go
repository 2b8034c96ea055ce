package store

import "time"

// Verb is what a person does.
type Verb string

const (
	PauseQueue  Verb = "pause"
	ResumeQueue Verb = "resume"
	RetryDead   Verb = "retry"
	DiscardDead Verb = "discard"

	// Of a run. All but CancelRun want one that is parked, or a step of it that is; else
	// ErrConflict. Each becomes mail, in the same transaction as its audit row.
	CancelRun  Verb = "run cancel"
	RetryRun   Verb = "run retry"   // go on, with all attempts before it
	SettleRun  Verb = "run settle"  // the step has happened, with Body; or has Failed
	SkipRun    Verb = "run skip"    // go on without the step
	AbandonRun Verb = "run abandon" // the run fails, and compensates

	// RenewStore begins a new life of a store that was restored from a backup, where that is not noticed
	// by itself: a new Incarnation and Base. What was sent before keeps its ID. ErrConflict while a process works the store.
	RenewStore Verb = "renew"

	// BreakLock takes a lock from its holder and gives it to the next in line, with a higher fence.
	BreakLock Verb = "lock break"

	// ForgetLane deletes how far the store has a lane of another's, whose sender is gone for good: what that
	// sends again would be taken in a second time. ErrConflict within ForgetAfter of what came on it, or of its
	// sender's last word about it.
	ForgetLane Verb = "lane forget"
	// ResyncReplica writes State, a person's wish for a snapshot of the entity with ID. ErrConflict if the store has one as new.
	ResyncReplica Verb = "replica resync"
)

// ForgetAfter is how long a lane must have been silent to be forgotten.
const ForgetAfter = time.Hour

// Act is a person's act. By and Why are required and kept in the audit.
type Act struct {
	Verb    Verb
	Queue   string // the queue; for dead letters empty means any
	By, Why string

	// Which dead letters: one by ID, or (ID empty) all of Queue whose reason contains
	// Matching, MaxOperate at most a call, oldest first.
	ID       string
	Matching string
	// Body and Headers replace the message's for this queue when the one with ID is retried; the
	// journal's row stays as it was. nil: unchanged.
	Body    []byte
	Headers []byte
	// DryRun only counts. Not for runs, locks, lanes and replicas.
	DryRun bool

	// Which run: ID, of Workflow; that may be empty if only one workflow has a run with the ID.
	Workflow string
	Step     string // the record's name; empty: the one that needs a person, if it is one
	Failed   bool   // SettleRun: it failed, Why is the error
	Lock     string // BreakLock
	Lane     string // ForgetLane
	State    *State // ResyncReplica: its Version and AsOf are given, and Applied is not set
}

// Acted is what an act did.
type Acted struct {
	Count int64
	More  bool // MaxOperate was reached
}

// AuditRow is one act as it is kept.
type AuditRow struct {
	At            time.Time
	By, Verb, Why string
	Target        string // "queue kitchen.prepare-food", "dead k7q2xw-1hk3 of kitchen.prepare-food"
	Before, After string // what changed, as JSON
}
