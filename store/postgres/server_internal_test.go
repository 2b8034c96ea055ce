package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres/pgtest"
)

// admin runs statements as the superuser, each on its own.
func admin(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for _, statement := range statements {
		if _, err := c.Exec(t.Context(), statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s = %v, want nil", statement, err)
		}
	}
}

// opened opens a store on a server and begins.
func opened(t *testing.T, dsn string, options ...Option) *Store {
	t.Helper()
	st, err := DB(dsn, options...)(t.Context())
	if err != nil {
		t.Fatalf("open = %v, want nil", err)
	}
	t.Cleanup(func() { _ = st.Close() })
	if err := st.Begin(t.Context(), &store.Process{Host: "here"}); err != nil {
		t.Fatalf("Begin() = %v, want nil", err)
	}
	return st.(*Store)
}

// declared is the queue of cook's commands.
func declared(t *testing.T, s *Store) store.QueueID {
	t.Helper()
	states, err := s.Declare(t.Context(), nil, []store.Queue{cook()})
	if err != nil {
		t.Fatalf("Declare() = %v, want nil", err)
	}
	return states[0].ID
}

// set changes a setting of the server, and waits until new connections have it.
func set(t *testing.T, dsn, name, value string) {
	t.Helper()
	admin(t, dsn, "alter system set "+name+" = "+value, "select pg_reload_conf()")
	for began := time.Now(); ; pauseFor(5) {
		c, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		var now string
		err = errors.Join(c.QueryRow(t.Context(), "select current_setting($1)", name).Scan(&now), c.Close(t.Context()))
		if err != nil || time.Since(began) > hangTime {
			t.Fatalf("%s is %s, %v, want %s", name, now, err, value)
		}
		if now == value {
			return
		}
	}
}

// A server that would lose what it has committed is refused, by the setting's name: when a store is
// opened, and at the next heartbeat.
func TestServerSettings(t *testing.T) {
	t.Parallel()
	d := pgtest.ForTest(t).DSN("postgres")
	s := opened(t, d+" pool_max_conns=2")
	for _, name := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		set(t, d, name, "off")
		if _, err := DB(d)(t.Context()); err == nil || !strings.Contains(err.Error(), name+" is off") || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("open with %s = off: %v, want a refusal that names it", name, err)
		}
		// Transactions of ours switch the last on.
		if err := s.Heartbeat(t.Context()); name != "synchronous_commit" && (err == nil || !strings.Contains(err.Error(), name+" is off")) {
			t.Errorf("Heartbeat() with %s = off: %v, want a refusal that names it", name, err)
		}
		opened(t, d, Unsafe())
		set(t, d, name, "on")
		if err := s.Heartbeat(t.Context()); err != nil {
			t.Errorf("Heartbeat() with %s = on: %v, want nil", name, err)
		}
	}
	admin(t, d, "create role hasty login superuser", "alter role hasty set synchronous_commit = off", "create database hurry", "alter database hurry set synchronous_commit = off")
	for _, by := range []string{" user=hasty", " dbname=hurry"} {
		if _, err := DB(d + by)(t.Context()); err == nil || !strings.Contains(err.Error(), "synchronous_commit is off") {
			t.Errorf("open with%s: %v, want a refusal that names synchronous_commit", by, err)
		}
	}
	testLeftOff(t, s)
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		admin(t, d, "create database "+encoding+" encoding '"+encoding+"' template template0 lc_collate 'C' lc_ctype 'C'")
		if _, err := DB(d + " dbname=" + strings.ToLower(encoding))(t.Context()); err == nil || !strings.Contains(err.Error(), encoding+", which cannot keep every text") {
			t.Errorf("open of a database of %s = %v, want a refusal that names it", encoding, err)
		}
	}
	// Let in by a password.
	admin(t, d, "create role guest login password 'right'", "do $$ begin execute format('copy (select ''local all guest scram-sha-256'' union all select ''local all all trust'') to %L', current_setting('hba_file')); end $$",
		"select pg_reload_conf()")
	began := time.Now()
	var err error
	for err == nil && time.Since(began) < hangTime { // until the server has read it
		var c *pgx.Conn
		if c, err = pgx.Connect(t.Context(), d+" user=guest password=wrong"); err == nil {
			_ = c.Close(t.Context())
		}
	}
	_, err = DB(d+" user=guest password=wrong", Wait(time.Hour))(t.Context())
	if err == nil || !strings.Contains(err.Error(), "password authentication failed") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("open with a wrong password = %v, want it told at once, without the password", err)
	}
}

