package transporttest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/weir-go/weir/transport"
)

func againLaws() []Law {
	return []Law{
		{"again/waiting", "A packet sent again while it waits in the inlet, or is in a receiver's hands, is kept once, among new ones too.", againWaiting},
		{"again/taken", "A packet sent again after it was acknowledged comes again: its receiver may have lost it.", againTaken},
		{"again/full", "Sending again what waits in a full inlet is kept: it needs no room.", againFull},
	}
}

func boundLaws() []Law {
	return []Law{
		{"full/exact", "An inlet takes exactly what it may hold: Send says ErrFull and how many it kept, nothing is dropped, and what is acknowledged makes room.", fullExact},
		{"full/held", "What was handed out or is held takes room.", fullHeld},
		{"full/apart", "A full inlet does not concern other boundaries.", fullApart},
		{"big/body", "A packet that is too big, or not fit, is refused for ever: those before it are kept, those after it are not.", bigBody},
		{"big/most", "A packet as big as may be comes as it was.", bigMost},
		{"big/many", "A Send takes MaxSend packets and no more.", bigMany},
		{"big/note", "A note that is too big is refused.", bigNote},
	}
}

func againWaiting(s *scene) {
	in := s.receive(s.wire, kitchen)
	s.send(kitchen, "a0 a1 a2")
	s.send(kitchen, "a1 a2 a3")
	s.send(kitchen, "a0")
	ds := s.come(in, "a0 a1 a2 a3")
	s.send(kitchen, "a0 a1 a2 a3 a4")
	s.ack(in, ds)
	s.take(in, "a4")
	s.empty(in)
}

func againTaken(s *scene) {
	in := s.receive(s.wire, kitchen)
	s.send(kitchen, "a0 a1")
	s.take(in, "a0 a1")
	// The wire may hear of the acknowledgement later than we: send until it comes.
	ctx := s.ctx()
	for want := []string{"a0", "a1"}; len(want) > 0; {
		s.send(kitchen, strings.Join(want, " "))
		brief, cancel := context.WithTimeout(ctx, glance)
		ds, err := in.Next(brief, 10)
		cancel()
		if err != nil && ctx.Err() != nil {
			s.Fatalf("%q sent again after they were acknowledged do not come for %s", want, s.patience)
		}
		for _, d := range ds {
			if string(d.Packet.Body) != want[0] {
				s.Fatalf("Next() gave %s, want %s", d.Packet.Body, want[0])
			}
			want = want[1:]
		}
		s.ack(in, ds)
	}
}

func againFull(s *scene) {
	in := s.receive(s.wire, kitchen)
	line := count("a", room)
	s.send(kitchen, line)
	s.send(kitchen, line)
	s.take(in, line)
	s.empty(in)
}

// full sends a line of which only so many find room.
func (s *scene) full(to, line string, want int) {
	s.Helper()
	ps := packets(line)
	if kept, err := s.wire.Send(s.ctx(), to, ps); kept != want || !errors.Is(err, transport.ErrFull) {
		s.Fatalf("Send(%s, %d packets) = %d, %v, want %d, ErrFull", to, len(ps), kept, err, want)
	}
}

func fullExact(s *scene) {
	in := s.receive(s.wire, kitchen)
	s.send(kitchen, "a0 a1 a2")
	all := count("b", room)
	s.full(kitchen, all, room-3)
	s.full(kitchen, "c0 c1", 0)
	s.take(in, "a0 a1 a2")
	rest := strings.Fields(all)[room-3:]
	s.insist(s.wire, kitchen, packets(strings.Join(rest, " ")))
	s.full(kitchen, "c0", 0)
	s.take(in, all)
	s.insist(s.wire, kitchen, packets("c0"))
	s.take(in, "c0")
	s.empty(in)
}

func fullHeld(s *scene) {
	in := s.receive(s.wire, kitchen)
	s.send(kitchen, count("a", room))
	ds := s.come(in, count("a", room))
	s.full(kitchen, "b0", 0)
	s.hold(in, ds, 0)
	s.full(kitchen, "b0", 0)
	s.take(in, count("a", room))
	s.insist(s.wire, kitchen, packets("b0"))
	s.take(in, "b0")
}

