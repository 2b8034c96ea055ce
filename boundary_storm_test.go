package weir_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/store/storetest"
	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/local"
)

// storm is a wire that loses, doubles and reorders what goes over it, with a chance for each, and may be wiped.
type storm struct {
	t testing.TB

	mu    sync.Mutex
	luck  *rand.Rand
	wire  *local.Wire
	life  int // of the wire
	rough bool
}

func newStorm(t testing.TB, seed uint64) *storm {
	return &storm{t: t, luck: rand.New(rand.NewPCG(seed, 1)), wire: newWire(t, local.Config{Capacity: 700}), rough: true}
}

// strikes says whether something happens that has a chance of p.
func (s *storm) strikes(p float64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rough && s.luck.Float64() < p
}

func (s *storm) shuffle(n int, swap func(i, j int)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.luck.Shuffle(n, swap)
}

// wipe forgets all that the wire holds, and whom it knows.
func (s *storm) wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wire, s.life = newWire(s.t, local.Config{Capacity: 700}), s.life+1
}

func (s *storm) calm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rough = false
}

// open is one engine's end.
func (s *storm) open() transport.Transport { return &gale{storm: s, ears: map[*ear]func(){}} }

// gale is one engine's end of a storm.
type gale struct {
	storm *storm
	mu    sync.Mutex
	life  int
	end   transport.Transport
	ears  map[*ear]func() // each with what stops it on the wire as it is
}

// ear is who listens, whatever becomes of the wire.
type ear struct {
	boundary string
	hear     func(transport.Note)
}

// now is the end of the wire as it is: one that was wiped ends all that was open.
func (g *gale) now() transport.Transport {
	g.storm.mu.Lock()
	wire, life := g.storm.wire, g.storm.life
	g.storm.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.end == nil || g.life != life {
		if g.end != nil {
			_ = g.end.Close() // never fails
		}
		g.end, g.life = wire.Open(), life
		for e := range g.ears {
			g.ears[e], _ = g.end.Listen(context.Background(), e.boundary, e.hear) // on an open end: never fails
		}
	}
	return g.end
}

func (g *gale) Send(ctx context.Context, to string, packets []transport.Packet) (int, error) {
	end := g.now()
	for i := range packets {
		if g.storm.strikes(0.02) {
			continue // lost
		}
		if g.storm.strikes(0.001) {
			return i, transport.ErrUnavailable
		}
		if _, err := end.Send(ctx, to, packets[i:i+1]); err != nil {
			return i, err
		}
	}
	return len(packets), nil
}

func (g *gale) Notify(ctx context.Context, to string, n transport.Note) error {
	if g.storm.strikes(0.2) {
		return nil // lost
	}
	return g.now().Notify(ctx, to, n)
}

func (g *gale) Listen(ctx context.Context, boundary string, hear func(transport.Note)) (func(), error) {
	end := g.now()
	e := &ear{boundary, hear}
	stop, err := end.Listen(ctx, boundary, hear)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ears[e] = stop
	return func() {
		g.mu.Lock()
		stop := g.ears[e]
		delete(g.ears, e)
		g.mu.Unlock()
		stop()
	}, nil
}

func (g *gale) Receive(ctx context.Context, boundary string) (transport.Inlet, error) {
	in, err := g.now().Receive(ctx, boundary)
	return &squall{in, g.storm, g}, err
}

func (g *gale) Close() error { return g.now().Close() }

// squall is an inlet in a storm.
type squall struct {
	transport.Inlet
	storm *storm
	gale  *gale
}

func (q *squall) Next(ctx context.Context, most int) ([]transport.Delivery, error) {
	for {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		ds, err := q.Inlet.Next(ctx, most)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			q.gale.now() // which closes it, when the wire was wiped
			continue
		}
		if len(ds) > 0 && q.storm.strikes(0.2) {
			ds = append(ds, ds[:min(len(ds), 1000-len(ds)/2)]...) // twice
		}
		if q.storm.strikes(0.3) {
			q.storm.shuffle(len(ds), func(i, j int) { ds[i], ds[j] = ds[j], ds[i] })
		}
		return ds, err
	}
}

func (q *squall) Ack(ctx context.Context, ds []transport.Delivery) error {
	if q.storm.strikes(0.1) {
		return nil // lost: they come again
	}
	return q.Inlet.Ack(ctx, ds)
}

var errKilled = errors.New("the process was killed")

// mortal is an engine whose process can be killed at any time: after that nothing of it is written.
type mortal struct {
	t    *testing.T
	open func(store *storetest.Faults) *weir.Engine
	dead *atomic.Bool
	eng  *weir.Engine
	done <-chan error
}

func (m *mortal) start() {
	m.t.Helper()
	dead := &atomic.Bool{}
	strike := func(storetest.Call) error {
		if dead.Load() {
			return errKilled
		}
		return nil
	}
	m.dead = dead
	m.eng = m.open(&storetest.Faults{Before: strike, After: strike})
	m.done = runs(context.Background(), m.eng)
}

