package engine

import (
	"context"
	"errors"
	"time"

	"github.com/weir-go/weir/store"
)

// remind makes good, where this store owns the entity, that it has begun a new life and forgotten what readers have
// seen: what it has instead is given a version above that, as for followers elsewhere (see answer). What it does not know at all is
// removed from memory.
//
// Memory is looked at first: it has only what was committed, so what the store then has not is forgotten, and of a life that is over.
func (f *Following) remind(ctx context.Context) error {
	seen := f.memory.Versions()
	for after := ""; ; {
		list, err := f.exchange().States(ctx, store.StateQuery{Entity: f.entity, After: after, Deleted: true, Max: store.MaxList})
		if err != nil {
			return err
		}
		var raised []store.State
		for i := range list {
			s := list[i]
			after = s.Key
			version := max(seen[s.Key], -seen[s.Key])
			delete(seen, s.Key)
			if give, above, _ := answer(checked{Key: s.Key, Version: version}, s, true); above {
				raised = append(raised, give)
			}
		}
		if err := f.raise(ctx, raised); err != nil {
			return err
		}
		if len(list) < store.MaxList {
			break
		}
	}
	var missing []checked
	for key, version := range seen {
		if version > 0 {
			missing = append(missing, checked{Key: key, Version: version})
		}
	}
	f.memory.Put(removed(f.entity, missing, time.Now().UTC()))
	return nil
}

// raise writes states under higher versions, unless the store has newer ones by now.
func (f *Following) raise(ctx context.Context, states []store.State) error {
	if len(states) == 0 {
		return nil
	}
	f.e.log.Warn("this store was restored, and has forgotten newer versions than it has: they are passed over", keyEntity, f.entity, "entries", len(states))
	err := f.e.commits.commitOne(ctx, &store.Change{States: states})
	if errors.Is(err, store.ErrLeaseLost) {
		return nil // another process does it
	}
	return err
}
