package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

func at(batch int64, index int) store.Place { return store.Place{Batch: batch, Index: index} }

func end(batch int64, index int) store.Place {
	return store.Place{Batch: batch, Index: index, Last: true}
}

// batchOf is a claimed batch of n messages.
func batchOf(no int64, n int) *store.Batch {
	b := &store.Batch{BatchRef: store.BatchRef{No: no, Epoch: 1}}
	for i := range n {
		b.Deliveries = append(b.Deliveries, store.Delivery{Index: i, Attempt: 1, Message: &store.Message{ID: fmt.Sprintf("%d-%d", no, i)}})
	}
	return b
}

// window is one that a receiver has told what it has.
func heardWindow(have store.Place, newest int64, batches ...*store.Batch) (w window, now time.Time) {
	w, now = newWindow(), time.Unix(1000, 0)
	w.newest = newest
	for _, b := range batches {
		w.add(b)
	}
	w.askedAt = now
	w.receipt(have, asked, now)
	return w, now
}

// ships sends all that the window wants sent at once, and gives the places, each with how the batch began.
func ships(w *window, now time.Time) (places []string) {
	for range 100 {
		if s, _ := w.step(now); s != toShip {
			return places
		}
		s := w.find(w.next.Batch)
		begin := w.begin(w.next)
		for i := w.next.Index; i <= s.last; i++ {
			places = append(places, fmt.Sprintf("%d/%d%s", s.No, i, begin))
			begin = ""
		}
		w.sent(s.end(), s.last+1-w.next.Index, now)
	}
	return append(places, "no end")
}

func numbers(done []*shipment) (nos []int64) {
	for _, s := range done {
		nos = append(nos, s.No)
	}
	return nos
}

func wantShips(t *testing.T, what string, w *window, now time.Time, want ...string) {
	t.Helper()
	if got := ships(w, now); !slices.Equal(got, want) {
		t.Errorf("%s: sends %v, want %v", what, got, want)
	}
}

func wantStep(t *testing.T, what string, w *window, now time.Time, want step) time.Time {
	t.Helper()
	got, wake := w.step(now)
	if got != want {
		t.Errorf("%s: step = %d, want %d", what, got, want)
	}
	return wake
}

// Nothing is sent or claimed before the receiver has said how far it is; it is asked again and again.
func TestWindowAsksFirst(t *testing.T) {
	w, now := newWindow(), time.Unix(1000, 0)
	w.add(batchOf(4, 2))
	if w.room() != 0 {
		t.Errorf("room() before anything was heard = %d, want 0", w.room())
	}
	wantStep(t, "at first", &w, now, toAsk)
	wake := wantStep(t, "then", &w, now, toRest)
	if got := wake.Sub(now); got != askPauseMin {
		t.Errorf("it asks again after %s, want %s", got, askPauseMin)
	}
	for range 20 {
		now = wake
		wantStep(t, "when it is time", &w, now, toAsk)
		wake = wantStep(t, "then", &w, now, toRest)
	}
	if got := wake.Sub(now); got != askPauseMost {
		t.Errorf("it asks again after %s, want %s", got, askPauseMost)
	}
	w.receipt(end(3, 0), asked, now)
	wantShips(t, "when the receiver has said it", &w, now, "4/0", "4/1")
	if w.room() == 0 {
		t.Error("room() = 0 when all is sent, want some")
	}
}

