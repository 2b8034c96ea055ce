package postgres

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// cook is the queue of the tests of several processes.
func cook() store.Queue {
	return store.Queue{Name: "a.cook", Topic: store.Topic{Name: "a.cook", Kind: store.KindCommand}}
}

// processes opens stores in one schema, by the server's clock, and begins with each.
func processes(t *testing.T, n int, options ...Option) (h *harness, stores []*Store, queue store.QueueID) {
	t.Helper()
	h = openHarness(t, nil).(*harness)
	for range n {
		st, err := DB(dsn(t)+" pool_max_conns=4", append(options, Schema(h.schema))...)(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s := st.(*Store)
		t.Cleanup(func() { _ = s.Close() })
		if err := s.Begin(t.Context(), &store.Process{Host: "here"}); err != nil {
			t.Fatal(err)
		}
		states, err := s.Declare(t.Context(), nil, []store.Queue{cook()})
		if err != nil {
			t.Fatal(err)
		}
		stores, queue = append(stores, s), states[0].ID
	}
	return h, stores, queue
}

// keyed makes messages "k0 … kn-1", each with a key of its own; or, with a key, all with that.
func keyed(n int, key string) []*store.Message {
	out := make([]*store.Message, n)
	for i := range out {
		out[i] = &store.Message{Topic: "a.cook", Kind: store.KindCommand, Version: 1, Key: key, Body: []byte("x")}
		if key == "" {
			out[i].Key = fmt.Sprint("k", i)
		}
	}
	return out
}

func send(t testing.TB, s *Store, messages ...*store.Message) {
	t.Helper()
	ch := &store.Change{Sends: messages}
	if err := s.Commit(t.Context(), &store.Group{Changes: []*store.Change{ch}}); err != nil || ch.Err != nil {
		t.Fatalf("Commit(%d sends) = %v, Err %v, want nil, nil", len(messages), err, ch.Err)
	}
}

func claimSome(t testing.TB, s *Store, queue store.QueueID, most int) *store.Batch {
	t.Helper()
	got, err := s.Claim(t.Context(), store.ClaimRequest{Queue: queue, Max: most})
	if err != nil {
		t.Fatalf("Claim() = %v, want nil", err)
	}
	return got.Batch
}

// doneAll settles all of a batch, and returns what became of the change.
func doneAll(t testing.TB, s store.Store, b *store.Batch) error {
	t.Helper()
	ch := &store.Change{}
	for _, d := range b.Deliveries {
		ch.Settle = append(ch.Settle, store.Settlement{Batch: b.BatchRef, Index: d.Index, Pos: d.Message.Pos, Key: d.Message.Key,
			Verdict: store.Done, Attempt: d.Attempt})
	}
	return errors.Join(s.Commit(t.Context(), &store.Group{Changes: []*store.Change{ch}}), ch.Err)
}

// A process that does not beat for a lease is lost: others take over what it had, and what it
// still does is refused.
func TestLostProcess(t *testing.T) {
	h, s, queue := processes(t, 2, Lease(time.Hour))
	send(t, s[0], keyed(5, "")...)
	old := claimSome(t, s[0], queue, 9)
	if old == nil || len(old.Deliveries) != 5 {
		t.Fatalf("Claim() = %+v, want 5 messages", old)
	}
	beat := func() {
		t.Helper()
		if err := s[1].Heartbeat(t.Context()); err != nil {
			t.Fatalf("Heartbeat() = %v, want nil", err)
		}
	}
	beat()
	if b := claimSome(t, s[1], queue, 9); b != nil {
		t.Fatalf("Claim() beside a process that lives = %d messages, want none", len(b.Deliveries))
	}
	silent := "update weir.processes set beat_us = beat_us - 3600000000 where id = $1"
	if _, err := h.db.Exec(t.Context(), inSchema(silent, h.schema), s[0].process.Load()); err != nil {
		t.Fatal(err)
	}
	beat()
	b := claimSome(t, s[1], queue, 9)
	if b == nil {
		t.Fatal("a process that does not beat is not taken for lost")
	}
	if b.No != old.No || b.Epoch != old.Epoch+1 || !b.Suspect || len(b.Deliveries) != 5 {
		t.Errorf("Claim() after a lease = %+v, suspect %t, %d messages, want batch %d, epoch %d, suspect, 5", b.BatchRef, b.Suspect, len(b.Deliveries), old.No, old.Epoch+1)
	}
	if err := doneAll(t, s[0], old); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("Commit() by the lost process = %v, want ErrLeaseLost", err)
	}
	if err := s[0].Heartbeat(t.Context()); !errors.Is(err, store.ErrLeaseLost) {
		t.Errorf("Heartbeat() of the lost process = %v, want ErrLeaseLost", err)
	}
	if err := doneAll(t, s[1], b); err != nil {
		t.Errorf("Commit() by the one that took over = %v, want nil", err)
	}
}

