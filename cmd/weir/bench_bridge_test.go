package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
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

// A directory is removed although somebody still makes files in it for a while.
func TestRemoveAll(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "broker")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	began, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := range 20_000 {
			if os.WriteFile(filepath.Join(dir, strconv.Itoa(i%100)), nil, 0o600) != nil {
				return // it is gone
			}
			if i == 1_000 {
				close(began)
			}
		}
	}()
	<-began
	if err := removeAll(dir); err != nil {
		t.Errorf("removeAll() = %v, want nil", err)
	}
	<-ended
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is there: %v", err)
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
