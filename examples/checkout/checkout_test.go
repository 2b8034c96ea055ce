package checkout_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir/examples/checkout"
	"github.com/weir-go/weir/examples/checkout/contract"
	"github.com/weir-go/weir/examples/database"
	"github.com/weir-go/weir/examples/fulfilment/outside"
	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/local"
)

// shop is the shop with all that it needs, in this process: its boundaries on one store, or
// each on its own.
type shop struct {
	dir      string
	provider string // its address
	stores   map[string]*database.Database
	at       map[string]string // each boundary's address
	log      *shared
	wire     func() transport.Transport // nil: all boundaries are in one process
	tapped   *shared                    // what goes over the wire, where it is heard
	shopping *checkout.Shoppers         // the last who bought
}

// shared is a log that several write.
type shared struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (s *shared) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(b)
}

func (s *shared) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// build makes the stores and the payment provider. Nothing of the shop runs yet.
func build(t *testing.T, trouble outside.Trouble, wire func(*testing.T, *shop) func() transport.Transport) *shop {
	t.Helper()
	s := &shop{dir: t.TempDir(), stores: map[string]*database.Database{}, at: map[string]string{}, log: &shared{}, tapped: &shared{}}
	if wire != nil {
		s.wire = wire(t, s)
	}
	provider, err := outside.Open(t.Context(), outside.Payments, outside.Config{
		File: s.providerFile(), Seed: 1, Trouble: trouble, Declined: 0.1, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	s.provider = "http://" + l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- provider.Run(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, provider.Close()); err != nil {
			t.Errorf("the provider ended with %v, want nil", err)
		}
	})
	for _, b := range contract.Boundaries() {
		if s.stores[b], err = database.File(s.file(b)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.stores[b].Close() })
	}
	return s
}

func (s *shop) providerFile() string { return filepath.Join(s.dir, "provider.db") }

func (s *shop) vaultFile() string { return filepath.Join(s.dir, "vault.db") }

// file is a boundary's store.
func (s *shop) file(boundary string) string {
	if s.wire == nil {
		boundary = "shop"
	}
	return filepath.Join(s.dir, boundary+".db")
}

// processes are the boundaries of each process.
func (s *shop) processes() [][]string {
	if s.wire == nil {
		return [][]string{contract.Boundaries()}
	}
	return slices.Collect(slices.Chunk(contract.Boundaries(), 1))
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// run runs the process of some boundaries until stop is called.
func (s *shop) run(t *testing.T, owns []string) (stop func()) {
	t.Helper()
	c := checkout.Config{Owns: owns, Database: s.stores[owns[0]], Vault: s.vaultFile(), Provider: s.provider, Log: s.log.logger()}
	if s.wire != nil {
		c.Transport = s.wire()
	}
	p, err := checkout.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t)
	for _, b := range owns {
		s.at[b] = "http://" + l.Addr().String()
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		err := errors.Join(<-ended, p.Close())
		if c.Transport != nil {
			err = errors.Join(err, c.Transport.Close())
		}
		if err != nil {
			t.Errorf("the process of %v ended with %v, want nil", owns, err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func (s *shop) shoppers(carts int, traffic io.Writer) *checkout.Shoppers {
	return checkout.NewShoppers(checkout.Shopping{At: s.at, Seed: 1, Carts: carts, Customers: 12, Traffic: traffic})
}

// patience is enough for a busy machine, and for the race detector.
const patience = 4 * time.Minute

// buy lets shoppers buy all carts, and waits until all is settled.
func (s *shop) buy(t *testing.T, carts int, traffic io.Writer) {
	t.Helper()
	who := s.shoppers(carts, traffic)
	s.shopping = who
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	t.Cleanup(who.End)
	who.Let(carts)
	if err := who.Buy(ctx); err != nil {
		t.Fatal(err)
	}
	s.settle(t, who)
}

// settle waits until all is settled, and ordering knows the customers as they are.
func (s *shop) settle(t *testing.T, who *checkout.Shoppers) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		p, err := checkout.Look(ctx, s.stores)
		if err != nil {
			t.Fatal(err)
		}
		unequal := []string{"not looked"}
		if p.Settled(who.Carts) {
			if unequal, err = checkout.Unequal(ctx, who, s.stores); err != nil {
				unequal = []string{err.Error()} // ordering is still loading its replica, say
			}
		}
		if len(unequal) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not settled: %+v; unequal are %v", p, unequal)
		case <-tick.C:
		}
	}
}

// count counts, and fails the test when a promise is broken.
func (s *shop) count(t *testing.T, carts int) *checkout.Count {
	t.Helper()
	c, err := checkout.CountAll(t.Context(), checkout.Places{Stores: s.stores, Provider: s.providerFile()})
	if err != nil {
		t.Fatal(err)
	}
	if c.Wrong() || c.Orders != carts || c.ChargedOnce != c.Paid || c.Paid+c.Unpaid != carts || c.Declined == 0 || c.Unpaid <= c.Declined || c.Paid == 0 {
		t.Errorf("count = %+v, want %d orders, of which each is paid with one charge, or declined, or without a card", c, carts)
	}
	return c
}

// slow is a provider that is slow at times, and no worse: what could not be tried again for seconds would make the tests slow.
var slow = outside.Trouble{Slow: 0.1, SlowMax: 20 * time.Millisecond}

func TestOneProcess(t *testing.T) {
	t.Parallel() // it mostly waits
	s := build(t, slow, nil)
	s.run(t, contract.Boundaries())
	s.buy(t, 60, nil)
	s.count(t, 60)
}

// The same code, each boundary in an engine of its own on a store of its own.
func TestThreeStores(t *testing.T) {
	t.Parallel() // it mostly waits
	s := build(t, slow, inProcess)
	for _, owns := range s.processes() {
		s.run(t, owns)
	}
	s.buy(t, 60, nil)
	s.count(t, 60)
}

// inProcess is a way between engines of one process.
func inProcess(t *testing.T, _ *shop) func() transport.Transport {
	t.Helper()
	w, err := local.New(local.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return w.Open
}
