package storetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func exchangeWalkLaws() []Law {
	n, steps := number("WEIR_WALKS", walks), number("WEIR_WALK_STEPS", walkSteps)
	var laws []Law
	for seed := range n {
		laws = append(laws, Law{
			Name:  fmt.Sprintf("exchange-walk/seed-%d", seed),
			Says:  "Whatever comes from elsewhere, in whatever order and however often, is here once; lanes and states stand as the plainest model says after every step.",
			check: func(s *scene) { walkExchange(s, uint64(seed), steps, false) },
		})
	}
	return laws
}

const (
	owned        = "kitchen.dish" // an entity whose versions are stamps
	exchangeRoom = 12
	keptFor      = 1000 * time.Hour
)

// exchangeWalk is a random walk over what comes from other stores, with the model beside it.
type exchangeWalk struct {
	*scene
	rnd   *rand.Rand
	began time.Time
	steps []string
	tells bool

	lanes   map[string]*laneModel
	states  map[string]map[string]store.State // by entity and key
	newest  map[string]int64
	came    map[string]*store.Message // by the origin's ID
	pending []string                  // words in the queue
	stamp   int64                     // of the newest message
	mark    map[string]string         // of Changes, by entity
	seen    map[string]map[string]int64
}

type laneModel struct {
	have           store.Place
	known          bool
	arrived, jumps int64
}

// walkExchange walks, and returns what was done; and, if it tells, what was answered.
func walkExchange(s *scene, seed uint64, steps int, tells bool) []string {
	w := &exchangeWalk{scene: s, rnd: rand.New(rand.NewPCG(seed, 11)), began: s.clock.Now(), tells: tells,
		lanes: map[string]*laneModel{"a": {}, "b": {}}, states: map[string]map[string]store.State{guest: {}, owned: {}},
		newest: map[string]int64{}, came: map[string]*store.Message{}, mark: map[string]string{}, seen: map[string]map[string]int64{guest: {}, owned: {}}}
	s.declare(store.Queue{Name: cook, Capacity: exchangeRoom})
	defer func() {
		if s.Failed() {
			s.Logf("seed %d; the last steps:\n%s", seed, strings.Join(w.steps[max(0, len(w.steps)-40):], "\n"))
		}
	}()
	for range steps {
		w.step()
		w.judge()
		if s.Failed() {
			return w.steps
		}
	}
	for len(w.pending) > 0 && !s.Failed() {
		w.workSome()
	}
	w.judge()
	s.clock.move(25 * time.Hour) // a doctor may tell of jumps for a day
	s.well()
	return w.steps
}

func (w *exchangeWalk) log(format string, args ...any) {
	w.steps = append(w.steps, fmt.Sprintf(format, args...))
}

func (w *exchangeWalk) odds(n int) bool { return w.rnd.IntN(n) == 0 }

func (w *exchangeWalk) step() {
	switch n := w.rnd.IntN(100); {
	case n < 60:
		w.receive()
	case n < 80:
		w.workSome()
	case n < 88:
		w.appendOwn()
	case n < 92:
		w.log("crash")
		w.crash()
	case n < 94:
		w.log("renew")
		w.renew()
	case n < 97:
		w.clock.move(time.Duration(w.rnd.IntN(90)) * time.Second)
	default:
		w.log("prune")
		w.prune(store.Retention{Keep: keptFor, Max: 1 + w.rnd.IntN(9)})
		cutoff := w.clock.Now().Add(-keptFor)
		for entity, states := range w.states {
			maps.DeleteFunc(states, func(key string, st store.State) bool {
				gone := st.Deleted && st.AsOf.Before(cutoff) && st.Version < w.newest[entity]
				if gone {
					delete(w.seen[entity], key) // an older state is new again
				}
				return gone
			})
		}
	}
}

// receive commits a group as an inlet, and others beside it, would.
func (w *exchangeWalk) receive() {
	g := &store.Group{}
	fails := -1
	if w.odds(8) {
		fails = w.rnd.IntN(3)
	}
	for i := range 1 + w.rnd.IntN(3) {
		c := w.invent()
		c.Outside = w.odds(2)
		if w.odds(2) {
			w.place(c)
		}
		if i == fails {
			c.Closures = []store.Closure{failing}
		}
		g.Changes = append(g.Changes, c)
	}
	w.group(g)
	for _, c := range g.Changes {
		want := w.foretell(c)
		got := reason(c.Err)
		w.log("commit %s: %s", tellChange(c), got)
		if got != want {
			w.Errorf("Commit(%s): Err = %v, want %s", tellChange(c), c.Err, want)
		}
		if c.Err == nil {
			w.accept(c)
		}
	}
}

func reason(err error) string {
	if misplaced, ok := errors.AsType[*store.MisplacedError](err); ok {
		return fmt.Sprintf("misplaced at %+v", misplaced.Have)
	}
	if _, ok := errors.AsType[*store.FullError](err); ok {
		return "full"
	}
	return fmt.Sprint(err)
}

