package postgres

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// changes remembers what Changed saw last, and what this process has committed since.
type changes struct {
	mu   sync.Mutex
	seen snapshot
	own  map[uint64]bool // transactions of Commit and Claim
}

// ownMost bounds what is remembered by a process that sends and never asks.
const ownMost = 10_000

// note remembers a transaction of ours: what it did is known here.
func (c *changes) note(xid string) {
	x, err := strconv.ParseUint(xid, 10, 64)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own == nil || len(c.own) >= ownMost {
		c.own = map[uint64]bool{}
	}
	c.own[x] = true
}

// turn remembers a snapshot, and reports whether it shows transactions ended, by others, that
// the one before did not.
func (c *changes) turn(now snapshot) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.seen
	c.seen = now
	ended := func(x uint64) bool { return !slices.Contains(now.running, x) && !c.own[x] }
	changed := before.end == 0 || now.end < before.end || now.end-before.end > ownMost || slices.ContainsFunc(before.running, ended)
	for x := before.end; x < now.end && !changed; x++ {
		changed = ended(x)
	}
	for x := range c.own {
		if x < now.end && !slices.Contains(now.running, x) {
			delete(c.own, x)
		}
	}
	return changed
}

// changed implements store.Reader's Changed: whatever others commit ends a transaction that a
// snapshot of before does not show as ended. So do those who write in other databases of the
// cluster; it is a hint. It reads no table.
func (s *Store) changed(ctx context.Context) (bool, error) {
	c, err := s.acquire(ctx, s.pool)
	if err != nil {
		return false, err
	}
	defer c.Release()
	var text string
	if err := c.QueryRow(ctx, sqlSnapshot).Scan(&text); err != nil {
		return false, outage(ctx, err)
	}
	now, err := parseSnapshot(text)
	if err != nil {
		return false, err
	}
	return s.changes.turn(now), nil
}

// snapshot is a pg_snapshot: it shows as ended the transactions before end that are not running.
type snapshot struct {
	end     uint64
	running []uint64
}

var errSnapshot = errors.New("the server gives a snapshot that cannot be read")

// parseSnapshot reads begin:end:running,running,…
func parseSnapshot(text string) (snapshot, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return snapshot{}, errSnapshot
	}
	end, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return snapshot{}, errSnapshot
	}
	s := snapshot{end: end}
	for x := range strings.SplitSeq(parts[2], ",") {
		if x == "" {
			continue
		}
		n, err := strconv.ParseUint(x, 10, 64)
		if err != nil {
			return snapshot{}, errSnapshot
		}
		s.running = append(s.running, n)
	}
	return s, nil
}

// shows reports whether a transaction had ended.
func (s snapshot) shows(xid uint64) bool { return xid < s.end && !slices.Contains(s.running, xid) }

// String is the snapshot as PostgreSQL writes it; running ascends.
func (s snapshot) String() string {
	begin, list := s.end, make([]string, len(s.running))
	for i, x := range s.running {
		begin = min(begin, x)
		list[i] = strconv.FormatUint(x, 10)
	}
	return strconv.FormatUint(begin, 10) + ":" + strconv.FormatUint(s.end, 10) + ":" + strings.Join(list, ",")
}
