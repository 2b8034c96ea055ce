package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/examples/fulfilment"
)

// The demo, as real processes of which some are really killed.
func TestDemoFulfilmentSurvivesKills(t *testing.T) {
	t.Parallel()
	weir := builtWeir(t)
	book, files := smallBook(t, 60)
	dir := filepath.Join(t.TempDir(), "kept")
	args := append([]string{"demo", "fulfilment", "--kill", "4", "--restock", "300ms", "--dir", dir, "--json"}, files...)
	cmd := exec.CommandContext(t.Context(), weir, args...)
	var out, progress bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &progress
	if err := cmd.Run(); err != nil {
		t.Fatalf("weir demo fulfilment: %v\n%s%s", err, &progress, &out)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var got demoFulfilmentResult
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
		t.Fatalf("the last line is %q: %v", lines[len(lines)-1], err)
	}
	killed := 0
	for _, n := range got.KillsOf {
		killed += n
	}
	if got.Kills != 4 || killed != 4 || got.Orders != len(book.Orders) || got.Completed+got.Failed+got.Refused != got.Orders ||
		got.ChargedOnce != got.Completed || got.ChargedTwice+got.UnchargedCompleted+got.InvoicesDouble+got.Waiting+got.NeedsPerson != 0 ||
		len(got.Lists) != got.Failed+got.Refused || got.LinesLeftOut == 0 || got.Seconds <= 0 {
		t.Errorf("weir demo fulfilment --kill 4 = %+v, want %d orders completed, failed or refused, each completed one charged once, 4 kills", got, len(book.Orders))
	}
	if n := strings.Count(progress.String(), "; killed "); n != 4 {
		t.Errorf("the progress tells of %d kills, want 4:\n%s", n, &progress)
	}
	show := exec.CommandContext(t.Context(), weir, "--store", filepath.Join(dir, "orders.db"), "run", "show", "order-1")
	if out, err := show.CombinedOutput(); err != nil || !strings.Contains(string(out), "charge-card") {
		t.Errorf("weir run show order-1 on the kept file: %v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), weir, args...).CombinedOutput(); err == nil || !strings.Contains(string(out), "is of another run") {
		t.Errorf("the demo again in the same directory: %v\n%s", err, out)
	}
}

// Without --json there is a summary, and nothing is left behind.
func TestDemoFulfilmentForPeople(t *testing.T) {
	t.Parallel()
	weir := builtWeir(t)
	_, files := smallBook(t, 20)
	temporary := t.TempDir()
	cmd := exec.CommandContext(t.Context(), weir, append([]string{"demo", "fulfilment", "--fail", "0", "--silent", "0", "--slow", "0", "--restock", "300ms"}, files...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+temporary, "TMP="+temporary)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("weir demo fulfilment: %v\n%s", err, out)
	}
	for _, want := range []string{"orders ", " 20 ", "charged twice 0 ", "invoices double 0 ", "Try it with --kill 20"} {
		if !strings.Contains(strings.Join(strings.Fields(string(out)), " "), want) {
			t.Errorf("the summary lacks %q:\n%s", want, out)
		}
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("weir demo fulfilment left %v, %v", left, err)
	}
}

func TestDemoFulfilmentRefuses(t *testing.T) {
	_, files := smallBook(t, 10)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--menu", files[3]}, exitUsage, "--menu goes with --orders"},
		{slices.Concat(files, []string{"--kill", "6"}), exitUsage, "--kill is 6, want 0 to 5"},
		{slices.Concat(files, []string{"--silent", "0.6"}), exitUsage, "--silent is 0.6, want 0 to 0.5"},
		{[]string{"--restock", "1ms"}, exitUsage, "--restock is 1ms, want 100ms to 1m"},
		{[]string{"--orders", files[3]}, exitError, "read menu.csv: its first line does not name the columns"},
		{[]string{"--orders", files[1], "--menu", files[1]}, exitError, "read orders.csv: its first line does not name the columns"},
	} {
		var out, said bytes.Buffer
		code := run(t.Context(), append([]string{"demo", "fulfilment"}, c.args...), streams{strings.NewReader(""), &out, &said})
		if code != c.code || !strings.Contains(said.String(), c.want) {
			t.Errorf("weir demo fulfilment %v = %d, %q, want %d, %q", c.args, code, said.String(), c.code, c.want)
		}
	}
}

// Who is killed and comes back listens where no system sends others meanwhile.
func TestListenAgain(t *testing.T) {
	first, err := listenAgain(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := first.Addr().(*net.TCPAddr)
	if at.Port >= 32_768 { // from here on Linux gives them away
		t.Errorf("it listens on %v, want a port below 32768", at)
	}
	time.AfterFunc(listenPause, func() { _ = first.Close() })
	again, err := listenAgain(t.Context(), at.String())
	if err != nil || again.Addr().String() != at.String() {
		t.Fatalf("listenAgain(%v) = %v, %v", at, again, err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// Each kill comes while there is work to be done, and all come before its end.
func TestKillsComeInTime(t *testing.T) {
	for _, c := range []struct{ orders, kills, killsDB int }{{10, 5, 0}, {300, 5, 5}, {5370, 60, 0}, {7, 0, 0}} {
		d := &stage{orders: c.orders, effort: 2.5, luck: newLuck(1, c.kills)}
		d.kills[ofProcesses].planned, d.kills[ofDatabase].planned = c.kills, c.killsDB
		for d.release(); d.killAt >= 0; d.release() {
			if d.killAt <= d.done || d.killAt > max(1, d.upTo*5/2) || d.upTo > c.orders {
				t.Fatalf("%+v: %d kills left and %d done, the next kill of %d orders is at %d", c, d.killsLeft(), d.done, d.upTo, d.killAt)
			}
			d.done = d.killAt
			for kind := range d.kills {
				if d.kills[kind].left() > 0 {
					d.kills[kind].done++
					break
				}
			}
		}
		if d.upTo != c.orders || d.killsLeft() != 0 || d.killsPlanned() != c.kills+c.killsDB {
			t.Errorf("%+v: in the end %d orders are given out, %d kills left of %d", c, d.upTo, d.killsLeft(), d.killsPlanned())
		}
	}
}

// docs/cli.md names every field of what --json prints.
func TestDemoDocs(t *testing.T) {
	docs, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{demoResult{}, demoFulfilmentResult{}, demoRunResult{}, fulfilment.Listed{}} {
		for f := range reflect.TypeOf(v).Fields() {
			name := f.Tag.Get("json")
			if name != "" && !strings.Contains(string(docs), "`"+name+"`") {
				t.Errorf("docs/cli.md has no `%s`, a field of %T", name, v)
			}
		}
	}
}
