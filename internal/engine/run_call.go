package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/weir-go/weir/store"
)

// Call is one call of a workflow's function on its run, without types.
type Call struct {
	Kind    store.StepKind
	Name    string
	Key     string
	Was     []string
	Headers []byte
	Retry   Retry
	Timeout time.Duration // of one attempt
	Within  time.Duration // of the whole call; 0: no limit
	Every   time.Duration // of Until
	DoneIf  []error
	FailIf  []error

	// Do makes one attempt. With an error that DoneIf knows the value counts too.
	Do func(ctx context.Context) ([]byte, error)
	// DoTx is done in the transaction that records its result. With an error that DoneIf knows that is undone, and the value recorded.
	DoTx func(ctx context.Context, tx store.Tx) ([]byte, error)
	// Verify finds out whether a Once has happened. May be nil.
	Verify func(ctx context.Context) ([]byte, Outcome, error)
	// Met asks for a constraint.
	Met func(ctx context.Context) (met bool, reason string, err error)
	// What is waited for; of Until, what makes it ask again. Topic "" is nothing.
	Topic store.Topic
	On    string // the key
	// Request is what Ask sends; Child what it starts.
	Request *store.Message
	Child   *store.RunStart
	Lock    string

	name string // of a compensation's record
}

// Outcome is what a verification found.
type Outcome uint8

const (
	Unknown Outcome = iota
	Happened
	NotHappened
)

var (
	// ErrOmitted is given for a step that was skipped, or a best effort that failed.
	ErrOmitted = errors.New("omitted")
	// ErrWithin is a call that is past its Within.
	ErrWithin = errors.New("past its time")

	errMisused = errors.New("its *Run was misused")
)

// StepError is why a step failed, as it is recorded: live as in a replay.
type StepError struct {
	Step   string
	Reason string
	is     []error
}

func (e *StepError) Error() string { return fmt.Sprintf("%s: %s", e.Step, e.Reason) }

// Unwrap gives the sentinels (FailIf) that the error was, and ErrWithin.
func (e *StepError) Unwrap() []error { return e.is }

// failed is what is kept of a failure beside its text.
type failed struct {
	Is     []string `json:"is,omitempty"` // the sentinels' texts
	Within bool     `json:"within,omitempty"`
}

// failure is the error of a failed record.
func failure(r *store.Record, c *Call) error {
	e := &StepError{Step: r.Name, Reason: r.Reason}
	if len(r.Value) == 0 {
		return e
	}
	var f failed
	if err := json.Unmarshal(r.Value, &f); err != nil {
		return e
	}
	for _, sentinel := range c.FailIf {
		for _, text := range f.Is {
			if clip(sentinel.Error(), sentinelMax) == text {
				e.is = append(e.is, sentinel)
			}
		}
	}
	if f.Within {
		e.is = append(e.is, ErrWithin)
	}
	return e
}

// call makes a call of a kind that attempts something.
func (st *Strand) call(c *Call) ([]byte, error) {
	var rec *record
	name := c.name
	if name == "" {
		rec, name = st.find(c)
	} else {
		st.s.mu.Lock()
		rec = st.s.ledger.find(name)
		st.s.mu.Unlock()
		if rec != nil && rec.get().Kind != c.Kind {
			st.Park(otherKind(name, rec.get(), c))
		}
	}
	if rec != nil && rec.settled() {
		return st.given(rec.get(), c)
	}
	if c.Kind == store.KindOnce {
		return st.once(c, name, rec)
	}
	return st.attempts(c, name, rec)
}

// Step makes a call of kind step, try or once.
func (st *Strand) Step(c *Call) ([]byte, error) {
	st.enter()
	defer st.exit()
	return st.call(c)
}

// attempts tries until the step is settled, parked or has to wait for long.
func (st *Strand) attempts(c *Call, name string, rec *record) ([]byte, error) {
	for {
		if rec != nil {
			st.checkpoint()
			if rec.get().State == store.StepParked {
				st.block(block{rec: rec, parked: parkedReason(rec)})
			}
			if !st.pause(rec, false) {
				st.block(block{rec: rec, due: rec.get().Due})
			}
			if c.Kind == store.KindStep && st.past(c, rec) {
				st.giveUp(c, rec)
			}
			if rec.settled() {
				return st.given(rec.get(), c)
			}
		}
		st.checkpoint()
		st.await()
		number := 1
		first := st.s.w.e.Now()
		if rec != nil {
			number, first = rec.get().Attempt+1, rec.get().StartedAt
		}
		a := st.attempt(c.within(st.s.w.e.since(first)), name, number)
		if a.stopped {
			st.checkpoint() // cancelled, or lost
			st.unwind(endStopped)
		}
		a.first = first
		rec = st.settle(c, name, rec, a)
		if rec.settled() {
			return st.given(rec.get(), c)
		}
	}
}

