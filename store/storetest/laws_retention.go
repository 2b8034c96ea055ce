package storetest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func retentionLaws() []Law {
	return []Law{
		{"retention/age", "What is settled by all its queues is deleted once it is older than Keep, and not before.", retentionAge},
		{"retention/waits", "What waits for a queue is never deleted, however old.", retentionWaits},
		{"retention/refers", "What is deferred, dead or leased keeps its body and headers, and pins nothing else.", retentionRefers},
		{"retention/positions", "Positions and batch numbers never start again, even when everything was deleted.", retentionPositions},
		{"retention/place", "A queue's newest batch is kept: its place outlives the messages.", retentionPlace},
		{"retention/steps", "A step deletes at most Max rows, says what, and More as long as there is more.", retentionSteps},
		{"retention/ends", "Steps come to an end, and get to what is to go, also past much that is old and must be kept.", retentionEnds},
		{"retention/late", "A late subscriber from the earliest finds what is kept, each once, and its depth says how much.", retentionLate},
		{"retention/gaps", "Stories are told also where retention took the batches between an old one that is still open and the newest.", retentionGaps},
		{"retention/edited", "What a person replaced is kept until it is worked.", retentionEdited},
		{"retention/unread", "A topic without queues is kept as long as any other.", retentionUnread},
		{"retention/depth", "Deleting changes no count: depth, the dead and the room for senders are as before.", retentionDepth},
	}
}

func (s *scene) gone(id string) {
	s.Helper()
	if _, err := s.store.Reader().Message(s.ctx(), id); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("Message(%s) after it was deleted = %v, want ErrNotFound", id, err)
	}
}

func retentionAge(s *scene) {
	s.declare(subscriber(waiter), subscriber(billing))
	old := s.send(ready, "1 k2")
	s.drain(waiter, 9, "1 k2")
	s.drain(billing, 9, "1 k2")
	s.clock.move(30 * time.Minute)
	s.send(ready, "3")
	s.drain(waiter, 9, "3")
	s.drain(billing, 9, "3")
	s.clock.move(30*time.Minute - time.Microsecond)
	s.prune(store.Retention{Keep: time.Hour})
	s.listed(ready, "1 k2 3")
	s.clock.move(2 * time.Microsecond)
	if got := s.prune(store.Retention{Keep: time.Hour}); got.Messages != 2 {
		s.Errorf("Prune(keep 1h) = %d messages, want 2", got.Messages)
	}
	s.listed(ready, "3")
	s.gone(old[0].ID)
	s.gone(old[1].ID)
}

