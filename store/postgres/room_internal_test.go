package postgres

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-go/weir/store"
)

// Who sends while the next partition could not be made in time has sent nothing, and sends again when it is there.
func TestNoPartitionPasses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.declare(subscription("waiter"))
	b.send(1, 1)
	b.exec(`select setval('weir.seq', $1)`, int64(5<<partitionBits))
	send := func() error {
		c := &store.Change{Sends: []*store.Message{{Topic: "kitchen.ready", Kind: store.KindEvent, Version: 1, Body: []byte("2")}}}
		return commitOne(t.Context(), b.Store, c)
	}
	if err := send(); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("Commit() without a partition = %v, want one that matches ErrUnavailable", err)
	}
	if err := b.Heartbeat(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := send(); err != nil {
		t.Errorf("Commit() after a heartbeat = %v, want nil", err)
	}
	b.claim("waiter", 2)
}

// A partition that cannot be made holds up one sender, and not again each who comes after.
func TestMakeRoomIsNotRepeated(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.exec(`select setval('weir.seq', $1)`, int64(1<<partitionBits-10))
	locked, err := b.h.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := locked.Exec(t.Context(), inSchema(`lock table weir.messages in share update exclusive mode`, b.schema)); err != nil { // as ANALYZE does
		t.Fatal(err)
	}
	if err := b.makeRoom(t.Context(), 1<<partitionBits-10); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("makeRoom() beside a lock = %v, want one that matches ErrUnavailable", err)
	}
	if err := b.makeRoom(t.Context(), 1<<partitionBits-10); err != nil {
		t.Errorf("makeRoom() of the next sender = %v, want nil: it is not tried", err)
	}
	if err := locked.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.makeRoom(t.Context(), 0); err != nil {
		t.Errorf("makeRoom() of a heartbeat = %v, want nil", err)
	}
	if n := b.number(`select count(*) from pg_inherits where inhparent = 'weir.messages'::regclass`); n != 2 {
		t.Errorf("%d partitions, want 2", n)
	}
}

// Positions end before they would run into the topics' numbers.
func TestPositionsEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.declare(subscription("waiter"))
	b.exec(`select setval('weir.seq', $1)`, int64(seqMask))
	c := &store.Change{Sends: []*store.Message{{Topic: "kitchen.ready", Kind: store.KindEvent, Version: 1}}}
	err := commitOne(t.Context(), b.Store, c)
	if fault, ok := errors.AsType[*pgconn.PgError](err); !ok || fault.Code != "2200H" || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Commit() after the last position = %v, want the server's 2200H", err)
	}
}

// A service that may only open an existing journal begins a new life of one that was restored, before it works it.
func TestExistingBeginsANewLife(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	before := b.Info().Incarnation
	if err := b.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.exec(`update weir.meta set v = 'of another server' where k = 'life'`)
	opened, err := DB(dsn(t)+" pool_max_conns=4", Schema(b.schema), Existing())(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*Store)
	defer func() { _ = s.Close() }()
	if got := s.Info().Incarnation; got != before {
		t.Errorf("who only looks has begun life %s, want %s", got, before)
	}
	if err := s.Begin(t.Context(), &store.Process{Host: "here"}); err != nil {
		t.Fatal(err)
	}
	if got := s.Info().Incarnation; got == before {
		t.Errorf("after Begin() of a restored journal its incarnation is %s still", got)
	}
	if err := commitOne(t.Context(), s, &store.Change{Sends: []*store.Message{{Topic: "kitchen.ready", Kind: store.KindEvent, Version: 1}}}); err != nil {
		t.Error(err)
	}
}
