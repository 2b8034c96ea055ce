package weir

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

type product struct {
	Name  string
	Price int
}

// newReplica is a loaded replica of n products.
func newReplica(n int) (*Replica[product], []string) {
	r := &Replica[product]{memory: new(replicaMap[product])}
	r.contract = NewEntity[product]("shop.product").contract
	r.memory.decode = func(version int, body []byte, into *product) error {
		return r.contract.decode(JSON{}, version, body, into)
	}
	ids := make([]string, n)
	states := make([]store.State, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("product-%06d", i)
		states[i] = stateOf(ids[i], int64(i+1))
	}
	r.memory.Put(states)
	return r, ids
}

func stateOf(id string, version int64) store.State {
	body, err := json.Marshal(product{id, int(version)})
	if err != nil {
		panic(err)
	}
	return store.State{Entity: "shop.product", Key: id, Version: version, Contract: 1, AsOf: time.UnixMicro(version), Body: body}
}

// However states come, and whoever brings them: no reader sees a version go back, and the end is the newest.
func TestMapNeverGoesBack(t *testing.T) {
	t.Parallel()
	const ids, versions, writers, readers = 20, 300, 4, 4
	m := &replicaMap[int64]{decode: func(_ int, body []byte, into *int64) error {
		*into = int64(binary.BigEndian.Uint64(body))
		return nil
	}}
	key := func(i int) string { return string(rune('a' + i)) }
	dead := func(i int, v int64) bool { return (int64(i)+v)%3 == 0 }
	var work, reading sync.WaitGroup
	var over atomic.Bool
	for range writers {
		work.Go(func() {
			for _, n := range rand.Perm(ids * versions) {
				i, v := n%ids, int64(n/ids+1)
				s := store.State{Key: key(i), Version: v, AsOf: time.UnixMicro(v), Deleted: dead(i, v)}
				if !s.Deleted {
					s.Body = binary.BigEndian.AppendUint64(nil, uint64(v))
				}
				m.Put([]store.State{s})
			}
		})
	}
	for range readers {
		reading.Go(func() {
			var seen [ids]int64
			for !over.Load() {
				for i := range ids {
					c := m.get(key(i))
					if c == nil {
						continue
					}
					if c.version < seen[i] {
						t.Errorf("%s went from version %d to %d", key(i), seen[i], c.version)
						return
					}
					seen[i] = c.version
					if c.deleted != dead(i, c.version) {
						t.Errorf("%s version %d: deleted %v", key(i), c.version, c.deleted)
					} else if !c.deleted {
						if v, err := m.read(c); err != nil || *v != c.version {
							t.Errorf("%s version %d has value %d, %v", key(i), c.version, *v, err)
						}
					}
				}
			}
		})
	}
	work.Wait()
	over.Store(true)
	reading.Wait()
	deleted := int64(0)
	for i := range ids {
		if got := m.Version(key(i)); got != versions {
			t.Errorf("%s ended at version %d, want %d", key(i), got, versions)
		}
		if dead(i, versions) {
			deleted++
		}
	}
	if m.live.Load() != ids-deleted || m.deleted.Load() != deleted || m.Newest() != versions {
		t.Errorf("counts %d live, %d deleted, newest %d, want %d, %d, %d", m.live.Load(), m.deleted.Load(), m.Newest(), ids-deleted, deleted, versions)
	}
}

func TestMapForgetsTombstones(t *testing.T) {
	t.Parallel()
	r, _ := newReplica(1)
	r.memory.Put([]store.State{
		{Key: "old", Version: 5, AsOf: time.UnixMicro(5), Deleted: true}, {Key: "new", Version: 9, AsOf: time.UnixMicro(9), Deleted: true},
	})
	r.memory.Forget(time.UnixMicro(9))
	if r.memory.Version("old") != 0 || r.memory.Version("new") != 9 || r.memory.deleted.Load() != 1 || r.Len() != 1 {
		t.Errorf("after Forget: old %d, new %d, %d deleted, %d live", r.memory.Version("old"), r.memory.Version("new"), r.memory.deleted.Load(), r.Len())
	}
	r.memory.Put([]store.State{stateOf("old", 20)})
	if e, err := r.Get("old"); err != nil || e.Version != 20 {
		t.Errorf("Get of one made anew after its tombstone = %+v, %v", e, err)
	}
}

// Reading costs no allocation.
func TestReadsAllocateNothing(t *testing.T) {
	r, ids := newReplica(100)
	if _, err := r.Get(ids[7]); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := r.Get(ids[7]); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("Get allocates %v times, want 0", n)
	}
}

// What a body decodes to is decoded once, errors too, and a codec that keeps its bytes spoils nothing.
func TestDecodedOnce(t *testing.T) {
	t.Parallel()
	calls := 0
	m := &replicaMap[int]{decode: func(_ int, body []byte, _ *int) error {
		calls++
		body[0] = 'x'
		return errors.New("no")
	}}
	m.Put([]store.State{{Key: "a", Version: 1, Body: []byte("1")}})
	for range 3 {
		if _, err := m.read(m.get("a")); err == nil {
			t.Error("read gave no error")
		}
	}
	if calls != 1 {
		t.Errorf("decoded %d times, want once", calls)
	}
}

func BenchmarkReplicaGet(b *testing.B) {
	r, ids := newReplica(5_000)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := rand.IntN(len(ids)); pb.Next(); i++ {
			if e, err := r.Get(ids[i%len(ids)]); err != nil || e.Version == 0 {
				b.Error(e, err)
			}
		}
	})
}

// BenchmarkMapGet is what a plain map of entries costs, behind no lock: the measure for the one above.
func BenchmarkMapGet(b *testing.B) {
	_, ids := newReplica(5_000)
	m := map[string]*Entry[product]{}
	for i, id := range ids {
		m[id] = &Entry[product]{Version: int64(i + 1)}
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := rand.IntN(len(ids)); pb.Next(); i++ {
			if e := *m[ids[i%len(ids)]]; e.Version == 0 {
				b.Error(e)
			}
		}
	})
}

func BenchmarkReplicaApply(b *testing.B) {
	r, ids := newReplica(5_000)
	s := []store.State{stateOf(ids[0], 1)}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s[0].Key, s[0].Version = ids[i%len(ids)], int64(10_000+i)
		r.memory.Put(s)
	}
}
