package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/internal/brokertest"
)

var dishes = weir.NewEntity[plate]("kitchen.dish")

// A replica over a broker that is stopped, and stopped and wiped, while the owner goes on, becomes equal to it, and no
// reader sees a version go back.
func TestReplicaWhileTheBrokerIsWiped(t *testing.T) {
	t.Parallel()
	s := brokertest.Serve(t)
	kitchen := open(t, s, weir.Config{Owns: []string{"kitchen"}, Routes: map[string]weir.Route{"hall": {}}})
	hall := open(t, s, weir.Config{Owns: []string{"hall"}, Routes: map[string]weir.Route{"kitchen": {}}})
	own, replica := weir.Own(kitchen, dishes), weir.Follow(hall, dishes)
	run(t, kitchen)
	run(t, hall)
	var over atomic.Bool
	read := make(chan struct{})
	go func() {
		defer close(read)
		seen := map[string]int64{}
		for !over.Load() {
			for id, e := range replica.All() {
				if e.Version < seen[id] {
					t.Errorf("%s went from version %d to %d", id, seen[id], e.Version)
				}
				seen[id] = e.Version
			}
			<-time.After(time.Millisecond)
		}
	}()
	want := map[string]int{}
	for n := range 60 {
		switch n {
		case 20, 40:
			s.Kill()
			if n == 40 {
				s.Wipe()
			}
		case 30, 50:
			s.Start()
		}
		some := map[string]plate{}
		for i := range 20 {
			id := fmt.Sprint((n*7 + i) % 50)
			some[id], want[id] = plate{id, n}, n
		}
		id := fmt.Sprint(n % 50)
		delete(want, id)
		if err := errors.Join(own.PutAll(t.Context(), kitchen, some), own.Delete(t.Context(), kitchen, id)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the replica equals its owner", func() bool {
		got := map[string]int{}
		for id, e := range replica.All() {
			got[id] = e.Value.N
		}
		return maps.Equal(got, want)
	})
	over.Store(true)
	<-read
	if e, err := replica.Refresh(context.Background(), "49"); err != nil || e.Value.N != want["49"] {
		t.Errorf("Refresh = %+v, %v, want number %d", e, err, want["49"])
	}
}
