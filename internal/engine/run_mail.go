package engine

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/weir-go/weir/store"
)

// receive applies mail to the ledger and has the outcome written, together with
// the fact that the mail was read. The caller holds s.mu.
func (s *slice) receive(mail []store.Mail, now time.Time) {
	if s.sealed || s.retired != nil {
		return // unread, so the run is ready again at once
	}
	for i := range mail {
		m := &mail[i]
		if m.No <= s.read {
			continue
		}
		s.read = m.No
		s.file(m, now)
	}
	if len(mail) > 0 {
		s.open().update.Read = s.read
		s.announce()
		for _, st := range s.strands {
			st.prod()
		}
	}
}

// file applies one piece of mail.
func (s *slice) file(m *store.Mail, now time.Time) {
	switch m.Kind {
	case store.CancelMail:
		s.endWith(ending{Outcome: store.Cancelled, Reason: because("cancelled", m)})
		s.interrupt(ErrCancelled)
		return
	case store.AbandonMail:
		s.abandon(m, now)
		s.leaveUnreached(m)
		s.endWith(ending{Outcome: store.Failed, Reason: because("abandoned", m), Force: true})
		s.force()
		s.interrupt(ErrCancelled)
		return
	case store.RetryMail, store.SettleMail, store.SkipMail:
		s.decide(m, now)
		return
	}
	rec := s.ledger.byNumber(m.N)
	if rec != nil && m.Kind == store.Locked {
		s.granted(rec, m, now)
		return
	}
	if rec == nil || rec.settled() {
		return // too late: it is kept in the journal
	}
	r := *rec.get()
	r.Took = now.Sub(r.StartedAt)
	switch m.Kind {
	case store.Arrived:
		rec.met, rec.after = true, m.Message.Pos
		if r.Kind == store.KindUntil {
			r.Due = now // it asks again
			s.replace(rec, &r)
			return
		}
		if r.Kind == store.KindWaitFor && s.ledger.taken(m.Message.Pos, rec) {
			return // it waits on, for the next one
		}
		r.State, r.Value, r.Pos, r.Reason = store.StepDone, m.Message.Body, m.Message.Pos, ""
		r.Headers = messageHeaders(m.Message)
	case store.ChildEnded:
		r.State, r.Value, r.Reason = store.StepDone, m.Child.Result, ""
		if m.Child.Outcome != store.Completed {
			r.State, r.Reason = store.StepFailed, fmt.Sprintf("child run %s %s: %s", m.Child.ID, m.Child.Outcome, m.Child.Reason)
		}
	}
	r.Due = time.Time{}
	rec.met = true
	s.replace(rec, &r)
}

// abandon gives up the compensations that need a person; the others are still done.
func (s *slice) abandon(m *store.Mail, now time.Time) {
	for _, rec := range s.ledger.all {
		if r := *rec.get(); r.Kind == store.KindCompensate && r.State == store.StepParked {
			r.State, r.Reason, r.Took, r.Due = store.StepOmitted, because("abandoned", m), now.Sub(r.StartedAt), time.Time{}
			s.replace(rec, &r)
		}
	}
}

// force gives up what is unknown, also of a run that was cancelled before.
func (s *slice) force() {
	if s.ending == nil || s.ending.Force {
		return
	}
	s.ending.Force = true
	if note := s.ledger.find(noteEnding); note != nil {
		r := *note.get()
		r.Value, _ = json.Marshal(s.ending)
		s.replace(note, &r)
	}
}

// decide applies a person's decision, to the step that needs one.
func (s *slice) decide(m *store.Mail, now time.Time) {
	if s.ledger.notes < actsNoted {
		s.note(noteAct+"#"+strconv.FormatInt(m.No, 10), nil, because(decisionName(m), m))
	}
	for _, rec := range s.ledger.all {
		if m.Step != "" && rec.get().Name != m.Step || m.Step == "" && rec.get().State != store.StepParked {
			continue
		}
		r := *rec.get()
		switch {
		case m.Kind == store.RetryMail && rec.get().State == store.StepParked:
			r.State, r.Due = store.StepPending, time.Time{}
			if r.Kind == store.KindOnce {
				r.State = store.StepUnknown
				r.Value = readIntent(r.Value).again().encode()
			}
			r.Attempt, r.StartedAt = 0, now // all its time too
		case rec.settled() && rec.asked:
			continue // decided already, and the function has got it
		case m.Kind == store.SettleMail && !m.Failed:
			r.State, r.Value, r.Reason = store.StepDone, m.Value, because("settled", m)
		case m.Kind == store.SettleMail:
			r.State, r.Value, r.Reason = store.StepFailed, nil, because("settled as failed", m)
		case m.Kind == store.SkipMail && !rec.settled():
			r.State, r.Value, r.Reason = store.StepOmitted, nil, because("skipped", m)
		default:
			continue
		}
		if r.State >= store.StepDone {
			if rec.get().State == store.StepPending && (r.Kind == store.KindAsk || r.Kind == store.KindWaitFor) {
				u := &s.open().update
				u.Unwait = append(u.Unwait, r.N)
			}
			r.Took, r.Due = now.Sub(r.StartedAt), time.Time{}
		}
		s.replace(rec, &r)
	}
}

func decisionName(m *store.Mail) string {
	switch {
	case m.Kind == store.RetryMail:
		return "retry " + m.Step
	case m.Kind == store.SkipMail:
		return "skip " + m.Step
	case m.Failed:
		return "settle as failed " + m.Step
	}
	return "settle " + m.Step
}

func because(what string, m *store.Mail) string {
	return clip(fmt.Sprintf("%s by %s: %s", what, m.By, m.Why), store.MaxReason)
}

// replace gives a record a new state and has it written.
func (s *slice) replace(rec *record, r *store.Record) {
	rec.set(r)
	s.write(s.open(), rec)
}

// messageHeaders keep what a message's body alone does not say.
func messageHeaders(m *store.Message) []byte {
	data, _ := json.Marshal(arrival{ID: m.ID, Version: m.Version})
	return data
}

// arrival is what is kept of a message beside its body.
type arrival struct {
	ID      string `json:"message"`
	Version int    `json:"version"`
}
