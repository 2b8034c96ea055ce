package storetest

import (
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

// An adapter may leave Eager unanswered, so these laws take what it answered and
// what is then claimed together: it must be what claims alone would have given.
func eagerLaws() []Law {
	return []Law{
		{"eager/same", "What is claimed with a commit is what a claim after it would have given, and is not given again.", eagerSame},
		{"eager/behind-backlog", "Nothing is claimed with a commit past older messages: a queue that is not caught up is not asked.", eagerBehindBacklog},
		{"eager/abandoned", "Nothing is claimed with a commit past an abandoned batch.", eagerAbandoned},
		{"eager/due", "A commit claims nothing before its time.", eagerDue},
		{"eager/keys", "A commit claims nothing whose key is blocked.", eagerKeys},
		{"eager/durable", "What was claimed with a commit is leased: after a crash it is abandoned, not lost.", eagerDurable},
		{"eager/refused", "A commit claims nothing of a refused change, and nothing for a paused queue.", eagerRefused},
		{"eager/chain", "A commit that settles and sends claims what it sends, also for the queue it settles.", eagerChain},
	}
}

// eager commits a group and returns what was claimed with it for the queue.
func (s *scene) eager(g *store.Group, queue string, max int) *store.Batch {
	s.Helper()
	g.Eager = []store.Eager{{Queue: s.ids[queue], Max: max}}
	s.group(g)
	if len(g.Claimed) > 1 {
		s.Fatalf("Commit(eager for one queue): %d batches claimed, want at most 1", len(g.Claimed))
	}
	if len(g.Claimed) == 0 {
		return nil
	}
	b := g.Claimed[0]
	if b == nil || len(b.Deliveries) == 0 || len(b.Deliveries) > max || b.Queue != s.ids[queue] || b.No < 1 || b.Epoch < 1 || b.Suspect {
		s.Fatalf("Commit(eager, max %d): claimed %+v, want 1 to %d deliveries of queue %d", max, b, max, s.ids[queue])
	}
	return b
}

// together wants a line from what was claimed with a commit, if anything, and
// the claims after it; and acknowledges it all.
func (s *scene) together(b *store.Batch, queue string, want string) {
	s.Helper()
	var line []string
	if b == nil {
		b = s.look(queue, 2).Batch
	}
	for ; b != nil; b = s.look(queue, 2).Batch {
		line = append(line, words(b))
		s.done(b, words(b))
	}
	if got := strings.Join(line, " "); got != want {
		s.Errorf("Commit(eager) and the claims after it, %s = %q, want %q", queue, got, want)
	}
}

func eagerSame(s *scene) {
	s.declareCook()
	g := &store.Group{Changes: []*store.Change{{Sends: messages(cook, "1 k2")}, {Sends: messages(cook, "3 k4 5")}}}
	b := s.eager(g, cook, 3)
	if b != nil {
		for i, d := range b.Deliveries {
			s.same("Commit(eager)", d.Message, s.message(d.Message.ID).plain())
			if d.Index != i || d.Attempt != 1 || !d.FirstAt.IsZero() || !b.ClaimedAt.Equal(s.clock.Now()) {
				s.Errorf("Commit(eager): delivery %d has index %d, attempt %d, first at %s, want %d, 1, zero", i, d.Index, d.Attempt, d.FirstAt, i)
			}
		}
	}
	s.together(b, cook, "1 k2 3 k4 5")
	s.holds(cook, 0, 0)
}

func eagerBehindBacklog(s *scene) {
	s.declareCook()
	s.send(cook, "1 2 3")
	s.done(s.claim(cook, 2, "1 2"), "1 2")
	b := s.eager(&store.Group{Changes: []*store.Change{{Sends: messages(cook, "4 5")}}}, cook, 9)
	s.together(b, cook, "3 4 5")
}

func eagerAbandoned(s *scene) {
	s.declareCook()
	s.send(cook, "k1 k2")
	s.claim(cook, 1, "k1")
	s.claim(cook, 1, "k2")
	s.crash()
	b := s.eager(&store.Group{Changes: []*store.Change{{Sends: messages(cook, "k3 4")}}}, cook, 9)
	s.together(b, cook, "k1 k2 k3 4")
}

func eagerDue(s *scene) {
	s.declareCook()
	ms := messages(cook, "1 2")
	ms[0].Due = s.clock.Now().Add(time.Hour)
	s.together(s.eager(&store.Group{Changes: []*store.Change{{Sends: ms}}}, cook, 9), cook, "2")
	s.nextDue(cook, ms[0].Due)
	s.clock.move(time.Hour)
	b := s.eager(&store.Group{Changes: []*store.Change{{Sends: messages(cook, "3")}}}, cook, 9)
	if got := words(b); got != "" && got != "3" && got != "1 3" {
		s.Errorf("Commit(eager) beside a due message = %q, want what was sent", got)
	}
	if b != nil {
		s.done(b, words(b))
	}
	for b := s.look(cook, 9).Batch; b != nil; b = s.look(cook, 9).Batch {
		s.done(b, words(b))
	}
	s.holds(cook, 0, 0)
}

func eagerKeys(s *scene) {
	s.declareCook()
	s.send(cook, "k1 d1")
	b := s.claim(cook, 2, "k1 d1")
	s.fail(b, "k1", store.Retry)
	s.fail(b, "d1", store.Dead)
	got := s.eager(&store.Group{Changes: []*store.Change{{Sends: messages(cook, "k2 d2 3 k3")}}}, cook, 9)
	s.together(got, cook, "3")
	s.clock.move(time.Minute)
	s.together(nil, cook, "k1 k2 k3")
	s.holds(cook, 1, 1)
}

func eagerDurable(s *scene) {
	s.declareCook()
	b := s.eager(&store.Group{Changes: []*store.Change{{Sends: messages(cook, "1 2 3")}}}, cook, 2)
	s.crash()
	if b != nil {
		again := s.claim(cook, 9, "1 2")
		if !again.Suspect || again.No != b.No || again.Epoch != b.Epoch+1 {
			s.Errorf("Claim() after a crash = %+v, suspect %t, want %+v with the next epoch, suspect", again.BatchRef, again.Suspect, b.BatchRef)
		}
		s.done(again, "1 2")
		s.refuse(change(s.settle(b, "1", store.Done)), store.ErrFenced)
		s.together(nil, cook, "3")
	} else {
		s.together(nil, cook, "1 2 3")
	}
	s.holds(cook, 0, 0)
}

func eagerRefused(s *scene) {
	s.declare(store.Queue{Name: cook, Capacity: 2})
	g := &store.Group{Changes: []*store.Change{
		{Sends: messages(cook, "1")}, {Sends: messages(cook, "2 3"), Outside: true},
		{Sends: messages(cook, "4"), Closures: []store.Closure{failing}}, {Sends: messages(cook, "5")},
	}}
	s.together(s.eager(g, cook, 9), cook, "1 5")
	s.operate(store.Act{Verb: store.PauseQueue, Queue: cook})
	if b := s.eager(&store.Group{Changes: []*store.Change{{Sends: messages(cook, "6")}}}, cook, 9); b != nil {
		s.Errorf("Commit(eager) for a paused queue = %q, want nothing", words(b))
	}
	s.operate(store.Act{Verb: store.ResumeQueue, Queue: cook})
	s.together(nil, cook, "6")
}

func eagerChain(s *scene) {
	s.declareCook()
	s.send(cook, "0")
	b := s.claim(cook, 9, "0")
	for _, word := range []string{"1", "2", "3"} {
		c := change(s.verdict(b.BatchRef, b.Deliveries[0], store.Done))
		c.Sends = messages(cook, word)
		g := &store.Group{Changes: []*store.Change{c}}
		next := s.eager(g, cook, 9)
		if c.Err != nil {
			s.Fatalf("Commit(settle and send): Err = %v, want nil", c.Err)
		}
		if next == nil {
			next = s.look(cook, 9).Batch
		}
		if b = next; words(b) != word {
			s.Fatalf("Commit(eager) and a claim = %q, want %q", words(b), word)
		}
	}
	s.holds(cook, 1, 0)
}
