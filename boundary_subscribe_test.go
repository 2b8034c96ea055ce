package weir_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport/local"
)

// relays are the lanes out of an engine, by queue.
func relays(t *testing.T, e *weir.Engine) map[string]weir.LaneOut {
	t.Helper()
	out, _, err := e.Lanes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]weir.LaneOut{}
	for _, l := range out {
		all[l.Queue] = l
	}
	return all
}

// openSlow opens an engine that looks seldom, so that hours cost little.
func openSlow(t *testing.T, file string, c weir.Config) *weir.Engine {
	t.Helper()
	c.Log = slog.New(slog.DiscardHandler)
	ctx := engine.WithIntervals(context.Background(), engine.Intervals{
		Heartbeat: time.Minute, Reap: time.Minute, Watch: 10 * time.Second, Poll: 10 * time.Second, Figures: time.Minute, Exchange: 5 * time.Second,
	})
	e, err := weir.Open(ctx, sqlite.File(file), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close = %v, want nil", err)
		}
	})
	return e
}

// A boundary that does not want an event any more is not sent it, and holds nothing back. Should it want it again, it
// is sent what is kept.
func TestBoundaryUnsubscribes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := newWire(t, local.Config{})
		kitchen := openSlow(t, newFile(t), weir.Config{Owns: []string{"kitchen"}, Transport: wire.Open()})
		run(t, kitchen)
		file := newFile(t)
		heard := make(chan *weir.Message[plate], 100)
		floor := func(wants bool) (stop func()) {
			e := openSlow(t, file, weir.Config{Owns: []string{"floor", "staff"}, Transport: wire.Open(), Routes: map[string]weir.Route{"kitchen": {}}})
			if wants {
				weir.Subscribe(e, ready, "staff.bring-food", into(heard))
			}
			return run(t, e)
		}
		const relay = "kitchen.food-ready@staff"
		stop := floor(true)
		pass(time.Minute)
		publish(t, kitchen, "7", 1)
		if m := receive(t, heard); m.Body.N != 1 {
			t.Errorf("heard %d, want 1", m.Body.N)
		}
		stop()
		stop = floor(false)
		pass(30 * time.Minute)
		if state := relays(t, kitchen)[relay].State; state == "not wanted" {
			t.Errorf("%s is %s after half an hour: an older version of the program may run beside this one", relay, state)
		}
		pass(time.Hour)
		for n := 2; n <= 10; n++ {
			publish(t, kitchen, "7", n)
		}
		pass(time.Minute)
		if l := relays(t, kitchen)[relay]; l.State != "not wanted" || l.Unconfirmed > 0 {
			t.Errorf("%s is %+v, want not wanted", relay, l)
		}
		if q := figures(t, kitchen, relay); !q.Parked {
			t.Errorf("the queue %s is not parked, and holds back what retention would take", relay)
		}
		stop()
		floor(true)
		pass(time.Minute)
		publish(t, kitchen, "7", 11)
		for last := 1; last < 11; {
			m := receive(t, heard)
			if m.Body.N <= last {
				t.Errorf("heard %d after %d, want it once and in order", m.Body.N, last)
			}
			last = m.Body.N
		}
	})
}

// Two stores that own one boundary notice each other: the one that came later does not begin.
func TestBoundaryHasOneStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := newWire(t, local.Config{})
		first := openKitchen(t, newFile(t), wire.Open())
		log := &paper{}
		second, err := weir.Open(t.Context(), sqlite.File(newFile(t)), weir.Config{
			Owns: []string{"kitchen"}, Transport: wire.Open(), Log: slog.New(slog.NewTextHandler(log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		run(t, first)
		pass(time.Minute)
		if err := receive(t, runs(t.Context(), second)); err == nil || !strings.Contains(err.Error(), "boundary kitchen lives in another store already") {
			t.Errorf("Run of a second store of the kitchen = %v, want an error that says so", err)
		}
	})
}

func TestBoundaryConfig(t *testing.T) {
	end := newWire(t, local.Config{}).Open()
	many := map[string]weir.Route{"kitchen": {Capacity: -2}, "Bar": {}, "floor": {}}
	for _, c := range []struct {
		config weir.Config
		says   []string
	}{
		{weir.Config{Owns: []string{"floor"}, Routes: map[string]weir.Route{"kitchen": {}}}, []string{"need a Config.Transport"}},
		{weir.Config{Transport: end, Routes: map[string]weir.Route{"kitchen": {}}}, []string{"need a boundary in Config.Owns"}},
		{weir.Config{Owns: []string{"floor"}, Transport: end, Routes: many},
			[]string{`Config.Routes has "Bar"`, `Config.Routes has "floor", which Config.Owns has too`, "kitchen: Capacity is -2, want -1 to"}},
		{weir.Config{Owns: []string{"floor"}, Transport: end, Public: []string{"kitchen.food-ready", "x", "floor.opened", "floor.opened"}},
			[]string{`Config.Public has "kitchen.food-ready"`, `event name "x"`, `"floor.opened" twice`}},
	} {
		_, err := weir.Open(t.Context(), sqlite.File(newFile(t)), c.config)
		for _, want := range c.says {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Open(%+v) = %v, want %q in it", c.config, err, want)
			}
		}
	}
}

// What is published for everybody is an event: a command of that name is a fault of Run.
func TestPublicCommand(t *testing.T) {
	e := openStore(t, sqlite.File(newFile(t)), weir.Config{
		Owns: []string{"kitchen"}, Transport: newWire(t, local.Config{}).Open(), Public: []string{"kitchen.clean"},
	})
	weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error { return nil })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := e.Run(ctx); err == nil || !strings.Contains(err.Error(), "Config.Public has kitchen.clean, which is no event") {
		t.Errorf("Run = %v, want that kitchen.clean is no event", err)
	}
}
