package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/weir-go/weir/store"
)

// Sleep waits for a time. Short or long, it is durable from its beginning.
func (st *Strand) Sleep(c *Call, d time.Duration) {
	st.enter()
	defer st.exit()
	rec, name := st.find(c)
	if rec == nil {
		st.checkpoint()
		rec = st.register(c, name, func(ch *chapter, r *store.Record) { r.Due = r.StartedAt.Add(d) })
	}
	for !rec.settled() {
		st.checkpoint()
		if !st.pause(rec, false) {
			st.block(block{rec: rec, due: rec.get().Due})
		}
		st.checkpoint()
		if !st.s.w.e.Now().Before(rec.get().Due) {
			st.change(rec, stepVerdict{state: store.StepDone})
		}
	}
	_, _ = st.given(rec.get(), c)
}

// register begins a record that waits for something; fill completes it before it is written.
func (st *Strand) register(c *Call, name string, fill func(*chapter, *store.Record)) *record {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired != nil || s.sealed {
		return nowhere(&store.Record{Name: name, Kind: c.Kind})
	}
	rec := st.begin(c, name, store.StepPending)
	ch := s.open()
	fill(ch, rec.get())
	s.write(ch, rec)
	s.progress = true
	return rec
}

// Received is the message that a run waited for.
type Received struct {
	Body    []byte
	Version int // of its contract
}

// WaitFor waits for a message: an event by key, or a signal.
func (st *Strand) WaitFor(c *Call) (Received, error) {
	st.enter()
	defer st.exit()
	rec, name := st.find(c)
	again := rec != nil
	if rec == nil {
		st.checkpoint()
		rec = st.register(c, name, func(ch *chapter, r *store.Record) {
			r.Due, r.Reason = st.limit(c, r.StartedAt), waitsFor(c)
			ch.update.Waits = append(ch.update.Waits, st.wait(c, r.N, st.s.run.StartedAt, st.s.consumed[c.source()]))
		})
		st.s.noteLookBack(c)
	}
	for !rec.settled() {
		if again || st.met(rec) { // what came may have been taken by another branch
			st.checkpoint()
			st.waitOn(c, rec, st.s.run.StartedAt)
			again = false
		}
		st.blockWithin(c, rec)
	}
	value, err := st.given(rec.get(), c)
	st.s.mu.Lock()
	if st.s.consumed == nil {
		st.s.consumed = map[string]store.Pos{}
	}
	st.s.consumed[c.source()] = max(st.s.consumed[c.source()], rec.get().Pos)
	st.s.mu.Unlock()
	return Received{value, arrivalOf(rec.get()).Version}, err
}

// arrivalOf is what is kept of the message that a record got.
func arrivalOf(r *store.Record) arrival {
	a := arrival{Version: 1}
	if len(r.Headers) > 0 {
		_ = json.Unmarshal(r.Headers, &a)
	}
	return a
}

// source names what a call waits for.
func (c *Call) source() string { return c.Topic.Name + "\x00" + c.On }

func waitsFor(c *Call) string {
	return fmt.Sprintf("waits for %s %s with key %q", c.Topic.Kind, c.Topic.Name, c.On)
}

func (st *Strand) wait(c *Call, n int, since time.Time, after store.Pos) store.Wait {
	return store.Wait{N: n, Topic: c.Topic, Key: c.On, Since: since, After: after}
}

// waitOn has a record wait again, for a later message.
func (st *Strand) waitOn(c *Call, rec *record, since time.Time) {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired != nil || s.sealed {
		return
	}
	rec.met = false
	ch := s.open()
	ch.update.Waits = append(ch.update.Waits, st.wait(c, rec.get().N, since, rec.after))
}

// met reports whether mail has come for a record.
func (st *Strand) met(rec *record) bool {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	return rec.met
}

// limit is when a call is past its Within; zero: never.
func (st *Strand) limit(c *Call, from time.Time) time.Time {
	if c.Within <= 0 {
		return time.Time{}
	}
	return from.Add(c.Within)
}

// past reports whether a call is past its Within.
func (st *Strand) past(c *Call, rec *record) bool {
	limit := st.limit(c, rec.get().StartedAt)
	return !limit.IsZero() && !st.s.w.e.Now().Before(limit)
}

