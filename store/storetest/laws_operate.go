package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func operateLaws() []Law {
	return []Law{
		{"operate/why", "An act without a person or a reason is refused, and nothing is done.", operateWhy},
		{"operate/audit", "Each act leaves a row: who, what, why, to what, before and after.", operateAudit},
		{"operate/conflict", "An act that the present state does not allow is refused with ErrConflict, and leaves nothing.", operateConflict},
		{"operate/not-found", "An act on what is not there is refused with ErrNotFound, and leaves nothing.", operateNotFound},
		{"operate/bulk", "An act on many dead letters settles those of the queue whose reason matches, oldest first, and says how many.", operateBulk},
		{"operate/dry-run", "A dry run counts and changes nothing.", operateDryRun},
		{"operate/edit", "Edit and retry replaces body and headers for the one queue; the journal and the other queues keep theirs.", operateEdit},
		{"operate/one-queue", "An act on a dead letter of one queue leaves the same message in another queue alone.", operateOneQueue},
		{"operate/at-most", "One act settles at most MaxOperate dead letters, and says that there are more.", operateAtMost},
	}
}

// unacted wants an act to be refused with an error, and to leave no row.
func (s *scene) unacted(a store.Act, want error) {
	s.Helper()
	rows := s.audit()
	got, err := s.store.Operate(s.ctx(), a)
	if err == nil || want != nil && !errors.Is(err, want) {
		s.Errorf("Operate(%s queue %q, ID %q, by %q, why %q) = %+v, %v, want %v", a.Verb, a.Queue, a.ID, a.By, a.Why, got, err, want)
	}
	if after := s.audit(); len(after) != len(rows) {
		s.Errorf("Audit() after a refused %s = %d rows, want %d", a.Verb, len(after), len(rows))
	}
}

func (s *scene) audit() []store.AuditRow {
	s.Helper()
	rows, err := s.store.Reader().Audit(s.ctx(), store.MaxList)
	if err != nil {
		s.Fatalf("Audit() = %v, want nil", err)
	}
	return rows
}

// kill makes dead letters of the words of a line.
func (s *scene) kill(queue, line string) []*store.Message {
	s.Helper()
	ms := s.send(queue, line)
	b := s.claim(queue, store.MaxBatch, line)
	for _, m := range ms {
		s.fail(b, string(m.Body), store.Dead)
	}
	return ms
}

func operateWhy(s *scene) {
	s.declareCook()
	id := s.kill(cook, "1")[0].ID
	for _, verb := range []store.Verb{store.PauseQueue, store.RetryDead, store.DiscardDead} {
		a := store.Act{Verb: verb, Queue: cook}
		if verb != store.PauseQueue {
			a.ID = id
		}
		a.By = "ada"
		s.unacted(a, nil)
		a.By, a.Why = "", "because"
		s.unacted(a, nil)
	}
	s.unacted(store.Act{Verb: "explode", Queue: cook, By: "ada", Why: "because"}, nil)
	s.unacted(store.Act{By: "ada", Why: "because", Queue: cook}, nil)
	s.holds(cook, 0, 1)
	if s.state(cook).Paused != nil {
		s.Errorf("Queues() after a refused pause: paused, want not")
	}
}

func operateAudit(s *scene) {
	s.declareCook()
	id := s.kill(cook, "1")[0].ID
	other := s.kill(cook, "2")[0].ID
	acts := []struct {
		act    store.Act
		target []string
	}{
		{store.Act{Verb: store.PauseQueue, Queue: cook}, []string{cook}},
		{store.Act{Verb: store.ResumeQueue, Queue: cook}, []string{cook}},
		{store.Act{Verb: store.RetryDead, ID: id, Body: []byte("11")}, []string{id, cook}},
		{store.Act{Verb: store.DiscardDead, ID: other, Queue: cook}, []string{other, cook}},
	}
	for i, a := range acts {
		s.clock.move(time.Second)
		if got := s.operate(a.act); got.Count != 1 || got.More {
			s.Errorf("Operate(%s) = %+v, want 1", a.act.Verb, got)
		}
		rows := s.audit()
		if len(rows) != i+1 {
			s.Fatalf("Audit() after %d acts = %d rows, want %d", i+1, len(rows), i+1)
		}
		r := rows[0]
		if !r.At.Equal(s.clock.Now()) || r.By != "ada" || r.Why != "because" || r.Verb != string(a.act.Verb) {
			s.Errorf("Audit() after %s = %+v, want ada because now", a.act.Verb, r)
		}
		for _, part := range a.target {
			if !strings.Contains(r.Target, part) {
				s.Errorf("Audit() after %s: target %q, want %q in it", a.act.Verb, r.Target, part)
			}
		}
		if !json.Valid([]byte(r.Before)) || !json.Valid([]byte(r.After)) || r.Before == r.After {
			s.Errorf("Audit() after %s: before %q, after %q, want two different JSON texts", a.act.Verb, r.Before, r.After)
		}
	}
	s.crash()
	if rows := s.audit(); len(rows) != len(acts) {
		s.Errorf("Audit() after a crash = %d rows, want %d", len(rows), len(acts))
	}
	if one, err := s.store.Reader().Audit(s.ctx(), 1); err != nil || len(one) != 1 || one[0].Verb != string(store.DiscardDead) {
		s.Errorf("Audit(1) = %d rows, %v, want the newest", len(one), err)
	}
}

