package storetest

import (
	"errors"
	"os"
	"time"

	"github.com/weir-go/weir/store"
)

func leaseLaws() []Law {
	return []Law{
		{"lease/abandoned", "After a crash the batches that were left open come first, with the epoch raised by one, holding only what is not settled, under the same indexes.", leaseAbandoned},
		{"lease/abandoned-in-order", "Abandoned batches come in the order of their claims, each once, however small Max is; settled ones do not come.", leaseAbandonedInOrder},
		{"lease/abandoned-only", "A claim that asks only for abandoned batches gets nothing else.", leaseAbandonedOnly},
		{"lease/own", "A process is not given what it holds itself.", leaseOwn},
		{"lease/again", "A batch that is abandoned again and again raises its epoch each time.", leaseAgain},
		{"lease/second", "A second process to begin is refused with a HeldError that names the first, or works beside it; the first goes on.", leaseSecond},
		{"lease/late-close", "The late Close of a process that was taken for dead takes nothing from the one that took over.", leaseLateClose},
		{"lease/processes", "Processes are listed newest first with what they said of themselves, their beat and their end; an ID is never used twice.", leaseProcesses},
		{"lease/sender", "A process that only sends and reads needs no Begin, and is not held up by the one that works the store.", leaseSender},
		{"lease/closed", "A closed store refuses calls with ErrClosed, and may be closed again.", leaseClosed},
	}
}

func leaseAbandoned(s *scene) {
	s.declareCook()
	s.send(cook, "1 2 k3 k4 5 6")
	old := s.claim(cook, 5, "1 2 k3 k4 5")
	s.done(old, "1")
	s.fail(old, "k3", store.Retry, "k4")
	s.crash()
	s.clock.move(time.Second)
	b := s.claim(cook, 1, "2 5")
	if b.No != old.No || b.Queue != old.Queue || b.Epoch != old.Epoch+1 || !b.ClaimedAt.Equal(s.clock.Now()) {
		s.Errorf("Claim() after a crash = %+v at %s, want %+v with epoch %d, now", b.BatchRef, b.ClaimedAt, old.BatchRef, old.Epoch+1)
	}
	for _, d := range b.Deliveries {
		if was := s.delivery(old, string(d.Message.Body)); d.Index != was.Index || d.Attempt != 1 {
			s.Errorf("Claim() after a crash: %q has index %d, attempt %d, want %d, 1", d.Message.Body, d.Index, d.Attempt, was.Index)
		}
	}
	s.done(b, "2 5")
	s.claim(cook, 9, "6")
	s.clock.move(time.Minute)
	s.done(s.claim(cook, 9, "k3"), "k3")
	s.claim(cook, 9, "k4")
}

func leaseAbandonedInOrder(s *scene) {
	s.declareCook()
	s.send(cook, "k1 k2 3 k4 5")
	s.claim(cook, 1, "k1")
	two := s.claim(cook, 2, "k2 3")
	s.claim(cook, 1, "k4")
	s.done(two, "k2 3")
	s.crash()
	s.done(s.claim(cook, 1, "k1"), "k1")
	s.claim(cook, 1, "k4")
	s.claim(cook, 1, "5")
	s.claim(cook, 1, "")
}

func leaseAbandonedOnly(s *scene) {
	s.declareCook()
	s.send(cook, "1 2")
	s.claim(cook, 1, "1")
	abandoned := func(want string) {
		s.Helper()
		got, err := s.store.Claim(s.ctx(), store.ClaimRequest{Queue: s.ids[cook], Max: 9, Abandoned: true})
		if err != nil || words(got.Batch) != want {
			s.Errorf("Claim(abandoned) = %q, %v, want %q, nil", words(got.Batch), err, want)
		}
	}
	abandoned("")
	s.crash()
	abandoned("1")
	abandoned("")
	s.restart()
	abandoned("1")
	s.claim(cook, 9, "2")
}

