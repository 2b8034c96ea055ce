package weir_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/transport"
)

// A follower in another store begins with a snapshot and goes on with events.
func TestReplicaAcrossStores(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		p := newTandem(t, wires(t))
		p.owner.up()
		t.Cleanup(func() { p.owner.stop() })
		own, e := p.owner.own, p.owner.engine
		if err := own.PutAll(ctx, e, manyGuests(900)); err != nil {
			t.Fatal(err)
		}
		put(t, own, e, guest{"g0001", "", 1001}, guest{ID: "gone"})
		if err := own.Delete(ctx, e, "gone"); err != nil {
			t.Fatal(err)
		}
		p.follower.up()
		t.Cleanup(func() { p.follower.stop() })
		r := p.follower.replica
		eventually(t, "the replica is loaded", r.Loaded)
		if r.Len() != 900 {
			t.Errorf("Len when loaded = %d, want 900", r.Len())
		}
		sees(t, r, guest{"g0001", "", 1001})
		put(t, own, e, guest{"g0002", "", 1002}, guest{"new", "", 1})
		if err := own.Delete(ctx, e, "g0003"); err != nil {
			t.Fatal(err)
		}
		sees(t, r, guest{"g0002", "", 1002})
		got := sees(t, r, guest{"new", "", 1})
		if owned, err := own.Get(ctx, "new"); err != nil || owned.Version != got.Version || !owned.AsOf.Equal(got.AsOf) {
			t.Errorf("the follower has %+v, the owner %+v, %v", got, owned, err)
		}
		eventually(t, "what was deleted is gone", func() bool {
			none, ok := errors.AsType[*weir.NoEntryError](second(r.Get("g0003")))
			return ok && none.Deleted
		})
		p.converged()
		if fig := r.Figures(); fig.Follows != "desk" || fig.Resyncs != 0 || fig.Deleted != 2 || fig.Syncing {
			t.Errorf("Figures = %+v", fig)
		}
	})
}

// In a store of several boundaries one of them follows: which one is said.
func TestReplicaOfOneOfSeveral(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTandem(t, wires(t))
		p.beside, p.as = []string{"bar"}, []weir.FollowOption{weir.As("desk")}
		p.begin()
		put(t, p.owner.own, p.owner.engine, guest{"ann", "", 1})
		p.converged()
		if e, err := p.follower.replica.Refresh(t.Context(), "ann"); err != nil || e.Value.N != 1 {
			t.Errorf("Refresh = %+v, %v", e, err)
		}
		if by := p.follower.replica.Figures().Follows; by != "desk" {
			t.Errorf("%q follows, want desk", by)
		}
	})
}

// renew tells a store that it is a restored copy.
func renew(t testing.TB, file string) {
	t.Helper()
	st, err := sqlite.File(file)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = st.Operate(t.Context(), store.Act{Verb: store.RenewStore, By: "test", Why: "restored"})
	if err := errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
}

// An owner that was restored from an older copy has forgotten what it did since. Its followers become what it is
// now, and no version goes back: not of what was changed, nor of what was created, nor of what was deleted.
func TestReplicaOfARestoredOwner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		p := newTandem(t, wires(t))
		p.beat = 50 * time.Millisecond
		p.begin()
		stop := p.watch(1, time.Millisecond)
		put(t, p.owner.own, p.owner.engine, guest{"changed", "", 1}, guest{"deleted", "", 1}, guest{"kept", "", 1}, guest{"changed-again", "", 1}, guest{"another", "", 1})
		p.converged()
		p.owner.stop()
		backup := newFile(t)
		copyFile(t, p.ownFile, backup)
		p.owner.up()
		put(t, p.owner.own, p.owner.engine, guest{"another", "", 2}, guest{"changed", "", 2}, guest{"created", "", 2}, guest{"changed-again", "", 2})
		if err := p.owner.own.Delete(ctx, p.owner.engine, "deleted"); err != nil {
			t.Fatal(err)
		}
		p.converged()
		before := allStates(t, p.follower.engine, deskGuests.Name())
		p.owner.stop()
		copyFile(t, backup, p.ownFile)
		p.owner.up() // nobody has told it: it gives out versions again
		put(t, p.owner.own, p.owner.engine, guest{"another", "", 3}, guest{"created", "", 9})
		if err := p.owner.own.Delete(ctx, p.owner.engine, "created"); err != nil {
			t.Fatal(err)
		}
		p.owner.stop()
		renew(t, p.ownFile)
		p.owner.up()
		put(t, p.owner.own, p.owner.engine, guest{"changed-again", "", 3})
		p.converged()
		after := allStates(t, p.follower.engine, deskGuests.Name())
		for id, b := range before {
			if a := after[id]; a.Version < b.Version || id != "kept" && a.Version == b.Version {
				t.Errorf("%s went from version %d to %d", id, b.Version, a.Version)
			}
		}
		for _, want := range []guest{{"another", "", 3}, {"changed", "", 1}, {"deleted", "", 1}, {"kept", "", 1}, {"changed-again", "", 3}} {
			sees(t, p.follower.replica, want)
		}
		if _, err := p.follower.replica.Get("created"); !errors.Is(err, weir.ErrNotFound) {
			t.Errorf("Get of what the owner has forgotten = %v, want ErrNotFound", err)
		}
		stop()
		put(t, p.owner.own, p.owner.engine, guest{"changed", "", 4}, guest{"created", "", 4})
		sees(t, p.follower.replica, guest{"changed", "", 4})
		sees(t, p.follower.replica, guest{"created", "", 4})
	})
}

