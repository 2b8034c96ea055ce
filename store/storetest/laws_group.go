package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/weir-go/weir/store"
)

func groupLaws() []Law {
	return []Law{
		{"group/all-or-nothing", "Of a group each change is written whole or not at all, and apart from the others.", groupAllOrNothing},
		{"group/order", "A group's changes are written in their order, however many.", groupOrder},
		{"group/sends-with-settlement", "What leaves with a settlement leaves if the settlement stands, and only then.", groupSendsWithSettlement},
		{"group/empty", "A group without changes, and a change without contents, are written.", groupEmpty},
		{"group/cancelled", "A commit whose context is done before it begins returns its error, and nothing is written.", groupCancelled},
		{"group/any-verdict", "Each verdict takes a delivery out of its batch and moves the depth by what it says.", groupAnyVerdict},
	}
}

var errClosure = errors.New("the table is locked")

func failing(context.Context, store.Tx) error { return errClosure }

func groupAllOrNothing(s *scene) {
	s.declareCook()
	s.send(cook, "1 2 3")
	b := s.claim(cook, 3, "1 2 3")
	s.done(b, "1")
	stale := change(s.settle(b, "1", store.Done), s.settle(b, "2", store.Done))
	stale.Sends, stale.Closures = messages(cook, "11 12"), []store.Closure{s.note("stale")}
	broken := change(s.settle(b, "2", store.Dead))
	broken.Sends, broken.Closures = messages(cook, "13"), []store.Closure{s.note("broken"), failing}
	good := change(s.settle(b, "3", store.Done))
	good.Sends, good.Closures = messages(cook, "14 15"), []store.Closure{s.note("good")}
	first, last := &store.Change{Sends: messages(cook, "10")}, &store.Change{Sends: messages(cook, "16")}
	s.group(&store.Group{Changes: []*store.Change{first, stale, broken, good, last}})
	for _, c := range []struct {
		name      string
		got, want error
	}{{"first", first.Err, nil}, {"stale", stale.Err, store.ErrFenced}, {"broken", broken.Err, errClosure}, {"good", good.Err, nil}, {"last", last.Err, nil}} {
		if !errors.Is(c.got, c.want) {
			s.Errorf("Commit(group): Err of the %s change = %v, want %v", c.name, c.got, c.want)
		}
	}
	s.listed(cook, "1 2 3 10 14 15 16")
	s.notes("good")
	s.holds(cook, 5, 0)
	s.done(b, "2")
	s.claim(cook, 9, "10 14 15 16")
}

func groupOrder(s *scene) {
	s.declareCook()
	var changes []*store.Change
	var want []string
	for i := range 500 {
		changes = append(changes, &store.Change{Sends: messages(cook, fmt.Sprint(i)), Outside: i%2 == 0})
		want = append(want, fmt.Sprint(i))
	}
	s.commit(changes...)
	for i := 1; i < len(changes); i++ {
		if a, b := changes[i-1].Sends[0], changes[i].Sends[0]; a.Pos >= b.Pos {
			s.Errorf("Commit: Pos of change %d = %d, want above %d", i, b.Pos, a.Pos)
		}
	}
	b := s.claim(cook, 500, strings.Join(want, " "))
	s.done(b, strings.Join(want, " "))
	s.holds(cook, 0, 0)
}

func groupSendsWithSettlement(s *scene) {
	s.declare(store.Queue{Name: cook}, store.Queue{Name: serve})
	s.send(cook, "1")
	b := s.claim(cook, 1, "1")
	c := change(s.settle(b, "1", store.Done))
	c.Sends = messages(serve, "2 3")
	s.commit(c)
	s.holds(cook, 0, 0)
	s.claim(serve, 2, "2 3")
	again := change(s.settle(b, "1", store.Done))
	again.Sends = messages(serve, "4")
	s.refuse(again, store.ErrFenced)
	s.holds(serve, 2, 0)
	s.listed(serve, "2 3")
}

func groupEmpty(s *scene) {
	s.declareCook()
	s.group(&store.Group{})
	s.commit(&store.Change{}, &store.Change{Outside: true})
	s.holds(cook, 0, 0)
}

func groupCancelled(s *scene) {
	s.declareCook()
	ctx, cancel := context.WithCancel(s.ctx())
	cancel()
	for range 8 { // an adapter that waits for several things at once may be lucky
		c := &store.Change{Sends: messages(cook, "1"), Closures: []store.Closure{s.note("1")}}
		if err := s.store.Commit(ctx, &store.Group{Changes: []*store.Change{c}}); !errors.Is(err, context.Canceled) {
			s.Errorf("Commit(ctx done) = %v, want context.Canceled", err)
		}
	}
	s.listed(cook, "")
	s.notes("")
	s.send(cook, "2")
	s.claim(cook, 2, "2")
}

func groupAnyVerdict(s *scene) {
	s.declareCook()
	s.send(cook, "1 2 3 k4 k5 6")
	b := s.claim(cook, 6, "1 2 3 k4 k5 6")
	depth, dead := int64(6), int64(0)
	for i, v := range []struct {
		verdict store.Verdict
		words   []string
		gone    int64
	}{
		{store.Done, []string{"1"}, 1}, {store.NotYet, []string{"2"}, 0}, {store.Discarded, []string{"3"}, 1},
		{store.Retry, []string{"k4", "k5"}, 0}, {store.Dead, []string{"6"}, 1},
	} {
		s.fail(b, v.words[0], v.verdict, v.words[1:]...)
		depth -= v.gone
		if v.verdict == store.Dead {
			dead++
		}
		s.holds(cook, depth, dead)
		if st := s.state(cook); i < 3 && st.Leased != int64(5-i) {
			s.Errorf("Queues() after verdict %d: %d leased, want %d", v.verdict, st.Leased, 5-i)
		}
		s.claim(cook, 6, "")
	}
	if st := s.state(cook); st.Leased != 0 || st.Deferred != 3 {
		s.Errorf("Queues(): %d leased, %d deferred, want 0 and 3", st.Leased, st.Deferred)
	}
}
