package sqlite

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// newStore opens a store in a new file.
func newStore(t testing.TB, options ...Option) *Store {
	t.Helper()
	return openFile(t, filepath.Join(t.TempDir(), "test.db"), options...)
}

func openFile(t testing.TB, path string, options ...Option) *Store {
	t.Helper()
	s, err := open(context.Background(), path, options)
	if err != nil {
		t.Fatalf("open = %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return s
}

// beginStore is newStore by a process that works it.
func beginStore(t testing.TB, options ...Option) *Store {
	t.Helper()
	s := newStore(t, options...)
	begin(t, s)
	return s
}

func begin(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Begin(context.Background(), &store.Process{PID: 1, Host: "test", Owns: []string{"kitchen"}}); err != nil {
		t.Fatalf("Begin = %v", err)
	}
}

var cook = store.Queue{Name: "kitchen.cook", Topic: store.Topic{Name: "kitchen.cook", Kind: store.KindCommand}}

func declare(t testing.TB, s *Store, queues ...store.Queue) []store.QueueState {
	t.Helper()
	states, err := s.Declare(context.Background(), nil, queues)
	if err != nil {
		t.Fatalf("Declare = %v", err)
	}
	return states
}

func message(topic store.Topic, key, body string) *store.Message {
	return &store.Message{Topic: topic.Name, Kind: topic.Kind, Version: 1, Key: key, Body: []byte(body)}
}

// send appends messages from outside in one change.
func send(t testing.TB, s *Store, messages ...*store.Message) {
	t.Helper()
	commit1(t, s, &store.Change{Sends: messages, Outside: true})
}

// commit1 commits changes, all of which are expected to succeed.
func commit1(t testing.TB, s *Store, changes ...*store.Change) *store.Group {
	t.Helper()
	g := &store.Group{Changes: changes}
	if err := s.Commit(context.Background(), g); err != nil {
		t.Fatalf("Commit = %v", err)
	}
	for i, ch := range changes {
		if ch.Err != nil {
			t.Fatalf("change %d: %v", i, ch.Err)
		}
	}
	return g
}

func claimBatch(t testing.TB, s *Store, q store.QueueID, most int) *store.Batch {
	t.Helper()
	c := claimAny(t, s, q, most)
	if c.Batch == nil {
		t.Fatalf("Claim = no batch, want one")
	}
	return c.Batch
}

func claimAny(t testing.TB, s *Store, q store.QueueID, most int) store.Claimed {
	t.Helper()
	c, err := s.Claim(context.Background(), store.ClaimRequest{Queue: q, Max: most})
	if err != nil {
		t.Fatalf("Claim = %v", err)
	}
	return c
}

func settlement(b *store.Batch, i int, v store.Verdict) store.Settlement {
	d := b.Deliveries[i]
	return store.Settlement{Batch: b.BatchRef, Index: d.Index, Pos: d.Message.Pos, Key: d.Message.Key,
		Verdict: v, Attempt: d.Attempt, Started: b.ClaimedAt.Add(time.Millisecond), Took: time.Millisecond}
}

func keysOf(b *store.Batch) []string {
	var keys []string
	for _, d := range b.Deliveries {
		keys = append(keys, d.Message.Key+":"+string(d.Message.Body))
	}
	return keys
}
