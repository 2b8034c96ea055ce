package sqlite

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/weir-go/weir/store"
)

// holder is what a lock file says of the process that holds it.
type holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

// fileLock keeps a second engine off the file, in this process or another. The
// lock is on a file of its own beside the database, since SQLite's locks on the
// database are dropped when any descriptor of it is closed. It is the operating
// system's, so it ends with the process; the file stays.
type fileLock struct {
	f      *os.File
	unlock func() error
}

var errLocked = errors.New("locked")

// takeLock locks path's lock file, or refuses with a *store.HeldError.
func takeLock(path string, h holder) (*fileLock, error) {
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|noFollow, 0o600)
	if err != nil {
		return nil, err
	}
	unlock, err := lockFile(f)
	if err != nil {
		if errors.Is(err, errLocked) {
			err = heldBy(path, f)
		}
		return nil, errors.Join(err, f.Close())
	}
	l := &fileLock{f: f, unlock: unlock}
	if err := l.sign(h); err != nil {
		return nil, errors.Join(err, l.release())
	}
	return l, nil
}

// heldBy reads who holds the lock. Until they have signed, nobody's name is in it.
func heldBy(path string, f *os.File) error {
	var h holder
	if b, err := io.ReadAll(io.LimitReader(f, 4096)); err == nil {
		if json.Unmarshal(b, &h) != nil {
			h = holder{}
		}
	}
	return &store.HeldError{Store: path, PID: h.PID, Host: h.Host, Since: h.Since}
}

func (l *fileLock) sign(h holder) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := l.f.Truncate(0); err != nil {
		return err
	}
	_, err = l.f.WriteAt(append(b, '\n'), 0)
	return err
}

func (l *fileLock) release() error {
	return errors.Join(l.f.Truncate(0), l.unlock(), l.f.Close())
}
