package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres/pgtest"
)

// estate is what a database holds when it is copied: messages that are done, leased, late and
// not yet claimed.
type estate struct {
	*testing.T
	s     *Store
	queue store.QueueID
	open  *store.Batch // leased
	due   map[string]bool
}

// leave works a store until it holds all of these, and remembers whose keys are yet to be done.
func leave(t *testing.T, s *Store, dsn string) *estate {
	t.Helper()
	e := &estate{T: t, s: s, queue: declared(t, s), due: map[string]bool{}}
	late := beginPgx(t, dsn)
	if err := s.AppendIn(t.Context(), late.Tx, &store.Change{Sends: e.named("late", 3)}); err != nil {
		t.Fatalf("AppendIn() = %v, want nil", err)
	}
	send(t, s, e.named("early", 40)...)
	done := claimSome(t, s, e.queue, 20)
	if done == nil || len(done.Deliveries) != 20 || doneAll(t, s, done) != nil {
		t.Fatalf("Claim() = %+v, want 20 that get done", done)
	}
	for _, d := range done.Deliveries {
		delete(e.due, string(d.Message.Body))
	}
	if e.open = claimSome(t, s, e.queue, 10); e.open == nil || len(e.open.Deliveries) != 10 {
		t.Fatalf("Claim() = %+v, want 10", e.open)
	}
	if err := late.commit(); err != nil {
		t.Fatal(err)
	}
	return e
}

// named makes messages that are due, each with a key of its own.
func (e *estate) named(name string, n int) []*store.Message {
	out := keyed(n, "")
	for i, m := range out {
		m.Body = fmt.Append(nil, name, i)
		m.Key = string(m.Body)
		e.due[m.Key] = true
	}
	return out
}

// heirs checks what a store that was opened on the copy has: another incarnation, all that was due,
// once, and positions that nobody was given before.
func (e *estate) heirs(s *Store, highest store.Pos) {
	e.Helper()
	if s.Info().Incarnation == e.s.Info().Incarnation {
		e.Errorf("the copy's incarnation is %s, as the original's, want another", s.Info().Incarnation)
	}
	fresh := e.named("fresh", 5)
	send(e.T, s, fresh...)
	for _, m := range fresh {
		if m.Pos <= highest {
			e.Errorf("the copy gives out position %d, want it above %d", m.Pos, highest)
		}
	}
	queue, seen := declared(e.T, s), map[string]bool{}
	for b := claimSome(e.T, s, queue, 30); b != nil; b = claimSome(e.T, s, queue, 30) {
		for _, d := range b.Deliveries {
			body := string(d.Message.Body)
			if !e.due[body] || seen[body] {
				e.Errorf("the copy delivers %s: due %t, before %t, want what is due, once", body, e.due[body], seen[body])
			}
			seen[body] = true
		}
		if err := doneAll(e.T, s, b); err != nil {
			e.Fatalf("Commit() on the copy = %v, want nil", err)
		}
	}
	for body := range e.due {
		if !seen[body] {
			e.Errorf("the copy has skipped %s", body)
		}
	}
	queues, err := s.Reader().Queues(e.Context())
	if err != nil || len(queues) != 1 || queues[0].Depth != 0 {
		e.Errorf("Queues() of the copy = %+v, %v, want a depth of 0", queues, err)
	}
}

