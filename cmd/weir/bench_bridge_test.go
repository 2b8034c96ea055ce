package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// All phases with small counts: every figure is told, and nothing is left.
func TestBenchBridge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var got bridgeResult
	progress := benchmark(t, &got, "bridge", "--smoke", "--dir", dir)
	if n := strings.Count(progress, "in flight"); n != 2 {
		t.Errorf("nats.go alone was measured %d times, want before and after:\n%s", n, progress)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
}

func TestBenchBridgeUsage(t *testing.T) {
	for _, c := range []struct{ args, complaint string }{
		{"--messages 5", "want 1000 to"},
		{"--entities 5", "want 100 to"},
		{"--batches 0", "want 1 to 64"},
		{"--latency 0", "want 0.1 to 600"},
		{"--only walk", "want some of bare, bridge"},
	} {
		cmdline(t, exitUsage, "", append([]string{"bench", "bridge"}, strings.Fields(c.args)...)...).complains(c.complaint)
	}
}