// What was deleted, whose tombstone was pruned at both sides, and is made again has a higher version still.
func TestReplicaAfterThePrunedTombstone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTandem(t, wires(t))
		p.begin()
		put(t, p.owner.own, p.owner.engine, guest{"ann", "", 1}, guest{"bob", "", 1})
		was := sees(t, p.follower.replica, guest{"ann", "", 1})
		if err := p.owner.own.Delete(t.Context(), p.owner.engine, "ann"); err != nil {
			t.Fatal(err)
		}
		put(t, p.owner.own, p.owner.engine, guest{"bob", "", 2}) // the newest is never pruned
		sees(t, p.follower.replica, guest{"bob", "", 2})
		p.converged()
		p.owner.stop()
		p.follower.stop()
		prune(t, p.ownFile)
		prune(t, p.file)
		p.owner.up()
		p.follower.up()
		eventually(t, "the replica is loaded", p.follower.replica.Loaded)
		if s := allStates(t, p.follower.engine, deskGuests.Name()); len(s) != 1 {
			t.Errorf("%d states after pruning, want 1: %v", len(s), s)
		}
		put(t, p.owner.own, p.owner.engine, guest{"ann", "", 3})
		if e := sees(t, p.follower.replica, guest{"ann", "", 3}); e.Version <= was.Version {
			t.Errorf("made anew it has version %d, want above %d", e.Version, was.Version)
		}
		p.converged()
	})
}

// Refresh gives what the owner has, of many callers at once, and of what there is not.
func TestRefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		p := newTandem(t, wires(t))
		p.begin()
		r, own := p.follower.replica, p.owner.own
		put(t, own, p.owner.engine, guest{"ann", "", 1})
		eventually(t, "the replica is loaded", r.Loaded)
		for n := range 20 {
			put(t, own, p.owner.engine, guest{"ann", "", n + 2})
			if e, err := r.Refresh(ctx, "ann"); err != nil || e.Value.N != n+2 {
				t.Fatalf("Refresh after Put of %d = %+v, %v", n+2, e, err)
			}
		}
		before := r.Figures().Refreshes
		var callers sync.WaitGroup
		for i := range 200 {
			callers.Go(func() {
				id := []string{"ann", "nobody", "another"}[i%3]
				if _, err := r.Refresh(ctx, id); (err == nil) != (id == "ann") || err != nil && !errors.Is(err, weir.ErrNotFound) {
					t.Errorf("Refresh(%s) = %v", id, err)
				}
			})
		}
		callers.Wait()
		if n := r.Figures().Refreshes - before; n > 60 {
			t.Errorf("%d questions for 200 callers, want a few", n)
		}
		if _, err := r.Refresh(ctx, ""); err == nil {
			t.Error("Refresh without an id gave no error")
		}
		p.owner.stop()
		soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if _, err := r.Refresh(soon, "ann"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Refresh of an owner that is away = %v, want the context's error", err)
		}
		p.owner.up()
		if e, err := r.Refresh(ctx, "ann"); err != nil || e.Value.N != 21 {
			t.Errorf("Refresh of an owner that is back = %+v, %v", e, err)
		}
	})
}

