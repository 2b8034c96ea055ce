package test

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// On a store that cannot grow, sends are refused with the database's error, Run
// stops with it, and nothing is damaged or lost. With room again all goes on.
func TestStoreFull(t *testing.T) {
	t.Parallel()
	t.Run("disk", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=3m"); err != nil {
			t.Skipf("mounting a file system needs root: %v", err)
		}
		t.Cleanup(func() {
			// Detached: a process that another test forks just now may hold a file of it.
			if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
				t.Errorf("Unmount = %v, want nil", err)
			}
		})
		file := filepath.Join(dir, "weir.db")
		runFull(t, file)
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
			t.Fatal(err)
		}
		goOn(t, file)
	})
	t.Run("limit of a file's size", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "weir.db")
		runFull(t, file, fmt.Sprintf("%s=%d", envMost, 1<<20))
		goOn(t, file)
	})
}

// runFull has a child send until the store takes no more, and wants it to fail in order.
func runFull(t *testing.T, file string, env ...string) {
	t.Helper()
	r := openTables(t, file)
	c := start(t, "fill", file, append(env, life(1))...)
	if code := c.wait(); code != exitFailed {
		t.Fatalf("the child ended with %d, want %d; it said:\n%s", code, exitFailed, c.said())
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	lines, err := reportOf(file).lines()
	if err != nil {
		t.Fatal(err)
	}
	verbs := map[string]int{}
	stopped := ""
	for _, l := range lines {
		verbs[l.verb]++
		if l.verb == "stopped" {
			stopped = l.of + " " + strings.Join(l.tags, ",")
		}
	}
	t.Logf("%v; Run stopped: %s", verbs, stopped)
	if verbs["refuse"] == 0 || verbs["ack"] == 0 {
		t.Errorf("%d sends were refused, %d acknowledged, want some of each", verbs["refuse"], verbs["ack"])
	}
	if stopped == "" {
		t.Errorf("Run has not stopped; the child said:\n%s", c.said())
	}
}

// goOn works off what is left, in a file that may grow again.
func goOn(t *testing.T, file string) {
	t.Helper()
	start(t, "drain", file, life(2)).succeed()
	b := audit(t, file)
	if len(b.dead) != 0 || len(b.effects) == 0 {
		t.Errorf("%d are dead, %d done, want 0 and some", len(b.dead), len(b.effects))
	}
}

// limitFiles keeps the files of this process from growing beyond what the parent allows.
func limitFiles() error {
	most, err := strconv.ParseUint(os.Getenv(envMost), 10, 64)
	if err != nil {
		return nil // no limit
	}
	signal.Ignore(syscall.SIGXFSZ) // so that writes fail instead
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: most, Max: most})
}
