package storetest

import (
	"errors"

	"github.com/weir-go/weir/store"
)

func fenceLaws() []Law {
	return []Law{
		{"fence/older-epoch", "A change that settles a delivery under an older epoch is refused and nothing of it is written.", fenceOlderEpoch},
		{"fence/handed-back", "A change that settles a delivery that was handed back is refused once another has it, and nothing of it is written.", fenceHandedBack},
		{"fence/settled", "A change that settles a delivery again, with whatever verdict, is refused and nothing of it is written.", fenceSettled},
		{"fence/twice-in-group", "Of two changes of one group that settle the same delivery the first is written, the second refused.", fenceTwiceInGroup},
		{"fence/twice-in-change", "A change that settles the same delivery twice is refused whole.", fenceTwiceInChange},
		{"fence/one-of-many", "One stale settlement refuses all of its change: what it would have settled beside stays to be settled.", fenceOneOfMany},
		{"fence/unknown", "A settlement of a batch or an index that never was is refused and nothing of its change is written.", fenceUnknown},
		{"fence/lease-lost", "Everything that a process does after another has taken over is refused with ErrLeaseLost.", fenceLeaseLost},
		{"fence/start", "A start under an older epoch is refused like a settlement.", fenceStart},
	}
}

// laden is a change that settles and carries one of everything.
func (s *scene) laden(settle ...store.Settlement) *store.Change {
	return &store.Change{Settle: settle, Sends: messages(cook, "98 99"), Closures: []store.Closure{s.note("laden")}}
}

// unladen wants nothing of a laden change to be written.
func (s *scene) unladen(journal string, depth int64) {
	s.Helper()
	s.listed(cook, journal)
	s.notes("")
	s.holds(cook, depth, 0)
}

func fenceOlderEpoch(s *scene) {
	s.declareCook()
	s.send(cook, "1 2")
	old := s.claim(cook, 2, "1 2")
	s.crash()
	fresh := s.claim(cook, 2, "1 2")
	s.refuse(s.laden(s.settle(old, "1", store.Done)), store.ErrFenced)
	s.refuse(s.laden(s.settle(old, "1", store.Dead), s.settle(fresh, "2", store.Done)), store.ErrFenced)
	s.unladen("1 2", 2)
	s.done(fresh, "1 2")
	s.holds(cook, 0, 0)
}

func fenceHandedBack(s *scene) {
	s.declareCook()
	s.send(cook, "1")
	old := s.claim(cook, 1, "1")
	s.restart()
	fresh := s.claim(cook, 1, "1")
	s.refuse(s.laden(s.settle(old, "1", store.Done)), store.ErrFenced)
	s.unladen("1", 1)
	s.done(fresh, "1")
}

func fenceSettled(s *scene) {
	s.declareCook()
	s.send(cook, "1 2 3 4 5")
	b := s.claim(cook, 5, "1 2 3 4 5")
	s.done(b, "1")
	s.commit(change(s.settle(b, "2", store.Retry)), change(s.settle(b, "3", store.NotYet)), change(s.settle(b, "4", store.Discarded)))
	for _, word := range []string{"1", "2", "3", "4"} {
		for _, v := range []store.Verdict{store.Done, store.Retry, store.NotYet, store.Behind, store.Dead, store.Discarded} {
			s.refuse(s.laden(s.settle(b, word, v)), store.ErrFenced)
		}
	}
	s.unladen("1 2 3 4 5", 3)
	s.done(b, "5")
	s.refuse(s.laden(s.settle(b, "5", store.Done)), store.ErrFenced)
	s.unladen("1 2 3 4 5", 2)
}

func fenceTwiceInGroup(s *scene) {
	s.declareCook()
	s.send(cook, "1 2")
	b := s.claim(cook, 2, "1 2")
	first, second := change(s.settle(b, "1", store.Done)), s.laden(s.settle(b, "1", store.Dead))
	beside := change(s.settle(b, "2", store.Done))
	s.group(&store.Group{Changes: []*store.Change{first, second, beside}})
	if first.Err != nil || !errors.Is(second.Err, store.ErrFenced) || beside.Err != nil {
		s.Errorf("Commit(1, 1 again, 2): Err = %v, %v, %v, want nil, ErrFenced, nil", first.Err, second.Err, beside.Err)
	}
	s.unladen("1 2", 0)
}

func fenceTwiceInChange(s *scene) {
	s.declareCook()
	s.send(cook, "1")
	b := s.claim(cook, 1, "1")
	s.refuse(s.laden(s.settle(b, "1", store.Done), s.settle(b, "1", store.Done)), store.ErrFenced)
	s.unladen("1", 1)
	s.done(b, "1")
}

func fenceOneOfMany(s *scene) {
	s.declare(store.Queue{Name: cook}, store.Queue{Name: serve})
	s.send(cook, "1 2")
	s.send(serve, "3")
	b, other := s.claim(cook, 2, "1 2"), s.claim(serve, 1, "3")
	s.done(b, "2")
	s.refuse(s.laden(s.settle(other, "3", store.Done), s.settle(b, "1", store.Done), s.settle(b, "2", store.Done)), store.ErrFenced)
	s.unladen("1 2", 1)
	s.holds(serve, 1, 0)
	s.done(b, "1")
	s.done(other, "3")
}

