// Package store is the port between weir's engine and a database. It speaks in
// transitions: each method of Store is one transaction (Commit: as few as
// possible) and one promise. No method retries; the engine owns retry. The
// engine holds no SQL, an adapter holds no policy.
//
// The laws are in package storetest, a sentence each; every adapter passes all
// of them.
//
// # The journal
//
// A message is one row, appended once. A queue is the journal seen by one
// subscription; its cursor is its newest batch. Claiming inserts the next
// batch, which leases the positions in its manifest to one process.
// Acknowledging sets bits in the batch. Only exceptions have rows of their own:
// what is deferred (a retry, a delay, a follower behind its blocked key), what
// is dead, and the attempts that failed.
//
//	appended ──claim──▶ leased ──Done──▶ done
//	             ▲        │ Retry, NotYet, Behind
//	             │        ▼
//	             └──── deferred          Dead ──▶ dead ──retry──▶ deferred
//
// # Order within a key
//
// A claim never returns a fresh message whose key has an earlier message that is
// deferred (other than by the sender's own delay) or, unless the queue skips,
// dead: it files it behind that one (or, with Park, among the dead). When the
// earlier one is done the followers are released, lowest first. A message of
// the key that fails sends released followers behind it again. So within one
// key what a queue's claims return, taken in turn, is in the order of positions.
// The engine does its part: for one queue it does not claim while a settlement
// of a keyed message other than Done is under way.
//
// # Between stores
//
// What one store sends to another goes on a lane, which is a queue of the sender:
// a packet's place is its batch's number and its index in it. Numbers of batches
// have no holes and a batch can be read again as it was claimed, so whoever is
// behind can say what it lacks, and be given just that. The receiver writes how far
// it has the lane in the transaction that appends what came (Arrival), and takes
// nothing twice and nothing that does not follow. It may forget that only of a lane whose
// sender has settled all that is here (Drained). Behind that stands the ID that a
// message has where it was sent first (Origin): with it there is one, however it came.
//
// A State is the newest state of one entity, at its owner or as a follower's copy:
// higher versions replace lower ones, whichever comes first. The owner's versions
// are the stamps of the messages that tell of them, which grow from one life of a
// store to the next.
package store

import (
	"context"
	"time"
)

// Opener opens a store. Adapters offer one: sqlite.File("kitchen.db").
type Opener func(ctx context.Context) (Store, error)

// Tx is a transaction of the user's database: the caller's own, given to
// AppendIn, or the engine's, given to a Closure. Adapters make and unwrap it.
type Tx interface {
	// StoreKind names the adapter it belongs to: "sqlite".
	StoreKind() string
}

