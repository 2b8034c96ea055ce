package weir

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"time"

	"github.com/weir-go/weir/internal/engine"
)

// Replica is a read-only copy of a boundary's entities, kept in this process's memory and, durably, in its store.
// All methods may be called concurrently; reading takes no lock and does no I/O.
//
// A replica is behind its owner: by milliseconds as a rule, by as long as it takes when one of them is away.
// It never goes back: who has seen a version of an id sees that one or a higher one ever after, in this process. What
// was missed on the way is noticed (a version that does not come, a gap, a restored store) and fetched; what the
// owner has deleted meanwhile is then removed. See [Entity] for what to keep in one.
type Replica[T any] struct {
	contract contract[T]
	memory   *replicaMap[T]
	core     *engine.Following
}

// FollowOption is an option of [Follow]: [As].
type FollowOption interface{ applyFollow(*following) }

type following struct{ as string }

// As names the boundary that follows. Needed where [Config].Owns has several.
type As string

func (a As) applyFollow(f *following) { f.as = string(a) }

// Follow keeps a replica of an entity in this process while [Engine.Run] runs: with all that the store has of
// it, and, where another store owns it ([Config].Routes), with what comes from there. Call it before Run,
// which reports what is wrong with it. Called again for the same entity it gives a replica on the same memory.
//
// The first time a snapshot is fetched, in pages; until that is complete [Replica.Loaded] is false. Where several processes
// work a store each has the replica in its memory.
func Follow[T any](e *Engine, c Entity[T], o ...FollowOption) *Replica[T] {
	var opts following
	for _, opt := range o {
		opt.applyFollow(&opts)
	}
	name := c.topic.Name
	r := &Replica[T]{contract: c.contract, memory: new(replicaMap[T])}
	r.memory.decode = func(version int, body []byte, into *T) error {
		return r.contract.decode(e.config.Codec, version, body, into)
	}
	if known, again := e.replicas.LoadOrStore(name, r); again {
		if same, ok := known.(*Replica[T]); ok {
			return same
		}
		c.err = errors.Join(c.err, fmt.Errorf("weir: %s is followed twice, with different types", name))
	}
	by, err := e.followerOf(ownerOf(name), opts.as)
	r.core = e.core.Follow(name, by, r.memory, errors.Join(c.err, err))
	return r
}

// followerOf is the boundary here that follows what belongs to owner; empty where the owner is here too.
func (e *Engine) followerOf(owner, as string) (string, error) {
	if as != "" && !e.owns[as] {
		return "", fmt.Errorf("weir: Follow: As(%q): Config.Owns has no such boundary", as)
	}
	if e.owns[owner] || e.core.Detached() {
		return "", nil
	}
	if _, ok := e.config.Routes[owner]; !ok {
		return "", fmt.Errorf("weir: Follow: nobody knows where boundary %q is: add it to Config.Routes, or to Config.Owns", owner)
	}
	if as != "" {
		return as, nil
	}
	if len(e.config.Owns) != 1 {
		return "", fmt.Errorf("weir: Follow: which of %s follows %q? Say so with As", strings.Join(e.config.Owns, ", "), owner)
	}
	return e.config.Owns[0], nil
}

// Get is the entity with an id, as this process knows it. Where there is none the error is a [*NoEntryError],
// which is [ErrNotFound] and says whether it was deleted, and when; or [ErrNotLoaded] as long as nobody can tell.
// An entity of a contract version that this program does not know is an error: deploy the newer one.
func (r *Replica[T]) Get(id string) (Entry[T], error) {
	c := r.memory.get(id)
	if c == nil || c.deleted {
		return Entry[T]{}, r.none(id, c)
	}
	v, err := r.memory.read(c)
	if err != nil {
		return Entry[T]{Version: c.version, AsOf: c.asOf}, fmt.Errorf("weir: %s %q: %w", r.contract.topic.Name, id, err)
	}
	return Entry[T]{*v, c.version, c.asOf}, nil
}

// none is why there is no entry.
func (r *Replica[T]) none(id string, c *cell[T]) error {
	switch {
	case c != nil:
		return &NoEntryError{Entity: r.contract.topic.Name, ID: id, Deleted: true, Version: c.version, AsOf: c.asOf}
	case !r.core.Loaded():
		return ErrNotLoaded
	}
	return &NoEntryError{Entity: r.contract.topic.Name, ID: id}
}