// within is the call with what is left of its time for one attempt, of which some is spent.
func (c *Call) within(spent time.Duration) *Call {
	left := c.Within - spent
	if c.Within <= 0 || left >= c.Timeout {
		return c
	}
	cut := *c
	cut.Timeout = max(left, time.Millisecond)
	return &cut
}

func parkedReason(r *record) string { return "step " + r.get().Name + ": " + r.get().Reason }

// settle records how an attempt ended.
func (st *Strand) settle(c *Call, name string, rec *record, a attempted) *record {
	s := st.s
	v := judgeStep(c, a)
	if c.DoTx != nil && a.err == nil || v.state == store.StepDone && a.leaving.any() {
		return st.settleTx(c, name, rec, a, v)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired != nil {
		return st.lost(rec, c, name)
	}
	rec = st.settled(c, name, rec, a, v)
	s.write(s.open(), rec)
	s.recordAttempt(rec, a, v)
	return rec
}

// lost keeps a strand of a retired slice going until its next checkpoint.
func (st *Strand) lost(rec *record, c *Call, name string) *record {
	if rec == nil {
		rec = nowhere(&store.Record{Name: name, Kind: c.Kind, Due: st.s.w.e.Now()})
	}
	return rec
}

// settled gives a record what an attempt's verdict says. The caller holds s.mu.
func (st *Strand) settled(c *Call, name string, rec *record, a attempted, v stepVerdict) *record {
	if rec == nil {
		rec = st.begin(c, name, v.state)
		rec.get().StartedAt = a.started
	} else {
		r := *rec.get()
		rec.set(&r)
	}
	r := rec.get()
	r.State, r.Value, r.Reason, r.Due = v.state, v.value, v.reason, v.due
	r.Attempt, r.Took = a.number, a.started.Add(a.took).Sub(r.StartedAt)
	if v.again {
		r.Attempt--
	}
	st.s.progress = true
	if st.s.run.Crashes > 0 {
		st.s.open().update.Sober = true
	}
	return rec
}

// recordAttempt keeps a failed attempt for people. The caller holds s.mu.
func (s *slice) recordAttempt(rec *record, a attempted, v stepVerdict) {
	if a.err == nil || v.state == store.StepDone || v.again || a.number > attemptsKept {
		return
	}
	u := &s.open().update
	u.Attempts = append(u.Attempts, store.StepAttempt{
		N: rec.get().N, Attempt: a.number, StartedAt: a.started, Took: a.took,
		Reason: clip(a.err.Error(), store.MaxReason), Stack: stackOf(a.err),
	})
}

// attemptsKept bounds the failed attempts kept of a record: one that is asked again without an end has more.
const attemptsKept = 10_000

// settleTx has a result recorded in the transaction of the step's own closure, or together with what a compensation sends.
func (st *Strand) settleTx(c *Call, name string, rec *record, a attempted, v stepVerdict) *record {
	s := st.s
	var kept *record
	var value []byte // counts with an error that DoneIf knows, too
	if a.leaving.any() {
		st.route(a.leaving.messages)
	}
	err := st.awaitAlone(func(ch *chapter) {
		kept = st.settled(c, name, rec, a, v)
		r := kept.get()
		s.write(ch, kept)
		st.depart(ch, a.leaving)
		if c.DoTx == nil {
			return
		}
		ch.change.Closures = []store.Closure{guarded(func(ctx context.Context, tx store.Tx) error {
			var err error
			value, err = c.DoTx(withStep(ctx, st, name, a.number), tx)
			r.Value = value
			return err
		})}
	})
	if err == nil {
		s.mu.Lock()
		s.ledger.weigh(kept)
		s.mu.Unlock()
		return kept
	}
	a.value, a.err, a.took = value, err, s.w.e.since(a.started)
	if a.leaving.any() {
		a.err = st.roomless(err)
	}
	v = judgeStep(c, a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired != nil {
		return st.lost(rec, c, name)
	}
	kept = st.settled(c, name, kept, a, v)
	s.write(s.open(), kept)
	s.recordAttempt(kept, a, v)
	return kept
}
