package postgres

import (
	"context"
	"sync"
)

// changes remembers what Changed saw last.
type changes struct {
	mu   sync.Mutex
	seen string
}

// changed implements store.Reader's Changed: whatever is committed changes the snapshot
// that the next statement sees. So do commits of our own and of other databases of the
// cluster; it is a hint. It reads no table.
func (s *Store) changed(ctx context.Context) (bool, error) {
	c, err := s.acquire(ctx, s.pool)
	if err != nil {
		return false, err
	}
	defer c.Release()
	var now string
	if err := c.QueryRow(ctx, sqlSnapshot).Scan(&now); err != nil {
		return false, outage(ctx, err)
	}
	s.changes.mu.Lock()
	defer s.changes.mu.Unlock()
	changed := s.changes.seen != now
	s.changes.seen = now
	return changed, nil
}
