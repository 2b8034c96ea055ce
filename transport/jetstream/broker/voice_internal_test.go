package broker

import (
	"context"
	"errors"
	"log/slog"
	"testing"
)

// A broker that could not write says that it does not work; other errors pass.
func TestWriteError(t *testing.T) {
	b, err := Start(context.Background(), Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.voice.Errorf("JetStream connection to %s failed", "elsewhere")
	if !b.Works() {
		t.Error("Works() after an error that passes = false, want true")
	}
	// As nats-server 2.15 says it on a full disk.
	b.voice.Errorf("JetStream stream '%s > %s' critical write error: %v", "$G", "weir-kitchen", errors.New("no space left on device"))
	if b.Works() {
		t.Error("Works() after a write has failed = true, want false")
	}
}
