package weir_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
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
