package transporttest

import (
	"strings"
	"sync"
	"time"

	"github.com/weir-go/weir/transport"
)

func ackLaws() []Law {
	return []Law{
		{"ack/final", "What is acknowledged does not come again, not to another inlet either.", ackFinal},
		{"ack/some", "Acknowledging some takes only those; what an inlet that is closed still had comes again, in order.", ackSome},
		{"ack/none", "What is neither acknowledged nor held comes again after a time, with its attempts counted.", ackNone},
		{"ack/twice", "Acknowledging or holding twice, or holding what is acknowledged, does no harm.", ackTwice},
		{"ack/elsewhere", "When a transport is closed, what its inlets had comes to those of others.", ackElsewhere},
		{"hold/again", "What is held comes again after the pause; others go on meanwhile.", holdAgain},
		{"compete/once", "Of two inlets of a boundary each packet comes to one.", competeOnce},
	}
}

func ackFinal(s *scene) {
	in := s.receive(s.wire, kitchen)
	s.send(kitchen, count("a", 30))
	s.take(in, count("a", 30))
	s.empty(in)
	_ = in.Close()
	in = s.receive(s.wire, kitchen)
	s.empty(in)
	s.send(kitchen, "b0")
	s.take(in, "b0")
}

func ackSome(s *scene) {
	in := s.receive(s.wire, kitchen)
	s.send(kitchen, "a0 a1 a2 a3")
	ds := s.come(in, "a0 a1 a2 a3")
	s.ack(in, ds[:1])
	_ = in.Close()
	in = s.receive(s.wire, kitchen)
	s.take(in, "a1 a2 a3")
	s.empty(in)
}

func ackNone(s *scene) {
	in := s.receive(s.wire, kitchen)
	s.send(kitchen, "a0 a1")
	last := map[string]int{}
	for ctx := s.ctx(); last["a0"] < 2 || last["a1"] < 2; {
		if ctx.Err() != nil {
			s.Fatalf("after %s the attempts are %v, want 2 of each", s.patience, last)
		}
		for _, d := range s.next(in, 2) { // one by one or together, and again and again where we are slow
			word := string(d.Packet.Body)
			if d.Attempt != last[word]+1 && d.Attempt != 1 { // 1: an adapter may connect anew and forget
				s.Errorf("Next() gave %s as attempt %d, want %d", word, d.Attempt, last[word]+1)
			}
			last[word] = d.Attempt
		}
	}
}

func ackTwice(s *scene) {
	in := s.receive(s.wire, kitchen)
	s.send(kitchen, "a0 a1 a2")
	ds := s.come(in, "a0 a1 a2")
	s.ack(in, ds[:1])
	s.ack(in, ds[:2])
	s.hold(in, ds[:1], 0)
	s.empty(in)
	s.hold(in, ds[2:], 0)
	s.hold(in, ds[2:], 0)
	s.take(in, "a2")
	s.empty(in)
}

func ackElsewhere(s *scene) {
	other := s.open()
	in := s.receive(other, kitchen)
	s.send(kitchen, "a0 a1")
	s.come(in, "a0 a1")
	if err := other.Close(); err != nil {
		s.Fatalf("Close() = %v, want nil", err)
	}
	s.take(s.receive(s.wire, kitchen), "a0 a1")
}

func holdAgain(s *scene) {
	in := s.receive(s.wire, kitchen)
	s.send(kitchen, "a0 a1 a2")
	ds := s.come(in, "a0 a1 a2")
	s.hold(in, ds[:1], transport.MaxHold) // it is not seen again
	s.hold(in, ds[1:2], 100*time.Millisecond)
	s.ack(in, ds[2:])
	s.take(in, "a1")
	s.send(kitchen, "a3")
	s.take(in, "a3")
	s.empty(in)
}

func competeOnce(s *scene) {
	const each = 100
	inlets := []transport.Inlet{s.receive(s.wire, kitchen), s.receive(s.open(), kitchen)}
	var mu sync.Mutex
	seen := map[string]int{}
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, in := range inlets {
		all.Go(func() {
			for {
				ds, err := in.Next(s.ctx(), 5)
				if err != nil {
					return // closed, below
				}
				if err := in.Ack(s.ctx(), ds); err != nil {
					s.Errorf("Ack(%d packets) = %v, want nil", len(ds), err)
				}
				mu.Lock()
				for _, d := range ds {
					seen[string(d.Packet.Body)]++
				}
				if len(seen) == each {
					select {
					case <-done:
					default:
						close(done)
					}
				}
				mu.Unlock()
			}
		})
	}
	s.insist(s.wire, kitchen, packets(count("a", each)))
	select {
	case <-done:
	case <-s.ctx().Done():
	}
	for _, in := range inlets {
		_ = in.Close()
	}
	all.Wait()
	for word := range strings.FieldsSeq(count("a", each)) {
		if seen[word] != 1 {
			s.Errorf("two inlets gave %s %d times, want once", word, seen[word])
		}
	}
}
