package postgres

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/weir-go/weir/store"
)

// senders are this process's commits that send. They are written at the same time, and decide one
// after another whether queues have room: each counts what those before it are writing still. So
// capacity is not overshot by what this process has in flight.
type senders struct {
	turn sync.Mutex // held from before depths are read until it is decided what is sent

	mu   sync.Mutex
	open []*sending
}

// sending is what one transaction appends, from its decision until it is over.
type sending struct {
	xid    uint64
	added  map[int64]int64 // by topic
	undone atomic.Bool
}

// takeTurn waits for the turn of a commit that sends, and notes what others are writing. leave, which
// may be called again, ends it: what this one appends is known to those who come.
func (t *commit) takeTurn() (leave func()) {
	if !slices.ContainsFunc(t.changes, func(ch *store.Change) bool { return len(ch.Sends) > 0 }) {
		return func() {}
	}
	all := &t.owner.senders
	waits := t.g.Held == store.HeldApart // for others' keys, and nobody waits for it
	if !waits {
		all.turn.Lock()
	}
	all.mu.Lock()
	t.beside = slices.Clone(all.open)
	all.mu.Unlock()
	left := false
	return func() {
		if left {
			return
		}
		left = true
		if len(t.appended) > 0 {
			t.sending = t.sends()
			all.mu.Lock()
			all.open = append(all.open, t.sending)
			all.mu.Unlock()
		}
		if !waits {
			all.turn.Unlock()
		}
	}
}

// sends is what the commit appends.
func (t *commit) sends() *sending {
	x, _ := strconv.ParseUint(t.xid, 10, 64) // 0 is shown by every snapshot
	own := &sending{xid: x, added: make(map[int64]int64, len(t.known))}
	for _, tail := range t.known {
		own.added[tail.id] = tail.added
	}
	return own
}

// over takes back what takeTurn has told the others, once the transaction has ended.
func (t *commit) over(undone bool) {
	own := t.sending
	if own == nil {
		return
	}
	t.sending = nil
	own.undone.Store(undone)
	all := &t.owner.senders
	all.mu.Lock()
	defer all.mu.Unlock()
	all.open = slices.DeleteFunc(all.open, func(other *sending) bool { return other == own })
}

// countBeside adds to the depths, once all are known, what others of this process are writing, as
// far as the depths do not hold it.
func (t *commit) countBeside() error {
	if err := t.completeTails(); err != nil {
		return err
	}
	if len(t.beside) == 0 || t.depthsSeen == "" {
		return nil
	}
	seen, err := parseSnapshot(t.depthsSeen)
	if err != nil {
		return err
	}
	for _, other := range t.beside {
		if other.undone.Load() || seen.shows(other.xid) {
			continue
		}
		for _, tail := range t.known {
			for _, q := range tail.queues {
				q.depth += other.added[tail.id]
			}
		}
	}
	return nil
}
