package weir

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-go/weir/store"
)

// replicaMap is a replica in memory. Readers take no lock. An id's cell is only ever replaced by one
// with a higher version, so no reader sees a version go back, in whatever order states come.
type replicaMap[T any] struct {
	cells  sync.Map // of id to *cell[T]
	decode func(version int, body []byte, into *T) error

	live, deleted atomic.Int64
	newest        atomic.Int64
	newestAsOf    atomic.Int64 // in microseconds since 1970, of some state that was the newest
}

// cell is one version of one entity. It does not change but for its form, which is decoded by its first
// reader: so a replica of a million loads without decoding one, and applying costs the writer little.
type cell[T any] struct {
	version  int64
	asOf     time.Time
	deleted  bool
	contract int
	form     atomic.Pointer[form[T]] // nil of a tombstone
}

// form is a cell's value: encoded at first, then decoded.
type form[T any] struct {
	body  []byte // nil: value and err are set
	value T
	err   error
}

// Put takes in states, each only if it is newer than what is there.
func (m *replicaMap[T]) Put(states []store.State) {
	for i := range states {
		m.put(&states[i])
	}
}

func (m *replicaMap[T]) put(s *store.State) {
	c := &cell[T]{version: s.Version, asOf: s.AsOf, deleted: s.Deleted, contract: s.Contract}
	if !s.Deleted {
		// A copy: the states of one page may share one large slice.
		c.form.Store(&form[T]{body: append([]byte{}, s.Body...)})
	}
	for {
		old, had := m.cells.LoadOrStore(s.Key, c)
		if !had {
			m.count(c, 1)
			break
		}
		was := old.(*cell[T])
		if was.version >= s.Version {
			return
		}
		if m.cells.CompareAndSwap(s.Key, old, c) {
			m.count(was, -1)
			m.count(c, 1)
			break
		}
	}
	for n := m.newest.Load(); s.Version > n; n = m.newest.Load() {
		if m.newest.CompareAndSwap(n, s.Version) {
			m.newestAsOf.Store(s.AsOf.UnixMicro())
			return
		}
	}
}

func (m *replicaMap[T]) count(c *cell[T], n int64) {
	if c.deleted {
		m.deleted.Add(n)
	} else {
		m.live.Add(n)
	}
}

// get is the cell of an id, or nil.
func (m *replicaMap[T]) get(id string) *cell[T] {
	v, ok := m.cells.Load(id)
	if !ok {
		return nil
	}
	return v.(*cell[T])
}

// read is a live cell's value.
func (m *replicaMap[T]) read(c *cell[T]) (*T, error) {
	f := c.form.Load()
	if f.body != nil {
		f = m.decoded(c, f)
	}
	return &f.value, f.err
}

// decoded decodes a cell's form. Who comes at the same time may do it too.
func (m *replicaMap[T]) decoded(c *cell[T], f *form[T]) *form[T] {
	d := new(form[T])
	d.err = m.decode(c.contract, bytes.Clone(f.body), &d.value)
	if c.form.CompareAndSwap(f, d) {
		return d
	}
	return c.form.Load()
}

// Version is that of an id, also of a tombstone; 0 for none.
func (m *replicaMap[T]) Version(id string) int64 {
	if c := m.get(id); c != nil {
		return c.version
	}
	return 0
}

// Versions are those of all ids, tombstones' negative.
func (m *replicaMap[T]) Versions() map[string]int64 {
	all := make(map[string]int64, m.live.Load()+m.deleted.Load())
	m.cells.Range(func(id, v any) bool {
		c := v.(*cell[T])
		if all[id.(string)] = c.version; c.deleted {
			all[id.(string)] = -c.version
		}
		return true
	})
	return all
}

// Newest is the highest version that was ever put.
func (m *replicaMap[T]) Newest() int64 { return m.newest.Load() }

// Forget drops tombstones of before a time.
func (m *replicaMap[T]) Forget(before time.Time) {
	if m.deleted.Load() == 0 {
		return
	}
	m.cells.Range(func(id, v any) bool {
		if c := v.(*cell[T]); c.deleted && c.asOf.Before(before) && m.cells.CompareAndDelete(id, v) {
			m.count(c, -1)
		}
		return true
	})
}
