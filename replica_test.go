package weir_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
)

// guest is an entity of the staff's.
type guest struct {
	ID   string
	Name string
	N    int
}

func (g guest) id() string { return g.ID }

var guests = weir.NewEntity[guest]("staff.guest", weir.KeyedBy(guest.id))

// put puts guests, one by one.
func put(t testing.TB, o *weir.Owned[guest], s weir.Sender, all ...guest) {
	t.Helper()
	for _, g := range all {
		if err := o.Put(context.Background(), s, g.ID, g); err != nil {
			t.Fatalf("Put(%+v) = %v", g, err)
		}
	}
}

// sees waits until a replica has an entity as it should be.
func sees(t testing.TB, r *weir.Replica[guest], want guest) weir.Entry[guest] {
	t.Helper()
	var e weir.Entry[guest]
	eventually(t, fmt.Sprintf("the replica has %+v", want), func() bool {
		var err error
		e, err = r.Get(want.ID)
		return err == nil && e.Value == want
	})
	return e
}

// The owner's process sees its own change as soon as Put has returned.
func TestReplicaInOneStore(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e := openEngine(t, newFile(t), weir.Config{})
	own, r := weir.Own(e, guests), weir.Follow(e, guests)
	if _, err := r.Get("ann"); !errors.Is(err, weir.ErrNotLoaded) {
		t.Errorf("Get before Run = %v, want ErrNotLoaded", err)
	}
	run(t, e)
	eventually(t, "the replica is loaded", r.Loaded)
	_, err := r.Get("ann")
	none, ok := errors.AsType[*weir.NoEntryError](err)
	if !ok || none.Deleted || !errors.Is(err, weir.ErrNotFound) {
		t.Errorf("Get of what never was = %v, want a *NoEntryError that is ErrNotFound, not deleted", err)
	}
	put(t, own, e, guest{"ann", "Ann", 1})
	first, err := r.Get("ann")
	if err != nil || first.Value.N != 1 || first.Version == 0 || first.Age() < 0 || first.Age() > time.Minute {
		t.Errorf("Get = %+v, %v, want number 1, just made", first, err)
	}
	put(t, own, e, guest{"ann", "Ann", 2})
	if second, err := r.Get("ann"); err != nil || second.Value.N != 2 || second.Version <= first.Version {
		t.Errorf("Get after another Put = %+v, %v, want number 2 and a version above %d", second, err, first.Version)
	}
	if err := own.Delete(ctx, e, "ann"); err != nil {
		t.Fatal(err)
	}
	_, err = r.Get("ann")
	if none, ok = errors.AsType[*weir.NoEntryError](err); !ok || !none.Deleted || none.Version <= first.Version || none.Age() > time.Minute {
		t.Errorf("Get of a deleted one = %#v, want a *NoEntryError that says so", err)
	}
	put(t, own, e, guest{"ann", "Ann", 3})
	if again, err := r.Get("ann"); err != nil || again.Version <= none.Version {
		t.Errorf("Get of one made anew = %+v, %v, want a version above the tombstone's %d", again, err, none.Version)
	}
	if got, err := own.Get(ctx, "ann"); err != nil || got.Value.N != 3 {
		t.Errorf("Owned.Get = %+v, %v, want number 3", got, err)
	}
	if fig := r.Figures(); fig.Live != 1 || fig.Deleted != 0 || fig.Follows != "" || fig.FreshAt.IsZero() || fig.Newest == 0 || fig.Staleness() > time.Minute {
		t.Errorf("Figures = %+v", fig)
	}
	if r.Len() != 1 || len(maps.Collect(r.All())) != 1 {
		t.Errorf("Len = %d and All gives %d, want 1", r.Len(), len(maps.Collect(r.All())))
	}
	if refreshed, err := r.Refresh(ctx, "ann"); err != nil || refreshed.Value.N != 3 {
		t.Errorf("Refresh = %+v, %v, want number 3", refreshed, err)
	}
}

