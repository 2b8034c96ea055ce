package storetest

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// The laws' stage: one command with its queue of the same name, and one event
// with its subscribers.
const (
	cook    = "kitchen.cook"
	serve   = "kitchen.serve"
	ready   = "kitchen.ready"
	waiter  = "waiter.ready"
	billing = "billing.ready"
)

// scene is a law's stage: a store, and the process that works it now.
//
// Messages are told apart by words: "k7" is the message with the key "k" and the
// body "k7", "7" has no key.
type scene struct {
	testing.TB
	h      Harness
	clock  *clock
	store  store.Store
	me     *store.Process
	queues []store.Queue
	ids    map[string]store.QueueID
}

func newScene(t testing.TB, open Open) *scene {
	t.Helper()
	c := newClock()
	s := &scene{TB: t, h: open(t, c.Now), clock: c, ids: map[string]store.QueueID{}}
	s.store = s.open()
	s.begin()
	return s
}

func (s *scene) ctx() context.Context { return s.Context() }

// open opens the store as one more process.
func (s *scene) open() store.Store {
	s.Helper()
	st, err := s.h.Open(s.ctx())
	if err != nil {
		s.Fatalf("Open() = %v, want nil", err)
	}
	s.Cleanup(func() { _ = st.Close() })
	return st
}

func (s *scene) process() *store.Process {
	return &store.Process{PID: os.Getpid(), Host: "here", Version: "test", Owns: []string{"kitchen"}}
}

func (s *scene) begin() {
	s.Helper()
	s.me = s.process()
	if err := s.store.Begin(s.ctx(), s.me); err != nil {
		s.Fatalf("Begin() = %v, want nil", err)
	}
}

// crash lets the process die and another take over. It returns the dead one's store.
func (s *scene) crash() store.Store {
	s.Helper()
	dead := s.store
	s.h.Crash(dead)
	s.succeed()
	return dead
}

// restart ends the process in an orderly way and starts another.
func (s *scene) restart() {
	s.Helper()
	if err := s.store.End(s.ctx()); err != nil {
		s.Fatalf("End() = %v, want nil", err)
	}
	if err := s.store.Close(); err != nil {
		s.Fatalf("Close() = %v, want nil", err)
	}
	s.succeed()
}

func (s *scene) succeed() {
	s.Helper()
	s.store = s.open()
	s.begin()
	if len(s.queues) > 0 {
		s.declare(s.queues...)
	}
}

// declare declares queues; one without a topic is that of the command of its name.
func (s *scene) declare(queues ...store.Queue) []store.QueueState {
	s.Helper()
	topics := make([]store.Topic, len(queues))
	for i := range queues {
		if queues[i].Topic.Name == "" {
			queues[i].Topic = store.Topic{Name: queues[i].Name, Kind: store.KindCommand}
		}
		topics[i] = queues[i].Topic
	}
	states, err := s.store.Declare(s.ctx(), topics, queues)
	if err != nil || len(states) != len(queues) {
		s.Fatalf("Declare(%d queues) = %d states, %v, want %d, nil", len(queues), len(states), err, len(queues))
	}
	for i, q := range queues {
		s.ids[q.Name] = states[i].ID
		known := slices.IndexFunc(s.queues, func(old store.Queue) bool { return old.Name == q.Name })
		if known < 0 {
			s.queues = append(s.queues, q)
		} else {
			s.queues[known] = q
		}
	}
	return states
}

// declareCook declares the command's queue with its zero settings.
func (s *scene) declareCook() {
	s.Helper()
	s.declare(store.Queue{Name: cook})
}

// subscriber is the queue of that name on the event.
func subscriber(name string) store.Queue {
	return store.Queue{Name: name, Topic: store.Topic{Name: ready, Kind: store.KindEvent}}
}

// message makes the message that a word stands for.
func message(topic, word string) *store.Message {
	kind := store.KindCommand
	if topic == ready {
		kind = store.KindEvent
	}
	return &store.Message{
		Topic: topic, Kind: kind, Version: 1,
		Key: strings.TrimRight(word, "0123456789"), Body: []byte(word),
	}
}

// messages makes the messages that the words of a line stand for.
func messages(topic, line string) []*store.Message {
	var ms []*store.Message
	for word := range strings.FieldsSeq(line) {
		ms = append(ms, message(topic, word))
	}
	return ms
}