func fenceUnknown(s *scene) {
	s.declareCook()
	s.send(cook, "1")
	b := s.claim(cook, 1, "1")
	good := s.settle(b, "1", store.Done)
	for name, spoil := range map[string]func(*store.Settlement){
		"batch":    func(x *store.Settlement) { x.Batch.No += 7 },
		"queue":    func(x *store.Settlement) { x.Batch.Queue += 7 },
		"epoch":    func(x *store.Settlement) { x.Batch.Epoch++ },
		"index":    func(x *store.Settlement) { x.Index = 1 },
		"negative": func(x *store.Settlement) { x.Index = -1 },
		"far":      func(x *store.Settlement) { x.Index = 1 << 20 },
		"position": func(x *store.Settlement) { x.Pos++ },
		"zero":     func(x *store.Settlement) { x.Batch = store.BatchRef{} },
	} {
		bad := good
		spoil(&bad)
		c := s.laden(bad)
		s.group(&store.Group{Changes: []*store.Change{c}})
		if c.Err == nil {
			s.Errorf("Commit(settlement with a wrong %s): Err = nil, want an error", name)
		}
	}
	s.unladen("1", 1)
	s.done(b, "1")
}

func fenceLeaseLost(s *scene) {
	s.declareCook()
	s.send(cook, "1 2 3")
	old := s.claim(cook, 2, "1 2")
	zombie := s.crash()
	fresh := s.claim(cook, 2, "1 2")
	for _, c := range []*store.Change{s.laden(s.settle(old, "1", store.Done)), s.laden()} {
		err := zombie.Commit(s.ctx(), &store.Group{Changes: []*store.Change{c}})
		if !errors.Is(errors.Join(err, c.Err), store.ErrLeaseLost) {
			s.Errorf("Commit(%d settlements) after a take-over = %v, Err %v, want ErrLeaseLost", len(c.Settle), err, c.Err)
		}
	}
	_, declare := zombie.Declare(s.ctx(), nil, []store.Queue{{Name: cook, Topic: store.Topic{Name: cook, Kind: store.KindCommand}, Capacity: 1}})
	_, operate := zombie.Operate(s.ctx(), by(store.Act{Verb: store.PauseQueue, Queue: cook}))
	_, prune := zombie.Prune(s.ctx(), store.Retention{Max: 10})
	for name, err := range map[string]error{"Declare": declare, "Operate": operate, "Prune": prune} {
		if !errors.Is(err, store.ErrLeaseLost) {
			s.Errorf("%s after a take-over = %v, want ErrLeaseLost", name, err)
		}
	}
	s.own(true, func(tx store.Tx) {
		if err := zombie.AppendIn(s.ctx(), tx, &store.Change{Sends: messages(cook, "97")}); !errors.Is(err, store.ErrLeaseLost) {
			s.Errorf("AppendIn after a take-over = %v, want ErrLeaseLost", err)
		}
	})
	got, err := zombie.Claim(s.ctx(), store.ClaimRequest{Queue: s.ids[cook], Max: 5})
	if !errors.Is(err, store.ErrLeaseLost) || got.Batch != nil {
		s.Errorf("Claim after a take-over = %q, %v, want ErrLeaseLost", words(got.Batch), err)
	}
	if err := zombie.Heartbeat(s.ctx()); !errors.Is(err, store.ErrLeaseLost) {
		s.Errorf("Heartbeat after a take-over = %v, want ErrLeaseLost", err)
	}
	if err := zombie.End(s.ctx()); !errors.Is(err, store.ErrLeaseLost) {
		s.Errorf("End after a take-over = %v, want ErrLeaseLost", err)
	}
	s.unladen("1 2 3", 3)
	if err := zombie.Close(); err != nil {
		s.Errorf("Close after a take-over = %v, want nil", err)
	}
	if err := s.store.Heartbeat(s.ctx()); err != nil {
		s.Errorf("Heartbeat of the one that took over = %v, want nil", err)
	}
	s.done(fresh, "1 2")
	s.claim(cook, 5, "3")
}

func fenceStart(s *scene) {
	s.declareCook()
	s.send(cook, "1")
	s.claim(cook, 1, "1")
	s.crash()
	old := s.claim(cook, 1, "1")
	s.crash()
	fresh := s.claim(cook, 1, "1")
	c := s.laden()
	c.Starts = []store.Start{{Batch: old.BatchRef, Index: 0, Lone: true}}
	s.refuse(c, store.ErrFenced)
	s.unladen("1", 1)
	s.crash()
	if d := s.delivery(s.claim(cook, 1, "1"), "1"); d.Crashes != 0 {
		s.Errorf("Claim() after a refused start: Crashes = %d, want 0", d.Crashes)
	}
	s.refuse(change(s.settle(fresh, "1", store.Done)), store.ErrFenced)
}
