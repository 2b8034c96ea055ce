package storetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

// runCopy is the model's run.
type runCopy struct {
	id      string
	ref     store.RunRef   // under the epoch of its newest lease
	stands  store.RunState // RunEnded for all that have ended
	wake    time.Time
	since   time.Time // ready since then; zero where the port does not say
	ended   time.Time
	outcome store.Outcome
	crashes int
	parent  *runCopy
	step    int // of the parent
	waits   map[int]store.Wait
	records map[int]string // their values, by N
	mail    []*mailCopy
}

// mailCopy is a letter that the model knows to be on its way, or unread.
type mailCopy struct {
	line  string // as letter tells it
	quiet bool   // it does not wake a parked run
	above int64  // the newest number when it came
	no    int64  // 0 until it was seen
}

// lockCopy is the model's lock.
type lockCopy struct {
	holder *runCopy
	line   []wish
	grants int
	// What the reader said last.
	seen  int // grants
	fence int64
}

type wish struct {
	run *runCopy
	n   int
}

// now is a run's state as a person sees it now.
func (r *runCopy) now(at time.Time) store.RunState {
	switch {
	case r.stands == store.RunEnded:
		return store.RunState(r.outcome.String())
	case r.stands == store.RunWaiting && !r.wake.IsZero() && !r.wake.After(at):
		return store.RunReady
	}
	return r.stands
}

// got makes mail come to a run.
func (w *runWalk) got(r *runCopy, quiet bool, format string, args ...any) {
	if r == nil || r.stands == store.RunEnded {
		return
	}
	r.mail = append(r.mail, &mailCopy{line: fmt.Sprintf(format, args...), quiet: quiet, above: w.newest})
	if r.stands == store.RunWaiting || r.stands == store.RunParked && !quiet {
		r.stands, r.wake, r.since = store.RunReady, time.Time{}, w.clock.Now()
	}
}

// readySince is since when a run is ready, as far as the port says.
func (r *runCopy) readySince() time.Time {
	if r.stands == store.RunWaiting {
		return r.wake
	}
	return r.since
}

// arrived takes messages into the model: they meet waits.
func (w *runWalk) arrived(ms []*store.Message) {
	for _, m := range ms {
		if m.Pos == 0 {
			w.Errorf("%q was accepted without a position", m.Body)
		}
		w.sent = append(w.sent, m)
		for _, r := range w.runs {
			for _, n := range slices.Sorted(maps.Keys(r.waits)) {
				if r.stands != store.RunEnded && meets(r.waits[n], m) {
					delete(r.waits, n)
					w.got(r, true, "%d %s", n, m.Body)
				}
			}
		}
	}
}

func meets(w store.Wait, m *store.Message) bool {
	return w.Key == m.Key && m.Pos > w.After && !m.SentAt.Before(w.Since)
}

// began takes starts into the model.
func (w *runWalk) began(starts []*store.RunStart, parent *runCopy) {
	for _, s := range starts {
		old := w.at(s.ID)
		if s.Existed != (old != nil) || s.No == 0 || old != nil && (s.No != old.ref.No || s.Epoch != 0) {
			w.Errorf("Commit(start %s): No = %d, existed %t, epoch %d, want existed: %t", s.ID, s.No, s.Existed, s.Epoch, old != nil)
		}
		if old != nil {
			if old.stands == store.RunEnded && old.parent != nil {
				w.got(old.parent, true, "%d %s %s", s.ParentStep, old.id, old.outcome)
			}
			continue
		}
		r := &runCopy{id: s.ID, ref: refOf(s), stands: store.RunReady, since: w.clock.Now(), waits: map[int]store.Wait{}, records: map[int]string{}}
		if s.Parent != 0 {
			r.parent, r.step = parent, s.ParentStep
		}
		switch {
		case s.At.After(w.clock.Now()):
			r.stands, r.wake = store.RunWaiting, s.At
		case s.Epoch > 0:
			r.stands = store.RunRunning
		}
		if s.Epoch > 0 != (s.Lease && s.At.IsZero()) {
			w.Errorf("Commit(start %s, lease %t, at %s): epoch %d", s.ID, s.Lease, s.At, s.Epoch)
		}
		w.runs = append(w.runs, r)
	}
}

// at is the run with the ID that is kept; nil if there is none.
func (w *runWalk) at(id string) *runCopy {
	for _, r := range w.runs {
		if r.id == id {
			return r
		}
	}
	return nil
}

