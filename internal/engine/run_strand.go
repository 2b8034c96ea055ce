package engine

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/weir-go/weir/store"
)

// Strand is one goroutine's view of a run: the function's own, or a branch's.
// A call that cannot return now unwinds the goroutine by runtime.Goexit.
type Strand struct {
	s            *slice
	prefix       string   // of its records' names: "all/branch/"
	was          []string // what that was before, in the words of other programs
	compensating bool     // runs compensations, so a run that ends does not stop it
	counts       counter
	undoCounts   counter   // of compensations
	now          time.Time // of the last record it was given
	busy         atomic.Bool
	depth        int  // of the All that it is a branch of
	placed       bool // it has a place for a step that is not in the ledger yet; under s.mu

	wake   chan struct{} // what was awaited is durable
	awaits uint64

	// Why it unwound.
	end    strandEnd
	blocks []block
	reason string
	// unwound is since when it unwinds; under s.mu
	unwound time.Time

	current *stepContext  // of the attempt under way; under s.mu
	nudge   chan struct{} // of a pause, nil otherwise; under s.mu
}

type strandEnd uint8

const (
	endNone      strandEnd = iota // by itself
	endBlocked                    // it waits: see blocks
	endParked                     // a person must look at it: see reason
	endCancelled                  // the run is to end, and it has nothing under way
	endStopped                    // the engine stops, or the run is lost to us
)

// block is what a strand waits for.
type block struct {
	rec    *record
	due    time.Time // zero: only for mail
	parked string    // or a person must decide, and why
}

func (s *slice) strand(prefix string, now time.Time) *Strand {
	st := &Strand{s: s, prefix: prefix, now: now.UTC(), wake: make(chan struct{}, 1)}
	s.mu.Lock()
	s.strands = append(s.strands, st)
	s.mu.Unlock()
	return st
}

// drop takes out a strand that has ended.
func (s *slice) drop(st *Strand) {
	s.mu.Lock()
	st.givePlace()
	for i, other := range s.strands {
		if other == st {
			s.strands = append(s.strands[:i], s.strands[i+1:]...)
			break
		}
	}
	s.mu.Unlock()
}

// ID is the run's ID.
func (st *Strand) ID() string { return st.s.run.ID }

// Run is the run. It must not be changed.
func (st *Strand) Run() *store.Run { return st.s.run }

// Now is the time of the last record that this strand was given, or the run's start.
func (st *Strand) Now() time.Time { return st.now }

// Reference is the run in text, unique over all stores.
func (st *Strand) Reference() string { return st.s.w.e.st.Info().Incarnation.RunID(st.s.run.No) }

// unwind ends the goroutine. Deferred functions run.
func (st *Strand) unwind(end strandEnd) {
	st.end = end
	st.s.mu.Lock()
	st.unwound = time.Now()
	st.s.mu.Unlock()
	runtime.Goexit()
}

// unwoundElsewhere reports whether a call has unwound another goroutine than the strand's own, which has returned, or
// one is still in a call. No call may follow.
func (st *Strand) unwoundElsewhere() bool {
	return !st.busy.CompareAndSwap(false, true) || st.end == endBlocked || st.end == endParked
}

// unwindGrace is how long deferred functions may take. After it the strand's goroutine waits for ever: for another one,
// which a call has unwound in its place.
const unwindGrace = time.Minute

// block unwinds until one of what is waited for comes.
func (st *Strand) block(blocks ...block) {
	st.blocks = blocks
	st.unwind(endBlocked)
}

// Park unwinds and puts the run on the list of those that need a person.
func (st *Strand) Park(reason string) {
	st.reason = reason
	st.unwind(endParked)
}

// Rest releases the run for a time, without a record.
func (st *Strand) Rest(reason string, d time.Duration) {
	st.s.w.e.log.Warn("a run is left for later", keyWorkflow, st.s.w.settings.Name, keyRun, st.s.run.ID, "why", reason)
	st.block(block{rec: nowhere(&store.Record{}), due: st.s.w.e.Now().Add(d)})
}

