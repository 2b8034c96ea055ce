package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

// slice is one stay of a run in memory: from its claim until it waits, is parked
// or has ended. Its function runs in a goroutine of its own, from the beginning:
// steps that are recorded give what they gave, the next one is done.
type slice struct {
	w   *workflow
	run *store.Run
	// begun is when the slice began: a suspect that has run for some time lets others start.
	begun time.Time
	left  bool          // memory; under w.mu
	gone  chan struct{} // of a suspect: closed when the slice has left

	mu       sync.Mutex
	ledger   ledger
	read     int64           // mail dealt with, up to this number
	ending   *ending         // it fails or is cancelled: compensations run, nothing new is begun
	undos    undoing         // what compensates, in the reverse order
	strands  []*Strand       // that live
	retired  error           // why all strands unwind at their next call, without a verdict
	sealed   bool            // a verdict is given: nothing more is written
	halted   string          // why nothing new is begun, and the run is parked: a wait of its was refused
	over     bool            // it is committed, or the run is lost to us
	listener []chan struct{} // of All: told of mail
	deadline *time.Timer
	places   int // taken by strands for steps that are not in the ledger yet

	// What is written; see scribe.
	first    chapter
	spare    *chapter // committed, to be used again
	pending  []*chapter
	taken    *chapter
	queued   bool
	gen      uint64
	durable  uint64
	awaiting []*Strand
	progress bool                 // something was done since the claim
	consumed map[string]store.Pos // by what was waited for: the last message taken
}

// ending says that a run is to fail or be cancelled, once its compensations are done.
type ending struct {
	Outcome store.Outcome `json:"outcome"`
	Reason  string        `json:"-"`
	// Force: what is unknown stays so; a person has given the run up.
	Force bool `json:"force,omitempty"`
}

// Names of notes begin with a colon, as no step's name may.
const (
	noteEnding = ":ending"
	noteDrift  = ":drift"
	noteAct    = ":act"
	noteOld    = ":look-back"
)

func newSlice(w *workflow, run *store.Run) *slice {
	s := &slice{w: w, run: run, begun: time.Now()}
	s.ledger.bytes = len(run.Input)
	for _, r := range run.Records {
		rec := s.ledger.add(r)
		if isUndoNote(r) {
			s.undos.load(r)
		}
		if r.Name == noteEnding {
			s.ending = &ending{Reason: r.Reason}
			_ = json.Unmarshal(r.Value, s.ending) // our own; what is unreadable ends as running, which conclude repairs
			rec.asked = true
		}
	}
	return s
}

// start runs the function; workers counts it.
func (s *slice) start() {
	s.mu.Lock()
	s.receive(s.run.Mail, s.w.e.Now())
	s.run.Mail, s.run.Records = nil, nil
	if d := s.run.Deadline; !d.IsZero() && s.ending == nil {
		if left := s.w.e.until(d); left > 0 {
			s.deadline = time.AfterFunc(left, s.pastDeadline)
		} else {
			s.endWith(s.tooLate())
		}
	}
	reason := s.hopeless()
	s.mu.Unlock()
	if reason != "" {
		s.conclude(func() { s.leave(store.Parked, reason) })
		return
	}
	s.goMain()
}

// hopeless is why the run is not to be started at all.
func (s *slice) hopeless() string {
	if s.run.Crashes >= runCrashLimit && !s.progress {
		return fmt.Sprintf("its process ended uncleanly %d times while it ran, at last alone: look for what it does, then retry", s.run.Crashes)
	}
	return ""
}

// runCrashLimit is after how many crashes a run is parked: of these it ran alone in all but the first two.
const runCrashLimit = 4

func (s *slice) goMain() {
	s.w.e.spawn(func() {
		st := s.strand("", s.run.StartedAt)
		var result []byte
		var err error
		returned := false
		defer func() { s.mainEnded(st, returned, result, err, recover()) }()
		result, err = s.w.settings.Work(st)
		returned = true
	})
}