// A change of an entity and the event that tells of it commit with whatever they are sent by, or not at all.
func TestPutBySender(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	file := newFile(t)
	e := openEngine(t, file, weir.Config{})
	own, r := weir.Own(e, guests), weir.Follow(e, guests)
	failing := errors.New("not now")
	weir.Handle(e, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
		if err := own.Put(ctx, m, "handled", guest{"handled", "", m.Attempt}); err != nil {
			return err
		}
		if m.Attempt == 1 {
			return failing
		}
		return own.Delete(ctx, m, "gone")
	}, weir.Queue{Retry: quick})
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		for n := range 2 {
			if err := own.Put(r.Context(), r, "run", guest{"run", "", n + 1}); err != nil {
				return plate{}, err
			}
		}
		weir.Sleep(r, "digest", time.Millisecond)
		return plate{}, own.PutAll(r.Context(), r, map[string]guest{"run": {"run", "", 3}, "other": {"other", "", 3}})
	})
	put(t, own, e, guest{"gone", "", 1})
	run(t, e)
	send(t, e, clean, ticket{})
	if _, err := weir.Start(ctx, e, dine, "1", ticket{}); err != nil {
		t.Fatal(err)
	}
	db := openTable(t, file, effects)
	for n, end := range []func(*sql.Tx) error{(*sql.Tx).Rollback, (*sql.Tx).Commit} {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		put(t, own, e.In(sqlite.Tx(tx)), guest{"in", "", n})
		if err := end(tx); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []guest{{"handled", "", 2}, {"run", "", 3}, {"other", "", 3}, {"in", "", 1}} {
		sees(t, r, want)
	}
	eventually(t, "gone is deleted", func() bool {
		none, ok := errors.AsType[*weir.NoEntryError](second(r.Get("gone")))
		return ok && none.Deleted
	})
	list, err := e.Messages(ctx, weir.MessageQuery{Topic: guests.Name()})
	var got []string
	for _, m := range list {
		got = append(got, m.Key)
	}
	slices.Sort(got)
	if want := []string{"gone", "gone", "handled", "in", "other", "run", "run", "run"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("events of %q, %v, want %q: one for each change that was committed", got, err, want)
	}
}

// What makes no sense is refused before anything is written.
func TestPutRefusals(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e, other := openEngine(t, newFile(t), weir.Config{MaxBody: 100}), openEngine(t, newFile(t), weir.Config{})
	own := weir.Own(e, guests)
	plates := weir.Own(e, weir.NewEntity[plate]("staff.plate"))
	for what, c := range map[string]struct {
		err  error
		want string
	}{
		"another engine's sender":     {own.Put(ctx, other, "a", guest{ID: "a"}), "another engine"},
		"another id than the value's": {own.Put(ctx, e, "a", guest{ID: "b"}), `has the id "b"`},
		"no id in the value":          {own.Put(ctx, e, "", guest{}), "1 to 512 bytes"},
		"no id":                       {plates.Put(ctx, e, "", plate{}), "1 to 512 bytes"},
		"no UTF-8":                    {plates.Put(ctx, e, "\xff", plate{}), "1 to 512 bytes"},
		"a long id":                   {plates.Delete(ctx, e, strings.Repeat("x", 513)), "1 to 512 bytes"},
		"too large":                   {own.Put(ctx, e, "a", guest{ID: "a", Name: strings.Repeat("x", 100)}), "at most 100"},
		"too many":                    {own.PutAll(ctx, e, manyGuests(1001)), "at most 1000"},
		"a bad name":                  {weir.Own(e, weir.NewEntity[plate]("plate")).Put(ctx, e, "a", plate{}), "owner.name"},
		"a long name":                 {weir.Own(e, weir.NewEntity[plate]("staff."+strings.Repeat("x", 150))).Put(ctx, e, "a", plate{}), "at most 150"},
		"another's":                   {weir.Own(e, weir.NewEntity[plate]("bar.plate")).Put(ctx, e, "a", plate{}), `Config.Owns has no "bar"`},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", what, c.err, c.want)
		}
	}
	put(t, own, e, guest{ID: "last"})
	if err := own.Put(ctx, e, "", guest{ID: "in-the-value"}); err != nil {
		t.Errorf("Put without an id of one that has it in its value = %v", err)
	}
	if list, err := e.Messages(ctx, weir.MessageQuery{}); err != nil || len(list) != 2 {
		t.Errorf("%d messages, %v, want 2: what was refused left nothing", len(list), err)
	}
}