// kill ends the process and waits until nothing of it lives.
func (m *mortal) kill() {
	m.t.Helper()
	m.dead.Store(true)
	if err := receive(m.t, m.done); !errors.Is(err, errKilled) {
		m.t.Errorf("Run of a killed process = %v, want %v", err, errKilled)
	}
	if err := m.eng.Close(); err != nil && !errors.Is(err, errKilled) {
		m.t.Errorf("Close of a killed process = %v", err)
	}
}

func (m *mortal) stop() {
	m.t.Helper()
	if err := m.eng.Close(); err != nil {
		m.t.Errorf("Close = %v, want nil", err)
	}
	if err := receive(m.t, m.done); err != nil {
		m.t.Errorf("Run = %v, want nil", err)
	}
}

// openMortal opens a mortal engine, which its test closes.
func openMortal(t *testing.T, faults *storetest.Faults, file string, c weir.Config) *weir.Engine {
	t.Helper()
	c.Log, c.StopTimeout = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError + 1})), 10*time.Millisecond
	e, err := weir.Open(context.Background(), faults.Opener(sqlite.File(file)), c)
	if err != nil {
		t.Fatalf("Open = %v", err)
	}
	return e
}

// Whatever the wire loses, doubles and reorders, whoever is killed, and when the wire forgets all: each command takes
// effect once, in the order of its key, and each request has its reply.
func TestBoundaryStorm(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { weather(t, seed) })
		})
	}
}

func weather(t *testing.T, seed uint64) {
	const tables, each = 8, 60
	s := newStorm(t, seed)
	fileF, fileK := newFile(t), newFile(t)
	db, replies := openTable(t, fileK, effects), openTable(t, fileF, effects)
	floor := &mortal{t: t, open: func(f *storetest.Faults) *weir.Engine {
		e := openMortal(t, f, fileF, weir.Config{Owns: []string{"floor"}, Transport: s.open(), Routes: map[string]weir.Route{"kitchen": {}}})
		weir.Subscribe(e, cook.Reply(), "floor.serve", func(_ context.Context, m *weir.Message[plate]) error {
			m.OnCommit(func(ctx context.Context, tx weir.Tx) error {
				_, err := sqlite.SQL(tx).ExecContext(ctx, `insert into effects (tab, n) values (?, ?)`, m.Body.Table, m.Body.N)
				return err
			})
			return nil
		})
		return e
	}}
	kitchen := &mortal{t: t, open: func(f *storetest.Faults) *weir.Engine {
		e := openMortal(t, f, fileK, weir.Config{Owns: []string{"kitchen"}, Transport: s.open()})
		weir.Answer(e, cook, func(_ context.Context, m *weir.Message[ticket]) (plate, error) {
			effect(m)
			return plate(m.Body), nil
		}, weir.Queue{Capacity: 50})
		return e
	}}
	floor.start()
	kitchen.start()
	luck := rand.New(rand.NewPCG(seed, 2))
	for n := 1; n <= each; n++ {
		for table := range tables {
			name := fmt.Sprint("table-", table)
			for weir.Send(context.Background(), floor.eng, cook, ticket{name, n}, weir.Dedup(fmt.Sprint(name, "/", n))) != nil {
				pass(10 * time.Millisecond)
			}
		}
		pass(time.Duration(luck.IntN(300)) * time.Millisecond)
		switch luck.IntN(12) {
		case 0:
			floor.kill()
			pass(time.Duration(luck.IntN(3)) * time.Second)
			floor.start()
		case 1:
			kitchen.kill()
			pass(time.Duration(luck.IntN(10)) * time.Second)
			kitchen.start()
		case 2:
			s.wipe()
		}
	}
	s.calm()
	var served, fed map[string][]int
	for range 600 { // 10 minutes of the test's time
		if served, fed = took(t, db), took(t, replies); count(served) >= tables*each && count(fed) >= tables*each {
			break
		}
		pass(time.Second)
	}
	pass(time.Minute) // what comes twice comes in that time
	served, fed = took(t, db), took(t, replies)
	for table, list := range served {
		if !slices.Equal(list, upTo(each)) {
			t.Errorf("%s was served %v, want 1 to %d in order", table, list, each)
		}
		if !slices.Equal(fed[table], upTo(each)) {
			t.Errorf("%s got the plates %v, want 1 to %d in order", table, fed[table], each)
		}
	}
	if len(served) != tables {
		t.Errorf("%d tables were served, want %d", len(served), tables)
	}
	for _, e := range []*weir.Engine{floor.eng, kitchen.eng} {
		if findings, err := e.Check(context.Background()); err != nil || len(findings) != 0 {
			t.Errorf("Check = %+v, %v, want nothing", findings, err)
		}
		all, err := e.Queues(context.Background(), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range all {
			if q.Depth != 0 || q.Dead != 0 {
				t.Errorf("queue %s holds %d and %d dead, want none", q.Name, q.Depth, q.Dead)
			}
		}
	}
	floor.stop()
	kitchen.stop()
}

// count is how many effects there were in all.
func count(all map[string][]int) (n int) {
	for _, list := range all {
		n += len(list)
	}
	return n
}

// pass lets time pass in a bubble, where it costs nothing.
func pass(d time.Duration) { <-time.After(d) }
