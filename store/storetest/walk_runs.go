package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

func runWalkLaws() []Law {
	n, steps := number("WEIR_WALKS", walks), number("WEIR_WALK_STEPS", walkSteps)
	var laws []Law
	for seed := range n {
		laws = append(laws, Law{
			Name:  fmt.Sprintf("run-walk/seed-%d", seed),
			Says:  "Whatever is done in whatever order, every run that has not ended is ready, leased, waits or is parked, no mail is lost or doubled, and every lock has its line.",
			check: func(s *scene) { walkRuns(s, uint64(seed), steps, false) },
		})
	}
	return laws
}

// runWalk is a random walk over runs, with the model beside it.
type runWalk struct {
	*scene
	other     store.Store // of a process that works nothing
	seed      uint64
	rnd       *rand.Rand
	runs      []*runCopy
	sent      []*store.Message
	pruned    store.Pos // what is not above it may be deleted
	locks     map[string]*lockCopy
	lockNames []string
	newest    int64 // number of mail seen
	words     int
	touched   []*runCopy // by the step
	steps     []string
	tells     bool
}

// walkRuns walks, and returns what was done; and, if it tells, what was answered.
func walkRuns(s *scene, seed uint64, steps int, tells bool) []string {
	w := &runWalk{scene: s, seed: seed, tells: tells, rnd: rand.New(rand.NewPCG(seed, 11)), locks: map[string]*lockCopy{}, lockNames: []string{"door", "till"}}
	for _, name := range w.lockNames {
		w.locks[name] = &lockCopy{}
	}
	defer func() {
		if s.Failed() {
			s.Logf("seed %d; the last steps:\n%s", seed, strings.Join(w.steps[max(0, len(w.steps)-100):], "\n"))
		}
	}()
	w.other = s.open()
	for range steps {
		w.step()
		w.judge()
		w.tell()
		if s.Failed() {
			return w.steps
		}
	}
	w.finish()
	return w.steps
}

func (w *runWalk) log(format string, args ...any) {
	w.steps = append(w.steps, fmt.Sprintf(format, args...))
}

// any is this process's store, or the other's.
func (w *runWalk) any() store.Store {
	if w.odds(3) {
		return w.other
	}
	return w.store
}

// odds is true once in n times.
func (w *runWalk) odds(n int) bool { return w.rnd.IntN(n) == 0 }

func (w *runWalk) step() {
	switch n := w.rnd.IntN(100); {
	case n < 12:
		w.begin()
	case n < 26:
		w.sendSome()
	case n < 50:
		w.claimSome(w.odds(3), 1+w.rnd.IntN(4))
	case n < 78:
		w.updateSome()
	case n < 82:
		w.updateStale()
	case n < 88:
		d := time.Duration(w.rnd.IntN(90)) * time.Second
		w.log("move the clock by %s", d)
		w.clock.move(d)
	case n < 92:
		w.leave(w.odds(2))
	case n < 97:
		w.meddle()
	default:
		w.delete(time.Duration(w.rnd.IntN(20))*time.Minute + time.Second/2)
	}
}

// invent makes some messages that runs may wait for.
func (w *runWalk) invent(max int) []*store.Message {
	var ms []*store.Message
	for range 1 + w.rnd.IntN(max) {
		w.words++
		ms = append(ms, message(ready, fmt.Sprint([]string{"a", "b", "c"}[w.rnd.IntN(3)], w.words)))
	}
	return ms
}

// born makes a start, of a new run or again of one; nil if none comes to mind.
func (w *runWalk) born(parent *runCopy) *store.RunStart {
	w.words++
	s := starting(fmt.Sprint("r", w.words))
	if parent != nil {
		s.Parent, s.ParentStep = parent.ref.No, 90+w.rnd.IntN(5)
	}
	if again := w.pick(func(r *runCopy) bool { return r.parent == parent }); again != nil && w.odds(4) {
		s.ID, s.Input, s.ParentStep = again.id, starting(again.id).Input, again.step
	}
	s.Lease = w.odds(2)
	if w.odds(5) {
		s.At = w.clock.Now().Add(time.Duration(w.rnd.IntN(120)) * time.Second)
	}
	return s
}

