package postgres

import (
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

// openAtNoon opens a store in a schema of its own, whose clock stands at noon.
func openAtNoon(t testing.TB) *Store {
	t.Helper()
	h := openHarness(t, func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) })
	s, err := h.Open(t.Context())
	if err != nil {
		t.Fatalf("open = %v, want nil", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.(*Store)
}

func TestBegin(t *testing.T) {
	s := openAtNoon(t)
	p := &store.Process{Host: "here"}
	if err := s.Begin(t.Context(), p); err != nil || p.ID == 0 || p.StartedAt.Hour() != 12 {
		t.Errorf("Begin() = %v, process %+v, want nil, an ID, noon", err, p)
	}
	if err := s.makeRoom(t.Context(), 0); err != nil {
		t.Errorf("makeRoom() = %v, want nil", err)
	}
	for range 2 {
		if _, err := s.changed(t.Context()); err != nil {
			t.Errorf("changed() = %v, want nil", err)
		}
	}
	if err := s.Heartbeat(t.Context()); err != nil {
		t.Errorf("Heartbeat() = %v, want nil", err)
	}
	if err := s.End(t.Context()); err != nil {
		t.Errorf("End() = %v, want nil", err)
	}
}
