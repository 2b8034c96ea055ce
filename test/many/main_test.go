package many

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres"
	"github.com/weir-go/weir/store/postgres/pgtest"
	"github.com/weir-go/weir/store/sqlite"
)

const (
	envDSN    = "WEIR_TEST_POSTGRES"
	envSchema = "WEIR_TEST_SCHEMA" // what a child works
	envStops  = "WEIR_TEST_STOPS"
)

// TestMain is also a child's main function.
func TestMain(m *testing.M) {
	if os.Getenv(envSchema) != "" {
		os.Exit(live())
	}
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(atOnce)); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// atOnce is how many tests run at once: most of the time all wait, for leases and for work that takes its time.
const atOnce = 4

// live is a child's life: it works until it is told to stop, or its parent is gone.
func live() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if err := work(ctx, os.Getenv(envDSN), os.Getenv(envSchema)); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

// dsnOf is a server to test on: the one that is named, or one of our own.
func dsnOf(t *testing.T) string {
	t.Helper()
	if dsn := os.Getenv(envDSN); dsn != "" {
		return dsn
	}
	return pgtest.ForTest(t).DSN("postgres")
}

// poolOf opens the database, and makes a schema with a name of its own.
func poolOf(t *testing.T, dsn string) (db *pgxpool.Pool, schema string) {
	t.Helper()
	db, err := pgxpool.New(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	schema = fmt.Sprintf("many%d_%d", os.Getpid(), time.Now().UnixNano()%1e6)
	if _, err := db.Exec(t.Context(), "create schema "+schema); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := db.Exec(context.Background(), "drop schema "+schema+" cascade"); err != nil {
			t.Error(err)
		}
		db.Close()
	})
	return db, schema
}

// child is a process that this test started. It is reaped before the test ends.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	ended chan struct{}

	mu    sync.Mutex
	lines []string
}

func start(t *testing.T, dsn, schema string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0]), ended: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), envDSN+"="+dsn, envSchema+"="+schema)
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.ended)
		c.listen(said)
		_ = c.cmd.Wait() // its state is what counts
	}()
	t.Cleanup(func() {
		c.signal(syscall.SIGCONT)
		_ = stdin.Close() // it stops
		timer := time.AfterFunc(time.Minute, func() { _ = c.cmd.Process.Kill() })
		defer timer.Stop()
		<-c.ended
		if code := c.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("child ended with %d, want 0; it said:\n%s", code, strings.Join(c.lines, "\n"))
		}
	})
	return c
}

// listen keeps what the child says.
func (c *child) listen(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		c.mu.Lock()
		if len(c.lines) < 10_000 {
			c.lines = append(c.lines, lines.Text())
		}
		c.mu.Unlock()
	}
}

// said counts the lines of the child that hold a text.
func (c *child) said(text string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range c.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// patience guards against hanging, and against nothing else.
const patience = 5 * time.Minute

// runs waits until the child has begun to work for the n-th time: one that still opens its store may end when the
// server goes, as a program that its supervisor starts again.
func (c *child) runs(n int) {
	c.t.Helper()
	const begun = "weir runs"
	deadline, tick := time.NewTimer(patience), time.NewTicker(10*time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for c.said(begun) < n {
		select {
		case <-tick.C:
		case <-c.ended:
			c.t.Fatalf("the child ended before it worked for the %d. time", n)
		case <-deadline.C:
			c.t.Fatalf("the child has not begun to work for the %d. time", n)
		}
	}
}

func (c *child) signal(s os.Signal) {
	if err := c.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.t.Error(err)
	}
}

// onEachStore runs a test on a new SQLite file, and in a schema of its own on PostgreSQL.
func onEachStore(t *testing.T, f func(*testing.T, store.Opener)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		f(t, sqlite.File(filepath.Join(t.TempDir(), "weir.db")))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		dsn := dsnOf(t)
		_, schema := poolOf(t, dsn)
		f(t, postgres.DB(dsn, postgres.Schema(schema)))
	})
}