// pick picks a run.
func (w *runWalk) pick(fits func(r *runCopy) bool) *runCopy {
	var all []*runCopy
	for _, r := range w.runs {
		if fits(r) {
			all = append(all, r)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[w.rnd.IntN(len(all))]
}

func (w *runWalk) begin() {
	s := w.born(nil)
	w.log("start %s, lease %t, at %s", s.ID, s.Lease, s.At)
	w.commit(begins(s))
	w.began([]*store.RunStart{s}, nil)
}

// sendSome sends by a commit, or in a transaction of the caller's own, with a start.
func (w *runWalk) sendSome() {
	c := &store.Change{Sends: w.invent(3)}
	if w.odds(2) {
		w.log("send %q", words(batchOf(c.Sends)))
		if err := w.any().Commit(w.ctx(), &store.Group{Changes: []*store.Change{c}}); err != nil || c.Err != nil {
			w.Fatalf("Commit(%d messages) = %v, %v, want nil", len(c.Sends), err, c.Err)
		}
		w.arrived(c.Sends)
		return
	}
	keep := w.odds(2)
	if w.odds(2) {
		c.Runs = []*store.RunStart{w.born(nil)}
		c.Runs[0].Lease = false
	}
	w.own(keep, func(tx store.Tx) {
		if err := w.any().AppendIn(w.ctx(), tx, c); err != nil {
			w.Fatalf("AppendIn(%d messages, %d starts) = %v, want nil", len(c.Sends), len(c.Runs), err)
		}
	})
	w.log("append %q and %d starts in a transaction, commit %t", words(batchOf(c.Sends)), len(c.Runs), keep)
	if keep {
		w.arrived(c.Sends)
		w.began(c.Runs, nil)
		// Nobody tells the store when a transaction of a caller's commits: a claim brings what it sent.
		w.claimSome(false, 1)
	}
}

// claimable lists the runs that a claim must find.
func (w *runWalk) claimable(suspects bool) []*runCopy {
	var all []*runCopy
	for _, r := range w.runs {
		if r.now(w.clock.Now()) == store.RunReady && (r.crashes > 0) == suspects {
			all = append(all, r)
		}
	}
	return all
}

func (w *runWalk) claimSome(suspects bool, most int) {
	var held []*runCopy
	for _, r := range w.runs {
		if r.stands == store.RunRunning {
			held = append(held, r)
		}
	}
	there := w.claimable(suspects)
	got := w.lookRuns(store.ClaimRequest{Max: most, Suspects: suspects})
	w.log("claim %d, suspects %t: %q of %d, mail %q", most, suspects, idsOf(got.Runs), len(there), letters(got.Mail))
	if want := min(most, len(there)); len(got.Runs) != want || got.More != (len(there) > want) {
		w.Errorf("Claim(max %d, suspects %t) = %q, more %t, but %d are ready", most, suspects, idsOf(got.Runs), got.More, len(there))
	}
	var claimed []*runCopy
	for _, g := range got.Runs {
		r := w.at(g.ID)
		if r == nil || !slices.Contains(there, r) || slices.Contains(claimed, r) {
			w.Fatalf("Claim(suspects %t) = %s, which is not to be claimed", suspects, g.ID)
		}
		claimed = append(claimed, r)
	}
	w.judgeOrder(suspects, claimed, slices.DeleteFunc(slices.Clone(there), func(r *runCopy) bool { return slices.Contains(claimed, r) }))
	for i, g := range got.Runs {
		r := claimed[i]
		if g.Epoch != r.ref.Epoch+1 || g.No != r.ref.No || g.Crashes != r.crashes {
			w.Errorf("Claim() = %s, run %d under epoch %d with %d crashes, want %d, %d, %d", g.ID, g.No, g.Epoch, g.Crashes, r.ref.No, r.ref.Epoch+1, r.crashes)
		}
		r.ref, r.stands, r.wake = g.RunRef, store.RunRunning, time.Time{}
		w.judgeMail("Claim()", r, g.Mail)
		w.judgeRecords(r, g.Records)
	}
	for _, r := range held {
		var mail []store.Mail
		for _, m := range got.Mail {
			if m.Run == r.ref.No {
				mail = append(mail, m)
			}
		}
		w.judgeMail("Claim() of others", r, mail)
	}
	if n := len(w.claimable(true)); got.Suspects != n && !suspects {
		w.Errorf("Claim() = %d suspects, want %d", got.Suspects, n)
	}
}

// updateSome updates some of the leased runs in one group, each by a change of its own.
func (w *runWalk) updateSome() {
	g := &store.Group{}
	var of []*runCopy
	sends := w.odds(3)
	for _, r := range w.runs {
		if r.stands == store.RunRunning && w.odds(2) && len(of) < 4 {
			g.Changes, of = append(g.Changes, w.changeOf(r, sends)), append(of, r)
		}
	}
	if w.odds(4) {
		for _, c := range g.Changes {
			if w.odds(2) {
				c.Closures = append(c.Closures, failing)
			}
		}
	}
	w.group(g)
	for i, c := range g.Changes {
		var waits []string
		for _, x := range c.Run.Waits {
			waits = append(waits, fmt.Sprintf("%d %s after any %t since %s", x.N, x.Key, x.After > 0, x.Since.Format("04:05")))
		}
		var locks []string
		for _, x := range c.Run.Locks {
			locks = append(locks, fmt.Sprintf("%d %s release %t", x.N, x.Name, x.Release))
		}
		w.log("update %s: verdict %d, wake %s, waits %q, unwait %v, locks %q, read any %t, sends %q, %d starts: %v", of[i].id, c.Run.Verdict, c.Run.Wake,
			waits, c.Run.Unwait, locks, c.Run.Read > 0, words(batchOf(c.Sends)), len(c.Runs), c.Err)
		if len(c.Closures) > 0 && errors.Is(c.Err, errClosure) {
			continue
		}
		if c.Err != nil {
			w.Errorf("Commit(update of %s): Err = %v, want nil", of[i].id, c.Err)
			return
		}
		w.arrived(c.Sends)
		w.began(c.Runs, of[i])
		w.updated(of[i], c.Run)
		w.touched = append(w.touched, of[i])
		if want := len(of[i].mail) > 0; i == len(of)-1 && c.Run.Verdict != store.Ended && c.Run.Unread != want {
			w.Errorf("Commit(update of %s): Unread = %t, want %t", of[i].id, c.Run.Unread, want)
		}
	}
}

// changeOf makes up what a leased run does.
func (w *runWalk) changeOf(r *runCopy, sends bool) *store.Change {
	c := runs(&store.RunUpdate{RunRef: r.ref, Sober: w.odds(4)})
	u := c.Run
	for range w.rnd.IntN(3) {
		w.words++
		n := 1 + w.rnd.IntN(6)
		if !slices.ContainsFunc(u.Records, func(x *store.Record) bool { return x.N == n }) {
			u.Records = append(u.Records, &store.Record{N: n, Kind: store.KindStep, State: store.StepDone, Name: "s", Value: fmt.Append(nil, w.words)})
		}
	}
	if sends && w.odds(2) {
		c.Sends = w.invent(2)
	}
	if w.odds(8) {
		c.Runs = []*store.RunStart{w.born(r)}
	}
	w.waitsOf(r, u, sends)
	w.locksOf(r, u)
	if mail := w.run(r.id).Mail; len(mail) > 0 && w.odds(2) {
		w.judgeMail("Story()", r, mail)
		u.Read = mail[w.rnd.IntN(len(mail))].No
	}
	switch n := w.rnd.IntN(12); {
	case n < 5:
		u.Verdict = store.Waiting
		if left := len(r.waits) + len(u.Waits) - len(u.Unwait); left <= 0 || w.odds(2) { // it waits for something
			u.Wake = w.clock.Now().Add(time.Duration(w.rnd.IntN(120)) * time.Second)
		}
	case n < 6:
		u.Verdict, u.Reason = store.Parked, "no luck"
	case n < 8:
		u.Verdict, u.Outcome = store.Ended, store.Outcome(1+w.rnd.IntN(3))
	}
	return c
}

// waitsOf makes up waits. In a group with sends it touches none that is there: which
// of them comes first the port does not say.
func (w *runWalk) waitsOf(r *runCopy, u *store.RunUpdate, sends bool) {
	for n := range 5 {
		_, waits := r.waits[n+1]
		if waits && (sends || !w.odds(3)) || !waits && !w.odds(6) {
			continue
		}
		if waits && w.odds(2) {
			u.Unwait = append(u.Unwait, n+1)
			continue
		}
		x := awaits(n+1, []string{"a", "b", "c"}[w.rnd.IntN(3)])
		x.After = w.pruned
		if len(w.sent) > 0 && w.odds(3) {
			x.After = max(x.After, w.sent[w.rnd.IntN(len(w.sent))].Pos)
		} else if w.odds(3) {
			x.Since = w.clock.Now().Add(-time.Duration(w.rnd.IntN(60)) * time.Second)
		}
		u.Waits = append(u.Waits, x)
	}
}

func (w *runWalk) locksOf(r *runCopy, u *store.RunUpdate) {
	for _, name := range w.lockNames {
		inLine := slices.ContainsFunc(w.locks[name].line, func(x wish) bool { return x.run == r })
		switch w.rnd.IntN(8) {
		case 0:
			u.Locks = append(u.Locks, releases(1, name))
		case 1:
			if !inLine {
				u.Locks = append(u.Locks, acquires(70+w.rnd.IntN(5), name))
			}
		}
	}
}

// updateStale updates what is not this process's to update, or no longer so.
func (w *runWalk) updateStale() {
	r := w.pick(func(*runCopy) bool { return true })
	if r == nil {
		return
	}
	ref := r.ref
	if r.stands == store.RunRunning {
		ref.Epoch += []int64{-1, 1}[w.rnd.IntN(2)]
	}
	c := runs(&store.RunUpdate{RunRef: ref, Verdict: store.Ended, Outcome: store.Failed, Records: []*store.Record{step(1, "stale", store.StepDone)}, Waits: []store.Wait{awaits(1, "a")}})
	c.Sends, c.Runs = w.invent(2), startings("stale")
	w.log("update %s under epoch %d, which is %s under %d", r.id, ref.Epoch, r.stands, r.ref.Epoch)
	w.refuse(c, store.ErrFenced)
}

// leave ends the process, well or badly.
func (w *runWalk) leave(crashed bool) {
	w.log("leave, crashed: %t", crashed)
	for _, r := range w.runs {
		if r.stands == store.RunRunning {
			r.stands, r.since = store.RunReady, time.Time{}
			if crashed {
				r.crashes++
			}
		}
	}
	if crashed {
		w.crash()
	} else {
		w.restart()
	}
}

// meddle is what a person does.
func (w *runWalk) meddle() {
	if w.odds(3) {
		name := w.lockNames[w.rnd.IntN(len(w.lockNames))]
		l := w.locks[name]
		_, err := w.any().Operate(w.ctx(), by(store.Act{Verb: store.BreakLock, Lock: name}))
		w.log("break %s: %v", name, err)
		if (err == nil) != (l.holder != nil) {
			w.Errorf("Operate(break %s) = %v, want nil: %t", name, err, l.holder != nil)
		}
		if err == nil {
			w.passOn(l)
		}
		return
	}
	r := w.pick(func(*runCopy) bool { return true })
	if r == nil {
		return
	}
	verb := []store.Verb{store.CancelRun, store.RetryRun, store.AbandonRun, store.SkipRun}[w.rnd.IntN(4)]
	_, err := w.any().Operate(w.ctx(), by(store.Act{Verb: verb, Workflow: fulfil, ID: r.id}))
	w.log("%s %s: %v", verb, r.id, err)
	allowed := r.stands == store.RunParked || verb == store.CancelRun && r.stands != store.RunEnded
	if allowed != (err == nil) || !allowed && !errors.Is(err, store.ErrConflict) {
		w.Errorf("Operate(%s %s), which is %s = %v, want it allowed: %t", verb, r.id, r.stands, err, allowed)
	}
	if err == nil {
		w.got(r, false, "%s", strings.TrimPrefix(string(verb), "run "))
	}
}

// delete lets retention do its work.
func (w *runWalk) delete(keep time.Duration) {
	w.log("prune, keep %s", keep)
	w.prune(store.Retention{Keep: keep, Max: 1 + w.rnd.IntN(50)})
	old := w.clock.Now().Add(-keep)
	w.runs = slices.DeleteFunc(w.runs, func(r *runCopy) bool { return r.stands == store.RunEnded && r.ended.Before(old) })
	for _, m := range w.sent {
		if m.SentAt.Before(old) {
			w.pruned = max(w.pruned, m.Pos)
		}
	}
}

// finish ends all runs, and wants nothing to be left over.
func (w *runWalk) finish() {
	w.well()
	for _, r := range w.runs {
		if r.stands == store.RunWaiting || r.stands == store.RunParked {
			w.operate(store.Act{Verb: store.CancelRun, Workflow: fulfil, ID: r.id})
			w.got(r, false, "cancel")
		}
	}
	for range 3 {
		w.claimSome(false, 1000)
		w.claimSome(true, 1000)
		for _, r := range w.runs {
			if r.stands == store.RunRunning {
				u := ending(r.ref, store.Completed)
				w.log("end %s", r.id)
				w.update(u)
				w.updated(r, u)
			}
		}
		w.judge()
	}
	for _, r := range w.runs {
		if r.stands != store.RunEnded {
			w.Errorf("%s is %s after all was worked off", r.id, r.stands)
		}
	}
	w.well()
}
