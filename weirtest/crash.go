package weirtest

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
)

// CrashEverywhere tries a scenario undisturbed, and then again and again: with a crash of
// the process before and after each of its commits (and within those that
// run OnCommit or StepTx closures), before each of its effects, with each message
// delivered twice, and with Act repeated. It fails t with a list of effects that then happened more or less often
// than undisturbed, each with the commit where the crash was. So it does if a run ends
// otherwise, or a message is dead.
//
// See the package's comment for an example. scenario is called once per trial,
// within a bubble of testing/synctest; two trials run at a time, or more.
func CrashEverywhere(t *testing.T, scenario func(t *testing.T, w *World) Scenario) {
	t.Helper()
	r := CrashReport(t, scenario)
	if len(r.Faults) > 0 {
		t.Error(r)
		return
	}
	t.Log(r)
}

// CrashReport is CrashEverywhere for who wants to look at the report. It fails t only
// if the scenario cannot be tried: if it does not come to its end even undisturbed,
// or has other effects each time.
func CrashReport(t *testing.T, scenario func(t *testing.T, w *World) Scenario) Report {
	t.Helper()
	began := time.Now()
	c := &crashes{t: t, make: scenario}
	first := c.try(plan{manner: calm})
	if first.err != nil {
		t.Fatalf("the scenario fails undisturbed: %v", first.err)
	}
	if c.options.Points < 1 || c.options.Points > pointsMax {
		t.Fatalf("Scenario.Points is %d, want 1 to %d", c.options.Points, pointsMax)
	}
	again := c.try(plan{manner: calm})
	if faults := compare(&first, &again, false); len(faults) > 0 {
		t.Fatalf("the scenario differs from itself undisturbed, so nothing can be compared with it:%s", list(faults))
	}
	results := append(c.tryAll(c.plans(&first)), c.cancels(&first)...)
	r := Report{Commits: len(first.points), Trials: len(results) + 2, Took: time.Since(began)}
	r.Faults = gather(&first, results, c.options.PersonsAct)
	return r
}

// crashes makes a scenario's trials.
type crashes struct {
	t       *testing.T
	make    func(*testing.T, *World) Scenario
	options Scenario // of the first trial
}

// plans is what to try, given an undisturbed trial.
func (c *crashes) plans(first *outcome) []plan {
	plans := []plan{{manner: twice}, {manner: asked}}
	for at := range spread(len(first.points), c.options.Points) {
		p := first.points[at-1]
		if !p.claim {
			plans = append(plans, plan{before, at, 0})
		}
		if p.closures {
			plans = append(plans, plan{within, at, 0})
		}
		plans = append(plans, plan{after, at, 0})
	}
	for at := range spread(len(first.order), c.options.Points) {
		plans = append(plans, plan{unacted, at, 0})
	}
	if c.options.Only != "" {
		plans = slices.DeleteFunc(plans, func(p plan) bool { return p.String() != c.options.Only })
		if len(plans) == 0 && !c.options.Cancels {
			c.t.Fatalf("Scenario.Only is %q, and there is no such trial", c.options.Only)
		}
	}
	return plans
}

// spread is the numbers from 1 to n, or so many of them.
func spread(n, most int) iter.Seq[int] {
	return func(yield func(int) bool) {
		tried := min(n, most)
		for i := range tried {
			if !yield(i*n/tried + 1) {
				return
			}
		}
	}
}

// tryAll makes trials, some at a time.
func (c *crashes) tryAll(plans []plan) []outcome {
	outcomes := make([]outcome, len(plans))
	next := make(chan int, len(plans))
	for i := range plans {
		outcomes[i] = outcome{plan: plans[i], err: errGone}
		next <- i
	}
	close(next)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(plans)) {
		workers.Go(func() {
			for i := range next {
				outcomes[i] = c.try(plans[i])
			}
		})
	}
	workers.Wait()
	if c.t.Failed() {
		c.t.FailNow() // by the scenario itself
	}
	return outcomes
}

// trialMax is how long a trial may take in real time: far beyond what it takes.
const trialMax = 5 * time.Minute

// try makes one trial.
func (c *crashes) try(p plan) (out outcome) {
	defer func() {
		// A goroutine that the scenario has left behind ends the bubble so.
		if failure := recover(); failure != nil {
			out.plan, out.err = p, fmt.Errorf("%v: what it has started must end when its engine stops", failure)
		}
	}()
	standstill := time.AfterFunc(trialMax, func() {
		debug.SetTraceback("all")
		panic(fmt.Sprintf("weirtest: the trial %q has not ended in %s: in fake time nobody may wait for a sync.Mutex whose holder sleeps, or for a network", p, trialMax))
	})
	defer standstill.Stop()
	synctest.Test(c.t, func(t *testing.T) {
		tr := newTrial(t, p, c.make)
		if p == (plan{}) {
			c.options = tr.scenario
			c.options.Points = cmp.Or(c.options.Points, pointsDefault)
		}
		out = tr.run()
	})
	return out
}

// Report is what CrashEverywhere has found.
type Report struct {
	Commits int           // of the scenario, undisturbed
	Trials  int           // that were made
	Took    time.Duration // for all of them
	Faults  []Fault
}

func (r Report) String() string {
	head := fmt.Sprintf("%d trials of a scenario with %d commits in %s: ", r.Trials, r.Commits, r.Took.Round(time.Millisecond))
	if len(r.Faults) == 0 {
		return head + "no effect is lost or happens twice"
	}
	return fmt.Sprintf("%s%d faults%s", head, len(r.Faults), list(r.Faults))
}

