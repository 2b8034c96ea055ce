//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// take makes the folder this process's own until the file is closed, or the process is gone: the server does not notice
// another one in its files, and each would write what the other reads.
func take(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			err = fmt.Errorf("another broker works in %s: stop it first, or give this one a folder of its own", dir)
		}
		return nil, errors.Join(err, f.Close())
	}
}

// release gives the folder back. To close the file is not enough: a child that this process is just starting has it open,
// too, until it becomes its program, and the lock is everybody's who has the file.
func release(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}