// What was deleted at the owner while the follower missed its events is removed by a resync, and only that.
func TestReplicaSweeps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		p := newTandem(t, wires(t))
		p.begin()
		if err := p.owner.own.PutAll(ctx, p.owner.engine, manyGuests(700)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all have come", func() bool { return p.follower.replica.Len() == 700 })
		// The follower has what the owner never had, or has forgotten, tombstones and all.
		p.follower.stop()
		st, err := sqlite.File(p.file)(ctx)
		if err != nil {
			t.Fatal(err)
		}
		ch := &store.Change{}
		for _, id := range []string{"a", "g0350x", "z"} {
			ch.States = append(ch.States, store.State{Entity: deskGuests.Name(), Key: id, Version: 77, Contract: 1, AsOf: time.Now(), Body: []byte(`{}`)})
		}
		if err := errors.Join(st.Commit(ctx, &store.Group{Changes: []*store.Change{ch}}), ch.Err, st.Close()); err != nil {
			t.Fatal(err)
		}
		p.follower.up()
		eventually(t, "what the owner has not is there", func() bool { return p.follower.replica.Len() == 703 })
		if err := p.follower.replica.Resync(ctx); err != nil {
			t.Fatal(err)
		}
		p.converged()
		if fig := p.follower.replica.Figures(); fig.Live != 700 || fig.Deleted != 3 || fig.Resyncs != 1 {
			t.Errorf("Figures = %+v, want 700 live, 3 deleted, 1 resync", fig)
		}
	})
}

// prune deletes all that a store need not keep, as retention does after a long time.
func prune(t testing.TB, file string) {
	t.Helper()
	st, err := sqlite.File(file)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for more := true; more && err == nil; {
		var p store.Pruned
		p, err = st.Prune(t.Context(), store.Retention{Keep: time.Nanosecond, Max: 1000})
		more = p.More
	}
	if err := errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
}

// A follower that was away for so long that its subscription was parked, and retention took what it missed, is
// told of the gap and resyncs.
func TestReplicaAfterAGap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		p := newTandem(t, wires(t))
		p.beat, p.capacity = 200*time.Millisecond, 5 // a first page may come two seconds late, and is asked for again after 30 beats
		p.begin()
		put(t, p.owner.own, p.owner.engine, guest{"gone", "", 1}, guest{"changed", "", 1}, guest{"kept", "", 1})
		p.converged()
		p.follower.stop()
		p.owner.stop()
		p.owner.up() // it claims nothing for a follower of whom it has not heard
		for n := range 20 {
			put(t, p.owner.own, p.owner.engine, guest{"changed", "", n + 2})
		}
		if err := p.owner.own.Delete(ctx, p.owner.engine, "gone"); err != nil {
			t.Fatal(err)
		}
		put(t, p.owner.own, p.owner.engine, guest{"last", "", 1})
		const subscription = "front.guest@desk"
		eventually(t, "the subscription is parked", func() bool { return figures(t, p.owner.engine, subscription).Parked })
		p.owner.stop()
		time.Sleep(time.Second) // else nothing is old enough
		prune(t, p.ownFile)
		p.owner.up()
		if err := p.owner.engine.ResumeQueue(ctx, subscription, weir.Because{By: "test", Why: "it is back"}); err != nil {
			t.Fatal(err)
		}
		p.follower.up()
		p.converged()
		if n := figures(t, p.owner.engine, subscription).Gaps; n == 0 {
			t.Errorf("there is no gap: the test tests nothing: %+v", p.follower.replica.Figures())
		}
		if fig := p.follower.replica.Figures(); fig.Resyncs != 1 || fig.Live != 3 || !strings.Contains(fig.Why, "gap") {
			t.Errorf("Figures = %+v, want one resync, for the gap, and 3 live", fig)
		}
	})
}

// deaf is a wire on which wishes for events are lost while it is.
type deaf struct {
	transport.Transport
	is atomic.Bool
}

func (d *deaf) Notify(ctx context.Context, to string, n transport.Note) error {
	if d.is.Load() && n.Kind == "subscribe" {
		return nil
	}
	return d.Transport.Notify(ctx, to, n)
}