// Fault is something that happened otherwise in some trials than undisturbed.
type Fault struct {
	// Effect and Key are the effect's; empty if it is not about one.
	Effect, Key string
	Times       int // how often it happened
	Usual       int // how often it happens undisturbed

	What   string   // in words: "charge order-7 happened 2 times"
	Trials []string // in which: "after commit 5 (step charge-card recorded)"
}

const trialsTold = 3

func (f Fault) String() string {
	told := f.Trials
	more := ""
	if len(told) > trialsTold {
		told, more = told[:trialsTold], fmt.Sprintf(", and in %d other trials", len(told)-trialsTold)
	}
	text := f.What
	for i, trial := range told {
		if i > 0 {
			text += ","
		}
		text += " " + trial
	}
	return text + more
}

// name is how the trial is told in a report.
func (out *outcome) name() string {
	told := ""
	switch out.manner {
	case before, within, after, unacted:
		told = fmt.Sprintf("with a crash %s (%s)", out.disturbs(), cmp.Or(out.point, "which it did not come to"))
	case twice:
		told = "with each message delivered twice"
	case asked:
		told = "with Act repeated"
	}
	if out.cancel > 0 {
		told += fmt.Sprintf(" when cancelled after commit %d (%s)", out.cancel, cmp.Or(out.asked, "which it did not come to"))
	}
	return cmp.Or(strings.TrimSpace(told), "undisturbed")
}

// gather compares all trials with the first and puts the same fault of several together.
func gather(usual *outcome, all []outcome, personsAct bool) []Fault {
	var faults []Fault
	index := map[string]int{}
	for i := range all {
		for _, f := range compare(usual, &all[i], personsAct) {
			at, known := index[f.What]
			if !known {
				at = len(faults)
				index[f.What] = at
				faults = append(faults, f)
				faults[at].Trials = nil
			}
			faults[at].Trials = append(faults[at].Trials, all[i].name())
		}
	}
	return faults
}

// compare tells in what a trial's outcome differs from the usual one.
func compare(usual, got *outcome, personsAct bool) []Fault {
	if got.err != nil {
		if errors.Is(got.err, errGone) {
			return []Fault{{What: "the trial did not come to its end: its goroutine ended"}}
		}
		return []Fault{{What: fmt.Sprintf("the trial did not come to its end: %v,", got.err)}}
	}
	c := comparison{usual: usual, got: got}
	waits := c.compareRuns(personsAct)
	c.compareEffects(personsAct && waits)
	c.compareDead()
	return c.faults
}

type comparison struct {
	usual, got *outcome
	faults     []Fault
}

// compareEffects tells of effects; of none that are missing if they may still come.
func (c *comparison) compareEffects(mayCome bool) {
	known := maps.Clone(c.usual.effects)
	maps.Copy(known, c.got.effects)
	keys := slices.SortedFunc(maps.Keys(known), func(a, b effect) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.key, b.key))
	})
	cancelled, all := c.cancelled()
	for _, e := range keys {
		usual, n := c.usual.effects[e], c.got.effects[e]
		if most := c.usual.most[e]; c.got.most[e] > most { // be they undone since
			usual, n = most, c.got.most[e]
		}
		asUsual := n == usual && !all || n < usual && mayCome || n > usual && c.got.lenient[e]
		if asUsual || cancelled && (n == 0 || c.got.lenient[e]) {
			continue
		}
		f := Fault{Effect: e.name, Key: e.key, Times: n, Usual: usual}
		switch {
		case n < 0:
			f.What = fmt.Sprintf("%s is undone more often than it happened", e)
		case cancelled && n <= usual:
			f.What = fmt.Sprintf("%s happened %s and is not undone", e, times(n))
		case n == 0:
			f.What = fmt.Sprintf("%s did not happen", e)
		case usual == 1:
			f.What = fmt.Sprintf("%s happened %d times", e, n)
		case usual == 0:
			f.What = fmt.Sprintf("%s happened %s, and does not undisturbed,", e, times(n))
		default:
			f.What = fmt.Sprintf("%s happened %s instead of %d", e, times(n), usual)
		}
		c.faults = append(c.faults, f)
	}
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// compareRuns tells of runs that stand otherwise; true if one needs a person.
func (c *comparison) compareRuns(personsAct bool) (waits bool) {
	all := maps.Clone(c.usual.runs)
	maps.Copy(all, c.got.runs)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		usual, got := c.usual.runs[name], c.got.runs[name]
		if usual.state == got.state || c.got.cancel > 0 && (got.state == Cancelled || got.state == "") {
			continue
		}
		needs := got.state == weir.RunNeedsPerson
		waits = waits || needs
		if needs && personsAct {
			continue
		}
		f := Fault{What: fmt.Sprintf("run %s is %s and not %s", name, cmp.Or(got.state, "not there"), cmp.Or(usual.state, "not there"))}
		if got.reason != "" {
			f.What += fmt.Sprintf(" (%s)", got.reason)
		}
		c.faults = append(c.faults, f)
	}
	return waits
}

// compareDead tells of queues and keys with more dead messages than undisturbed.
func (c *comparison) compareDead() {
	for _, name := range slices.Sorted(maps.Keys(c.got.dead)) {
		reasons, usual := c.got.dead[name], len(c.usual.dead[name])
		if len(reasons) > usual {
			c.faults = append(c.faults, Fault{What: fmt.Sprintf("a message to %s is dead (%s)", name, reasons[len(reasons)-1])})
		}
	}
}