// testLeftOff: what somebody left switched off on a connection that a pooler shares does not
// make our commits loose.
func testLeftOff(t *testing.T, s *Store) {
	t.Helper()
	c, err := s.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	if _, err := c.Exec(t.Context(), "set synchronous_commit = off"); err != nil {
		t.Fatal(err)
	}
	x := &tx{s: s, ctx: t.Context(), w: pgxWire{c, c.Conn()}}
	x.head(sqlBegin, writing)
	var now string
	err = x.run(c, func(x *tx) error {
		return x.get("select current_setting('synchronous_commit')", func(read scan) error { return read(&now) })
	})
	if err != nil || now != "on" {
		t.Errorf("synchronous_commit in a transaction of ours = %s, %v, want on", now, err)
	}
}

// While the server is away calls say that it is, and when it is back they succeed, after one
// failure at most: connections of before are not met one by one.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	server := pgtest.ForTest(t)
	d := server.DSN("postgres")
	s := opened(t, d+" pool_max_conns=8")
	declared(t, s)
	for _, down := range []func() error{server.Kill, server.Down} {
		fillPool(t, s)
		asleep := make(chan error, 1)
		go func() {
			asleep <- s.read(t.Context(), func(x *tx) error {
				return x.get("select pg_sleep(60)", func(scan) error { return nil })
			})
		}()
		waitFor(t, "the sleeper", func() bool { return s.pool.Stat().AcquiredConns() == 1 })
		if err := down(); err != nil {
			t.Fatal(err)
		}
		if err := <-asleep; !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a read when the server went down = %v, want ErrUnavailable", err)
		}
		away(t, s, d)
		late := make(chan error, 1)
		go func() {
			st, err := DB(d, Wait(time.Minute))(t.Context())
			if err == nil {
				err = st.Close()
			}
			late <- err
		}()
		if err := server.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-late; err != nil {
			t.Errorf("open that waits for the server = %v, want nil", err)
		}
		for range 10 {
			send(t, s, keyed(1, "")...)
		}
	}
	// Nobody called while the server ended all connections.
	fillPool(t, s)
	admin(t, d, "select pg_terminate_backend(pid, 10000) from pg_stat_activity where application_name = 'weir'")
	failures := 0
	for range 10 {
		ch := &store.Change{Sends: keyed(1, "")}
		err := s.Commit(t.Context(), &store.Group{Changes: []*store.Change{ch}})
		if err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Commit() after the end of all connections = %v, want nil or ErrUnavailable", err)
		}
		if err != nil {
			failures++
		}
	}
	if failures > 1 {
		t.Errorf("%d of 10 commits failed after the end of all connections, want 1 at most", failures)
	}
	if err := s.Heartbeat(t.Context()); err != nil {
		t.Errorf("Heartbeat() after a restart = %v, want nil", err)
	}
}

// fillPool has all connections of the pool made.
func fillPool(t *testing.T, s *Store) {
	t.Helper()
	most := s.pool.Config().MaxConns
	held := make([]interface{ Release() }, most)
	var all sync.WaitGroup
	for i := range held {
		all.Go(func() {
			c, err := s.pool.Acquire(t.Context())
			if err != nil {
				t.Errorf("Acquire() = %v, want nil", err)
				return
			}
			held[i] = c
		})
	}
	all.Wait()
	for _, c := range held {
		if c != nil {
			c.Release()
		}
	}
}

// away checks what calls say while the server is.
func away(t *testing.T, s *Store, d string) {
	t.Helper()
	ch := &store.Change{Sends: keyed(1, "")}
	_, readErr := s.Reader().Queues(t.Context())
	_, claimErr := s.Claim(t.Context(), store.ClaimRequest{Queue: 1, Max: 1})
	_, openErr := DB(d, Wait(0))(t.Context())
	_, changedErr := s.Reader().Changed(t.Context())
	for name, err := range map[string]error{
		"Commit": s.Commit(t.Context(), &store.Group{Changes: []*store.Change{ch}}), "Heartbeat": s.Heartbeat(t.Context()),
		"Queues": readErr, "Claim": claimErr, "open": openErr, "Changed": changedErr,
	} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s() of a server that is down = %v, want ErrUnavailable", name, err)
		}
	}
	if !errors.Is(ch.Err, store.ErrUnavailable) {
		t.Errorf("Commit() of a server that is down: Err %v, want ErrUnavailable", ch.Err)
	}
}

// hangTime is after what a wait for something that comes about soon, on any machine, is given up.
const hangTime = 2 * time.Minute

// waitFor waits until something has come about.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for began := time.Now(); !done(); pauseFor(2) {
		if time.Since(began) > hangTime {
			t.Fatal(fmt.Sprint("waited in vain for ", what))
		}
	}
}
