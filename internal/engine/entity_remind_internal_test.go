package engine

import (
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
)

// versions is a memory of versions.
type versions map[string]int64

func (m versions) Put(states []store.State) {
	for _, s := range states {
		if m.Version(s.Key) >= s.Version {
			continue
		}
		if m[s.Key] = s.Version; s.Deleted {
			m[s.Key] = -s.Version
		}
	}
}

func (m versions) Version(key string) int64   { return max(m[key], -m[key]) }
func (m versions) Versions() map[string]int64 { return maps.Clone(m) }
func (m versions) Newest() int64              { return 0 }
func (m versions) Forget(time.Time)           {}

// A store that was restored beneath its process has forgotten what readers have seen. What it has instead is raised
// above that; what it knows nothing of is removed.
func TestRemind(t *testing.T) {
	t.Parallel()
	st, err := sqlite.File(filepath.Join(t.TempDir(), "weir.db"))(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	e := New(st, Config{Log: slog.New(slog.DiscardHandler)})
	m := versions{}
	f := e.Follow("shop.product", "", m, nil)
	ch := &store.Change{}
	for key, version := range map[string]int64{"same": 5, "forgotten": 5, "revived": 5, "newer": 5, "dead": 5} {
		s := store.State{Entity: "shop.product", Key: key, Version: version, Contract: 1, AsOf: time.UnixMicro(1), Body: []byte("1"), Deleted: key == "dead"}
		if s.Deleted {
			s.Body = nil
		}
		ch.States = append(ch.States, s)
	}
	if err := e.commits.commitOne(t.Context(), ch); err != nil {
		t.Fatal(err)
	}
	clear(m)
	maps.Copy(m, versions{"same": 5, "forgotten": 8, "revived": -8, "newer": 4, "dead": 9, "unknown": 7, "gone": -7})
	if err := f.remind(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := versions{"same": 5, "forgotten": 9, "revived": 9, "newer": 4, "dead": -10, "unknown": -8, "gone": -7}
	if !maps.Equal(m, want) {
		t.Errorf("memory has %v, want %v", m, want)
	}
	for key, version := range map[string]int64{"same": 5, "forgotten": 9, "revived": 9, "newer": 5, "dead": 10} {
		if s, err := st.Reader().Exchange().State(t.Context(), "shop.product", key); err != nil || s.Version != version {
			t.Errorf("the store has %s in version %d, %v, want %d", key, s.Version, err, version)
		}
	}
	if _, err := st.Reader().Exchange().State(t.Context(), "shop.product", "unknown"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the store has what it had forgotten: %v", err)
	}
}
