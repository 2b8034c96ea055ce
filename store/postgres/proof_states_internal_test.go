package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-go/weir/store"
)

const stateEntity = "customers.customer"

// put is a change that tells of a new state, as its owner makes it; but for the message's key, so that nothing keeps
// writers of a state apart.
func put(key string, body string) *store.Change {
	m := &store.Message{Topic: stateEntity, Kind: store.KindEvent, Version: 1, Body: []byte(body)}
	return &store.Change{Sends: []*store.Message{m}, States: []store.State{{Entity: stateEntity, Key: key, Of: m, Contract: 1, Body: m.Body}}}
}

// proveStates has eight writers put states of a few keys, in two processes and in transactions of callers, and a
// follower read what changes, a page at a time: the newest states stay, and none is missed.
func proveStates(t testing.TB, spoil func(*Store)) {
	h, stores, _ := twins(t, spoil)
	const writers, puts, keys = 8, 30, 5
	var mu sync.Mutex
	newest := map[string]store.State{}
	note := func(st store.State) {
		mu.Lock()
		defer mu.Unlock()
		if st.Version > newest[st.Key].Version {
			newest[st.Key] = st
		}
	}
	var working sync.WaitGroup
	for w := range writers {
		working.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			for n := range puts {
				ch := put(fmt.Sprint("key ", random.IntN(keys)), fmt.Sprint(w, " ", n))
				if err := putBy(t.Context(), h, stores[w%2], ch, w%4 == 0); err != nil {
					t.Errorf("put a state = %v, want nil", err)
					return
				}
				note(ch.States[0])
			}
		})
	}
	over := make(chan struct{})
	go func() {
		working.Wait()
		close(over)
	}()
	followed := follow(t, stores[0], over)
	for key, want := range newest {
		got, err := stores[1].Reader().Exchange().State(t.Context(), stateEntity, key)
		if err != nil || got.Version != want.Version || string(got.Body) != string(want.Body) || !got.AsOf.Equal(want.AsOf) {
			t.Errorf("State(%s) = version %d, %q, %v, want version %d, %q", key, got.Version, got.Body, err, want.Version, want.Body)
		}
		if followed[key].Version != want.Version {
			t.Errorf("Changes() ended with version %d of %s, want %d", followed[key].Version, key, want.Version)
		}
	}
}

// putBy commits a change, or appends it in a transaction that stays open for a while.
func putBy(ctx context.Context, h *harness, s *Store, ch *store.Change, own bool) error {
	if !own {
		return commitOne(ctx, s, ch)
	}
	return pgx.BeginFunc(ctx, h.db, func(tx pgx.Tx) error {
		if err := s.AppendIn(ctx, Tx(tx), ch); err != nil {
			return err
		}
		pauseFor(rand.IntN(10))
		return nil
	})
}

// follow reads changes until there are none, after it is over: the newest of each key.
func follow(t testing.TB, s *Store, over <-chan struct{}) map[string]store.State {
	t.Helper()
	seen, mark := map[string]store.State{}, ""
	for last := false; ; {
		states, next, err := s.Reader().Exchange().Changes(t.Context(), stateEntity, mark, 2)
		if err != nil {
			t.Fatalf("Changes(%q) = %v, want nil", mark, err)
		}
		mark = next
		for _, st := range states {
			if st.Version > seen[st.Key].Version {
				seen[st.Key] = st
			}
		}
		if len(states) > 0 {
			continue
		}
		if last {
			return seen
		}
		select {
		case <-over:
			last = true
		default:
		}
	}
}

// proveLate has a state written by a transaction that commits after later ones, and after a follower has read those.
func proveLate(t testing.TB, spoil func(*Store)) {
	h, stores, _ := twins(t, spoil)
	l := &life{TB: t, h: h, s: stores[0]}
	read := stores[1].Reader().Exchange()
	mark := ""
	want := func(when, keys string) {
		t.Helper()
		var got string
		for range 9 {
			states, next, err := read.Changes(t.Context(), stateEntity, mark, 1)
			if err != nil {
				t.Fatalf("%s: Changes() = %v, want nil", when, err)
			}
			mark = next
			if len(states) == 0 {
				break
			}
			got += states[0].Key
		}
		if got != keys {
			t.Errorf("%s: Changes() = %q, want %q", when, got, keys)
		}
	}
	late := l.open(put("a", "late"))
	for _, key := range []string{"b", "c"} {
		if err := commitOne(t.Context(), stores[0], put(key, "early")); err != nil {
			t.Fatal(err)
		}
	}
	states, next, err := read.Changes(t.Context(), stateEntity, mark, 1)
	if mark = next; err != nil || len(states) != 1 || states[0].Key != "b" {
		t.Fatalf("Changes() = %+v, %v, want b", states, err)
	}
	late() // between two pages
	want("after the late one, in the midst of pages", "ca")
	want("again", "")
	later := l.open(put("d", "later"))
	if err := commitOne(t.Context(), stores[0], put("b", "again")); err != nil {
		t.Fatal(err)
	}
	want("beside an open one", "b")
	later()
	want("after that", "d")
	mark = ""
	want("from the beginning", "acdb")
}