// acted does acts on locks.
func (w *runWalk) acted(r *runCopy, acts []store.LockAct) {
	for _, a := range acts {
		l := w.locks[a.Name]
		switch {
		case a.Release:
			w.released(r, l)
		case l.holder == nil || l.holder == r:
			if l.holder == nil {
				l.holder = r
				l.grants++
			}
			if a.Fence < 1 {
				w.Errorf("Commit(%s acquires %s): Fence = %d, want it granted", r.id, a.Name, a.Fence)
			}
		default:
			l.line = append(l.line, wish{r, a.N})
			if a.Fence != 0 {
				w.Errorf("Commit(%s acquires %s): Fence = %d, want 0: %s has it", r.id, a.Name, a.Fence, l.holder.id)
			}
		}
	}
}

// released takes a run from a lock, or out of its line.
func (w *runWalk) released(r *runCopy, l *lockCopy) {
	l.line = slices.DeleteFunc(l.line, func(x wish) bool { return x.run == r })
	if l.holder == r {
		w.passOn(l)
	}
}

func (w *runWalk) passOn(l *lockCopy) {
	l.holder = nil
	if len(l.line) > 0 {
		next := l.line[0]
		l.holder, l.line = next.run, l.line[1:]
		l.grants++
		w.got(next.run, true, "%d lock", next.n)
	}
}

// updated makes an update true. Its fence held.
func (w *runWalk) updated(r *runCopy, u *store.RunUpdate) {
	for _, rec := range u.Records {
		r.records[rec.N] = string(rec.Value)
	}
	for _, n := range u.Unwait {
		delete(r.waits, n)
	}
	for _, x := range u.Waits {
		delete(r.waits, x.N)
		if i := slices.IndexFunc(w.sent, func(m *store.Message) bool { return meets(x, m) }); i >= 0 {
			w.got(r, true, "%d %s", x.N, w.sent[i].Body)
		} else {
			r.waits[x.N] = x
		}
	}
	w.acted(r, u.Locks)
	r.mail = slices.DeleteFunc(r.mail, func(m *mailCopy) bool { return m.no > 0 && m.no <= u.Read })
	if u.Sober {
		r.crashes = 0
	}
	loud := slices.ContainsFunc(r.mail, func(m *mailCopy) bool { return !m.quiet })
	switch u.Verdict {
	case store.Waiting:
		if r.stands, r.wake = store.RunWaiting, u.Wake; len(r.mail) > 0 {
			r.stands, r.wake, r.since = store.RunReady, time.Time{}, w.clock.Now()
		}
	case store.Parked:
		if r.stands = store.RunParked; loud {
			r.stands, r.since = store.RunReady, w.clock.Now()
		}
	case store.Ended:
		r.stands, r.outcome, r.ended = store.RunEnded, u.Outcome, w.clock.Now()
		clear(r.waits)
		r.mail = nil
		for _, name := range w.lockNames {
			w.released(r, w.locks[name])
		}
		w.got(r.parent, true, "%d %s %s", r.step, r.id, r.outcome)
	}
}

// judgeOrder wants those claimed to be the first of those that were there.
func (w *runWalk) judgeOrder(suspects bool, claimed, left []*runCopy) {
	for i, r := range claimed {
		for _, later := range slices.Concat(claimed[i+1:], left) {
			if suspects && later.crashes > r.crashes {
				w.Errorf("Claim(suspects): %s with %d crashes before %s with %d", r.id, r.crashes, later.id, later.crashes)
			}
			a, b := r.readySince(), later.readySince()
			if !suspects && !a.IsZero() && !b.IsZero() && b.Before(a) {
				w.Errorf("Claim(): %s, ready since %s, before %s, since %s", r.id, a, later.id, b)
			}
		}
	}
}

// judgeMail compares a run's mail with the model's, and learns the numbers.
func (w *runWalk) judgeMail(call string, r *runCopy, got []store.Mail) {
	w.ascends(got)
	var have, want []string
	for i := range got {
		have = append(have, letter(&got[i]))
	}
	for _, m := range r.mail {
		want = append(want, m.line)
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		w.Errorf("%s: mail of %s = %q, want %q", call, r.id, have, want)
		return
	}
	for i := range got {
		g := &got[i]
		w.newest = max(w.newest, g.No)
		if slices.ContainsFunc(r.mail, func(m *mailCopy) bool { return m.no == g.No && m.line == letter(g) }) {
			continue
		}
		k := slices.IndexFunc(r.mail, func(m *mailCopy) bool { return m.no == 0 && m.line == letter(g) && m.above < g.No })
		if k < 0 {
			w.Errorf("%s: letter %q of %s has number %d, which it had not before, or which is too low", call, letter(g), r.id, g.No)
			return
		}
		r.mail[k].no = g.No
	}
}

