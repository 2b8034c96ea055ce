package weir_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/local"
)

// rough is a wire that loses some of the packets that come to an inlet, and of the notes, gives 5 % twice,
// and the rest in another order.
type rough struct {
	transport.Transport
	loses int // percent
	mu    sync.Mutex
	rand  *rand.Rand
}

const reorderWindow = 50

// wires are both ends of a wire without faults.
func wires(t testing.TB) (ends [2]transport.Transport) {
	w, err := local.New(local.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range ends {
		ends[i] = w.Open()
	}
	t.Cleanup(func() {
		for _, end := range ends {
			end.Close()
		}
	})
	return ends
}

func roughWires(t testing.TB, seed uint64, loses int) [2]transport.Transport {
	ends := wires(t)
	for i := range ends {
		ends[i] = &rough{Transport: ends[i], loses: loses, rand: rand.New(rand.NewPCG(seed, uint64(i)))}
	}
	return ends
}

func (r *rough) chance(percent int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rand.IntN(100) < percent
}

func (r *rough) Receive(ctx context.Context, boundary string) (transport.Inlet, error) {
	in, err := r.Transport.Receive(ctx, boundary)
	return &roughInlet{in, r}, err
}

func (r *rough) Notify(ctx context.Context, to string, n transport.Note) error {
	if r.chance(r.loses) {
		return nil
	}
	return r.Transport.Notify(ctx, to, n)
}

type roughInlet struct {
	transport.Inlet
	wire *rough
}

func (i *roughInlet) Next(ctx context.Context, max int) ([]transport.Delivery, error) {
	for {
		came, err := i.Inlet.Next(ctx, min(max, reorderWindow))
		if err != nil {
			return nil, err
		}
		var out, lost []transport.Delivery
		for _, d := range came {
			switch {
			case i.wire.chance(i.wire.loses):
				lost = append(lost, d)
				continue
			case i.wire.chance(5) && len(out)+1 < max:
				out = append(out, d)
			}
			if len(out) < max {
				out = append(out, d)
			}
		}
		if err := i.Inlet.Ack(ctx, lost); err != nil {
			return nil, err
		}
		i.wire.mu.Lock()
		i.wire.rand.Shuffle(len(out), func(a, b int) { out[a], out[b] = out[b], out[a] })
		i.wire.mu.Unlock()
		if len(out) > 0 {
			return out, nil
		}
	}
}

// side is one of two processes that are restarted now and then.
type side struct {
	t       *testing.T
	open    func() *weir.Engine
	mu      sync.RWMutex // held for writing while it is down
	engine  *weir.Engine
	stop    func()
	own     *weir.Owned[guest]
	replica *weir.Replica[guest]
}

// up starts it; the caller holds mu, or is alone.
func (s *side) up() {
	s.engine = s.open()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.engine.Run(ctx) }()
	s.stop = func() {
		cancel()
		if err := receive(s.t, done); err != nil {
			s.t.Errorf("Run = %v", err)
		}
		if err := s.engine.Close(); err != nil {
			s.t.Errorf("Close = %v", err)
		}
	}
}

// restart stops it, however it may, and starts it again.
func (s *side) restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	s.up()
}

// tandem is an owner and a follower, each in a store of its own.
type tandem struct {
	t               *testing.T
	wires           [2]transport.Transport // the owner's end, the follower's
	ownFile, file   string
	owner, follower *side
	options         []weir.OwnOption
	as              []weir.FollowOption
	beside          []string      // boundaries in the follower's store beside desk
	capacity        int           // of the owner's route
	beat            time.Duration // between the owner's words of how far it is
}

var deskGuests = weir.NewEntity("front.guest", weir.KeyedBy(guest.id))

func newTandem(t *testing.T, wires [2]transport.Transport, o ...weir.OwnOption) *tandem {
	p := &tandem{t: t, wires: wires, ownFile: newFile(t), file: newFile(t), options: o}
	p.owner = &side{t: t, open: func() *weir.Engine {
		e := p.engine(p.ownFile, wires[0], "front", "desk")
		p.owner.own = weir.Own(e, deskGuests, p.options...)
		return e
	}}
	p.follower = &side{t: t, open: func() *weir.Engine {
		e := p.engine(p.file, wires[1], "desk", "front")
		p.follower.replica = weir.Follow(e, deskGuests, p.as...)
		return e
	}}
	return p
}

// begin starts both, and has them stopped at the end.
func (p *tandem) begin() {
	p.owner.up()
	p.follower.up()
	p.t.Cleanup(func() {
		p.owner.stop()
		p.follower.stop()
	})
}

