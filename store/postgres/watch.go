package postgres

import (
	"sync"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/batchrow"
)

// watchlist marks deliveries of ours that have rows beside their batch's: earlier
// attempts, or a start. Only for those does a success look for them. It is kept in
// memory, because a batch is settled by the process that claimed it.
type watchlist struct {
	mu   sync.Mutex
	bits map[store.BatchRef]batchrow.Bits
}

// watched is a delivery to be watched.
type watched struct {
	batch        store.BatchRef
	index, count int
}

func (l *watchlist) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bits = nil
}

func (l *watchlist) keep(list []watched) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range list {
		b := l.bits[w.batch]
		if b == nil {
			if l.bits == nil {
				l.bits = map[store.BatchRef]batchrow.Bits{}
			}
			b = batchrow.NewBits(w.count)
			l.bits[w.batch] = b
		}
		b.Set(w.index)
	}
}

// of is a copy of a batch's marks.
func (l *watchlist) of(r store.BatchRef) batchrow.Bits {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(batchrow.Bits(nil), l.bits[r]...)
}

func (l *watchlist) drop(r store.BatchRef) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.bits, r)
}