func TestWindowBegins(t *testing.T) {
	for what, c := range map[string]struct {
		have    store.Place
		newest  int64
		batches []*store.Batch
		want    []string
		done    []int64
	}{
		"new lane":                  {store.Place{}, 1, []*store.Batch{batchOf(1, 2)}, []string{"1/0first", "1/1"}, nil},
		"unknown, with a past":      {store.Place{}, 8, []*store.Batch{batchOf(7, 1), batchOf(8, 1)}, []string{"7/0first", "8/0"}, nil},
		"where the last ended":      {end(6, 1), 8, []*store.Batch{batchOf(7, 1), batchOf(8, 1)}, []string{"7/0", "8/0"}, nil},
		"in the midst of one":       {at(7, 0), 8, []*store.Batch{batchOf(7, 3), batchOf(8, 1)}, []string{"7/1", "7/2", "8/0"}, nil},
		"one is there already":      {end(7, 1), 8, []*store.Batch{batchOf(7, 2), batchOf(8, 1)}, []string{"8/0"}, []int64{7}},
		"all is there already":      {end(8, 0), 8, []*store.Batch{batchOf(7, 2), batchOf(8, 1)}, nil, []int64{7, 8}},
		"claimed in another order":  {end(6, 1), 8, []*store.Batch{batchOf(8, 1), batchOf(7, 1)}, []string{"7/0", "8/0"}, nil},
		"settled in part by others": {end(6, 1), 7, []*store.Batch{{BatchRef: store.BatchRef{No: 7}, Deliveries: batchOf(7, 3).Deliveries[1:]}}, []string{"7/0", "7/1", "7/2"}, nil},
	} {
		w, now := heardWindow(c.have, c.newest, c.batches...)
		if got := numbers(w.confirmed()); !slices.Equal(got, c.done) {
			t.Errorf("%s: confirmed %v, want %v", what, got, c.done)
		}
		wantShips(t, what, &w, now, c.want...)
		wantStep(t, what+", then", &w, now, toRest)
	}
}

// A receiver that has more than was ever claimed tells that the store is an older copy.
func TestWindowBeyond(t *testing.T) {
	w, _ := heardWindow(end(6, 1), 7, batchOf(7, 3))
	for have, want := range map[store.Place]bool{
		{}: false, end(6, 1): false, at(7, 0): false, end(7, 2): false,
		at(7, 3): true, end(7, 3): true, at(8, 0): true, end(9, 0): true,
	} {
		if got := w.beyond(have); got != want {
			t.Errorf("beyond(%+v) = %t, want %t", have, got, want)
		}
	}
	w.restored = true
	w.receipt(end(7, 2), told, time.Unix(1000, 0))
	if done := w.confirmed(); len(done) != 0 || w.room() != 0 {
		t.Errorf("an older copy settles %v and claims %d, want nothing", numbers(done), w.room())
	}
}

// Twice as much is under way after each receipt, up to what may be claimed.
func TestWindowGrows(t *testing.T) {
	w, now := heardWindow(store.Place{}, 0)
	sent, last := 0, int64(0)
	var most []int
	for range 8 {
		sent += len(ships(&w, now))
		for w.room() > 0 {
			last++
			w.add(batchOf(last, store.MaxBatch))
			sent += len(ships(&w, now))
		}
		most = append(most, w.flying)
		w.receipt(w.flight[len(w.flight)-1].to, told, now)
		w.confirmed()
	}
	if want := []int{1000, 2000, 4000, 8000, 10000, 10000, 10000, 10000}; !slices.Equal(most, want) {
		t.Errorf("under way at most %v, want %v", most, want)
	}
	if w.held > windowMost {
		t.Errorf("%d messages are claimed, want at most %d", w.held, windowMost)
	}
	if sent += len(ships(&w, now)); int64(sent) != last*store.MaxBatch {
		t.Errorf("%d packets were sent, want each of %d once", sent, last*store.MaxBatch)
	}
}

// Without a receipt one batch is sent again, after longer and longer pauses.
func TestWindowSendsAgain(t *testing.T) {
	w, now := heardWindow(end(6, 1), 8, batchOf(7, 1000), batchOf(8, 1000))
	w.allowed = windowMost
	if got := len(ships(&w, now)); got != 2000 {
		t.Fatalf("sends %d, want 2000", got)
	}
	pause := receiptPatience
	for range 8 {
		wake := wantStep(t, "while it waits", &w, now, toRest)
		if got := wake.Sub(now); got != pause {
			t.Errorf("it is sent again after %s, want %s", got, pause)
		}
		now = wake
		if got := ships(&w, now); len(got) != 1000 || got[0] != "7/0" {
			t.Errorf("sends %d again from %s, want batch 7", len(got), got[0])
		}
		pause = min(2*pause, receiptPatienceMost)
	}
	w.receipt(end(7, 999), told, now)
	if got := ships(&w, now); len(got) != 1000 || got[0] != "8/0" {
		t.Errorf("sends %d after the receipt, want batch 8", len(got))
	}
	if wake := wantStep(t, "then", &w, now, toRest); wake.Sub(now) != receiptPatience {
		t.Errorf("it is sent again after %s, want %s", wake.Sub(now), receiptPatience)
	}
}

