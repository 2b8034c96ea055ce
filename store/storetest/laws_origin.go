package storetest

import (
	"errors"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func originLaws() []Law {
	return []Law{
		{"origin/kept", "A message that another store sent keeps the ID and the time that it has there, wherever it is read.", originKept},
		{"origin/found", "A message is found, retried and discarded by its origin's ID, also when retention has copied it aside.", originFound},
		{"origin/no-time", "An origin that does not say when it sent leaves a message the time at which it came.", originNoTime},
		{"origin/duplicate", "A message whose origin's ID the store has is not appended again, by whichever change, lane or process it comes: it gets the place of the first, also when that was worked.", originDuplicate},
		{"origin/room", "A duplicate needs no room in a full queue, and makes none of its change's other sends fail.", originRoom},
		{"origin/refused", "What a refused change brought is new when it comes again.", originRefused},
		{"origin/own", "AppendIn deduplicates by origin like Commit.", originOwn},
		{"origin/conversation", "References to a message from elsewhere are by its origin's ID, and one trace tells the whole conversation.", originConversation},
		{"origin/behind", "A letter parked behind a message from elsewhere names it by its origin's ID, and waits for it.", originBehind},
		{"origin/waits", "A message from elsewhere meets the waits that began before it came, whenever it was sent, and is handed to the run under its origin's ID.", originWaits},
		{"origin/retention", "How long a message is kept is counted from when it came, not from when its origin sent it.", originRetention},
		{"origin/limits", "An origin without an ID or a sender, or with one too long or of several lines, is refused.", originLimits},
		{"stamp/grows", "A message's stamp is its number in the store plus the base of its life: it grows with every message, and is read as it was given.", stampGrows},
	}
}

// foreign makes the message of a word as it comes from another store, an hour ago.
func (s *scene) foreign(topic, word string) *store.Message {
	m := message(topic, word)
	m.Origin = &store.Origin{ID: "zzzzzz-" + word, From: "floor", SentAt: s.clock.Now().Add(-time.Hour)}
	return m
}

// came wants a message to be as it was sent elsewhere.
func (s *scene) came(where string, got *store.Message, want *store.Message) {
	s.Helper()
	o := got.Origin
	if o == nil {
		s.Errorf("%s: message %s has no origin, want %+v", where, got.ID, *want.Origin)
		return
	}
	if o.ID != want.Origin.ID || o.From != want.Origin.From || !o.SentAt.Equal(want.Origin.SentAt) {
		s.Errorf("%s: message %s has the origin %+v, want %+v", where, got.ID, *o, *want.Origin)
	}
	if got.ID != want.Origin.ID || got.Pos != want.Pos || !got.SentAt.Equal(want.Origin.SentAt) || got.Stamp != want.Stamp || got.Stamp == 0 {
		s.Errorf("%s: message %s at %d, sent %s, stamp %d, want %s at %d, sent %s, stamp %d", where,
			got.ID, got.Pos, got.SentAt, got.Stamp, want.Origin.ID, want.Pos, want.Origin.SentAt, want.Stamp)
	}
}

func originKept(s *scene) {
	s.declareCook()
	a, b := s.foreign(cook, "a1"), s.foreign(cook, "a2")
	s.commit(sends(message(cook, "1"), a, b, message(cook, "2")))
	s.came("Commit", a, a)
	read := s.store.Reader()
	list, err := read.Messages(s.ctx(), store.MessageQuery{Topic: cook})
	if err != nil || len(list) != 4 {
		s.Fatalf("Messages() = %d, %v, want 4", len(list), err)
	}
	s.came("Messages", &list[2], a)
	if list[0].Origin != nil || list[3].Origin != nil {
		s.Errorf("Messages(): the store's own have origins %v and %v, want none", list[0].Origin, list[3].Origin)
	}
	got := s.claim(cook, 9, "1 a1 a2 2")
	s.came("Claim", got.Deliveries[1].Message, a)
	s.came("Claim", got.Deliveries[2].Message, b)
	if own := got.Deliveries[0].Message; own.Origin != nil || own.Stamp == 0 {
		s.Errorf("Claim(): the store's own has origin %v and stamp %d, want none, and one", own.Origin, own.Stamp)
	}
	s.fail(got, "a1", store.Dead, "a2")
	s.came("Dead", &s.dead(cook)[0].Message, a)
	letter := s.letter(cook, a.ID)
	s.came("Dead by ID", &letter.Message, a)
	trace, err := read.Trace(s.ctx(), "a", 10)
	if err != nil || len(trace) != 2 {
		s.Fatalf("Trace(a) = %d, %v, want 2", len(trace), err)
	}
	s.came("Trace", &trace[0].Message, a)
	s.crash()
	s.operate(store.Act{Verb: store.RetryDead, ID: a.ID})
	s.claim(cook, 9, "1 2")
	s.came("Claim of what was dead", s.claim(cook, 9, "a1").Deliveries[0].Message, a)
}

func originFound(s *scene) {
	s.declareCook()
	a, b := s.foreign(cook, "1"), s.foreign(cook, "2")
	a.Origin.ID = "https://pos.example/7#order 1"
	s.commit(sends(a, b))
	got := s.claim(cook, 9, "1 2")
	s.fail(got, "1", store.Dead)
	s.fail(got, "2", store.Dead)
	s.clock.move(time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	for _, m := range []*store.Message{a, b} {
		s.came("Message after retention", s.message(m.Origin.ID).plain(), m)
		s.came("Dead after retention", &s.dead(cook)[0].Message, a)
	}
	if n := s.operate(store.Act{Verb: store.DiscardDead, ID: b.ID}); n.Count != 1 {
		s.Errorf("Operate(discard %s) = %d, want 1", b.ID, n.Count)
	}
	if n := s.operate(store.Act{Verb: store.RetryDead, ID: a.ID}); n.Count != 1 {
		s.Errorf("Operate(retry %s) = %d, want 1", a.ID, n.Count)
	}
	s.came("Claim after a retry", s.claim(cook, 9, "1").Deliveries[0].Message, a)
	again := s.foreign(cook, "1")
	again.Origin.ID = a.Origin.ID
	s.commit(sends(again))
	s.repeats(again, a)
	if _, err := s.store.Reader().Message(s.ctx(), "zzzzzz-77"); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("Message(of elsewhere, never come) = %v, want ErrNotFound", err)
	}
}

func originNoTime(s *scene) {
	s.declareCook()
	m := s.foreign(cook, "1")
	m.Origin.SentAt = time.Time{}
	s.commit(sends(m))
	got := s.claim(cook, 9, "1").Deliveries[0].Message
	for _, m := range []*store.Message{m, got} {
		if m.ID != "zzzzzz-1" || !m.SentAt.Equal(s.clock.Now()) || !m.Origin.SentAt.IsZero() {
			s.Errorf("message %s, sent %s, origin %+v, want zzzzzz-1, sent %s, and no time of the origin", m.ID, m.SentAt, m.Origin, s.clock.Now())
		}
	}
}

func originDuplicate(s *scene) {
	s.declareCook()
	a, b := s.foreign(cook, "1"), s.foreign(cook, "1")
	other := s.foreign(serve, "9") // what it says is not compared
	other.Origin.ID = a.Origin.ID
	s.commit(sends(a, b, message(cook, "2")), sends(other, s.foreign(cook, "3")))
	s.repeats(b, a)
	s.repeats(other, a)
	if b.Stamp != a.Stamp {
		s.Errorf("a duplicate's stamp = %d, want %d", b.Stamp, a.Stamp)
	}
	s.listed(cook, "1 2 3")
	s.listed(serve, "")
	s.holds(cook, 3, 0)
	s.drain(cook, 9, "1 2 3")
	s.clock.move(time.Minute)
	c := s.foreign(cook, "1")
	s.commit(sends(c))
	s.repeats(c, a)
	s.crash()
	d := s.foreign(cook, "1")
	s.commit(sends(d))
	s.repeats(d, a)
	s.drain(cook, 9, "")
	s.holds(cook, 0, 0)
	s.figures(cook, store.FigureMinute{Sent: 3, Done: 3})
}

func originRoom(s *scene) {
	s.declare(store.Queue{Name: cook, Capacity: 2})
	s.commit(sends(s.foreign(cook, "1"), s.foreign(cook, "2")))
	c := sends(s.foreign(cook, "2"), s.foreign(cook, "1"))
	c.Outside = true
	s.commit(c)
	s.done(s.claim(cook, 1, "1"), "1")
	c = sends(s.foreign(cook, "1"), s.foreign(cook, "3"))
	c.Outside = true
	s.commit(c)
	full := sends(s.foreign(cook, "3"), s.foreign(cook, "4"))
	full.Outside = true
	s.group(&store.Group{Changes: []*store.Change{full}})
	if _, ok := errors.AsType[*store.FullError](full.Err); !ok {
		s.Errorf("Commit(a duplicate and a new one, full): Err = %v, want a FullError", full.Err)
	}
	s.listed(cook, "1 2 3")
}

func originRefused(s *scene) {
	s.declareCook()
	bad := sends(s.foreign(cook, "1"))
	bad.Closures = []store.Closure{failing}
	good := sends(s.foreign(cook, "1"))
	s.group(&store.Group{Changes: []*store.Change{bad, good}})
	if !errors.Is(bad.Err, errClosure) || good.Err != nil {
		s.Errorf("Commit(refused, the same again): Err = %v, %v, want the closure's, nil", bad.Err, good.Err)
	}
	s.drain(cook, 9, "1")
}

func originOwn(s *scene) {
	s.declareCook()
	a := s.foreign(cook, "1")
	s.commit(sends(a))
	again, fresh, twice := s.foreign(cook, "1"), s.foreign(cook, "2"), s.foreign(cook, "2")
	s.own(true, func(tx store.Tx) { s.appendIn(tx, []*store.Message{again, fresh, twice}) })
	s.repeats(again, a)
	s.repeats(twice, fresh)
	got := s.claim(cook, 9, "1 2")
	s.came("Claim", got.Deliveries[1].Message, fresh)
}

func originConversation(s *scene) {
	s.declare(store.Queue{Name: cook}, store.Queue{Name: serve})
	root := s.foreign(cook, "a1")
	s.commit(sends(root))
	caused := message(serve, "b2")
	caused.Cause, caused.Correlation = root.ID, root.ID
	s.commit(sends(caused))
	loose := message(cook, "c3") // says only what caused it
	loose.Cause = caused.ID
	s.commit(sends(loose))
	back := s.foreign(cook, "d4") // an answer from there
	back.Cause, back.Correlation = caused.ID, root.ID
	s.commit(sends(back))
	for _, key := range []string{"a", "b", "d"} {
		all, err := s.store.Reader().Trace(s.ctx(), key, 10)
		if err != nil {
			s.Fatalf("Trace(%s) = %v, want nil", key, err)
		}
		var line []string
		for _, m := range all {
			line = append(line, m.Key)
		}
		if got := strings.Join(line, " "); got != "a b d" {
			s.Errorf("Trace(%s) = %q, want %q", key, got, "a b d")
		}
	}
	known, follower, sibling := s.foreign(serve, "e5"), message(cook, "f6"), s.foreign(cook, "g7")
	known.Correlation, sibling.Correlation = "zzzzzz-far", "zzzzzz-far"
	follower.Cause = known.Origin.ID // says only what caused it
	s.commit(sends(known, follower, sibling))
	if all, err := s.store.Reader().Trace(s.ctx(), "f", 10); err != nil || len(all) != 3 {
		s.Errorf("Trace(f) = %d messages, %v, want also those of its cause's conversation", len(all), err)
	}
	if got := s.message(back.ID); got.Cause != caused.ID || got.Correlation != root.ID {
		s.Errorf("Message(%s) has cause %s and correlation %s, want %s and %s", back.ID, got.Cause, got.Correlation, caused.ID, root.ID)
	}
}

func originBehind(s *scene) {
	s.declare(store.Queue{Name: cook, OnDead: store.Park})
	head, next := s.foreign(cook, "k1"), s.foreign(cook, "k2")
	s.commit(sends(head, next))
	s.fail(s.claim(cook, 1, "k1"), "k1", store.Dead)
	s.claim(cook, 9, "")
	for range 2 {
		if got := s.letter(cook, next.ID); got.BehindID != head.ID {
			s.Errorf("Dead(%s): behind %s, want %s", next.ID, got.BehindID, head.ID)
		}
		if all := s.dead(cook); len(all) != 2 || all[1].BehindID != head.ID {
			s.Errorf("Dead() = %+v, want two, one behind %s", all, head.ID)
		}
		_, err := s.store.Operate(s.ctx(), by(store.Act{Verb: store.RetryDead, ID: next.ID}))
		if !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), head.ID) {
			s.Errorf("Operate(retry %s) = %v, want a conflict that names %s", next.ID, err, head.ID)
		}
		s.clock.move(time.Hour)
		s.prune(store.Retention{Keep: time.Minute}) // both are copied aside
	}
	s.operate(store.Act{Verb: store.RetryDead, Queue: cook})
	if audit := s.audit(); len(audit) != 1 || !strings.Contains(audit[0].After, head.ID) || !strings.Contains(audit[0].After, next.ID) {
		s.Errorf("Audit() = %+v, want an act on %s to %s", audit, head.ID, next.ID)
	}
	s.drain(cook, 1, "k1 k2")
}

