package storetest

import (
	"github.com/weir-go/weir/store"
)

func placeLaws() []Law {
	return []Law{
		{"place/own-cursor", "Each subscriber has a place of its own: what one claims, settles or pauses moves no other.", placeOwnCursor},
		{"place/now-or-earliest", "A subscription starts after the newest message, from the earliest if it asks to, and a command's queue always at the earliest.", placeNowOrEarliest},
		{"place/from-declaration", "A queue has its place from its declaration on: a message sent before the first claim, even in another life, is in it.", placeFromDeclaration},
		{"place/kept", "Declaring again changes a queue's settings, never its place or number.", placeKept},
		{"place/only-claims-move", "Only a claim moves a queue's place: settling, operating, declaring and starting anew do not.", placeOnlyClaimsMove},
		{"place/names", "A name already used for another topic, or a topic for another kind, is refused, and nothing is declared.", placeNames},
		{"place/order", "Declare returns the queues' state in the order they were given.", placeOrder},
	}
}

func placeOwnCursor(s *scene) {
	s.declare(subscriber(waiter), subscriber(billing))
	s.send(ready, "1 k2 3")
	s.done(s.claim(waiter, 2, "1 k2"), "1 k2")
	b := s.claim(billing, 3, "1 k2 3")
	s.fail(b, "k2", store.Dead)
	s.operate(store.Act{Verb: store.PauseQueue, Queue: billing})
	s.send(ready, "k4")
	s.claim(waiter, 5, "3 k4")
	s.holds(waiter, 2, 0)
	s.holds(billing, 3, 1)
	s.claim(billing, 5, "")
}

func placeNowOrEarliest(s *scene) {
	s.send(ready, "1 2")
	s.send(cook, "3")
	early := subscriber(billing)
	early.FromEarliest = true
	s.declare(subscriber(waiter), early, store.Queue{Name: cook})
	s.holds(waiter, 0, 0)
	s.holds(billing, 2, 0)
	s.send(ready, "4")
	s.claim(waiter, 5, "4")
	s.claim(billing, 5, "1 2 4")
	s.claim(cook, 5, "3")
	first := s.declare(store.Queue{Name: "late", Topic: store.Topic{Name: ready, Kind: store.KindEvent}, FromEarliest: true})
	if first[0].Depth != 3 {
		s.Errorf("Declare(from earliest) of 3 messages = depth %d, want 3", first[0].Depth)
	}
}

func placeFromDeclaration(s *scene) {
	s.send(ready, "1")
	s.declare(subscriber(waiter))
	s.crash()
	s.send(ready, "2")
	s.crash()
	s.claim(waiter, 5, "2")
}

func placeKept(s *scene) {
	s.send(ready, "1")
	before := s.declare(subscriber(waiter))[0]
	s.send(ready, "2 3")
	s.claim(waiter, 1, "2")
	again := subscriber(waiter)
	again.FromEarliest, again.Capacity, again.Required, again.OnDead = true, 7, true, store.Skip
	after := s.declare(again)[0]
	if after.ID != before.ID || after.Capacity != 7 || !after.Required || after.OnDead != store.Skip || after.Depth != 2 {
		s.Errorf("Declare(again) = queue %d %+v, depth %d, want queue %d with the new settings and depth 2", after.ID, after.Queue, after.Depth, before.ID)
	}
	s.restart()
	if st := s.state(waiter); st.ID != before.ID || st.Capacity != 7 {
		s.Errorf("Queues() after a restart = queue %d, capacity %d, want %d, 7", st.ID, st.Capacity, before.ID)
	}
	s.claim(waiter, 5, "2")
	s.claim(waiter, 5, "3")
}

func placeOnlyClaimsMove(s *scene) {
	s.declareCook()
	s.send(cook, "1 2 3")
	b := s.claim(cook, 1, "1")
	s.operate(store.Act{Verb: store.PauseQueue, Queue: cook})
	s.operate(store.Act{Verb: store.ResumeQueue, Queue: cook})
	s.declareCook()
	s.done(b, "1")
	s.restart()
	s.crash()
	s.declareCook()
	if _, err := s.store.Reader().Changed(s.ctx()); err != nil {
		s.Errorf("Changed() = %v, want nil", err)
	}
	s.claim(cook, 5, "2 3")
}

func placeNames(s *scene) {
	s.declare(store.Queue{Name: cook}, subscriber(waiter))
	for name, bad := range map[string]store.Queue{
		"a queue of another topic": {Name: waiter, Topic: store.Topic{Name: serve, Kind: store.KindCommand}},
		"a topic of another kind":  {Name: billing, Topic: store.Topic{Name: ready, Kind: store.KindCommand}},
	} {
		beside := store.Queue{Name: "beside", Topic: store.Topic{Name: "beside", Kind: store.KindCommand}}
		_, err := s.store.Declare(s.ctx(), []store.Topic{beside.Topic, bad.Topic}, []store.Queue{beside, bad})
		if err == nil {
			s.Errorf("Declare(%s) = nil, want an error", name)
		}
	}
	wrong := message(ready, "1")
	wrong.Kind = store.KindCommand
	c := &store.Change{Sends: []*store.Message{wrong, message(cook, "2")}}
	s.group(&store.Group{Changes: []*store.Change{c}})
	if c.Err == nil {
		s.Errorf("Commit(a send to an event's topic as a command): Err = nil, want an error")
	}
	s.listed(cook, "")
	all, err := s.store.Reader().Queues(s.ctx())
	if err != nil || len(all) != 2 {
		s.Errorf("Queues() after refused declarations = %d, %v, want 2, nil", len(all), err)
	}
}

func placeOrder(s *scene) {
	queues := []store.Queue{subscriber(waiter), {Name: cook}, subscriber(billing), {Name: serve}}
	for i, st := range s.declare(queues...) {
		if st.Name != queues[i].Name || st.Topic != queues[i].Topic || st.ID == 0 {
			s.Errorf("Declare(): state %d = queue %d %s of %s, want %s of %s", i, st.ID, st.Name, st.Topic.Name, queues[i].Name, queues[i].Topic.Name)
		}
	}
	all, err := s.store.Reader().Queues(s.ctx())
	if err != nil || len(all) != 4 || all[0].Name != billing || all[3].Name != waiter {
		s.Errorf("Queues() = %d, %v, want 4 by name", len(all), err)
	}
}
