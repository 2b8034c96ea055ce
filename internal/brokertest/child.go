package brokertest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/weir-go/weir/transport/jetstream/broker"
)

const (
	// env, in the environment, makes a test's program a broker. It is a node in JSON.
	env = "WEIR_TEST_BROKER"
	// patience is for what comes to its end by itself, on a machine that has much else to do. It only guards against hanging.
	patience = 4 * time.Minute
	// glance is how long one of a cluster may take to say who leads.
	glance = 2 * time.Second
)

// node is what a broker in a process of its own is told.
type node struct {
	Dir, Name, Listen, Cluster string
	Peers                      []string
}

// Main is for TestMain to call first: in the process of a [Child] it is a broker until it is killed, or its parent is
// gone. Then it says true, and nothing else is to be done.
func Main() bool {
	text := os.Getenv(env)
	if text == "" {
		return false
	}
	if err := live(text); err != nil {
		fmt.Fprintln(os.Stderr, "broker:", err)
		os.Exit(1)
	}
	return true
}

func live(text string) error {
	var n node
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return err
	}
	c := broker.Config{Dir: n.Dir, Name: n.Name, Listen: n.Listen, Log: quiet()}
	if n.Cluster != "" {
		c.Cluster = &broker.Cluster{Name: "weir", Listen: n.Cluster, Peers: n.Peers}
	}
	b, err := broker.Start(context.Background(), c)
	if err != nil {
		return err
	}
	defer b.Close()
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin) // ends with the parent
	return err
}

// Child is a broker in a process of its own, in all its lives. It has one address, which is nobody else's while it is away.
type Child struct {
	t    testing.TB
	node node
	cmd  *exec.Cmd // nil while it is away
	life io.Closer // its end is the process's

	mu   sync.Mutex
	said bytes.Buffer // by all its lives
}

// Begin starts one broker that ends with the test.
func Begin(t testing.TB) *Child {
	t.Helper()
	return begin(t, 1)[0]
}

// Cluster starts a cluster of n brokers that end with the test.
func Cluster(t testing.TB, n int) []*Child {
	t.Helper()
	return begin(t, n)
}

func begin(t testing.TB, n int) []*Child {
	t.Helper()
	plan := reserved(t, n)
	all := make([]*Child, n)
	for i, p := range plan {
		c := &Child{t: t, node: node{Dir: p.Dir, Name: p.Name, Listen: p.Listen}}
		if n > 1 {
			c.node.Cluster, c.node.Peers = p.Cluster.Listen, p.Cluster.Peers
		}
		c.Start()
		t.Cleanup(c.finish)
		all[i] = c
	}
	return all
}

// reserved is a plan with addresses that no other test's process takes for free, also while nobody listens there: each
// holds them of UDP, which a broker has no use for.
func reserved(t testing.TB, n int) []broker.Config {
	t.Helper()
	const tries = 100
	dir := t.TempDir()
	for range tries {
		plan, err := broker.Plan(dir, n)
		if err != nil {
			t.Fatal(err)
		}
		held, err := hold(plan)
		if err == nil {
			t.Cleanup(func() { letGo(held) })
			return plan
		}
		letGo(held)
	}
	t.Fatalf("no addresses for %d brokers in %d tries", n, tries)
	return nil
}

// hold holds as many of a plan's addresses as it can.
func hold(plan []broker.Config) (held []net.PacketConn, err error) {
	for _, p := range plan {
		for _, at := range []string{p.Listen, p.Cluster.Listen} {
			c, err := net.ListenPacket("udp", at)
			if err != nil {
				return held, err
			}
			held = append(held, c)
		}
	}
	return held, nil
}

func letGo(held []net.PacketConn) {
	for _, c := range held {
		_ = c.Close() // nothing was sent
	}
}

// URL is where programs connect to.
func (c *Child) URL() string { return "nats://" + c.node.Listen }

// URLs are those of several.
func URLs(all []*Child) []string {
	urls := make([]string, len(all))
	for i, c := range all {
		urls[i] = c.URL()
	}
	return urls
}

// Write keeps what the process says.
func (c *Child) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.Write(p)
}

func (c *Child) words() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said.String()
}

// Start starts it, and waits until it takes connections.
func (c *Child) Start() {
	c.t.Helper()
	if err := c.start(); err != nil {
		c.t.Errorf("start of a broker's process = %v, want nil; it said:\n%s", err, c.words())
	}
}

func (c *Child) start() error {
	text, err := json.Marshal(c.node)
	if err != nil {
		return err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), env+"="+string(text))
	cmd.Stderr = c
	life, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.cmd, c.life = cmd, life
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		c.Kill()
		return fmt.Errorf("it said %q, not that it is ready: %w", line, err)
	}
	return nil
}

// Kill ends it as kill -9 does. Once more does no harm.
func (c *Child) Kill() {
	if c.cmd != nil {
		_ = c.cmd.Process.Kill() // fails when it has ended
		_ = c.cmd.Wait()         // how it ended is known
		c.cmd = nil
	}
}

// Wipe takes away what is on its disk. It does not run.
func (c *Child) Wipe() { wipe(c.t, c.node.Dir) }

// finish stops it; it must come to its own end.
func (c *Child) finish() {
	if c.cmd == nil {
		return
	}
	_ = c.life.Close() // an error is that it has ended
	timer := time.AfterFunc(patience, func() { _ = c.cmd.Process.Kill() })
	defer timer.Stop()
	if err := c.cmd.Wait(); err != nil {
		c.t.Errorf("a broker's process, told to stop: %v, want exit code 0; it said:\n%s", err, c.words())
	}
}

// InProcessConn connects to it, over its port: so a test can have all connections in its hands, as with a [Server].
func (c *Child) InProcessConn() (net.Conn, error) { return net.Dial("tcp", c.node.Listen) }

// Leader is which of a cluster's brokers leads a stream; nil while there is none. All are asked, and each for a while only: one
// that takes a dead leader for alive says nothing at all.
func Leader(ctx context.Context, all []*Child, stream string) *Child {
	for _, asked := range all {
		name, err := leaderAt(ctx, asked.URL(), stream)
		if err != nil {
			continue
		}
		for _, c := range all {
			if c.node.Name == name {
				return c
			}
		}
	}
	return nil
}

// leaderAt is the name of the stream's leader, as one broker has it.
func leaderAt(ctx context.Context, url, stream string) (string, error) {
	nc, err := nats.Connect(url, nats.Timeout(glance), nats.NoReconnect())
	if err != nil {
		return "", err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, glance)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return "", err
	}
	if s.CachedInfo().Cluster == nil {
		return "", errors.New("it is not in a cluster")
	}
	return s.CachedInfo().Cluster.Leader, nil
}