// What a receiver wishes for is sent at once, once for each wish, from history too.
func TestWindowWishes(t *testing.T) {
	w, now := heardWindow(end(6, 1), 8, batchOf(7, 2), batchOf(8, 2))
	wantShips(t, "first", &w, now, "7/0", "7/1", "8/0", "8/1")
	now = now.Add(time.Second)
	w.receipt(at(7, 0), wishes, now)
	wantShips(t, "the receiver moved on and wishes", &w, now)
	w.receipt(at(7, 0), wishes, now)
	wantShips(t, "it wishes again", &w, now, "7/1", "8/0", "8/1")
	w.receipt(at(7, 0), wishes, now)
	wantShips(t, "a wish that was met just now", &w, now)
	w.receipt(end(8, 1), told, now)
	w.confirmed()
	w.receipt(at(5, 0), told, now)
	wantShips(t, "an old receipt", &w, now)

	w.receipt(end(5, 3), wishes, now) // it was restored
	wantStep(t, "what is settled", &w, now, toLook)
	if w.next != at(6, 0) {
		t.Errorf("looks for %+v, want 6/0", w.next)
	}
	w.found(batchOf(6, 2))
	if got := w.begin(w.next); got != "" {
		t.Errorf("6/0 begins as %q, want nothing: it is next", got)
	}
	s := w.find(6)
	w.sent(s.end(), 2, now)
	wantStep(t, "then", &w, now, toLook)
	w.found(batchOf(7, 2))
	wantShips(t, "from history", &w, now, "7/0", "7/1")
	wantStep(t, "then", &w, now, toLook)
	w.found(batchOf(8, 2))
	wantShips(t, "from history", &w, now, "8/0", "8/1")
	wantStep(t, "at the end", &w, now, toRest)
}

// What retention has taken is jumped over, and said so.
func TestWindowJumps(t *testing.T) {
	w, now := heardWindow(end(8, 1), 8)
	w.receipt(end(2, 0), wishes, now)
	wantStep(t, "what is not kept", &w, now, toLook)
	w.found(batchOf(7, 1)) // the first that is
	wantShips(t, "from history", &w, now, "7/0jump")
	w.receipt(end(2, 0), wishes, now.Add(time.Second))
	w.lost()
	wantShips(t, "nothing is kept, and nothing new is there", &w, now)
	w.add(batchOf(9, 1))
	wantShips(t, "the next", &w, now, "9/0jump")

	w, now = heardWindow(end(2, 0), 8, batchOf(8, 1))
	w.lost()
	wantShips(t, "nothing but what is claimed", &w, now, "8/0jump")
}

// A receiver without room is sent one batch, now and then.
func TestWindowHolds(t *testing.T) {
	w, now := heardWindow(end(6, 0), 10, batchOf(7, 1000), batchOf(8, 1000), batchOf(9, 1000))
	w.allowed = windowMost
	ships(&w, now)
	w.receipt(at(7, 9), holds, now)
	if got := ships(&w, now); len(got) != 1990 || got[0] != "7/10" {
		t.Errorf("sends %d from %s to one that holds, want the rest of its batch, and what stays below 1,000 behind it", len(got), got[0])
	}
	w.receipt(end(7, 999), told, now)
	w.receipt(end(8, 999), told, now)
	if got := ships(&w, now); len(got) != 1000 {
		t.Errorf("sends %d when it goes on, want the third batch", len(got))
	}
}