func tellChange(c *store.Change) string {
	text := fmt.Sprintf("%q, outside %t, states %s", words(batchOf(c.Sends)), c.Outside, stateLine(onlyGiven(c.States)))
	if a := c.Arrival; a != nil {
		text += fmt.Sprintf(", lane %s from %+v to %+v, jump %t", a.Lane, a.From, a.To, a.Jump)
	}
	return text
}

// onlyGiven leaves out states whose versions are a store's own.
func onlyGiven(states []store.State) []store.State {
	return slices.DeleteFunc(slices.Clone(states), func(st store.State) bool { return st.Of != nil })
}

// invent makes a change with sends, some of which come again, and states, some of which are old.
func (w *exchangeWalk) invent() *store.Change {
	c := &store.Change{}
	for range w.rnd.IntN(4) {
		word := fmt.Sprint(w.rnd.IntN(200))
		m := message(cook, word)
		if !w.odds(5) {
			m = w.foreign(cook, word)
			m.Origin.SentAt = w.began // the same whenever it comes
		}
		c.Sends = append(c.Sends, m)
		if w.odds(3) {
			c.States = append(c.States, store.State{Entity: owned, Key: w.key(), Of: m, Contract: 1, Deleted: w.odds(4)})
		}
	}
	for range w.rnd.IntN(3) {
		version := 1 + w.rnd.Int64N(60)
		st := state(w.key(), version)
		if w.odds(4) {
			st = tombstone(st.Key, version)
		}
		st.AsOf = w.began.Add(time.Duration(version-40) * 50 * time.Hour) // some are older than is kept
		c.States = append(c.States, st)
	}
	return c
}

func (w *exchangeWalk) key() string { return string(rune('a' + w.rnd.IntN(6))) }

// place gives a change a place on a lane: mostly the next one.
func (w *exchangeWalk) place(c *store.Change) {
	name := []string{"a", "b"}[w.rnd.IntN(2)]
	l := w.lanes[name]
	from := after(l.have)
	switch {
	case w.odds(8):
		from = store.Place{Batch: max(1, from.Batch-1), Index: w.rnd.IntN(3)}
	case w.odds(8):
		from.Index += w.rnd.IntN(3)
	case w.odds(8):
		from = store.Place{Batch: from.Batch + 1}
	}
	to := from
	for range max(len(c.Sends)-1, w.rnd.IntN(2)) {
		to.Last = to.Last || w.odds(3)
		to = after(to)
	}
	to.Last = w.odds(3)
	c.Arrival = &store.Arrival{Lane: name, From: from, To: to, Jump: w.odds(6)}
}

// after is the next place.
func after(p store.Place) store.Place {
	if p.Last || p.Batch == 0 {
		return store.Place{Batch: p.Batch + 1}
	}
	return store.Place{Batch: p.Batch, Index: p.Index + 1}
}

// foretell says how a change must end.
func (w *exchangeWalk) foretell(c *store.Change) string {
	if a := c.Arrival; a != nil {
		l := w.lanes[a.Lane]
		ahead := a.From.Batch > l.have.Batch || a.From.Batch == l.have.Batch && a.From.Index > l.have.Index
		if l.known && !l.have.Precedes(a.From) && (!a.Jump || !ahead) {
			return fmt.Sprintf("misplaced at %+v", l.have)
		}
	}
	if n := w.fresh(c.Sends); c.Outside && n > 0 && len(w.pending)+n > exchangeRoom {
		return "full"
	}
	if len(c.Closures) > 0 {
		return errClosure.Error()
	}
	return reason(nil)
}

// fresh counts the sends that have not come before.
func (w *exchangeWalk) fresh(ms []*store.Message) int {
	n, now := 0, map[string]bool{}
	for _, m := range ms {
		if m.Origin == nil {
			n++
		} else if w.came[m.Origin.ID] == nil && !now[m.Origin.ID] {
			now[m.Origin.ID] = true
			n++
		}
	}
	return n
}

// accept takes a change into the model.
func (w *exchangeWalk) accept(c *store.Change) {
	for _, m := range c.Sends {
		if m.Origin != nil {
			if first := w.came[m.Origin.ID]; first != nil {
				w.repeats(m, first)
				continue
			}
			w.came[m.Origin.ID] = m
			w.scene.came("Commit", m, m)
		}
		if m.Stamp <= w.stamp {
			w.Errorf("stamp of %s = %d after %d, want it to grow", m.ID, m.Stamp, w.stamp)
		}
		w.stamp = m.Stamp
		w.pending = append(w.pending, string(m.Body))
	}
	if a := c.Arrival; a != nil {
		l := w.lanes[a.Lane]
		if l.known && !l.have.Precedes(a.From) || !l.known && a.Jump {
			l.jumps++
		}
		l.have, l.known, l.arrived = a.To, true, l.arrived+int64(len(c.Sends))
	}
	for _, st := range c.States {
		if st.Of != nil && (st.Version != st.Of.Stamp || !st.AsOf.Equal(st.Of.SentAt)) {
			w.Errorf("state %s of %s: version %d of %s, want %d of %s", st.Key, st.Entity, st.Version, st.AsOf, st.Of.Stamp, st.Of.SentAt)
		}
		old, ok := w.states[st.Entity][st.Key]
		newer := !ok || st.Version > old.Version
		if st.Applied != newer {
			w.Errorf("state %s%d of %s over version %d: applied: %t, want %t", st.Key, st.Version, st.Entity, old.Version, st.Applied, newer)
		}
		if st.Of = nil; newer {
			w.states[st.Entity][st.Key] = st
			w.newest[st.Entity] = max(w.newest[st.Entity], st.Version)
		}
	}
}

