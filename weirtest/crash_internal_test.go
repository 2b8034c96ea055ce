package weirtest

import (
	"slices"
	"strings"
	"testing"

	"github.com/weir-go/weir"
)

func TestCompare(t *testing.T) {
	usual := outcome{
		most:    map[effect]int{{"charge", "1"}: 1, {"mail", "1"}: 1, {"look", "1"}: 2},
		effects: map[effect]int{{"charge", "1"}: 1, {"mail", "1"}: 1, {"look", "1"}: 2},
		runs:    map[string]runEnd{"orders.fulfil 1": {state: Completed}},
		dead:    map[string][]string{"kitchen.cook of 1": {"no such dish"}},
	}
	like := func(change func(*outcome)) outcome {
		o := outcome{
			plan: plan{after, 5, 0}, point: "step charge-card recorded",
			effects: map[effect]int{{"charge", "1"}: 1, {"mail", "1"}: 1, {"look", "1"}: 2},
			runs:    map[string]runEnd{"orders.fulfil 1": {state: Completed}},
			dead:    map[string][]string{"kitchen.cook of 1": {"no such dish"}},
		}
		change(&o)
		return o
	}
	parked := func(o *outcome) {
		o.runs["orders.fulfil 1"] = runEnd{weir.RunNeedsPerson, "outcome unknown"}
		delete(o.effects, effect{"mail", "1"})
	}
	for _, c := range []struct {
		name       string
		got        outcome
		personsAct bool
		want       []string
	}{
		{"the same", like(func(*outcome) {}), false, nil},
		{"twice", like(func(o *outcome) { o.effects[effect{"charge", "1"}] = 2 }), false, []string{"charge 1 happened 2 times"}},
		{"thrice instead of twice", like(func(o *outcome) { o.effects[effect{"look", "1"}] = 3 }), false, []string{"look 1 happened 3 times instead of 2"}},
		{"once instead of twice", like(func(o *outcome) { o.effects[effect{"look", "1"}] = 1 }), false, []string{"look 1 happened once instead of 2"}},
		{"lost", like(func(o *outcome) { delete(o.effects, effect{"mail", "1"}) }), false, []string{"mail 1 did not happen"}},
		{"unheard of", like(func(o *outcome) { o.effects[effect{"refund", "1"}] = 1 }), false, []string{"refund 1 happened once, and does not undisturbed,"}},
		{"twice, and may", like(func(o *outcome) {
			o.effects[effect{"mail", "1"}] = 2
			o.lenient = map[effect]bool{{"mail", "1"}: true}
		}), false, nil},
		{"lost, and may repeat", like(func(o *outcome) {
			delete(o.effects, effect{"mail", "1"})
			o.lenient = map[effect]bool{{"mail", "1"}: true}
		}), false, []string{"mail 1 did not happen"}},
		{"failed", like(func(o *outcome) { o.runs["orders.fulfil 1"] = runEnd{Failed, "declined"} }), false,
			[]string{"run orders.fulfil 1 is failed and not completed (declined)"}},
		{"gone", like(func(o *outcome) { clear(o.runs) }), false, []string{"run orders.fulfil 1 is not there and not completed"}},
		{"needs a person", like(parked), false, []string{"run orders.fulfil 1 is needs-person and not completed (outcome unknown)", "mail 1 did not happen"}},
		{"needs a person, who acts", like(parked), true, nil},
		{"needs a person, who acts, and twice", like(func(o *outcome) {
			parked(o)
			o.effects[effect{"charge", "1"}] = 2
		}), true, []string{"charge 1 happened 2 times"}},
		{"dead", like(func(o *outcome) { o.dead["kitchen.cook of 1"] = []string{"no such dish", "it crashed"} }), false,
			[]string{"a message to kitchen.cook of 1 is dead (it crashed)"}},
		{"no end", outcome{err: errGone}, true, []string{"the trial did not come to its end: its goroutine ended"}},
		{"cancelled, and all is undone", like(func(o *outcome) {
			o.cancel, o.runs["orders.fulfil 1"] = 3, runEnd{Cancelled, "cancelled"}
			o.effects, o.lenient = map[effect]int{{"charge", "1"}: 0, {"mail", "1"}: 1}, map[effect]bool{{"mail", "1"}: true}
		}), false, nil},
		{"cancelled, and not undone", like(func(o *outcome) {
			o.cancel, o.runs["orders.fulfil 1"] = 3, runEnd{Cancelled, "cancelled"}
			o.effects = map[effect]int{{"charge", "1"}: 1, {"look", "1"}: 1}
		}), false, []string{"charge 1 happened once and is not undone", "look 1 happened once and is not undone"}},
		{"undone too often", like(func(o *outcome) {
			o.cancel, o.runs["orders.fulfil 1"] = 3, runEnd{Cancelled, "cancelled"}
			o.effects = map[effect]int{{"charge", "1"}: -1}
		}), false, []string{"charge 1 is undone more often than it happened"}},
		{"one of two is cancelled", like(func(o *outcome) {
			o.cancel, o.runs["orders.fulfil 2"] = 3, runEnd{Cancelled, "cancelled"}
			o.effects[effect{"look", "1"}] = 1
		}), false, []string{"look 1 happened once and is not undone"}},
		{"cancelled when it had ended", like(func(o *outcome) {
			o.cancel = 3
			delete(o.effects, effect{"mail", "1"})
		}), false, []string{"mail 1 did not happen"}},
		{"cancelled, and needs a person", like(func(o *outcome) { o.cancel, o.runs["orders.fulfil 1"] = 3, runEnd{weir.RunNeedsPerson, "no answer"} }), false,
			[]string{"run orders.fulfil 1 is needs-person and not completed (no answer)"}},
		{"twice for a time", like(func(o *outcome) { o.most = map[effect]int{{"charge", "1"}: 2} }), false, []string{"charge 1 happened 2 times"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, f := range compare(&usual, &c.got, c.personsAct) {
				got = append(got, f.What)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("compare = %q, want %q", got, c.want)
			}
		})
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		n, most int
		want    []int
	}{
		{0, 500, nil}, {3, 500, []int{1, 2, 3}}, {3, 3, []int{1, 2, 3}}, {10, 4, []int{1, 3, 6, 8}}, {1000, 1, []int{1}},
	} {
		if got := slices.Collect(spread(c.n, c.most)); !slices.Equal(got, c.want) {
			t.Errorf("spread(%d, %d) = %v, want %v", c.n, c.most, got, c.want)
		}
	}
}