// What another process has sent is not sent once more.
func TestWindowPassesOver(t *testing.T) {
	w, now := heardWindow(end(6, 0), 8, batchOf(7, 2), batchOf(8, 1))
	w.receipt(end(7, 1), told, now)
	wantShips(t, "when others have sent the first batch", &w, now, "8/0")
}

// Nothing to do: it is asked seldom, in case that the receiver was restored.
func TestWindowIdle(t *testing.T) {
	w, now := heardWindow(end(6, 1), 6)
	wake := wantStep(t, "idle", &w, now, toRest)
	if got := wake.Sub(now); got != askIdle {
		t.Errorf("it asks after %s, want %s", got, askIdle)
	}
	wantStep(t, "then", &w, wake, toAsk)
}

// Bytes are bounded as messages are.
func TestWindowBytes(t *testing.T) {
	w, _ := heardWindow(store.Place{}, 0)
	for no := int64(1); w.room() > 0; no++ {
		b := batchOf(no, 4)
		for i := range b.Deliveries {
			b.Deliveries[i].Message.Body = make([]byte, 1<<20)
		}
		w.add(b)
		if no > 100 {
			t.Fatalf("%d bytes are claimed, and there is room for more", w.bytes)
		}
	}
	w.receipt(end(w.newest, 3), told, time.Unix(1000, 0))
	w.confirmed()
	if w.bytes != 0 || w.held != 0 {
		t.Errorf("%d bytes in %d messages are held when all is confirmed, want none", w.bytes, w.held)
	}
}

// Whatever is lost on either way, and however often the receiver falls back, it has all in the end, each once, in order.
func TestWindowWalk(t *testing.T) {
	for seed := range uint64(300) {
		if got, want := walkLane(seed), 40; got != want {
			t.Fatalf("seed %d: the receiver has %d messages in order, want %d", seed, got, want)
		}
	}
}

// walkLane sends 20 batches of 2 over a bad line, and gives how many came.
func walkLane(seed uint64) (came int) {
	luck := rand.New(rand.NewPCG(seed, 0))
	w, now := newWindow(), time.Unix(1000, 0)
	l := &line{lane: transport.Lane{From: "floor"}}
	var claimed, confirmed int64
	tell := func(why news) {
		if luck.IntN(3) > 0 {
			w.receipt(l.have, why, now)
			confirmed += int64(len(w.confirmed()))
		}
	}
	for steps := 0; confirmed < 20 && steps < 100_000; steps++ {
		if claimed < 20 && w.room() > 0 && luck.IntN(2) == 0 {
			claimed++
			w.add(batchOf(claimed, 2))
		}
		s, wake := w.step(now)
		switch s {
		case toAsk:
			l.begins = w.unsettled()
			tell(asked)
		case toLook:
			w.found(batchOf(w.next.Batch, 2))
		case toRest:
			now = now.Add(min(wake.Sub(now), 300*time.Millisecond))
		case toShip:
			var ds []transport.Delivery
			b := w.find(w.next.Batch)
			first := w.next
			for i := first.Index; i <= b.last; i++ {
				p := transport.Packet{Lane: transport.Lane{From: "floor"}, Position: transport.Position{Batch: b.No, Index: i, Last: i == b.last}}
				if at(b.No, i) == first {
					p.Begin = w.begin(first)
				}
				if luck.IntN(4) > 0 {
					ds = append(ds, transport.Delivery{Packet: p})
				}
			}
			w.sent(b.end(), b.last+1-first.Index, now)
			luck.Shuffle(len(ds), func(i, j int) { ds[i], ds[j] = ds[j], ds[i] })
			l.take(ds)
		}
		sorted := l.sort()
		if n := len(sorted.on); n > 0 {
			came += n
			l.kept(store.Place(sorted.on[n-1].Packet.Position), n, now)
			tell(told)
		} else if sorted.early {
			wish, drop := l.missing(now)
			if wish {
				tell(wishes)
			}
			if drop {
				l.pending, l.gap = nil, time.Time{}
			}
		} else if len(sorted.stale) > 0 {
			tell(told)
		}
	}
	return came
}
