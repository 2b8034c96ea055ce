package acts

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

// Entry is what the audit keeps of an act beside who, when and why.
type Entry struct {
	Target        string
	Before, After any // what changed: one of this package's types
}

// Texts are the entry's states as JSON.
func (e Entry) Texts() (before, after string, err error) {
	b, err := json.Marshal(e.Before)
	if err != nil {
		return "", "", err
	}
	a, err := json.Marshal(e.After)
	return string(b), string(a), err
}

// Queue is what the audit keeps of a queue.
type Queue struct {
	Paused    bool       `json:"paused"`
	PausedAt  *time.Time `json:"paused_at,omitempty"`
	PausedBy  string     `json:"paused_by,omitempty"`
	PausedWhy string     `json:"paused_why,omitempty"`
	Parked    bool       `json:"parked"`
	Gaps      int64      `json:"gaps,omitempty"`
}

// QueueOf is a queue's state as it is now.
func QueueOf(q *store.QueueState) Queue {
	a := Queue{Parked: q.Parked, Gaps: q.Gaps}
	if p := q.Paused; p != nil {
		a.Paused, a.PausedAt, a.PausedBy, a.PausedWhy = true, &p.At, p.By, p.Why
	}
	return a
}

// Run is what the audit keeps of a run.
type Run struct {
	State  store.RunState `json:"state"`
	Reason string         `json:"reason,omitempty"`
	Step   string         `json:"step,omitempty"`
	Failed bool           `json:"failed,omitempty"`
	Value  *Content       `json:"value,omitempty"`
	Mail   int64          `json:"mail,omitempty"`
}

// Decided is a decision about a run, which it will read as mail of this number.
func Decided(a store.Act, run *store.RunRow, step string, mail int64) Entry {
	before := Run{State: run.State, Reason: run.Reason}
	after := Run{State: run.State, Step: step, Failed: a.Failed, Value: ContentOf(a.Body), Mail: mail}
	if run.State == store.RunWaiting || run.State == store.RunParked {
		after.State = store.RunReady
	}
	return Entry{"run " + run.ID + " of " + run.Workflow, before, after}
}

// Lock is what the audit keeps of a lock.
type Lock struct {
	Holder string `json:"holder,omitempty"`
	Fence  int64  `json:"fence,omitempty"`
	Line   int    `json:"line"`
}

// LockOf is a lock as it is now; nil is one that nobody holds.
func LockOf(rows []store.LockRow) Lock {
	if len(rows) == 0 {
		return Lock{}
	}
	return Lock{rows[0].HolderID, rows[0].Fence, len(rows[0].Waiters)}
}

// Lane is what the audit keeps of a lane: up to where it was here, and what came.
type Lane struct {
	Batch     int64      `json:"batch,omitempty"`
	Index     int        `json:"index,omitempty"`
	At        *time.Time `json:"at,omitempty"`
	Arrived   int64      `json:"arrived,omitempty"`
	Forgotten bool       `json:"forgotten"`
}

// Forgotten is a lane that is forgotten, if it is silent.
func Forgotten(row *store.ArrivalRow, now time.Time) (Entry, error) {
	last := row.At
	if row.DrainedAt.After(last) {
		last = row.DrainedAt
	}
	if now.Sub(last) < store.ForgetAfter {
		return Entry{}, fmt.Errorf("%w: lane %s was last heard of at %s: forget it once its sender is gone for good, and silent for %s",
			store.ErrConflict, row.Lane, last.Format(time.RFC3339), store.ForgetAfter)
	}
	before := Lane{Batch: row.Have.Batch, Index: row.Have.Index, At: &row.At, Arrived: row.Arrived}
	return Entry{"lane " + row.Lane, before, Lane{Forgotten: true}}, nil
}

// Wish is what the audit keeps of a wish for a snapshot of a replica.
type Wish struct {
	Version int64      `json:"version"` // 0: there was none
	At      *time.Time `json:"at,omitempty"`
}

