package sqlite

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// asChild is the environment variable that makes the test binary a process that
// works the file named in it until it is killed.
const asChild = "WEIR_TEST_SQLITE_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(asChild); path != "" {
		child(path)
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(atOnce)); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// atOnce is how many tests run at once: on a slow disk all wait for it, most of the time, and it serves several at once.
const atOnce = 6

func child(path string) {
	ctx := context.Background()
	s, err := open(ctx, path, nil)
	if err == nil {
		err = s.Begin(ctx, &store.Process{PID: os.Getpid(), Host: "there"})
	}
	if err == nil {
		_, err = s.Claim(ctx, store.ClaimRequest{Queue: 1, Max: 10})
	}
	if err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Stdout.WriteString("begun\n")
	select {}
}

func TestSecondEngineIsRefused(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	first := newStore(t, Clock(func() time.Time { return now }))
	begin(t, first)
	second := openFile(t, first.path)
	for _, s := range []*Store{first, second} {
		err := s.Begin(context.Background(), &store.Process{PID: 2})
		held, ok := errors.AsType[*store.HeldError](err)
		if !ok || held.PID != 1 || held.Host != "test" || !held.Since.Equal(now) || held.Store != first.path {
			t.Errorf("second Begin = %v, want a HeldError of process 1", err)
		}
	}
	if err := first.End(context.Background()); err != nil {
		t.Fatal(err)
	}
	begin(t, second)
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	begin(t, first) // Close gives the lock up like the end of a process
}

func TestLockEndsWithItsProcess(t *testing.T) {
	s := newStore(t)
	q := declare(t, s, cook)[0]
	send(t, s, message(cook.Topic, "", "1"), message(cook.Topic, "", "2"))

	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asChild+"="+s.path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "begun\n" {
		t.Fatalf("child: %q, %v", line, err)
	}
	err = s.Begin(context.Background(), &store.Process{})
	if held, ok := errors.AsType[*store.HeldError](err); !ok || held.PID != cmd.Process.Pid || held.Host != "there" {
		t.Errorf("Begin beside a working process = %v, want a HeldError of %d", err, cmd.Process.Pid)
	}
	send(t, s, message(cook.Topic, "", "3")) // sending needs no Begin

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // says that it was killed
	begin(t, s)
	b := claimBatch(t, s, q.ID, 10)
	if !b.Suspect || len(b.Deliveries) != 2 || b.Epoch != 2 {
		t.Errorf("Claim after a kill = suspect %t, %v, epoch %d, want the two it had, as suspects", b.Suspect, keysOf(b), b.Epoch)
	}
}

func TestLockFileIsNoLink(t *testing.T) {
	s := newStore(t)
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("dear data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, s.path+".lock"); err != nil {
		t.Fatal(err)
	}
	if err := s.Begin(context.Background(), &store.Process{}); err == nil {
		t.Error("Begin with a linked lock file = nil, want an error")
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "dear data" {
		t.Errorf("the file linked to holds %q, %v", b, err)
	}
}

// Whoever deletes the lock file lets a second engine in; the older one is fenced.
func TestLockFileDeleted(t *testing.T) {
	first := beginStore(t)
	q := declare(t, first, cook)[0]
	send(t, first, message(cook.Topic, "", "1"))
	b := claimBatch(t, first, q.ID, 10)
	if err := os.Remove(first.path + ".lock"); err != nil {
		t.Fatal(err)
	}
	second := openFile(t, first.path)
	begin(t, second)
	ctx := context.Background()
	ch := &store.Change{Settle: []store.Settlement{settlement(b, 0, store.Done)}}
	if err := first.Commit(ctx, &store.Group{Changes: []*store.Change{ch}}); !errors.Is(err, store.ErrLeaseLost) || !errors.Is(ch.Err, store.ErrLeaseLost) {
		t.Errorf("Commit of the older engine = %v, Err %v, want ErrLeaseLost", err, ch.Err)
	}
	if _, err := first.Claim(ctx, store.ClaimRequest{Queue: q.ID, Max: 1}); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("Claim of the older engine = %v, want ErrLeaseLost", err)
	}
	if got := claimBatch(t, second, q.ID, 10); !got.Suspect || got.Epoch != 2 {
		t.Errorf("Claim of the newer engine = %+v, want the abandoned batch", got)
	}
}
