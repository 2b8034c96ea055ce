package transporttest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/weir-go/weir/transport"
)

func brokerLaws() []Law {
	return []Law{
		{"broker/away", "While the broker is away Send and Notify say ErrUnavailable; when it is back all goes on by itself, with the inlet that was open.", brokerAway},
		{"broker/late", "A transport may be opened before its broker is there.", brokerLate},
		{"broker/killed", "What Send said is kept is there after the broker was killed.", brokerKilled},
		{"broker/busy", "Killed again and again under load, it delivers every packet, in order but for what comes twice.", brokerBusy},
		{"broker/wiped", "A broker whose disk was wiped is an empty one that works: the inlet makes itself known again, and what is sent comes.", brokerWiped},
		{"broker/restful", "What was acknowledged before the broker stopped may come again, and does no harm; what was not comes again.", brokerRestful},
		{"broker/crash", "When a receiver's process dies, what it had comes at once to an inlet that is opened then, in order.", brokerCrash},
	}
}

func (s *scene) broker() Broker { return s.h.(Broker) }

// unavailable wants Send to say so, soon.
func (s *scene) unavailable(w transport.Transport) {
	s.Helper()
	ctx := s.ctx()
	for {
		kept, err := w.Send(ctx, kitchen, packets("z0"))
		switch {
		case kept == 0 && errors.Is(err, transport.ErrUnavailable):
			return
		case err == nil && s.pause(ctx): // it has not noticed yet
		default:
			s.Fatalf("Send() while the broker is away = %d, %v, want 0, ErrUnavailable", kept, err)
		}
	}
}

func brokerAway(s *scene) {
	in := s.receive(s.wire, kitchen)
	e, stop := s.listen(s.wire, kitchen)
	defer stop()
	s.send(kitchen, "a0")
	s.take(in, "a0")
	s.broker().Kill()
	s.unavailable(s.wire)
	if err := s.wire.Notify(s.ctx(), kitchen, transport.Note{From: bar, Kind: "receipt"}); !errors.Is(err, transport.ErrUnavailable) {
		s.Errorf("Notify() while the broker is away = %v, want ErrUnavailable", err)
	}
	if ds, err := in.Next(s.ctx(), 1); !errors.Is(err, transport.ErrUnavailable) {
		s.Errorf("Next() while the broker is away = %d packets, %v, want ErrUnavailable", len(ds), err)
	}
	s.broker().Start()
	s.insist(s.wire, kitchen, packets("a1 a2"))
	s.reads(in, "a1", "a2")
	n := transport.Note{From: bar, Kind: "receipt", Body: []byte("1")}
	ctx := s.ctx()
	for s.wire.Notify(ctx, kitchen, n) != nil && s.pause(ctx) {
	}
	s.hears(e, "1")
}

// reads reads and acknowledges until all words have come, each first time in order; what else comes is borne with.
func (s *scene) reads(in transport.Inlet, want ...string) {
	s.Helper()
	for len(want) > 0 {
		ds := s.next(in, 10)
		for _, d := range ds {
			if len(want) > 0 && string(d.Packet.Body) == want[0] {
				want = want[1:]
			}
		}
		for ctx := s.ctx(); in.Ack(ctx, ds) != nil && s.pause(ctx); {
		}
	}
}

func brokerLate(s *scene) {
	s.broker().Kill()
	early := s.open()
	if _, err := early.Send(s.ctx(), kitchen, packets("a0")); !errors.Is(err, transport.ErrUnavailable) {
		s.Errorf("Send() before the broker is there = %v, want ErrUnavailable", err)
	}
	if _, err := early.Receive(s.ctx(), kitchen); !errors.Is(err, transport.ErrUnavailable) {
		s.Errorf("Receive() before the broker is there = %v, want ErrUnavailable", err)
	}
	s.broker().Start()
	var in transport.Inlet
	ctx := s.ctx()
	for err := errors.New("none yet"); err != nil && s.pause(ctx); {
		in, err = early.Receive(ctx, kitchen)
	}
	s.insist(early, kitchen, packets("a0"))
	s.take(in, "a0")
}

func brokerKilled(s *scene) {
	in := s.receive(s.wire, kitchen)
	for i := range 3 {
		line := count(string(rune('a'+i)), 30)
		s.insist(s.wire, kitchen, packets(line))
		s.broker().Kill()
		s.broker().Start()
		want := packets(line)
		for n := 0; n < len(want); {
			ds := s.next(in, 10)
			for _, d := range ds {
				// What was acknowledged before the kill may come again: it is below.
				if p := d.Packet; p.Lane == want[0].Lane && p.Position.Index == n {
					n++
				} else if p.Lane == want[0].Lane && p.Position.Index > n {
					s.Fatalf("after the broker was killed %s came, want index %d: it was lost", p.Body, n)
				}
			}
			for ctx := s.ctx(); in.Ack(ctx, ds) != nil && s.pause(ctx); {
			}
		}
	}
}

func brokerBusy(s *scene) {
	const each, kills = 400, 3
	in := s.receive(s.wire, kitchen)
	var read atomic.Int64
	ctx, done := context.WithCancel(s.ctx())
	defer done()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { s.insist(s.open(), kitchen, packets(count("a", each))) })
	all.Go(func() {
		for i := range kills {
			for read.Load() < int64((i+1)*each/(kills+1)) && s.pause(ctx) {
			}
			s.broker().Kill()
			s.pause(ctx)
			s.broker().Start()
		}
	})
	seen := make([]bool, each)
	for n := 0; n < each; {
		ds := s.next(in, 20)
		for _, d := range ds {
			if i := d.Packet.Position.Index; !seen[i] {
				if seen[i] = true; i != n {
					s.Errorf("Next() gave a%d for the first time before a%d", i, n)
				}
				n++
			}
		}
		read.Store(int64(n))
		_ = in.Ack(ctx, ds) // an acknowledgement that is lost makes it come again
	}
}

func brokerWiped(s *scene) {
	in := s.receive(s.wire, kitchen)
	s.insist(s.wire, kitchen, packets(count("a", 20)))
	s.come(in, "a0 a1")
	s.broker().Kill()
	s.broker().Wipe()
	s.broker().Start()
	// As the relay does when it gets no receipt: from the first that was not confirmed.
	var all sync.WaitGroup
	all.Go(func() { s.insist(s.wire, kitchen, packets(count("a", 25))) })
	s.take(in, count("a", 25))
	all.Wait()
}

func brokerRestful(s *scene) {
	in := s.receive(s.wire, kitchen)
	s.insist(s.wire, kitchen, packets("a0 a1 a2 a3"))
	ds := s.come(in, "a0 a1 a2 a3")
	s.ack(in, ds[:2])
	s.broker().Kill()
	s.broker().Start()
	s.insist(s.wire, kitchen, packets("a4"))
	s.ack(in, ds[:2]) // of before; may be news to the broker
	seen := map[string]bool{}
	for !seen["a2"] || !seen["a3"] || !seen["a4"] {
		again := s.next(in, 10)
		for _, d := range again {
			seen[string(d.Packet.Body)] = true
		}
		s.ack(in, again)
	}
}

func brokerCrash(s *scene) {
	dead := s.open()
	in := s.receive(dead, kitchen)
	s.insist(s.wire, kitchen, packets("a0 a1"))
	s.come(in, "a0 a1")
	s.broker().Crash(dead)
	s.take(s.receive(s.wire, kitchen), "a0 a1")
}
