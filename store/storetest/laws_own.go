package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

func ownLaws() []Law {
	return []Law{
		{"own/commits", "What AppendIn appended is there and claimable when the caller's transaction commits, not before, together with the caller's own rows.", ownCommits},
		{"own/rolls-back", "An AppendIn whose transaction is rolled back leaves no trace: no message, no depth, no deduplication key, no figure.", ownRollsBack},
		{"own/refused", "An AppendIn that is refused appends none of its messages, and the caller's transaction can still be committed.", ownRefused},
		{"own/several", "Several AppendIn of one transaction append in their order, and count each other against capacity.", ownSeveral},
		{"own/foreign", "AppendIn refuses a transaction of another adapter.", ownForeign},
		{"own/undeclared", "AppendIn to a topic never declared declares it, with the caller's transaction.", ownUndeclared},
	}
}

func (s *scene) appendIn(tx store.Tx, ms []*store.Message) {
	s.Helper()
	if err := s.store.AppendIn(s.ctx(), tx, &store.Change{Sends: ms}); err != nil {
		s.Fatalf("AppendIn(%d messages) = %v, want nil", len(ms), err)
	}
}

func ownCommits(s *scene) {
	s.declareCook()
	s.send(cook, "1")
	ms := messages(cook, "2 k3")
	ms[1].Due = s.clock.Now().Add(time.Hour)
	s.own(true, func(tx store.Tx) {
		s.appendIn(tx, ms)
		if err := s.h.Note(s.ctx(), tx, "order"); err != nil {
			s.Fatalf("write the caller's own row = %v, want nil", err)
		}
		s.listed(cook, "1")
		s.holds(cook, 1, 0)
		s.notes("")
	})
	for i, m := range ms {
		if want := s.store.Info().Incarnation.ID(m.Pos); m.Pos == 0 || m.ID != want || !m.SentAt.Equal(s.clock.Now()) {
			s.Errorf("AppendIn(): message %d has Pos %d, ID %q, SentAt %s, want %q now", i, m.Pos, m.ID, m.SentAt, want)
		}
	}
	s.notes("order")
	s.holds(cook, 3, 0)
	s.claim(cook, 5, "1 2")
	s.clock.move(time.Hour)
	b := s.claim(cook, 5, "k3")
	s.same("Claim", b.Deliveries[0].Message, ms[1])
}

func ownRollsBack(s *scene) {
	s.declare(store.Queue{Name: cook, Capacity: 2})
	m := message(cook, "1")
	m.Dedup, m.DedupFor = "once", time.Hour
	s.own(false, func(tx store.Tx) { s.appendIn(tx, []*store.Message{m, message(cook, "2")}) })
	s.holds(cook, 0, 0)
	s.listed(cook, "")
	s.claim(cook, 5, "")
	if _, err := s.store.Reader().Message(s.ctx(), m.ID); m.ID != "" && !errors.Is(err, store.ErrNotFound) {
		s.Errorf("Message(%s) of a rolled back transaction = %v, want ErrNotFound", m.ID, err)
	}
	again := message(cook, "3")
	again.Dedup, again.DedupFor = "once", time.Hour
	s.commit(&store.Change{Sends: []*store.Message{again, message(cook, "4")}, Outside: true})
	s.holds(cook, 2, 0)
	s.figures(cook, store.FigureMinute{Sent: 2})
	s.done(s.claim(cook, 5, "3 4"), "3 4")
	s.holds(cook, 0, 0)
}

func ownRefused(s *scene) {
	s.declare(store.Queue{Name: cook, Capacity: 3})
	s.send(cook, "1 2")
	s.own(true, func(tx store.Tx) {
		if err := s.h.Note(s.ctx(), tx, "kept"); err != nil {
			s.Fatalf("write the caller's own row = %v, want nil", err)
		}
		err := s.store.AppendIn(s.ctx(), tx, &store.Change{Sends: messages(cook, "3 4")})
		if full, ok := errors.AsType[*store.FullError](err); !ok || full.Queue != cook || full.Capacity != 3 {
			s.Errorf("AppendIn(2 messages) with room for 1 = %v, want a FullError of %s", err, cook)
		}
	})
	s.notes("kept")
	s.listed(cook, "1 2")
	s.holds(cook, 2, 0)
}

func ownSeveral(s *scene) {
	s.declare(store.Queue{Name: cook, Capacity: 3})
	s.own(true, func(tx store.Tx) {
		s.appendIn(tx, messages(cook, "1 2"))
		s.appendIn(tx, messages(cook, "3"))
		if _, ok := errors.AsType[*store.FullError](s.store.AppendIn(s.ctx(), tx, &store.Change{Sends: messages(cook, "4")})); !ok {
			s.Errorf("AppendIn() beyond the capacity filled by the same transaction = no FullError, want one")
		}
		s.appendIn(tx, nil)
	})
	s.holds(cook, 3, 0)
	s.claim(cook, 5, "1 2 3")
}

type foreignTx struct{ testing.TB }

func (foreignTx) StoreKind() string { return "abacus" }

func ownForeign(s *scene) {
	s.declareCook()
	for _, tx := range []store.Tx{foreignTx{s}, nil} {
		if err := s.store.AppendIn(s.ctx(), tx, &store.Change{Sends: messages(cook, "1")}); err == nil {
			s.Errorf("AppendIn(%T) = nil, want an error", tx)
		}
	}
	s.listed(cook, "")
}

func ownUndeclared(s *scene) {
	s.own(false, func(tx store.Tx) { s.appendIn(tx, messages(serve, "1")) })
	s.own(true, func(tx store.Tx) { s.appendIn(tx, messages(cook, "2 3")) })
	s.send(serve, "4")
	s.declare(store.Queue{Name: cook}, store.Queue{Name: serve})
	s.claim(cook, 5, "2 3")
	s.claim(serve, 5, "4")
}
