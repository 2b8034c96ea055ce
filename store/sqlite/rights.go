package sqlite

import (
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"
)

// errRights is what SQLite's words mean, most of the time, when a file or its folder is another user's.
var errRights = errors.New("this user must be able to read and write the file, and to make files beside it (-wal, -shm, .lock): look at the rights of both, and whether the disk is mounted read-only")

// advise says what to do about a file that cannot be opened or written.
func advise(err error) error {
	if err == nil {
		return nil
	}
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultReadOnly, sqlite.ResultCantOpen, sqlite.ResultPerm:
		if !errors.Is(err, errRights) {
			return fmt.Errorf("%w: %w", err, errRights)
		}
	}
	return err
}
