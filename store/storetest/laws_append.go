package storetest

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

func appendLaws() []Law {
	return []Law{
		{"append/visible", "What a commit appended is there for every process, as it was handed over.", appendVisible},
		{"append/positions", "Positions rise in the order of the sends: within a change, over a group's changes, over commits and processes; an ID is the position in text.", appendPositions},
		{"append/opaque", "Bodies are opaque bytes and keys any text: empty ones, NUL, invalid UTF-8 and a megabyte come back as they were.", appendOpaque},
		{"append/cause", "Cause and correlation come back as they were given, be they IDs of this store, of another, or any text.", appendCause},
		{"append/undeclared", "A send to a topic never declared declares it; the command's queue, declared later, starts at the earliest.", appendUndeclared},
		{"append/incarnation", "An incarnation is six letters and digits, kept over a store's life.", appendIncarnation},
		{"append/concurrent", "Of concurrent commits each is written once: no position is given out twice, no message lost.", appendConcurrent},
	}
}

func appendVisible(s *scene) {
	s.declareCook()
	want := &store.Message{
		Topic: cook, Kind: store.KindCommand, Version: 3, Key: "table-4",
		Due:     s.clock.Now().Add(time.Hour),
		Headers: []byte(`{"tenant":"blue"}`), Body: []byte(`{"dish":"soup"}`),
	}
	s.commit(&store.Change{Sends: []*store.Message{want}})
	got, err := s.open().Reader().Message(s.ctx(), want.ID)
	if err != nil {
		s.Fatalf("Message(%s) in another process = %v, want nil", want.ID, err)
	}
	s.same("Message", &got.Message, want)
	s.clock.move(time.Hour)
	s.same("Claim", s.delivery(s.look(cook, 1).Batch, string(want.Body)).Message, want)
}

// same wants a message to be the one that was sent.
func (s *scene) same(call string, got, want *store.Message) {
	s.Helper()
	for _, f := range []struct {
		field     string
		got, want any
	}{
		{"Pos", got.Pos, want.Pos}, {"ID", got.ID, want.ID}, {"Topic", got.Topic, want.Topic},
		{"Kind", got.Kind, want.Kind}, {"Version", got.Version, want.Version}, {"Key", got.Key, want.Key},
		{"Cause", got.Cause, want.Cause}, {"Correlation", got.Correlation, want.Correlation},
		{"Headers", string(got.Headers), string(want.Headers)}, {"Body", string(got.Body), string(want.Body)},
		{"SentAt", got.SentAt.UTC(), want.SentAt.UTC()}, {"Due", got.Due.UTC(), want.Due.UTC()},
	} {
		if f.got != f.want {
			s.Errorf("%s(%s).%s = %.99q, want %.99q", call, want.ID, f.field, fmt.Sprint(f.got), fmt.Sprint(f.want))
		}
	}
}

func appendPositions(s *scene) {
	s.declareCook()
	first := messages(cook, "1 2")
	second := messages(cook, "3")
	s.commit(&store.Change{Sends: first}, &store.Change{Sends: second})
	s.restart()
	s.clock.move(time.Second)
	third := s.send(cook, "4 5")
	other := messages(cook, "6")
	if err := s.open().Commit(s.ctx(), &store.Group{Changes: []*store.Change{{Sends: other}}}); err != nil {
		s.Fatalf("Commit by a process that only sends = %v, want nil", err)
	}
	var last store.Pos
	for _, m := range append(append(append(first, second...), third...), other...) {
		if m.Pos <= last {
			s.Errorf("Commit: Pos of %q = %d, want above %d", m.Body, m.Pos, last)
		}
		last = m.Pos
		if want := s.store.Info().Incarnation.ID(m.Pos); m.ID != want {
			s.Errorf("Commit: ID of %q = %q, want %q", m.Body, m.ID, want)
		}
	}
	if want := s.clock.Now(); !third[0].SentAt.Equal(want) {
		s.Errorf("Commit: SentAt = %s, want the store's clock, %s", third[0].SentAt, want)
	}
	s.listed(cook, "1 2 3 4 5 6")
}

