package bridge

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/weir-go/weir/internal/brokertest"
)

// While the kitchen is away orders are taken, until as many wait as may; then they are refused. When it is back
// all are cooked, in the order of each table.
func TestKitchenAway(t *testing.T) {
	away, _ := disturbance(t)
	h := newHouse(t, brokertest.Begin(t))
	stop := h.takeOrders(2 * time.Millisecond)
	defer stop()
	h.moves(200)
	h.kitchen.kill()
	taken, _ := h.taken()
	back := time.NewTimer(away)
	defer back.Stop()
	h.await("orders are refused", func() bool { _, refused := h.taken(); return refused > 0 && h.waits() == capacity })
	more, _ := h.taken()
	if more <= taken {
		t.Errorf("%d orders were taken before the kitchen went, %d when the first was refused: want more", taken, more)
	}
	<-back.C
	_, refused := h.taken()
	if waits, told := h.waits(), h.bound(); waits != capacity || told != capacity {
		t.Errorf("at the end of %v without a kitchen %d orders wait, and who orders is told of %d, want %d", away, waits, told, capacity)
	}
	t.Logf("without the kitchen %d orders were taken, and %d refused in %v", more-taken, refused, away)
	h.kitchen.start()
	h.moves(capacity + 200)
	stop()
	h.audit()
}

// A cluster of three whose leader is killed again and again, under load: nothing is lost, nothing done twice.
func TestLeaderKilled(t *testing.T) {
	d, long := disturbance(t)
	all := brokertest.Cluster(t, 3)
	h := newHouse(t, all...)
	stop := h.takeOrders(20 * time.Millisecond)
	defer stop()
	h.moves(50)
	kills := 2
	if long {
		kills = max(kills, int(d/killEvery))
	}
	for range kills {
		var lead *brokertest.Child
		h.await("the kitchen's stream has a leader", func() bool {
			lead = brokertest.Leader(t.Context(), all, "weir-kitchen")
			return lead != nil
		})
		lead.Kill()
		down := time.NewTimer(rand.N(time.Second))
		<-down.C
		lead.Start()
		if long {
			rest := time.NewTimer(killEvery - time.Second)
			<-rest.C
		}
		h.moves(50)
	}
	stop()
	h.audit()
	t.Logf("the leader was killed %d times", kills)
}

const killEvery = 3 * time.Second

// A broker that loses all that it had, again and again, and a kitchen that is killed meanwhile: messages are late, and
// none is lost or done twice.
func TestBrokerWiped(t *testing.T) {
	d, long := disturbance(t)
	b := brokertest.Begin(t)
	h := newHouse(t, b)
	stop := h.takeOrders(5 * time.Millisecond)
	defer stop()
	wipes := 2
	if long {
		wipes = max(wipes, int(d/killEvery))
	}
	for i := range wipes {
		h.moves(100)
		b.Kill()
		if i%2 == 1 {
			h.kitchen.kill()
		}
		b.Wipe()
		down := time.NewTimer(rand.N(500 * time.Millisecond))
		<-down.C
		b.Start()
		if i%2 == 1 {
			h.kitchen.start()
		}
	}
	h.moves(100)
	stop()
	h.audit()
	t.Logf("the broker lost everything %d times", wipes)
}

// What waits in a broker that loses all that it had is sent again, though nothing comes after it.
func TestLastOrdersWiped(t *testing.T) {
	_, _ = disturbance(t) // it takes as long as it takes
	b := brokertest.Begin(t)
	h := newHouse(t, b)
	stop := h.takeOrders(2 * time.Millisecond)
	h.moves(100)
	h.kitchen.kill()
	h.await("the outbox is full", func() bool { return h.waits() == capacity })
	stop()
	h.await("the broker has most of what waits", func() bool { return held(t.Context(), b.URL()) >= capacity/2 })
	b.Kill()
	b.Wipe()
	b.Start()
	h.kitchen.start()
	h.audit()
}

// held is how many messages the kitchen's stream has; -1 when that cannot be told.
func held(ctx context.Context, url string) int {
	nc, err := nats.Connect(url)
	if err != nil {
		return -1
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		return -1
	}
	s, err := js.Stream(ctx, "weir-kitchen")
	if err != nil {
		return -1
	}
	return int(s.CachedInfo().State.Msgs)
}
