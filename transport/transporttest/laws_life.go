package transporttest

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weir-go/weir/transport"
)

func foreignLaws() []Law {
	return []Law{
		{"foreign/plain", "A CloudEvent of a program that knows nothing of weir comes as a packet without a lane; two with the same ID are two.", foreignPlain},
		{"foreign/public", "Send to Everybody keeps the events of the sender's own boundary, as many as there are, whether anybody reads them; nobody receives as Everybody.", foreignPublic},
		{"foreign/malformed", "What is no CloudEvent comes with the reason, and what it was; acknowledged, it is gone.", foreignMalformed},
	}
}

func noteLaws() []Law {
	return []Law{
		{"note/all", "A note comes to every listener of its boundary, once, as it was, and to no other's.", noteAll},
		{"note/nobody", "A note to nobody is no error.", noteNobody},
		{"note/stop", "A listener that has stopped hears nothing more.", noteStop},
		{"note/slow", "A listener that does not come back holds up nobody, and hears again when it does.", noteSlow},
	}
}

func lifeLaws() []Law {
	return []Law{
		{"life/unknown", "Send to a boundary of which no inlet was ever opened is ErrUnknown, and passes when one is.", lifeUnknown},
		{"life/close", "After Close all calls are ErrClosed, and those that wait return with it.", lifeClose},
		{"life/inlet", "After an inlet's Close its calls are ErrClosed; its transport goes on.", lifeInlet},
		{"life/cancelled", "A call whose context is done returns its error and changes nothing.", lifeCancelled},
		{"life/impatient", "A Next that gives up loses nothing, whenever it does.", lifeImpatient},
	}
}

func foreignPlain(s *scene) {
	in := s.receive(s.wire, kitchen)
	h := transport.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/till"}, "ce-type": {"till.paid"}, "ce-datacontenttype": {"text/plain"}, "x-other": {"y"}}
	for range 2 {
		if err := s.h.Foreign(s.ctx(), kitchen, h, []byte("p0")); err != nil {
			s.Fatalf("Foreign() = %v, want nil", err)
		}
	}
	ds := s.come(in, "p0 p0")
	for _, d := range ds {
		p := d.Packet
		if d.Malformed != nil || p.Lane != (transport.Lane{}) || p.Source != "/till" || p.ID != "1" || p.Topic != "till.paid" || p.ContentType != "text/plain" {
			s.Errorf("Next() gave %+v (%v), want the till's event", p, d.Malformed)
		}
	}
	s.ack(in, ds)
	s.empty(in)
}

func foreignPublic(s *scene) {
	ps := packets(count("a", 2*room))
	for i := range ps {
		ps[i].Topic, ps[i].Kind = "floor.opened", transport.KindEvent
	}
	for range 2 {
		if kept, err := s.wire.Send(s.ctx(), transport.Everybody, ps); kept != len(ps) || err != nil {
			s.Fatalf("Send(Everybody, %d packets) = %d, %v, want all", len(ps), kept, err)
		}
	}
	for _, topic := range []string{"kitchen.ready", "floor.", "floor.a..b", "floor.*"} {
		ps[1].Topic = topic
		if kept, err := s.wire.Send(s.ctx(), transport.Everybody, ps[:3]); kept != 1 || !errors.Is(err, transport.ErrInvalid) {
			s.Errorf("Send(Everybody, topic %s of floor) = %d, %v, want 1, ErrInvalid", topic, kept, err)
		}
	}
	if _, err := s.wire.Receive(s.ctx(), transport.Everybody); !errors.Is(err, transport.ErrInvalid) {
		s.Errorf("Receive(Everybody) = %v, want ErrInvalid", err)
	}
}

func foreignMalformed(s *scene) {
	in := s.receive(s.wire, kitchen)
	h := transport.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/till"}, "ce-type": {"till.paid"}, "ce-time": {"noon"}}
	if err := errors.Join(s.h.Foreign(s.ctx(), kitchen, h, []byte("p0")), s.h.Foreign(s.ctx(), kitchen, nil, []byte("p1"))); err != nil {
		s.Fatalf("Foreign() = %v, want nil", err)
	}
	ds := s.come(in, "p0 p1")
	for i, want := range []string{`time is "noon"`, "specversion is missing"} {
		if err := ds[i].Malformed; err == nil || !strings.Contains(err.Error(), want) {
			s.Errorf("Next() gave a packet with Malformed %v, want %q", err, want)
		}
	}
	if d := ds[0]; d.Packet.ID != "1" || d.Packet.Topic != "till.paid" || d.Raw["ce-time"][0] != "noon" {
		s.Errorf("Next() gave %+v, raw %v, want what can be read of it", d.Packet, d.Raw)
	}
	s.ack(in, ds)
	s.empty(in)
}