func originWaits(s *scene) {
	since := s.clock.Now()
	early := awaits(1, "k")
	early.Since = since
	run := s.leased("a")
	s.update(&store.RunUpdate{RunRef: run, Waits: []store.Wait{early}})
	m := s.foreign(ready, "k1")
	s.commit(sends(m))
	mail := s.handedMail(0, "1 k1")
	s.came("Mail", mail[0].Message, m)
	s.restart()
	again := s.claimRun("a")
	s.came("Mail of a claim", again.Mail[0].Message, m)
	late := awaits(2, "k") // begun since before it came
	late.Since = since
	s.unread(&store.RunUpdate{RunRef: again.RunRef, Read: last(again.Mail), Verdict: store.Waiting, Waits: []store.Wait{late}}, true)
	s.mailed(s.claimRun("a"), "2 k1")
}

func originRetention(s *scene) {
	s.declareCook()
	m := s.foreign(cook, "1")
	m.Origin.SentAt = s.clock.Now().Add(-24 * time.Hour)
	s.commit(sends(m))
	s.drain(cook, 9, "1")
	since := store.MessageQuery{Topic: cook, Since: s.clock.Now().Add(-time.Minute)}
	s.clock.move(time.Minute)
	s.prune(store.Retention{Keep: time.Hour})
	if list, err := s.store.Reader().Messages(s.ctx(), since); err != nil || len(list) != 1 {
		s.Errorf("Messages(since a minute before it came) = %d, %v, want 1", len(list), err)
	}
	s.clock.move(time.Hour)
	s.prune(store.Retention{Keep: time.Hour})
	s.listed(cook, "")
	again := s.foreign(cook, "1")
	s.commit(sends(again)) // as far as retention goes
	if again.Pos == m.Pos {
		s.Errorf("a message that retention has forgotten is at %d again, want a new place", again.Pos)
	}
}

