package store

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A run is one execution of a workflow. Its function is replayed from records;
// between two commits it is leased to one process, waits, is parked, or has ended:
//
//	started ──▶ ready ──claim──▶ leased ──Waiting──▶ waiting ──mail, or time──▶ ready
//	                              │ │ └────Parked──▶ parked  ──a person's mail─▶ ready
//	                              │ └──────Ended───▶ ended
//	                              └─its process ends─▶ ready (one crash more, if uncleanly)
//
// Each run that has not ended has a wake reason: it is ready, leased by a live
// process, waits for a time or for mail, or is parked for a person.
//
// All that comes to a run from outside is mail: a message that it waits for, a
// lock granted, a child's end, a cancellation, a person's decision. Mail makes a
// waiting run ready; a leased run's mail goes to the process that leases it.

// RunNo numbers a store's runs in the order they were started. Zero is none.
type RunNo int64

// RunID is a run in text, the Cause of the messages it sends: "k7q2xw.1hk3".
// It differs from every message's ID, which has a hyphen.
func (i Incarnation) RunID(no RunNo) string {
	return string(i) + "." + strconv.FormatInt(int64(no), 36)
}

// ParseRunID splits what RunID made.
func ParseRunID(id string) (Incarnation, RunNo, error) {
	inc, no, ok := strings.Cut(id, ".")
	if ok {
		if n, err := strconv.ParseInt(no, 36, 64); err == nil && n > 0 && inc != "" {
			return Incarnation(inc), RunNo(n), nil
		}
	}
	return "", 0, fmt.Errorf("run number %q is not of the form k7q2xw.1hk3", id)
}

// RunRef names a run and the epoch under which its holder may act for it. Each
// claim raises the epoch by one.
type RunRef struct {
	No    RunNo
	Epoch int64
}

// RunStart begins a run, unless the workflow has one with this ID: then Existed
// is set and No is that run's. An existing run of the same Version with another
// Input refuses the change with a *RunConflictError, and so does one with another Parent.
type RunStart struct {
	Workflow    string
	ID          string // the user's, unique in the workflow
	Version     int    // of the workflow's contract; 1 or more
	Input       []byte
	Headers     []byte    // a JSON object of strings, or nil
	At          time.Time // not begun before; zero: at once
	Deadline    time.Time // for the engine; zero: none
	Cause       string    // the ID of the message, or run, that started it
	Correlation string    // the ID of the root of the conversation; empty for a root
	// Parent gets mail (ChildEnded, for its record ParentStep) when the run ends; at
	// once, if it has ended already. Zero: none.
	Parent     RunNo
	ParentStep int
	// Lease asks that a run made by this start, with At zero, be leased to this process
	// in the same transaction. Without effect in AppendIn, and before Begin.
	Lease bool

	// Set when the change is committed.
	No        RunNo
	Epoch     int64 // when leased; else 0
	StartedAt time.Time
	Existed   bool
}

// RunVerdict is what an update makes of its run.
type RunVerdict uint8

const (
	Leased  RunVerdict = iota // it goes on in this process
	Waiting                   // released until Wake, or until mail comes
	Parked                    // released until a person decides: the needs-a-person list
	Ended                     // for good
)

// Outcome is how a run ended.
type Outcome uint8

const (
	Running Outcome = iota // it has not
	Completed
	Failed
	Cancelled
)

func (o Outcome) String() string {
	return [...]string{"running", "completed", "failed", "cancelled"}[o%4]
}

// RunUpdate is what a leased run writes. Its fence: an update whose run is not
// leased to this process under this epoch refuses the change with ErrFenced before
// anything of it is written. Records are written after the change's closures have
// run, so that a closure may set a record's Value.
type RunUpdate struct {
	RunRef
	Records  []*Record // written, or written again, by N
	Attempts []StepAttempt
	Waits    []Wait    // begun; one for a record that waits already replaces it
	Unwait   []int     // records that wait no more
	Locks    []LockAct // in order
	// Read is the number up to which the run's mail has been dealt with: that is deleted.
	Read int64
	// Sober clears the count of crashes: the run has got past what may have caused them.
	Sober bool

	Verdict RunVerdict
	Wake    time.Time // Waiting: ready then, without mail; zero: only by mail
	Reason  string    // Parked: why; Ended: the error, unless Completed. At most MaxReason bytes are kept
	Outcome Outcome   // Ended
	Result  []byte    // Ended as Completed

	// Unread is set when the change is committed: there is mail beyond Read, so a run
	// released with Waiting is ready at once. (With Parked it is, too, unless all of
	// that mail is of kind Arrived, Locked or ChildEnded.)
	Unread bool
}

// StepKind says what a record is of. The store keeps it and does not look at it.
type StepKind uint8

const (
	KindStep       StepKind = iota + 1 // Step, Do, StepTx
	KindTry                            // best effort
	KindOnce                           // an intent, then its outcome
	KindUntil                          // a constraint
	KindAsk                            // a request and the wait for its reply
	KindSleep                          // a timer
	KindWaitFor                        // an event or a signal
	KindChild                          // a child run
	KindLock                           // a named lock
	KindSend                           // messages sent by the function itself
	KindCompensate                     // run when the run fails or is cancelled
	KindNote                           // what happened to the run: cancelled, failing, drift, an operator's act
)