// mainEnded decides what becomes of the run after its function has returned or was unwound.
func (s *slice) mainEnded(st *Strand, returned bool, result []byte, err error, panicked any) {
	s.drop(st)
	end := s.isEnding()
	switch {
	case end != nil && end.Force && st.end != endStopped:
		s.compensate(returned && st.end == endNone) // whatever its function came to: a person has given the run up
	case returned && st.unwoundElsewhere():
		s.misused(st)
		s.conclude(func() {})
	case panicked != nil:
		stack := clip(string(debug.Stack()), store.MaxStack)
		s.conclude(func() {
			s.leave(store.Parked, fmt.Sprintf("the workflow's function panicked: %v\n%s", panicked, stack))
		})
	case returned && st.end == endStopped:
		s.conclude(func() {})
	case returned && err == nil && s.completes(result):
	case returned && end == nil && err != nil:
		s.fail(err)
		s.compensate(returned && st.end == endNone)
	case returned, st.end == endCancelled:
		s.compensate(returned && st.end == endNone)
	case st.end == endBlocked:
		s.conclude(func() { s.suspend(st.blocks) })
	case st.end == endParked:
		s.conclude(func() { s.leave(store.Parked, st.reason) })
	case st.end == endStopped:
		s.conclude(func() {})
	default:
		s.conclude(func() { s.leave(store.Parked, "the workflow's function called runtime.Goexit") })
	}
}

func (s *slice) isEnding() *ending {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending
}

// conclude gives the verdict, unless the run is lost to us. Without one the lease
// stays with the process, whose end hands it back.
func (s *slice) conclude(verdict func()) {
	s.mu.Lock()
	if s.retired == nil && !s.sealed {
		verdict()
	}
	silent := !s.sealed
	if s.deadline != nil {
		s.deadline.Stop()
	}
	s.mu.Unlock()
	if silent {
		s.w.released(s, nil, ErrStopping)
	}
}

// completes ends a run whose function has returned a result; false when it is to end otherwise.
func (s *slice) completes(result []byte) (yes bool) {
	s.mu.Lock()
	yes = s.ending == nil // looked at in the lock: a cancellation may come at any time
	if yes && s.retired == nil && !s.sealed {
		s.complete(result)
	}
	s.mu.Unlock()
	if yes {
		s.conclude(func() {})
	}
	return yes
}

// complete ends a run whose function has returned a result.
func (s *slice) complete(result []byte) {
	s.noteDrift()
	c := s.open()
	c.update.Verdict, c.update.Outcome, c.update.Result = store.Ended, store.Completed, result
	s.seal(c)
}

// finish ends a run that fails or is cancelled, after its compensations.
func (s *slice) finish() {
	s.noteDrift()
	c := s.open()
	c.update.Verdict, c.update.Outcome, c.update.Reason = store.Ended, s.ending.Outcome, s.ending.Reason
	if c.update.Outcome == store.Running {
		c.update.Outcome = store.Failed
	}
	s.seal(c)
}

// leave parks the run. Its function may not have come to all that is recorded.
func (s *slice) leave(v store.RunVerdict, reason string) {
	c := s.open()
	c.update.Verdict, c.update.Reason = v, clip(reason, store.MaxReason)
	s.seal(c)
	s.w.e.log.Error(logParked, keyWorkflow, s.w.settings.Name, keyRun, s.run.ID, keyError, firstLine(reason))
}

const logParked = "run needs a person: see weir run why"

// suspend releases the run until one of what its strands wait for comes.
func (s *slice) suspend(blocks []block) {
	if s.halted != "" && s.ending == nil { // one of them waits for nothing
		s.noteDrift()
		s.leave(store.Parked, s.halted)
		return
	}
	wake := time.Time{}
	for _, b := range blocks {
		if b.parked != "" {
			s.noteDrift()
			s.leave(store.Parked, b.parked)
			return
		}
		if b.rec.met || b.rec.settled() {
			wake = s.w.e.Now() // mail has come since
		} else if due := b.due; !due.IsZero() && (wake.IsZero() || due.Before(wake)) {
			wake = due
		}
	}
	if d := s.run.Deadline; !d.IsZero() && s.ending == nil && (wake.IsZero() || d.Before(wake)) {
		wake = d
	}
	s.noteDrift()
	c := s.open()
	c.update.Verdict, c.update.Wake = store.Waiting, wake
	s.seal(c)
}

// seal completes the last chapter.
func (s *slice) seal(c *chapter) {
	s.sealed = true
	c.update.Read = s.read
	c.update.Sober = s.run.Crashes > 0
}

// noteDrift records what the function no longer asks for.
func (s *slice) noteDrift() {
	names := s.ledger.unasked()
	note := s.ledger.find(noteDrift)
	reason := ""
	if len(names) > 0 {
		reason = "recorded, and not asked for by the code any more: " + strings.Join(names, ", ")
	}
	switch {
	case note == nil && reason == "":
	case note == nil:
		s.note(noteDrift, nil, reason)
	case note.get().Reason != clip(reason, store.MaxReason):
		r := *note.get()
		r.Reason = clip(reason, store.MaxReason)
		s.replace(note, &r)
	}
}

