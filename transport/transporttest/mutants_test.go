package transporttest_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/local"
	"github.com/weir-go/weir/transport/transporttest"
)

// mutant is a way for a transport to be wrong.
type mutant struct {
	law  string // that must notice
	does string // what it does wrong
	wrap func(t transport.Transport) transport.Transport
}

// bad is a transport of which a part is broken; what is nil is not.
type bad struct {
	transport.Transport
	send   func(ctx context.Context, to string, ps []transport.Packet) (int, error)
	notify func(ctx context.Context, to string, n transport.Note) error
	inlet  func(in transport.Inlet) transport.Inlet
	close  func() error
}

func (b *bad) Send(ctx context.Context, to string, ps []transport.Packet) (int, error) {
	if b.send == nil {
		return b.Transport.Send(ctx, to, ps)
	}
	return b.send(ctx, to, ps)
}

func (b *bad) Notify(ctx context.Context, to string, n transport.Note) error {
	if b.notify == nil {
		return b.Transport.Notify(ctx, to, n)
	}
	return b.notify(ctx, to, n)
}

func (b *bad) Receive(ctx context.Context, boundary string) (transport.Inlet, error) {
	in, err := b.Transport.Receive(ctx, boundary)
	if err == nil && b.inlet != nil {
		in = b.inlet(in)
	}
	return in, err
}

func (b *bad) Close() error {
	if b.close == nil {
		return b.Transport.Close()
	}
	return b.close()
}

// badInlet is the same for an inlet.
type badInlet struct {
	transport.Inlet
	next func(ctx context.Context, max int) ([]transport.Delivery, error)
	ack  func(ctx context.Context, ds []transport.Delivery) error
	hold func(ctx context.Context, ds []transport.Delivery, pause time.Duration) error
}

func (b *badInlet) Next(ctx context.Context, max int) ([]transport.Delivery, error) {
	if b.next == nil {
		return b.Inlet.Next(ctx, max)
	}
	return b.next(ctx, max)
}

func (b *badInlet) Ack(ctx context.Context, ds []transport.Delivery) error {
	if b.ack == nil {
		return b.Inlet.Ack(ctx, ds)
	}
	return b.ack(ctx, ds)
}

func (b *badInlet) Hold(ctx context.Context, ds []transport.Delivery, pause time.Duration) error {
	if b.hold == nil {
		return b.Inlet.Hold(ctx, ds, pause)
	}
	return b.hold(ctx, ds, pause)
}

type sending func(t transport.Transport, ctx context.Context, to string, ps []transport.Packet) (int, error)

func sends(f sending) func(t transport.Transport) transport.Transport {
	return func(t transport.Transport) transport.Transport {
		return &bad{Transport: t, send: func(ctx context.Context, to string, ps []transport.Packet) (int, error) { return f(t, ctx, to, ps) }}
	}
}

func receives(f func(in transport.Inlet) transport.Inlet) func(t transport.Transport) transport.Transport {
	return func(t transport.Transport) transport.Transport { return &bad{Transport: t, inlet: f} }
}

// changed sends packets that were tampered with.
func changed(change func(p *transport.Packet)) func(t transport.Transport) transport.Transport {
	return sends(func(t transport.Transport, ctx context.Context, to string, ps []transport.Packet) (int, error) {
		ps = append([]transport.Packet(nil), ps...)
		for i := range ps {
			change(&ps[i])
		}
		return t.Send(ctx, to, ps)
	})
}

func sendMutants() []mutant {
	var mu sync.Mutex
	calls, sent := int64(0), map[string]bool{}
	return []mutant{
		{"order/lane", "sends backwards", sends(func(t transport.Transport, ctx context.Context, to string, ps []transport.Packet) (int, error) {
			for i := len(ps) - 1; i >= 0; i-- {
				if _, err := t.Send(ctx, to, ps[i:i+1]); err != nil {
					return 0, err
				}
			}
			return len(ps), nil
		})},
		{"deliver/waits", "loses one in ten", sends(func(t transport.Transport, ctx context.Context, to string, ps []transport.Packet) (int, error) {
			for i := range ps {
				if i%10 == 9 {
					continue
				}
				if _, err := t.Send(ctx, to, ps[i:i+1]); err != nil {
					return i, err
				}
			}
			return len(ps), nil
		})},
		{"deliver/whole", "forgets headers", changed(func(p *transport.Packet) { p.Headers = nil })},
		{"deliver/whole", "rounds times", changed(func(p *transport.Packet) { p.SentAt = p.SentAt.Truncate(time.Millisecond) })},
		{"again/waiting", "keeps the same twice", changed(func(p *transport.Packet) {
			mu.Lock()
			defer mu.Unlock()
			calls++
			p.Position.Batch = calls
		})},
		{"again/taken", "never sends the same again", sends(func(t transport.Transport, ctx context.Context, to string, ps []transport.Packet) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			for i := range ps {
				if !sent[ps[i].ID] {
					if _, err := t.Send(ctx, to, ps[i:i+1]); err != nil {
						return i, err
					}
				}
				sent[ps[i].ID] = true
			}
			return len(ps), nil
		})},
		{"full/exact", "says it kept what had no room", sends(func(t transport.Transport, ctx context.Context, to string, ps []transport.Packet) (int, error) {
			if _, err := t.Send(ctx, to, ps); err != nil && !errors.Is(err, transport.ErrFull) {
				return 0, err
			}
			return len(ps), nil
		})},
		{"full/exact", "counts wrongly", sends(func(t transport.Transport, ctx context.Context, to string, ps []transport.Packet) (int, error) {
			kept, err := t.Send(ctx, to, ps)
			return max(kept-1, 0), err
		})},
		{"big/body", "cuts what is too big", changed(func(p *transport.Packet) { p.Body = p.Body[:min(len(p.Body), transport.MaxBody)] })},
		{"life/unknown", "takes what nobody receives", sends(func(t transport.Transport, ctx context.Context, to string, ps []transport.Packet) (int, error) {
			if kept, err := t.Send(ctx, to, ps); !errors.Is(err, transport.ErrUnknown) {
				return kept, err
			}
			return len(ps), nil
		})},
		{"life/cancelled", "sends although it was cancelled", sends(func(t transport.Transport, ctx context.Context, to string, ps []transport.Packet) (int, error) {
			return t.Send(context.WithoutCancel(ctx), to, ps)
		})},
		{"life/close", "does not close", func(t transport.Transport) transport.Transport {
			return &bad{Transport: t, close: func() error { return nil }}
		}},
		{"note/all", "says notes twice", func(t transport.Transport) transport.Transport {
			return &bad{Transport: t, notify: func(ctx context.Context, to string, n transport.Note) error {
				return errors.Join(t.Notify(ctx, to, n), t.Notify(ctx, to, n))
			}}
		}},
		{"note/nobody", "wants a listener", func(t transport.Transport) transport.Transport {
			return &bad{Transport: t, notify: func(context.Context, string, transport.Note) error { return transport.ErrUnknown }}
		}},
	}
}

