package transporttest

import (
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/weir-go/weir/transport"
)

func orderLaws() []Law {
	return []Law{
		{"order/lane", "Packets come in the order in which they were sent, over several calls and many lanes.", orderLane},
		{"order/concurrent", "When several send at once, each lane keeps its order and every packet comes once.", orderConcurrent},
		{"order/number", "A packet's number is higher than those of all that were kept before it, and the same when it comes again.", orderNumber},
		{"deliver/whole", "A packet comes with all its fields as they were sent.", deliverWhole},
		{"deliver/waits", "What was kept while nobody read is there for who reads later.", deliverWaits},
		{"deliver/several", "Next waits for one packet and gives those that are there, up to max.", deliverSeveral},
		{"deliver/apart", "Boundaries have inlets of their own.", deliverApart},
	}
}

func orderLane(s *scene) {
	in := s.receive(s.wire, kitchen)
	s.send(kitchen, "a0 b0 a1 c0")
	s.send(kitchen, "a2 b1")
	s.send(kitchen, "c1")
	s.take(in, "a0 b0 a1 c0 a2 b1 c1")
	s.empty(in)
}

func orderNumber(s *scene) {
	in := s.receive(s.wire, kitchen)
	s.send(kitchen, "a0 b0 a1")
	s.send(kitchen, "c0")
	ds := s.come(in, "a0 b0 a1 c0")
	for i := range ds[1:] {
		if ds[i].Number >= ds[i+1].Number {
			s.Errorf("Next() gave %s the number %d and %s, which was kept after it, %d, want a higher one", ds[i].Packet.Body, ds[i].Number, ds[i+1].Packet.Body, ds[i+1].Number)
		}
	}
	s.hold(in, ds[1:2], 0)
	again := s.come(in, "b0")
	if again[0].Number != ds[1].Number {
		s.Errorf("Next() gave b0 the number %d, and %d when it came again", ds[1].Number, again[0].Number)
	}
	_ = in.Close()
	in = s.receive(s.wire, kitchen)
	for i, d := range s.come(in, "a0 b0 a1 c0") {
		if d.Number != ds[i].Number {
			s.Errorf("Next() gave %s the number %d, and another inlet %d", d.Packet.Body, ds[i].Number, d.Number)
		}
	}
}

func orderConcurrent(s *scene) {
	const lanes, each = 4, 60
	in := s.receive(s.wire, kitchen)
	var all sync.WaitGroup
	for i := range lanes {
		w := s.wire
		if i%2 == 1 {
			w = s.open()
		}
		all.Go(func() { s.insist(w, kitchen, packets(count(string(rune('a'+i)), each))) })
	}
	defer all.Wait()
	last := map[string]int{}
	for n := 0; n < lanes*each; {
		ds := s.next(in, 7)
		for _, d := range ds {
			queue, index := d.Packet.Lane.Queue, d.Packet.Position.Index
			if index != last[queue] {
				s.Fatalf("Next() gave %s, want index %d next", d.Packet.Body, last[queue])
			}
			last[queue]++
		}
		s.ack(in, ds)
		n += len(ds)
	}
	all.Wait()
	s.empty(in)
}

func deliverWhole(s *scene) {
	in := s.receive(s.wire, kitchen)
	whole := transport.Packet{
		Lane:     transport.Lane{From: "floor", Incarnation: "k7q2xw", Queue: "floor.opened@kitchen"},
		Position: transport.Position{Batch: 1 << 40, Index: 999, Last: true},
		ID:       "k7q2xw-1hk3", Topic: "floor.opened", Kind: transport.KindEvent, Version: 7,
		Key: "table \x00 7 \xff € %", Cause: "p3ab9c-1x", Correlation: "p3ab9c-1w", ReplyTo: "floor",
		SentAt: time.Date(2026, 11, 22, 8, 30, 0, 123456789, time.UTC),
		Headers: map[string]string{
			"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-01", "tracestate": "rojo=1, congo=%41",
			"tenant": "north wing", "Content-Type": "x", "Nats-Msg-Id": "1", "weirlane": "no", "empty": "", "note": "\"żółć\" 100%\r\n\x00",
		},
		ContentType: "application/octet-stream", Body: []byte("\x00\r\nNATS/1.0\r\n\xff"),
	}
	tombstone := packet("a0")
	tombstone.Body, tombstone.Tombstone = nil, "body is too big, at most 1048576"
	foreign := transport.Packet{Source: "https://example.com/till?x=1", ID: "A 1", Topic: "com.example.Paid", Body: []byte("{}")}
	bare := packet("a1")
	bare.Body = nil
	sent := []transport.Packet{whole, tombstone, foreign, bare}
	if kept, err := s.wire.Send(s.ctx(), kitchen, sent); kept != len(sent) || err != nil {
		s.Fatalf("Send(%d packets) = %d, %v, want %d, nil", len(sent), kept, err, len(sent))
	}
	var ds []transport.Delivery
	for len(ds) < len(sent) {
		ds = append(ds, s.next(in, 10)...)
	}
	for i, d := range ds {
		if len(d.Packet.Body) == 0 {
			d.Packet.Body = nil
		}
		if d.Malformed != nil || d.Attempt != 1 || !reflect.DeepEqual(d.Packet, sent[i]) {
			s.Errorf("Next() gave\n%+v (%v, attempt %d), want\n%+v at attempt 1", d.Packet, d.Malformed, d.Attempt, sent[i])
		}
	}
}

func deliverWaits(s *scene) {
	in := s.receive(s.wire, kitchen)
	if err := in.Close(); err != nil {
		s.Fatalf("Close() = %v, want nil", err)
	}
	s.send(kitchen, count("a", 20))
	s.take(s.receive(s.open(), kitchen), count("a", 20))
}

func deliverSeveral(s *scene) {
	in := s.receive(s.wire, kitchen)
	var all sync.WaitGroup
	all.Go(func() { s.insist(s.wire, kitchen, packets("a0")) })
	s.take(in, "a0")
	all.Wait()
	s.send(kitchen, count("b", 10))
	if ds := s.next(in, 4); len(ds) > 4 || !strings.HasPrefix(count("b", 10), words(ds)) {
		s.Errorf("Next(4) = %q, want up to four of %q", words(ds), count("b", 10))
	}
}

func deliverApart(s *scene) {
	in, other := s.receive(s.wire, kitchen), s.receive(s.wire, bar)
	s.send(kitchen, "a0 a1")
	s.send(bar, "b0")
	s.take(other, "b0")
	s.empty(other)
	s.take(in, "a0 a1")
	s.empty(in)
}