func appendOpaque(s *scene) {
	s.declareCook()
	bodies := [][]byte{nil, {}, {0}, []byte("a\x00b"), {0xff, 0xfe}, []byte("'; drop table messages; --"), bytes.Repeat([]byte("x"), 1<<20)}
	keys := []string{"", " ", "ключ 🍲", `"quoted" 'key'`, "a%b_c", "a/b:c", strings.Repeat("long", 64)}
	var sent []*store.Message
	for i, b := range bodies {
		sent = append(sent, &store.Message{Topic: cook, Kind: store.KindCommand, Version: 1, Key: keys[i], Body: b})
	}
	s.commit(&store.Change{Sends: sent})
	b := s.look(cook, 10).Batch
	if b == nil || len(b.Deliveries) != len(sent) {
		s.Fatalf("Claim() = %.200q, want %d messages", words(b), len(sent))
	}
	for i, d := range b.Deliveries {
		s.same("Claim", d.Message, sent[i])
	}
}

func appendCause(s *scene) {
	s.declareCook()
	root := s.send(cook, "1")[0]
	for i, text := range []string{root.ID, "zzzzzz-1hk3", "order-7", "12345", "0012", "-", s.store.Info().Incarnation.ID(1<<62 + 9)} {
		m := message(cook, fmt.Sprint(i))
		m.Cause, m.Correlation = text, text
		s.commit(&store.Change{Sends: []*store.Message{m}})
		if got := s.message(m.ID); got.Cause != text || got.Correlation != text {
			s.Errorf("Message(): cause %q, correlation %q, want %q for both", got.Cause, got.Correlation, text)
		}
	}
}

func appendUndeclared(s *scene) {
	s.send(cook, "1 2")
	s.send(ready, "3")
	s.declare(store.Queue{Name: cook}, subscriber(waiter))
	s.holds(cook, 2, 0)
	s.claim(cook, 5, "1 2")
	s.claim(waiter, 5, "")
}

func appendIncarnation(s *scene) {
	inc := s.store.Info().Incarnation
	if len(inc) != 6 {
		s.Errorf("Info().Incarnation = %q, want six letters and digits", inc)
	}
	s.restart()
	if got := s.store.Info().Incarnation; got != inc {
		s.Errorf("Info().Incarnation after a restart = %q, want %q", got, inc)
	}
	if got := s.store.Info(); got.Kind == "" || got.Name == "" || got.Schema < 1 {
		s.Errorf("Info() = %+v, want a kind, a name and a schema", got)
	}
}

func appendConcurrent(s *scene) {
	s.declareCook()
	const senders, each = 8, 20
	var sent [senders][]*store.Message
	var senderErrs [senders]error
	var all sync.WaitGroup
	for i := range senders {
		all.Go(func() {
			for n := range each {
				m := message(cook, fmt.Sprint(i*each+n))
				c := &store.Change{Sends: []*store.Message{m}}
				if err := s.store.Commit(s.ctx(), &store.Group{Changes: []*store.Change{c}}); err != nil || c.Err != nil {
					senderErrs[i] = fmt.Errorf("%w, %w", err, c.Err)
				}
				sent[i] = append(sent[i], m)
			}
		})
	}
	all.Wait()
	seen := map[store.Pos]bool{}
	for i, ms := range sent {
		if senderErrs[i] != nil {
			s.Errorf("Commit beside others = %v, want nil", senderErrs[i])
		}
		for n, m := range ms {
			if seen[m.Pos] || n > 0 && m.Pos <= ms[n-1].Pos {
				s.Errorf("Commit: Pos of %q = %d, want a new one above the sender's last", m.Body, m.Pos)
			}
			seen[m.Pos] = true
		}
	}
	s.holds(cook, senders*each, 0)
	if b := s.look(cook, store.MaxBatch).Batch; b == nil || len(b.Deliveries) != senders*each {
		s.Errorf("Claim() = %q, want %d messages", words(b), senders*each)
	}
}
