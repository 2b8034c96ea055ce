// Package brokertest has brokers for tests: in the test's process, to be stopped and wiped, or in processes of their own, to be
// killed.
package brokertest

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-go/weir/transport/jetstream/broker"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Verify runs a package's tests, and fails when goroutines are left then. What the server of NATS leaves behind in a
// process in which it was shut down is its own: some for ever, others for as long as a busy machine lets them.
func Verify(m *testing.M) { goleak.VerifyTestMain(patient{m}, leaks()...) }

func leaks() []goleak.Option {
	const theirs = "github.com/nats-io/nats-server/v2/server"
	return []goleak.Option{
		goleak.IgnoreAnyFunction(theirs + ".(*msgBlock).flushLoop"),
		goleak.IgnoreAnyFunction(theirs + ".(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreAnyFunction(theirs + "/ats.Register.func1"),
	}
}

// patient gives goroutines that end the time to.
type patient struct{ m *testing.M }

func (p patient) Run() int {
	code := p.m.Run()
	for began := time.Now(); code == 0 && goleak.Find(leaks()...) != nil && time.Since(began) < patience; {
		runtime.Gosched() // Find has paused already
	}
	return code
}

// Server is a broker in this process, which connects without a port. It can only be stopped, not killed.
type Server struct {
	t   testing.TB
	dir string
	mu  sync.Mutex
	b   *broker.Broker // nil while it is away
}

// Serve starts a broker that ends with the test.
func Serve(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, dir: filepath.Join(t.TempDir(), "broker")}
	t.Cleanup(s.Wipe) // before t does, who tries once
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

// Start starts it again, with what is on its disk.
func (s *Server) Start() {
	s.t.Helper()
	b, err := broker.Start(s.t.Context(), broker.Config{Dir: s.dir, Log: quiet()})
	if err != nil {
		s.t.Errorf("broker.Start() = %v, want nil", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b = b
}

// Kill stops it. Once more does no harm.
func (s *Server) Kill() {
	s.mu.Lock()
	b := s.b
	s.b = nil
	s.mu.Unlock()
	if b != nil {
		b.Close()
	}
}

// Wipe takes away what is on its disk. It does not run.
func (s *Server) Wipe() { wipe(s.t, s.dir) }

// wipe tries again: a server of this process may still be at a file when it is closed, see [broker.Broker.Close].
func wipe(t testing.TB, dir string) {
	t.Helper()
	for began := time.Now(); ; runtime.Gosched() {
		err := os.RemoveAll(dir)
		if err == nil {
			return
		}
		if time.Since(began) > patience {
			t.Errorf("wipe of the broker's directory = %v, want nil", err)
			return
		}
	}
}

// InProcessConn makes it what package jetstream takes for Config.InProcess: nats.go asks for it each time it connects.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.b == nil {
		return nil, errors.New("the broker is away")
	}
	return s.b.InProcessConn()
}