// send appends the messages of a line in one change.
func (s *scene) send(topic, line string) []*store.Message {
	s.Helper()
	ms := messages(topic, line)
	s.commit(&store.Change{Sends: ms})
	return ms
}

// commit commits a group of changes, each of which must be written.
func (s *scene) commit(changes ...*store.Change) {
	s.Helper()
	s.group(&store.Group{Changes: changes})
	for i, c := range changes {
		if c.Err != nil {
			s.Fatalf("Commit(%d changes): Changes[%d].Err = %v, want nil", len(changes), i, c.Err)
		}
	}
}

// group commits a group, whatever becomes of its changes.
func (s *scene) group(g *store.Group) {
	s.Helper()
	if err := s.store.Commit(s.ctx(), g); err != nil {
		s.Fatalf("Commit(%d changes) = %v, want nil", len(g.Changes), err)
	}
}

// refuse commits one change that must be refused with want.
func (s *scene) refuse(c *store.Change, want error) {
	s.Helper()
	s.group(&store.Group{Changes: []*store.Change{c}})
	if !errors.Is(c.Err, want) {
		s.Errorf("Commit(%d settlements, %d sends): Err = %v, want %v", len(c.Settle), len(c.Sends), c.Err, want)
	}
}

// look claims whatever there is.
func (s *scene) look(queue string, max int) store.Claimed {
	s.Helper()
	got, err := s.store.Claim(s.ctx(), store.ClaimRequest{Queue: s.ids[queue], Max: max})
	if err != nil {
		s.Fatalf("Claim(%s, max %d) = %v, want nil", queue, max, err)
	}
	return got
}

// claim claims and wants just the messages of the line, in that order.
func (s *scene) claim(queue string, max int, line string) *store.Batch {
	s.Helper()
	b := s.look(queue, max).Batch
	if got := words(b); got != line {
		s.Fatalf("Claim(%s, max %d) = %q, want %q", queue, max, got, line)
	}
	return b
}

// words is the line that a batch's messages stand for; empty for no batch.
func words(b *store.Batch) string {
	if b == nil {
		return ""
	}
	line := make([]string, len(b.Deliveries))
	for i, d := range b.Deliveries {
		line[i] = string(d.Message.Body)
	}
	return strings.Join(line, " ")
}

// delivery finds a word's delivery in a batch.
func (s *scene) delivery(b *store.Batch, word string) store.Delivery {
	s.Helper()
	if b != nil {
		for _, d := range b.Deliveries {
			if string(d.Message.Body) == word {
				return d
			}
		}
	}
	s.Fatalf("batch %q has no %q", words(b), word)
	return store.Delivery{}
}

// settle is a verdict on a word's delivery. Retry and NotYet are due in a minute.
func (s *scene) settle(b *store.Batch, word string, v store.Verdict) store.Settlement {
	s.Helper()
	return s.verdict(b.BatchRef, s.delivery(b, word), v)
}

func (s *scene) verdict(b store.BatchRef, d store.Delivery, v store.Verdict) store.Settlement {
	set := store.Settlement{
		Batch: b, Index: d.Index, Pos: d.Message.Pos, Key: d.Message.Key,
		Verdict: v, Attempt: d.Attempt,
	}
	if v != store.Behind {
		set.Started, set.Took = s.clock.Now(), 5*time.Millisecond
	}
	switch v {
	case store.Retry, store.NotYet:
		set.Due = s.clock.Now().Add(time.Minute)
		set.Reason = "no " + string(d.Message.Body)
	case store.Dead:
		set.Reason = "no " + string(d.Message.Body)
		set.Stack = "goroutine 1"
	}
	return set
}

// change is the change that settles.
func change(settle ...store.Settlement) *store.Change { return &store.Change{Settle: settle} }

// fail settles one word, and sends those that follow it behind it, in one change.
func (s *scene) fail(b *store.Batch, word string, v store.Verdict, followers ...string) {
	s.Helper()
	c := change(s.settle(b, word, v))
	for _, f := range followers {
		c.Settle = append(c.Settle, s.settle(b, f, store.Behind))
	}
	s.commit(c)
}

// done acknowledges the messages of a line, each by a change of its own.
func (s *scene) done(b *store.Batch, line string) {
	s.Helper()
	var changes []*store.Change
	for word := range strings.FieldsSeq(line) {
		changes = append(changes, change(s.settle(b, word, store.Done)))
	}
	s.commit(changes...)
}
