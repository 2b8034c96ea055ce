package pgtest

import (
	"context"
	"errors"
	"os"
)

// TB is what ForTest needs of a *testing.T.
type TB interface {
	Helper()
	Skip(args ...any)
	Fatal(args ...any)
	Error(args ...any)
	Cleanup(f func())
}

// ForTest starts a server that ends with the test. Where there are no binaries the test is
// skipped, saying what to install; with CI=true in the environment it fails.
func ForTest(t TB) *Server {
	t.Helper()
	server, err := StartInMemory(context.Background())
	if errors.Is(err, ErrNoBinaries) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}
