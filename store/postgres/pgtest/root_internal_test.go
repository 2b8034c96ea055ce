//go:build unix

package pgtest

import (
	"os"
	"path/filepath"
	"testing"
)

// A server has its folder where its user gets to, and where the path of its socket is short.
func TestSocketRoot(t *testing.T) {
	private, err := os.MkdirTemp("/tmp", "wr") // short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(private); err != nil {
			t.Error(err)
		}
	})
	inside := filepath.Join(private, "in")
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", inside)
	want := inside
	if os.Geteuid() == 0 {
		want = "/tmp" // the server's user is another, and private is closed to it
	}
	if got := SocketRoot(); got != want {
		t.Errorf("SocketRoot() below a folder that is closed to others = %s, want %s", got, want)
	}
	if err := os.Chmod(private, 0o711); err != nil {
		t.Fatal(err)
	}
	if got := SocketRoot(); got != inside {
		t.Errorf("SocketRoot() below a folder that is open to others = %s, want %s", got, inside)
	}
}
