package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// benchmark runs weir bench in a process of its own, which must tell every figure of got, a
// pointer to its result; progress is what it said meanwhile.
func benchmark(t *testing.T, got any, args ...string) (progress string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), builtWeir(t), append([]string{"bench", "--json"}, args...)...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("weir bench %v: %v\n%s%s", args, err, &said, &out)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), got); err != nil {
		t.Fatalf("weir bench %v: the last line is %q: %v", args, lines[len(lines)-1], err)
	}
	for f, v := range reflect.ValueOf(got).Elem().Fields() {
		// Only Linux tells how much memory a process has.
		if v.IsZero() && !strings.Contains(f.Tag.Get("json"), "rss") {
			t.Errorf("weir bench %v has no %s:\n%s", args, f.Tag.Get("json"), &out)
		}
	}
	return said.String()
}

// All phases, each in its process, with small counts: every figure is told.
func TestBenchWorkflow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var got workflowResult
	progress := benchmark(t, &got, "workflow", "--smoke", "--dir", dir)
	if len(got.Sleep) != 2 || got.Sleep[1].Runs != got.Sleeping || got.Sleeping != 600 || got.Sleep[0].Runs != 300 {
		t.Errorf("weir bench workflow --smoke = %d asleep of %+v, want the figures of 600 and of 300 beside them", got.Sleeping, got.Sleep)
	}
	if n := strings.Count(progress, "raw: "); n != 2 {
		t.Errorf("the raw limit was taken %d times, want before and after:\n%s", n, progress)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
}

func TestBenchWorkflowUsage(t *testing.T) {
	for _, c := range []struct{ args, complaint string }{
		{"--runs 5", "want 100 to"},
		{"--steps 10001", "want 10 to 10000"},
		{"--sleeping 2000,1000", "ascending"},
		{"--sleeping 10", "want 100 to"},
		{"--latency 0", "want 0.1 to 600"},
		{"--only walk", "want some of raw, runs"},
	} {
		cmdline(t, exitUsage, "", append([]string{"bench", "workflow"}, strings.Fields(c.args)...)...).complains(c.complaint)
	}
}

func TestBenchQueueUsage(t *testing.T) {
	for _, c := range []struct{ args, complaint string }{
		{"--messages 5", "want 10000 to"},
		{"--latency 0", "want 0.1 to 600"},
		{"--only walk", "want some of raw, send_batch"},
	} {
		cmdline(t, exitUsage, "", append([]string{"bench", "queue"}, strings.Fields(c.args)...)...).complains(c.complaint)
	}
}
