package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

// forgetful is a lane whose receiver forgets, when it may, how far it has it, and whose transport brings anything
// that was ever sent once more; either side starts anew now and then.
type forgetful struct {
	luck *rand.Rand
	now  time.Time

	w        window
	settled  map[int64]bool // batches, in the sender's store
	settling []int64        // confirmed, and not in its store yet
	claimed  int64

	l       *line
	mark    store.Place // in the receiver's store
	drained bool
	taken   map[store.Place]int // how often each is in the receiver's store
	forgot  int                 // how often the mark was deleted
	sent    []transport.Delivery
}

const forgetfulBatches = 30

// Whatever is lost, late or sent again, and whoever starts anew: all comes once, though the receiver forgets the lane
// whenever its sender has settled all that is there.
func TestLaneIsForgotten(t *testing.T) {
	forgot := 0
	for seed := range uint64(400) {
		f := &forgetful{luck: rand.New(rand.NewPCG(seed, 3)), now: time.Unix(1000, 0), w: newWindow(),
			settled: map[int64]bool{}, l: &line{lane: transport.Lane{From: "floor"}}, taken: map[store.Place]int{}}
		for steps := 0; len(f.settled) < forgetfulBatches && steps < 100_000; steps++ {
			f.step()
		}
		forgot += f.forgot
		for at, n := range f.taken {
			if n != 1 {
				t.Fatalf("seed %d: %+v was taken in %d times, want once", seed, at, n)
			}
		}
		if got := len(f.taken); got != 2*forgetfulBatches {
			t.Fatalf("seed %d: %d messages came, want %d", seed, got, 2*forgetfulBatches)
		}
	}
	if forgot < 2_000 {
		t.Errorf("the lane was forgotten %d times in all, want it often", forgot)
	}
}

func (f *forgetful) odds(n int) bool { return f.luck.IntN(n) == 0 }

func (f *forgetful) step() {
	switch {
	case f.claimed < forgetfulBatches && f.w.room() > 0 && f.odds(40):
		f.claimed++
		f.w.add(batchOf(f.claimed, 2))
	case len(f.settling) > 0 && f.odds(3):
		f.settled[f.settling[0]] = true
		f.settling = f.settling[1:]
	case f.odds(60):
		f.senderStarts()
	case f.odds(60): // the inlet starts
		f.l = &line{lane: f.l.lane, have: f.mark}
	case f.drained && f.odds(4): // retention; the inlet finds out at its next sweep, or as it starts
		f.mark, f.drained, f.forgot = store.Place{}, false, f.forgot+1
		f.l = &line{lane: f.l.lane}
	case len(f.sent) > 0 && f.odds(5):
		late := f.luck.IntN(len(f.sent))
		f.arrive(f.sent[late:min(late+1+f.luck.IntN(4), len(f.sent))])
	default:
		f.relay()
	}
}

// senderStarts has another process relay: it knows what is in the store, and what it is told.
func (f *forgetful) senderStarts() {
	f.w, f.settling = newWindow(), nil
	f.w.newest = f.claimed
	for no := int64(1); no <= f.claimed; no++ {
		if !f.settled[no] {
			f.w.add(batchOf(no, 2))
		}
	}
}

func (f *forgetful) relay() {
	switch s, wake := f.w.step(f.now); s {
	case toAsk:
		f.asked()
	case toLook:
		f.w.found(batchOf(f.w.next.Batch, 2))
	case toRest:
		rest := wake.Sub(f.now)
		if f.odds(2) {
			rest = min(rest, 300*time.Millisecond)
		}
		f.now = f.now.Add(rest)
	case toShip:
		b, first := f.w.find(f.w.next.Batch), f.w.next
		var ds []transport.Delivery
		for i := first.Index; i <= b.last; i++ {
			p := transport.Packet{Lane: f.l.lane, Position: transport.Position{Batch: b.No, Index: i, Last: i == b.last}}
			if at(b.No, i) == first {
				p.Begin = f.w.begin(first)
			}
			ds = append(ds, transport.Delivery{Packet: p})
		}
		f.w.sent(b.end(), len(ds), f.now)
		f.sent = append(f.sent, ds...)
		if !f.odds(4) {
			f.arrive(ds)
		}
	}
}

// asked is the relay's question, and the answer.
func (f *forgetful) asked() {
	next := f.w.unsettled()
	if len(f.settling) > 0 {
		next = min(next, f.settling[0])
	}
	if f.odds(3) {
		return // it is lost
	}
	f.l.begins = next
	if f.l.have.Last && f.l.have.Batch+1 == next && f.l.have == f.mark {
		f.drained = true
	}
	f.tell(asked)
}

func (f *forgetful) tell(why news) {
	if f.odds(3) {
		return
	}
	f.w.receipt(f.l.have, why, f.now)
	for _, s := range f.w.confirmed() {
		f.settling = append(f.settling, s.No)
	}
}

