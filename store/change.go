package store

import (
	"context"
	"time"
)

// Group is what one call to Commit writes: many changes, each all or nothing,
// in as few transactions as possible (one, unless a closure fails).
type Group struct {
	Changes []*Change
	// Eager names queues whose consumer is idle: as far as such a queue is caught
	// up, the messages that this group appends are claimed for it in the same
	// transaction. An adapter may leave it unanswered.
	Eager []Eager
	// Held says what becomes of changes whose keys others hold.
	Held Held
	// Figures are added to the queues' minutes.
	Figures []FigureDelta
	// Claimed holds, after Commit, the batches claimed for Eager.
	Claimed []*Batch
	// Woken holds, after Commit, the workflows of which the group made runs ready, or
	// gave mail to leased ones; each once.
	Woken []string
}

// Held says what becomes of a change that sends with a key, or a deduplication key, with
// which a transaction that is still open has sent, or starts a run that one starts. Only
// where several may write at once.
type Held uint8

const (
	// HeldWaits: it is waited for, 5 s at most, after the others of the group are committed.
	HeldWaits Held = iota
	// HeldIsRefused: its Err is ErrKeyHeld at once, so that it delays nobody.
	HeldIsRefused
	// HeldApart is HeldWaits for a caller that commits other groups meanwhile: they are not
	// held up, but capacity may be overshot by what waits.
	HeldApart
	// HeldAgain is HeldIsRefused for changes that came back so before: as long as their keys are
	// held they cost other groups nothing.
	HeldAgain
)

// Eager asks that what a group appends be claimed with it.
type Eager struct {
	Queue QueueID
	Max   int
}

// Change is one unit of a group: all of it is committed or none of it. What a
// handler or a step causes is one change; so is a send from outside.
type Change struct {
	// Settle says what becomes of deliveries: normally one; more when the
	// followers of a failed key go behind it. The fence: a settlement whose batch
	// has another epoch, or whose delivery is settled already, refuses the change
	// with ErrFenced before anything of it is written.
	Settle []Settlement
	// Sends are appended in this order. Their Pos, ID, SentAt and Stamp are set when the
	// change is committed; a duplicate gets those of the message it repeats.
	Sends []*Message
	// Outside marks sends, and starts of runs that do not exist yet, that capacity may refuse with a
	// *FullError. What leaves with a settlement is admitted.
	Outside bool
	// Starts records that suspects begin to run, before they do.
	Starts []Start
	// Runs are started. As in Sends, what leaves with a settlement or an update does so too.
	Runs []*RunStart
	// States are written in the same transaction, each unless the store has one as new. At most MaxStates.
	States []State
	// Arrival says where the sends come from when another store sent them.
	Arrival *Arrival
	// Drained are lanes whose senders have settled all that is here. At most MaxDrained.
	Drained []Drained
	// Run is what a leased run writes; nil: nothing.
	Run *RunUpdate
	// Closures run in the transaction, after the sends, in order. One that returns
	// an error, or panics, refuses the change with that error. They may run again.
	Closures []Closure

	// Err is set by Commit: nil when the change is committed; else why it is not,
	// and then nothing of it is written.
	Err error
}

// Closure is the user's own work in the engine's transaction.
type Closure func(ctx context.Context, tx Tx) error

// Start records the beginning of a suspect's attempt. Lone means that nothing
// else runs in the process; only a crash during a lone start is held against
// the message. Recorded again, not lone, it is so no more: another has begun beside it.
type Start struct {
	Batch BatchRef
	Index int
	Lone  bool
}

// Verdict is what becomes of a delivery.
type Verdict uint8

const (
	Done      Verdict = iota + 1 // worked; acknowledged
	Retry                        // failed; again at Due with the next attempt's number
	NotYet                       // no failure; again at Due with the same attempt's number
	Behind                       // its key is blocked by an earlier message; waits for it, untouched
	Dead                         // not tried again by itself
	Discarded                    // dropped on purpose: neither worked nor kept
)

func (v Verdict) String() string {
	switch v {
	case Done:
		return "done"
	case Retry:
		return "retry"
	case NotYet:
		return "not-yet"
	case Dead:
		return "dead"
	case Discarded:
		return "discarded"
	}
	return "behind"
}

// Settlement is the verdict on one delivery.
type Settlement struct {
	Batch   BatchRef
	Index   int
	Pos     Pos
	Key     string
	Verdict Verdict
	Attempt int           // the attempt that ended here; 1 or more
	Started time.Time     // of this attempt; zero when it did not run
	Took    time.Duration // of this attempt
	Due     time.Time     // for Retry and NotYet
	// Reason is for people: the error of Retry and Dead, the reason of NotYet. At
	// most MaxReason bytes are kept, and of Stack MaxStack.
	Reason string
	Stack  string
	// Quarantined marks a death after CrashLimit crashes.
	Quarantined bool
}

const (
	MaxReason  = 8 << 10  // bytes kept of an error or reason
	MaxStack   = 16 << 10 // bytes kept of a stack trace
	CrashLimit = 3        // lone crashes after which a message is quarantined
	MaxRelease = 100      // followers of a key released at once when it is free again
)
