package bridge

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-go/weir/internal/brokertest"
)

const (
	envKitchen = "WEIR_TEST_BRIDGE_KITCHEN" // makes this program a kitchen; its outfit in JSON
	envLong    = "WEIR_TEST_BRIDGE"
	// patience is for what must come; the machine may be busy.
	patience = 3 * time.Minute
)

// outfit is what a boundary's engine works with.
type outfit struct {
	File    string
	Servers []string
}

// TestMain is also a child's main function.
func TestMain(m *testing.M) {
	if brokertest.Main() {
		return
	}
	if text := os.Getenv(envKitchen); text != "" {
		if err := live(text); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		return
	}
	brokertest.Verify(m)
}

// live is a child's life: until it is told to stop, or its parent is gone.
func live(text string) error {
	var o outfit
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return o.cook(ctx)
}

// child is a kitchen in a process of its own, in all its lives.
type child struct {
	t      testing.TB
	outfit outfit
	cmd    *exec.Cmd
	life   io.WriteCloser
	ended  chan struct{}

	mu   sync.Mutex
	said []string
}

// start starts it and waits until it is ready.
func (c *child) start() {
	c.t.Helper()
	if err := c.tryStart(); err != nil {
		c.t.Fatalf("start of a child = %v, want nil; it said:\n%s", err, c.words())
	}
}

func (c *child) tryStart() error {
	text, err := json.Marshal(c.outfit)
	if err != nil {
		return err
	}
	c.cmd, c.ended = exec.Command(os.Args[0]), make(chan struct{})
	c.cmd.Env = append(os.Environ(), envKitchen+"="+string(text))
	life, err := c.cmd.StdinPipe()
	if err != nil {
		return err
	}
	c.life = life
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	c.cmd.Stderr = c
	if err := c.cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	go func() {
		_ = c.cmd.Wait() // its state is what counts
		close(c.ended)
	}()
	if err != nil || line != "ready\n" {
		c.kill()
		return fmt.Errorf("it said %q: %w", line, err)
	}
	return nil
}

// Write keeps what the child says.
func (c *child) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.said = append(c.said, string(p)); len(c.said) > 200 {
		c.said = c.said[100:]
	}
	return len(p), nil
}

func (c *child) words() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.said, "")
}

// kill ends it as kill -9 does.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.ended
}

// finish stops it; it must come to its own end.
func (c *child) finish() {
	_ = c.life.Close()
	timer := time.AfterFunc(patience, func() { _ = c.cmd.Process.Kill() })
	defer timer.Stop()
	<-c.ended
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		c.t.Errorf("a child ended with %d, want 0; it said:\n%s", code, c.words())
	}
}

// newChild starts a child that ends with the test.
func newChild(t testing.TB, o outfit) *child {
	t.Helper()
	c := &child{t: t, outfit: o}
	c.start()
	t.Cleanup(c.finish)
	return c
}

// disturbance is how long each lasts, and whether that is the long form. Short ones run side by side: mostly they wait.
func disturbance(t *testing.T) (d time.Duration, long bool) {
	t.Helper()
	text := os.Getenv(envLong)
	if text == "" {
		t.Parallel()
		return 2 * time.Second, false
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second || d > time.Hour {
		t.Fatal(errors.Join(fmt.Errorf("%s is %q, want 1s to 1h", envLong, text), err))
	}
	return d, true
}
