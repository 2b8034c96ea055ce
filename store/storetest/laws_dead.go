package storetest

import (
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func deadLaws() []Law {
	return []Law{
		{"dead/letter", "A dead letter tells when, after how many attempts and why it died, and in full its body and what was tried.", deadLetter},
		{"dead/blocks", "Block: a dead message holds its key until it has been retried and done, or discarded; other keys go on.", deadBlocks},
		{"dead/parks", "Park: later messages of the key join the dead, behind it, and are retried with it in order.", deadParks},
		{"dead/parks-leased", "Park: what follows in the same batch joins the dead as well.", deadParksLeased},
		{"dead/skips", "Skip: later messages of the key go on; the dead one comes again when it is retried.", deadSkips},
		{"dead/retried-blocks", "A dead message that is retried and waits or fails again holds its key like any other, whatever the policy.", deadRetriedBlocks},
		{"dead/depth", "A death takes the message out of the depth, a retry puts it back, a discard leaves it out.", deadDepth},
		{"dead/kept", "Dead letters survive crashes, and are listed oldest first, page by page.", deadKept},
		{"dead/any-reason", "A reason may be any bytes: what is no text is made readable, and nothing is wedged by it.", deadAnyReason},
		{"dead/truncated", "Of a reason MaxReason bytes are kept, of a stack MaxStack.", deadTruncated},
	}
}

func deadLetter(s *scene) {
	s.declareCook()
	m := s.send(cook, "k1")[0]
	first := s.clock.Now()
	b := s.claim(cook, 1, "k1")
	s.fail(b, "k1", store.Retry)
	s.clock.move(time.Minute)
	b = s.claim(cook, 1, "k1")
	died := s.clock.Now()
	s.fail(b, "k1", store.Dead)
	got := s.dead(cook)
	if len(got) != 1 {
		s.Fatalf("Dead(%s) = %d letters, want 1", cook, len(got))
	}
	if l := got[0]; l.Queue != cook || l.Message.ID != m.ID || l.Message.Key != "k" || !l.DiedAt.Equal(died) || l.Attempts != 2 ||
		l.Reason != "no k1" || l.Quarantined || l.Edited || l.BehindID != "" || l.Message.Body != nil {
		s.Errorf("Dead(%s) = %+v, want %s after 2 attempts at %s, without its body", cook, l, m.ID, died)
	}
	l := s.letter(cook, m.ID)
	s.same("Dead", &l.Message, m)
	if len(l.History) != 2 {
		s.Fatalf("Dead(%s): history of %d, want 2", m.ID, len(l.History))
	}
	one, two := l.History[0], l.History[1]
	if one.No != 1 || one.Verdict != "retry" || !one.Started.Equal(first) || one.Took != 5*time.Millisecond || one.Reason != "no k1" ||
		!one.Due.Equal(died) || one.Process != s.me.ID {
		s.Errorf("Dead(%s): first attempt = %+v, want a retry at %s of 5ms due at %s", m.ID, one, first, died)
	}
	if two.No != 2 || two.Verdict != "dead" || !two.Started.Equal(died) || two.Stack != "goroutine 1" {
		s.Errorf("Dead(%s): second attempt = %+v, want a death at %s with its stack", m.ID, two, died)
	}
}

func deadBlocks(s *scene) {
	s.declareCook()
	s.send(cook, "a1 a2 b1")
	b := s.claim(cook, 9, "a1 a2 b1")
	s.fail(b, "a1", store.Dead, "a2")
	s.done(b, "b1")
	s.send(cook, "a3 b2")
	s.drain(cook, 9, "b2")
	s.clock.move(24 * time.Hour)
	s.crash()
	s.drain(cook, 9, "")
	s.holds(cook, 2, 1)
	s.operate(store.Act{Verb: store.RetryDead, ID: s.dead(cook)[0].Message.ID})
	b = s.claim(cook, 9, "a1")
	s.send(cook, "a4")
	s.drain(cook, 9, "")
	s.done(b, "a1")
	s.drain(cook, 9, "a2 a3 a4")
	s.holds(cook, 0, 0)
}

// deadWords are the bodies of a queue's dead letters, in the list's order.
func (s *scene) deadWords(queue, want string) {
	s.Helper()
	var line []string
	for _, l := range s.dead(queue) {
		line = append(line, s.message(l.Message.ID).word())
	}
	if got := strings.Join(line, " "); got != want {
		s.Errorf("Dead(%s) = %q, want %q", queue, got, want)
	}
}

func deadParks(s *scene) {
	s.declare(store.Queue{Name: cook, OnDead: store.Park})
	ms := s.send(cook, "a1 b1")
	b := s.claim(cook, 9, "a1 b1")
	s.fail(b, "a1", store.Dead)
	s.done(b, "b1")
	s.send(cook, "a2 b2 a3")
	s.drain(cook, 9, "b2")
	s.deadWords(cook, "a1 a2 a3")
	s.holds(cook, 0, 3)
	for _, l := range s.dead(cook)[1:] {
		if l.BehindID != ms[0].ID || l.Attempts != 0 {
			s.Errorf("Dead(): %s is behind %q after %d attempts, want behind %s after 0", l.Message.ID, l.BehindID, l.Attempts, ms[0].ID)
		}
	}
	s.operate(store.Act{Verb: store.RetryDead, ID: ms[0].ID})
	s.holds(cook, 3, 0)
	s.send(cook, "a4")
	s.done(s.claim(cook, 9, "a1"), "a1")
	s.drain(cook, 9, "a2 a3 a4")
	s.holds(cook, 0, 0)
}

func deadParksLeased(s *scene) {
	s.declare(store.Queue{Name: cook, OnDead: store.Park})
	ms := s.send(cook, "a1 a2 a3 b1")
	b := s.claim(cook, 9, "a1 a2 a3 b1")
	s.fail(b, "a1", store.Dead, "a2", "a3")
	s.done(b, "b1")
	s.deadWords(cook, "a1 a2 a3")
	s.holds(cook, 0, 3)
	s.operate(store.Act{Verb: store.RetryDead, ID: ms[0].ID})
	b = s.claim(cook, 9, "a1")
	s.fail(b, "a1", store.Dead)
	s.drain(cook, 9, "")
	s.holds(cook, 0, 3)
	s.operate(store.Act{Verb: store.RetryDead, Queue: cook})
	s.drain(cook, 9, "a1 a2 a3")
	s.holds(cook, 0, 0)
}

func deadSkips(s *scene) {
	s.declare(store.Queue{Name: cook, OnDead: store.Skip})
	ms := s.send(cook, "a1 a2 b1")
	b := s.claim(cook, 9, "a1 a2 b1")
	s.fail(b, "a1", store.Dead)
	s.done(b, "a2 b1")
	s.send(cook, "a3")
	s.drain(cook, 9, "a3")
	s.operate(store.Act{Verb: store.RetryDead, ID: ms[0].ID})
	s.drain(cook, 9, "a1")
	s.holds(cook, 0, 0)
}

func deadRetriedBlocks(s *scene) {
	for queue, policy := range map[string]store.OnDead{"block": store.Block, "park": store.Park, "skip": store.Skip} {
		s.declare(store.Queue{Name: queue, OnDead: policy})
		ms := s.send(queue, "a1")
		s.fail(s.claim(queue, 9, "a1"), "a1", store.Dead)
		s.operate(store.Act{Verb: store.RetryDead, ID: ms[0].ID})
		s.fail(s.claim(queue, 9, "a1"), "a1", store.Retry)
		s.send(queue, "a2 b1")
		s.drain(queue, 9, "b1")
		s.clock.move(time.Minute)
		s.drain(queue, 9, "a1 a2")
		s.holds(queue, 0, 0)
	}
}

func deadDepth(s *scene) {
	s.declareCook()
	ms := s.send(cook, "1 2 3")
	b := s.claim(cook, 9, "1 2 3")
	s.fail(b, "1", store.Dead)
	s.fail(b, "2", store.Dead)
	s.holds(cook, 1, 2)
	s.operate(store.Act{Verb: store.RetryDead, ID: ms[0].ID})
	s.holds(cook, 2, 1)
	s.operate(store.Act{Verb: store.DiscardDead, ID: ms[1].ID})
	s.holds(cook, 2, 0)
	s.crash()
	s.holds(cook, 2, 0)
	s.drain(cook, 9, "3 1")
	s.holds(cook, 0, 0)
}

func deadKept(s *scene) {
	s.declare(store.Queue{Name: cook}, store.Queue{Name: serve})
	s.send(serve, "0")
	s.fail(s.claim(serve, 1, "0"), "0", store.Dead)
	s.send(cook, "1 2 3 4 5")
	b := s.claim(cook, 9, "1 2 3 4 5")
	for _, word := range []string{"2", "1", "3", "5"} {
		s.clock.move(time.Second)
		s.fail(b, word, store.Dead)
	}
	s.crash()
	r := s.store.Reader()
	var seen []store.Pos
	after := store.Pos(0)
	for range 5 {
		page, err := r.Dead(s.ctx(), store.DeadQuery{Queue: cook, After: after, Max: 2})
		if err != nil {
			s.Fatalf("Dead(after %d, max 2) = %v, want nil", after, err)
		}
		for _, l := range page {
			seen = append(seen, l.Message.Pos)
			after = l.Message.Pos
		}
	}
	if len(seen) != 4 || seen[0] >= seen[1] || seen[1] >= seen[2] || seen[2] >= seen[3] {
		s.Errorf("Dead() page by page = %v, want 4 by position", seen)
	}
	match, err := r.Dead(s.ctx(), store.DeadQuery{Matching: "no 3"})
	if err != nil || len(match) != 1 || match[0].Message.Pos != seen[2] {
		s.Errorf("Dead(matching \"no 3\") = %d letters, %v, want 1, nil", len(match), err)
	}
	all, err := r.Dead(s.ctx(), store.DeadQuery{})
	if err != nil || len(all) != 5 {
		s.Errorf("Dead() = %d letters, %v, want 5, nil", len(all), err)
	}
}

func deadAnyReason(s *scene) {
	s.declareCook()
	ms := s.send(cook, "1 2")
	b := s.claim(cook, 9, "1 2")
	for i, v := range []store.Verdict{store.Dead, store.Retry} {
		set := s.settle(b, string(ms[i].Body), v)
		set.Reason, set.Stack = "\xff\xfe\x00 no soup <b>'%s'", "\x00\xc3"
		s.commit(change(set))
	}
	if l := s.letter(cook, ms[0].ID); !strings.Contains(l.Reason, "no soup <b>'%s'") {
		s.Errorf("Dead(): reason %q, want what was readable of it", l.Reason)
	}
	if st := s.told(cook, ms[1], "deferred"); !strings.Contains(st.Reason, "no soup <b>'%s'") {
		s.Errorf("Message(): reason %q, want what was readable of it", st.Reason)
	}
	if got := s.operate(store.Act{Verb: store.RetryDead, Queue: cook, Matching: "soup <b>'%s'"}); got.Count != 1 {
		s.Errorf("Operate(retry matching its reason) = %+v, want 1", got)
	}
	s.clock.move(time.Minute)
	s.drain(cook, 9, "1 2")
}

func deadTruncated(s *scene) {
	s.declareCook()
	id := s.send(cook, "1")[0].ID
	set := s.settle(s.claim(cook, 1, "1"), "1", store.Dead)
	set.Reason, set.Stack = strings.Repeat("é", store.MaxReason), strings.Repeat("s", 2*store.MaxStack)
	s.commit(change(set))
	l := s.letter(cook, id)
	last := l.History[len(l.History)-1]
	if len(l.Reason) > store.MaxReason || len(l.Reason) < store.MaxReason-3 || !strings.HasPrefix(set.Reason, l.Reason) {
		s.Errorf("Dead(): reason of %d bytes kept, want the first %d", len(l.Reason), store.MaxReason)
	}
	if len(last.Reason) > store.MaxReason || len(last.Stack) > store.MaxStack || len(last.Stack) < store.MaxStack-3 {
		s.Errorf("Dead(): history keeps a reason of %d and a stack of %d bytes, want at most %d and %d",
			len(last.Reason), len(last.Stack), store.MaxReason, store.MaxStack)
	}
}
