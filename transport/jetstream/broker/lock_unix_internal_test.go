//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package broker

import (
	"context"
	"log/slog"
	"syscall"
	"testing"
)

// A broker that is closed has given its folder back, though a child that was started meanwhile still has its files open:
// each has, from its fork until it is the program that it is to be.
func TestCloseGivesTheFolderBack(t *testing.T) {
	c := Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
	first, err := Start(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	childs, err := syscall.Dup(int(first.lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(childs) }()
	first.Close()
	second, err := Start(context.Background(), c)
	if err != nil {
		t.Fatalf("Start where a broker was = %v, want nil", err)
	}
	second.Close()
}
