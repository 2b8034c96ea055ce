package storetest

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func exchangeLaws() []Law {
	return []Law{
		{"batch/dense", "The numbers of a queue's batches are dense, from 1 on, whatever is handed back, abandoned, deferred or found empty in between; the queue tells the newest.", batchDense},
		{"batch/eager", "A batch claimed with its sends has the next number too, and one of which nothing is left to hand out has none.", batchEager},
		{"batch/whole", "A batch is read as it was claimed, settled or not, by whichever process.", batchWhole},
		{"batch/gone", "A batch that never was, or of which retention has deleted a message, is not found.", batchGone},
		{"duty/one", "A process is given the duties that it asks for, again too, until it ends or is lost.", dutyOne},
		{"duty/beside", "A duty that a living process has is not given to another that works beside it.", dutyBeside},
		{"duty/limits", "Duties are asked for by who works the store, with nothing else, and not too many.", dutyLimits},
	}
}

// numbered claims the line and wants its batch to have a number, which the queue tells too.
func (s *scene) numbered(no int64, line string) *store.Batch {
	s.Helper()
	b := s.claim(cook, 9, line)
	if b.No != no {
		s.Errorf("Claim() of %q = batch %d, want %d", line, b.No, no)
	}
	s.newest(max(no, s.state(cook).Newest))
	return b
}

// newest wants a queue to tell the number of its newest batch.
func (s *scene) newest(no int64) {
	s.Helper()
	if got := s.state(cook).Newest; got != no {
		s.Errorf("Queues(): the newest batch of %s is %d, want %d", cook, got, no)
	}
}

func batchDense(s *scene) {
	s.declareCook()
	s.newest(0)
	s.claim(cook, 9, "")
	s.send(cook, "1 2")
	s.numbered(1, "1 2")
	s.claim(cook, 9, "")
	late := message(cook, "3")
	late.Due = s.clock.Now().Add(time.Minute)
	s.commit(sends(late))
	s.claim(cook, 9, "") // it is deferred, and the cursor is past it
	s.newest(1)
	s.send(cook, "4 k5")
	b := s.numbered(2, "4 k5")
	s.fail(b, "k5", store.Retry)
	s.send(cook, "k6")
	s.claim(cook, 9, "") // it goes behind
	s.send(cook, "7")
	s.numbered(3, "7")
	s.crash()
	s.newest(3)
	s.send(cook, "8")
	s.done(s.numbered(1, "1 2"), "1 2")
	s.done(s.numbered(2, "4"), "4")
	s.numbered(3, "7")
	s.numbered(4, "8")
	s.restart()
	s.done(s.numbered(3, "7"), "7")
	s.clock.move(2 * time.Minute)
	s.done(s.numbered(4, "8"), "8")
	s.done(s.numbered(5, "3 k5"), "3 k5")
	s.done(s.numbered(6, "k6"), "k6")
	s.clock.move(time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	s.listed(cook, "")
	s.newest(6)
	s.send(cook, "9")
	s.numbered(7, "9")
	if states := s.declare(store.Queue{Name: cook}); states[0].Newest != 7 {
		s.Errorf("Declare(): the newest batch of %s is %d, want 7", cook, states[0].Newest)
	}
}

func batchEager(s *scene) {
	s.declareCook()
	last := int64(0)
	for _, word := range []string{"1", "2", "3"} {
		b := s.eager(&store.Group{Changes: []*store.Change{sends(message(cook, word))}}, cook, 9)
		if b == nil { // an adapter may leave it unanswered
			b = s.claim(cook, 9, word)
		}
		if last++; b.No != last {
			s.Errorf("batch of %s, claimed with its send = %d, want %d", word, b.No, last)
		}
		s.done(b, word)
		late := message(cook, "4")
		late.Due = s.clock.Now().Add(time.Minute)
		s.eager(&store.Group{Changes: []*store.Change{sends(late)}}, cook, 9)
		s.newest(last)
	}
}

// batch reads a batch, and wants the line.
func (s *scene) batch(ref store.BatchRef, line string) *store.Batch {
	s.Helper()
	b, err := s.store.Reader().Exchange().Batch(s.ctx(), ref.Queue, ref.No)
	if err != nil || words(b) != line {
		s.Fatalf("Batch(%d) = %q, %v, want %q", ref.No, words(b), err, line)
	}
	return b
}

func batchWhole(s *scene) {
	s.declareCook()
	late := s.foreign(cook, "9")
	late.Due = s.clock.Now().Add(time.Minute)
	sent := []*store.Message{message(cook, "1"), s.foreign(cook, "a2"), message(cook, "3"), message(cook, "4"), late}
	sent[0].Headers, sent[0].Cause = []byte(`{"a":"b"}`), sent[1].Origin.ID
	s.commit(sends(sent...))
	claimed := s.claim(cook, 3, "1 a2 3")
	at := s.clock.Now()
	s.claim(cook, 9, "4")
	s.fail(claimed, "1", store.Dead)
	s.done(claimed, "a2 3")
	s.clock.move(time.Hour)
	second := s.claim(cook, 9, "9")
	s.crash()
	for range 2 {
		b := s.batch(claimed.BatchRef, "1 a2 3")
		if b.No != claimed.No || b.Queue != claimed.Queue || b.Suspect || !b.ClaimedAt.Equal(at) {
			s.Errorf("Batch(%d) = %+v, suspect: %t, claimed at %s, want %+v, no suspect, at %s", claimed.No, b.BatchRef, b.Suspect, b.ClaimedAt, claimed.BatchRef, at)
		}
		for i, d := range b.Deliveries {
			want := claimed.Deliveries[i]
			if d.Index != want.Index || d.Attempt != 1 || d.Message.ID != want.Message.ID || d.Message.Pos != want.Message.Pos || d.Message.Stamp != want.Message.Stamp ||
				d.Message.Topic != cook || string(d.Message.Headers) != string(want.Message.Headers) || d.Message.Cause != want.Message.Cause {
				s.Errorf("Batch(%d): delivery %d = %+v of %+v, want %+v of %+v", claimed.No, i, d, d.Message, want, want.Message)
			}
		}
		s.came("Batch", b.Deliveries[1].Message, sent[1])
		s.batch(second.BatchRef, "9")
		s.operate(store.Act{Verb: store.PauseQueue, Queue: cook})
		s.restart()
		s.operate(store.Act{Verb: store.ResumeQueue, Queue: cook})
	}
	s.operate(store.Act{Verb: store.RetryDead, ID: sent[0].ID, Body: []byte("11")})
	s.batch(claimed.BatchRef, "11 a2 3")
}

func batchGone(s *scene) {
	s.declareCook()
	read := s.store.Reader().Exchange()
	for _, no := range []int64{0, 1, -1, 1 << 50} {
		if b, err := read.Batch(s.ctx(), s.ids[cook], no); !errors.Is(err, store.ErrNotFound) {
			s.Errorf("Batch(%d of a queue without any) = %q, %v, want ErrNotFound", no, words(b), err)
		}
	}
	if _, err := read.Batch(s.ctx(), 77, 1); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("Batch(1 of no queue) = %v, want ErrNotFound", err)
	}
	s.send(cook, "1 2")
	b := s.claim(cook, 9, "1 2")
	s.done(b, "2")
	s.clock.move(time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	if got, err := read.Batch(s.ctx(), b.Queue, b.No); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("Batch(%d, half of it deleted) = %q, %v, want ErrNotFound", b.No, words(got), err)
	}
	s.done(b, "1")
	s.send(cook, "3")
	next := s.claim(cook, 9, "3")
	s.clock.move(time.Hour)
	s.prune(store.Retention{Keep: time.Minute})
	if got, err := read.Batch(s.ctx(), b.Queue, b.No); !errors.Is(err, store.ErrNotFound) {
		s.Errorf("Batch(%d, deleted) = %q, %v, want ErrNotFound", b.No, words(got), err)
	}
	s.batch(next.BatchRef, "3")
}