// enter begins a call on the run: one at a time, by the goroutine that it was given to.
func (st *Strand) enter() {
	if st.end != endNone {
		runtime.Goexit() // a deferred function's call, while it unwinds
	}
	if !st.busy.CompareAndSwap(false, true) {
		st.s.misused(st)
		runtime.Goexit()
	}
}

func (st *Strand) exit() { st.busy.Store(false) }

// misused parks a run whose *Run was used by two at once, or inside a step.
func (s *slice) misused(st *Strand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealed || s.retired != nil {
		return
	}
	s.leave(store.Parked, misuse)
	s.retire(errMisused)
	st.interrupt(errMisused) // it may have been dropped
	st.reason = errMisused.Error()
}

const misuse = "its *Run was used inside a step, or by two goroutines: a step gets a context, and parallel work is for All"

// checkpoint is passed before anything new is begun: it unwinds when that may not be.
func (st *Strand) checkpoint() {
	s := st.s
	s.mu.Lock()
	retired, ending := s.retired != nil || s.sealed, s.ending != nil && !st.compensating
	halted := s.halted
	s.mu.Unlock()
	switch {
	case retired, s.w.e.stopping.Load():
		st.unwind(endStopped)
	case ending:
		st.unwind(endCancelled)
	case halted != "" && !st.compensating:
		st.Park(halted)
	}
}

// alive unwinds when the run is lost to us, or the engine stops.
func (st *Strand) alive() {
	s := st.s
	s.mu.Lock()
	retired := s.retired != nil || s.sealed
	s.mu.Unlock()
	if retired || s.w.e.stopping.Load() {
		st.unwind(endStopped)
	}
}

// await returns when all that the run has written is durable; what follows may
// have effects.
func (st *Strand) await() {
	s := st.s
	s.mu.Lock()
	if s.retired == nil && s.durable < s.gen {
		st.awaits = s.gen
		s.awaiting = append(s.awaiting, st)
		s.mu.Unlock()
		<-st.wake
		s.mu.Lock()
	}
	retired := s.retired != nil
	s.mu.Unlock()
	if retired {
		st.unwind(endStopped)
	}
}

// awaitAlone has a chapter of its own committed and returns why it was refused.
func (st *Strand) awaitAlone(fill func(*chapter)) error {
	s := st.s
	s.mu.Lock()
	if s.retired != nil || s.sealed {
		s.mu.Unlock()
		st.unwind(endStopped)
	}
	c := s.newChapter()
	c.alone = true
	fill(c)
	s.mu.Unlock()
	st.await()
	return c.change.Err
}

// pause waits in memory until a record is due, or mail for it has come; false if that is
// rather left to the store.
//
// kept: a cancellation does not end the pause, since an outcome must be known first.
func (st *Strand) pause(rec *record, kept bool) bool {
	left := st.s.w.e.until(rec.get().Due)
	if left <= 0 {
		return true
	}
	if left > st.s.w.patience() {
		return false
	}
	s := st.s
	nudge := make(chan struct{}, 1)
	s.mu.Lock()
	st.nudge = nudge
	s.mu.Unlock()
	timer := time.NewTimer(left)
	defer timer.Stop()
	for {
		s.mu.Lock()
		over := s.ending != nil && !st.compensating && (!kept || s.ending.Force) || s.retired != nil || rec.settled() || rec.met
		s.mu.Unlock()
		if over {
			return true // what follows looks why
		}
		select {
		case <-timer.C:
			return true
		case <-nudge:
		case <-s.w.e.stopped:
			return true
		}
	}
}

// prod lets a pausing strand look. The caller holds s.mu.
func (st *Strand) prod() {
	select {
	case st.nudge <- struct{}{}:
	default: // it is nil, or full
	}
}

// interrupt cancels the step under way and ends a pause. The caller holds s.mu.
func (st *Strand) interrupt(cause error) {
	goesOn := st.compensating && errors.Is(cause, ErrCancelled) // it is what the run's end is for
	if st.current != nil && !st.current.kept && !goesOn {
		st.current.cancel(cause)
	}
	st.prod()
}

