package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

const (
	windowMost  = 10_000   // messages of a relay that are claimed and not confirmed
	windowLeast = 1_000    // under way, where nothing has been heard for a while
	windowBytes = 32 << 20 // bodies and headers of what is claimed and not confirmed

	receiptPatience     = 2 * time.Second // without a receipt, until it is sent again
	receiptPatienceMost = time.Minute
	askPauseMin         = 100 * time.Millisecond // between questions, until the receiver answers; it doubles
	askPauseMost        = 2 * time.Second
	askIdle             = 30 * time.Second // between questions of a relay that has nothing under way
	wishPause           = 250 * time.Millisecond
)

// window decides what a relay sends, sends again, and has settled. It does no I/O and reads no clock.
//
// Nothing is sent, and nothing fresh is claimed, until the receiver has said how far it has the lane. A store
// that was restored from an older copy would give numbers that it has used to other messages; a receiver that
// has more than was ever claimed here tells that, before anything is done that it could take for what it has.
//
// It begins with one batch under way, and with each receipt twice as many may be, up to windowMost. What is not
// confirmed in time is sent again from the first unconfirmed: one batch, to see whether anybody listens.
type window struct {
	batches []*shipment // claimed and not confirmed, by number
	held    int         // messages in them
	bytes   int
	newest  int64     // highest number of a batch known to the store
	replay  *shipment // a batch out of the history, to be sent again

	heard   bool        // the receiver has said what it has
	have    store.Place // that
	blank   bool        // it knows nothing of the lane: it begins where we do
	next    store.Place // to be sent next
	jump    int64       // the batch before which nothing is kept any more that the receiver lacks
	flight  []voyage    // sent and not confirmed, since the last rewind
	flying  int         // messages of it
	allowed int         // messages that may be

	patience  time.Duration
	movedAt   time.Time // when the receiver last moved on, or something was sent into a silence
	askedAt   time.Time
	askPause  time.Duration
	rewoundAt time.Time
	restored  bool // the receiver has what was never sent: this store is an older copy
}

// shipment is a claimed batch of a relay.
type shipment struct {
	*store.Batch
	last int            // index of its last message
	at   time.Time      // when it was first sent
	dead map[int]string // by index: why it cannot be sent
}

func newShipment(b *store.Batch) *shipment {
	s := &shipment{Batch: b}
	for i := range b.Deliveries {
		s.last = max(s.last, b.Deliveries[i].Index)
	}
	return s
}

func (s *shipment) end() store.Place { return store.Place{Batch: s.No, Index: s.last, Last: true} }

func (s *shipment) size() (bytes int) {
	for i := range s.Deliveries {
		bytes += len(s.Deliveries[i].Message.Body) + len(s.Deliveries[i].Message.Headers)
	}
	return bytes
}

// voyage is what one call of the transport was given.
type voyage struct {
	to store.Place
	n  int
}

func newWindow() window { return window{allowed: windowLeast, patience: receiptPatience} }

// room is how many messages may be claimed. While enough is claimed that is not sent yet, because the
// transport is busy, the next batch grows.
func (w *window) room() int {
	if !w.heard || w.restored || w.bytes >= windowBytes || w.held+store.MaxBatch > windowMost {
		return 0
	}
	unsent := 0
	for i := len(w.batches) - 1; i >= 0 && w.batches[i].No >= w.next.Batch; i-- {
		if unsent += len(w.batches[i].Deliveries); unsent >= store.MaxBatch {
			return 0
		}
	}
	return store.MaxBatch
}

// add takes in a claimed batch.
func (w *window) add(b *store.Batch) {
	s := newShipment(b)
	w.held += len(b.Deliveries)
	w.bytes += s.size()
	w.newest = max(w.newest, b.No)
	i, _ := w.search(b.No)
	w.batches = slices.Insert(w.batches, i, s)
	if w.heard && w.blank && len(w.flight) == 0 {
		w.next = store.Place{Batch: w.batches[0].No}
	}
}

func (w *window) search(no int64) (int, bool) {
	return slices.BinarySearchFunc(w.batches, no, func(s *shipment, no int64) int { return cmp.Compare(s.No, no) })
}

// find is a batch that is at hand; nil for none.
func (w *window) find(no int64) *shipment {
	if i, ok := w.search(no); ok {
		return w.batches[i]
	}
	if w.replay != nil && w.replay.No == no {
		return w.replay
	}
	return nil
}

// news is why a receiver says how far it has a lane.
type news uint8

const (
	told   news = iota // it has got on
	asked              // it was asked
	wishes             // it misses what follows
	holds              // it has no room for what follows
)

// receipt is told how far the receiver has the lane; of nothing, the zero Place. The caller has compared that with
// what the store has claimed: see beyond.
func (w *window) receipt(have store.Place, why news, now time.Time) {
	switch moved := order(have, w.have); {
	case have == (store.Place{}) && why != asked:
		w.announce(now)
	case !w.heard, why != told && moved < 0:
		w.heard = true
		w.rewind(have, now)
	case why == holds && moved >= 0: // it has dropped, perhaps, what is under way
		w.rewind(have, now)
		w.allowed = windowLeast
	case moved > 0:
		w.have, w.blank = have, false
		w.land(now)
	case moved == 0 && why == wishes && now.Sub(w.rewoundAt) >= wishPause:
		w.rewind(have, now)
	}
}

