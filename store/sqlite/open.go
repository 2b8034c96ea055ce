// Package sqlite is weir's store in one SQLite file.
//
// One process works a file at a time; others may send, read and operate. The
// file may hold the user's own tables too, so that a handler's rows, or a
// sender's, commit together with the messages: see SQL, Tx and OpenDB.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/batchrow"
	"github.com/weir-go/weir/store/internal/lives"
	"zombiezen.com/go/sqlite"
)

// Option changes how a file is opened.
type Option func(*Store)

// Clock sets what the store takes for the time. Defaults to time.Now.
func Clock(now func() time.Time) Option { return func(s *Store) { s.clock = now } }

// Existing opens only a file that holds a journal of this version's schema: it
// makes none and migrates none. For programs that look into the file of a service.
func Existing() Option { return func(s *Store) { s.existing = true } }

// File opens the store in the file at path, which is made if there is none.
func File(path string, options ...Option) store.Opener {
	return func(ctx context.Context) (store.Store, error) {
		s, err := open(ctx, path, options)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		return s, nil
	}
}

// Store is a store in one SQLite file.
//
// It has one writer connection, since SQLite lets one write at a time: waiting in
// line here is cheaper and fairer than polling the file's lock. Readers have
// connections of their own and never wait for it.
type Store struct {
	path     string
	clock    func() time.Time
	existing bool // the file and its journal must be there
	schema   int  // its version
	known    atomic.Pointer[lives.Lives]

	writer  chan *conn // holds the writer connection while nobody writes
	readers chan *conn // the idle read connections; nil is one not yet opened
	closed  chan struct{}
	closing sync.Once

	// foreign is set when another connection has committed; Changed clears it.
	foreign atomic.Bool

	process atomic.Int64 // given by Begin, 0 before it and after End
	mu      sync.Mutex   // orders Begin, End and Close
	lock    *fileLock

	// watched is for the holder of the writer connection; see type watched.
	watched map[int64]batchrow.Bits
	// worked is the queues in which the process found no abandoned batch: there
	// will be none until another Begin, for only processes that are gone leave them.
	worked sync.Map // of int64 queue to int64 process
	// held is the runs that this process works, for the holder of the writer connection.
	held held
}

const readersMax = 4

func open(ctx context.Context, path string, options []Option) (*Store, error) {
	if err := checkVersion(sqlite.Version); err != nil {
		return nil, err
	}
	s := &Store{
		path:    path,
		clock:   time.Now,
		writer:  make(chan *conn, 1),
		readers: make(chan *conn, readersMax),
		closed:  make(chan struct{}),
		watched: map[int64]batchrow.Bits{},
		held:    newHeld(),
	}
	for _, o := range options {
		o(s)
	}
	if err := checkFile(path, !s.existing); err != nil {
		return nil, err
	}
	if s.existing {
		if err := probe(path); err != nil {
			return nil, err
		}
	}
	c, err := openConn(path, writerPragmas())
	if err != nil {
		return nil, err
	}
	if err := c.c.SetAuthorizer(guard{c}); err != nil {
		return nil, errors.Join(err, c.close())
	}
	for range readersMax {
		s.readers <- nil
	}
	s.writer <- c
	if err := s.write(ctx, func(c *conn) error { return s.migrate(c) }); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.foreign.Store(false)
	return s, nil
}

// probe looks for a journal without changing a byte: opening the writer sets the
// file's journal mode, and this file may be another program's.
func probe(path string) error {
	zc, err := openLibrary(path, sqlite.OpenReadOnly)
	if err != nil {
		return err
	}
	zc.SetBusyTimeout(busyTimeout)
	c := &conn{c: zc}
	have, err := schemaOf(c)
	if err == nil && have == 0 {
		err = errNoJournal
	}
	return errors.Join(err, c.close())
}

