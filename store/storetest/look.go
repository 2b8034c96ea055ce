package storetest

import (
	"context"
	"slices"
	"strings"

	"github.com/weir-go/weir/store"
)

// note is a closure that writes a word to the user's table.
func (s *scene) note(word string) store.Closure {
	return func(ctx context.Context, tx store.Tx) error { return s.h.Note(ctx, tx, word) }
}

// notes wants the words in the user's table, in order.
func (s *scene) notes(want string) {
	s.Helper()
	got, err := s.h.Notes(s.ctx())
	if err != nil || strings.Join(got, " ") != want {
		s.Errorf("the user's table holds %q, %v, want %q", got, err, want)
	}
}

// state is a queue as the reader sees it.
func (s *scene) state(queue string) store.QueueState {
	s.Helper()
	all, err := s.store.Reader().Queues(s.ctx())
	if err != nil {
		s.Fatalf("Queues() = %v, want nil", err)
	}
	i := slices.IndexFunc(all, func(q store.QueueState) bool { return q.Name == queue })
	if i < 0 {
		s.Fatalf("Queues() = %d queues without %s, want it", len(all), queue)
	}
	return all[i]
}

// holds wants a queue's depth and how many are dead.
func (s *scene) holds(queue string, depth, dead int64) {
	s.Helper()
	if st := s.state(queue); st.Depth != depth || st.Dead != dead {
		s.Errorf("Queues(): %s has depth %d and %d dead, want %d and %d", queue, st.Depth, st.Dead, depth, dead)
	}
}

// listed wants the messages of a topic in the journal, oldest first.
func (s *scene) listed(topic, want string) {
	s.Helper()
	got, err := s.store.Reader().Messages(s.ctx(), store.MessageQuery{Topic: topic, Max: store.MaxList})
	if err != nil {
		s.Fatalf("Messages(%s) = %v, want nil", topic, err)
	}
	line := make([]string, len(got))
	for i, m := range got {
		line[len(got)-1-i] = s.message(m.ID).word()
	}
	if strings.Join(line, " ") != want {
		s.Errorf("Messages(%s), oldest first = %q, want %q", topic, line, want)
	}
}

// tale is a message's story.
type tale struct{ store.MessageStory }

func (t tale) word() string { return string(t.Body) }

func (t tale) plain() *store.Message { return &t.Message }

// message reads a message and what happened to it.
func (s *scene) message(id string) tale {
	s.Helper()
	m, err := s.store.Reader().Message(s.ctx(), id)
	if err != nil {
		s.Fatalf("Message(%s) = %v, want nil", id, err)
	}
	return tale{m}
}

// story is what a queue did with a message.
func (s *scene) story(queue, id string) store.QueueStory {
	s.Helper()
	m := s.message(id)
	for _, q := range m.Queues {
		if q.Queue == queue {
			return q
		}
	}
	s.Fatalf("Message(%s): %d queues without %s, want it", id, len(m.Queues), queue)
	return store.QueueStory{}
}

// dead lists a queue's dead letters, oldest first.
func (s *scene) dead(queue string) []store.DeadLetter {
	s.Helper()
	got, err := s.store.Reader().Dead(s.ctx(), store.DeadQuery{Queue: queue, Max: store.MaxList})
	if err != nil {
		s.Fatalf("Dead(%s) = %v, want nil", queue, err)
	}
	return got
}

// letter is one dead letter in full.
func (s *scene) letter(queue, id string) store.DeadLetter {
	s.Helper()
	got, err := s.store.Reader().Dead(s.ctx(), store.DeadQuery{Queue: queue, ID: id})
	if err != nil || len(got) != 1 {
		s.Fatalf("Dead(%s, %s) = %d letters, %v, want 1, nil", queue, id, len(got), err)
	}
	return got[0]
}

// operate carries out an act that must succeed.
func (s *scene) operate(a store.Act) store.Acted {
	s.Helper()
	a.By, a.Why = "ada", "because"
	got, err := s.store.Operate(s.ctx(), a)
	if err != nil {
		s.Fatalf("Operate(%s %s%s) = %v, want nil", a.Verb, a.Queue, a.ID, err)
	}
	return got
}

// prune prunes until nothing more is to be deleted.
func (s *scene) prune(r store.Retention) store.Pruned {
	s.Helper()
	if r.Max == 0 {
		r.Max = store.MaxPrune
	}
	var sum store.Pruned
	for range 1000 {
		got, err := s.store.Prune(s.ctx(), r)
		if err != nil {
			s.Fatalf("Prune(keep %s, max %d) = %v, want nil", r.Keep, r.Max, err)
		}
		if n := got.Messages + got.Batches + got.Other; n > int64(r.Max) {
			s.Errorf("Prune(keep %s, max %d) = %d rows, want at most %d", r.Keep, r.Max, n, r.Max)
		}
		sum.Messages += got.Messages
		sum.Batches += got.Batches
		sum.Other += got.Other
		if !got.More {
			return sum
		}
	}
	s.Fatalf("Prune(keep %s, max %d) has more after 1000 steps, want an end", r.Keep, r.Max)
	return sum
}

// own runs fn in a transaction of the caller's own, and ends it as told.
func (s *scene) own(commit bool, fn func(tx store.Tx)) {
	s.Helper()
	o, err := s.h.Begin(s.ctx())
	if err != nil {
		s.Fatalf("begin a transaction of the caller's own = %v, want nil", err)
	}
	ended := false
	defer func() { // fn may end the goroutine
		if !ended {
			_ = o.Rollback()
		}
	}()
	fn(o.Tx)
	ended = true
	end := o.Rollback
	if commit {
		end = o.Commit
	}
	if err := end(); err != nil {
		s.Fatalf("end the transaction of the caller's own (commit: %t) = %v, want nil", commit, err)
	}
}
