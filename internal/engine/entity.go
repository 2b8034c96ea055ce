package engine

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-go/weir/store"
)

// Headers that weir gives to what goes between stores.
const (
	headerDeleted = "weir-deleted" // the event is a tombstone
	headerIDOnly  = "weir-id-only" // the event is without the state: who wants it fetches it
)

// EntityHeaders are those of an event about an entity.
func EntityHeaders(deleted, idOnly bool) []byte {
	switch {
	case deleted:
		return []byte(`{"` + headerDeleted + `":"true"}`)
	case idOnly:
		return []byte(`{"` + headerIDOnly + `":"true"}`)
	}
	return nil
}

// Memory is a replica as this process's readers see it. The root package types it.
type Memory interface {
	// Put takes in states, each only if it is newer than what is there.
	Put(states []store.State)
	// Version is that of a key, also of a tombstone; 0 for none.
	Version(key string) int64
	// Versions are those of all keys, tombstones' negative.
	Versions() map[string]int64
	// Newest is the highest version that was ever put.
	Newest() int64
	// Forget drops tombstones of before a time.
	Forget(before time.Time)
}

// Following is a replica in this process: its memory is fed from the store, and where another store
// owns the entity the store is fed from there.
type Following struct {
	e      *Engine
	entity string
	by     string // the boundary that follows; empty: the entity's owner lives in this store
	memory Memory
	prod   chan struct{} // capacity 1: the store may have something new
	asking chan struct{} // capacity 1: there may be something to ask the owner for

	ignored   atomic.Int64 // old versions that came
	refreshed atomic.Int64
	loaded    atomic.Bool
	askNo     atomic.Int64

	mu         sync.Mutex
	mark       string            // up to where memory was fed
	markOf     store.Incarnation // the life of this store that gave the mark
	freshAt    time.Time         // when memory had all that the owner had
	freshKept  time.Time         // the newest of those that the store has
	progress   progress          // as last read, then:
	progressAt time.Time
	beat       beat
	heardAt    time.Time
	lacking    time.Time
	fetching   map[string]time.Time // keys asked for because of an event without its state, since when
	asks       asks
}

// Follow registers a replica, before Run. by is the boundary that follows, or empty where the
// entity's owner lives in this store. A second registration is the first one.
func (e *Engine) Follow(entity, by string, m Memory, faults error) *Following {
	f := &Following{
		e: e, entity: entity, by: by, memory: m, prod: make(chan struct{}, 1), asking: make(chan struct{}, 1),
		fetching: map[string]time.Time{}, asks: newAsks(),
	}
	if e.Detached() {
		f.loaded.Store(true)
		by = ""
	}
	if by != "" {
		hyphened := strings.ReplaceAll(entity, ".", "-")
		queue := func(name string, t store.Topic, work func(a *Attempt) error) {
			e.Register(internalQueue(name, t, work), faults)
		}
		queue(by+".replica-of-"+hyphened, store.Topic{Name: entity, Kind: store.KindEvent}, f.hear)
		queue(by+".replica-pages-of-"+hyphened, pagesOf(entity), f.turn)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if by == "" && faults != nil {
		e.faults = append(e.faults, faults)
	}
	if e.started {
		e.faults = append(e.faults, fmt.Errorf("weir: replica of %s: follow before Run", entity))
		e.log.Error("replica registered too late: nothing feeds it", keyEntity, entity)
		return f
	}
	all := map[string]*Following{entity: f}
	if old := e.following.Load(); old != nil {
		for name, other := range *old {
			all[name] = other
		}
	}
	e.following.Store(&all)
	e.hearers[noteNewest] = e.hearBeats
	return f
}

const keyEntity = "entity"

// internalQueue is a queue of our own that takes part in replicas.
func internalQueue(name string, t store.Topic, work func(a *Attempt) error) Settings {
	return Settings{
		Queue:       store.Queue{Name: name, Topic: t, Capacity: entityCapacity, Required: true, OnDead: store.Skip},
		Concurrency: 8, Timeout: time.Minute,
		Retry: Retry{Max: 20, Base: 100 * time.Millisecond, Cap: time.Minute},
		Work:  workOf(work),
	}
}

// entityCapacity bounds what waits here to be applied; beyond it the inlet holds the lane.
const entityCapacity = 100_000

// stated tells replicas what a group has committed of theirs.
func (e *Engine) stated(g *store.Group) {
	all := e.following.Load()
	if all == nil {
		return
	}
	for _, c := range g.Changes {
		if c.Err != nil {
			continue
		}
		for i := range c.States {
			entity, own := strings.CutSuffix(c.States[i].Entity, followerSuffix)
			switch f := (*all)[entity]; {
			case f == nil:
			case own:
				f.look() // how far its snapshot is
			default:
				f.committed(c.States[i : i+1])
			}
		}
	}
}

// committed takes in what this process has committed.
func (f *Following) committed(one []store.State) {
	s := &one[0]
	if s.Of != nil {
		s.Version, s.AsOf = s.Of.Stamp, s.Of.SentAt
	}
	switch {
	case s.Applied:
		f.memory.Put(one)
		f.met()
	case f.memory.Version(s.Key) > s.Version:
		f.ignored.Add(1)
	}
}

// ReplicaFigures are what is known of a replica beside its entries.
type ReplicaFigures struct {
	Follows   string // the boundary that follows; empty: the owner lives in this store
	Loaded    bool
	FreshAt   time.Time
	HeardAt   time.Time
	Ignored   int64
	Refreshes int64
	Resyncs   int64
	Syncing   bool
	Why       string
}

// Figures are the replica's.
func (f *Following) Figures() ReplicaFigures {
	f.mu.Lock()
	defer f.mu.Unlock()
	return ReplicaFigures{
		Follows: f.by, Loaded: f.loaded.Load(), FreshAt: f.freshAt, HeardAt: f.heardAt,
		Ignored: f.ignored.Load(), Refreshes: f.refreshed.Load(),
		Resyncs: max(f.progress.Times-1, 0), Syncing: f.by != "" && !f.progress.Done, Why: f.progress.Why,
	}
}

// Loaded says whether what is not in memory does not exist.
func (f *Following) Loaded() bool { return f.loaded.Load() }

// Where a follower keeps its progress, and a person's wish: states beside the entity's own, of a name that no
// contract has, so that they commit with what they tell of.
const (
	followerSuffix = ":follower"
	progressKey    = "progress"
	wishKey        = "wish"
	freshKey       = "fresh"
)

func (p *progress) state(entity string, version int64) store.State {
	body, _ := json.Marshal(p) // texts, numbers and times: never fails
	return store.State{Entity: entity + followerSuffix, Key: progressKey, Version: version, Contract: 1, AsOf: p.PageAt, Body: body}
}

// nonce names an ask, unlike any other of this store.
func (f *Following) nonce() string {
	return fmt.Sprintf("%s-%s-%d", f.e.st.Info().Incarnation, strconv.FormatInt(time.Now().UnixMicro(), 36), f.askNo.Add(1))
}
