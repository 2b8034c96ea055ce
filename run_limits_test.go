package weir_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// What is beyond a limit parks the run, with the limit in the reason.
func TestLimitsOfRuns(t *testing.T) {
	t.Parallel()
	ok := func(context.Context) error { return nil }
	large := strings.Repeat("x", 2000)
	step := func(name string, o ...weir.StepOption) func(*weir.Run) error {
		return func(r *weir.Run) error { return weir.Do(r, name, ok, o...) }
	}
	bad := map[string]struct {
		work func(*weir.Run) error
		want string
	}{
		"no name":           {step(""), "1 to 200 bytes"},
		"long name":         {step(strings.Repeat("x", 201)), "1 to 200 bytes"},
		"name with #":       {step("a#2"), "1 to 200 bytes"},
		"name with colon":   {step(":note"), "1 to 200 bytes"},
		"name with newline": {step("a\nb"), "1 to 200 bytes"},
		"long key":          {step("a", weir.Key(strings.Repeat("x", 513))), "0 to 512"},
		"timeout":           {step("a", weir.Timeout(25*time.Hour)), "1ms to 24h"},
		"within":            {step("a", weir.Within(-1)), "Within"},
		"retry":             {step("a", weir.Retry{Max: 10_001}), "1 to 10000"},
		"nil in FailIf":     {step("a", weir.FailIf(nil, errBusy)), "a nil error in FailIf"},
		"nil in DoneIf":     {step("a", weir.DoneIf(errBusy, nil)), "a nil error in DoneIf"},
		"headers":           {step("a", weir.Headers{"a": strings.Repeat("x", 9000)}), "bytes of Headers"},
		"long sleep":        {func(r *weir.Run) error { weir.Sleep(r, "s", 11*365*24*time.Hour); return nil }, "Sleep"},
		"negative sleep":    {func(r *weir.Run) error { weir.Sleep(r, "s", -1); return nil }, "Sleep"},
		"every": {func(r *weir.Run) error {
			return weir.Until(r, "u", func(context.Context) (weir.Met, error) { return weir.When(true, ""), nil }, weir.Every(31*24*time.Hour))
		}, "Every"},
		"wait without key": {func(r *weir.Run) error { _, err := weir.WaitFor(r, "w", ready.For("")); return err }, "without a key"},
		"wake on nothing well-formed": {func(r *weir.Run) error {
			return weir.Until(r, "u", func(context.Context) (weir.Met, error) { return weir.When(true, ""), nil },
				weir.WakeOn(weir.NewEvent[plate]("Bad").For("x")))
		}, "Bad"},
		"wait for nil": {func(r *weir.Run) error { _, err := weir.WaitFor[plate](r, "w", nil); return err }, "w: waits for nil"},
		"wake on nil": {func(r *weir.Run) error {
			return weir.Until(r, "u", func(context.Context) (weir.Met, error) { return weir.When(true, ""), nil }, weir.WakeOn[plate](nil))
		}, "u: WakeOn of nil"},
		"branches": {func(r *weir.Run) error { return weir.All(r, "all", make([]weir.Branch, 1001)...) }, "branch"},
		"branch names": {func(r *weir.Run) error {
			return weir.All(r, "all", weir.Branch{Name: "a", Do: step("x")}, weir.Branch{Name: "a", Do: step("x")})
		}, "a name of its own"},
		"branch with slash": {func(r *weir.Run) error { return weir.All(r, "all", weir.Branch{Name: "a/b", Do: step("x")}) }, "# and /"},
		"branch of nothing": {func(r *weir.Run) error { return weir.All(r, "all", weir.Branch{Name: "a"}) }, "no function"},
		"large result": {func(r *weir.Run) error {
			_, err := weir.Step(r, "s", func(context.Context) (string, error) { return large, nil })
			return err
		}, "at most 1000"},
		"unencodable result": {func(r *weir.Run) error {
			_, err := weir.Step(r, "s", func(context.Context) (func(), error) { return func() {}, nil })
			return err
		}, "encode"},
		"large result of Once": {func(r *weir.Run) error {
			_, err := weir.Once[string](r, "s", func(context.Context) (string, error) { return large, nil }, nil)
			return err
		}, "at most 1000"},
		"large result of StepTx": {func(r *weir.Run) error {
			_, err := weir.StepTx(r, "s", func(context.Context, weir.Tx) (string, error) { return large, nil })
			return err
		}, "at most 1000"},
		"large request": {func(r *weir.Run) error { _, err := weir.Ask(r, "s", cook, ticket{Table: large}); return err }, "bytes of its body"},
		"stranger's request": {func(r *weir.Run) error {
			_, err := weir.Ask(r, "s", weir.NewRequest[ticket, plate]("bar.mix"), ticket{})
			return err
		}, "bar"},
		"stranger's child": {func(r *weir.Run) error {
			_, err := weir.Call(r, "s", weir.NewWorkflow[ticket, plate]("bar.mix"), ticket{})
			return err
		}, "bar"},
		"long child ID": {func(r *weir.Run) error {
			_, err := weir.Call(r, strings.Repeat("y", 190), wash, ticket{}, weir.Key(strings.Repeat("x", 400)))
			return err
		}, "1 to 512"},
		"long key to wait for": {func(r *weir.Run) error {
			_, err := weir.WaitFor(r, "s", ready.For(strings.Repeat("x", 513)))
			return err
		}, "bytes of the key is 513"},
		"two events to ask again for": {func(r *weir.Run) error {
			return weir.Until(r, "s", func(context.Context) (weir.Met, error) { return weir.When(true, ""), nil },
				weir.WakeOn(ready.For("a")), weir.WakeOn(ready.For("b")))
		}, "two WakeOn"},
		"long lock": {func(r *weir.Run) error {
			return weir.Locked(r, strings.Repeat("x", 600), func(*weir.Run, int64) error { return nil })
		}, "bytes"},
	}
	e := openEngine(t, newFile(t), weir.Config{MaxBody: 1000})
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		if c, ok := bad[r.ID()]; ok {
			return plate{}, c.work(r)
		}
		return plate{Table: large}, nil
	})
	weir.Register(e, wash, gives)
	works(t, e)
	var work sync.WaitGroup
	for what, c := range bad {
		work.Go(func() {
			startRun(t, e, what)
			if s := inState(t, e, what, weir.RunNeedsPerson); !strings.Contains(s.Reason, c.want) {
				t.Errorf("%s: parked because of %q, want %q in it", what, s.Reason, c.want)
			}
		})
	}
	work.Wait()
	startRun(t, e, "large result of the run")
	if s := inState(t, e, "large result of the run", weir.RunNeedsPerson); !strings.Contains(s.Reason, "at most 1000") {
		t.Errorf("parked because of %q, want the size of the result", s.Reason)
	}
}

