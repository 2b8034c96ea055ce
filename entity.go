package weir

import (
	"errors"
	"fmt"
	"time"

	"github.com/weir-go/weir/store"
)

// Entity is the contract of things that one boundary owns and others keep read-only copies of:
// "customers.customer" belongs to the boundary customers. T is the whole of one, as the owner shows it to
// others. Contracts are immutable values that the owner declares and everybody imports.
//
// The owner changes entities through [Own], the others read theirs through [Follow].
//
// # What to keep in replicas
//
// Reference data: customers, products, prices, tables, opening hours. It is read often, changed
// seldom, of a size that fits into memory, and a decision on what was true a moment ago is fine.
//
// Not transactional data: stock, balances, seats, whatever two must not decide about at once. A replica lags
// behind its owner, by milliseconds as a rule and by hours when one of them is away. What must be true at
// the moment of the decision is decided by its owner: send it a command or a request.
type Entity[T any] struct{ contract[T] }

// maxEntity leaves room for what the names of an entity's queues are made of.
const maxEntity = 150

// NewEntity declares an entity. Its name is its owner's, a dot, and what it is, of 150 bytes at most.
// With [KeyedBy] the id of an entity is in its value; with [Upcast] older versions of T are read.
func NewEntity[T any](name string, o ...ContractOption[T]) Entity[T] {
	c := newContract(store.Topic{Name: name, Kind: store.KindEvent}, o)
	if c.err == nil && len(name) > maxEntity {
		c.err = fmt.Errorf("weir: entity name %q: %d bytes, want at most %d", name, len(name), maxEntity)
	}
	return Entity[T]{c}
}

// Entry is one entity as it was at some time.
type Entry[T any] struct {
	// Value is shared with other readers: what it points to (slices, maps, pointers) must not be changed.
	Value T
	// Version is higher for what is newer, of one id: over deletions, re-creations and restored backups too.
	Version int64
	// AsOf is when its owner made this version, by the clock of the owner's store. How old the replica's
	// knowledge is that there is no newer one is in [Replica.Figures].
	AsOf time.Time
}

// Age is how long ago this version was made.
func (e Entry[T]) Age() time.Duration { return time.Since(e.AsOf) }

// ErrNotLoaded is returned by [Replica.Get] for what is not there while the replica has not been loaded for the
// first time: it may exist. Try again; see [Replica.Loaded].
var ErrNotLoaded = errors.New("weir: the replica has not been loaded yet")

// NoEntryError says that there is no entity with an id. It is an [ErrNotFound].
type NoEntryError struct {
	Entity, ID string
	// Deleted: there was one. Its tombstone is kept as long as messages are (Config.Keep); after that
	// it is as if there had never been one.
	Deleted bool
	Version int64     // of the tombstone
	AsOf    time.Time // when it was deleted
}

func (e *NoEntryError) Error() string {
	if e.Deleted {
		return fmt.Sprintf("weir: %s %q was deleted at %s", e.Entity, e.ID, e.AsOf.Format(time.RFC3339))
	}
	return fmt.Sprintf("weir: there is no %s %q", e.Entity, e.ID)
}

// Age is how long ago it was deleted; 0 when that is not known.
func (e *NoEntryError) Age() time.Duration {
	if !e.Deleted {
		return 0
	}
	return time.Since(e.AsOf)
}

// Is makes it an [ErrNotFound].
func (e *NoEntryError) Is(target error) bool { return target == ErrNotFound }
