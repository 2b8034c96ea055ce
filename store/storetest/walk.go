package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

// walks is how many seeds are walked, walkSteps how far each; WEIR_WALKS and
// WEIR_WALK_STEPS set other numbers: long walks find what retention, crashes and
// people do to old messages. The seed is in the law's name, so that a failure is
// repeated by -run.
const (
	walks     = 5
	walkSteps = 120
)

func walkLaws() []Law {
	n, steps := number("WEIR_WALKS", walks), number("WEIR_WALK_STEPS", walkSteps)
	var laws []Law
	for seed := range n {
		laws = append(laws, Law{
			Name:  fmt.Sprintf("walk/seed-%d", seed),
			Says:  "Whatever is done in whatever order, every message accepted is done, dead, discarded or pending, keys are worked in order, and Depth is exact after every step.",
			check: func(s *scene) { walkFrom(s, uint64(seed), steps, false) },
		})
	}
	return laws
}

// number is what the environment sets, or else usual.
func number(name string, usual int) int {
	if set, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return set
	}
	return usual
}

// walk is a random walk over a store, with the model beside it.
type walk struct {
	*scene
	seed  uint64
	rnd   *rand.Rand
	lines map[string]*line
	names []string
	sent  int
	steps []string // what was done, told when it fails
	tells bool     // also what is seen
}

// walkFrom walks, and returns what was done; and, if it tells, what was answered.
func walkFrom(s *scene, seed uint64, steps int, tells bool) []string {
	w := &walk{scene: s, seed: seed, tells: tells, rnd: rand.New(rand.NewPCG(seed, 7)), lines: map[string]*line{}}
	parks, skips := subscriber(waiter), subscriber(billing)
	parks.OnDead, skips.OnDead = store.Park, store.Skip
	skips.Capacity, skips.Required = 25, true
	for _, q := range []store.Queue{{Name: cook, Capacity: 20}, {Name: serve}, parks, skips} {
		st := s.declare(q)[0]
		q.Topic = st.Topic
		w.lines[q.Name] = &line{Queue: q, id: st.ID, suspect: map[int64]bool{}}
		w.names = append(w.names, q.Name)
	}
	defer func() {
		if s.Failed() {
			s.Logf("seed %d; the last steps:\n%s", seed, strings.Join(w.steps[max(0, len(w.steps)-80):], "\n"))
		}
	}()
	for range steps {
		w.step()
		w.judge()
		w.judgeStory()
		if s.Failed() {
			return w.steps
		}
	}
	w.finish()
	return w.steps
}

func (w *walk) log(format string, args ...any) {
	w.steps = append(w.steps, fmt.Sprintf(format, args...))
}

func (w *walk) line() *line { return w.lines[w.names[w.rnd.IntN(len(w.names))]] }

// odds is true once in n times.
func (w *walk) odds(n int) bool { return w.rnd.IntN(n) == 0 }

func (w *walk) step() {
	switch n := w.rnd.IntN(100); {
	case n < 16:
		w.commitSends()
	case n < 46:
		w.claimSome()
	case n < 76:
		w.settleSome()
	case n < 81:
		w.settleStale()
	case n < 87:
		d := time.Duration(w.rnd.IntN(90)) * time.Second
		w.log("move the clock by %s", d)
		w.clock.move(d)
	case n < 90:
		w.leave()
	case n < 94:
		w.settleDead()
	case n < 96:
		w.pause(w.line())
	case n < 98:
		w.appendOwn()
	default:
		keep := time.Duration(w.rnd.IntN(20)) * time.Minute
		w.log("prune, keep %s", keep)
		w.prune(store.Retention{Keep: keep, Max: 1 + w.rnd.IntN(50)})
	}
	for _, name := range w.names { // no pause is long, or little would happen
		if l := w.lines[name]; l.paused && w.odds(5) {
			w.pause(l)
		}
	}
}

// invent makes a message for a random topic.
func (w *walk) invent() *store.Message {
	w.sent++
	key := []string{"", "", "a", "a", "b", "c"}[w.rnd.IntN(6)]
	m := message([]string{cook, cook, serve, ready}[w.rnd.IntN(4)], key+strconv.Itoa(w.sent))
	// A delay is for messages without a key: a key's order is that of the sends.
	if key == "" && w.odds(6) {
		m.Due = w.clock.Now().Add(time.Duration(w.rnd.IntN(120)) * time.Second)
	}
	return m
}

func (w *walk) inventSome(max int) []*store.Message {
	var ms []*store.Message
	for range 1 + w.rnd.IntN(max) {
		ms = append(ms, w.invent())
	}
	return ms
}

// room reports whether sends from outside must be admitted.
func (w *walk) room(ms []*store.Message) bool {
	for _, l := range w.lines {
		n := int64(0)
		for _, m := range ms {
			if m.Topic == l.Topic.Name {
				n++
			}
		}
		if l.Capacity > 0 && n > 0 && l.depth()+n > int64(l.Capacity) {
			return false
		}
	}
	return true
}

