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

// All phases, each in its process, with small counts: every figure is told.
func TestBenchWorkflow(t *testing.T) {
	weir := builtWeir(t)
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), weir, "bench", "workflow", "--smoke", "--json", "--dir", dir)
	var out, progress bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &progress
	if err := cmd.Run(); err != nil {
		t.Fatalf("weir bench workflow: %v\n%s%s", err, &progress, &out)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var got workflowResult
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
		t.Fatalf("the last line is %q: %v", lines[len(lines)-1], err)
	}
	for f, v := range reflect.ValueOf(got).Fields() {
		// Only Linux tells how much memory a process has.
		if v.IsZero() && !strings.Contains(f.Tag.Get("json"), "rss") {
			t.Errorf("weir bench workflow --smoke has no %s:\n%s", f.Tag.Get("json"), &out)
		}
	}
	if len(got.Sleep) != 2 || got.Sleep[1].Runs != got.Sleeping || got.Sleeping != 600 || got.Sleep[0].Runs != 300 {
		t.Errorf("weir bench workflow --smoke = %d asleep of %+v, want the figures of 600 and of 300 beside them", got.Sleeping, got.Sleep)
	}
	if n := strings.Count(progress.String(), "raw: "); n != 2 {
		t.Errorf("the raw limit was taken %d times, want before and after:\n%s", n, &progress)
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