// Resynced is a wish that follows another, of which the version is 0 if there was none.
func Resynced(a store.Act, before *store.State) (Entry, error) {
	state := a.State
	e := Entry{Target: "replica " + a.ID, After: Wish{state.Version, &state.AsOf}}
	if before.Version >= state.Version {
		return e, fmt.Errorf("%w: a later wish for %s is here already", store.ErrConflict, a.ID)
	}
	was := Wish{Version: before.Version}
	if was.Version > 0 {
		was.At = &before.AsOf
	}
	e.Before = was
	return e, nil
}

// Life is what the audit keeps of a store's life.
type Life struct {
	Incarnation store.Incarnation `json:"incarnation"`
	Base        int64             `json:"base"`
}

// Renewed is the beginning of a store's next life.
func Renewed(before, after store.Info) Entry {
	return Entry{"store", Life{before.Incarnation, before.Base}, Life{after.Incarnation, after.Base}}
}

// Content proves what an edit replaced and by what, without another copy of
// what may be private: the journal has the original, edits the latest.
type Content struct {
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// ContentOf is of a body or of headers; nil if there are none.
func ContentOf(b []byte) *Content {
	if b == nil {
		return nil
	}
	sum := sha256.Sum256(b)
	return &Content{Bytes: len(b), SHA256: hex.EncodeToString(sum[:])}
}

// Letter is what the audit keeps of one dead letter.
type Letter struct {
	State    string   `json:"state"`
	Attempts int      `json:"attempts,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Parked   int      `json:"parked,omitempty"` // followers that came along
	Body     *Content `json:"body,omitempty"`
	Headers  *Content `json:"headers,omitempty"`
}

// Letters is what the audit keeps of many.
type Letters struct {
	State string `json:"state"`
	Count int    `json:"count"`
	First string `json:"first"`
	Last  string `json:"last"`
	More  bool   `json:"more,omitempty"`
}

// Dead is a dead letter that is settled.
type Dead struct {
	Queue    string
	Attempts int
	Reason   string
	Follows  bool // settled because the one before it is
}

// dead letters' states in the audit
const (
	stateDead      = "dead"
	stateDeferred  = "deferred"
	stateDiscarded = "discarded"
)

func stateAfter(v store.Verb) string {
	if v == store.DiscardDead {
		return stateDiscarded
	}
	return stateDeferred
}

// SettledAll is the settling of the dead letters that an act found by queue and reason: the
// first, the last, and how many they are.
func SettledAll(a store.Act, first, last string, count int, more bool) Entry {
	target := "dead letters"
	if a.Queue != "" {
		target += " of " + a.Queue
	}
	if a.Matching != "" {
		target += fmt.Sprintf(" matching %q", a.Matching)
	}
	before := Letters{State: stateDead, Count: count, More: more, First: first, Last: last}
	after := before
	after.State = stateAfter(a.Verb)
	return Entry{target, before, after}
}

// Settled is the settling of one message's dead letters, and of those parked behind them; body
// and headers are the journal's, of a message that is edited.
func Settled(a store.Act, letters []Dead, body, headers []byte) Entry {
	var names []string
	parked := 0
	for _, l := range letters {
		if l.Follows {
			parked++
		} else {
			names = append(names, l.Queue)
		}
	}
	before := Letter{State: stateDead, Attempts: letters[0].Attempts, Reason: letters[0].Reason, Parked: parked,
		Body: ContentOf(body), Headers: ContentOf(headers)}
	after := Letter{State: stateAfter(a.Verb), Parked: parked, Body: ContentOf(a.Body), Headers: ContentOf(a.Headers)}
	return Entry{"dead " + a.ID + " of " + strings.Join(names, ", "), before, after}
}

// Edits reports whether an act replaces a message's body or headers.
func Edits(a store.Act) bool { return a.Body != nil || a.Headers != nil }
