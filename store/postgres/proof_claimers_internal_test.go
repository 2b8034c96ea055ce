package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/weir-go/weir/store"
)

// claim works what there is, as one process among others, until all is sent and worked.
func (o *order) claim(ctx context.Context, i int) {
	s := o.stores[i]
	if err := s.Begin(ctx, &store.Process{Host: "here"}); err != nil {
		o.fault(err)
		return
	}
	for idle := 0; idle < idleLooks && !o.lostHope(); {
		over := false
		select {
		case <-o.sent:
			over = true
		default:
		}
		got, err := s.Claim(ctx, store.ClaimRequest{Queue: o.queue, Max: 300})
		if err != nil {
			o.fault(err)
			return
		}
		if got.Batch == nil {
			o.looks[i].Add(1)
			if over {
				idle++
			}
			rest(2 * time.Millisecond)
			continue
		}
		idle = 0
		o.work(i, got.Batch)
		rest(o.orderSize.work)
		if err := o.settle(ctx, i, got.Batch); err != nil {
			o.fault(err)
		}
	}
	o.fault(s.End(ctx))
}

// worksMost is how often a message may come before the proof is over.
const worksMost = 5

func (o *order) lostHope() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.hopeless
}

// work does what a handler would: it notes what it sees.
func (o *order) work(i int, b *store.Batch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, d := range b.Deliveries {
		m := d.Message
		if m.Pos < o.highest[i] {
			o.figures.Late++
		}
		o.highest[i] = max(o.highest[i], m.Pos)
		o.worked[string(m.Body)]++
		o.hopeless = o.hopeless || o.worked[string(m.Body)] > worksMost
		if m.Key == "" {
			continue
		}
		if holder, held := o.holder[m.Key]; held && holder != i {
			o.figures.Shared++
		}
		o.holder[m.Key] = i
		if sent := o.books[string(m.Body)]; sent != nil {
			if sent.n <= o.last[m.Key] {
				o.figures.Inverted++
			}
			o.last[m.Key] = sent.n
		}
	}
	o.waited(b)
}

// waited takes down how long committed messages have waited.
func (o *order) waited(b *store.Batch) {
	now := time.Now()
	for _, d := range b.Deliveries {
		sent := o.books[string(d.Message.Body)]
		if sent == nil || !sent.committed {
			continue // its sender has not been told yet
		}
		least := o.looks[0].Load() - sent.looks[0]
		for i := range sent.looks {
			least = min(least, o.looks[i].Load()-sent.looks[i])
		}
		o.figures.EmptyLooks = max(o.figures.EmptyLooks, least)
		o.figures.LongestGapMs = max(o.figures.LongestGapMs, now.Sub(sent.at).Milliseconds())
	}
}

func (o *order) settle(ctx context.Context, i int, b *store.Batch) error {
	g := &store.Group{}
	for _, d := range b.Deliveries {
		g.Changes = append(g.Changes, &store.Change{Settle: []store.Settlement{{Batch: b.BatchRef, Index: d.Index,
			Pos: d.Message.Pos, Key: d.Message.Key, Verdict: store.Done, Attempt: d.Attempt}}})
	}
	o.mu.Lock() // before the commit: after it others may have the keys
	for _, d := range b.Deliveries {
		delete(o.holder, d.Message.Key)
	}
	o.mu.Unlock()
	err := o.stores[i].Commit(ctx, g)
	for _, ch := range g.Changes {
		err = errors.Join(err, ch.Err)
	}
	return err
}

// judge looks at the whole.
func (o *order) judge() orderFigures {
	f := o.figures
	f.Proof = "commit order"
	f.OpenForMs, f.EveryMs, f.LongTransactions = o.open.Milliseconds(), o.every.Milliseconds(), o.longs.Load()
	for body, sent := range o.books {
		if !sent.committed {
			continue
		}
		f.Messages++
		if o.worked[body] == 0 {
			f.Lost++
		}
	}
	for body, n := range o.worked {
		if n > 1 {
			f.Doubled++
		}
		if sent := o.books[body]; sent == nil || !sent.committed {
			f.Phantom++
		}
	}
	return f
}
