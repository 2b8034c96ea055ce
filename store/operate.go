package store

import "time"

// Verb is what a person does.
type Verb string

const (
	PauseQueue  Verb = "pause"
	ResumeQueue Verb = "resume"
	RetryDead   Verb = "retry"
	DiscardDead Verb = "discard"
)

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
	// DryRun only counts.
	DryRun bool
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