func leaseOwn(s *scene) {
	s.declareCook()
	s.send(cook, "1 2")
	s.claim(cook, 1, "1")
	s.claim(cook, 9, "2")
	s.clock.move(24 * time.Hour)
	if err := s.store.Heartbeat(s.ctx()); err != nil {
		s.Errorf("Heartbeat() = %v, want nil", err)
	}
	s.claim(cook, 9, "")
	if st := s.state(cook); st.Leased != 2 {
		s.Errorf("Queues(): %d leased, want 2", st.Leased)
	}
}

func leaseAgain(s *scene) {
	s.declareCook()
	s.send(cook, "1")
	b := s.claim(cook, 1, "1")
	for range 4 {
		s.crash()
		again := s.claim(cook, 1, "1")
		if again.No != b.No || again.Epoch != b.Epoch+1 {
			s.Errorf("Claim() after a crash = %+v, want %+v with epoch %d", again.BatchRef, b.BatchRef, b.Epoch+1)
		}
		b = again
	}
	s.done(b, "1")
	s.crash()
	s.claim(cook, 1, "")
}

func leaseSecond(s *scene) {
	s.declareCook()
	s.send(cook, "1 2")
	b := s.claim(cook, 1, "1")
	second := s.open()
	err := second.Begin(s.ctx(), s.process())
	if held, ok := errors.AsType[*store.HeldError](err); err != nil && (!ok || held.PID != os.Getpid() || held.Host != "here" || held.Since.IsZero()) {
		s.Errorf("Begin() of a second process = %v, want nil or a HeldError that names the first", err)
	}
	if err == nil {
		got, err := second.Claim(s.ctx(), store.ClaimRequest{Queue: s.ids[cook], Max: 9})
		if err != nil || words(got.Batch) != "2" {
			s.Errorf("Claim() of a second process = %q, %v, want \"2\", nil", words(got.Batch), err)
		}
	}
	if err := s.store.Heartbeat(s.ctx()); err != nil {
		s.Errorf("Heartbeat() beside a second process = %v, want nil", err)
	}
	s.done(b, "1")
	if err := second.Close(); err != nil {
		s.Errorf("Close() of the second process = %v, want nil", err)
	}
	s.restart()
}

func leaseLateClose(s *scene) {
	s.declareCook()
	s.send(cook, "1")
	dead := s.crash()
	b := s.claim(cook, 1, "1")
	if err := dead.Close(); err != nil {
		s.Errorf("Close() of the one taken for dead = %v, want nil", err)
	}
	third := s.open()
	if err := third.Begin(s.ctx(), s.process()); err != nil {
		if _, ok := errors.AsType[*store.HeldError](err); !ok {
			s.Errorf("Begin() of a third process = %v, want nil or a HeldError", err)
		}
	}
	if err := s.store.Heartbeat(s.ctx()); err != nil {
		s.Errorf("Heartbeat() of the one that took over = %v, want nil", err)
	}
	s.done(b, "1")
}