// by signs an act.
func by(a store.Act) store.Act {
	a.By, a.Why = "ada", "because"
	return a
}

func operateConflict(s *scene) {
	s.declareCook()
	ms := s.send(cook, "1 2")
	b := s.claim(cook, 1, "1")
	s.unacted(by(store.Act{Verb: store.ResumeQueue, Queue: cook}), store.ErrConflict)
	s.unacted(by(store.Act{Verb: store.RetryDead, ID: ms[0].ID}), store.ErrConflict)
	s.unacted(by(store.Act{Verb: store.DiscardDead, ID: ms[1].ID, Queue: cook}), store.ErrConflict)
	s.fail(b, "1", store.Dead)
	s.operate(store.Act{Verb: store.RetryDead, ID: ms[0].ID})
	s.unacted(by(store.Act{Verb: store.RetryDead, ID: ms[0].ID}), store.ErrConflict)
	s.operate(store.Act{Verb: store.PauseQueue, Queue: cook})
	s.unacted(by(store.Act{Verb: store.PauseQueue, Queue: cook}), store.ErrConflict)
	s.operate(store.Act{Verb: store.ResumeQueue, Queue: cook})
	s.drain(cook, 1, "1 2")
	s.unacted(by(store.Act{Verb: store.DiscardDead, ID: ms[0].ID}), store.ErrConflict)
	s.holds(cook, 0, 0)
}

func operateNotFound(s *scene) {
	s.declareCook()
	id := s.kill(cook, "1")[0].ID
	inc := s.store.Info().Incarnation
	for _, a := range []store.Act{
		{Verb: store.PauseQueue, Queue: "nobody"}, {Verb: store.ResumeQueue, Queue: "nobody"},
		{Verb: store.RetryDead, ID: inc.ID(1<<41 + 77)}, {Verb: store.DiscardDead, ID: "zzzzzz-1"},
		{Verb: store.DiscardDead, ID: "gibberish"}, {Verb: store.RetryDead, ID: id, Queue: "nobody"},
		{Verb: store.RetryDead, Queue: "nobody"},
	} {
		s.unacted(by(a), store.ErrNotFound)
	}
	s.holds(cook, 0, 1)
}

func operateBulk(s *scene) {
	s.declare(store.Queue{Name: cook}, store.Queue{Name: serve})
	s.kill(cook, "10 11 20 21 a30 12")
	s.kill(serve, "13")
	if got := s.operate(store.Act{Verb: store.RetryDead, Queue: cook, Matching: "no 1"}); got.Count != 3 || got.More {
		s.Errorf("Operate(retry matching \"no 1\") = %+v, want 3", got)
	}
	s.deadWords(cook, "20 21 a30")
	s.drain(cook, 9, "10 11 12")
	if got := s.operate(store.Act{Verb: store.DiscardDead, Queue: cook, Matching: "no 2"}); got.Count != 2 {
		s.Errorf("Operate(discard matching \"no 2\") = %+v, want 2", got)
	}
	s.deadWords(cook, "a30")
	s.holds(serve, 0, 1)
	if got := s.operate(store.Act{Verb: store.RetryDead}); got.Count != 2 {
		s.Errorf("Operate(retry, any queue) = %+v, want 2", got)
	}
	s.drain(cook, 9, "a30")
	s.drain(serve, 9, "13")
	s.kill(cook, "100")
	for _, pattern := range []string{"%", "_", "no 1_0", "NO 100%", "'"} {
		if got, err := s.store.Operate(s.ctx(), by(store.Act{Verb: store.DiscardDead, Queue: cook, Matching: pattern})); got.Count != 0 {
			s.Errorf("Operate(discard matching %q) = %+v, %v, want 0: it is text, not a pattern", pattern, got, err)
		}
	}
	s.holds(cook, 0, 1)
}