// blockWithin blocks until the record is met, or fails it when its time is over.
func (st *Strand) blockWithin(c *Call, rec *record) {
	limit := st.limit(c, rec.get().StartedAt)
	s := st.s
	s.mu.Lock()
	ready := rec.settled() || rec.met
	parked := rec.get().State == store.StepParked
	s.mu.Unlock()
	if ready {
		return
	}
	st.checkpoint()
	switch {
	case parked:
		st.block(block{rec: rec, parked: parkedReason(rec)})
	case st.past(c, rec):
		st.giveUp(c, rec)
	default:
		st.block(block{rec: rec, due: limit})
	}
}

// giveUp fails a wait that is past its time.
func (st *Strand) giveUp(c *Call, rec *record) {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired != nil || s.sealed || rec.settled() {
		return
	}
	r := *rec.get()
	r.State, r.Value, r.Due = store.StepFailed, encodeFailed(failed{Within: true}), time.Time{}
	r.Reason = clip("not done within "+c.Within.String()+": "+r.Reason, store.MaxReason)
	r.Took = s.w.e.since(r.StartedAt)
	s.replace(rec, &r)
	u := &s.open().update
	switch c.Kind {
	case store.KindWaitFor, store.KindAsk, store.KindUntil:
		u.Unwait = append(u.Unwait, rec.get().N)
	case store.KindLock:
		if s.ledger.uses(c.Lock) > 0 {
			return // another branch is in line, or has it
		}
		u.Locks = append(u.Locks, store.LockAct{N: rec.get().N, Name: c.Lock, Release: true})
	}
}

// Ask sends a request and waits for its reply.
func (st *Strand) Ask(c *Call) (Received, error) {
	st.enter()
	defer st.exit()
	rec, name := st.find(c)
	for rec == nil || rec.get().Attempt == 0 && !rec.settled() {
		st.route([]*store.Message{c.Request})
		rec = st.request(c, name, rec)
	}
	for !rec.settled() {
		st.blockWithin(c, rec)
	}
	value, err := st.given(rec.get(), c)
	return Received{value, arrivalOf(rec.get()).Version}, err
}

// request sends what Ask sends, together with the wait for its reply. A full queue
// is no failure: it is tried again.
func (st *Strand) request(c *Call, name string, rec *record) *record {
	return st.dispatch(c, name, rec, func(ch *chapter, r *store.Record) {
		m := *c.Request
		st.caused(&m)
		r.Reason = "waits for the reply to " + m.Topic
		ch.change.Sends = []*store.Message{&m}
		ch.update.Waits = append(ch.update.Waits, store.Wait{N: r.N, Topic: c.Topic, Reply: 1})
	})
}

// route makes relays known for what is sent to other boundaries. Where that fails it is done later: the topic is
// made with the message, and its relay is found.
func (st *Strand) route(messages []*store.Message) {
	if err := st.s.w.e.route(st.s.w.e.work, messages); err != nil {
		st.s.w.e.log.Warn("a relay is not made yet", keyError, err)
	}
}

// caused makes a message this run's.
func (st *Strand) caused(m *store.Message) {
	m.Cause, m.Correlation = st.Reference(), st.correlation()
}

// correlation is that of all that the run causes: its own, or itself when it is a root.
func (st *Strand) correlation() string {
	if c := st.s.run.Correlation; c != "" {
		return c
	}
	return st.Reference()
}

// Send sends messages in a commit of the run's own, once, with the states that they tell of: of
// messages[i], as far as there are any, states[i].
func (st *Strand) Send(c *Call, messages []*store.Message, states []store.State) error {
	st.route(messages)
	return st.leaves(c, func(ch *chapter, r *store.Record) {
		ch.change.Sends = make([]*store.Message, len(messages))
		ch.change.States = slices.Clone(states)
		for i, m := range messages {
			sent := *m
			st.caused(&sent)
			ch.change.Sends[i] = &sent
			if i < len(states) {
				ch.change.States[i].Of = &sent
			}
		}
		r.State, r.Attempt = store.StepDone, 1
	})
}

