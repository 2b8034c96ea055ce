//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package sqlite

import (
	"errors"
	"os"

	"zombiezen.com/go/sqlite"
)

const noFollow = 0

// names is how many names a file has: not known here.
func names(os.FileInfo) uint64 { return 1 }

// lockFile does without flock: an open exclusive transaction on an empty SQLite
// file of its own is a lock that ends with the process, wherever SQLite runs.
func lockFile(f *os.File) (unlock func() error, err error) {
	c, err := sqlite.OpenConn(f.Name()+".db", sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		return nil, err
	}
	c.SetBusyTimeout(0)
	if err := (&conn{c: c}).exec("begin exclusive"); err != nil {
		if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultBusy {
			err = errLocked
		}
		return nil, errors.Join(err, c.Close())
	}
	return c.Close, nil
}