func operateDryRun(s *scene) {
	s.declareCook()
	ms := s.kill(cook, "1 2 3")
	for _, a := range []store.Act{
		{Verb: store.RetryDead, Queue: cook, DryRun: true}, {Verb: store.DiscardDead, Queue: cook, Matching: "no", DryRun: true},
	} {
		if got := s.operate(a); got.Count != 3 {
			s.Errorf("Operate(%s, dry run) = %+v, want 3", a.Verb, got)
		}
	}
	if got := s.operate(store.Act{Verb: store.RetryDead, ID: ms[0].ID, DryRun: true}); got.Count != 1 {
		s.Errorf("Operate(retry one, dry run) = %+v, want 1", got)
	}
	s.operate(store.Act{Verb: store.PauseQueue, Queue: cook, DryRun: true})
	if s.state(cook).Paused != nil {
		s.Errorf("Queues() after a dry run of pause: paused, want not")
	}
	s.deadWords(cook, "1 2 3")
	s.holds(cook, 0, 3)
	s.claim(cook, 9, "")
	s.operate(store.Act{Verb: store.RetryDead, Queue: cook})
	s.drain(cook, 9, "1 2 3")
}

func operateEdit(s *scene) {
	s.declare(subscriber(waiter), subscriber(billing))
	m := message(ready, "k1")
	m.Headers = []byte(`{"tenant":"blue"}`)
	s.commit(sends(m))
	for _, queue := range []string{waiter, billing} {
		s.fail(s.claim(queue, 9, "k1"), "k1", store.Dead)
	}
	s.operate(store.Act{Verb: store.RetryDead, Queue: waiter, ID: m.ID, Body: []byte("mended"), Headers: []byte(`{"tenant":"red"}`)})
	b := s.claim(waiter, 9, "mended")
	if got := b.Deliveries[0].Message; got.ID != m.ID || got.Key != "k" || string(got.Headers) != `{"tenant":"red"}` {
		s.Errorf("Claim() of an edited message = %s key %q headers %s, want %s, \"k\", the new ones", got.ID, got.Key, got.Headers, m.ID)
	}
	s.same("Message", s.message(m.ID).plain(), m)
	s.operate(store.Act{Verb: store.RetryDead, Queue: billing, ID: m.ID})
	s.same("Claim", s.claim(billing, 9, "k1").Deliveries[0].Message, m)
	s.crash()
	b = s.claim(waiter, 9, "mended")
	s.fail(b, "mended", store.Dead)
	if l := s.letter(waiter, m.ID); !l.Edited || string(l.Message.Body) != "mended" {
		s.Errorf("Dead() of an edited message = edited %t, body %q, want true, \"mended\"", l.Edited, l.Message.Body)
	}
	s.operate(store.Act{Verb: store.RetryDead, Queue: waiter, ID: m.ID})
	s.drain(waiter, 9, "mended")
}

func operateOneQueue(s *scene) {
	s.declare(subscriber(waiter), subscriber(billing))
	m := s.send(ready, "1")[0]
	for _, queue := range []string{waiter, billing} {
		s.fail(s.claim(queue, 9, "1"), "1", store.Dead)
	}
	if got := s.operate(store.Act{Verb: store.RetryDead, Queue: waiter, ID: m.ID}); got.Count != 1 {
		s.Errorf("Operate(retry in one queue) = %+v, want 1", got)
	}
	s.holds(waiter, 1, 0)
	s.holds(billing, 0, 1)
	s.fail(s.claim(waiter, 9, "1"), "1", store.Dead)
	if got := s.operate(store.Act{Verb: store.DiscardDead, ID: m.ID}); got.Count != 2 {
		s.Errorf("Operate(discard in any queue) = %+v, want 2", got)
	}
	s.holds(waiter, 0, 0)
	s.holds(billing, 0, 0)
}

func operateAtMost(s *scene) {
	s.declare(store.Queue{Name: cook, OnDead: store.Park})
	const n = store.MaxOperate + 3
	s.kill(cook, "k0")
	var ms []*store.Message
	for i := range n - 1 { // they join the dead one, which costs less than to die each
		ms = append(ms, message(cook, fmt.Sprint("k", i+1)))
	}
	s.commit(&store.Change{Sends: ms[:store.MaxSends]}, &store.Change{Sends: ms[store.MaxSends:]})
	s.claim(cook, store.MaxBatch, "")
	s.holds(cook, 0, n)
	if got := s.operate(store.Act{Verb: store.DiscardDead, Queue: cook}); got.Count != store.MaxOperate || !got.More {
		s.Errorf("Operate(discard) of %d = %+v, want %d and more", n, got, store.MaxOperate)
	}
	s.deadWords(cook, fmt.Sprintf("k%d k%d k%d", n-3, n-2, n-1))
	if got := s.operate(store.Act{Verb: store.DiscardDead, Queue: cook}); got.Count != 3 || got.More {
		s.Errorf("Operate(discard) of the last 3 = %+v, want 3 and no more", got)
	}
	s.holds(cook, 0, 0)
}