func (f *forgetful) arrive(ds []transport.Delivery) {
	f.l.take(ds)
	sorted := f.l.sort()
	switch n := len(sorted.on); {
	case n > 0:
		for i := range sorted.on {
			f.taken[store.Place(sorted.on[i].Packet.Position)]++
		}
		f.mark, f.drained = store.Place(sorted.on[n-1].Packet.Position), false
		f.l.kept(f.mark, n, f.now)
		f.tell(told)
	case sorted.early:
		wish, drop := f.l.missing(f.now)
		if wish {
			f.tell(wishes)
		}
		if drop {
			f.l.pending, f.l.gap = nil, time.Time{}
		}
	case len(sorted.stale) > 0:
		f.tell(told)
	}
}

// A receiver that knows nothing of the lane, and was not asked, is: it begins only where it was told.
func TestWindowAnnounces(t *testing.T) {
	w, now := heardWindow(end(6, 1), 8, batchOf(7, 1), batchOf(8, 1))
	wantShips(t, "at first", &w, now, "7/0", "8/0")
	w.receipt(store.Place{}, wishes, now)
	wantStep(t, "a wish by one that knows nothing", &w, now, toAsk)
	w.receipt(store.Place{}, wishes, now)
	wantShips(t, "another, before it has answered", &w, now)
	w.receipt(store.Place{}, asked, now)
	wantShips(t, "its answer", &w, now, "7/0first", "8/0")
	w.receipt(store.Place{}, wishes, now.Add(wishPause/2))
	wantShips(t, "a wish of before that", &w, now.Add(wishPause/2))
	w.receipt(store.Place{}, holds, now.Add(wishPause))
	wantStep(t, "it has no room, and knows nothing", &w, now.Add(wishPause), toAsk)
	if got := w.unsettled(); got != 7 {
		t.Errorf("unsettled() = %d, want 7", got)
	}
}

// What an inlet makes of a question: where an unknown lane begins, what is drained, and not noted again at once, and
// which lives are over.
func TestInletIsAsked(t *testing.T) {
	x := &exchange{l: &life{Engine: &Engine{config: Config{Keep: time.Hour}}}}
	in := &inlet{x: x, lines: map[transport.Lane]*line{}, begins: map[transport.Lane]int64{}, earlierOf: map[string]string{}}
	lane := func(from, life, queue string) transport.Lane {
		return transport.Lane{From: from, Incarnation: life, Queue: queue}
	}
	known, now := lane("floor", "b", "cook"), time.Unix(1000, 0)
	for _, l := range []transport.Lane{known, lane("floor", "a", "cook"), lane("floor", "a", "clean"), lane("bar", "a", "cook"), lane("floor", "c", "cook")} {
		in.line(l).have = end(6, 1)
	}
	wants := func(what string, want ...store.Drained) {
		t.Helper()
		slices.SortFunc(in.drained, func(a, b store.Drained) int { return strings.Compare(a.Lane, b.Lane) })
		if !slices.Equal(in.drained, want) {
			t.Errorf("%s: it is noted that %+v, want %+v", what, in.drained, want)
		}
		in.drained = nil
	}
	drained := store.Drained{Lane: "floor/b/cook", Have: end(6, 1)}
	in.asked(known, laneNote{Next: 6}, now)
	wants("not settled")
	in.asked(known, laneNote{Next: 8}, now)
	wants("settled, and more than is here")
	in.asked(known, laneNote{Next: 7, Open: true}, now)
	wants("settled, but for what nobody works")
	in.asked(known, laneNote{}, now)
	wants("nothing said")
	in.asked(known, laneNote{Next: 7}, now)
	wants("settled", drained)
	in.asked(known, laneNote{Next: 7}, now.Add(drainedPause(time.Hour)-1))
	wants("again, at once")
	in.asked(known, laneNote{Next: 7}, now.Add(drainedPause(time.Hour)))
	wants("again, after a while", drained)
	in.lines[known].have = at(7, 0)
	in.asked(known, laneNote{Next: 8}, now)
	wants("in the midst of a batch")

	in.asked(known, laneNote{Earlier: "x a"}, now)
	wants("its store had other lives", store.Drained{Lane: "floor/a/clean", Over: true}, store.Drained{Lane: "floor/a/cook", Over: true})
	in.asked(known, laneNote{Earlier: "x a"}, now)
	wants("the same again")

	for i := range beginsMost + 2 { // whoever makes up names
		in.asked(lane("floor", "b", fmt.Sprint("q", i)), laneNote{Next: int64(i + 1)}, now)
	}
	last := lane("floor", "b", fmt.Sprint("q", beginsMost+1))
	if len(in.begins) > beginsMost || in.line(last).begins != beginsMost+2 || in.lines[known].begins != 8 {
		t.Errorf("%d unknown lanes begin somewhere, the last one at %d, want at most %d, and %d", len(in.begins), in.line(last).begins, beginsMost, beginsMost+2)
	}
	in.drop(map[string]bool{"floor/b/cook": true, "bar/a/cook": true}, now)
	if len(in.lines) != 2 || in.lines[known] == nil || in.begins[last] != 0 {
		t.Errorf("%d lanes are kept in memory, want the two that are in the store", len(in.lines))
	}
	if pause := drainedPause(1000 * time.Hour); pause != drainedMost {
		t.Errorf("drainedPause(long) = %s, want %s", pause, drainedMost)
	}
}