// checkFile makes a missing file, if it may, for its owner only. An existing one is not
// opened here: closing any descriptor of a file drops the POSIX locks that
// another connection of this process holds on it.
func checkFile(path string, create bool) error {
	if path == "" || path == ":memory:" || strings.HasPrefix(path, "file:") {
		return errors.New("want the path of a file, such as orders.db: a journal is on a disk, and each connection opens it anew (in tests, below t.TempDir(), or package weirtest)")
	}
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		switch {
		case errors.Is(err, fs.ErrExist):
			return nil // another process was first
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%w: make the folder first", bare(err))
		}
		if err != nil {
			return bare(err)
		}
		return f.Close()
	}
	if err != nil {
		return bare(err)
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return errors.New("is a symbolic link: its lock file and its WAL would lie elsewhere than another process looks for them; give the file's own path")
	}
	if !info.Mode().IsRegular() {
		return errors.New("is not a regular file")
	}
	if n := names(info); n > 1 {
		return fmt.Errorf("has %d names (hard links): who opens it by another one locks another file and writes another WAL, which damages it; remove the other names (find -samefile shows them), or open a copy", n)
	}
	return nil
}

// bare is an error of the file system without its path, which callers name.
func bare(err error) error {
	if fault, ok := errors.AsType[*fs.PathError](err); ok {
		return fault.Err
	}
	return err
}

// writerPragmas are run in this order. page_size only takes effect on a new file.
// A checkpoint every 16 MiB instead of 4 writes an eighth less to the disk, and
// asks it to sync a quarter as often, where keys spread the writes.
func writerPragmas() []string {
	return []string{
		`pragma page_size = 4096`,
		`pragma journal_mode = wal`,
		`pragma synchronous = full`,
		`pragma wal_autocheckpoint = 4000`,
		`pragma trusted_schema = off`,
		`pragma foreign_keys = on`,
		`pragma cache_size = -32768`,
		`pragma temp_store = memory`,
		`pragma journal_size_limit = 67108864`,
	}
}

func readerPragmas() []string {
	return []string{
		`pragma query_only = on`,
		`pragma trusted_schema = off`,
		`pragma cache_size = -8192`,
		`pragma temp_store = memory`,
	}
}

// busyTimeout bounds a connection's own wait for locks that are held for
// moments (another connection's recovery); for the write lock, begin waits.
const busyTimeout = 5 * time.Second

func openConn(path string, pragmas []string) (*conn, error) {
	zc, err := openLibrary(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	zc.SetBusyTimeout(busyTimeout)
	c := &conn{c: zc}
	for _, p := range pragmas {
		if err := c.insist(p); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", p, err), c.close())
		}
	}
	if runtime.GOOS == "darwin" { // where fsync does not reach the disk
		if err := c.exec(`pragma fullfsync = on`); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	return c, nil
}

// insist runs a pragma, again while the file is locked: SQLite does not wait by itself for what a change of the journal's mode
// needs, which others who open a new file at the same time hold for moments.
func (c *conn) insist(pragma string) error {
	for until := time.Now().Add(busyTimeout); ; {
		err := c.exec(pragma)
		if err == nil || sqlite.ErrCode(err).ToPrimary() != sqlite.ResultBusy || time.Now().After(until) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// now is the store's time, as it will be read back.
func (s *Store) now() time.Time { return at(us(s.clock())) }

// Close implements store.Store. What is under way is finished by those who do it.
func (s *Store) Close() error {
	s.closing.Do(func() { close(s.closed) })
	err := s.sweep()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock != nil { // without End: what was leased stays suspect
		err = errors.Join(err, s.lock.release())
		s.lock = nil
	}
	return err
}

func (s *Store) checkOpen() error {
	select {
	case <-s.closed:
		return store.ErrClosed
	default:
		return nil
	}
}

// sweep closes the idle connections of a closed store. Each connection in use is
// swept by the one who gives it back.
func (s *Store) sweep() error {
	select {
	case <-s.closed:
	default:
		return nil
	}
	var err error
	for {
		var c *conn
		select {
		case c = <-s.writer:
		case c = <-s.readers:
		default:
			return err
		}
		if c != nil {
			err = errors.Join(err, c.close())
		}
	}
}

func (c *conn) close() error {
	if c.bridge != nil {
		if err := c.bridge.close(); err != nil {
			return errors.Join(err, closeLibrary(c.c))
		}
	}
	return closeLibrary(c.c)
}
