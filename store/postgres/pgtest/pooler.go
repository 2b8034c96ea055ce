package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ErrNoPooler is returned when there is no PgBouncer to run.
var ErrNoPooler = errors.New("no pgbouncer found, neither on PATH nor in /usr/sbin: install it (Debian: apt-get install pgbouncer)")

// Pooler is a PgBouncer of our own, in transaction mode, before a server.
type Pooler struct {
	dir  string
	cmd  *exec.Cmd
	done chan struct{}
}

const poolerPort = 6432

const poolerConfig = `[databases]
* = host=%[1]s port=%[2]d
[pgbouncer]
listen_addr =
listen_port = %[3]d
unix_socket_dir = %[4]s
auth_type = trust
auth_file = %[4]s/users
pool_mode = transaction
default_pool_size = %[5]d
max_client_conn = 500
`

// StartPooler starts a PgBouncer for a server, named by the folder of its socket and its
// port, that lets roles in without a password. It has so many connections for each of them.
func StartPooler(ctx context.Context, socket string, serverPort, connections int, roles ...string) (*Pooler, error) {
	bin, err := exec.LookPath("pgbouncer")
	if err != nil {
		bin = "/usr/sbin/pgbouncer"
		if _, err := os.Stat(bin); err != nil {
			return nil, ErrNoPooler
		}
	}
	user, err := serverUser()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(SocketRoot(), "weir-pool-")
	if err != nil {
		return nil, err
	}
	p := &Pooler{dir: dir, done: make(chan struct{})}
	if err := p.start(bin, user, fmt.Sprintf(poolerConfig, socket, serverPort, poolerPort, dir, connections), roles); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := p.await(ctx); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

func (p *Pooler) start(bin string, user *owner, config string, roles []string) error {
	var users strings.Builder
	for _, role := range roles {
		fmt.Fprintf(&users, "%q \"\"\n", role)
	}
	files := map[string]string{"ini": config, "users": users.String()}
	for name, text := range files {
		path := filepath.Join(p.dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), user.own(path)); err != nil {
			return err
		}
	}
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	if err := errors.Join(os.Chmod(p.dir, 0o700), user.own(p.dir)); err != nil {
		return err
	}
	p.cmd = exec.Command(bin, filepath.Join(p.dir, "ini"))
	p.cmd.Dir, p.cmd.SysProcAttr, p.cmd.Stdout, p.cmd.Stderr = p.dir, user.attr(), log, log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // it is ended by a signal
	}()
	return nil
}

func (p *Pooler) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upTime)
	defer cancel()
	for {
		// The socket's file is there a moment before somebody listens.
		if c, err := net.Dial("unix", filepath.Join(p.dir, fmt.Sprintf(".s.PGSQL.%d", poolerPort))); err == nil {
			return c.Close()
		}
		timer := time.NewTimer(10 * time.Millisecond)
		select {
		case <-timer.C:
		case <-p.done:
			timer.Stop()
			log, err := os.ReadFile(filepath.Join(p.dir, "log"))
			return errors.Join(fmt.Errorf("pgbouncer ended: %s", log), err)
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("pgbouncer does not listen: %w", context.Cause(ctx))
		}
	}
}

// DSN is how to connect to a database through the pooler, as one of its roles.
func (p *Pooler) DSN(database, role string) string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable", p.dir, poolerPort, role, database)
}

// Stop ends the pooler.
func (p *Pooler) Stop() error {
	err := p.cmd.Process.Signal(syscall.SIGTERM)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-p.done
	return errors.Join(err, os.RemoveAll(p.dir))
}