// StartRun starts a run that is not this one's child, once.
func (st *Strand) StartRun(c *Call, start *store.RunStart) error {
	return st.leaves(c, func(ch *chapter, r *store.Record) {
		begun := *start
		begun.Cause, begun.Correlation = st.Reference(), st.correlation()
		ch.change.Runs = []*store.RunStart{&begun}
		r.State, r.Attempt = store.StepDone, 1
	})
}

// leaves has something sent with its record, once.
func (st *Strand) leaves(c *Call, fill func(*chapter, *store.Record)) error {
	st.enter()
	defer st.exit()
	rec, name := st.find(c)
	for rec == nil || !rec.settled() {
		rec = st.dispatch(c, name, rec, fill)
	}
	_, err := st.given(rec.get(), c)
	return err
}

// dispatch commits what leaves with a record, in a chapter of its own since it may
// be refused: a full queue makes it wait, anything else is for a person.
func (st *Strand) dispatch(c *Call, name string, rec *record, fill func(*chapter, *store.Record)) *record {
	st.checkpoint()
	if rec != nil {
		if rec.get().State == store.StepParked {
			st.block(block{rec: rec, parked: parkedReason(rec)})
		}
		if !st.pause(rec, false) {
			st.block(block{rec: rec, due: rec.get().Due})
		}
		st.checkpoint()
		if st.past(c, rec) {
			st.giveUp(c, rec)
			return rec
		}
	}
	st.await()
	err := st.awaitAlone(func(ch *chapter) {
		if rec == nil {
			rec = st.begin(c, name, store.StepPending)
		} else {
			r := *rec.get()
			rec.set(&r)
		}
		r := rec.get()
		r.Attempt, r.Due = 1, st.limit(c, r.StartedAt)
		fill(ch, r)
		ch.change.Outside = len(ch.change.Runs) == 0 // runs that a run starts are admitted
		st.s.write(ch, rec)
		st.s.progress = true
	})
	if err == nil {
		return rec
	}
	r := *rec.get()
	r.State, r.Attempt, r.Reason = store.StepParked, 0, err.Error()
	if full, ok := errors.AsType[*store.FullError](err); ok {
		pause := retryAfter(full, st.s.w.e.drainRate(context.Background(), full.Queue))
		r.State, r.Due = store.StepPending, st.s.w.e.Now().Add(pause)
		if limit := st.limit(c, r.StartedAt); !limit.IsZero() && limit.Before(r.Due) {
			r.Due = limit
		}
	}
	st.s.mu.Lock()
	st.s.replace(rec, &r)
	st.s.mu.Unlock()
	return rec
}

// Lock acquires a named lock and returns its fence.
func (st *Strand) Lock(c *Call) (int64, error) {
	st.enter()
	defer st.exit()
	rec, name := st.find(c)
	for rec == nil || !rec.settled() {
		if rec == nil || !st.met(rec) {
			rec = st.acquire(c, name, rec)
		}
		if !rec.settled() {
			st.blockWithin(c, rec)
		}
	}
	value, err := st.given(rec.get(), c)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(value), 10, 64)
}

// acquire gets in line for a lock; asked again, it keeps its place.
func (st *Strand) acquire(c *Call, name string, rec *record) *record {
	st.checkpoint()
	st.await()
	var act *store.LockAct
	err := st.awaitAlone(func(ch *chapter) {
		if rec == nil {
			rec = st.begin(c, name, store.StepPending)
			rec.get().Reason, rec.get().Due = "in line for lock "+c.Lock, st.limit(c, rec.get().StartedAt)
			st.s.write(ch, rec)
		}
		ch.update.Locks = []store.LockAct{{N: rec.get().N, Name: c.Lock}}
		act = &ch.update.Locks[0]
	})
	if err != nil {
		st.Park("lock " + c.Lock + ": " + err.Error())
	}
	if act.Fence > 0 && !rec.settled() {
		st.change(rec, stepVerdict{state: store.StepDone, value: strconv.AppendInt(nil, act.Fence, 10)})
	}
	return rec
}

