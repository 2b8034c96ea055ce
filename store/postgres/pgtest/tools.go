package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Binary is the path of a program that comes with the server: psql, pg_dump.
func Binary(name string) (string, error) {
	bin, err := binaries()
	if err != nil {
		return "", err
	}
	path := filepath.Join(bin, name)
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath(name); err != nil {
			return "", fmt.Errorf("%s comes with PostgreSQL (Debian: apt-get install postgresql): %w", name, err)
		}
	}
	return path, nil
}

// Standby makes a copy of the server that follows it, and starts it. It reads what the
// server commits a moment later, and not what that commits while the copy is down.
func (s *Server) Standby(ctx context.Context) (*Server, error) {
	follower, err := newServer(filepath.Dir(s.dir), s.bin, s.user)
	if err != nil {
		return nil, err
	}
	backup := follower.command(ctx, "pg_basebackup", "-h", s.dir, "-p", fmt.Sprint(port), "-U", "postgres", "-D", follower.data(), "-R", "-X", "stream", "-c", "fast", "--no-sync")
	if out, err := backup.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("pg_basebackup: %w: %s", err, out), os.RemoveAll(follower.dir))
	}
	if err := follower.Up(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(follower.dir))
	}
	return follower, nil
}

// Promote makes a standby a server of its own, and waits until it is.
func (s *Server) Promote(ctx context.Context) error {
	promote := s.command(ctx, "pg_ctl", "promote", "-D", s.data(), "-w", "-t", fmt.Sprint(int(upTime.Seconds())), "-s")
	if out, err := promote.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_ctl promote: %w: %s", err, out)
	}
	return nil
}
