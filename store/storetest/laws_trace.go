package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func traceLaws() []Law {
	return []Law{
		{"trace/conversation", "A trace tells the messages with the key and all others of their conversations, each once, in the order they were sent.", traceConversation},
		{"trace/foreign-root", "A conversation whose root is in another store is told as well.", traceForeign},
		{"trace/kept", "What retention keeps of a conversation is told, what it deleted is not.", traceKept},
		{"trace/bounded", "A trace tells at most as many as asked for, and nothing for a key that never was.", traceBounded},
		{"messages/paged", "Messages are listed newest first, page by page, by topic, key and time, without bodies.", messagesPaged},
	}
}

// caused makes the message of a word that another message caused.
func caused(topic, word string, by *store.Message) *store.Message {
	m := message(topic, word)
	m.Cause, m.Correlation = by.ID, by.Correlation
	if m.Correlation == "" {
		m.Correlation = by.ID
	}
	return m
}

// traced wants a trace to tell the words in order.
func (s *scene) traced(key string, max int, want string) []store.MessageStory {
	s.Helper()
	got, err := s.store.Reader().Trace(s.ctx(), key, max)
	if err != nil {
		s.Fatalf("Trace(%q, %d) = %v, want nil", key, max, err)
	}
	var line []string
	for _, m := range got {
		line = append(line, s.message(m.ID).word())
	}
	if strings.Join(line, " ") != want {
		s.Errorf("Trace(%q, %d) = %q, want %q", key, max, line, want)
	}
	return got
}

func traceConversation(s *scene) {
	s.declare(store.Queue{Name: cook}, subscriber(waiter), store.Queue{Name: serve})
	root := message(serve, "1")
	s.commit(sends(root))
	other := message(serve, "x2")
	s.commit(sends(other))
	first := caused(cook, "k3", root)
	s.commit(sends(first))
	second := caused(ready, "4", first)
	s.commit(sends(second, caused(cook, "x5", other)))
	third := caused(serve, "k6", second)
	s.commit(sends(third))
	fourth := message(ready, "k7") // a conversation of its own, with the key
	s.commit(sends(fourth))
	s.commit(sends(caused(cook, "8", fourth), message(cook, "9")))
	b := s.claim(cook, 9, "k3 x5 8 9")
	s.fail(b, "k3", store.Retry)
	got := s.traced("k", 100, "1 k3 4 k6 k7 8")
	for _, m := range got {
		if len(m.Queues) != 1 {
			s.Errorf("Trace(): %s has stories of %d queues, want 1", m.ID, len(m.Queues))
			continue
		}
		if m.ID == first.ID && (m.Queues[0].State != "deferred" || len(m.Queues[0].Attempts) != 1 || m.Cause != root.ID || m.Correlation != root.ID) {
			s.Errorf("Trace(): %s is %q with %d attempts, caused by %q, want deferred, 1, %q", m.ID, m.Queues[0].State, len(m.Queues[0].Attempts), m.Cause, root.ID)
		}
	}
	s.traced("x", 100, "x2 x5")
}

func traceForeign(s *scene) {
	s.declareCook()
	a, b, c := message(cook, "k1"), message(ready, "2"), message(ready, "3")
	a.Cause, a.Correlation = "zzzzzz-9", "zzzzzz-7"
	b.Cause, b.Correlation = "zzzzzz-8", "zzzzzz-7"
	c.Cause, c.Correlation = "zzzzzz-8", "zzzzzz-6"
	s.commit(sends(a), sends(b), sends(c))
	s.traced("k", 100, "k1 2")
}

func traceKept(s *scene) {
	s.declareCook()
	root := message(cook, "k1")
	s.commit(sends(root))
	second, third := caused(cook, "2", root), caused(cook, "3", root)
	s.commit(sends(second, third))
	b := s.claim(cook, 9, "k1 2 3")
	s.done(b, "k1 3")
	s.fail(b, "2", store.Dead)
	s.clock.move(time.Hour)
	s.commit(sends(caused(cook, "k4", root)))
	s.prune(store.Retention{Keep: time.Minute})
	s.traced("k", 100, "2 k4")
}

func traceBounded(s *scene) {
	s.declareCook()
	root := message(cook, "k0")
	s.commit(sends(root))
	for i := range 9 {
		s.commit(sends(caused(cook, fmt.Sprint(i+1), root)))
	}
	got, err := s.store.Reader().Trace(s.ctx(), "k", 4)
	if err != nil || len(got) != 4 {
		s.Errorf("Trace(max 4) of 10 = %d, %v, want 4, nil", len(got), err)
	}
	s.traced("nobody", 100, "")
	s.traced("", 100, "")
}

func messagesPaged(s *scene) {
	s.declareCook()
	s.send(cook, "1 k2 3")
	s.send(ready, "k4")
	s.clock.move(time.Hour)
	later := s.clock.Now()
	s.send(cook, "k5 6")
	s.send(ready, "7")
	list := func(q store.MessageQuery, want string) []store.Message {
		s.Helper()
		got, err := s.store.Reader().Messages(s.ctx(), q)
		if err != nil {
			s.Fatalf("Messages(%+v) = %v, want nil", q, err)
		}
		var line []string
		for _, m := range got {
			if m.Body != nil {
				s.Errorf("Messages(%+v): %s has a body, want none in a list", q, m.ID)
			}
			line = append(line, s.message(m.ID).word())
		}
		if strings.Join(line, " ") != want {
			s.Errorf("Messages(%+v) = %q, want %q", q, line, want)
		}
		return got
	}
	page := list(store.MessageQuery{Topic: cook, Max: 2}, "6 k5")
	page = list(store.MessageQuery{Topic: cook, Max: 2, Before: page[1].Pos}, "3 k2")
	list(store.MessageQuery{Topic: cook, Max: 2, Before: page[1].Pos}, "1")
	var before store.Pos
	for _, want := range []string{"7 6", "k5 k4", "3 k2", "1", ""} {
		if page = list(store.MessageQuery{Max: 2, Before: before}, want); len(page) > 0 {
			before = page[len(page)-1].Pos
		}
	}
	list(store.MessageQuery{Key: "k", Topic: cook}, "k5 k2")
	list(store.MessageQuery{Key: "k"}, "k5 k4 k2")
	list(store.MessageQuery{Topic: cook, Since: later}, "6 k5")
	list(store.MessageQuery{Since: later}, "7 6 k5")
	list(store.MessageQuery{Max: 3}, "7 6 k5")
	list(store.MessageQuery{Topic: "nothing"}, "")
}