// workSome works what is first in the queue.
func (w *exchangeWalk) workSome() {
	b := w.look(cook, 1+w.rnd.IntN(6)).Batch
	got := strings.Fields(words(b))
	w.log("work %q", got)
	if n := len(got); n == 0 && len(w.pending) > 0 || n > len(w.pending) || !slices.Equal(got, w.pending[:n]) {
		w.Errorf("Claim() = %q, want the first of %q", got, w.pending)
		return
	}
	c := &store.Change{}
	for i := range got {
		c.Settle = append(c.Settle, w.verdict(b.BatchRef, b.Deliveries[i], store.Done))
	}
	w.commit(c)
	w.pending = w.pending[len(got):]
}

func (w *exchangeWalk) appendOwn() {
	c, commit := w.invent(), w.odds(2)
	c.Outside = true // as AppendIn has it
	want, got := w.foretell(c), ""
	w.own(commit, func(tx store.Tx) {
		got = reason(w.store.AppendIn(w.ctx(), tx, c))
	})
	w.log("append %s, commit %t: %s", tellChange(c), commit, got)
	if got != want {
		w.Errorf("AppendIn(%s) = %s, want %s", tellChange(c), got, want)
	}
	if commit && got == reason(nil) {
		w.accept(c)
	}
}

// judge compares the store with the model.
func (w *exchangeWalk) judge() {
	read := w.store.Reader().Exchange()
	var lanes, got []string
	for _, name := range []string{"a", "b"} {
		if l := w.lanes[name]; l.known {
			lanes = append(lanes, fmt.Sprintf("%s at %+v, %d, %d", name, l.have, l.arrived, l.jumps))
		}
	}
	rows, err := read.Arrivals(w.ctx(), "")
	for _, r := range rows {
		got = append(got, fmt.Sprintf("%s at %+v, %d, %d", r.Lane, r.Have, r.Arrived, r.Jumps))
	}
	if err != nil || !slices.Equal(got, lanes) {
		w.Errorf("Arrivals() = %q, %v, want %q", got, err, lanes)
	}
	w.holds(cook, int64(len(w.pending)), 0)
	for _, entity := range []string{guest, owned} {
		w.judgeStates(read, entity)
	}
	if w.tells {
		w.log("  lanes %q, %d in the queue", got, len(w.pending))
	}
}

func (w *exchangeWalk) judgeStates(read store.ExchangeReader, entity string) {
	var want []store.State
	deleted := int64(0)
	for _, key := range slices.Sorted(maps.Keys(w.states[entity])) {
		st := w.states[entity][key]
		want = append(want, st)
		if st.Deleted {
			deleted++
		}
	}
	got, err := read.States(w.ctx(), store.StateQuery{Entity: entity, Deleted: true, Max: store.MaxList})
	if err != nil || len(got) != len(want) {
		w.Errorf("States(%s) = %q, %v, want %q", entity, stateLine(got), err, stateLine(want))
		return
	}
	for i := range want {
		w.sameState(got[i], want[i])
	}
	if entity == guest {
		w.log("  states %s", stateLine(got))
	}
	if w.newest[entity] > 0 {
		w.entity(entity, int64(len(want))-deleted, deleted, w.newest[entity])
	}
	w.follow(read, entity)
	for _, st := range want {
		if seen := w.seen[entity][st.Key]; seen != st.Version {
			w.Errorf("who follows Changes(%s) has %s%d, want %s%d", entity, st.Key, seen, st.Key, st.Version)
		}
	}
}

// follow reads changes from the last mark on; after a crash or so from the first.
func (w *exchangeWalk) follow(read store.ExchangeReader, entity string) {
	if w.odds(9) {
		w.mark[entity] = ""
	}
	for range 100 {
		news, mark, err := read.Changes(w.ctx(), entity, w.mark[entity], 3)
		if err != nil {
			w.Fatalf("Changes(%s, %q) = %v, want nil", entity, w.mark[entity], err)
		}
		w.mark[entity] = mark
		if len(news) == 0 {
			return
		}
		for _, st := range news {
			w.seen[entity][st.Key] = max(w.seen[entity][st.Key], st.Version)
		}
	}
	w.Errorf("Changes(%s) goes on after 100 pages, want an end", entity)
}
