package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

// EntityRow is what a store has of an entity, for people.
type EntityRow struct {
	store.EntityRow
	Snapshot *Snapshot // of a follower's store; nil in the owner's
}

// Snapshot is the newest one that a follower has begun, and how far it is.
type Snapshot struct {
	Began  time.Time
	PageAt time.Time // when its last page came; at first: Began
	Why    string
	Done   bool
	Loaded bool  // one was completed, so what is not here does not exist
	Times  int64 // how many were begun
	Wish   *Wish // the last one of a person's; nil: none ever
	// FreshAt is when the store was last known to have all that the owner had; it is written about every 30 s. Zero: never.
	FreshAt time.Time
}

// Wish is a person's, for a snapshot.
type Wish struct {
	At  time.Time
	By  string
	Why string
	Met bool // that snapshot was begun
}

// ReadEntities lists what a store has states of, by name.
func ReadEntities(ctx context.Context, r store.Reader) ([]EntityRow, error) {
	x := r.Exchange()
	rows, err := x.Entities(ctx)
	if err != nil {
		return nil, err
	}
	var all []EntityRow
	for _, row := range rows {
		if strings.HasSuffix(row.Entity, followerSuffix) || row.Entity == lanesEntity {
			continue
		}
		one := EntityRow{EntityRow: row}
		if one.Snapshot, err = readSnapshot(ctx, x, row.Entity); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	for _, row := range rows { // those of which nothing has come yet
		name, ok := strings.CutSuffix(row.Entity, followerSuffix)
		if !ok || contains(all, name) {
			continue
		}
		one := EntityRow{EntityRow: store.EntityRow{Entity: name}}
		if one.Snapshot, err = readSnapshot(ctx, x, name); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

func contains(rows []EntityRow, entity string) bool {
	for i := range rows {
		if rows[i].Entity == entity {
			return true
		}
	}
	return false
}

// readSnapshot is how a store follows an entity; nil when it does not.
func readSnapshot(ctx context.Context, x store.ExchangeReader, entity string) (*Snapshot, error) {
	var p progress
	var w struct{ By, Why string }
	read := func(key string, into any) (int64, time.Time, error) {
		s, err := x.State(ctx, entity+followerSuffix, key)
		if errors.Is(err, store.ErrNotFound) {
			return 0, time.Time{}, nil
		}
		if err == nil {
			err = json.Unmarshal(s.Body, into)
		}
		return s.Version, s.AsOf, err
	}
	known, _, err := read(progressKey, &p)
	if err != nil || known == 0 {
		return nil, err
	}
	s := &Snapshot{Began: p.Began, PageAt: p.PageAt, Why: p.Why, Done: p.Done, Loaded: p.Loaded, Times: p.Times}
	version, at, err := read(wishKey, &w)
	if version > 0 {
		s.Wish = &Wish{At: at, By: w.By, Why: w.Why, Met: version <= p.Wish}
	}
	if err == nil {
		_, s.FreshAt, err = read(freshKey, new(struct{}))
	}
	return s, err
}

// ResyncReplica records a person's wish for a snapshot, on a follower's store, in the audit too.
func (e *Engine) ResyncReplica(ctx context.Context, entity, by, why string) error {
	s, err := readSnapshot(ctx, e.st.Reader().Exchange(), entity)
	if err != nil {
		return err
	}
	if s == nil {
		return fmt.Errorf("%w: this store does not follow %s: see weir replica ls", store.ErrNotFound, entity)
	}
	note, err := json.Marshal(map[string]string{"By": by, "Why": why})
	if err != nil {
		return err
	}
	wish := wishOf(entity, note)
	_, err = e.Operate(ctx, store.Act{Verb: store.ResyncReplica, ID: entity, State: &wish, By: by, Why: why})
	return err
}
