package storetest

import (
	"context"
	"errors"
	"fmt"

	"github.com/weir-go/weir/store"
)

func closureLaws() []Law {
	return []Law{
		{"closure/with-ack", "A closure's writes commit with the settlement of its change.", closureWithAck},
		{"closure/in-order", "A change's closures run in order, after those of the changes before it.", closureInOrder},
		{"closure/fails", "A closure that returns an error refuses its own change with that error, and no other.", closureFails},
		{"closure/fails-at-commit", "What a closure wrote and the database refuses no sooner than as the transaction commits refuses its own change, and no other.", closureFailsAtCommit},
		{"closure/panics", "A closure that panics refuses its own change, and no other; the store goes on.", closurePanics},
		{"closure/fenced", "A closure of a refused change leaves nothing.", closureFenced},
		{"closure/figures", "A group's figures are added once, and what is sent after is claimed, however many closures of it fail.", closureFigures},
		{"closure/tx-ends", "A closure's transaction is of no use once the closure has returned.", closureTxEnds},
		{"closure/many-fail", "However many changes of a group fail by their closures, the writes of the others are there once each.", closureManyFail},
	}
}

func closureWithAck(s *scene) {
	s.declareCook()
	s.send(cook, "1")
	c := change(s.settle(s.claim(cook, 1, "1"), "1", store.Done))
	kind := ""
	c.Closures = []store.Closure{s.note("soup"), func(_ context.Context, tx store.Tx) error {
		kind = tx.StoreKind()
		return nil
	}}
	s.commit(c)
	if want := s.store.Info().Kind; kind != want {
		s.Errorf("StoreKind() of a closure's transaction = %q, want %q", kind, want)
	}
	s.crash()
	s.notes("soup")
	s.holds(cook, 0, 0)
}

func closureInOrder(s *scene) {
	var changes []*store.Change
	for i := range 3 {
		changes = append(changes, &store.Change{Closures: []store.Closure{s.note(fmt.Sprint(i, "a")), s.note(fmt.Sprint(i, "b"))}})
	}
	s.commit(changes...)
	s.notes("0a 0b 1a 1b 2a 2b")
}

func closureFails(s *scene) {
	s.declareCook()
	s.send(cook, "1 2 3")
	b := s.claim(cook, 3, "1 2 3")
	var changes []*store.Change
	for _, word := range []string{"1", "2", "3"} {
		c := change(s.settle(b, word, store.Done))
		c.Closures = []store.Closure{s.note(word)}
		if word == "2" {
			c.Sends, c.Closures = messages(cook, "4"), append(c.Closures, failing)
		}
		changes = append(changes, c)
	}
	s.group(&store.Group{Changes: changes})
	for i, want := range []error{nil, errClosure, nil} {
		if !errors.Is(changes[i].Err, want) {
			s.Errorf("Commit(three changes): Changes[%d].Err = %v, want %v", i, changes[i].Err, want)
		}
	}
	s.notes("1 3")
	s.listed(cook, "1 2 3")
	s.holds(cook, 1, 0)
	s.fail(b, "2", store.Retry)
}

func closureFailsAtCommit(s *scene) {
	s.declareCook()
	s.send(cook, "1 2 3 4")
	b := s.claim(cook, 4, "1 2 3 4")
	g := &store.Group{Figures: []store.FigureDelta{{Queue: s.ids[cook], Failed: 3}}}
	for _, word := range []string{"1", "2", "3"} {
		c := change(s.settle(b, word, store.Done))
		c.Closures = []store.Closure{s.note(word)}
		if word == "2" {
			c.Sends, c.Closures = messages(serve, "5"), append(c.Closures, s.h.Owe)
		}
		g.Changes = append(g.Changes, c)
	}
	g.Changes = append(g.Changes, change(s.settle(b, "4", store.Done)))
	s.group(g)
	for i, c := range g.Changes {
		if owes := i == 1; owes != (c.Err != nil) || errors.Is(c.Err, store.ErrUnavailable) {
			s.Errorf("Commit(four changes, the second owes): Changes[%d].Err = %v, want an error: %t, and no outage", i, c.Err, owes)
		}
	}
	s.notes("1 3")
	s.listed(serve, "")
	s.holds(cook, 1, 0)
	s.figures(cook, store.FigureMinute{Sent: 4, Done: 3, FigureDelta: store.FigureDelta{Failed: 3}})
	alone := change(s.settle(b, "2", store.Done))
	alone.Closures = []store.Closure{s.note("2"), s.h.Owe}
	s.group(&store.Group{Changes: []*store.Change{alone}})
	if alone.Err == nil || errors.Is(alone.Err, store.ErrUnavailable) {
		s.Errorf("Commit(a change that owes): Err = %v, want an error that is no outage", alone.Err)
	}
	s.notes("1 3")
	s.done(b, "2")
	s.holds(cook, 0, 0)
}