func manyGuests(n int) map[string]guest {
	all := make(map[string]guest, n)
	for i := range n {
		id := fmt.Sprintf("g%04d", i)
		all[id] = guest{ID: id, N: i}
	}
	return all
}

// Wiring that makes no sense is reported by Run.
func TestReplicaWiring(t *testing.T) {
	t.Parallel()
	remote := weir.NewEntity[guest]("bar.guest")
	for want, wire := range map[string]func(e *weir.Engine){
		`add it to Config.Routes`:              func(e *weir.Engine) { weir.Follow(e, remote) },
		`Config.Owns has no such boundary`:     func(e *weir.Engine) { weir.Follow(e, remote, weir.As("cellar")) },
		`Config.Owns has no "bar"`:             func(e *weir.Engine) { weir.Own(e, remote) },
		`owned twice`:                          func(e *weir.Engine) { weir.Own(e, guests); weir.Own(e, guests) },
		`followed twice, with different types`: func(e *weir.Engine) { weir.Follow(e, guests); weir.Follow(e, weir.NewEntity[plate](guests.Name())) },
		`want owner.name`:                      func(e *weir.Engine) { weir.Follow(e, weir.NewEntity[plate]("guest")) },
	} {
		e := openEngine(t, newFile(t), weir.Config{})
		wire(e)
		if err := e.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run = %v, want an error with %q", err, want)
		}
	}
}

// A program of an earlier version writes, a later one reads.
func TestReplicaUpcast(t *testing.T) {
	t.Parallel()
	type old struct{ ID, FullName string }
	before := weir.NewEntity[old]("staff.guest")
	after := weir.NewEntity("staff.guest", weir.KeyedBy(guest.id), weir.Upcast(1, func(o old) (guest, error) {
		if o.FullName == "" {
			return guest{}, errors.New("no name")
		}
		return guest{ID: o.ID, Name: o.FullName}, nil
	}))
	file := newFile(t)
	e := openEngine(t, file, weir.Config{})
	was := weir.Own(e, before)
	stop := run(t, e)
	for id, name := range map[string]string{"ann": "Ann", "bob": ""} {
		if err := was.Put(t.Context(), e, id, old{id, name}); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	e2 := openEngine(t, file, weir.Config{})
	own, r2 := weir.Own(e2, after), weir.Follow(e2, after)
	stop = run(t, e2)
	sees(t, r2, guest{"ann", "Ann", 0})
	if e, err := r2.Get("bob"); err == nil || !strings.Contains(err.Error(), "no name") || e.Version == 0 {
		t.Errorf("Get of what is not converted = %+v, %v, want its version and the error", e, err)
	}
	if got := slices.Sorted(maps.Keys(maps.Collect(r2.All()))); !slices.Equal(got, []string{"ann"}) {
		t.Errorf("All gives %q, want what can be read", got)
	}
	put(t, own, e2, guest{"ann", "Ann", 7})
	stop()
	e3 := openEngine(t, file, weir.Config{})
	r := weir.Follow(e3, before)
	run(t, e3)
	eventually(t, "the replica is loaded", r.Loaded)
	if _, err := r.Get("ann"); err == nil || !strings.Contains(err.Error(), "deploy the newer one") {
		t.Errorf("Get by a program of before = %v, want an error that says what to do", err)
	}
}

func second[A, B any](_ A, b B) B { return b }
