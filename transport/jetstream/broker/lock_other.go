//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package broker

import (
	"os"
	"path/filepath"
)

// take keeps a file open in the folder; whether another broker works there is not known on this system.
func take(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
}

// release closes it.
func release(f *os.File) error { return f.Close() }
