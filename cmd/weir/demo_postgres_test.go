package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/weir-go/weir/store/postgres/pgtest"
)

// onOwnServer runs a demo with --store postgres, and reads its summary.
func onOwnServer(t *testing.T, into any, args ...string) (progress string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), builtWeir(t), append([]string{"demo"}, args...)...)
	cmd.Args = append(cmd.Args, "--store", "postgres", "--json")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		if strings.Contains(said.String(), pgtest.ErrNoBinaries.Error()) && os.Getenv("CI") != "true" {
			t.Skip(pgtest.ErrNoBinaries)
		}
		t.Fatalf("weir demo: %v\n%s%s", err, &said, &out)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), into); err != nil {
		t.Fatalf("the last line is %q: %v", lines[len(lines)-1], err)
	}
	return said.String()
}

// Several workers on one server: some of them are killed, and the server is, too.
func TestDemoSurvivesTheDatabase(t *testing.T) {
	t.Parallel()
	book, files := smallBook(t, 120)
	var got demoResult
	progress := onOwnServer(t, &got, append(files, "--workers", "3", "--kill", "2", "--kill-db", "1")...)
	if got.Lost != 0 || got.ServedTwice != 0 || got.CookedTwice != 0 || got.Orders != 120 || got.Lines != book.Lines ||
		got.Served != book.Lines-got.LinesBad || got.Dead != got.LinesBad {
		t.Errorf("weir demo = %+v, want 120 orders, %d lines, the good ones served, the bad ones dead, nothing lost or twice", got, book.Lines)
	}
	if got.Store != "postgres" || got.Workers != 3 || got.Kills != 2 || got.KillsDB != 1 {
		t.Errorf("weir demo = %+v, want 3 workers on postgres, 2 of them killed, and the server once", got)
	}
	if n := strings.Count(progress, "; killed worker "); n != 2 || strings.Count(progress, "; killed PostgreSQL\n") != 1 {
		t.Errorf("the progress does not tell of 2 killed workers and the server:\n%s", progress)
	}
}

func TestDemoFulfilmentSurvivesTheDatabase(t *testing.T) {
	t.Parallel()
	_, files := smallBook(t, 60)
	var got demoFulfilmentResult
	onOwnServer(t, &got, append([]string{"fulfilment", "--workers", "3", "--kill", "3", "--kill-db", "1", "--restock", "300ms"}, files...)...)
	if got.Orders != 60 || got.Completed+got.Failed+got.Refused != got.Orders || got.ChargedOnce != got.Completed ||
		got.ChargedTwice+got.UnchargedCompleted+got.InvoicesDouble+got.Waiting+got.NeedsPerson+got.Unaccounted != 0 ||
		got.Store != "postgres" || got.Workers != 3 || got.Kills != 3 || got.KillsDB != 1 {
		t.Errorf("weir demo fulfilment = %+v, want 60 orders completed, failed or refused by 3 workers on postgres, each completed one charged once", got)
	}
}

// In somebody's database the demo has a schema of its own, and keeps it: neither a second
// demo nor whatever else is there is touched.
func TestDemoInADatabase(t *testing.T) {
	t.Parallel()
	at := server(t)
	weir := builtWeir(t)
	_, files := smallBook(t, 20)
	args := slices.Concat([]string{"demo", "--store", at, "--workers", "2"}, files)
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), weir, args...)
		cmd.Env = append(os.Environ(), "WEIR_STORE=postgres://nobody@nowhere/") // does not count
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(args...); err != nil || !strings.Contains(out, "The schema weir_demo_restaurant is kept") {
		t.Fatalf("weir demo in a database: %v\n%s", err, out)
	}
	look := exec.CommandContext(t.Context(), weir, "--store", at, "--schema", "weir_demo_restaurant", "trace", "order-1")
	if out, err := look.CombinedOutput(); err != nil || !strings.Contains(string(out), "kitchen.prepare-food") {
		t.Errorf("weir trace order-1 in the kept schema: %v\n%s", err, out)
	}
	if out, err := run(append(args, "--schema", "another")...); err != nil || !strings.Contains(out, "--schema another status") {
		t.Errorf("weir demo in another schema: %v\n%s", err, out)
	}
	if out, err := run(args...); err == nil || !strings.Contains(out, "drop schema weir_demo_restaurant cascade") {
		t.Errorf("weir demo in the same database: %v, want a refusal that says what to do\n%s", err, out)
	}
	if out, err := run("demo", "fulfilment", "--store", at, "--kill-db", "1"); err == nil || !strings.Contains(out, "--kill-db is for --store postgres") {
		t.Errorf("weir demo --kill-db in somebody's database: %v, want a refusal\n%s", err, out)
	}
	if out, err := run(slices.Concat([]string{"demo"}, files)...); err != nil {
		t.Errorf("weir demo with $WEIR_STORE: %v\n%s", err, out)
	}
}

// Whoever interrupts the demo on a server of its own gets back a machine without it.
func TestDemoInterruptedOnServer(t *testing.T) {
	t.Parallel()
	server(t) // or skipped
	_, files := smallBook(t, 3000)
	dir, err := os.MkdirTemp("", "wd") // short, as a socket's path is at most some 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil { // root's server runs as another
		t.Fatal(err)
	}
	interruptDemo(t, builtWeir(t), dir, append([]string{"demo", "--store", "postgres", "--workers", "3"}, files...))
}