func originLimits(s *scene) {
	s.declareCook()
	for _, o := range []store.Origin{
		{From: "floor"}, {ID: "zzzzzz-1"}, {ID: "a\nb", From: "floor"}, {ID: "a", From: "a\nb"},
		{ID: strings.Repeat("a", store.MaxOrigin+1), From: "floor"}, {ID: "a", From: strings.Repeat("a", store.MaxOrigin+1)},
	} {
		bad := message(cook, "1")
		bad.Origin = &o
		c := sends(message(cook, "2"), bad)
		s.group(&store.Group{Changes: []*store.Change{c}})
		if c.Err == nil {
			s.Errorf("Commit(origin %.20q from %.20q): Err = nil, want an error", o.ID, o.From)
		}
	}
	s.listed(cook, "")
	long := s.foreign(cook, "3")
	long.Origin.ID, long.Origin.From = strings.Repeat("ä", store.MaxOrigin/2), strings.Repeat("b", store.MaxOrigin)
	s.commit(sends(long))
	s.came("Claim", s.claim(cook, 9, "3").Deliveries[0].Message, long)
}

func stampGrows(s *scene) {
	s.declare(store.Queue{Name: cook}, store.Queue{Name: serve})
	info := s.store.Info()
	last := info.Base
	if now := s.clock.Now().UnixMicro(); info.Base <= 0 || info.Base > now {
		s.Errorf("Info().Base = %d, want microseconds since 1970 at most, %d", info.Base, now)
	}
	var all []*store.Message
	for _, word := range []string{"1", "2", "3"} {
		a, b, c := message(cook, word), s.foreign(serve, word), message(serve, word)
		s.commit(sends(a, b))
		s.own(true, func(tx store.Tx) { s.appendIn(tx, []*store.Message{c}) })
		all = append(all, a, b, c)
	}
	for _, m := range all {
		if m.Stamp <= last {
			s.Errorf("stamp of %s = %d after %d, want it to grow", m.ID, m.Stamp, last)
		}
		last = m.Stamp
		if got := s.message(m.ID); got.Stamp != m.Stamp {
			s.Errorf("Message(%s).Stamp = %d, want %d", m.ID, got.Stamp, m.Stamp)
		}
	}
	for i, d := range s.claim(cook, 9, "1 2 3").Deliveries {
		if want := all[3*i].Stamp; d.Message.Stamp != want {
			s.Errorf("Claim(): stamp of %s = %d, want %d", d.Message.ID, d.Message.Stamp, want)
		}
	}
	s.restart()
	if got := s.store.Info(); got.Base != info.Base {
		s.Errorf("Info().Base after a restart = %d, want %d", got.Base, info.Base)
	}
}
