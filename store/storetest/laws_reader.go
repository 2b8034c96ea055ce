package storetest

import (
	"context"
	"errors"
	"time"

	"github.com/weir-go/weir/store"
)

func readerLaws() []Law {
	return []Law{
		{"reader/well", "Check finds nothing where all is well, whatever was worked, failed, crashed or was deleted.", readerWell},
		{"reader/other-process", "Every process reads the same.", readerOther},
		{"reader/empty", "An empty store answers every question.", readerEmpty},
		{"reader/cancelled", "A question whose context is done is not answered.", readerCancelled},
	}
}

func readerWell(s *scene) {
	s.declare(store.Queue{Name: cook, OnDead: store.Park}, subscriber(waiter))
	s.send(cook, "a1 a2 2 3 4")
	s.send(ready, "1")
	b := s.claim(cook, 4, "a1 a2 2 3")
	s.fail(b, "a1", store.Dead, "a2")
	s.fail(b, "2", store.Retry)
	s.restart()
	b = s.claim(cook, 4, "3")
	s.done(b, "3")
	s.clock.move(time.Hour)
	s.done(s.claim(cook, 4, "2 4"), "2 4")
	s.crash()
	s.prune(store.Retention{Keep: time.Minute})
	s.drain(waiter, 9, "1")
	s.operate(store.Act{Verb: store.RetryDead, Queue: cook})
	s.drain(cook, 9, "a1 a2")
	s.well()
}

// well wants Check to find nothing, of a process that lives.
func (s *scene) well() {
	s.Helper()
	if err := s.store.Heartbeat(s.ctx()); err != nil {
		s.Errorf("Heartbeat() = %v, want nil", err)
	}
	got, err := s.store.Reader().Check(s.ctx())
	if err != nil {
		s.Errorf("Check() = %v, want nil", err)
	}
	for _, f := range got {
		s.Errorf("Check() = %q, do: %q, want nothing", f.What, f.Do)
	}
}

func readerOther(s *scene) {
	s.declareCook()
	m := s.send(cook, "k1")[0]
	s.fail(s.claim(cook, 1, "k1"), "k1", store.Dead)
	mine, theirs := s.store, s.open()
	s.store = theirs
	s.told(cook, m, "dead")
	s.holds(cook, 0, 1)
	s.deadWords(cook, "k1")
	s.traced("k", 9, "k1")
	s.store = mine
	s.operate(store.Act{Verb: store.RetryDead, Queue: cook})
	s.store = theirs
	s.told(cook, m, "deferred")
	s.holds(cook, 1, 0)
	s.store = mine
	s.drain(cook, 1, "k1")
}

func readerEmpty(s *scene) {
	r := s.open().Reader()
	queues, err1 := r.Queues(s.ctx())
	figures, err2 := r.Figures(s.ctx(), time.Time{})
	listed, err3 := r.Messages(s.ctx(), store.MessageQuery{})
	trace, err4 := r.Trace(s.ctx(), "k", 10)
	dead, err5 := r.Dead(s.ctx(), store.DeadQuery{})
	audit, err6 := r.Audit(s.ctx(), 10)
	found, err7 := r.Check(s.ctx())
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7); err != nil {
		s.Errorf("questions to an empty store = %v, want nil", err)
	}
	if n := len(queues) + len(figures) + len(listed) + len(trace) + len(dead) + len(audit) + len(found); n != 0 {
		s.Errorf("questions to an empty store = %d rows, want none", n)
	}
	if got := s.prune(store.Retention{Keep: time.Hour}); got.Messages != 0 {
		s.Errorf("Prune() of an empty store = %+v, want nothing", got)
	}
}

func readerCancelled(s *scene) {
	s.declareCook()
	ctx, cancel := context.WithCancel(s.ctx())
	cancel()
	if _, err := s.store.Reader().Queues(ctx); !errors.Is(err, context.Canceled) {
		s.Errorf("Queues(ctx done) = %v, want context.Canceled", err)
	}
	if _, err := s.store.Claim(ctx, store.ClaimRequest{Queue: s.ids[cook], Max: 1}); !errors.Is(err, context.Canceled) {
		s.Errorf("Claim(ctx done) = %v, want context.Canceled", err)
	}
	s.send(cook, "1")
	s.claim(cook, 1, "1")
}