// duties asks for those of the line, and wants those of the other.
func (s *scene) duties(st store.Store, ask, want string) {
	s.Helper()
	got, err := st.Claim(s.ctx(), store.ClaimRequest{Duties: strings.Fields(ask)})
	slices.Sort(got.Duties)
	if err != nil || strings.Join(got.Duties, " ") != want {
		s.Errorf("Claim(duties %q) = %q, %v, want %q", ask, strings.Join(got.Duties, " "), err, want)
	}
	if got.Batch != nil || got.Runs != nil || got.More {
		s.Errorf("Claim(duties %q) = %+v, want only duties", ask, got)
	}
}

func dutyOne(s *scene) {
	s.duties(s.store, "relay-a inlet-b", "inlet-b relay-a")
	s.duties(s.store, "relay-a relay-c", "relay-a relay-c")
	dead := s.crash()
	s.duties(s.store, "relay-a inlet-b", "inlet-b relay-a")
	if got, err := dead.Claim(s.ctx(), store.ClaimRequest{Duties: []string{"relay-d"}}); !errors.Is(err, store.ErrLeaseLost) {
		s.Errorf("Claim(a duty) of a process that was lost = %q, %v, want ErrLeaseLost", got.Duties, err)
	}
	s.restart()
	s.duties(s.store, "relay-a inlet-b relay-d", "inlet-b relay-a relay-d")
}

func dutyBeside(s *scene) {
	s.duties(s.store, "a b", "a b")
	second := s.open()
	err := second.Begin(s.ctx(), s.process())
	if _, ok := errors.AsType[*store.HeldError](err); ok {
		return // one works the store
	}
	if err != nil {
		s.Fatalf("Begin() of a second process = %v, want nil", err)
	}
	s.duties(second, "a b c", "c")
	s.duties(s.store, "a b c d", "a b d")
	if err := s.store.End(s.ctx()); err != nil {
		s.Fatalf("End() = %v, want nil", err)
	}
	s.duties(second, "a b c d", "a b c d")
	if err := second.End(s.ctx()); err != nil {
		s.Fatalf("End() = %v, want nil", err)
	}
	s.begin()
	s.duties(s.store, "a c", "a c")
}

func dutyLimits(s *scene) {
	for what, r := range map[string]store.ClaimRequest{
		"and a queue":  {Duties: []string{"a"}, Queue: 1, Max: 1},
		"and runs":     {Duties: []string{"a"}, Workflow: "w"},
		"twice":        {Duties: []string{"a", "a"}},
		"without name": {Duties: []string{""}},
		"too many":     {Duties: make([]string, store.MaxDuties+1)},
	} {
		if got, err := s.store.Claim(s.ctx(), r); err == nil {
			s.Errorf("Claim(duties, %s) = %q, nil, want an error", what, got.Duties)
		}
	}
	if got, err := s.open().Claim(s.ctx(), store.ClaimRequest{Duties: []string{"a"}}); err == nil {
		s.Errorf("Claim(a duty) without Begin = %q, nil, want an error", got.Duties)
	}
}