// accept takes messages into the model.
func (w *walk) accept(ms []*store.Message) {
	for _, m := range ms {
		if m.Pos == 0 || m.ID == "" {
			w.Errorf("%q was accepted without a position", m.Body)
		}
		for _, l := range w.lines {
			if l.Topic.Name == m.Topic {
				l.append(m)
			}
		}
	}
}

func (w *walk) commitSends() {
	g := &store.Group{}
	for range 1 + w.rnd.IntN(3) {
		g.Changes = append(g.Changes, &store.Change{Sends: w.inventSome(3), Outside: w.odds(2)})
	}
	w.commitEager(g, func(c *store.Change) {
		wantRoom := !c.Outside || w.room(c.Sends)
		_, full := errors.AsType[*store.FullError](c.Err)
		switch {
		case wantRoom && c.Err == nil:
			w.accept(c.Sends)
		case wantRoom || !full:
			w.Errorf("Commit(%d sends, outside %t): Err = %v, want room: %t", len(c.Sends), c.Outside, c.Err, wantRoom)
		}
	})
}

// commitEager commits a group, sometimes asking that its sends be claimed with it.
func (w *walk) commitEager(g *store.Group, each func(c *store.Change)) {
	most := map[store.QueueID]int{}
	for _, name := range w.names {
		if w.odds(3) {
			l := w.lines[name]
			most[l.id] = 1 + w.rnd.IntN(4)
			g.Eager = append(g.Eager, store.Eager{Queue: l.id, Max: most[l.id]})
		}
	}
	if w.tells {
		g.Eager = nil // a store may, or may not
	}
	w.group(g)
	for _, c := range g.Changes {
		w.log("commit sends %q, %d settlements, outside %t: %v", words(batchOf(c.Sends)), len(c.Settle), c.Outside, c.Err)
		each(c)
	}
	for _, b := range g.Claimed {
		for _, l := range w.lines {
			if l.id == b.Queue {
				w.handed(l, b, most[l.id])
			}
		}
	}
}

func batchOf(ms []*store.Message) *store.Batch {
	b := &store.Batch{}
	for _, m := range ms {
		b.Deliveries = append(b.Deliveries, store.Delivery{Message: m})
	}
	return b
}

func (w *walk) claimSome() {
	l := w.line()
	r := store.ClaimRequest{Queue: l.id, Max: 1 + w.rnd.IntN(5), Abandoned: w.odds(5)}
	w.log("claim %s, max %d, abandoned %t", l.Name, r.Max, r.Abandoned)
	got, err := w.store.Claim(w.ctx(), r)
	if err != nil {
		w.Fatalf("Claim(%+v) = %v, want nil", r, err)
	}
	if b := got.Batch; b != nil {
		if _, old := l.suspect[b.No]; r.Abandoned && !old {
			w.Errorf("Claim(%s, abandoned) = a new batch, %q", l.Name, words(b))
		}
		w.tell("  %s", delivered(b))
		w.handed(l, b, r.Max)
	} else {
		w.tell("  nothing, next due %s", clockTime(got.NextDue))
		w.overlooked(l, got, r.Abandoned)
	}
}

// settleSome settles some of what this process holds, each by a change of its
// own. As from an engine, the messages of a key are settled in their order, and
// one comes after another only if that one did not hold the key.
func (w *walk) settleSome() {
	g := &store.Group{}
	of := map[*store.Change][]*copyOf{}
	for _, name := range w.names {
		l := w.lines[name]
		for _, c := range l.workable() {
			for c != nil && w.odds(2) {
				ch, settled := w.verdictOn(l, c)
				g.Changes, of[ch] = append(g.Changes, ch), settled
				if after := l.followers(c); len(settled) == 1 && ch.Settle[0].Verdict != store.NotYet && ch.Settle[0].Verdict != store.Retry && len(after) > 0 {
					c = after[0]
				} else {
					c = nil
				}
			}
			if n := len(g.Changes); n > 0 && w.odds(12) {
				g.Changes[n-1].Closures = append(g.Changes[n-1].Closures, failing)
			}
		}
	}
	w.commitEager(g, func(ch *store.Change) {
		if n := len(ch.Closures); n > 0 && errors.Is(ch.Err, errClosure) {
			return
		}
		if ch.Err != nil {
			w.Errorf("Commit(settle %q of %s): Err = %v, want nil", of[ch][0].Body, of[ch][0].queue, ch.Err)
			return
		}
		for i, c := range of[ch] {
			w.log("  %s: %q verdict %d", c.queue, c.Body, ch.Settle[i].Verdict)
			c.settled(ch.Settle[i])
		}
		w.accept(ch.Sends)
	})
}