// proveOld has a state written that has its version from before a newer one was committed.
func proveOld(t testing.TB, spoil func(*Store)) {
	_, stores, _ := twins(t, spoil)
	inside, newer, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	old, fresh := put("a", "old"), put("a", "new")
	old.Closures = []store.Closure{func(context.Context, store.Tx) error {
		close(inside)
		<-newer
		return nil
	}}
	go func() { done <- commitOne(context.WithoutCancel(t.Context()), stores[0], old) }()
	<-inside
	if err := commitOne(t.Context(), stores[1], fresh); err != nil || !fresh.States[0].Applied {
		t.Errorf("Commit(a newer state) = %v, applied %t, want nil, true", err, fresh.States[0].Applied)
	}
	close(newer)
	if err := <-done; err != nil || old.States[0].Applied || old.States[0].Version >= fresh.States[0].Version {
		t.Errorf("Commit(an older state) = %v, applied %t, version %d, want nil, false, below %d", err, old.States[0].Applied, old.States[0].Version, fresh.States[0].Version)
	}
	if got, err := stores[0].Reader().Exchange().State(t.Context(), stateEntity, "a"); err != nil || string(got.Body) != "new" {
		t.Errorf("State(a) = %q, %v, want the newer", got.Body, err)
	}
}

// open begins a transaction that has written a change, and returns what commits it.
func (l *life) open(ch *store.Change) (commit func()) {
	l.Helper()
	tx, err := l.h.db.Begin(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	if err := l.s.AppendIn(l.Context(), Tx(tx), ch); err != nil {
		l.Fatal(err)
	}
	return func() {
		if err := tx.Commit(l.Context()); err != nil {
			l.Fatal(err)
		}
	}
}

// Counts of entities stay what they are while writers make and delete states, and others fold them.
func TestEntitiesAreCounted(t *testing.T) {
	t.Parallel()
	h, stores, _ := twins(t, func(*Store) {})
	const writers, puts, keys = 4, 80, 10
	var working, folding sync.WaitGroup
	over := make(chan struct{})
	for w := range writers {
		working.Go(func() {
			for n := range puts {
				ch := put(fmt.Sprint(w, " ", n%keys), "x")
				ch.States = append(ch.States, store.State{Entity: "customers.card", Key: fmt.Sprint(w), Version: int64(n + 1), Contract: 1, AsOf: time.Now()})
				if n/keys%2 == 1 {
					ch.States[0].Deleted, ch.States[0].Body = true, nil
				}
				if err := putBy(t.Context(), h, stores[w%2], ch, n%8 == 0); err != nil {
					t.Errorf("put a state = %v, want nil", err)
					return
				}
			}
		})
	}
	for _, s := range stores {
		folding.Go(func() {
			for {
				if err := s.foldEntities(t.Context()); err != nil {
					t.Errorf("foldEntities() = %v, want nil", err)
				}
				select {
				case <-over:
					return
				default:
				}
			}
		})
	}
	working.Wait()
	close(over)
	folding.Wait()
	rows, err := stores[0].Reader().Exchange().Entities(t.Context())
	if err != nil || len(rows) != 2 || rows[0].Live != writers || rows[0].Deleted != 0 || rows[1].Live != 0 || rows[1].Deleted != writers*keys {
		t.Errorf("Entities() = %+v, %v, want %d cards, and %d customers that are deleted", rows, err, writers, writers*keys)
	}
	if found, err := stores[0].Reader().Check(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("Check() = %+v, %v, want none", found, err)
	}
	var left int
	if err := h.db.QueryRow(t.Context(), inSchema("select count(*) from weir.entity_tally", h.schema)).Scan(&left); err != nil || left > entityRows+writers*keys {
		t.Errorf("%d rows of counts, %v, want them folded at %d", left, err, entityRows)
	}
	if _, err := h.db.Exec(t.Context(), inSchema("insert into weir.entity_tally values ('customers.card', 1, 0)", h.schema)); err != nil {
		t.Fatal(err)
	}
	found, err := stores[0].Reader().Check(t.Context())
	if err != nil || len(found) != 1 || !strings.Contains(found[0].What, "the counters of customers.card") {
		t.Errorf("Check() = %+v, %v, want one that names the counters", found, err)
	}
}

// A transaction of a caller's that has written a state, and is forgotten, holds up who writes the same one: not the
// others of their group.
func TestForgottenStateHoldsUpItsOwn(t *testing.T) {
	t.Parallel()
	h, stores, _ := twins(t, func(*Store) {})
	l := &life{TB: t, h: h, s: stores[0]}
	follower := func(key string, version int64) *store.Change {
		return &store.Change{States: []store.State{{Entity: stateEntity, Key: key, Version: version, Contract: 1, AsOf: time.Now(), Body: []byte("f")}}}
	}
	commit := l.open(follower("a", 7))
	same, other := follower("a", 8), follower("b", 1)
	g := &store.Group{Changes: []*store.Change{same, other}, Held: store.HeldIsRefused}
	if err := stores[1].Commit(t.Context(), g); err != nil || !errors.Is(same.Err, store.ErrKeyHeld) || other.Err != nil || !other.States[0].Applied {
		t.Errorf("Commit(the state held, another) = %v, Err %v and %v, want ErrKeyHeld and nil", err, same.Err, other.Err)
	}
	commit()
	if err := commitOne(t.Context(), stores[1], same); err != nil || !same.States[0].Applied {
		t.Errorf("Commit(the state that was held) = %v, applied %t, want nil, true", err, same.States[0].Applied)
	}
}
