package engine

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

// intent is kept in an open Once record's Value.
type intent struct {
	At       time.Time     `json:"at"`      // when the call was about to be made
	Timeout  time.Duration `json:"timeout"` // that it was given, with what its commit may take
	Verifies int           `json:"verifies,omitempty"`
	Retried  bool          `json:"retried,omitempty"` // by a person: where nothing verifies, it has not happened
	Not      bool          `json:"not,omitempty"`     // verified, and believed: it has not happened
}

func readIntent(value []byte) intent {
	var i intent
	_ = json.Unmarshal(value, &i) // our own
	return i
}

func (i intent) again() intent {
	i.Verifies, i.Retried, i.Not = 0, true, false
	return i
}

func (i intent) encode() []byte {
	data, _ := json.Marshal(i)
	return data
}

func encodeFailed(f failed) []byte {
	if len(f.Is) == 0 && !f.Within {
		return nil
	}
	data, _ := json.Marshal(f)
	return data
}

// underWay are the calls of Once whose functions have not returned, by idempotency key. The engine keeps them: a
// function that ignores its context goes on when its run has left memory, and when a life has ended.
type underWay struct {
	mu    sync.Mutex
	calls map[string]int
}

func (u *underWay) begin(key string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.calls == nil {
		u.calls = map[string]int{}
	}
	u.calls[key]++
}

func (u *underWay) end(key string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.calls[key]--; u.calls[key] == 0 {
		delete(u.calls, key)
	}
}

func (u *underWay) has(key string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.calls[key] > 0
}

// stillRuns is why a call is not made again, whatever its verification or a person says.
const stillRuns = "the function of an earlier call still runs in this process, and what it does may happen yet. It must honour its context: " +
	"retry when it has returned, or this process has ended"

// once makes a call that must not be made twice. The intent is durable before the
// call; after it, anything but success or a failure that the caller knows to be one
// is an outcome that is not known, and that is found out before anything is tried again.
//
// While a call's function still runs here, nobody is believed that it has not happened.
//
//	(none) ─▶ intent ─call─▶ done | failed
//	   ▲          │ any other error, or a crash
//	   │          ▼
//	   └──────  unknown ─verify─▶ done, when it has happened
//	 it has not   └─▶ needs a person, when nobody can tell
func (st *Strand) once(c *Call, name string, rec *record) ([]byte, error) {
	for {
		if rec == nil || rec.get().State == store.StepPending {
			rec = st.intend(c, name, rec)
		} else {
			st.resolve(c, rec)
		}
		if rec.settled() {
			return st.given(rec.get(), c)
		}
	}
}

// intentCommit is what the commit of an intent may take without taking from the call's time:
// some orders of magnitude above what is usual, and a short time to wait after a crash.
const intentCommit = time.Second

var errIntentLate = errors.New("the call was not made: to record that it would be took longer than it may take")

// intend commits the intent and makes the call.
func (st *Strand) intend(c *Call, name string, rec *record) *record {
	st.checkpoint()
	if rec != nil && !st.pause(rec, false) {
		st.block(block{rec: rec, due: rec.get().Due})
	}
	st.checkpoint()
	s := st.s
	if rec != nil && s.w.e.calls.has(st.idempotencyKey(name)) { // others have found that it has not happened: they know nothing of it
		st.change(rec, stepVerdict{state: store.StepUnknown, reason: "outcome unknown: " + stillRuns})
		return rec
	}
	s.mu.Lock()
	if rec == nil {
		rec = st.begin(c, name, store.StepIntent)
	} else {
		r := *rec.get()
		rec.set(&r)
	}
	r := rec.get()
	r.State, r.Due, r.Reason = store.StepIntent, time.Time{}, ""
	r.Attempt++
	made := s.w.e.Now()
	most := c.Timeout + intentCommit
	r.Value = intent{At: made, Timeout: most}.encode()
	number := r.Attempt
	s.write(s.open(), rec)
	s.mu.Unlock()
	st.await()
	// Another process that takes over believes that it has not happened from twice that time
	// after the intent was made on. So a commit that took long takes from the call's own time.
	a := attempted{number: number, first: r.StartedAt, started: s.w.e.Now(), err: errIntentLate}
	if left := most - s.w.e.since(made); left > 0 {
		call := *c.within(s.w.e.since(r.StartedAt))
		call.Timeout = min(call.Timeout, left)
		a = st.callOnce(&call, name, number, most)
	}
	if a.stopped {
		st.unwind(endStopped) // the intent stands: the next process finds out
	}
	a.first = r.StartedAt
	v := judgeOnce(c, a, r.Value)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired == nil {
		st.settled(c, name, rec, a, v)
		s.write(s.open(), rec)
		s.recordAttempt(rec, a, v)
	}
	return rec
}

// callOnce makes the call, which is under way until its function has returned. One that returns too late counts for
// as long again as it had time: what it has asked for last may still land after an answer "no".
func (st *Strand) callOnce(c *Call, name string, number int, margin time.Duration) attempted {
	calls, key, began := &st.s.w.e.calls, st.idempotencyKey(name), time.Now()
	calls.begin(key)
	defer func() {
		if time.Since(began) <= c.Timeout {
			calls.end(key)
			return
		}
		time.AfterFunc(margin, func() { calls.end(key) })
	}()
	return st.attempt(c, name, number)
}

