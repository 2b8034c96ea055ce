package weir_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport/local"
)

// A lane is known while its sender is there, however little it sends; when that was away for longer than messages are
// kept it is forgotten, and the sender that comes back goes on where it was: nothing comes twice.
func TestBoundaryForgetsLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire, floorFile := newWire(t, local.Config{}), newFile(t)
		var mu sync.Mutex
		seen := map[int]int{}
		handled := func(n, times int) bool {
			mu.Lock()
			defer mu.Unlock()
			return seen[n] == times
		}
		keep := time.Minute
		kitchen := openStore(t, abandon(newFile(t)), weir.Config{Owns: []string{"kitchen"}, Transport: wire.Open(), Keep: keep})
		weir.Handle(kitchen, clean, func(_ context.Context, m *weir.Message[ticket]) error {
			mu.Lock()
			defer mu.Unlock()
			seen[m.Body.N]++
			return nil
		})
		run(t, kitchen)
		open := func() (e *weir.Engine, stop func()) {
			e = openStore(t, sqlite.File(floorFile), weir.Config{
				Owns: []string{"floor"}, Transport: wire.Open(), Keep: keep, Routes: map[string]weir.Route{"kitchen": {}},
			})
			running := run(t, e)
			return e, func() {
				running()
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			}
		}
		lanes := func() int {
			_, in, err := kitchen.Lanes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return len(in)
		}
		floor, stop := open()
		for n := range 3 {
			send(t, floor, clean, ticket{"7", n})
		}
		eventually(t, "three are cleaned", func() bool { return handled(2, 1) })
		pass(4 * keep)
		if lanes() != 1 {
			t.Errorf("%d lanes are known while the sender is idle, want 1", lanes())
		}
		stop()
		pass(3 * keep) // in memory too
		if lanes() != 0 {
			t.Errorf("%d lanes are known long after the sender was last heard of, want none", lanes())
		}
		reports, err := kitchen.States(t.Context(), "weir~lanes", "", 100)
		for _, r := range reports {
			if !r.Deleted {
				t.Errorf("%s is still told of, want nothing of a lane that is forgotten", r.Key)
			}
		}
		if err != nil || len(reports) != 1 {
			t.Errorf("States(of lanes) = %d, %v, want the one, deleted", len(reports), err)
		}
		floor, stop = open()
		send(t, floor, clean, ticket{"7", 3})
		eventually(t, "the sender goes on", func() bool { return handled(3, 1) })
		pass(time.Minute)
		for n := range 4 {
			if !handled(n, 1) {
				t.Errorf("%d was cleaned %d times, want once", n, seen[n])
			}
		}
		stop()
	})
}

// What comes on a lane too many waits at its sender, which is seen on both sides, and is taken in when there is room.
func TestBoundaryTooManyLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		crowd(t, file)
		wire := newWire(t, local.Config{})
		var log paper
		kitchen := openStore(t, sqlite.File(file), weir.Config{
			Owns: []string{"kitchen"}, Transport: wire.Open(), Keep: time.Minute, Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		cleaned := make(chan *weir.Message[ticket], 10)
		weir.Handle(kitchen, clean, into(cleaned))
		run(t, kitchen)
		floor := openStore(t, abandon(newFile(t)), weir.Config{
			Owns: []string{"floor"}, Transport: wire.Open(), Routes: map[string]weir.Route{"kitchen": {}},
		})
		run(t, floor)
		send(t, floor, clean, ticket{"7", 1})
		pass(30 * time.Second)
		out, _, err := floor.Lanes(t.Context())
		if err != nil || len(cleaned) != 0 || len(out) != 1 || out[0].Depth != 1 || out[0].State != "waiting: kitchen does not confirm" {
			t.Errorf("with too many lanes %d are cleaned, Lanes() = %+v, %v, want none, and that it waits", len(cleaned), out, err)
		}
		if n := strings.Count(log.String(), "1000 lanes from floor are here already"); n != 1 {
			t.Errorf("the log says %d times that there are too many lanes, want once:\n%s", n, log.String())
		}
		pass(2 * time.Minute) // one of them is forgotten
		receive(t, cleaned)
		pass(time.Minute)
		if len(cleaned) != 0 {
			t.Errorf("%d more are cleaned, want none", len(cleaned))
		}
	})
}

// crowd fills a store with lanes of the floor's, one of which is drained.
func crowd(t *testing.T, file string) {
	t.Helper()
	st, err := sqlite.File(file)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g := &store.Group{}
	end := store.Place{Batch: 1, Last: true}
	for i := range store.MaxLanesFrom {
		g.Changes = append(g.Changes, &store.Change{Arrival: &store.Arrival{Lane: fmt.Sprintf("floor/aaaaaa/q%d", i), From: end, To: end}})
	}
	g.Changes = append(g.Changes, &store.Change{Drained: []store.Drained{{Lane: "floor/aaaaaa/q7", Have: end}}})
	err = errors.Join(st.Begin(t.Context(), &store.Process{Host: "here"}), st.Commit(t.Context(), g), st.End(t.Context()), st.Close())
	for _, c := range g.Changes {
		err = errors.Join(err, c.Err)
	}
	if err != nil {
		t.Fatal(err)
	}
}