// verdictOn makes a change that settles c and, if it fails, its followers.
func (w *walk) verdictOn(l *line, c *copyOf) (*store.Change, []*copyOf) {
	v := []store.Verdict{
		store.Done, store.Done, store.Done, store.Done, store.Done, store.Done,
		store.Retry, store.Retry, store.NotYet, store.Dead, store.Dead, store.Discarded,
	}[w.rnd.IntN(12)]
	set := w.verdict(c.batch, w.deliveryOf(c), v)
	if v == store.Retry || v == store.NotYet {
		set.Due = w.clock.Now().Add(time.Duration(w.rnd.IntN(60)) * time.Second)
	}
	ch, settled := change(set), []*copyOf{c}
	if v == store.Retry || v == store.NotYet || v == store.Dead && l.OnDead != store.Skip {
		for _, f := range l.followers(c) {
			ch.Settle = append(ch.Settle, w.verdict(f.batch, w.deliveryOf(f), store.Behind))
			settled = append(settled, f)
		}
	}
	if v == store.Done {
		ch.Closures = []store.Closure{w.note(l.Name + "/" + string(c.Body))}
	}
	if w.odds(6) {
		ch.Sends = w.inventSome(2)
	}
	return ch, settled
}

func (w *walk) deliveryOf(c *copyOf) store.Delivery {
	return store.Delivery{Message: c.Message, Index: c.index, Attempt: c.attempt}
}

// settleStale settles what is not this process's to settle: what this one holds,
// under an epoch before; what is over; what another process left.
func (w *walk) settleStale() {
	var held, others []*copyOf
	for _, name := range w.names {
		for _, c := range w.lines[name].copies {
			switch {
			case c.fate != leased || !c.mine:
				if c.batch.No > 0 {
					others = append(others, c)
				}
			case c.before.No > 0:
				held = append(held, c)
			}
		}
	}
	if len(others) == 0 && len(held) == 0 {
		return
	}
	from := others
	if len(others) == 0 || len(held) > 0 && w.odds(2) {
		from = held
	}
	c := from[w.rnd.IntN(len(from))]
	ref := c.batch
	if c.fate == leased && c.mine {
		ref = c.before
	}
	ch := change(w.verdict(ref, w.deliveryOf(c), store.Done))
	ch.Sends, ch.Closures = w.inventSome(2), []store.Closure{w.note("stale")}
	w.log("%s: settle %q under epoch %d, which is %s", c.queue, c.Body, ref.Epoch, c.fate)
	w.refuse(ch, store.ErrFenced)
}

// leave ends the process, well or badly.
func (w *walk) leave() {
	crashed := w.odds(2)
	w.log("leave, crashed: %t", crashed)
	for _, l := range w.lines {
		l.leave(crashed)
	}
	if crashed {
		w.crash()
	} else {
		w.restart()
	}
}

// settleDead retries or discards dead letters.
func (w *walk) settleDead() {
	l := w.line()
	before := w.listDead(l)
	a := by(store.Act{Verb: []store.Verb{store.RetryDead, store.DiscardDead}[w.rnd.IntN(2)], Queue: l.Name})
	if w.odds(2) {
		for _, letter := range before {
			a.ID = max(a.ID, letter.Message.ID)
		}
	}
	got, err := w.store.Operate(w.ctx(), a)
	w.log("%s: %s, one %t: %+v, conflict %t", l.Name, a.Verb, a.ID != "", got, errors.Is(err, store.ErrConflict))
	if err != nil && !errors.Is(err, store.ErrConflict) {
		w.Errorf("Operate(%s %s) = %v, want nil or ErrConflict", a.Verb, a.ID, err)
	}
	after := w.listDead(l)
	settled := int64(0)
	for _, c := range l.copies {
		_, was := before[c.Pos]
		_, is := after[c.Pos]
		if !was || is {
			continue
		}
		settled++
		c.fate = dropped
		if a.Verb == store.RetryDead {
			c.fate, c.due, c.attempt, c.retried = postponed, time.Time{}, 1, true
		}
	}
	if settled != got.Count {
		w.Errorf("Operate(%s, %s) = %d, but %d are no longer dead", a.Verb, l.Name, got.Count, settled)
	}
}

func (w *walk) pause(l *line) {
	verb := store.PauseQueue
	if l.paused {
		verb = store.ResumeQueue
	}
	w.log("%s %s", verb, l.Name)
	w.operate(store.Act{Verb: verb, Queue: l.Name})
	l.paused = !l.paused
}

func (w *walk) appendOwn() {
	ms, commit := w.inventSome(3), w.odds(2)
	room, appended := w.room(ms), false
	w.own(commit, func(tx store.Tx) {
		err := w.store.AppendIn(w.ctx(), tx, &store.Change{Sends: ms})
		w.log("append %q in a transaction, commit %t: %v", words(batchOf(ms)), commit, err)
		if _, full := errors.AsType[*store.FullError](err); room != (err == nil) || !room && !full {
			w.Errorf("AppendIn(%d messages) = %v, want room: %t", len(ms), err, room)
		}
		appended = err == nil
	})
	if commit && appended {
		w.accept(ms)
	}
}
