package local

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weir-go/weir/transport"
)

// item is a packet as it waits.
type item struct {
	header transport.Header
	body   []byte
	place  string // lane and position; empty for foreign packets, which are never the same
	seq    int64
	size   int

	attempt int
	owner   *inlet    // whose hands it is in; nil while it is ready or held
	back    time.Time // when it comes again, unless acknowledged; zero while it is ready
	gone    bool      // acknowledged
}

// inbox holds what was sent to a boundary until it is acknowledged.
type inbox struct {
	config Config

	mu     sync.Mutex
	places map[string]*item
	count  int
	bytes  int
	seq    int64
	ready  []*item       // by seq
	away   []*item       // in somebody's hands or held, by back
	news   chan struct{} // closed when something is ready; made by who waits
}

func newInbox(c Config) *inbox { return &inbox{config: c, places: map[string]*item{}} }

// put keeps an item; false when there is no room. One that is here already is kept.
func (b *inbox) put(it *item) bool {
	it.size = len(it.body)
	for name, values := range it.header {
		it.size += len(name)
		for _, v := range values {
			it.size += len(v)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if it.place != "" && b.places[it.place] != nil {
		return true
	}
	if b.count >= b.config.Capacity || b.bytes+it.size > b.config.CapacityBytes {
		return false
	}
	if it.place != "" {
		b.places[it.place] = it
	}
	b.count++
	b.bytes += it.size
	b.seq++
	it.seq = b.seq
	b.ready = append(b.ready, it)
	b.wake()
	return true
}

func (b *inbox) wake() {
	if b.news != nil {
		close(b.news)
		b.news = nil
	}
}

// take hands out what is ready. Where nothing is it says when to look again, and what
// closes when something comes.
func (b *inbox) take(in *inlet, max int) (got []*item, again time.Duration, news <-chan struct{}) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if in.closed {
		return nil, 0, nil
	}
	for len(b.away) > 0 && !b.away[0].back.After(now) {
		it := b.away[0]
		b.away = b.away[1:]
		b.restore(it)
	}
	size := 0
	for len(got) < max && len(got) < len(b.ready) {
		it := b.ready[len(got)]
		if size += it.size; size > transport.MaxNextBytes && len(got) > 0 {
			break
		}
		got = append(got, it)
	}
	b.ready = b.ready[len(got):]
	for _, it := range got {
		it.attempt++
		it.owner = in
		b.putAway(it, now.Add(b.config.Redeliver))
	}
	if len(got) == 0 {
		again = time.Hour
		if len(b.away) > 0 {
			again = b.away[0].back.Sub(now)
		}
		if b.news == nil {
			b.news = make(chan struct{})
		}
		news = b.news
	}
	return got, again, news
}

// restore makes an item ready again, in its old place.
func (b *inbox) restore(it *item) {
	it.owner, it.back = nil, time.Time{}
	i, _ := slices.BinarySearchFunc(b.ready, it.seq, func(o *item, seq int64) int { return cmp.Compare(o.seq, seq) })
	b.ready = slices.Insert(b.ready, i, it)
	b.wake()
}

func (b *inbox) putAway(it *item, back time.Time) {
	it.back = back
	i, _ := slices.BinarySearchFunc(b.away, back, func(o *item, back time.Time) int {
		if o.back.After(back) {
			return 1
		}
		return -1 // behind those of the same time
	})
	b.away = slices.Insert(b.away, i, it)
}

// fetch takes an item back out of where it is.
func (b *inbox) fetch(it *item) {
	is := func(o *item) bool { return o == it }
	if it.back.IsZero() {
		b.ready = slices.DeleteFunc(b.ready, is)
	} else {
		b.away = slices.DeleteFunc(b.away, is)
	}
}

// ack removes items for good.
func (b *inbox) ack(ds []transport.Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	gone := false
	for _, d := range ds {
		if it, ok := d.Handle.(*item); ok && !it.gone {
			it.gone, gone = true, true
			b.count--
			b.bytes -= it.size
			if b.places[it.place] == it {
				delete(b.places, it.place)
			}
		}
	}
	if gone { // in one pass for all
		b.away = slices.DeleteFunc(b.away, func(it *item) bool { return it.gone })
		b.ready = slices.DeleteFunc(b.ready, func(it *item) bool { return it.gone })
	}
}

// hold puts items of an inlet away for a while.
func (b *inbox) hold(in *inlet, ds []transport.Delivery, pause time.Duration) {
	back := time.Now().Add(pause)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range ds {
		if it, ok := d.Handle.(*item); ok && !it.gone && it.owner == in {
			b.fetch(it)
			it.owner = nil
			b.putAway(it, back)
		}
	}
	b.wake() // the time to wait for may be sooner
}

// giveBack makes ready what an inlet had in its hands.
func (b *inbox) giveBack(in *inlet) {
	b.mu.Lock()
	defer b.mu.Unlock()
	in.closed = true
	had := []*item(nil)
	b.away = slices.DeleteFunc(b.away, func(it *item) bool {
		if it.owner == in {
			had = append(had, it)
		}
		return it.owner == in
	})
	for _, it := range had {
		b.restore(it)
	}
}

// inlet is one reader of an inbox.
type inlet struct {
	end  *end
	box  *inbox
	once sync.Once
	done chan struct{}
	// closed is under the inbox's lock: nothing is handed out after giving back.
	closed bool
}

func (in *inlet) open(ctx context.Context) error {
	select {
	case <-in.done:
		return transport.ErrClosed
	default:
		return ctx.Err()
	}
}

// Next implements transport.Inlet.
func (in *inlet) Next(ctx context.Context, max int) ([]transport.Delivery, error) {
	if max < 1 || max > transport.MaxNext {
		return nil, fmt.Errorf("%w: Next(%d): want 1 to %d", transport.ErrInvalid, max, transport.MaxNext)
	}
	for {
		if err := in.open(ctx); err != nil {
			return nil, err
		}
		items, again, news := in.box.take(in, max)
		if len(items) > 0 {
			return deliveries(items), nil
		}
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
		case <-in.done:
		case <-news:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func deliveries(items []*item) []transport.Delivery {
	ds := make([]transport.Delivery, len(items))
	for i, it := range items {
		d := transport.Delivery{Attempt: it.attempt, Number: it.seq, Handle: it}
		d.Packet, d.Malformed = transport.Decode(it.header, it.body)
		if d.Malformed != nil {
			d.Raw = it.header
		}
		ds[i] = d
	}
	return ds
}

// Ack implements transport.Inlet.
func (in *inlet) Ack(ctx context.Context, ds []transport.Delivery) error {
	if err := in.open(ctx); err != nil {
		return err
	}
	in.box.ack(ds)
	return nil
}

// Hold implements transport.Inlet.
func (in *inlet) Hold(ctx context.Context, ds []transport.Delivery, pause time.Duration) error {
	if err := in.open(ctx); err != nil {
		return err
	}
	if pause < 0 || pause > transport.MaxHold {
		return fmt.Errorf("%w: Hold for %s: want 0 to %s", transport.ErrInvalid, pause, transport.MaxHold)
	}
	in.box.hold(in, ds, pause)
	return nil
}

// Close implements transport.Inlet.
func (in *inlet) Close() error {
	in.once.Do(func() {
		close(in.done)
		in.box.giveBack(in)
		in.end.mu.Lock()
		delete(in.end.inlets, in)
		in.end.mu.Unlock()
	})
	return nil
}
