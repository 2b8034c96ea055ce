package jetstream_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/weir-go/weir/transport"
	"github.com/weir-go/weir/transport/jetstream"
	"github.com/weir-go/weir/transport/jetstream/broker"
	"github.com/weir-go/weir/transport/transporttest"
)

// brokerConfig, in the environment, makes the test binary a broker until it is killed. It is a
// node in JSON.
const brokerConfig = "WEIR_TEST_BROKER"

// patience is for what must come, on a machine that has much else to do. It only guards against hanging.
const patience = 3 * time.Minute

// answer is how long a broker that is there may take to answer; one that is away is noticed by its connection.
const answer = time.Minute

// node is what a broker in a process of its own is told.
type node struct {
	Dir, Name, Listen, Cluster string
	Peers                      []string
}

func (n node) config() broker.Config {
	c := broker.Config{Dir: n.Dir, Name: n.Name, Listen: n.Listen, Log: quiet()}
	if n.Cluster != "" {
		c.Cluster = &broker.Cluster{Name: "weir", Listen: n.Cluster, Peers: n.Peers}
	}
	return c
}

func TestMain(m *testing.M) {
	if text := os.Getenv(brokerConfig); text != "" {
		var n node
		err := json.Unmarshal([]byte(text), &n)
		var b *broker.Broker
		if err == nil {
			b, err = broker.Start(context.Background(), n.config())
		}
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println(b.URL())
		select {}
	}
	// What the server of NATS leaves behind in this process when it is shut down is its own.
	const theirs = "github.com/nats-io/nats-server/v2/server."
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(theirs+"(*msgBlock).flushLoop"),
		goleak.IgnoreAnyFunction(theirs+"(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"))
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// server is a broker that a rig can end and start.
type server interface {
	start(t testing.TB)
	kill()
	dir() string
	// dial connects to it; an error while it does not run.
	dial() (net.Conn, error)
}

// inProcess is a broker in this process. It can only be stopped, not killed.
type inProcess struct {
	path string
	mu   sync.Mutex
	b    *broker.Broker
}

func (s *inProcess) dir() string { return s.path }

func (s *inProcess) start(t testing.TB) {
	b, err := broker.Start(t.Context(), broker.Config{Dir: s.path, Log: quiet()})
	if err != nil {
		t.Errorf("broker.Start() = %v, want nil", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b = b
}

func (s *inProcess) kill() {
	s.mu.Lock()
	b := s.b
	s.b = nil
	s.mu.Unlock()
	if b != nil {
		b.Close()
	}
}

func (s *inProcess) dial() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.b == nil {
		return nil, errors.New("the broker is away")
	}
	return s.b.InProcessConn()
}

// child is a broker in a process of its own, which is killed by SIGKILL.
type child struct {
	config node
	cmd    *exec.Cmd
}

func (s *child) dir() string { return s.config.Dir }

func (s *child) start(t testing.TB) {
	text, err := json.Marshal(s.config)
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Env = append(os.Environ(), brokerConfig+"="+string(text))
	out, pipeErr := s.cmd.StdoutPipe()
	if err = errors.Join(err, pipeErr); err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		t.Errorf("start of a broker's process = %v, want nil", err)
		return
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "nats://")
	if err != nil || !ok || url != s.config.Listen {
		t.Errorf("a broker's process at %s said %q, %v, want its URL", s.config.Listen, line, err)
	}
}

func (s *child) kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

func (s *child) dial() (net.Conn, error) { return net.Dial("tcp", s.config.Listen) }

// rig is one broker with the processes that use it.
type rig struct {
	t        testing.TB
	settings transporttest.Settings
	server   server

	mu    sync.Mutex
	lines map[transport.Transport]*line
}

func newRig(t testing.TB, s transporttest.Settings, srv server) *rig {
	t.Helper()
	r := &rig{t: t, settings: s, server: srv, lines: map[transport.Transport]*line{}}
	srv.start(t)
	t.Cleanup(srv.kill)
	return r
}

func openInProcess(t testing.TB, s transporttest.Settings) *rig {
	return newRig(t, s, &inProcess{path: filepath.Join(t.TempDir(), "broker")})
}

func openChild(t testing.TB, s transporttest.Settings) *rig {
	plan, err := broker.Plan(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return newRig(t, s, &child{config: node{Dir: plan[0].Dir, Listen: plan[0].Listen}})
}

// line is one process's way to the broker. It can be cut for good.
type line struct {
	server server
	mu     sync.Mutex
	cut    bool
	conns  []net.Conn
}

// InProcessConn dials; nats.go asks for it each time it connects.
func (l *line) InProcessConn() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return nil, errors.New("this process is dead")
	}
	c, err := l.server.dial()
	if err == nil {
		l.conns = append(l.conns, c)
	}
	return c, err
}

func (r *rig) config(l *line) jetstream.Config {
	return jetstream.Config{InProcess: l, Capacity: int64(r.settings.Capacity), Redeliver: r.settings.Redeliver, Timeout: answer, Log: quiet()}
}

func (r *rig) Open(context.Context) (transport.Transport, error) {
	l := &line{server: r.server}
	w, err := jetstream.Open(r.config(l))
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines[w] = l
	return w, nil
}

func (r *rig) Foreign(_ context.Context, boundary string, h transport.Header, body []byte) error {
	nc, err := nats.Connect("", nats.InProcessServer(&line{server: r.server}), nats.Timeout(answer))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := nc.JetStream(nats.MaxWait(answer))
	if err == nil {
		_, err = js.PublishMsg(&nats.Msg{Subject: "weir." + boundary + ".in.till", Header: nats.Header(h), Data: body})
	}
	return err
}

func (r *rig) Kill()  { r.server.kill() }
func (r *rig) Start() { r.server.start(r.t) }

func (r *rig) Wipe() {
	if err := os.RemoveAll(r.server.dir()); err != nil {
		r.t.Errorf("wipe of the broker's directory = %v, want nil", err)
	}
}

func (r *rig) Crash(w transport.Transport) {
	r.mu.Lock()
	l := r.lines[w]
	r.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for _, c := range l.conns {
		_ = c.Close()
	}
}
