//go:build unix

package postgres

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres/pgtest"
)

// A server that is gone without a word, as when its machine is, is away: a process waits for it no
// longer than its lease bears, and beats on another connection.
func TestServerFallsSilent(t *testing.T) {
	t.Parallel()
	d := pgtest.ForTest(t).DSN("postgres")
	s := opened(t, d+" pool_max_conns=2", Lease(10*time.Second))
	if err := s.Heartbeat(t.Context()); err != nil {
		t.Fatal(err)
	}
	var backends []int32
	one(t, d, "select array_agg(pid) from pg_stat_activity where application_name = 'weir'", &backends)
	signal := func(how syscall.Signal) {
		for _, pid := range backends {
			if err := syscall.Kill(int(pid), how); err != nil {
				t.Error(err)
			}
		}
	}
	signal(syscall.SIGSTOP)
	err := s.Heartbeat(t.Context())
	signal(syscall.SIGCONT)
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Heartbeat() to a server that is silent = %v, want ErrUnavailable", err)
	}
}