// Unlock releases a lock, once, unless other calls of the run have it.
func (st *Strand) Unlock(c *Call) {
	st.enter()
	defer st.exit()
	rec, name := st.find(c)
	if rec != nil {
		return
	}
	st.checkpoint()
	st.register(c, name, func(ch *chapter, r *store.Record) {
		r.State = store.StepDone
		if st.s.ledger.uses(c.Lock) > 0 {
			return // another branch has it, or the call around this one
		}
		ch.update.Locks = append(ch.update.Locks, store.LockAct{N: r.N, Name: c.Lock, Release: true})
	})
}

// Until asks for a constraint until it is met.
func (st *Strand) Until(c *Call) error {
	st.enter()
	defer st.exit()
	rec, name := st.find(c)
	for rec == nil || !rec.settled() {
		st.checkpoint()
		if rec != nil {
			st.untilDue(c, rec)
			st.checkpoint()
		}
		st.await()
		number := 1
		if rec != nil {
			number = rec.get().Attempt + 1
		}
		var met bool
		var reason string
		a := st.try(c, name, number, false, func(ctx context.Context, a *attempted) {
			met, reason, a.err = c.Met(ctx)
		})
		if a.stopped {
			st.checkpoint()
			st.unwind(endStopped)
		}
		a.first = a.started
		if rec != nil {
			a.first = rec.get().StartedAt
		}
		rec = st.asked(c, name, rec, a, judgeUntil(c, a, met, reason, rand.Float64()))
	}
	_, err := st.given(rec.get(), c)
	return err
}

// untilDue waits until a constraint is to be asked again.
func (st *Strand) untilDue(c *Call, rec *record) {
	st.s.mu.Lock()
	parked, met := rec.get().State == store.StepParked, rec.met
	st.s.mu.Unlock()
	switch {
	case parked:
		st.block(block{rec: rec, parked: parkedReason(rec)})
	case !met && !st.pause(rec, false):
		st.block(block{rec: rec, due: rec.get().Due})
	}
}

// asked records what a constraint said; not met, it waits for what may change it.
func (st *Strand) asked(c *Call, name string, rec *record, a attempted, v stepVerdict) *record {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired != nil || s.sealed {
		return st.lost(rec, c, name)
	}
	waits := rec != nil && !rec.met && c.Topic.Name != ""
	rec = st.settled(c, name, rec, a, v)
	ch := s.open()
	s.write(ch, rec)
	if a.err != nil {
		s.recordAttempt(rec, a, v)
	}
	switch {
	case c.Topic.Name == "":
	case rec.settled() && waits:
		ch.update.Unwait = append(ch.update.Unwait, rec.get().N)
	case !rec.settled():
		// From before it was asked: what changed while it was must not be missed. A message has the time at which its
		// transaction began, by a clock that may differ a bit from this machine's. One that has come is not met again.
		rec.met = false
		ch.update.Waits = append(ch.update.Waits, st.wait(c, rec.get().N, a.started.Add(-clockTolerance), rec.after))
	}
	return rec
}

// judgeUntil decides what a constraint's answer means.
func judgeUntil(c *Call, a attempted, met bool, reason string, luck float64) stepVerdict {
	now := a.started.Add(a.took)
	v := stepVerdict{reason: clip(reason, store.MaxReason), due: now.Add(c.Every)}
	if a.err != nil {
		if f, fail := fails(c, a.err); fail {
			return stepVerdict{state: store.StepFailed, value: encodeFailed(f), reason: clip(a.err.Error(), store.MaxReason)}
		}
		// Asking failed: sooner again than when the answer was no.
		v.reason = clip("not asked: "+a.err.Error(), store.MaxReason)
		v.due = now.Add(min(c.Every, c.Retry.pause(min(a.number, 30), luck)))
	} else if met {
		return stepVerdict{state: store.StepDone, reason: clip(reason, store.MaxReason)}
	}
	if limit := a.first.Add(c.Within); c.Within > 0 {
		if !now.Before(limit) {
			return stepVerdict{state: store.StepFailed, value: encodeFailed(failed{Within: true}),
				reason: clip("not met within "+c.Within.String()+": "+v.reason, store.MaxReason)}
		}
		if v.due.After(limit) {
			v.due = limit // asked a last time then
		}
	}
	return v
}
