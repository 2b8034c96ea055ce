package weir

import (
	"context"
	"fmt"

	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
)

// What people ask of replicas, in the store's words.
type (
	// EntityRow is what a store has of an entity: as its owner, or (Snapshot not nil) as a follower.
	EntityRow = engine.EntityRow
	// Snapshot is the newest one that a follower has begun.
	Snapshot = engine.Snapshot
	// StateRow is one entity as the store has it, encoded; or its tombstone.
	StateRow = store.State
)

// Entities lists by name what the store has entities of, its own and those that it follows. At most 1,000.
func (e *Engine) Entities(ctx context.Context) ([]EntityRow, error) {
	return engine.ReadEntities(ctx, e.st.Reader())
}

// State is the newest version of an entity in the store, encoded, also a tombstone; or [ErrNotFound].
func (e *Engine) State(ctx context.Context, entity, id string) (StateRow, error) {
	return e.st.Reader().Exchange().State(ctx, entity, id)
}

// ResyncReplica has a replica that this store follows compared with its owner, by whatever process works the
// store, within seconds: see [Replica.Resync]. [ErrNotFound] if this store does not follow it. Who and why
// are in the audit.
func (e *Engine) ResyncReplica(ctx context.Context, entity string, b Because) error {
	if err := e.core.ResyncReplica(ctx, entity, b.By, b.Why); err != nil {
		return fmt.Errorf("weir: %w", err)
	}
	return nil
}

// States lists a page of an entity's newest versions by id, those above after, tombstones too. At most max, 1 to 1,000.
func (e *Engine) States(ctx context.Context, entity, after string, max int) ([]StateRow, error) {
	return e.st.Reader().Exchange().States(ctx, store.StateQuery{Entity: entity, After: after, Deleted: true, Max: max})
}
