package transporttest

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/transport"
)

const (
	kitchen = "kitchen"
	bar     = "bar"

	room = 40 // packets in an inlet

	patience   = 3 * time.Minute        // for what must come, on a machine that has much else to do
	impatience = 3 * time.Second        // where it is not expected to
	glance     = 150 * time.Millisecond // at what must not
)

// scene is a law's stage: a wire, and a process on it.
//
// Packets are told apart by words: "a7" is position 7 of the lane a, and has the
// body "a7".
type scene struct {
	testing.TB
	h        Harness
	wire     transport.Transport
	patience time.Duration
}

// settings are those of a law: small, so that bounds are met. Packets come again by time only where a law is
// about that, so that a slow machine does not break the others.
func settings(l Law) Settings {
	s := Settings{Capacity: room, Redeliver: time.Hour}
	if l.Name == "ack/none" {
		s.Redeliver = time.Second
	}
	return s
}

func newScene(t testing.TB, l Law, open Open, patience time.Duration) *scene {
	t.Helper()
	s := &scene{TB: t, h: open(t, settings(l)), patience: patience}
	s.wire = s.open()
	return s
}

// ctx is done when the law's patience is over.
func (s *scene) ctx() context.Context {
	ctx, cancel := context.WithTimeout(s.Context(), s.patience)
	s.Cleanup(cancel)
	return ctx
}

// brief is done soon.
func (s *scene) brief() context.Context {
	ctx, cancel := context.WithTimeout(s.Context(), glance)
	s.Cleanup(cancel)
	return ctx
}

// open opens the transport as one more process.
func (s *scene) open() transport.Transport {
	s.Helper()
	w, err := s.h.Open(s.ctx())
	if err != nil {
		s.Fatalf("Open() = %v, want nil", err)
	}
	s.Cleanup(func() { _ = w.Close() })
	return w
}

// receive opens an inlet of a boundary.
func (s *scene) receive(w transport.Transport, boundary string) transport.Inlet {
	s.Helper()
	in, err := w.Receive(s.ctx(), boundary)
	if err != nil {
		s.Fatalf("Receive(%s) = %v, want nil", boundary, err)
	}
	return in
}

// packet is what a word stands for.
func packet(word string) transport.Packet {
	lane := strings.TrimRight(word, "0123456789")
	index, _ := strconv.Atoi(strings.TrimPrefix(word, lane))
	return transport.Packet{
		Lane:     transport.Lane{From: "floor", Incarnation: "k7q2xw", Queue: "kitchen." + lane},
		Position: transport.Position{Batch: 1, Index: index},
		ID:       "k7q2xw-" + word, Topic: "kitchen.prepare-food", Kind: transport.KindCommand, Version: 1, Body: []byte(word),
	}
}

func packets(line string) []transport.Packet {
	var ps []transport.Packet
	for word := range strings.FieldsSeq(line) {
		ps = append(ps, packet(word))
	}
	return ps
}

// count is the line "a0 a1 ..." of n words.
func count(lane string, n int) string {
	words := make([]string, n)
	for i := range words {
		words[i] = lane + strconv.Itoa(i)
	}
	return strings.Join(words, " ")
}

// send sends the packets of a line, all of which must be kept.
func (s *scene) send(to, line string) {
	s.Helper()
	ps := packets(line)
	if kept, err := s.wire.Send(s.ctx(), to, ps); kept != len(ps) || err != nil {
		s.Fatalf("Send(%s, %d packets) = %d, %v, want %d, nil", to, len(ps), kept, err, len(ps))
	}
}

// insist sends until all is kept, as a relay does. Only what passes is borne with.
func (s *scene) insist(w transport.Transport, to string, ps []transport.Packet) {
	s.Helper()
	ctx := s.ctx()
	for len(ps) > 0 {
		kept, err := w.Send(ctx, to, ps)
		if err != nil && !errors.Is(err, transport.ErrFull) && !errors.Is(err, transport.ErrUnknown) && !errors.Is(err, transport.ErrUnavailable) {
			s.Errorf("Send(%s, %d packets) = %d, %v, want an error that passes", to, len(ps), kept, err)
			return
		}
		if ps = ps[kept:]; len(ps) > 0 && !s.pause(ctx) {
			s.Errorf("Send(%s): %d packets from %s on are not kept for %s: %v", to, len(ps), ps[0].Body, s.patience, err)
			return
		}
	}
}

// pause waits a moment between tries; false when ctx is done.
func (s *scene) pause(ctx context.Context) bool {
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// next waits for deliveries, bearing with a wire that is away.
func (s *scene) next(in transport.Inlet, max int) []transport.Delivery {
	s.Helper()
	ctx := s.ctx()
	for {
		ds, err := in.Next(ctx, max)
		switch {
		case errors.Is(err, transport.ErrUnavailable) && s.pause(ctx):
		case err != nil:
			s.Fatalf("Next(%d) = %v, want packets", max, err)
		case len(ds) == 0 || len(ds) > max:
			s.Fatalf("Next(%d) = %d packets, want 1 to %d", max, len(ds), max)
		default:
			return ds
		}
	}
}

// come reads as many packets as the line has words, and wants just those, in that order.
func (s *scene) come(in transport.Inlet, line string) []transport.Delivery {
	s.Helper()
	want := strings.Fields(line)
	var ds []transport.Delivery
	for len(ds) < len(want) {
		ds = append(ds, s.next(in, len(want)-len(ds))...)
	}
	if got := words(ds); got != strings.Join(want, " ") {
		s.Fatalf("Next() gave %q, want %q", got, line)
	}
	return ds
}

// take reads what the line says and acknowledges it.
func (s *scene) take(in transport.Inlet, line string) {
	s.Helper()
	s.ack(in, s.come(in, line))
}

func (s *scene) ack(in transport.Inlet, ds []transport.Delivery) {
	s.Helper()
	if err := in.Ack(s.ctx(), ds); err != nil {
		s.Fatalf("Ack(%d packets) = %v, want nil", len(ds), err)
	}
}

func (s *scene) hold(in transport.Inlet, ds []transport.Delivery, pause time.Duration) {
	s.Helper()
	if err := in.Hold(s.ctx(), ds, pause); err != nil {
		s.Fatalf("Hold(%d packets) = %v, want nil", len(ds), err)
	}
}

// empty wants that nothing comes.
func (s *scene) empty(in transport.Inlet) {
	s.Helper()
	if ds, err := in.Next(s.brief(), 10); !errors.Is(err, context.DeadlineExceeded) {
		s.Fatalf("Next() of an empty inlet = %q, %v, want to wait until the context is done", words(ds), err)
	}
}

// words is the line that deliveries stand for.
func words(ds []transport.Delivery) string {
	line := make([]string, len(ds))
	for i, d := range ds {
		line[i] = string(d.Packet.Body)
	}
	return strings.Join(line, " ")
}