// judge compares what the store says with the model, after every step.
func (w *runWalk) judge() {
	rows := w.rows(store.RunQuery{Workflow: fulfil, Max: store.MaxList})
	now := w.clock.Now()
	if len(rows) != len(w.runs) {
		w.Errorf("List() = %d runs, want %d", len(rows), len(w.runs))
	}
	for _, row := range rows {
		r := w.at(row.ID)
		if r == nil {
			w.Errorf("List() = %s, which was deleted or never started", row.ID)
			continue
		}
		if want := r.now(now); row.State != want || row.No != r.ref.No || want == store.RunWaiting && !row.Wake.Equal(r.wake) {
			w.Errorf("%s is %s until %s, want %s until %s", r.id, row.State, row.Wake, want, r.wake)
		}
		if r.stands != store.RunEnded && row.Crashes != r.crashes {
			w.Errorf("%s has %d crashes, want %d", r.id, row.Crashes, r.crashes)
		}
	}
	if len(w.runs) > 0 {
		w.touched = append(w.touched, w.runs[w.rnd.IntN(len(w.runs))])
	}
	for _, r := range w.touched {
		w.judgeRun(r)
	}
	w.touched = nil
	if w.odds(3) {
		w.judgeCounts()
	}
	w.judgeLocks()
}

// judgeCounts compares the counts, and the list of those in one state.
func (w *runWalk) judgeCounts() {
	all, err := w.store.Reader().Runs().Counts(w.ctx())
	if err != nil {
		w.Fatalf("Counts() = %v, want nil", err)
	}
	have, want := map[store.RunState]int64{}, map[store.RunState]int64{}
	for _, c := range all {
		if c.Count > 0 {
			have[c.State] += c.Count
		}
	}
	for _, r := range w.runs {
		want[r.now(w.clock.Now())]++
	}
	if !maps.Equal(have, want) {
		w.Errorf("Counts() = %v, want %v", have, want)
	}
	states := []store.RunState{store.RunReady, store.RunRunning, store.RunWaiting, store.RunParked, store.RunEnded, "completed", "failed", "cancelled"}
	state := states[w.rnd.IntN(len(states))]
	var line []string
	for i := len(w.runs) - 1; i >= 0; i-- { // newest first
		if r := w.runs[i]; r.now(w.clock.Now()) == state || state == store.RunEnded && r.stands == store.RunEnded {
			line = append(line, r.id)
		}
	}
	w.lists(store.RunQuery{State: state, Max: store.MaxList}, strings.Join(line, " "))
}

// judgeRun compares all that is told of a run.
func (w *runWalk) judgeRun(r *runCopy) {
	y := w.run(r.id)
	w.judgeMail("Story()", r, y.Mail)
	if y.Epoch != r.ref.Epoch || y.State != r.now(w.clock.Now()) {
		w.Errorf("Story(): %s is %s under epoch %d, want %s, %d", r.id, y.State, y.Epoch, r.now(w.clock.Now()), r.ref.Epoch)
	}
	var have []int
	for _, x := range y.Waits {
		have = append(have, x.N)
	}
	slices.Sort(have)
	if want := slices.Sorted(maps.Keys(r.waits)); !slices.Equal(have, want) {
		w.Errorf("%s waits for %v, want %v", r.id, have, want)
	}
	w.judgeRecords(r, records(y))
}

func (w *runWalk) judgeRecords(r *runCopy, got []*store.Record) {
	if len(got) != len(r.records) {
		w.Errorf("%s has %d records, want %d", r.id, len(got), len(r.records))
	}
	for i, rec := range got {
		if string(rec.Value) != r.records[rec.N] || i > 0 && rec.N <= got[i-1].N {
			w.Errorf("%s: record %d = %q, want %q, in order", r.id, rec.N, rec.Value, r.records[rec.N])
		}
	}
}

func (w *runWalk) judgeLocks() {
	for _, name := range w.lockNames {
		l := w.locks[name]
		var line []string
		if l.holder != nil {
			line = append(line, l.holder.id)
		}
		for _, x := range l.line {
			line = append(line, x.run.id)
		}
		fence := w.inLine(name, strings.Join(line, " "))
		if l.holder != nil {
			if l.grants == l.seen && fence != l.fence || l.grants > l.seen && fence <= l.fence {
				w.Errorf("Locks(): the fence of %s = %d after %d, with %d grants between", name, fence, l.fence, l.grants-l.seen)
			}
			l.seen, l.fence = l.grants, fence
		}
	}
}
