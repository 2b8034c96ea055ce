package sqlite

import (
	"path/filepath"
	"testing"
	"time"
)

// openAtNoon opens a store in the folder, whose clock stands at noon.
func openAtNoon(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := open(t.Context(), filepath.Join(dir, "weir.db"), []Option{Clock(func() time.Time {
		return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	})})
	if err != nil {
		t.Fatalf("open = %v, want nil", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