// ear hears notes.
type ear chan transport.Note

func (s *scene) listen(w transport.Transport, boundary string) (ear, func()) {
	s.Helper()
	e := make(ear, 10)
	stop, err := w.Listen(s.ctx(), boundary, func(n transport.Note) { e <- n })
	if err != nil {
		s.Fatalf("Listen(%s) = %v, want nil", boundary, err)
	}
	return e, stop
}

// hears wants the note of that text next. A wire may lose notes; one that works does not lose these.
func (s *scene) hears(e ear, want string) {
	s.Helper()
	select {
	case n := <-e:
		if n.From != bar || n.Kind != "receipt" || string(n.Body) != want {
			s.Errorf("heard %+v, want the receipt %q of %s", n, want, bar)
		}
	case <-s.ctx().Done():
		s.Errorf("the note %q was not heard", want)
	}
}

func (s *scene) deaf(e ear) {
	s.Helper()
	select {
	case n := <-e:
		s.Errorf("heard %+v, want nothing", n)
	case <-s.brief().Done():
	}
}

func (s *scene) notify(to, text string) {
	s.Helper()
	if err := s.wire.Notify(s.ctx(), to, transport.Note{From: bar, Kind: "receipt", Body: []byte(text)}); err != nil {
		s.Fatalf("Notify(%s) = %v, want nil", to, err)
	}
}

func noteAll(s *scene) {
	first, stop := s.listen(s.wire, kitchen)
	defer stop()
	second, stop2 := s.listen(s.open(), kitchen)
	defer stop2()
	other, stop3 := s.listen(s.wire, bar)
	defer stop3()
	for _, text := range []string{"1", "\x00\r\n\xff", ""} {
		s.notify(kitchen, text)
		s.hears(first, text)
		s.hears(second, text)
	}
	s.deaf(first)
	s.deaf(other)
}

func noteNobody(s *scene) {
	s.notify(kitchen, "1")
}

func noteStop(s *scene) {
	first, stop := s.listen(s.wire, kitchen)
	second, stop2 := s.listen(s.wire, kitchen)
	defer stop2()
	stop()
	stop() // once more does no harm
	s.notify(kitchen, "1")
	s.hears(second, "1")
	s.deaf(first)
}

func noteSlow(s *scene) {
	gate, heard := make(chan struct{}), make(chan int, 3*transport.MaxNotes)
	stop, err := s.wire.Listen(s.ctx(), kitchen, func(n transport.Note) {
		<-gate
		i, _ := strconv.Atoi(string(n.Body))
		heard <- i
	})
	if err != nil {
		s.Fatalf("Listen() = %v, want nil", err)
	}
	defer stop()
	in := s.receive(s.wire, kitchen)
	for i := range 2*transport.MaxNotes + 10 {
		s.notify(kitchen, strconv.Itoa(i))
	}
	s.send(kitchen, "a0")
	s.take(in, "a0")
	close(gate)
	last := -1
	for last < 5*transport.MaxNotes {
		s.notify(kitchen, strconv.Itoa(5*transport.MaxNotes))
		select {
		case i := <-heard:
			if i < last {
				s.Fatalf("heard note %d after %d, want them in order", i, last)
			}
			last = i
		case <-s.ctx().Done():
			s.Fatalf("a listener that came back hears nothing after note %d", last)
		}
	}
}

func lifeUnknown(s *scene) {
	if kept, err := s.wire.Send(s.ctx(), kitchen, packets("a0 a1")); kept != 0 || !errors.Is(err, transport.ErrUnknown) {
		s.Fatalf("Send(a boundary never heard of) = %d, %v, want 0, ErrUnknown", kept, err)
	}
	in := s.receive(s.open(), kitchen)
	s.insist(s.wire, kitchen, packets("a0 a1"))
	s.take(in, "a0 a1")
}

// closed wants each call to be refused.
func (s *scene) closed(calls map[string]error) {
	s.Helper()
	for name, err := range calls {
		if !errors.Is(err, transport.ErrClosed) {
			s.Errorf("%s after Close = %v, want ErrClosed", name, err)
		}
	}
}

