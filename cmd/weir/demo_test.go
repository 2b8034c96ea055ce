package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/weir-go/weir/examples/restaurant"
)

// envWeir makes a process of this test's program weir itself.
const envWeir = "WEIR_TEST_IS_WEIR"

func TestMain(m *testing.M) {
	if os.Getenv(envWeir) != "" {
		main()
		return
	}
	if err := os.Setenv(envWeir, "1"); err != nil { // for all whom the tests start, and whom those start
		panic(err)
	}
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(atOnce)); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// atOnce is how many tests run at once: those that start processes wait most of the time.
const atOnce = 4

// builtWeir is weir as a program to be started: this test's program.
func builtWeir(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// smallBook is a made-up order book with its menu, as files.
func smallBook(t *testing.T, orders int) (book restaurant.Book, files []string) {
	t.Helper()
	dir := t.TempDir()
	text := restaurant.GenerateBook(5, orders)
	files = []string{"--orders", filepath.Join(dir, "orders.csv"), "--menu", filepath.Join(dir, "menu.csv")}
	for i, text := range [][]byte{text, restaurant.GenerateMenu()} {
		if err := os.WriteFile(files[2*i+1], text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	book, err := restaurant.ReadBook(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return book, files
}

// The demo, as real processes that are really killed.
func TestDemoSurvivesKills(t *testing.T) {
	t.Parallel()
	weir := builtWeir(t)
	book, files := smallBook(t, 200)
	dir := filepath.Join(t.TempDir(), "kept")
	cmd := exec.CommandContext(t.Context(), weir, append([]string{"demo", "--kill", "3", "--dir", dir, "--json"}, files...)...)
	var out, progress bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &progress
	if err := cmd.Run(); err != nil {
		t.Fatalf("weir demo: %v\n%s%s", err, &progress, &out)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var got demoResult
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
		t.Fatalf("the last line is %q: %v", lines[len(lines)-1], err)
	}
	if got.Kills != 3 || got.Lost != 0 || got.ServedTwice != 0 || got.CookedTwice != 0 ||
		got.Orders != 200 || got.Lines != book.Lines || got.Served != book.Lines-got.LinesBad || got.LinesBad == 0 ||
		got.Dead != got.LinesBad || got.Seconds <= 0 {
		t.Errorf("weir demo --kill 3 = %+v, want 200 orders, %d lines, the good ones served, the bad ones dead, 3 kills, nothing lost or twice", got, book.Lines)
	}
	if n := strings.Count(progress.String(), "; killed engine\n"); n != 3 {
		t.Errorf("the progress tells of %d kills, want 3:\n%s", n, &progress)
	}
	status := exec.CommandContext(t.Context(), weir, "--store", filepath.Join(dir, "restaurant.db"), "trace", "order-1")
	if out, err := status.CombinedOutput(); err != nil || !strings.Contains(string(out), "kitchen.prepare-food") {
		t.Errorf("weir trace order-1 on the kept file: %v\n%s", err, out)
	}
}

// Wait staff, kitchen and broker as real processes, each of which is really killed, and the broker loses its data.
func TestDemoProcesses(t *testing.T) {
	t.Parallel()
	weir := builtWeir(t)
	book, files := smallBook(t, 200)
	dir := filepath.Join(t.TempDir(), "kept")
	cmd := exec.CommandContext(t.Context(), weir, append([]string{"demo", "--processes", "--kill", "4", "--kill-broker", "2", "--wipe-broker", "--dir", dir, "--json"}, files...)...)
	var out, progress bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &progress
	if err := cmd.Run(); err != nil {
		t.Fatalf("weir demo --processes: %v\n%s%s", err, &progress, &out)
	}
	var got demoResult
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("the output is %q: %v", &out, err)
	}
	if got.Kills != 4 || got.KillsBroker != 2 || got.WipesBroker != 1 || got.Brokers != 1 || got.Workers != 2 ||
		got.Lost != 0 || got.ServedTwice != 0 || got.CookedTwice != 0 || got.Orders != 200 || got.Lines != book.Lines ||
		got.Served != book.Lines-got.LinesBad || got.LinesBad == 0 || got.Dead != got.LinesBad {
		t.Errorf("weir demo --processes = %+v, want 200 orders, %d lines, the good ones served, the bad ones dead, 4 kills, 2 of the broker, which was wiped once", got, book.Lines)
	}
	for file, queue := range map[string]string{staffFile: "wait-staff.serve-food", kitchenFile: "kitchen.food-ready@wait-staff"} {
		look := exec.CommandContext(t.Context(), weir, "--store", filepath.Join(dir, file), "queue", "ls")
		if out, err := look.CombinedOutput(); err != nil || !strings.Contains(string(out), queue) {
			t.Errorf("weir queue ls on the kept %s: %v, want %s\n%s", file, err, queue, out)
		}
	}
}

// Whoever interrupts the demo gets back an empty machine: no process, no files.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	weir := builtWeir(t)
	_, files := smallBook(t, 3000)
	for _, demo := range []string{"restaurant", "restaurant --processes", "fulfilment"} {
		t.Run(demo, func(t *testing.T) {
			interruptDemo(t, weir, t.TempDir(), slices.Concat([]string{"demo"}, strings.Fields(demo), files))
		})
	}
}

// interruptDemo interrupts a demo once it has begun. The directory for its temporary files is
// empty, and must be afterwards.
func interruptDemo(t *testing.T, weir, temporary string, args []string) {
	t.Helper()
	cmd := exec.Command(weir, args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+temporary, "TMP="+temporary)
	out := &awaited{text: "orders ", seen: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-out.seen:
	case err := <-ended:
		t.Fatalf("weir demo ended before it was interrupted: %v\n%s", err, out)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Skipf("a process cannot be interrupted here: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case err := <-ended: // Wait returns when all who hold the output have ended, the child too
		if cmd.ProcessState.ExitCode() != exitError || !strings.HasSuffix(out.String(), "weir: interrupted\n") {
			t.Errorf("weir demo, interrupted: %v, want exit code %d\n%s", err, exitError, out)
		}
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		t.Fatalf("weir demo still runs long after it was interrupted\n%s", out)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("weir demo, interrupted, left %v, %v", left, err)
	}
}

func TestDemoRefuses(t *testing.T) {
	_, files := smallBook(t, 10)
	used := t.TempDir()
	if err := os.WriteFile(filepath.Join(used, "restaurant.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--orders", "orders.csv"}, exitUsage, "--orders and --menu go together"},
		{slices.Concat(files, []string{"--kill", "6"}), exitUsage, "--kill is 6, want 0 to 5"},
		{slices.Concat(files, []string{"--kill=-1"}), exitUsage, "--kill is -1, want 0 to 5"},
		{[]string{"--orders", files[3], "--menu", files[3]}, exitError, "read menu.csv: its first line does not name the columns"},
		{[]string{"--orders", files[1], "--menu", files[1]}, exitError, "read orders.csv: its first line does not name the columns"},
		{[]string{"--dir", used}, exitError, "is of another run"},
		{[]string{"--workers", "4"}, exitUsage, "one process works a file of SQLite, with all its cores: use --store postgres"},
		{[]string{"--workers", "17", "--store", "postgres"}, exitUsage, "--workers is 17, want 1 to 16"},
		{[]string{"--kill-db", "1"}, exitUsage, "--kill-db is for --store postgres"},
		{[]string{"--kill-db", "1", "--store", "postgres://me@nowhere/db"}, exitUsage, "--kill-db is for --store postgres"},
		{[]string{"--kill-broker", "1"}, exitUsage, "--kill-broker, --wipe-broker and --cluster go with --processes"},
		{[]string{"--processes", "--kill-broker=-1"}, exitUsage, "--kill-broker is -1, want 0 or more"},
		{slices.Concat(files, []string{"--processes", "--kill", "2", "--kill-broker", "3", "--wipe-broker"}), exitUsage, "4 kills of brokers are too many, want 0 to 3"},
		{[]string{"--store", "weir.db"}, exitUsage, "a demo makes its own file"},
	} {
		var out, said bytes.Buffer
		code := run(t.Context(), append([]string{"demo"}, c.args...), streams{strings.NewReader(""), &out, &said})
		if code != c.code || !strings.Contains(said.String(), c.want) {
			t.Errorf("weir demo %v = %d, %q, want %d, %q", c.args, code, said.String(), c.code, c.want)
		}
	}
}

// awaited is an output that tells when a text has been written.
type awaited struct {
	text string
	seen chan struct{}

	mu   sync.Mutex
	all  bytes.Buffer
	told bool
}

func (a *awaited) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all.Write(b)
	if !a.told && strings.Contains(a.all.String(), a.text) {
		a.told = true
		close(a.seen)
	}
	return len(b), nil
}

func (a *awaited) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all.String()
}
