package store

import (
	"context"
	"time"
)

// Reader answers people's questions from committed data, without holding back
// writers. Lists hold at most MaxList rows and no bodies unless said.
type Reader interface {
	// Queues lists all queues by name, with their state.
	Queues(ctx context.Context) ([]QueueState, error)
	// Figures lists the minutes of all queues that are not older than since, by queue and minute.
	Figures(ctx context.Context, since time.Time) ([]FigureMinute, error)
	// Messages lists messages, newest first.
	Messages(ctx context.Context, q MessageQuery) ([]Message, error)
	// Message is one message with its body and everything that happened to it; ErrNotFound.
	Message(ctx context.Context, id string) (MessageStory, error)
	// Trace tells everything that happened to a business key: the messages with that
	// key and all others of their conversations, in the order they were sent.
	Trace(ctx context.Context, key string, max int) ([]MessageStory, error)
	// Dead lists dead letters, oldest first.
	Dead(ctx context.Context, q DeadQuery) ([]DeadLetter, error)
	// Processes lists processes, newest first.
	Processes(ctx context.Context, max int) ([]Process, error)
	// Audit lists operators' acts, newest first.
	Audit(ctx context.Context, max int) ([]AuditRow, error)
	// Changed reports whether another process, or a caller's own transaction, may
	// have written since the last call. Cheap; a hint only: true once too often is fine,
	// and the engine claims from time to time whatever it says.
	Changed(ctx context.Context) (bool, error)
	// Exchange answers what is asked between boundaries.
	Exchange() ExchangeReader
	// Runs answers questions about runs.
	Runs() RunReader
	// Check looks for what should not be and says what to do; empty when all is well.
	Check(ctx context.Context) ([]Finding, error)
}

// MessageQuery selects messages; zero fields select all.
type MessageQuery struct {
	Topic  string
	Key    string
	Before Pos       // only lower positions: the next page
	Since  time.Time // sent at or after; of what came from elsewhere, come
	Max    int       // 1 to MaxList; default 50
}

// DeadQuery selects dead letters; zero fields select all.
type DeadQuery struct {
	Queue    string
	ID       string
	Matching string // the reason contains it
	After    Pos    // only higher positions: the next page
	Max      int    // 1 to MaxList; default 50
}

// DeadLetter is a message that will not be tried again by itself.
type DeadLetter struct {
	Queue       string
	Message     Message // without body in lists; with ID asked for, with it
	DiedAt      time.Time
	Attempts    int
	Reason      string
	Quarantined bool   // it crashed its process CrashLimit times
	BehindID    string // parked behind this dead message of its key
	Edited      bool
	History     []Attempt // with ID asked for
}

// Attempt is one failed, postponed or crashed attempt, or the success after one.
type Attempt struct {
	No      int
	Started time.Time
	Took    time.Duration
	Verdict string // "done", "retry", "not-yet", "dead", "crashed"
	Reason  string
	Stack   string
	Process int64
	Due     time.Time // when it was to be tried again
}

// MessageStory is a message and what each of its queues did with it.
type MessageStory struct {
	Message
	Queues []QueueStory
}

// QueueStory is what one queue did with a message.
type QueueStory struct {
	Queue string
	// State is "waiting", "leased", "done", "deferred", "behind", "dead", "discarded" or
	// "before" (sent before the subscription began).
	State     string
	Batch     int64 // of the first claim; 0 before it
	Process   int64 // that worked it last, or leases it
	ClaimedAt time.Time
	Started   time.Time     // of the last attempt, if known
	Took      time.Duration // of the last attempt
	Due       time.Time     // when deferred to a time
	Reason    string        // when deferred or dead
	Attempts  []Attempt     // if any but a first success
}

// Finding is something wrong that Check found.
type Finding struct {
	What string // "batch 12 of kitchen.prepare-food is open, but process 3 ended"
	Do   string // what to do about it
	// Unseen: nothing is known to be wrong, but this could not be looked at.
	Unseen bool
}