// find gives the record of a call, or nil and the name it is to have. The caller
// does not hold s.mu.
func (st *Strand) find(c *Call) (rec *record, name string) {
	if fault := faultyName(c.Name); fault != "" {
		st.Park(fault)
	}
	if rec, name = st.lookUp(c); rec == nil {
		st.takePlace()
	}
	if rec != nil && rec.get().Kind == store.KindCompensate {
		st.checkpoint() // a compensation of the same name has begun, so nothing new does
	}
	if rec != nil && !fits(rec.get(), c.Kind) {
		st.Park(otherKind(name, rec.get(), c))
	}
	return rec, name
}

func otherKind(name string, r *store.Record, c *Call) string {
	return fmt.Sprintf("%s was recorded as %s (%s) and the code now has %s there: give it another name", name, r.Kind, r.State, c.Kind)
}

// lookUp finds the record of a call; one that is found keeps the name that it has, and
// with it its idempotency key.
func (st *Strand) lookUp(c *Call) (rec *record, name string) {
	base := st.prefix + c.Name + c.suffix()
	name = st.counts.name(base)
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if rec = s.ledger.find(name); rec == nil && len(c.Was)+len(st.was) > 0 {
		rec = st.findEarlier(c, c.suffix()+name[len(base):])
	}
	if rec != nil {
		rec.asked = true
		name = rec.get().Name
	}
	return rec, name
}

// findEarlier finds the record of a call that had another name, or another place, in an earlier program. The caller holds s.mu.
func (st *Strand) findEarlier(c *Call, suffix string) *record {
	for _, prefix := range st.was {
		if rec := st.s.ledger.find(prefix + c.Name + suffix); rec != nil {
			return rec
		}
	}
	for _, was := range c.Was {
		for _, path := range st.paths(was) {
			if rec := st.s.ledger.find(path + suffix); rec != nil {
				return rec
			}
		}
	}
	return nil
}

// paths are what an earlier name may stand for: with a slash in it, the way from the run's root ("/pay" or "all/branch/pay"), else
// a name in this branch, whatever that was called.
func (st *Strand) paths(was string) []string {
	if strings.Contains(was, "/") {
		return []string{strings.TrimPrefix(was, "/")}
	}
	paths := []string{st.prefix + was}
	for _, prefix := range st.was {
		paths = append(paths, prefix+was)
	}
	return paths
}

func (c *Call) suffix() string {
	if c.Key == "" {
		return ""
	}
	return "[" + c.Key + "]"
}

// fits reports whether a record can stand for a call of a kind: the same one, or
// another that gives a value, once it is settled.
func fits(r *store.Record, kind store.StepKind) bool {
	if r.Kind == kind {
		return true
	}
	settled := r.State >= store.StepDone
	return settled && givesValue(r.Kind) && givesValue(kind)
}

func givesValue(k store.StepKind) bool {
	return k == store.KindStep || k == store.KindTry || k == store.KindOnce
}

// faultyName is what is wrong with a step's name.
func faultyName(name string) string {
	if name == "" || len(name) > nameMax || name[0] == ':' || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == '#' || c == '/' || c == 0x7f }) {
		return fmt.Sprintf("step name %q: want 1 to %d bytes without control characters, # and /, not beginning with a colon", name, nameMax)
	}
	return ""
}

// begin adds a record for a call, in a state. The caller holds s.mu and writes it.
func (st *Strand) begin(c *Call, name string, state store.StepState) *record {
	s := st.s
	st.givePlace()
	return s.ledger.begin(store.Record{
		N: s.ledger.last + 1, Kind: c.Kind, State: state, Name: name, StartedAt: s.w.e.Now(), Headers: c.Headers,
	})
}

// given is what a settled record gives the function.
func (st *Strand) given(r *store.Record, c *Call) ([]byte, error) {
	// In the store's resolution, so that a replay gives the same.
	if at := time.UnixMicro(r.StartedAt.UnixMicro() + r.Took.Microseconds()).UTC(); at.After(st.now) {
		st.now = at
	}
	switch r.State {
	case store.StepDone:
		return r.Value, nil
	case store.StepOmitted:
		return nil, ErrOmitted
	}
	return nil, failure(r, c)
}