// A caller's open transaction holds back other senders of its key, and nobody else.
func TestBusyKey(t *testing.T) {
	h, s, _ := processes(t, 1)
	own, err := h.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := keyed(1, "held")
	if err := s[0].AppendIn(t.Context(), own.Tx, &store.Change{Sends: first}); err != nil {
		t.Fatalf("AppendIn() = %v, want nil", err)
	}
	refused, meanwhile := &store.Change{Sends: keyed(1, "held")}, &store.Change{Sends: keyed(1, "meanwhile")}
	err = s[0].Commit(t.Context(), &store.Group{Held: store.HeldIsRefused, Changes: []*store.Change{refused, meanwhile}})
	if err != nil || !errors.Is(refused.Err, store.ErrKeyHeld) || meanwhile.Err != nil {
		t.Fatalf("Commit() that does not wait = %v, Err %v and %v, want nil, ErrKeyHeld and nil", err, refused.Err, meanwhile.Err)
	}
	again, free := &store.Change{Sends: keyed(1, "held")}, &store.Change{Sends: keyed(1, "free")}
	over := make(chan error, 1)
	go func() { over <- s[0].Commit(t.Context(), &store.Group{Changes: []*store.Change{again, free}}) }()
	other := &store.Change{Sends: keyed(1, "other")}
	if err := s[0].Commit(t.Context(), &store.Group{Changes: []*store.Change{other}}); err != nil || other.Err != nil {
		t.Errorf("Commit() of another key = %v, Err %v, want nil, nil", err, other.Err)
	}
	select {
	case err := <-over:
		t.Errorf("Commit() with a key that is held = %v, want it to wait", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := own.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := <-over; err != nil || again.Err != nil || free.Err != nil {
		t.Fatalf("Commit() once the key is free = %v, Err %v and %v, want nil", err, again.Err, free.Err)
	}
	if again.Sends[0].Pos <= first[0].Pos || free.Sends[0].Pos >= again.Sends[0].Pos {
		t.Errorf("positions: first %d, again %d, free %d, want again above both", first[0].Pos, again.Sends[0].Pos, free.Sends[0].Pos)
	}
}

// A restored or failed-over database is noticed: it gets a new incarnation, positions go on
// above all known ones, and what was late is not skipped.
func TestRebirth(t *testing.T) {
	h, s, queue := processes(t, 1)
	own, err := h.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	late := keyed(1, "late")
	if err := s[0].AppendIn(t.Context(), own.Tx, &store.Change{Sends: late}); err != nil {
		t.Fatalf("AppendIn() = %v, want nil", err)
	}
	send(t, s[0], keyed(1, "early")...)
	b := claimSome(t, s[0], queue, 9)
	if b == nil || doneAll(t, s[0], b) != nil || own.Commit() != nil {
		t.Fatalf("claim, settle and commit the late one: batch %+v", b)
	}
	before := s[0].Info().Incarnation
	for _, life := range []string{"", "another/00000001/7"} {
		want := life != ""
		if life != "" {
			if _, err := h.db.Exec(t.Context(), "update "+h.schema+".meta set v = $1 where k = 'life'", life); err != nil {
				t.Fatal(err)
			}
		}
		st, err := DB(dsn(t)+" pool_max_conns=4", Schema(h.schema))(t.Context())
		if err != nil {
			t.Fatalf("open in another life = %v, want nil", err)
		}
		reborn := st.(*Store)
		t.Cleanup(func() { _ = reborn.Close() })
		if got := reborn.Info().Incarnation != before; got != want {
			t.Fatalf("open in life %q: incarnation %s after %s, want a new one: %t", life, reborn.Info().Incarnation, before, want)
		}
		if !want {
			continue
		}
		if err := reborn.Begin(t.Context(), &store.Process{Host: "here"}); err != nil {
			t.Fatal(err)
		}
		fresh := keyed(1, "late")
		send(t, reborn, fresh...)
		if seqOf(int64(fresh[0].Pos))-seqOf(int64(late[0].Pos)) < lifeSkip {
			t.Errorf("position after a rebirth = %d, want far above %d", fresh[0].Pos, late[0].Pos)
		}
		b := claimSome(t, reborn, queue, 9)
		if b == nil || len(b.Deliveries) != 2 || b.Deliveries[0].Message.Pos != late[0].Pos || b.Deliveries[1].Message.Pos != fresh[0].Pos {
			t.Fatalf("Claim() after a rebirth = %+v, want the late message and the new one", b)
		}
		if b := claimSome(t, reborn, queue, 9); b != nil {
			t.Errorf("Claim() again = %d messages, want none", len(b.Deliveries))
		}
	}
}

// A server that would lose what it commits is refused, by the setting's name.
func TestUnsafeServer(t *testing.T) {
	h := openHarness(t, nil).(*harness)
	loose := dsn(t) + " options='-c synchronous_commit=off'"
	if _, err := DB(loose, Schema(h.schema))(t.Context()); err == nil || !strings.Contains(err.Error(), "synchronous_commit is off") {
		t.Errorf("open with synchronous_commit=off = %v, want a refusal that names it", err)
	}
	st, err := DB(loose, Schema(h.schema), Unsafe())(t.Context())
	if err != nil {
		t.Fatalf("open with synchronous_commit=off and Unsafe = %v, want nil", err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}