// announce has the receiver asked at once, and nothing sent until it answers: it knows nothing of the lane, and
// begins only where it has been told that nothing before is sent again.
func (w *window) announce(now time.Time) {
	if !w.heard && !w.askedAt.IsZero() || w.heard && w.blank && now.Sub(w.rewoundAt) < wishPause {
		return // it has been asked, or what it was told then is on its way
	}
	w.heard, w.askedAt, w.askPause = false, time.Time{}, 0
	w.flight, w.flying, w.allowed = w.flight[:0], 0, windowLeast
}

// unsettled is the first batch that is not settled here, as far as the window knows.
func (w *window) unsettled() int64 {
	if len(w.batches) > 0 {
		return w.batches[0].No
	}
	return w.newest + 1
}

// beyond says whether a receiver has more than was ever claimed here, as far as is known.
func (w *window) beyond(have store.Place) bool {
	s := w.find(have.Batch)
	return have.Batch > w.newest || s != nil && have.Index > s.last
}

// land takes out of the flight what the receiver has.
func (w *window) land(now time.Time) {
	n := 0
	for ; n < len(w.flight) && order(w.flight[n].to, w.have) <= 0; n++ {
		w.flying -= w.flight[n].n
	}
	w.flight = slices.Delete(w.flight, 0, n)
	if n > 0 {
		w.allowed = min(2*w.allowed, windowMost)
	}
	if next := after(w.have); order(w.next, next) < 0 {
		w.next = next
	}
	w.patience, w.movedAt = receiptPatience, now
}

// rewind has all sent again that the receiver lacks.
func (w *window) rewind(have store.Place, now time.Time) {
	w.have, w.blank = have, have == store.Place{}
	w.next = after(have)
	if w.blank {
		w.next = store.Place{Batch: w.newest + 1}
		if len(w.batches) > 0 {
			w.next.Batch = w.batches[0].No
		}
	}
	w.flight, w.flying, w.jump, w.replay = w.flight[:0], 0, 0, nil
	w.movedAt, w.rewoundAt = now, now
}

// step is what a relay is to do next.
type step uint8

const (
	toRest step = iota // until something happens, or until a time
	toShip             // send from next on
	toLook             // get batch next.Batch out of the store's history
	toAsk              // ask the receiver how far it has the lane
)

// step decides, and says until when to rest if nothing happens.
func (w *window) step(now time.Time) (step, time.Time) {
	if w.restored {
		return toRest, now.Add(askIdle)
	}
	if len(w.flight) > 0 && !now.Before(w.movedAt.Add(w.patience)) {
		w.patience, w.allowed = min(2*w.patience, receiptPatienceMost), windowLeast
		w.rewind(w.have, now)
	}
	if w.heard && w.flying < w.allowed {
		if w.find(w.next.Batch) != nil {
			return toShip, time.Time{}
		}
		if w.next.Batch <= w.newest {
			return toLook, time.Time{}
		}
	}
	if len(w.flight) > 0 {
		return toRest, w.movedAt.Add(w.patience)
	}
	due := w.askedAt.Add(askIdle)
	if !w.heard {
		due = w.askedAt.Add(w.askPause)
	}
	if now.Before(due) {
		return toRest, due
	}
	w.askedAt, w.askPause = now, min(max(2*w.askPause, askPauseMin), askPauseMost)
	return toAsk, time.Time{}
}

// found takes in a batch out of the history.
func (w *window) found(b *store.Batch) {
	w.replay = newShipment(b)
	if w.next.Batch != b.No { // nothing before it is kept
		w.next, w.jump = store.Place{Batch: b.No}, b.No
	}
}

// lost is told that none of the history is kept that the receiver lacks.
func (w *window) lost() {
	no := w.newest + 1
	if i, _ := w.search(w.next.Batch); i < len(w.batches) {
		no = w.batches[i].No
	}
	w.next, w.jump = store.Place{Batch: no}, no
}

// begin is what the packet at a place says of those before it.
func (w *window) begin(at store.Place) transport.Begin {
	switch {
	case at.Index == 0 && at.Batch == w.jump:
		return transport.BeginJump
	case at.Index == 0 && w.blank && len(w.flight) == 0 && at.Batch == w.next.Batch:
		return transport.BeginFirst
	}
	return ""
}

// sent is told that n packets, up to a place, were handed to the transport.
func (w *window) sent(to store.Place, n int, now time.Time) {
	for i, _ := w.search(w.next.Batch); i < len(w.batches) && w.batches[i].No <= to.Batch; i++ {
		if w.batches[i].at.IsZero() {
			w.batches[i].at = now
		}
	}
	if len(w.flight) == 0 {
		w.movedAt = now
	}
	w.flight = append(w.flight, voyage{to: to, n: n})
	w.flying += n
	w.next = after(to)
}

// confirmed takes out the batches that the receiver has wholly.
func (w *window) confirmed() []*shipment {
	if !w.heard || w.restored {
		return nil
	}
	n := 0
	for n < len(w.batches) && order(w.batches[n].end(), w.have) <= 0 {
		w.held -= len(w.batches[n].Deliveries)
		w.bytes -= w.batches[n].size()
		n++
	}
	done := slices.Clone(w.batches[:n])
	w.batches = slices.Delete(w.batches, 0, n)
	return done
}