func (k StepKind) String() string {
	names := [...]string{"", "step", "try", "once", "until", "ask", "sleep", "wait-for", "child", "lock", "send", "compensate", "note"}
	if int(k) < len(names) {
		return names[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// StepState is how far a record is. Below StepDone it is open.
type StepState uint8

const (
	StepPending StepState = iota // begun: it retries, or waits
	StepIntent                   // Once: the call is about to be made, or was
	StepUnknown                  // Once: made, with an outcome that is not known
	StepParked                   // a person must decide
	StepDone                     // with Value
	StepFailed                   // with Reason: the function gets an error
	StepOmitted                  // best effort that failed, or skipped by a person
)

func (s StepState) String() string {
	return [...]string{"pending", "intent", "unknown", "needs-person", "done", "failed", "omitted", "?"}[s%8]
}

// Record is one durable action of a run. N is the engine's numbering, from 1 in
// the order they were begun; Name finds it again on replay.
type Record struct {
	N         int // 1 to MaxRecords
	Kind      StepKind
	State     StepState
	Name      string
	Attempt   int // made so far
	StartedAt time.Time
	Took      time.Duration // until it was settled, or until the last attempt ended
	Due       time.Time     // when it goes on by itself; zero: not by time
	Pos       Pos           // of the message that it sent, or that it got; 0: none
	Headers   []byte
	Value     []byte // at most 1 MiB
	Reason    string // an error, or what it waits for. At most MaxReason bytes are kept
}

// StepAttempt is a failed attempt of a step, for people. N is its record's.
type StepAttempt struct {
	N         int
	Attempt   int
	StartedAt time.Time
	Took      time.Duration
	Reason    string // at most MaxReason bytes are kept
	Stack     string // at most MaxStack bytes are kept
}

// Wait is for one message. It is met by the lowest message of Topic with Key, sent
// since Since, at a position above After — whichever was committed first, the
// message or the wait. Met, it turns into mail of kind Arrived, once, and is gone.
type Wait struct {
	N     int // the record that waits
	Topic Topic
	Key   string
	Since time.Time
	After Pos
	// Reply is 1 + the index in the change's Sends of a request: the wait is for its
	// reply, matched by Cause; Key, Since and After are then of no meaning.
	Reply int
}

// LockAct acquires or releases a named lock. A lock has one holder at a time, a
// run; those who want it wait in the order of their acts and are told by mail of
// kind Locked. Acquiring what the run holds already, and releasing what it does not
// hold (which takes it out of the line), succeed. A run that ends releases all.
type LockAct struct {
	N       int // the record of the acquisition
	Name    string
	Release bool
	// Fence is set when the lock was granted at once: higher than any fence of this
	// lock before. 0: the run waits for it.
	Fence int64
}

// MailKind says what has come.
type MailKind uint8

const (
	Arrived    MailKind = iota + 1 // Message, for the wait of record N
	Locked                         // with Fence, for record N
	ChildEnded                     // Child, for record N
	CancelMail                     // By, Why
	// A person's decisions about a run that needs one. Step is the record's name; empty: the run itself.
	RetryMail   // try again, with all attempts before it
	SettleMail  // it has happened, with Value; or it has Failed, with Why
	SkipMail    // go on without it
	AbandonMail // give the run up: it fails, and compensates
)

// Mail is what came to a run from outside.
type Mail struct {
	Run     RunNo
	No      int64 // ascending over the whole store
	At      time.Time
	Kind    MailKind
	N       int
	Message *Message // with body
	Child   *RunEnd
	Fence   int64

	Step    string
	Value   []byte
	Failed  bool
	By, Why string
}

// RunEnd is how a run ended.
type RunEnd struct {
	No      RunNo
	ID      string
	Outcome Outcome // Running: it has not
	Result  []byte
	Reason  string
	EndedAt time.Time
}

// Run is a run as a claim gives it: leased, with its records and unread mail.
type Run struct {
	RunRef
	Workflow    string
	ID          string
	Version     int
	Input       []byte
	Headers     []byte
	StartedAt   time.Time
	Deadline    time.Time
	Cause       string
	Correlation string
	Parent      RunNo
	Crashes     int       // how often a process ended uncleanly while it leased the run, since it was last Sober
	Records     []*Record // by N
	Mail        []Mail    // by No
}

const (
	MaxRecords      = 1<<20 - 1 // records of one run: a million steps, and room for notes and compensations
	MaxAttempts     = 10_000    // failed attempts in a run's story, of those that are kept
	MaxRunID        = 512       // bytes of a run's ID
	MaxClaimRecords = 50_000    // records loaded by one claim, beyond its first run
	MaxClaimBytes   = 16 << 20  // and of these records' values, names, headers and reasons
	MaxLocks        = 100       // acts on locks in one update
	MaxWaits        = 1_000     // waits of one run at a time
)

// RunConflictError refuses a start whose ID belongs to a run with another input, or of another parent.
type RunConflictError struct {
	Workflow, ID string
	Parent       bool // it is the parent that differs
}

func (e *RunConflictError) Error() string {
	if e.Parent {
		return fmt.Sprintf("run %s of %s exists and was not started by this run", e.ID, e.Workflow)
	}
	return fmt.Sprintf("run %s of %s exists with another input: use another ID, or look at it with weir run show", e.ID, e.Workflow)
}