// waiting starts a Next that has nothing to give; its end comes from the channel.
func (s *scene) waiting(in transport.Inlet) <-chan error {
	end := make(chan error, 1)
	ctx := s.ctx()
	go func() {
		_, err := in.Next(ctx, 1)
		end <- err
	}()
	select {
	case err := <-end:
		s.Fatalf("Next() of an empty inlet = %v, want it to wait", err)
	case <-s.brief().Done():
	}
	return end
}

func lifeClose(s *scene) {
	in := s.receive(s.wire, kitchen)
	s.send(kitchen, "a0")
	ds := s.come(in, "a0")
	stop, err := s.wire.Listen(s.ctx(), kitchen, func(transport.Note) {})
	end := s.waiting(in)
	if err := errors.Join(err, s.wire.Close()); err != nil {
		s.Fatalf("Close() = %v, want nil", err)
	}
	_, send := s.wire.Send(s.ctx(), kitchen, packets("a1"))
	_, receive := s.wire.Receive(s.ctx(), kitchen)
	_, listen := s.wire.Listen(s.ctx(), kitchen, func(transport.Note) {})
	_, next := in.Next(s.ctx(), 1)
	s.closed(map[string]error{
		"a waiting Next": <-end, "Send": send, "Receive": receive, "Listen": listen, "Next": next, "Ack": in.Ack(s.ctx(), ds),
		"Hold": in.Hold(s.ctx(), ds, 0), "Notify": s.wire.Notify(s.ctx(), kitchen, transport.Note{From: bar, Kind: "receipt"}),
	})
	stop()
	if err := errors.Join(in.Close(), s.wire.Close()); err != nil {
		s.Errorf("Close() once more = %v, want nil", err)
	}
}

func lifeInlet(s *scene) {
	in := s.receive(s.wire, kitchen)
	end := s.waiting(in)
	if err := in.Close(); err != nil {
		s.Fatalf("Close() = %v, want nil", err)
	}
	_, next := in.Next(s.ctx(), 1)
	s.closed(map[string]error{"a waiting Next": <-end, "Next": next, "Ack": in.Ack(s.ctx(), nil), "Hold": in.Hold(s.ctx(), nil, 0)})
	in = s.receive(s.wire, kitchen)
	s.send(kitchen, "a0")
	s.take(in, "a0")
}

func lifeCancelled(s *scene) {
	in := s.receive(s.wire, kitchen)
	s.send(kitchen, "a0")
	ctx, cancel := context.WithCancel(s.ctx())
	cancel()
	_, next := in.Next(ctx, 1)
	_, send := s.wire.Send(ctx, kitchen, packets("b0"))
	_, receive := s.wire.Receive(ctx, kitchen)
	_, listen := s.wire.Listen(ctx, kitchen, func(transport.Note) {})
	for name, err := range map[string]error{"Next": next, "Send": send, "Receive": receive, "Listen": listen,
		"Notify": s.wire.Notify(ctx, kitchen, transport.Note{From: bar, Kind: "receipt"})} {
		if !errors.Is(err, context.Canceled) {
			s.Errorf("%s with a cancelled context = %v, want its error", name, err)
		}
	}
	ds := s.come(in, "a0")
	for name, err := range map[string]error{"Ack": in.Ack(ctx, ds), "Hold": in.Hold(ctx, ds, 0)} {
		if !errors.Is(err, context.Canceled) {
			s.Errorf("%s with a cancelled context = %v, want its error", name, err)
		}
	}
	s.ack(in, ds)
	s.empty(in)
}

func lifeImpatient(s *scene) {
	const each = 150
	in := s.receive(s.wire, kitchen)
	var all sync.WaitGroup
	all.Go(func() { s.insist(s.wire, kitchen, packets(count("a", each))) })
	defer all.Wait()
	for n, tries := 0, 0; n < each; tries++ {
		// From none at all to well enough, so that it is given up at every point.
		ctx, cancel := context.WithTimeout(s.ctx(), time.Duration(tries%40)*100*time.Microsecond)
		ds, err := in.Next(ctx, 3)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			s.Fatalf("Next(a short while) = %v, want packets or the context's error", err)
		}
		for _, d := range ds {
			if d.Packet.Position.Index != n {
				s.Fatalf("Next() gave %s, want a%d: something was lost, or came twice", d.Packet.Body, n)
			}
			n++
		}
		s.ack(in, ds)
	}
}
