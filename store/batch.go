package store

import "time"

// BatchRef names a batch and the epoch under which its holder may act for it.
type BatchRef struct {
	Queue QueueID
	No    int64
	Epoch int64
}

// Batch is what one claim leased to one process: up to MaxBatch messages of one
// queue, in the order of their positions.
type Batch struct {
	BatchRef
	// Suspect is set when the process that held the batch ended without handing
	// it back: one of these messages may have killed it. They are run one at a
	// time, each start recorded first.
	Suspect    bool
	ClaimedAt  time.Time
	Deliveries []Delivery
}

// Delivery is one message of a batch.
type Delivery struct {
	Message *Message
	Index   int // in the batch's manifest; settlements name it
	Attempt int // 1 for the first
	Crashes int // how often a process ended while this message ran alone
	// FirstAt is when the first attempt began; zero before it. What Retry.Elapsed is counted from.
	FirstAt time.Time
}

// MaxBatch is the most messages in one batch. About where the cost of a claim
// disappears in the cost of its messages; the manifest stays below 4 KiB.
const MaxBatch = 1000

// ClaimRequest asks for work of one queue.
type ClaimRequest struct {
	Queue QueueID
	Max   int // 1 to MaxBatch; a batch taken over from another process may hold more
	// Abandoned asks only for batches that an earlier process left open.
	Abandoned bool
}

// Claimed is what a claim found.
type Claimed struct {
	Batch *Batch // nil when there is nothing to do now
	// More is set when another claim would find work at once.
	More bool
	// NextDue is when the next deferred message is due; zero when none waits for a time.
	NextDue time.Time
}
