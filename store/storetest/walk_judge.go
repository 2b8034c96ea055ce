package storetest

import (
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

// handed judges what a claim, or a commit, handed out, and takes it over.
func (w *walk) handed(l *line, b *store.Batch, max int) {
	w.log("  got %q under epoch %d", words(b), b.Epoch)
	if l.paused {
		w.Errorf("%s is paused, yet batch %q was claimed", l.Name, words(b))
	}
	if _, ok := l.suspect[b.No]; ok {
		w.handedAgain(l, b)
	} else {
		w.handedFresh(l, b, max)
	}
	var last store.Pos
	for _, d := range b.Deliveries {
		c := l.at(d.Message.Pos)
		if c.Pos <= last {
			w.Errorf("%s: batch %q is not in the order of positions", l.Name, words(b))
		}
		last = c.Pos
		w.delivered(l, c, d)
		c.before = c.batch
		c.fate, c.mine, c.batch, c.index, c.due = leased, true, b.BatchRef, d.Index, time.Time{}
	}
	for _, d := range b.Deliveries {
		if c := l.at(d.Message.Pos); !l.inTurn(c) {
			w.Errorf("%s: %q was delivered although an earlier one of its key is not over: %s", l.Name, c.Body, w.row(l, c.Key))
		}
	}
	for _, d := range b.Deliveries {
		l.at(d.Message.Pos).claimed = true
	}
}

// handedFresh judges a new batch.
func (w *walk) handedFresh(l *line, b *store.Batch, max int) {
	if b.No != l.newest+1 || b.Epoch < 1 || b.Suspect || len(b.Deliveries) == 0 || len(b.Deliveries) > max {
		w.Errorf("%s: new batch %+v (suspect %t) with %d deliveries, want number %d, no suspect, 1 to %d",
			l.Name, b.BatchRef, b.Suspect, len(b.Deliveries), l.newest+1, max)
	}
	l.newest = b.No
	for _, no := range l.abandoned() {
		w.takeOver(l, no, nil)
	}
	now := w.clock.Now()
	for _, d := range b.Deliveries {
		c := l.at(d.Message.Pos)
		if c == nil {
			w.Fatalf("%s: %q at %d was delivered, which was never sent to it", l.Name, d.Message.Body, d.Message.Pos)
		}
		if c.fate != waits && c.fate != postponed || c.fate == waits && c.Due.After(now) || c.due.After(now) {
			w.Errorf("%s: %q was delivered at %s, but it is %s, due %s", l.Name, c.Body, now, c.fate, c.due)
		}
		if c.fate == waits && c.Key == "" && c.Due.IsZero() {
			for _, e := range l.copies {
				if e.Pos < c.Pos && e.fate == waits && e.Key == "" && e.Due.IsZero() && !delivers(b, e.Pos) {
					w.Errorf("%s: %q was delivered before %q", l.Name, c.Body, e.Body)
				}
			}
		}
	}
}

func delivers(b *store.Batch, pos store.Pos) bool {
	for _, d := range b.Deliveries {
		if d.Message.Pos == pos {
			return true
		}
	}
	return false
}

// handedAgain judges a batch that was taken over.
func (w *walk) handedAgain(l *line, b *store.Batch) {
	if b.Suspect != l.suspect[b.No] {
		w.Errorf("%s: batch %d is suspect: %t, want %t", l.Name, b.No, b.Suspect, l.suspect[b.No])
	}
	for _, no := range l.abandoned() {
		if no < b.No {
			w.takeOver(l, no, nil)
		}
	}
	for _, d := range b.Deliveries {
		c := l.at(d.Message.Pos)
		if c == nil || c.fate != leased || c.mine || c.batch.No != b.No || c.index != d.Index || c.batch.Epoch+1 != b.Epoch {
			w.Fatalf("%s: batch %+v was taken over with %q at index %d, which is not what it left open", l.Name, b.BatchRef, d.Message.Body, d.Index)
		}
	}
	w.takeOver(l, b.No, b)
	delete(l.suspect, b.No)
}

// takeOver judges what did not come with an abandoned batch: it may only be what
// went behind an earlier one of its key meanwhile.
func (w *walk) takeOver(l *line, no int64, b *store.Batch) {
	for _, c := range l.copies {
		if c.fate != leased || c.mine || c.batch.No != no || b != nil && delivers(b, c.Pos) {
			continue
		}
		if !l.blocked(c) {
			w.Errorf("%s: abandoned batch %d did not bring %q, and nothing of its key is in the way", l.Name, no, c.Body)
		}
		c.fate, c.due = postponed, time.Time{}
	}
	if b == nil {
		delete(l.suspect, no)
	}
}

// delivered judges one delivery.
func (w *walk) delivered(l *line, c *copyOf, d store.Delivery) {
	if string(d.Message.Body) != string(c.Body) || d.Message.Key != c.Key || d.Message.Topic != c.Topic {
		w.Errorf("%s: position %d was delivered as %q of %q, want %q of %q", l.Name, c.Pos, d.Message.Body, d.Message.Key, c.Body, c.Key)
	}
	if d.Attempt != c.attempt {
		w.Errorf("%s: %q was delivered as attempt %d, want %d", l.Name, c.Body, d.Attempt, c.attempt)
	}
	if !c.retried && !d.FirstAt.Equal(c.first) {
		w.Errorf("%s: %q was delivered with its first attempt at %s, want %s", l.Name, c.Body, d.FirstAt, c.first)
	}
}

// overlooked judges a claim that found nothing.
func (w *walk) overlooked(l *line, got store.Claimed, onlyAbandoned bool) {
	now := w.clock.Now()
	if got.More {
		w.Errorf("%s: a claim found nothing, yet says that there is more", l.Name)
	}
	if l.paused {
		if !got.NextDue.IsZero() {
			w.Errorf("%s is paused, yet a claim says that the next is due %s", l.Name, got.NextDue)
		}
		return
	}
	for _, no := range l.abandoned() {
		w.takeOver(l, no, nil)
	}
	if onlyAbandoned {
		return
	}
	for _, c := range l.copies {
		if l.ready(c, now) {
			w.Errorf("%s: a claim found nothing, but %q is %s, due %s: %s", l.Name, c.Body, c.fate, c.due, w.row(l, c.Key))
		}
	}
	if want := l.nextDue(now); !got.NextDue.Equal(want) {
		w.Errorf("%s: a claim found nothing, next due %s, want %s", l.Name, got.NextDue, want)
	}
}

// row tells where the messages of a key are.
func (w *walk) row(l *line, key string) string {
	var row []string
	for _, c := range l.copies {
		if c.Key == key && c.fate != worked && c.fate != dropped {
			row = append(row, string(c.Body)+" "+c.fate.String())
		}
	}
	return strings.Join(row, ", ")
}

// judge compares the store's counts with the model's, after every step.
func (w *walk) judge() {
	states, err := w.store.Reader().Queues(w.ctx())
	if err != nil {
		w.Fatalf("Queues() = %v, want nil", err)
	}
	w.tellQueues(states)
	for _, st := range states {
		l := w.lines[st.Name]
		if l == nil {
			w.Errorf("Queues() = %s, which was never declared", st.Name)
			continue
		}
		if st.Dead > 0 || l.count(died) > 0 {
			w.judgeDead(l)
		}
		if st.Depth != l.depth() || st.Leased != l.count(leased) || st.Dead != l.count(died) || (st.Paused != nil) != l.paused {
			w.Errorf("%s: depth %d, leased %d, dead %d, paused %t, want %d, %d, %d, %t", l.Name, st.Depth, st.Leased, st.Dead,
				st.Paused != nil, l.depth(), l.count(leased), l.count(died), l.paused)
		}
		if least := l.count(postponed); st.Deferred < least || st.Deferred > least+l.count(waits) || !st.Oldest.Equal(l.oldest()) {
			w.Errorf("%s: %d deferred, the oldest sent %s, want at least %d, %s", l.Name, st.Deferred, st.Oldest, least, l.oldest())
		}
		if total := st.Depth + st.Dead + l.count(worked, dropped); total != int64(len(l.copies)) {
			w.Errorf("%s: %d accepted, but depth %d, dead %d, done or discarded %d", l.Name, len(l.copies), st.Depth, st.Dead, l.count(worked, dropped))
		}
	}
}

// judgeStory compares what a message's story says of one queue.
func (w *walk) judgeStory() {
	l := w.line()
	if len(l.copies) == 0 {
		return
	}
	c := l.copies[w.rnd.IntN(len(l.copies))]
	m, err := w.store.Reader().Message(w.ctx(), c.ID)
	if err != nil {
		if c.fate != worked && c.fate != dropped {
			w.Errorf("Message(%q), which is %s in %s = %v, want its story", c.Body, c.fate, l.Name, err)
		}
		return // deleted
	}
	if c.fate != worked && c.fate != dropped { // else what retention leaves of it is the store's
		w.tellStory(m, l.Name)
	}
	want := map[fate][]string{
		waits: {"waiting", "behind", "deferred"}, leased: {"leased"}, postponed: {"deferred", "behind"},
		died: {"dead"}, worked: {"done"}, dropped: {"discarded"},
	}[c.fate]
	for _, q := range m.Queues {
		if q.Queue == l.Name && !slices.Contains(want, q.State) {
			w.Errorf("Message(%q): %q in %s, want %q", c.Body, q.State, l.Name, want)
		}
	}
}

// judgeDead compares the dead letters. A queue that parks may have moved what
// follows a dead one of its key; nothing else comes or goes by itself.
func (w *walk) judgeDead(l *line) {
	now := w.listDead(l)
	for _, c := range l.copies {
		_, isDead := now[c.Pos]
		switch {
		case isDead == (c.fate == died):
		case !isDead:
			w.Errorf("%s: dead letter %q is gone, though nobody settled it", l.Name, c.Body)
		case l.OnDead != store.Park || c.fate != waits && c.fate != postponed || !l.behindDead(c, now):
			w.Errorf("%s: %q is dead, want it %s: %s", l.Name, c.Body, c.fate, w.row(l, c.Key))
		default:
			c.fate, c.mine = died, false
			c.deaths++
		}
	}
}

// behindDead reports whether an earlier one of c's key is dead.
func (l *line) behindDead(c *copyOf, dead map[store.Pos]store.DeadLetter) bool {
	for _, e := range l.earlier(c) {
		if _, ok := dead[e.Pos]; ok {
			return true
		}
	}
	return false
}

func (w *walk) listDead(l *line) map[store.Pos]store.DeadLetter {
	dead := map[store.Pos]store.DeadLetter{}
	for _, letter := range w.dead(l.Name) {
		dead[letter.Message.Pos] = letter
	}
	return dead
}