func leaseProcesses(s *scene) {
	first := *s.me
	if first.ID == 0 || !first.StartedAt.Equal(s.clock.Now()) || !first.BeatAt.Equal(s.clock.Now()) {
		s.Errorf("Begin() = process %d, started %s, beat %s, want an ID, now, now", first.ID, first.StartedAt, first.BeatAt)
	}
	s.clock.move(time.Minute)
	beat := s.clock.Now()
	if err := s.store.Heartbeat(s.ctx()); err != nil {
		s.Errorf("Heartbeat() = %v, want nil", err)
	}
	s.clock.move(time.Minute)
	s.crash()
	second := *s.me
	s.clock.move(time.Minute)
	s.restart()
	got, err := s.store.Reader().Processes(s.ctx(), 10)
	if err != nil || len(got) != 3 {
		s.Fatalf("Processes() = %d, %v, want 3, nil", len(got), err)
	}
	if got[0].ID != s.me.ID || got[1].ID != second.ID || got[2].ID != first.ID || first.ID == second.ID || second.ID == s.me.ID {
		s.Errorf("Processes() = %d, %d, %d, want %d, %d, %d", got[0].ID, got[1].ID, got[2].ID, s.me.ID, second.ID, first.ID)
	}
	old := got[2]
	if old.PID != first.PID || old.Host != "here" || old.Version != "test" || len(old.Owns) != 1 || old.Owns[0] != "kitchen" ||
		!old.StartedAt.Equal(first.StartedAt) || !old.BeatAt.Equal(beat) || !old.EndedAt.IsZero() {
		s.Errorf("Processes(): the crashed one = %+v, want %+v with its beat at %s and no end", old, first, beat)
	}
	if !got[1].EndedAt.Equal(s.clock.Now()) || !got[0].EndedAt.IsZero() {
		s.Errorf("Processes(): ends = %s and %s, want %s and zero", got[1].EndedAt, got[0].EndedAt, s.clock.Now())
	}
	if one, err := s.store.Reader().Processes(s.ctx(), 1); err != nil || len(one) != 1 || one[0].ID != s.me.ID {
		s.Errorf("Processes(1) = %d, %v, want the newest", len(one), err)
	}
}

func leaseSender(s *scene) {
	s.declare(store.Queue{Name: cook, Capacity: 1})
	sender := s.open()
	c := &store.Change{Sends: messages(cook, "1"), Outside: true, Closures: []store.Closure{s.note("sent")}}
	full := &store.Change{Sends: messages(cook, "2"), Outside: true}
	if err := sender.Commit(s.ctx(), &store.Group{Changes: []*store.Change{c, full}}); err != nil || c.Err != nil {
		s.Errorf("Commit() without Begin = %v, Err %v, want nil, nil", err, c.Err)
	}
	if _, ok := errors.AsType[*store.FullError](full.Err); !ok {
		s.Errorf("Commit() without Begin beyond capacity: Err = %v, want a FullError", full.Err)
	}
	s.notes("sent")
	if _, err := sender.Operate(s.ctx(), store.Act{Verb: store.PauseQueue, Queue: cook, By: "ada", Why: "because"}); err != nil {
		s.Errorf("Operate() without Begin = %v, want nil", err)
	}
	s.claim(cook, 1, "")
	if _, err := sender.Operate(s.ctx(), store.Act{Verb: store.ResumeQueue, Queue: cook, By: "ada", Why: "because"}); err != nil {
		s.Errorf("Operate() without Begin = %v, want nil", err)
	}
	s.claim(cook, 1, "1")
}

func leaseClosed(s *scene) {
	s.declareCook()
	id := s.send(cook, "1")[0].ID
	st := s.open()
	if err := st.Close(); err != nil {
		s.Fatalf("Close() = %v, want nil", err)
	}
	c := &store.Change{Sends: messages(cook, "2")}
	_, claim := st.Claim(s.ctx(), store.ClaimRequest{Queue: s.ids[cook], Max: 1})
	_, declare := st.Declare(s.ctx(), nil, nil)
	_, operate := st.Operate(s.ctx(), store.Act{Verb: store.PauseQueue, Queue: cook, By: "ada", Why: "because"})
	_, prune := st.Prune(s.ctx(), store.Retention{Keep: time.Hour, Max: 1})
	_, queues := st.Reader().Queues(s.ctx())
	_, read := st.Reader().Message(s.ctx(), id)
	for name, err := range map[string]error{
		"Begin": st.Begin(s.ctx(), s.process()), "Claim": claim, "Declare": declare, "Operate": operate, "Prune": prune,
		"Commit": st.Commit(s.ctx(), &store.Group{Changes: []*store.Change{c}}), "Queues": queues, "Message": read,
	} {
		if !errors.Is(err, store.ErrClosed) {
			s.Errorf("%s on a closed store = %v, want ErrClosed", name, err)
		}
	}
	if err := st.Close(); err != nil {
		s.Errorf("Close() again = %v, want nil", err)
	}
	s.claim(cook, 9, "1")
}