// The snapshot waits until events come: else what changes between the two would be in neither.
func TestSnapshotWaitsForTheSubscription(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ends := wires(t)
		d := &deaf{Transport: ends[1]}
		d.is.Store(true)
		p := newTandem(t, [2]transport.Transport{ends[0], d})
		p.begin()
		put(t, p.owner.own, p.owner.engine, guest{"ann", "", 1})
		time.Sleep(5 * time.Second)
		if p.follower.replica.Loaded() {
			t.Error("the replica is loaded, though no event would come")
		}
		put(t, p.owner.own, p.owner.engine, guest{"bob", "", 1})
		d.is.Store(false)
		p.converged()
		put(t, p.owner.own, p.owner.engine, guest{"cid", "", 1})
		sees(t, p.follower.replica, guest{"cid", "", 1})
	})
}

// The owner says from time to time how far it is: so a replica knows how stale it is, and fetches what does not come.
func TestReplicaStaleness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTandem(t, wires(t))
		p.begin()
		put(t, p.owner.own, p.owner.engine, guest{"ann", "", 1})
		p.converged()
		r := p.follower.replica
		for range 6 {
			time.Sleep(10 * time.Second)
			if s := r.Figures().Staleness(); s > 11*time.Second {
				t.Errorf("Staleness while all is well = %v, want at most 10 s", s)
			}
		}
		// A version of which no event tells, as if it had been lost for good.
		st, err := sqlite.File(p.ownFile)(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ch := &store.Change{States: []store.State{{
			Entity: deskGuests.Name(), Key: "bob", Version: r.Figures().Newest + 1_000, Contract: 1, AsOf: time.Now(), Body: []byte(`{"ID":"bob","N":7}`),
		}}}
		if err := errors.Join(st.Commit(t.Context(), &store.Group{Changes: []*store.Change{ch}}), ch.Err, st.Close()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(55 * time.Second)
		if fig := r.Figures(); fig.Staleness() < 40*time.Second || time.Since(fig.HeardAt) > 11*time.Second || fig.Resyncs != 0 {
			t.Errorf("Figures while a version is missing = %+v, want it to be stale, the owner to be heard, and no resync yet", fig)
		}
		time.Sleep(35 * time.Second)
		sees(t, r, guest{"bob", "", 7})
		if fig := r.Figures(); fig.Resyncs != 1 || !strings.Contains(fig.Why, "newest version") {
			t.Errorf("Figures = %+v, want one resync, for what did not come", fig)
		}
		p.owner.stop()
		time.Sleep(5 * time.Minute)
		if fig := r.Figures(); fig.Staleness() < 4*time.Minute || time.Since(fig.HeardAt) < 4*time.Minute {
			t.Errorf("Figures 5 minutes after the owner has gone = %+v", fig)
		}
		if e, err := r.Get("bob"); err != nil || e.Value.N != 7 {
			t.Errorf("Get of an owner that is away = %+v, %v", e, err)
		}
		p.owner.up()
	})
}

// What is not known is not fresh: a follower that has come back says when it was last equal with an owner that is away, and one
// that never was is as stale as can be.
func TestReplicaStalenessAfterRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newTandem(t, wires(t))
		p.follower.up()
		t.Cleanup(func() { p.follower.stop() })
		if fig := p.follower.replica.Figures(); fig.Staleness() != math.MaxInt64 || fig.Loaded {
			t.Errorf("Staleness of a replica that has never heard of its owner = %v, want the largest there is", fig.Staleness())
		}
		p.owner.up()
		put(t, p.owner.own, p.owner.engine, guest{"ann", "", 1})
		p.converged()
		time.Sleep(2 * time.Minute)
		p.owner.stop()
		gone := time.Now()
		time.Sleep(10 * time.Minute)
		for range 2 {
			p.follower.stop()
			p.follower.up()
			r := p.follower.replica
			eventually(t, "the replica is loaded", r.Loaded)
			fig := r.Figures()
			if away := time.Since(gone); fig.Staleness() < away || fig.Staleness() > away+2*time.Minute {
				t.Errorf("Staleness after a restart, %v after the owner has gone = %v", away, fig.Staleness())
			}
			if !fig.HeardAt.IsZero() {
				t.Errorf("HeardAt = %v, want none: the owner is away", fig.HeardAt)
			}
			time.Sleep(10 * time.Minute)
		}
		p.owner.up()
		t.Cleanup(func() { p.owner.stop() })
		eventually(t, "the replica is fresh again", func() bool { return p.follower.replica.Figures().Staleness() < 11*time.Second })
	})
}