func retentionWaits(s *scene) {
	s.declare(subscriber(waiter), subscriber(billing), store.Queue{Name: cook})
	s.send(ready, "1 2 3")
	s.send(cook, "4 5")
	s.done(s.claim(cook, 1, "4"), "4")
	s.drain(waiter, 9, "1 2 3")
	s.done(s.claim(billing, 1, "1"), "1")
	s.clock.move(10_000 * time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	s.listed(ready, "2 3")
	s.listed(cook, "5")
	s.crash()
	s.drain(billing, 9, "2 3")
	s.drain(cook, 9, "5")
}

func retentionRefers(s *scene) {
	s.declareCook()
	ms := messages(cook, "1 2 k3 k4 5 6")
	for _, m := range ms {
		m.Headers = []byte(`{"word":"` + string(m.Body) + `"}`)
	}
	ms[4].Due = s.clock.Now().Add(100 * time.Hour)
	s.commit(&store.Change{Sends: ms})
	b := s.claim(cook, 9, "1 2 k3 k4 6")
	s.fail(b, "1", store.Dead)
	retry := s.settle(b, "k3", store.Retry)
	retry.Due = s.clock.Now().Add(100 * time.Hour)
	s.commit(change(retry, s.settle(b, "k4", store.Behind)))
	s.done(b, "2")
	s.clock.move(10 * time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	s.gone(ms[1].ID)
	l := s.letter(cook, ms[0].ID)
	s.same("Dead", &l.Message, ms[0])
	if len(l.History) != 1 {
		s.Errorf("Dead(): a history of %d, want 1", len(l.History))
	}
	for _, i := range []int{0, 2, 3, 4, 5} {
		s.same("Message", s.message(ms[i].ID).plain(), ms[i])
	}
	s.crash()
	b = s.claim(cook, 9, "6")
	s.same("Claim", b.Deliveries[0].Message, ms[5])
	s.done(b, "6")
	s.operate(store.Act{Verb: store.RetryDead, Queue: cook})
	b = s.claim(cook, 9, "1")
	s.same("Claim", b.Deliveries[0].Message, ms[0])
	s.done(b, "1")
	s.clock.move(100 * time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	b = s.claim(cook, 9, "k3 5")
	s.same("Claim", b.Deliveries[0].Message, ms[2])
	s.same("Claim", b.Deliveries[1].Message, ms[4])
	s.done(b, "k3 5")
	b = s.claim(cook, 9, "k4")
	s.same("Claim", b.Deliveries[0].Message, ms[3])
	s.done(b, "k4")
	s.holds(cook, 0, 0)
	s.clock.move(time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	for _, m := range ms {
		s.gone(m.ID)
	}
}

func retentionPositions(s *scene) {
	s.declareCook()
	var last store.Pos
	var no int64
	for i := range 4 {
		m := s.send(cook, fmt.Sprint(i))[0]
		if m.Pos <= last {
			s.Errorf("Commit() after everything was deleted: Pos = %d, want above %d", m.Pos, last)
		}
		b := s.claim(cook, 9, fmt.Sprint(i))
		if b.No <= no {
			s.Errorf("Claim() after everything was deleted: batch %d, want above %d", b.No, no)
		}
		last, no = m.Pos, b.No
		s.done(b, fmt.Sprint(i))
		s.clock.move(100 * time.Hour)
		s.prune(store.Retention{Keep: time.Minute})
		s.listed(cook, "")
		if i%2 == 1 {
			s.restart()
		} else {
			s.crash()
		}
	}
}

func retentionPlace(s *scene) {
	s.declare(subscriber(waiter), subscriber(billing))
	s.send(ready, "1 2")
	s.drain(waiter, 9, "1 2")
	s.drain(billing, 1, "1 2")
	s.clock.move(100 * time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	s.restart()
	s.send(ready, "3")
	s.clock.move(100 * time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	s.drain(waiter, 9, "3")
	s.drain(billing, 9, "3")
	s.holds(waiter, 0, 0)
}

func retentionSteps(s *scene) {
	s.declareCook()
	var line []string
	for i := range 40 {
		line = append(line, fmt.Sprint(i))
	}
	s.send(cook, strings.Join(line, " "))
	s.drain(cook, 7, strings.Join(line, " "))
	s.clock.move(100 * time.Hour)
	got, err := s.store.Prune(s.ctx(), store.Retention{Keep: time.Minute, Max: 10})
	if err != nil || !got.More || got.Messages+got.Batches+got.Other > 10 || got.Messages+got.Batches+got.Other < 1 {
		s.Errorf("Prune(max 10) of 40 = %+v, %v, want 1 to 10 rows and more", got, err)
	}
	all := s.prune(store.Retention{Keep: time.Minute, Max: 10})
	if got.Messages+all.Messages != 40 {
		s.Errorf("Prune(max 10) until no more = %d messages, want 40", got.Messages+all.Messages)
	}
	s.listed(cook, "")
	if again := s.prune(store.Retention{Keep: time.Minute}); again.Messages+again.Batches != 0 {
		s.Errorf("Prune() again = %+v, want nothing", again)
	}
}

func retentionEnds(s *scene) {
	s.declare(store.Queue{Name: cook}, store.Queue{Name: serve})
	for i := range 6 { // each process leaves a batch, a dead and a deferred one behind
		line := fmt.Sprintf("%d %d %d %d", 10*i, 10*i+1, 10*i+2, 10*i+3)
		ms := s.send(cook, line)
		b := s.look(cook, 4).Batch
		for b != nil && b.Suspect {
			b = s.look(cook, 4).Batch
		}
		s.fail(b, string(ms[1].Body), store.Dead)
		retry := s.settle(b, string(ms[2].Body), store.Retry)
		retry.Due = s.clock.Now().Add(1000 * time.Hour)
		s.commit(change(retry))
		s.done(b, string(ms[3].Body))
		s.crash()
	}
	s.send(serve, "1 2 3")
	s.drain(serve, 1, "1 2 3")
	s.clock.move(100 * time.Hour)
	if got := s.prune(store.Retention{Keep: time.Minute, Max: 1}); got.Messages != 6*4+3 {
		s.Errorf("Prune(max 1) until no more = %d messages, want %d", got.Messages, 6*4+3)
	}
	s.listed(serve, "")
	s.holds(cook, 12, 6)
}

func retentionLate(s *scene) {
	s.declare(subscriber(waiter))
	ms := s.send(ready, "1 2 3 k4")
	b := s.claim(waiter, 3, "1 2 3")
	s.done(b, "1 3")
	s.fail(b, "2", store.Dead)
	s.clock.move(100 * time.Hour)
	s.send(ready, "5")
	s.prune(store.Retention{Keep: time.Minute})
	early := subscriber(billing)
	early.FromEarliest = true
	depth := s.declare(early)[0].Depth
	s.gone(ms[0].ID)
	n := int64(0)
	for b := s.look(billing, 9).Batch; b != nil; b = s.look(billing, 9).Batch {
		n += int64(len(b.Deliveries))
		s.done(b, words(b))
	}
	if n != depth || n < 2 {
		s.Errorf("Declare(from earliest) after Prune = depth %d, and %d came, want the same", depth, n)
	}
	s.holds(billing, 0, 0)
	s.drain(waiter, 9, "k4 5")
}

func retentionGaps(s *scene) {
	s.declareCook()
	held := s.send(cook, "1")[0]
	b := s.claim(cook, 1, "1")
	for i := range 12 {
		s.send(cook, fmt.Sprint(2+i))
		s.drain(cook, 1, fmt.Sprint(2+i))
	}
	s.clock.move(100 * time.Hour)
	newest := s.send(cook, "20 21")
	last := s.claim(cook, 1, "20")
	s.prune(store.Retention{Keep: time.Minute})
	for range 2 {
		if st := s.told(cook, held, "leased"); st.Batch != b.No {
			s.Errorf("Message(): claimed in batch %d, want %d", st.Batch, b.No)
		}
		if st := s.told(cook, newest[0], "leased"); st.Batch != last.No {
			s.Errorf("Message(): claimed in batch %d, want %d", st.Batch, last.No)
		}
		s.told(cook, newest[1], "waiting")
		s.crash()
	}
}

func retentionEdited(s *scene) {
	s.declareCook()
	m := s.kill(cook, "1")[0]
	s.operate(store.Act{Verb: store.RetryDead, ID: m.ID, Body: []byte("mended")})
	s.clock.move(100 * time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	b := s.claim(cook, 9, "mended")
	s.fail(b, "mended", store.Retry)
	s.clock.move(100 * time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	s.crash()
	s.drain(cook, 9, "mended")
	s.clock.move(100 * time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	s.gone(m.ID)
}

func retentionUnread(s *scene) {
	s.send(ready, "1")
	s.clock.move(time.Hour)
	s.send(ready, "2")
	s.prune(store.Retention{Keep: time.Minute})
	s.listed(ready, "2")
	early := subscriber(waiter)
	early.FromEarliest = true
	s.declare(early)
	s.holds(waiter, 1, 0)
	s.drain(waiter, 9, "2")
	s.holds(waiter, 0, 0)
}

func retentionDepth(s *scene) {
	s.declare(store.Queue{Name: cook, Capacity: 4})
	s.send(cook, "1 2 3 4")
	b := s.claim(cook, 3, "1 2 3")
	s.done(b, "1")
	s.fail(b, "2", store.Dead)
	s.fail(b, "3", store.Retry)
	s.clock.move(100 * time.Hour)
	for range 2 {
		s.holds(cook, 2, 1)
		s.prune(store.Retention{Keep: time.Minute})
	}
	s.commit(outside(cook, "5 6"))
	s.full(cook, 4, 4, outside(cook, "7"))
	s.operate(store.Act{Verb: store.DiscardDead, Queue: cook})
	s.drain(cook, 9, "3 4 5 6")
	s.clock.move(100 * time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	s.holds(cook, 0, 0)
	s.commit(outside(cook, "7 8 9 10"))
	s.full(cook, 4, 4, outside(cook, "11"))
}
