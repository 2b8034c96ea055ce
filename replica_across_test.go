package weir_test

import (
	"errors"
	"testing"

	"github.com/weir-go/weir"
)

// A follower in another store begins with a snapshot and goes on with events.
func TestReplicaAcrossStores(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	p := newPair(t, wires(t))
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
}