func closurePanics(s *scene) {
	s.declareCook()
	bad := &store.Change{Sends: messages(cook, "1"), Closures: []store.Closure{s.note("1"), func(context.Context, store.Tx) error { panic("no soup") }}}
	good := &store.Change{Sends: messages(cook, "2"), Closures: []store.Closure{s.note("2")}}
	s.group(&store.Group{Changes: []*store.Change{bad, good}})
	if bad.Err == nil || good.Err != nil {
		s.Errorf("Commit(one panics): Err = %v and %v, want an error and nil", bad.Err, good.Err)
	}
	s.notes("2")
	s.listed(cook, "2")
	s.send(cook, "3")
	s.claim(cook, 3, "2 3")
}

func closureFenced(s *scene) {
	s.declareCook()
	s.send(cook, "1 2")
	b := s.claim(cook, 2, "1 2")
	s.done(b, "1")
	stale := change(s.settle(b, "1", store.Done))
	stale.Closures = []store.Closure{s.note("stale")}
	good := change(s.settle(b, "2", store.Done))
	good.Closures = []store.Closure{s.note("good")}
	s.group(&store.Group{Changes: []*store.Change{stale, good}})
	if !errors.Is(stale.Err, store.ErrFenced) || good.Err != nil {
		s.Errorf("Commit(stale, good): Err = %v, %v, want ErrFenced, nil", stale.Err, good.Err)
	}
	s.notes("good")
}

func closureTxEnds(s *scene) {
	var kept store.Tx
	s.commit(&store.Change{Closures: []store.Closure{func(_ context.Context, tx store.Tx) error {
		kept = tx
		return nil
	}}})
	if err := s.lateNote(kept); err == nil {
		s.Errorf("a write in a closure's transaction after its commit = nil, want an error")
	}
	inside := &store.Change{Closures: []store.Closure{
		func(_ context.Context, tx store.Tx) error { kept = tx; return nil },
		func(context.Context, store.Tx) error {
			if err := s.lateNote(kept); err == nil {
				s.Errorf("a write in an earlier closure's transaction = nil, want an error")
			}
			return nil
		},
	}}
	s.commit(inside)
	s.notes("")
}

// lateNote writes in a transaction that has ended. A panic counts as an error.
func (s *scene) lateNote(tx store.Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return s.h.Note(s.ctx(), tx, "late")
}

func closureFigures(s *scene) {
	s.declareCook()
	g := &store.Group{Figures: []store.FigureDelta{{Queue: s.ids[cook], Failed: 3}}, Eager: []store.Eager{{Queue: s.ids[cook], Max: 9}}}
	for i := range 12 {
		c := &store.Change{Sends: messages(cook, fmt.Sprint(i))}
		if i < 10 {
			c.Closures = []store.Closure{failing}
		}
		g.Changes = append(g.Changes, c)
	}
	s.group(g)
	s.figures(cook, store.FigureMinute{Sent: 2, FigureDelta: store.FigureDelta{Failed: 3}})
	var b *store.Batch
	if len(g.Claimed) > 0 {
		b = g.Claimed[0]
	}
	s.together(b, cook, "10 11")
}

func closureManyFail(s *scene) {
	s.declareCook()
	var changes []*store.Change
	want := ""
	for i := range 30 {
		word := fmt.Sprint(i)
		c := &store.Change{Sends: messages(cook, word), Closures: []store.Closure{s.note(word)}}
		if i%7 == 3 {
			c.Closures = append(c.Closures, failing)
		} else if want += " " + word; i == 0 {
			want = word
		}
		changes = append(changes, c)
	}
	s.group(&store.Group{Changes: changes})
	for i, c := range changes {
		if failed := errors.Is(c.Err, errClosure); failed != (i%7 == 3) {
			s.Errorf("Commit(30 changes): Changes[%d].Err = %v, want a failure: %t", i, c.Err, i%7 == 3)
		}
	}
	s.notes(want)
	s.listed(cook, want)
}
