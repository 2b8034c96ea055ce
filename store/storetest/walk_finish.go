package storetest

import (
	"time"

	"github.com/weir-go/weir/store"
)

// finish works everything off and wants nothing to be left over, and the user's
// table to hold each effect once.
func (w *walk) finish() {
	for _, l := range w.lines {
		if l.paused {
			w.pause(l)
		}
	}
	for range 10_000 {
		if w.Failed() || !w.workOff() {
			break
		}
	}
	w.judge()
	notes, err := w.h.Notes(w.ctx())
	if err != nil {
		w.Fatalf("the user's table = %v, want nil", err)
	}
	effects := map[string]int{}
	for _, n := range notes {
		effects[n]++
	}
	for _, l := range w.lines {
		if l.depth() != 0 || l.count(died) != 0 {
			w.Errorf("%s: depth %d, dead %d after all was worked off, want 0: %s", l.Name, l.depth(), l.count(died), w.row(l, ""))
		}
		for _, c := range l.copies {
			want := 0
			if c.fate == worked {
				want = 1
			}
			if got := effects[l.Name+"/"+string(c.Body)]; got != want {
				w.Errorf("%s: %q is %s, and had its effect %d times, want %d", l.Name, c.Body, c.fate, got, want)
			}
		}
	}
	for _, name := range w.names {
		l := w.lines[name]
		w.figures(name, store.FigureMinute{Sent: int64(len(l.copies)), Done: l.count(worked), Died: l.deaths()})
	}
	w.well()
}

// workOff does one round: all queues are claimed empty, all that is held is done,
// the dead are retried, and the clock goes on. It reports whether there was anything.
func (w *walk) workOff() bool {
	busy := false
	for _, name := range w.names {
		l := w.lines[name]
		for _, c := range l.workable() {
			ch := change(w.verdict(c.batch, w.deliveryOf(c), store.Done))
			ch.Closures = []store.Closure{w.note(l.Name + "/" + string(c.Body))}
			w.commit(ch)
			w.log("%s: %q done", l.Name, c.Body)
			c.settled(ch.Settle[0])
			busy = true
		}
		got := w.look(name, 5)
		w.log("claim %s, max 5", name)
		if got.Batch != nil {
			w.handed(l, got.Batch, 5)
			busy = true
			continue
		}
		w.overlooked(l, got, false)
		w.judgeDead(l)
		if l.count(died) > 0 {
			w.retryAll(l)
			busy = true
		}
	}
	if !busy {
		for _, l := range w.lines {
			busy = busy || l.depth() > 0
		}
		w.clock.move(time.Minute)
	}
	return busy
}

func (w *walk) retryAll(l *line) {
	w.log("%s: retry all dead", l.Name)
	got := w.operate(store.Act{Verb: store.RetryDead, Queue: l.Name})
	if got.Count == 0 {
		w.Fatalf("Operate(retry all of %s) = 0, want %d", l.Name, l.count(died))
	}
	dead := w.listDead(l)
	for _, c := range l.copies {
		if _, is := dead[c.Pos]; c.fate == died && !is {
			c.fate, c.due, c.attempt, c.retried = postponed, time.Time{}, 1, true
		}
	}
}