// noteLookBack records, the first time, that a wait looks back to where retention may have deleted events.
func (s *slice) noteLookBack(c *Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep := s.w.e.config.Keep
	from := s.w.e.Now().Add(-keep)
	if c.Topic.Kind != store.KindEvent || !s.run.StartedAt.Before(from) || s.retired != nil || s.sealed || s.ledger.find(noteOld) != nil {
		return
	}
	s.note(noteOld, nil, fmt.Sprintf("%s: what came from %s to %s may be deleted, for Config.Keep is %s", waitsFor(c),
		s.run.StartedAt.UTC().Format(time.RFC3339), from.UTC().Format(time.RFC3339), keep))
}

// note adds a record of what happened to the run.
func (s *slice) note(name string, value []byte, reason string) {
	rec := s.ledger.add(&store.Record{
		N: s.ledger.last + 1, Kind: store.KindNote, State: store.StepDone, Name: name, StartedAt: s.w.e.Now(),
		Value: value, Reason: clip(reason, store.MaxReason),
	})
	rec.asked = true
	s.write(s.open(), rec)
}

// fail begins the end of a run whose function has returned an error.
func (s *slice) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endWith(ending{Outcome: store.Failed, Reason: err.Error()})
}

// endWith records how the run is to end, once. The caller holds s.mu.
func (s *slice) endWith(end ending) {
	if s.ending != nil || s.sealed || s.retired != nil {
		return
	}
	end.Reason = clip(end.Reason, store.MaxReason)
	s.ending = &end
	value, _ := json.Marshal(end)
	if len(s.undos.slots) > 0 || len(s.children()) > 0 || end.Outcome == store.Cancelled || end.Force || len(s.strands) > 0 {
		s.note(noteEnding, value, end.Reason)
	}
}

// pastDeadline cancels a run that takes longer than it may.
func (s *slice) pastDeadline() {
	s.mu.Lock()
	s.endWith(s.tooLate())
	s.interrupt(ErrCancelled)
	s.mu.Unlock()
}

func (s *slice) tooLate() ending {
	return ending{Outcome: store.Cancelled, Reason: "past its deadline of " + s.run.Deadline.UTC().Format(time.RFC3339)}
}

// interrupt cancels the steps under way, and wakes who waits in memory.
func (s *slice) interrupt(cause error) {
	for _, st := range s.strands {
		st.interrupt(cause)
	}
	s.announce()
}

func (s *slice) isRetired() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retired != nil
}

// announce tells those who wait in All that something has come.
func (s *slice) announce() {
	for _, ch := range s.listener {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// retire makes all strands unwind: what they still do is refused.
func (s *slice) retire(err error) {
	if s.retired == nil {
		s.retired = err
	}
	s.interrupt(err)
}

// compensate runs what the run registered for the case that it does not complete,
// the last first, then ends it. Before that its children end, and a person is asked if not all of
// it may be known: whole says that the function has returned, else it was cut short.
func (s *slice) compensate(whole bool) {
	s.w.e.workers.Go(func() {
		st := s.strand("", s.run.StartedAt)
		st.compensating = true
		returned := false
		defer func() { s.compensated(st, returned, recover()) }()
		st.endChildren()
		st.faceUnreached(whole)
		for _, c := range s.toUndo() {
			_, _ = st.call(c) // never an error: it is parked first
		}
		returned = true
	})
}

func (s *slice) compensated(st *Strand, returned bool, panicked any) {
	s.drop(st)
	switch {
	case panicked != nil:
		s.conclude(func() { s.leave(store.Parked, fmt.Sprintf("a compensation panicked: %v", panicked)) })
	case returned:
		s.conclude(s.finish)
	case st.end == endBlocked:
		s.conclude(func() { s.suspend(st.blocks) })
	case st.end == endParked:
		s.conclude(func() { s.leave(store.Parked, st.reason) })
	case st.end == endStopped:
		s.conclude(func() {})
	default: // else it would stay leased, and nobody would know
		s.conclude(func() {
			s.leave(store.Parked, "a compensation called runtime.Goexit, or used its *Run: it gets a context, and with that it sends through the *Run")
		})
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// ErrCancelled is the cause of a step's context cancelled because its run is.
var ErrCancelled = errors.New("the run is cancelled")