// A standby that is promoted without the last commits is noticed by those who worked the server
// before it; what it has is worked, and nothing skipped.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary := pgtest.ForTest(t)
	dsn := primary.DSN("postgres")
	s := opened(t, dsn+" pool_max_conns=4")
	e := leave(t, s, dsn)
	standby, err := primary.Standby(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.Stop(); err != nil {
			t.Error(err)
		}
	})
	there := standby.DSN("postgres")
	if _, err := DB(there, Wait(0))(t.Context()); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "standby") {
		t.Errorf("open of a standby = %v, want ErrUnavailable that names it", err)
	}
	both := strings.Join([]string{"host=" + primary.Host() + "," + standby.Host(), "port=5432,5432 user=postgres dbname=postgres sslmode=disable target_session_attrs=read-write pool_max_conns=4"}, " ")
	old := opened(t, both)
	waitFor(t, "the standby to follow", func() bool { return received(t, dsn, there) })
	if err := standby.Down(); err != nil {
		t.Fatal(err)
	}
	lost := keyed(30, "") // whose commits the standby does not hear of
	send(t, s, lost...)
	if b := claimSome(t, s, e.queue, 60); b == nil || doneAll(t, s, b) != nil {
		t.Fatalf("Claim() before the failover = %+v, want more", b)
	}
	if err := errors.Join(primary.Kill(), standby.Up(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := old.Heartbeat(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Heartbeat() between two servers = %v, want ErrUnavailable", err)
	}
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"Heartbeat": func() error { return old.Heartbeat(t.Context()) },
		"Commit": func() error {
			return old.Commit(t.Context(), &store.Group{Changes: []*store.Change{{Sends: keyed(1, "")}}})
		},
	} {
		err := call()
		for range 10 { // stale connections
			if !errors.Is(err, store.ErrUnavailable) {
				break
			}
			err = call()
		}
		if !errors.Is(err, errOtherLife) {
			t.Errorf("%s() by who worked the old server = %v, want errOtherLife", name, err)
		}
	}
	e.heirs(opened(t, both), lost[len(lost)-1].Pos)
}

// received reports whether a standby has replayed all that the server has flushed.
func received(t *testing.T, primary, standby string) bool {
	t.Helper()
	var flushed string
	var there bool
	one(t, primary, "select pg_current_wal_flush_lsn()::text", &flushed)
	one(t, standby, "select pg_last_wal_replay_lsn() >= '"+flushed+"'::pg_lsn", &there)
	return there
}

// one asks a server for one value.
func one(t *testing.T, dsn, query string, into any) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.QueryRow(t.Context(), query).Scan(into), c.Close(t.Context())); err != nil {
		t.Fatalf("%s = %v, want nil", query, err)
	}
}

// A dump that is restored into another database, of a cluster that has given out fewer numbers, is
// noticed; what it has is worked, and nothing skipped. So is one that takes its own database back in time.
func TestRestoredDump(t *testing.T) {
	t.Parallel()
	server := pgtest.ForTest(t)
	young := server.DSN("postgres")
	schema, _ := freshSchema(t)
	admin(t, dsn(t), "set synchronous_commit = off", "do $$ begin for i in 1..4000 loop perform pg_current_xact_id(); commit; end loop; end $$")
	s := opened(t, dsn(t)+" pool_max_conns=4", Schema(schema))
	e := leave(t, s, dsn(t))
	if err := s.Heartbeat(t.Context()); err != nil { // folds all counters
		t.Fatal(err)
	}
	dump := dumped(t, dsn(t), schema)
	after := keyed(30, "")
	send(t, s, after...)

	restore(t, young, dump)
	e.heirs(opened(t, young, Schema(schema)), e.open.Deliveries[9].Message.Pos)

	back := e.again()
	admin(t, dsn(t), "drop schema "+schema+" cascade")
	restore(t, dsn(t), dump)
	if err := s.Heartbeat(t.Context()); !errors.Is(err, errOtherLife) {
		t.Errorf("Heartbeat() when its schema was restored = %v, want errOtherLife", err)
	}
	back.heirs(opened(t, dsn(t), Schema(schema)), after[len(after)-1].Pos)
}

// again is the estate for a second heir.
func (e *estate) again() *estate {
	due := map[string]bool{}
	for body := range e.due {
		if !strings.HasPrefix(body, "fresh") {
			due[body] = true
		}
	}
	return &estate{T: e.T, s: e.s, queue: e.queue, open: e.open, due: due}
}

func dumped(t *testing.T, dsn, schema string) []byte {
	t.Helper()
	bin, err := pgtest.Binary("pg_dump")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), bin, "-n", schema, dsn)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pg_dump = %v, want nil", err)
	}
	return out
}

func restore(t *testing.T, dsn string, dump []byte) {
	t.Helper()
	bin, err := pgtest.Binary("psql")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), bin, "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", dsn)
	cmd.Stdin = bytes.NewReader(dump)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("restore = %v: %s", err, out)
	}
}
