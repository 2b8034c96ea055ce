package store

import "time"

// QueueID is a queue's number in one store, given by Declare. It never changes.
type QueueID int64

// OnDead says what a dead message means for later messages of its key.
type OnDead uint8

const (
	// Block: the key waits until a person has retried or discarded the dead message.
	Block OnDead = iota
	// Park: later messages of the key join it among the dead, and are retried with it in order.
	Park
	// Skip: later messages of the key go on.
	Skip
)

func (o OnDead) String() string { return [...]string{"block", "park", "skip"}[o%3] }

// Topic is a contract's name in the journal.
type Topic struct {
	Name string
	Kind Kind
}

// Queue declares what a consumer works from: a topic seen by one subscription.
type Queue struct {
	Name  string // a command's topic, or the subscriber's name
	Topic Topic
	// FromEarliest starts a new subscription at the earliest message kept; else it
	// starts after the newest. Commands always start at the earliest. Without
	// effect on a queue that exists.
	FromEarliest bool
	Capacity     int  // messages; 0 is unbounded
	Required     bool // an event's subscriber that may refuse the publisher
	// MaxLag parks an event's subscriber that is not Required once that many
	// messages wait for it. 0: never. Parked, it no longer holds retention back;
	// resumed, it goes on at the earliest message kept, and the gap is recorded.
	MaxLag int
	OnDead OnDead
}

// QueueState is a queue as it stands.
type QueueState struct {
	ID QueueID
	Queue

	// Depth counts what is to be worked: waiting, leased and deferred, not the dead.
	Depth    int64
	Leased   int64 // in open batches
	Deferred int64 // of the depth: retries, delays, and those behind a blocked key
	Dead     int64
	Oldest   time.Time // when the oldest message of the depth was sent; zero when empty
	Newest   int64     // number of its newest batch; 0: none was ever claimed

	Paused *Pause // nil: running
	Parked bool   // beyond MaxLag
	Gaps   int64  // messages that retention took from a parked subscriber
}

// Pause tells who stopped a queue, when and why.
type Pause struct {
	At      time.Time
	By, Why string
}

// Process is one process working a store.
type Process struct {
	ID      int64 // given by Begin; never used twice
	PID     int
	Host    string
	Version string // of weir
	Owns    []string
	// Limits are made known with Begin: what was said last of a workflow holds, for all processes.
	Limits []RunLimit

	StartedAt time.Time
	BeatAt    time.Time
	EndedAt   time.Time // zero while it runs, or when it ended without saying so
}

// RunLimit bounds the unfinished runs of a workflow: beyond it starts from outside are refused.
type RunLimit struct {
	Workflow string
	Max      int // 0: no bound
}