func inletMutants() []mutant {
	return []mutant{
		{"ack/final", "does not acknowledge", receives(func(in transport.Inlet) transport.Inlet {
			return &badInlet{Inlet: in, ack: func(context.Context, []transport.Delivery) error { return nil }}
		})},
		{"ack/some", "acknowledges all it has given", receives(func(in transport.Inlet) transport.Inlet {
			var all []transport.Delivery
			return &badInlet{Inlet: in,
				next: func(ctx context.Context, max int) ([]transport.Delivery, error) {
					ds, err := in.Next(ctx, max)
					all = append(all, ds...)
					return ds, err
				},
				ack: func(ctx context.Context, _ []transport.Delivery) error { return in.Ack(ctx, all) },
			}
		})},
		{"ack/none", "acknowledges what it gives", receives(func(in transport.Inlet) transport.Inlet {
			return &badInlet{Inlet: in, next: func(ctx context.Context, max int) ([]transport.Delivery, error) {
				ds, err := in.Next(ctx, max)
				return ds, errors.Join(err, in.Ack(context.WithoutCancel(ctx), ds))
			}}
		})},
		{"hold/again", "acknowledges what is held", receives(func(in transport.Inlet) transport.Inlet {
			return &badInlet{Inlet: in, hold: func(ctx context.Context, ds []transport.Delivery, _ time.Duration) error { return in.Ack(ctx, ds) }}
		})},
		{"hold/again", "does not pause", receives(func(in transport.Inlet) transport.Inlet {
			return &badInlet{Inlet: in, hold: func(ctx context.Context, ds []transport.Delivery, _ time.Duration) error { return in.Hold(ctx, ds, 0) }}
		})},
		{"order/number", "numbers what it gives", receives(func(in transport.Inlet) transport.Inlet {
			var mu sync.Mutex
			n := int64(0)
			return &badInlet{Inlet: in, next: func(ctx context.Context, max int) ([]transport.Delivery, error) {
				ds, err := in.Next(ctx, max)
				mu.Lock()
				defer mu.Unlock()
				for i := range ds {
					n++
					ds[i].Number = n
				}
				return ds, err
			}}
		})},
		{"deliver/several", "gives all there is", receives(func(in transport.Inlet) transport.Inlet {
			return &badInlet{Inlet: in, next: func(ctx context.Context, _ int) ([]transport.Delivery, error) { return in.Next(ctx, transport.MaxNext) }}
		})},
		{"life/cancelled", "reads although it was cancelled", receives(func(in transport.Inlet) transport.Inlet {
			return &badInlet{Inlet: in, next: func(ctx context.Context, max int) ([]transport.Delivery, error) {
				longer, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
				defer cancel()
				return in.Next(longer, max)
			}}
		})},
		{"life/impatient", "drops what comes when it was given up", receives(func(in transport.Inlet) transport.Inlet {
			return &badInlet{Inlet: in, next: func(ctx context.Context, max int) ([]transport.Delivery, error) {
				longer, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
				defer cancel()
				ds, err := in.Next(longer, max)
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				return ds, err
			}}
		})},
	}
}

// harness is a wire whose ends are broken.
type harness struct {
	wire *local.Wire
	wrap func(t transport.Transport) transport.Transport
}

func (h harness) Open(context.Context) (transport.Transport, error) {
	return h.wrap(h.wire.Open()), nil
}

// Foreign is for laws that no mutant here is named after.
func (harness) Foreign(context.Context, string, transport.Header, []byte) error {
	return errors.New("no foreign programs here")
}

func TestMutants(t *testing.T) {
	for _, m := range append(sendMutants(), inletMutants()...) {
		t.Run(m.law+", "+strings.ReplaceAll(m.does, "/", " "), func(t *testing.T) {
			t.Parallel()
			open := func(t testing.TB, s transporttest.Settings) transporttest.Harness {
				w, err := local.New(local.Config{Capacity: s.Capacity, Redeliver: s.Redeliver})
				if err != nil {
					t.Fatal(err)
				}
				return harness{w, m.wrap}
			}
			for _, l := range transporttest.Laws() {
				if l.Name != m.law {
					continue
				}
				failures := l.Fails(t, open)
				if len(failures) == 0 {
					t.Errorf("%s holds for a transport that %s, want it to fail", m.law, m.does)
					return
				}
				t.Log(failures[0])
				return
			}
			t.Errorf("there is no law %s", m.law)
		})
	}
}
