package store

import "time"

// BatchRef names a batch and the epoch under which its holder may act for it.
type BatchRef struct {
	Queue QueueID
	No    int64 // 1, 2, 3 … of each queue, without holes
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

// ClaimRequest asks for work of one queue, or (Workflow not empty) for runs of one workflow, or
// (Duties not empty) for duties, of which each is one process's at a time.
type ClaimRequest struct {
	Queue    QueueID
	Workflow string
	// MailAfter: with Workflow, ask too for the mail of runs that this process leases, above this number.
	MailAfter int64
	// Suspects asks only for runs that have crashes; else those have to wait. With Workflow.
	Suspects bool
	// Max is 1 to MaxBatch; a batch taken over from another process may hold more. With
	// Workflow also 0: no run is claimed, only mail is asked for.
	Max int
	// Abandoned asks only for batches that an earlier process left open.
	Abandoned bool
	// Duties names what only one process of the store should do, such as working a relay. One that nobody
	// alive has becomes this process's, until it Ends or is lost; it may ask again. With nothing else, each
	// once. At most MaxDuties.
	Duties []string
}

// MaxDuties is the most duties asked for at once.
const MaxDuties = 1_000

// Claimed is what a claim found.
type Claimed struct {
	Batch *Batch // nil when there is nothing to do now
	// More is set when another claim would find work at once.
	More bool
	// NextDue is when the next deferred message, or waiting run, is due; zero when none waits for a time.
	NextDue time.Time

	// Of a workflow: runs that are ready, the longest ready first, and those whose time
	// has come; now leased. The suspects asked for come with most crashes first.
	Runs []*Run
	// Mail of runs of this workflow leased before this claim, by No; at most MaxList.
	Mail []Mail
	// Suspects is how many runs with crashes are ready.
	Suspects int

	// Duties are those of the request that are this process's now.
	Duties []string
}
