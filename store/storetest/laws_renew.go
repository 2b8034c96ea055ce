package storetest

import (
	"errors"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func renewLaws() []Law {
	return []Law{
		{"renew/life", "A store that is renewed has a new incarnation, and a base that is not lower, for all processes, and the audit says who did it and why.", renewLife},
		{"renew/ids", "What was sent before keeps its ID and its stamp, and is found, referred to, retried and traced by it; what is sent after has new ones, higher.", renewIDs},
		{"renew/again", "A store may be renewed again, also when nothing was sent between, and in the first place.", renewAgain},
		{"renew/conflict", "A store that a process works is not renewed: ErrConflict; one whose process has died is.", renewConflict},
		{"renew/goes-on", "The new life goes on with queues, batches' numbers, runs and waits where the one before ended.", renewGoesOn},
		{"renew/runs", "A trace tells what a run sent in all lives of the store.", renewRuns},
		{"renew/lost", "An ID that the life before would have given out, had it gone on, is nobody's.", renewLost},
	}
}

// renew ends the process, renews the store from another, and begins again.
func (s *scene) renew() (before, after store.Info) {
	s.Helper()
	before = s.store.Info()
	if err := s.store.End(s.ctx()); err != nil {
		s.Fatalf("End() = %v, want nil", err)
	}
	person := s.open()
	s.clock.move(time.Second)
	got, err := person.Operate(s.ctx(), by(store.Act{Verb: store.RenewStore}))
	if err != nil || got.Count != 1 {
		s.Fatalf("Operate(renew) = %+v, %v, want 1", got, err)
	}
	after = person.Info()
	s.begin()
	if info := s.store.Info(); info != after {
		s.Errorf("Info() of another process after a renewal = %+v, want %+v", info, after)
	}
	return before, after
}

func renewLife(s *scene) {
	s.send(cook, "1")
	sender, asleep := s.open(), s.open() // they only send
	before, after := s.renew()
	if after.Incarnation == before.Incarnation || len(after.Incarnation) != 6 || after.Base < before.Base || after.Earlier != string(before.Incarnation) {
		s.Errorf("Info() after a renewal = %+v, before it %+v, want another incarnation, that before as the earlier one, and no lower base", after, before)
	}
	rows := s.audit()
	if len(rows) != 1 || rows[0].Verb != string(store.RenewStore) || rows[0].By != "ada" || rows[0].Why != "because" ||
		!strings.Contains(rows[0].Before, string(before.Incarnation)) || !strings.Contains(rows[0].After, string(after.Incarnation)) {
		s.Errorf("Audit() = %+v, want the renewal from %s to %s", rows, before.Incarnation, after.Incarnation)
	}
	m := message(cook, "2")
	c := sends(m)
	if err := sender.Commit(s.ctx(), &store.Group{Changes: []*store.Change{c}}); err != nil || c.Err != nil {
		s.Fatalf("Commit() of a sender from before = %v, %v, want nil", err, c.Err)
	}
	if m.ID != after.Incarnation.ID(m.Pos) {
		s.Errorf("a message sent after a renewal by a process from before = %s, want %s", m.ID, after.Incarnation.ID(m.Pos))
	}
	own := message(cook, "3")
	s.own(true, func(tx store.Tx) {
		if err := asleep.AppendIn(s.ctx(), tx, sends(own)); err != nil {
			s.Fatalf("AppendIn() of a sender from before = %v, want nil", err)
		}
	})
	if own.ID != after.Incarnation.ID(own.Pos) || own.Stamp <= m.Stamp {
		s.Errorf("a message of the caller's own after a renewal = %s, stamp %d, want %s, above %d", own.ID, own.Stamp, after.Incarnation.ID(own.Pos), m.Stamp)
	}
	s.restart()
	if info := s.store.Info(); info != after {
		s.Errorf("Info() after a restart = %+v, want %+v", info, after)
	}
	for _, a := range []store.Act{{Verb: store.RenewStore, By: "ada"}, {Verb: store.RenewStore, Why: "because"}} {
		if err := s.store.End(s.ctx()); err != nil {
			s.Fatalf("End() = %v, want nil", err)
		}
		s.unacted(a, nil)
		s.begin()
	}
}

func renewIDs(s *scene) {
	s.declare(store.Queue{Name: cook}, store.Queue{Name: serve})
	old, dead, followed := message(cook, "a1"), message(cook, "b2"), message(serve, "c3")
	followed.Cause, followed.Correlation = old.ID, old.ID
	s.commit(sends(old, dead))
	followed.Cause, followed.Correlation = old.ID, old.ID
	twin := unique(serve, "4", "once")
	s.commit(sends(followed, twin))
	b := s.claim(cook, 9, "a1 b2")
	s.fail(b, "b2", store.Dead)
	s.done(b, "a1")
	_, after := s.renew()
	fresh := message(serve, "d5")
	fresh.Cause, fresh.Correlation = old.ID, old.ID
	again := unique(serve, "4", "once")
	s.commit(sends(fresh, again))
	s.repeats(again, twin)
	if fresh.ID != after.Incarnation.ID(fresh.Pos) || fresh.Stamp <= twin.Stamp {
		s.Errorf("a message sent after a renewal = %s, stamp %d, want one of %s, above %d", fresh.ID, fresh.Stamp, after.Incarnation, twin.Stamp)
	}
	for _, m := range []*store.Message{old, dead, followed, twin, fresh} {
		got := s.message(m.ID)
		if got.ID != m.ID || got.Stamp != m.Stamp || got.Cause != m.Cause || got.Correlation != m.Correlation {
			s.Errorf("Message(%s) = %s, stamp %d, cause %q, correlation %q, want stamp %d, %q, %q",
				m.ID, got.ID, got.Stamp, got.Cause, got.Correlation, m.Stamp, m.Cause, m.Correlation)
		}
	}
	trace, err := s.store.Reader().Trace(s.ctx(), "a", 10)
	if err != nil || len(trace) != 3 || trace[0].ID != old.ID || trace[2].ID != fresh.ID {
		s.Errorf("Trace(a) = %d messages, %v, want those of both lives", len(trace), err)
	}
	s.operate(store.Act{Verb: store.RetryDead, ID: dead.ID})
	if got := s.claim(cook, 9, "b2").Deliveries[0].Message; got.ID != dead.ID || got.Stamp != dead.Stamp {
		s.Errorf("Claim() of what was sent before a renewal = %s, stamp %d, want %s, %d", got.ID, got.Stamp, dead.ID, dead.Stamp)
	}
	for i, d := range s.claim(serve, 9, "c3 4 d5").Deliveries {
		if want := []*store.Message{followed, twin, fresh}[i]; d.Message.ID != want.ID || d.Message.Cause != want.Cause || d.Message.Stamp != want.Stamp {
			s.Errorf("Claim() = %s, cause %s, stamp %d, want %s, %s, %d", d.Message.ID, d.Message.Cause, d.Message.Stamp, want.ID, want.Cause, want.Stamp)
		}
	}
}

func renewAgain(s *scene) {
	seen := map[store.Incarnation]bool{}
	last := int64(0)
	for i := range 4 {
		before, after := s.renew()
		seen[before.Incarnation], seen[after.Incarnation] = true, true
		if len(seen) != i+2 || after.Base < before.Base {
			s.Errorf("Info() after renewal %d = %+v, want a new incarnation, and a base not below %d", i, after, before.Base)
		}
		m := message(cook, "1")
		if i != 1 {
			s.commit(sends(m))
			if got := s.message(m.ID); got.Stamp <= last || m.ID != after.Incarnation.ID(m.Pos) {
				s.Errorf("Message(%s).Stamp = %d, want one of %+v, above %d", m.ID, got.Stamp, after, last)
			}
			last = m.Stamp
		}
	}
	s.clock.move(-time.Hour) // the clock is set back
	_, after := s.renew()
	m := message(cook, "2")
	s.commit(sends(m))
	if m.Stamp <= last {
		s.Errorf("stamp of %s = %d, base %d, want it above %d", m.ID, m.Stamp, after.Base, last)
	}
}

func renewConflict(s *scene) {
	info := s.store.Info()
	renewal := by(store.Act{Verb: store.RenewStore})
	s.unacted(renewal, store.ErrConflict)
	person := s.open()
	if _, err := person.Operate(s.ctx(), renewal); !errors.Is(err, store.ErrConflict) {
		s.Errorf("Operate(renew) while another process works the store = %v, want ErrConflict", err)
	}
	if got := s.store.Info(); got != info {
		s.Errorf("Info() after a refused renewal = %+v, want %+v", got, info)
	}
	s.send(cook, "1")
	s.h.Crash(s.store)
	if _, err := person.Operate(s.ctx(), renewal); err != nil {
		s.Errorf("Operate(renew) after a crash = %v, want nil", err)
	}
	s.succeed()
	if got := s.store.Info(); got.Incarnation == info.Incarnation {
		s.Errorf("Info() after a renewal = %+v, want another incarnation than %s", got, info.Incarnation)
	}
}

func renewGoesOn(s *scene) {
	s.declareCook()
	s.send(cook, "1 2 3")
	s.done(s.numbered(1, "1 2 3"), "1 2")
	s.commit(arrival(lane, "1/0", "1/0", s.foreign(cook, "4")))
	s.put("a5", state("a", 5))
	s.renew()
	s.numbered(1, "3")
	s.numbered(2, "4")
	s.misplaced(arrival(lane, "1/0", "1/0"), "1/0")
	s.states("a5")
	s.send(cook, "5")
	s.numbered(3, "5")
	m := message(ready, "6")
	s.commit(&store.Change{Sends: []*store.Message{m}, States: []store.State{{Entity: guest, Key: "b", Of: m, Contract: 1}}})
	s.entity(guest, 2, 0, m.Stamp)
	s.well()
}

func renewRuns(s *scene) {
	a := s.leased("a")
	first := message(serve, "1")
	first.Correlation = s.store.Info().Incarnation.RunID(a.No)
	s.commit(sends(first))
	_, after := s.renew()
	second := message(serve, "2")
	second.Correlation = after.Incarnation.RunID(a.No)
	s.commit(sends(second))
	trace, err := s.store.Reader().Trace(s.ctx(), "a", 9)
	if err != nil || len(trace) != 2 || trace[0].ID != first.ID || trace[1].ID != second.ID {
		s.Errorf("Trace(a run's ID) after a renewal = %d messages, %v, want %s and %s", len(trace), err, first.ID, second.ID)
	}
}

func renewLost(s *scene) {
	s.declareCook()
	sent := s.send(cook, "1")[0]
	before, _ := s.renew()
	lost := before.Incarnation.ID(s.send(cook, "2")[0].Pos)
	if _, err := s.store.Reader().Message(s.ctx(), lost); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("Message(%s, of a life that had ended) = %v, want ErrNotFound", lost, err)
	}
	m := message(cook, "3")
	m.Cause = lost
	s.commit(sends(m))
	if got := s.message(m.ID); got.Cause != lost {
		s.Errorf("Message(%s).Cause = %s, want %s", m.ID, got.Cause, lost)
	}
	s.message(sent.ID)
}