// Without a word a run has at most 10,000 steps. Compensations come on top, so that one that has
// too many can be given up.
func TestTooManySteps(t *testing.T) {
	t.Parallel()
	var did list
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		weir.Compensate(r, "undo", did.does("undo"))
		var branches []weir.Branch // many at a time, so that it does not take long
		for i := range 500 {
			branches = append(branches, weir.Branch{Name: fmt.Sprint(i), Do: func(r *weir.Run) error {
				for {
					if err := weir.Do(r, "again", func(context.Context) error { return nil }); err != nil {
						return err
					}
				}
			}})
		}
		return plate{}, weir.All(r, "hall", branches...)
	})
	ref := startRun(t, e, "7")
	s := inState(t, e, "7", weir.RunNeedsPerson)
	if n := len(recordNames(s)); !strings.Contains(s.Reason, "10000 steps") || n != 10_000 {
		t.Errorf("parked with %d records because of %q, want 10,000", n, s.Reason)
	}
	decided(t, e.AbandonRun(t.Context(), of("7"), known))
	ended(t, ref, "failed")
	if got := did.get(); len(got) != 1 {
		t.Errorf("compensated %q, want undo", got)
	}
}

// Too many waits at a time are for a person, and nothing of them is lost.
func TestTooManyWaits(t *testing.T) {
	t.Parallel()
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		var outer []weir.Branch
		for i := range 3 {
			outer = append(outer, weir.Branch{Name: fmt.Sprint(i), Do: func(r *weir.Run) error {
				var inner []weir.Branch
				for j := range 400 {
					inner = append(inner, weir.Branch{Name: fmt.Sprint(j), Do: func(r *weir.Run) error {
						_, err := weir.WaitFor(r, "w", approved)
						return err
					}})
				}
				return weir.All(r, "inner", inner...)
			}})
		}
		return plate{}, weir.All(r, "outer", outer...)
	})
	ref := startRun(t, e, "7")
	if s := inState(t, e, "7", weir.RunNeedsPerson); !strings.Contains(s.Reason, "at most 1000") {
		t.Errorf("parked because of %q, want the limit of waits", s.Reason)
	}
	decided(t, e.AbandonRun(t.Context(), of("7"), known))
	if _, err := result(t, ref); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("abandoned, it results in %v, want its failure", err)
	}
}

// What was done is recorded, though it is in one change with a wait too many: after the park it is not done again.
func TestTooManyWaitsLoseNoResult(t *testing.T) {
	t.Parallel()
	var did list
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		var outer []weir.Branch
		for i := range 3 {
			outer = append(outer, weir.Branch{Name: fmt.Sprint(i), Do: func(r *weir.Run) error {
				var inner []weir.Branch
				for j := range 400 {
					inner = append(inner, weir.Branch{Name: fmt.Sprint(j), Do: func(r *weir.Run) error {
						if j >= 350 {
							if err := weir.Do(r, "charge", did.does(fmt.Sprint(i, " ", j))); err != nil {
								return err
							}
						}
						_, err := weir.WaitFor(r, "w", approved)
						return err
					}})
				}
				return weir.All(r, "inner", inner...)
			}})
		}
		return plate{}, weir.All(r, "outer", outer...)
	})
	ref := startRun(t, e, "7")
	for range 2 {
		s, done := inState(t, e, "7", weir.RunNeedsPerson), 0
		for _, r := range s.Records {
			if strings.HasSuffix(r.Name, "/charge") && r.State == store.StepDone {
				done++
			}
		}
		if charged := len(did.get()); done != charged || charged == 0 || !strings.Contains(s.Reason, "at most 1000") {
			t.Errorf("%d charges, %d recorded, parked because of %q; want all recorded, and the limit of waits", charged, done, s.Reason)
		}
		decided(t, e.RetryRun(t.Context(), of("7"), known))
		eventually(t, "the retry is over", func() bool {
			s := storyOf(t, e, "7")
			return s.State == weir.RunNeedsPerson && slices.ContainsFunc(s.Records, func(r weir.RunRecord) bool { return r.Kind == store.KindNote })
		})
	}
	if all := did.get(); len(slices.Compact(slices.Sorted(slices.Values(all)))) != len(all) {
		t.Errorf("%d charges, of them some twice: %q", len(all), all)
	}
	decided(t, e.AbandonRun(t.Context(), of("7"), known))
	ended(t, ref, "failed")
}