// Store is the port. All methods may be called concurrently. Unless said
// otherwise an error means that nothing was written, and an error of the
// database itself (disk full, I/O) is returned as it is: the engine then stops.
type Store interface {
	// Info describes the store. It does no I/O.
	Info() Info

	// Begin makes this process the one that works the store (where the adapter
	// takes only one, else one of those) and fences what earlier ones left: their
	// batches become abandoned. A second is refused with a *HeldError. p.ID,
	// p.StartedAt and p.BeatAt are filled in. Commit, Claim and the rest may be
	// used without Begin by processes that only send, read and operate. p.Limits hold from then on.
	Begin(ctx context.Context, p *Process) error

	// Heartbeat says that the process lives; ErrLeaseLost when another has taken over.
	Heartbeat(ctx context.Context) error

	// End hands back all open batches of this process, so that their messages are
	// no suspects to the next one, and gives up what Begin took.
	End(ctx context.Context) error

	// Declare makes topics and queues known and returns the queues' state in the
	// same order. Repeating it changes a queue's settings, never its place. A name
	// already used for another topic or kind is an error.
	Declare(ctx context.Context, topics []Topic, queues []Queue) ([]QueueState, error)

	// Commit writes a group. Each change's Err says whether it was written; the
	// error returned is of the database itself, and then none was. Sends to a topic
	// never declared declare it. It blocks for the durable commit.
	Commit(ctx context.Context, g *Group) error

	// AppendIn does what a change does that has only Sends, States and Runs, in the caller's own
	// transaction, subject to capacity: visible and claimable when it commits, gone
	// when it does not. Pos, ID, SentAt and Stamp are set. Err is not. An Arrival is refused. Runs that wait for what
	// it sends have it with the next claim of runs, at the latest.
	AppendIn(ctx context.Context, tx Tx, c *Change) error

	// Claim leases the queue's next messages: first batches abandoned by processes
	// that are gone (with the epoch raised by one, holding only what is not
	// settled), then deferred messages that are due, then fresh ones. A paused or
	// parked queue gives nothing but NextDue zero. Or it leases runs of a workflow:
	// ready ones, and those of processes that are gone, each with its epoch raised by one. Or duties.
	Claim(ctx context.Context, r ClaimRequest) (Claimed, error)

	// Operate carries out a person's act in one transaction with its audit row.
	Operate(ctx context.Context, a Act) (Acted, error)

	// Prune deletes, in one short transaction, a step of what is older than the
	// retention: see Retention. Runs that ended longer ago go too, with all that is theirs.
	Prune(ctx context.Context, r Retention) (Pruned, error)

	// Reader answers people's questions.
	Reader() Reader

	// Close ends all use. It does not wait for callers of other methods; they get ErrClosed.
	Close() error
}

// Waker is a Store that hears of what other processes send.
type Waker interface {
	// Wakes gives a signal when another process may have sent something. A hint, as
	// Reader.Changed is, and sooner: signals are lost where they cannot be heard. One reader.
	Wakes() <-chan struct{}
}

// Info describes a store.
type Info struct {
	Kind        string // "sqlite"
	Name        string // the file, or the database, without secrets
	Incarnation Incarnation
	// Earlier are the incarnations of the lives before, the first one first, with spaces between. A store that is a copy
	// of this one has messages with IDs of theirs too.
	Earlier string
	// Base is what a message's number in the store is added to for its Stamp, in this life: such that no
	// stamp of an earlier life is as high, those that a restored backup has forgotten included. It is
	// microseconds since 1970 at the life's beginning, less the number reached by then: so stamps stay
	// ahead while a store appends fewer than a million messages a second, on the whole.
	Base   int64
	Schema int // its schema's version
	// Loose: capacity counts what is committed, and what this process is committing. Each other
	// process that sends from outside, and each open transaction of a caller's own, may overshoot
	// it by what it has in flight. Else it is exact. That of runs counts what is committed, as of up to
	// a second ago while there is much room: each process may overshoot it by what it has in flight,
	// and by a sixteenth of the room that there was.
	Loose bool
	// Lease is for how long a process that does not beat is believed to live, so it should beat
	// several times as often, where several may work the store at once: one that lost its lease may
	// Begin again, as a new process. 0 where one works it: who has taken over works it alone.
	Lease time.Duration
}

// Retention says what is kept.
type Retention struct {
	// Messages settled by all their queues are kept this long after they were
	// sent; batches, attempts, figures, audit rows and tombstones likewise. What waits is
	// kept however old, but for parked subscribers; so is how far lanes have come. What the dead, the deferred
	// and open batches refer to is copied aside, so nothing pins the log; so are signals to runs that have not ended.
	Keep time.Duration
	Max  int // rows deleted in this step; 1 to 10,000
}

// Pruned is what a step deleted. More is set when another step would delete.
type Pruned struct {
	Messages, Batches, Other int64
	More                     bool
}

// Limits of the port.
const (
	MaxSends   = 10_000 // messages in one change or AppendIn
	MaxList    = 1_000  // rows returned by one call of Reader
	MaxPrune   = 10_000
	MaxOperate = 10_000 // dead letters settled by one act
)
