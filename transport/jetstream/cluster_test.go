package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-go/weir/internal/brokertest"
	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/jetstream"
)

// eventually tries until it works, or ctx is done.
func eventually(ctx context.Context, t *testing.T, what string, try func() error) bool {
	t.Helper()
	for {
		err := try()
		if err == nil {
			return true
		}
		if !pause(ctx, 20*time.Millisecond) {
			t.Errorf("%s: %v", what, err)
			return false
		}
	}
}

// pause waits between tries; false when ctx is done.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func place(n int) transport.Packet {
	const batch = 100
	return transport.Packet{
		Lane:     transport.Lane{From: "floor", Incarnation: "k7q2xw", Queue: "kitchen.prepare-food"},
		Position: transport.Position{Batch: int64(n / batch), Index: n % batch, Last: n%batch == batch-1},
		ID:       "k7q2xw-" + strconv.Itoa(n), Topic: "kitchen.prepare-food", Kind: transport.KindCommand, Version: 1, Body: []byte(`{"dish":"soup"}`),
	}
}

// traffic is packets on their way to the kitchen, as many as it takes: they are sent until enough is closed.
type traffic struct {
	t      *testing.T
	enough chan struct{}
	sent   atomic.Int64 // packets that Send said are kept; all, once sends has returned
	read   atomic.Int64 // of those, read
}

const (
	inFlight = 2_000 // packets that are not read yet
	atOnce   = 100
)

// sends sends what was not kept again, as a relay does.
func (r *traffic) sends(ctx context.Context, w *jetstream.Transport) {
	for n := 0; pause(ctx, 10*time.Millisecond); r.sent.Store(int64(n)) {
		select {
		case <-r.enough:
			return
		default:
		}
		if n >= int(r.read.Load())+inFlight {
			continue
		}
		kept, err := w.Send(ctx, "kitchen", places(n, n+atOnce))
		n += kept
		if err != nil && !errors.Is(err, transport.ErrUnavailable) && !errors.Is(err, transport.ErrUnknown) && ctx.Err() == nil {
			r.t.Errorf("Send() = %d, %v, want an error that passes", kept, err)
			return
		}
	}
}

// reads reads until all is read that was sent, which is known when over is done. What comes twice, or late, is borne with:
// its place tells.
func (r *traffic) reads(ctx, over context.Context, in transport.Inlet) {
	had := map[int]bool{}
	again, late := 0, 0
	for missing, highest := 0, -1; ; {
		waiting := over // the last may have been read before it is known that they are
		if over.Err() != nil {
			if missing >= int(r.sent.Load()) {
				r.t.Logf("%d packets, %d of them more than once, %d after later ones", len(had), again, late)
				return
			}
			waiting = ctx
		}
		ds, err := in.Next(waiting, 500)
		if err != nil && !errors.Is(err, transport.ErrUnavailable) && (waiting.Err() == nil || ctx.Err() != nil) {
			r.t.Errorf("Next() after %d packets of %d, without packet %d, = %v, want packets, or ErrUnavailable", len(had), r.sent.Load(), missing, err)
			return
		}
		for _, d := range ds {
			n := int(d.Packet.Position.Batch)*100 + d.Packet.Position.Index
			switch {
			case had[n]:
				again++
			case n < highest:
				late++
			}
			had[n] = true
			highest = max(highest, n)
		}
		for had[missing] {
			missing++
		}
		r.read.Store(int64(len(had)))
		acked := in.Ack(ctx, ds)
		if acked != nil && !errors.Is(acked, transport.ErrUnavailable) {
			r.t.Errorf("Ack() = %v, want nil or ErrUnavailable", acked)
			return
		}
		if err != nil || acked != nil {
			pause(ctx, 20*time.Millisecond)
		}
	}
}

// moves waits until so many more are read.
func (r *traffic) moves(ctx context.Context, by int64) bool {
	r.t.Helper()
	want := r.read.Load() + by
	return eventually(ctx, r.t, fmt.Sprintf("%d packets are read", want), func() error {
		if n := r.read.Load(); n < want {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
}

// join connects to a cluster.
func join(t *testing.T, all []*brokertest.Child) *jetstream.Transport {
	t.Helper()
	w, err := jetstream.Open(jetstream.Config{Servers: brokertest.URLs(all), Replicas: len(all), Timeout: 2 * time.Second, Redeliver: 2 * time.Second, Log: quiet()})
	if err != nil {
		t.Fatalf("Open() = %v, want nil", err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// In a cluster of three whose stream's leader is killed under load nothing is lost.
func TestClusterLosesItsLeader(t *testing.T) {
	t.Parallel() // mostly it waits for elections
	const kills, between = 2, 500
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	all := brokertest.Cluster(t, 3)
	sender, receiver := join(t, all), join(t, all)
	var in transport.Inlet
	if !eventually(ctx, t, "Receive", func() (err error) {
		in, err = receiver.Receive(ctx, "kitchen")
		return err
	}) {
		return
	}
	r := &traffic{t: t, enough: make(chan struct{})}
	over, end := context.WithCancel(ctx)
	var crew sync.WaitGroup
	defer crew.Wait()
	crew.Go(func() {
		defer end()
		r.sends(ctx, sender)
	})
	crew.Go(func() {
		r.reads(ctx, over, in)
		cancel() // if it gave up, nothing moves any more
	})
	defer close(r.enough)
	for range kills {
		var lead *brokertest.Child
		if !r.moves(ctx, between) || !eventually(ctx, t, "a leader", func() error {
			if lead = brokertest.Leader(ctx, all, "weir-kitchen"); lead == nil {
				return errors.New("none")
			}
			return nil
		}) {
			return
		}
		lead.Kill()
		lead.Start()
	}
	r.moves(ctx, between)
}
