package storetest

import (
	"fmt"
	"time"

	"github.com/weir-go/weir/store"
)

func limitLaws() []Law {
	return []Law{
		{"limits/sends", "A change, and an AppendIn, take MaxSends messages and refuse one more whole.", limitSends},
		{"limits/batch", "A batch holds at most MaxBatch messages; a claim for none, or for more, is refused.", limitBatch},
		{"limits/lists", "A list holds at most MaxList rows, however many are asked for.", limitLists},
		{"limits/prune", "A step of Prune for no rows, or for more than MaxPrune, is refused.", limitPrune},
		{"limits/malformed", "A message without a topic, a kind or a version is refused, and nothing of its change is written.", limitMalformed},
	}
}

// numbered makes n messages without a key.
func numbered(topic string, n int) []*store.Message {
	ms := make([]*store.Message, n)
	for i := range ms {
		ms[i] = message(topic, fmt.Sprint(i))
	}
	return ms
}

func limitSends(s *scene) {
	s.declareCook()
	over := &store.Change{Sends: numbered(cook, store.MaxSends+1)}
	s.group(&store.Group{Changes: []*store.Change{over}})
	if over.Err == nil {
		s.Errorf("Commit(%d sends in one change): Err = nil, want an error", len(over.Sends))
	}
	s.own(true, func(tx store.Tx) {
		if err := s.store.AppendIn(s.ctx(), tx, &store.Change{Sends: numbered(cook, store.MaxSends+1)}); err == nil {
			s.Errorf("AppendIn(%d messages) = nil, want an error", store.MaxSends+1)
		}
	})
	s.holds(cook, 0, 0)
	s.commit(&store.Change{Sends: numbered(cook, store.MaxSends)})
	s.holds(cook, store.MaxSends, 0)
}

func limitBatch(s *scene) {
	s.declareCook()
	s.commit(&store.Change{Sends: numbered(cook, store.MaxBatch+10)})
	for _, max := range []int{0, -1, store.MaxBatch + 1} {
		got, err := s.store.Claim(s.ctx(), store.ClaimRequest{Queue: s.ids[cook], Max: max})
		if err == nil || got.Batch != nil {
			s.Errorf("Claim(max %d) = %d messages, %v, want none and an error", max, len(words(got.Batch)), err)
		}
	}
	if _, err := s.store.Claim(s.ctx(), store.ClaimRequest{Queue: s.ids[cook] + 77, Max: 1}); err == nil {
		s.Errorf("Claim(a queue that never was) = nil, want an error")
	}
	if got := s.look(cook, store.MaxBatch); got.Batch == nil || len(got.Batch.Deliveries) != store.MaxBatch || !got.More {
		s.Errorf("Claim(max %d) = more %t, want %d messages and more", store.MaxBatch, got.More, store.MaxBatch)
	}
	s.crash()
	if got := s.look(cook, 1); got.Batch == nil || len(got.Batch.Deliveries) != store.MaxBatch {
		s.Errorf("Claim(max 1) of an abandoned batch: want all its %d messages", store.MaxBatch)
	}
}

func limitLists(s *scene) {
	s.declareCook()
	const n = store.MaxList + 5
	ms := numbered(cook, n)
	for _, m := range ms {
		m.Key = "k"
	}
	s.commit(&store.Change{Sends: ms})
	r := s.store.Reader()
	for _, max := range []int{store.MaxList, 1 << 30} {
		listed, err := r.Messages(s.ctx(), store.MessageQuery{Topic: cook, Max: max})
		if err == nil && len(listed) > store.MaxList || max == store.MaxList && len(listed) != max {
			s.Errorf("Messages(max %d) of %d = %d, %v, want at most %d", max, n, len(listed), err, store.MaxList)
		}
	}
	if trace, err := r.Trace(s.ctx(), "k", n); err == nil && len(trace) > store.MaxList {
		s.Errorf("Trace(max %d) of %d = %d, want at most %d", n, n, len(trace), store.MaxList)
	}
	if listed, err := r.Messages(s.ctx(), store.MessageQuery{}); err != nil || len(listed) != 50 {
		s.Errorf("Messages() = %d, %v, want the default, 50", len(listed), err)
	}
}

func limitPrune(s *scene) {
	s.declareCook()
	for _, max := range []int{0, -1, store.MaxPrune + 1} {
		if got, err := s.store.Prune(s.ctx(), store.Retention{Keep: time.Hour, Max: max}); err == nil {
			s.Errorf("Prune(max %d) = %+v, nil, want an error", max, got)
		}
	}
}

func limitMalformed(s *scene) {
	s.declareCook()
	for name, spoil := range map[string]func(*store.Message){
		"topic":   func(m *store.Message) { m.Topic = "" },
		"kind":    func(m *store.Message) { m.Kind = 0 },
		"version": func(m *store.Message) { m.Version = 0 },
	} {
		bad := message(cook, "2")
		spoil(bad)
		c := sends(message(cook, "1"), bad)
		s.group(&store.Group{Changes: []*store.Change{c}})
		if c.Err == nil {
			s.Errorf("Commit(a message without a %s): Err = nil, want an error", name)
		}
	}
	s.listed(cook, "")
	s.holds(cook, 0, 0)
}
