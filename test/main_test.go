package test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/pprof"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// What a parent tells its child.
const (
	envRole  = "WEIR_TEST_ROLE"  // what to be; see roles
	envFile  = "WEIR_TEST_FILE"  // the store
	envLife  = "WEIR_TEST_LIFE"  // its number among the processes that worked the file, from 1
	envSeed  = "WEIR_TEST_SEED"  // of what is left to chance
	envFuse  = "WEIR_TEST_FUSE"  // where to die: "before 7" or "after 7"
	envMost  = "WEIR_TEST_MOST"  // how large a file may become, in bytes
	envDoubt = "WEIR_TEST_DOUBT" // whether an error of a send leaves open if it was sent
)

// long reports whether the long forms were asked for; CONTRIBUTING tells when.
func long() bool { return os.Getenv("WEIR_TEST_LONG") != "" }

// TestMain is also a child's main function.
func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		os.Exit(live(role))
	}
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(atOnce)); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// atOnce is how many tests run at once: most of the time all wait, for a disk or for a slow message.
const atOnce = 6

// roles are what a child can be.
func roles() map[string]func(*shop, context.Context) error {
	return map[string]func(*shop, context.Context) error{
		"script":       (*shop).script,
		"load":         (*shop).load,
		"drain":        (*shop).drain,
		"work":         (*shop).workOff,
		"pruned load":  pruned((*shop).load),
		"pruned drain": pruned((*shop).drain),
		"calm":         (*shop).calmLoad,
		"fill":         (*shop).fill,
	}
}

// live is a child's life: 0 when it came to its own end.
func live(role string) int {
	go func() { // a child does not outlive its parent
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(exitOrphan)
	}()
	time.AfterFunc(patience, func() { // nor does it hang without a word
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
		os.Exit(exitHangs)
	})
	ctx, stop := stopSignal()
	defer stop()
	s, err := open(ctx, premises{
		file: os.Getenv(envFile), life: number(envLife), log: os.Stderr,
		fuse: os.Getenv(envFuse), doubt: os.Getenv(envDoubt) != "",
	})
	if err == nil {
		err = errors.Join(roles()[role](s, ctx), s.close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		return exitFailed
	}
	return 0
}

const (
	exitFailed = 3
	exitOrphan = 4
	exitHangs  = 5
)

// number is a number that the parent gave, 0 if none.
func number(env string) int {
	n, _ := strconv.Atoi(os.Getenv(env))
	return n
}

// patience is how long a child may take for what takes it a second or ten: a disk
// that others write to can stand still for more than a minute.
const patience = 4 * time.Minute

// child is a process that this test started. It is reaped before the test ends.
type child struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.Closer
	up    chan struct{} // closed when it has said that it is up
	ended chan struct{} // closed when it is reaped

	mu  sync.Mutex
	out bytes.Buffer // what it said
}

// start starts a child with a role on a file; env is more of what it is told.
func start(t testing.TB, role, file string, env ...string) *child {
	t.Helper()
	return startUnder(t, nil, role, file, env...)
}

// startUnder is start with a command that runs the child.
func startUnder(t testing.TB, command []string, role, file string, env ...string) *child {
	t.Helper()
	c := &child{t: t, up: make(chan struct{}), ended: make(chan struct{})}
	command = append(command, os.Args[0])
	c.cmd = exec.Command(command[0], command[1:]...)
	c.cmd.Env = append(os.Environ(), envRole+"="+role, envFile+"="+file)
	c.cmd.Env = append(c.cmd.Env, env...)
	c.cmd.Stdout, c.cmd.Stderr = &upSignal{c: c}, c
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.stdin = stdin
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = c.cmd.Wait() // its state is what counts
		close(c.ended)
	}()
	t.Cleanup(func() {
		c.kill()
		<-c.ended
	})
	return c
}

// Write keeps what the child says on standard error.
func (c *child) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.Len() < 64<<10 {
		c.out.Write(p)
	}
	return len(p), nil
}

func (c *child) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.String()
}

// upSignal is a child's standard output: whatever comes says that it is up.
type upSignal struct {
	c    *child
	once sync.Once
}

func (u *upSignal) Write(p []byte) (int, error) {
	u.once.Do(func() { close(u.c.up) })
	return len(p), nil
}

// kill ends the child as kill -9 does.
func (c *child) kill() { _ = c.cmd.Process.Kill() }

// stop asks the child to stop.
func (c *child) stop() { _ = c.cmd.Process.Signal(syscall.SIGTERM) }

// wait waits for the child's end: 0 when it came to its own, negative when it was killed.
func (c *child) wait() int {
	c.t.Helper()
	timer := time.NewTimer(2 * patience)
	defer timer.Stop()
	select {
	case <-c.ended:
	case <-timer.C:
		c.kill()
		<-c.ended
		c.t.Errorf("child %d did not end and was killed; it said:\n%s", c.cmd.Process.Pid, c.said())
	}
	return c.cmd.ProcessState.ExitCode()
}

// succeed waits for the child and wants it to come to its own end.
func (c *child) succeed() {
	c.t.Helper()
	if code := c.wait(); code != 0 {
		c.t.Fatalf("child ended with %d, want 0; it said:\n%s", code, c.said())
	}
}

// killAfter waits for the child, killing it when so much time has passed since it
// started, or, with up, since it was up.
func (c *child) killAfter(d time.Duration, up bool) {
	c.t.Helper()
	if up {
		select {
		case <-c.up:
		case <-c.ended:
		}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ended:
		c.t.Errorf("the child ended before it was killed; it said:\n%s", c.said())
	}
	c.kill()
	<-c.ended
}

func life(n int) string { return envLife + "=" + strconv.Itoa(n) }