// judgeOnce decides what the end of a call that must not be made twice means.
func judgeOnce(c *Call, a attempted, intent []byte) stepVerdict {
	v := judgeStep(c, a)
	if v.state == store.StepDone || v.state == store.StepFailed && !pastWithin(c, a) {
		return v
	}
	return stepVerdict{state: store.StepUnknown, value: intent, reason: clip("outcome unknown: "+a.err.Error(), store.MaxReason)}
}

// pastWithin: that time has run out says nothing about what has happened.
func pastWithin(c *Call, a attempted) bool {
	_, failed := fails(c, a.err)
	return !failed
}

// resolve finds out about a call whose outcome is not known.
func (st *Strand) resolve(c *Call, rec *record) {
	st.alive()
	if end := st.s.isEnding(); end != nil && end.Force {
		st.unwind(endCancelled)
	}
	i := readIntent(rec.get().Value)
	if rec.get().State == store.StepParked {
		if i.Not {
			st.checkpoint()
		}
		st.block(block{rec: rec, parked: parkedReason(rec)})
	}
	key := st.idempotencyKey(rec.get().Name)
	if c.Verify == nil {
		v := stepVerdict{state: store.StepParked, value: rec.get().Value, reason: unknownReason(rec)}
		switch {
		case st.s.w.e.calls.has(key):
			v.reason = "outcome unknown: " + stillRuns
		case i.Retried:
			v = stepVerdict{reason: "retried by a person"}
		}
		st.change(rec, v)
		return
	}
	if !st.pause(rec, true) {
		st.block(block{rec: rec, due: rec.get().Due})
	}
	st.alive()
	st.await()
	runs := st.s.w.e.calls.has(key) // looked at before it is asked: what happens meanwhile is not in the answer
	a := st.try(c, rec.get().Name, rec.get().Attempt, true, func(ctx context.Context, a *attempted) {
		a.value, a.outcome, a.err = c.Verify(ctx)
	})
	if a.stopped {
		st.unwind(endStopped)
	}
	a.first, a.number = rec.get().StartedAt, rec.get().Attempt
	st.change(rec, judgeVerified(c, a, i, rec, runs))
}

func unknownReason(rec *record) string {
	if rec.get().State == store.StepIntent {
		return "outcome unknown: the process ended during the call"
	}
	return rec.get().Reason
}

// judgeVerified decides what a verification means. It reads no clock. runs: the call's function had not returned.
func judgeVerified(c *Call, a attempted, i intent, rec *record, runs bool) stepVerdict {
	now := a.started.Add(a.took)
	if a.err == nil && a.outcome == Happened {
		return stepVerdict{state: store.StepDone, value: a.value, reason: "verified: it had happened"}
	}
	if a.err == nil && a.outcome == NotHappened {
		// A request still on its way may land after the answer "no".
		if believed := i.At.Add(2 * i.Timeout); now.Before(believed) {
			return stepVerdict{state: store.StepUnknown, value: i.encode(), due: believed,
				reason: "verified: it had not happened so far; believed from " + believed.UTC().Format(time.RFC3339Nano)}
		}
	}
	if a.err == nil && a.outcome == NotHappened && !runs {
		v := stepVerdict{due: now.Add(c.Retry.pause(rec.get().Attempt, rand.Float64())), reason: "verified: it had not happened"}
		switch {
		case c.Within > 0 && v.due.Sub(rec.get().StartedAt) > c.Within:
			return stepVerdict{state: store.StepFailed, value: encodeFailed(failed{Within: true}),
				reason: "not done within " + c.Within.String() + ", and verified that it had not happened"}
		case rec.get().Attempt >= c.Retry.Max:
			i.Not = true
			return stepVerdict{state: store.StepParked, value: i.encode(), reason: "verified that it had not happened, and no attempts are left"}
		}
		return v
	}
	i.Verifies++
	reason := "nobody can tell yet whether it has happened"
	switch {
	case a.err != nil:
		reason = "outcome unknown, verification failed: " + a.err.Error()
	case a.outcome == NotHappened:
		reason = "verified: it had not happened so far, but " + stillRuns
	}
	v := stepVerdict{state: store.StepUnknown, value: i.encode(), reason: clip(reason, store.MaxReason),
		due: now.Add(c.Retry.pause(i.Verifies, rand.Float64()))}
	if i.Verifies >= c.Retry.Max {
		v.state, v.due = store.StepParked, time.Time{}
	}
	return v
}

// change gives an open record a new state, and writes it.
func (st *Strand) change(rec *record, v stepVerdict) {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired != nil || s.sealed {
		return
	}
	r := *rec.get()
	r.State, r.Value, r.Reason, r.Due = v.state, v.value, v.reason, v.due
	r.Took = s.w.e.since(r.StartedAt)
	s.progress = true
	s.replace(rec, &r)
}