func fullApart(s *scene) {
	s.receive(s.wire, kitchen)
	other := s.receive(s.wire, bar)
	s.send(kitchen, count("a", room))
	s.full(kitchen, "b0", 0)
	s.send(bar, "b0")
	s.take(other, "b0")
}

func bigBody(s *scene) {
	in := s.receive(s.wire, kitchen)
	big, odd, long := packet("a1"), packet("a1"), packet("a1")
	big.Body = make([]byte, transport.MaxBody+1)
	odd.Topic = "a\nb"
	long.Headers = map[string]string{"a": strings.Repeat("x", transport.MaxHeaders)}
	for _, c := range []struct {
		bad  transport.Packet
		want error
	}{{big, transport.ErrTooBig}, {odd, transport.ErrInvalid}, {long, transport.ErrTooBig}} {
		ps := []transport.Packet{packet("a0"), c.bad, packet("a2")}
		if kept, err := s.wire.Send(s.ctx(), kitchen, ps); kept != 1 || !errors.Is(err, c.want) {
			s.Errorf("Send(good, bad, good) = %d, %v, want 1, %v", kept, err, c.want)
		}
	}
	if kept, err := s.wire.Send(s.ctx(), "No Boundary", packets("a0")); kept != 0 || !errors.Is(err, transport.ErrInvalid) {
		s.Errorf("Send(No Boundary) = %d, %v, want 0, ErrInvalid", kept, err)
	}
	if _, err := s.wire.Receive(s.ctx(), "No Boundary"); !errors.Is(err, transport.ErrInvalid) {
		s.Errorf("Receive(No Boundary) = %v, want ErrInvalid", err)
	}
	s.take(in, "a0")
	s.empty(in)
}

func bigMost(s *scene) {
	in := s.receive(s.wire, kitchen)
	most := packet("a0")
	most.Body = []byte(strings.Repeat("x", transport.MaxBody))
	most.Headers = map[string]string{"note": strings.Repeat("€", transport.MaxHeaders/3-10)}
	ps := []transport.Packet{most, packet("a1")}
	if kept, err := s.wire.Send(s.ctx(), kitchen, ps); kept != 2 || err != nil {
		s.Fatalf("Send(1 MiB) = %d, %v, want 2, nil", kept, err)
	}
	var ds []transport.Delivery
	for len(ds) < 2 {
		ds = append(ds, s.next(in, 2)...)
	}
	if d := ds[0]; d.Malformed != nil || string(d.Packet.Body) != string(most.Body) || d.Packet.Headers["note"] != most.Headers["note"] {
		s.Errorf("Next() gave %d bytes (%v), want them as they were sent", len(d.Packet.Body), d.Malformed)
	}
}

func bigMany(s *scene) {
	s.receive(s.wire, kitchen)
	ps := make([]transport.Packet, transport.MaxSend+1)
	for i := range ps {
		ps[i] = packet(fmt.Sprint("a", i))
	}
	if kept, err := s.wire.Send(s.ctx(), kitchen, ps); kept != 0 || !errors.Is(err, transport.ErrTooBig) {
		s.Errorf("Send(%d packets) = %d, %v, want 0, ErrTooBig", len(ps), kept, err)
	}
	if kept, err := s.wire.Send(s.ctx(), kitchen, nil); kept != 0 || err != nil {
		s.Errorf("Send(none) = %d, %v, want 0, nil", kept, err)
	}
}

func bigNote(s *scene) {
	n := transport.Note{From: bar, Kind: "receipt", Body: make([]byte, transport.MaxNote+1)}
	if err := s.wire.Notify(s.ctx(), kitchen, n); !errors.Is(err, transport.ErrTooBig) {
		s.Errorf("Notify(%d bytes) = %v, want ErrTooBig", len(n.Body), err)
	}
	for _, n := range []transport.Note{{From: "No Boundary", Kind: "receipt"}, {From: bar, Kind: "two words"}, {From: bar}} {
		if err := s.wire.Notify(s.ctx(), kitchen, n); !errors.Is(err, transport.ErrInvalid) {
			s.Errorf("Notify(%+v) = %v, want ErrInvalid", n, err)
		}
	}
}