// All goes over all entities by id, in no order. What changes meanwhile is seen as it was or as it
// is. Those that this program cannot read are left out: see [Replica.Get].
func (r *Replica[T]) All() iter.Seq2[string, Entry[T]] {
	return func(yield func(string, Entry[T]) bool) {
		r.memory.cells.Range(func(id, v any) bool {
			c := v.(*cell[T])
			if c.deleted {
				return true
			}
			value, err := r.memory.read(c)
			return err != nil || yield(id.(string), Entry[T]{*value, c.version, c.asOf})
		})
	}
}

// Len is how many entities there are.
func (r *Replica[T]) Len() int { return int(r.memory.live.Load()) }

// Loaded says whether the replica was loaded at least once: what is not there then does not exist, as far as it knows.
func (r *Replica[T]) Loaded() bool { return r.core.Loaded() }

// Refresh asks the owner for the entity with an id, waits for the answer, and returns it: what the owner had
// at some time after the call. Callers at the same time share one question. ctx bounds the wait: an owner that is
// away answers when it is back. The error is that of [Replica.Get], or of the question.
//
// It works while [Engine.Run] runs, in handlers and steps too, which hold their place meanwhile. Where
// the owner's store is this one it reads there.
func (r *Replica[T]) Refresh(ctx context.Context, id string) (Entry[T], error) {
	if err := checkID(r.contract.topic.Name, id); err != nil {
		return Entry[T]{}, err
	}
	if err := r.core.Refresh(ctx, id); err != nil {
		return Entry[T]{}, err
	}
	e, err := r.Get(id)
	if errors.Is(err, ErrNotLoaded) {
		err = &NoEntryError{Entity: r.contract.topic.Name, ID: id} // the owner has said so
	}
	return e, err
}

// Resync has the replica compared with its owner, as if something had been missed: a snapshot is fetched, what it
// lacks is asked about and removed if the owner has it no more. It returns when that is recorded, and goes on by
// itself, whoever stops. weir replica resync does the same.
func (r *Replica[T]) Resync(ctx context.Context) error { return r.core.Resync(ctx) }

// ReplicaFigures tell of a replica in this process.
type ReplicaFigures struct {
	Entity  string
	Follows string // the boundary that follows; empty: the owner's store is this one

	Live    int       // entities
	Deleted int       // tombstones
	Newest  int64     // the highest version that has come
	AsOf    time.Time // when its owner made that one

	// Loaded: see [Replica.Loaded].
	Loaded bool
	// FreshAt is when the replica was last known to have all that its owner had. Now less that is its
	// staleness: with a quiet, reachable owner up to 10 s, since the owner says so often how far it is; where
	// the owner's store is this one up to 1 s. The store keeps it about every 30 s, so a process that starts while the owner
	// is away knows it. Zero: never, as far as is known.
	FreshAt time.Time
	// HeardAt is when the owner was last heard of, whatever it said.
	HeardAt time.Time

	Ignored   int64 // old versions that came and were ignored, in this process
	Refreshes int64 // entities asked for, in this process: by Refresh, or because of an event without a value
	Resyncs   int64 // snapshots after the first one, over all processes
	// Syncing: a snapshot is on its way, and Why is why; else why the last one was fetched.
	Syncing bool
	Why     string
}

// Staleness is for how long the replica may have missed something. Where nobody knows, since the owner was not heard of since
// the replica was loaded, or it is not loaded, it is the largest duration there is: what is not known is not fresh.
func (f ReplicaFigures) Staleness() time.Duration {
	if f.FreshAt.IsZero() {
		return math.MaxInt64
	}
	return time.Since(f.FreshAt)
}

// Figures are the replica's.
func (r *Replica[T]) Figures() ReplicaFigures {
	c := r.core.Figures()
	f := ReplicaFigures{
		Entity: r.contract.topic.Name, Follows: c.Follows,
		Live: r.Len(), Deleted: int(r.memory.deleted.Load()), Newest: r.memory.newest.Load(),
		Loaded: c.Loaded, FreshAt: c.FreshAt, HeardAt: c.HeardAt,
		Ignored: c.Ignored, Refreshes: c.Refreshes, Resyncs: c.Resyncs, Syncing: c.Syncing, Why: c.Why,
	}
	if f.Newest > 0 {
		f.AsOf = time.UnixMicro(r.memory.newestAsOf.Load())
	}
	return f
}
