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

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/jetstream"
	"github.com/weir-go/weir/transport/jetstream/broker"
)

// cluster is three brokers, each a process.
type cluster struct {
	t     *testing.T
	nodes map[string]*child // by name
	urls  []string
}

func openCluster(t *testing.T) *cluster {
	t.Helper()
	plan, err := broker.Plan(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, nodes: map[string]*child{}}
	for _, p := range plan {
		n := &child{config: node{Dir: p.Dir, Name: p.Name, Listen: p.Listen, Cluster: p.Cluster.Listen, Peers: p.Cluster.Peers}}
		n.start(t)
		t.Cleanup(n.kill)
		c.nodes[p.Name] = n
		c.urls = append(c.urls, "nats://"+n.config.Listen)
	}
	return c
}

func (c *cluster) open() *jetstream.Transport {
	c.t.Helper()
	w, err := jetstream.Open(jetstream.Config{Servers: c.urls, Replicas: 3, Timeout: 2 * time.Second, Redeliver: 2 * time.Second, Log: quiet()})
	if err != nil {
		c.t.Fatalf("Open() = %v, want nil", err)
	}
	c.t.Cleanup(func() { _ = w.Close() })
	return w
}

// leader is the broker that leads the stream now; nil while there is none.
func (c *cluster) leader(ctx context.Context, stream string) *child {
	nc, err := nats.Connect(c.urls[0], nats.MaxReconnects(0), nats.DontRandomize())
	for i := 1; err != nil && i < len(c.urls); i++ {
		nc, err = nats.Connect(c.urls[i])
	}
	if err != nil {
		return nil
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		return nil
	}
	s, err := js.Stream(ctx, stream)
	if err != nil || s.CachedInfo().Cluster == nil {
		return nil
	}
	return c.nodes[s.CachedInfo().Cluster.Leader]
}

// eventually tries until it works, or ctx is done.
func eventually(ctx context.Context, t *testing.T, what string, try func() error) bool {
	t.Helper()
	for {
		err := try()
		if err == nil {
			return true
		}
		select {
		case <-ctx.Done():
			t.Errorf("%s: %v", what, err)
			return false
		case <-time.After(50 * time.Millisecond):
		}
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

// In a cluster of three whose stream's leader is killed under load nothing is lost.
func TestClusterLosesItsLeader(t *testing.T) {
	const all, kills = 6_000, 2
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	c := openCluster(t)
	sender, receiver := c.open(), c.open()
	var in transport.Inlet
	if !eventually(ctx, t, "Receive", func() (err error) {
		in, err = receiver.Receive(ctx, "kitchen")
		return err
	}) {
		return
	}
	var read atomic.Int64
	var crew sync.WaitGroup
	defer crew.Wait()
	defer cancel()
	crew.Go(func() {
		for n := 0; n < all && ctx.Err() == nil; {
			batch := make([]transport.Packet, min(200, all-n))
			for i := range batch {
				batch[i] = place(n + i)
			}
			kept, err := sender.Send(ctx, "kitchen", batch)
			n += kept
			if err != nil && !errors.Is(err, transport.ErrUnavailable) && !errors.Is(err, transport.ErrUnknown) && ctx.Err() == nil {
				t.Errorf("Send() = %d, %v, want an error that passes", kept, err)
				return
			}
			// Slow enough that the kills are in the middle.
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	crew.Go(func() {
		for i := range kills {
			reading := eventually(ctx, t, "reading on", func() error {
				if n := read.Load(); n < int64((i+1)*all/(kills+2)) {
					return fmt.Errorf("%d of %d read", n, all)
				}
				return nil
			})
			var lead *child
			led := reading && eventually(ctx, t, "a leader", func() error {
				if lead = c.leader(ctx, "weir-kitchen"); lead == nil {
					return errors.New("none")
				}
				return nil
			})
			if !led {
				return
			}
			lead.kill()
			lead.start(t)
		}
	})
	seen, again, late := 0, 0, 0
	had := make([]bool, all)
	for highest := -1; seen < all; {
		ds, err := in.Next(ctx, 500)
		if err != nil && !errors.Is(err, transport.ErrUnavailable) {
			t.Fatalf("Next() after %d packets = %v, want packets, or ErrUnavailable", seen, err)
		}
		for _, d := range ds {
			n := int(d.Packet.Position.Batch)*100 + d.Packet.Position.Index
			switch {
			case had[n]:
				again++
			case n < highest:
				late++
			}
			if !had[n] {
				had[n] = true
				seen++
			}
			highest = max(highest, n)
		}
		read.Store(int64(seen))
		if err := in.Ack(ctx, ds); err != nil && !errors.Is(err, transport.ErrUnavailable) {
			t.Fatalf("Ack() = %v, want nil or ErrUnavailable", err)
		}
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	t.Logf("%d packets, %d of them more than once, %d after later ones, over %d kills of the leader", seen, again, late, kills)
}
