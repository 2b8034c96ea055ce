// Package pgtest starts throw-away PostgreSQL servers from the binaries that it finds:
// for tests, and for demonstrations.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrNoBinaries is returned when there is no initdb and no postgres to run.
var ErrNoBinaries = errors.New("no PostgreSQL server binaries found (initdb, postgres), neither on PATH nor in /usr/lib/postgresql: " +
	"install them (Debian: apt-get install postgresql), or name a server")

// Server is a PostgreSQL server of our own, with a data directory of its own, that
// listens on a unix socket. It keeps what it commits (fsync is on).
type Server struct {
	dir  string // holds the data, the sockets and the log
	bin  string
	user *owner

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// port names the socket; nobody listens on the network.
const port = 5432

// Start makes a cluster in a temporary directory and starts its server.
func Start(ctx context.Context) (*Server, error) { return start(ctx, SocketRoot()) }

// StartInMemory is Start for tests: the directory is in memory, if there is room. There the server's
// settings are those of a durable one, and its syncs cost nothing: tests do not stand in line for a disk.
func StartInMemory(ctx context.Context) (*Server, error) {
	if folder := inMemory(); folder != "" {
		return start(ctx, folder)
	}
	return Start(ctx)
}

func start(ctx context.Context, root string) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	user, err := serverUser()
	if err != nil {
		return nil, err
	}
	s, err := newServer(root, bin, user)
	if err != nil {
		return nil, err
	}
	initdb := s.command(ctx, "initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, out), os.RemoveAll(s.dir))
	}
	if err := s.Up(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

// newServer is a server that has no data yet, in a directory below root.
func newServer(root, bin string, user *owner) (*Server, error) {
	dir, err := os.MkdirTemp(root, "weir-pg-")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Chmod(dir, 0o700), user.own(dir)); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &Server{dir: dir, bin: bin, user: user}, nil
}

// SocketRoot is the folder for temporary files, where its path leaves room for folders with sockets in it, whose paths are
// at most some 100 bytes, and lets in the server's user; else another.
func SocketRoot() string {
	if d := os.TempDir(); len(d) <= 40 && reachable(d) {
		return d
	}
	return "/tmp"
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Host is where the server listens, as a DSN names it.
func (s *Server) Host() string { return s.dir }

// DSN is how to connect to a database of the server, as its superuser: "postgres" is there.
func (s *Server) DSN(database string) string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=%s sslmode=disable", s.dir, port, database)
}

// URL is the DSN as a URL.
func (s *Server) URL(database string) string {
	q := url.Values{"host": {s.dir}, "port": {fmt.Sprint(port)}, "user": {"postgres"}, "sslmode": {"disable"}}
	return "postgres:///" + url.PathEscape(database) + "?" + q.Encode()
}

func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = s.user.attr()
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	return cmd
}

// Up starts the server, and waits until it answers.
func (s *Server) Up(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return errors.New("the server is up")
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.command(context.WithoutCancel(ctx), "postgres", "-D", s.data(), "-k", s.dir, "-p", fmt.Sprint(port), "-h", "",
		"-c", "max_connections=400", "-c", "max_prepared_transactions=20", "-c", "shared_buffers=128MB", "-c", "max_wal_size=4GB",
		"-c", "recovery_init_sync_method="+recovery)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.done = cmd, make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		_ = cmd.Wait() // killed servers do not end well
	}(s.done)
	return s.await(ctx)
}

// upTime is how long a server may take to answer, recovery included, beside whatever else the machine does.
const upTime = 3 * time.Minute

func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upTime)
	defer cancel()
	for {
		ready := s.command(ctx, "pg_isready", "-q", "-h", s.dir, "-p", fmt.Sprint(port))
		if ready.Run() == nil {
			return nil
		}
		timer := time.NewTimer(20 * time.Millisecond)
		select {
		case <-timer.C:
		case <-s.done:
			timer.Stop()
			return fmt.Errorf("the server ended: %s", s.lastWords())
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("the server does not answer: %w: %s", context.Cause(ctx), s.lastWords())
		}
	}
}

func (s *Server) lastWords() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(len(lines)-5, 0):], "\n")
}

// Kill ends the server at once, as an immediate shutdown: what it had not committed is
// lost, and it recovers when it is started again.
func (s *Server) Kill() error { return s.signal(syscall.SIGQUIT) }

// Down ends the server in an orderly way, with whoever is connected.
func (s *Server) Down() error { return s.signal(syscall.SIGINT) }

func (s *Server) signal(how syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Signal(how); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-s.done
	s.cmd = nil
	return nil
}

// Stop ends the server and removes all that it had.
func (s *Server) Stop() error { return errors.Join(s.Kill(), os.RemoveAll(s.dir)) }

// binaries is the folder of the newest server's binaries.
func binaries() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			return filepath.Dir(p), nil
		}
	}
	var found []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb", "/opt/homebrew/opt/postgresql*/bin/initdb"} {
		some, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		found = append(found, some...)
	}
	if len(found) == 0 {
		return "", ErrNoBinaries
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1]), nil
}