func (p *tandem) engine(file string, wire transport.Transport, owns, other string) *weir.Engine {
	list := []string{owns}
	if owns == "desk" {
		list = append(p.beside, owns)
	}
	p.t.Helper()
	loud := slog.New(slog.NewTextHandler(p.t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	e, err := weir.Open(engine.WithIntervals(context.Background(), engine.Intervals{Beat: p.beat}), abandonSometimes(file), weir.Config{
		Owns: list, Transport: wire, Routes: map[string]weir.Route{other: {Capacity: p.capacity}}, Log: loud,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return e
}

// abandonSometimes is a store whose process often ends without handing back what it holds, as a killed one does.
func abandonSometimes(file string) store.Opener {
	if rand.IntN(2) == 0 {
		return abandon(file)
	}
	return sqlite.File(file)
}

// fingerprint is a hash over all live entries of a store: id, version, value; and how many there are.
func fingerprint(t *testing.T, e *weir.Engine, entity string) string {
	t.Helper()
	h, n := fnv.New64a(), 0
	list := allStates(t, e, entity)
	for _, id := range slices.Sorted(maps.Keys(list)) {
		if s := list[id]; !s.Deleted {
			n++
			fmt.Fprintf(h, "%q %d %q\n", id, s.Version, s.Body)
		}
	}
	return fmt.Sprintf("%d entries, hash %016x", n, h.Sum64())
}

// allStates are a store's, tombstones too.
func allStates(t *testing.T, e *weir.Engine, entity string) map[string]weir.StateRow {
	t.Helper()
	all := map[string]weir.StateRow{}
	for after := ""; ; {
		list, err := e.States(context.Background(), entity, after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			all[s.Key], after = s, s.Key
		}
		if len(list) < 1000 {
			return all
		}
	}
}

// converged waits until the follower has what the owner has, in its store and in memory.
func (p *tandem) converged() {
	p.t.Helper()
	want, got := "", ""
	defer func() {
		if p.t.Failed() {
			p.t.Logf("owner: %s; follower: %s; %+v", want, got, p.follower.replica.Figures())
		}
	}()
	eventually(p.t, "the replica equals its owner", func() bool {
		want, got = fingerprint(p.t, p.owner.engine, deskGuests.Name()), fingerprint(p.t, p.follower.engine, deskGuests.Name())
		return want == got && p.follower.replica.Loaded()
	})
	states := allStates(p.t, p.owner.engine, deskGuests.Name())
	eventually(p.t, "memory has what the store has", func() bool {
		n := 0
		for id, e := range p.follower.replica.All() {
			if states[id].Version != e.Version {
				return false
			}
			n++
		}
		return n == p.follower.replica.Len() && fmt.Sprint(n, " ") == want[:len(fmt.Sprint(n, " "))]
	})
}

// watch reads all the time, as many would, and complains when a version goes back; until stop is called. What was
// seen before a restart counts after it.
func (p *tandem) watch(readers int, pause time.Duration) (stop func()) {
	var over atomic.Bool
	var all sync.WaitGroup
	for range readers {
		all.Go(func() {
			seen := map[string]int64{}
			tick := time.NewTicker(pause)
			defer tick.Stop()
			for !over.Load() {
				p.follower.mu.RLock()
				for _, id := range append(slices.Collect(maps.Keys(seen)), "g0000", "g0001") {
					p.see(seen, id)
				}
				for id, e := range p.follower.replica.All() {
					p.sawVersion(seen, id, e.Version)
				}
				p.follower.mu.RUnlock()
				<-tick.C
			}
		})
	}
	all.Go(func() { // and one that reads the store, as an operator would
		seen := map[string]int64{}
		tick := time.NewTicker(5 * pause)
		defer tick.Stop()
		for !over.Load() {
			p.follower.mu.RLock()
			for id, s := range allStates(p.t, p.follower.engine, deskGuests.Name()) {
				p.sawVersion(seen, id, s.Version)
			}
			p.follower.mu.RUnlock()
			<-tick.C
		}
	})
	return func() {
		over.Store(true)
		all.Wait()
	}
}

func (p *tandem) see(seen map[string]int64, id string) {
	e, err := p.follower.replica.Get(id)
	none, deleted := errors.AsType[*weir.NoEntryError](err)
	switch {
	case err == nil:
		p.sawVersion(seen, id, e.Version)
	case deleted && (none.Deleted || seen[id] > 0):
		p.sawVersion(seen, id, none.Version)
	}
}

func (p *tandem) sawVersion(seen map[string]int64, id string, version int64) {
	if version < seen[id] {
		p.t.Errorf("%s went from version %d to %d", id, seen[id], version)
	}
	seen[id] = version
}

// Whatever is created, changed, deleted and created again at the owner, over a wire that loses, doubles and
// reorders, while both sides are restarted, in snapshots too: the replica becomes equal to the owner, and no
// reader ever sees a version go back. WEIR_TEST_REPLICA=5000 does it with so many entities, thirteen changes of each, and
// 1 % lost.
func TestReplicaOverARoughWire(t *testing.T) {
	t.Parallel()
	entities, rounds, restarts, loses, resync := 100, 40, 4, 10, 2
	if long := os.Getenv("WEIR_TEST_REPLICA"); long != "" {
		entities, _ = strconv.Atoi(long)
		rounds, restarts, loses, resync = entities, 20, 1, entities/10
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for name, o := range map[string][]weir.OwnOption{"whole": nil, "ids only": {weir.IDsOnly}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 1))
				p := newTandem(t, roughWires(t, seed, loses), o...)
				p.begin()
				stop := p.watch(2, time.Duration(entities)*10*time.Microsecond)
				tick := time.NewTicker(20 * time.Millisecond)
				defer tick.Stop()
				for n := range rounds {
					if n%(rounds/restarts) == rounds/restarts/2 {
						[]*side{p.owner, p.follower}[random.IntN(2)].restart()
					}
					if n%resync == 0 { // some meet a restart
						if err := p.follower.replica.Resync(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					p.change(random, entities, n)
					<-tick.C
				}
				p.converged()
				stop()
				t.Logf("%+v", p.follower.replica.Figures())
			})
		})
	}
}

// change makes some at random.
func (p *tandem) change(random *rand.Rand, entities, n int) {
	p.t.Helper()
	id := func() string { return fmt.Sprintf("g%04d", random.IntN(entities)) }
	some := map[string]guest{}
	for range 10 {
		id := id()
		some[id] = guest{id, "", n}
	}
	err := p.owner.own.PutAll(p.t.Context(), p.owner.engine, some)
	for range 3 {
		err = errors.Join(err, p.owner.own.Delete(p.t.Context(), p.owner.engine, id()))
	}
	if err != nil {
		p.t.Fatal(err)
	}
}