func TestPlans(t *testing.T) {
	c := &crashes{t: t, options: Scenario{Points: pointsDefault}}
	got := c.plans(&outcome{points: []point{{what: "a claim", claim: true}, {what: "a settlement", closures: true}}, order: []effect{{"mail", "1"}}})
	want := []plan{{manner: twice}, {manner: asked}, {after, 1, 0}, {before, 2, 0}, {within, 2, 0}, {after, 2, 0}, {unacted, 1, 0}}
	if !slices.Equal(got, want) {
		t.Errorf("plans = %v, want %v", got, want)
	}
	c.options.Only = "within commit 2"
	if got := c.plans(&outcome{points: []point{{}, {closures: true}}}); !slices.Equal(got, []plan{{within, 2, 0}}) {
		t.Errorf("plans with Only = %v, want that one", got)
	}
}

func TestFaultsOfManyTrialsAreOne(t *testing.T) {
	usual := outcome{effects: map[effect]int{{"charge", "1"}: 1}}
	var all []outcome
	for n := range 5 {
		all = append(all, outcome{plan: plan{before, n + 1, 0}, point: "x", effects: map[effect]int{{"charge", "1"}: 2}})
	}
	all = append(all, outcome{plan: plan{manner: twice}, effects: map[effect]int{{"charge", "1"}: 1}})
	r := Report{Commits: 5, Trials: 8, Faults: gather(&usual, all, false)}
	want := "8 trials of a scenario with 5 commits in 0s: 1 faults\n  charge 1 happened 2 times" +
		" with a crash before commit 1 (x), with a crash before commit 2 (x), with a crash before commit 3 (x), and in 2 other trials"
	if got := r.String(); got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	if f := r.Faults[0]; f.Effect != "charge" || f.Key != "1" || f.Times != 2 || f.Usual != 1 || len(f.Trials) != 5 {
		t.Errorf("fault = %+v", f)
	}
	if got := (Report{}).String(); !strings.HasSuffix(got, "no effect is lost or happens twice") {
		t.Errorf("String() = %q", got)
	}
}
