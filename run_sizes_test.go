package weir_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// sized is a run's work with something of a size: at the limit it completes, with one more it needs a person.
type sized struct {
	limit int
	work  func(r *weir.Run, n int) error
	want  string // in the reason
}

func sizedWork() map[string]sized {
	ok := func(context.Context) error { return nil }
	step := func(n int) string { return strings.Repeat("x", n) }
	var branches func(r *weir.Run, depth int) error
	branches = func(r *weir.Run, depth int) error {
		if depth == 0 {
			return weir.Do(r, "x", ok)
		}
		return weir.All(r, "a", weir.Branch{Name: "b", Do: func(r *weir.Run) error { return branches(r, depth-1) }})
	}
	many := func(n int) []error {
		list := make([]error, n)
		for i := range list {
			list[i] = fmt.Errorf("error %d", i)
		}
		return list
	}
	return map[string]sized{
		"bytes of a name": {200, func(r *weir.Run, n int) error { return weir.Do(r, step(n), ok) }, "1 to 200 bytes"},
		"bytes of a key":  {512, func(r *weir.Run, n int) error { return weir.Do(r, "x", ok, weir.Key(step(n))) }, "0 to 512"},
		"bytes of headers": {8192, func(r *weir.Run, n int) error {
			return weir.Do(r, "x", ok, weir.Headers{"a": step(n - len(`{"a":""}`))})
		}, "0 to 8192"},
		"bytes of a lock's name": {512, func(r *weir.Run, n int) error {
			return weir.Locked(r, step(n), func(*weir.Run, int64) error { return nil })
		}, "1 to 512"},
		"earlier names": {100, func(r *weir.Run, n int) error {
			var o []weir.StepOption
			for i := range n {
				o = append(o, weir.Was(fmt.Sprint(i)))
			}
			return weir.Do(r, "x", ok, o...)
		}, "names of Was is 101, want 0 to 100"},
		"errors of DoneIf": {100, func(r *weir.Run, n int) error { return weir.Do(r, "x", ok, weir.DoneIf(many(n)...)) }, "errors of DoneIf is 101, want 0 to 100"},
		"errors of FailIf": {100, func(r *weir.Run, n int) error { return weir.Do(r, "x", ok, weir.FailIf(many(n)...)) }, "errors of FailIf is 101, want 0 to 100"},
		"branches": {1000, func(r *weir.Run, n int) error {
			all := make([]weir.Branch, n)
			for i := range all {
				all[i] = weir.Branch{Name: fmt.Sprint(i), Do: func(*weir.Run) error { return nil }}
			}
			return weir.All(r, "hall", all...)
		}, "1001 branches, want at most 1000"},
		"nested branches": {10, branches, "nested 11 deep, want at most 10"},
		"compensations": {10_000, func(r *weir.Run, n int) error {
			for range n {
				weir.Compensate(r, "undo", ok)
			}
			return nil
		}, "more than 10000 compensations"},
		"bytes of a child's ID": {512, func(r *weir.Run, n int) error {
			_, err := weir.Call(r, "wash", wash, ticket{}, weir.Key(step(n-len(r.ID()+"/wash[]"))))
			return err
		}, "1 to 512"},
	}
}

// What has a limit may come up to it, and one more parks the run with the limit in the reason.
func TestSizesOfRuns(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{})
	all := sizedWork()
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		return plate{N: in.N}, all[in.Table].work(r, in.N)
	})
	weir.Register(e, wash, gives)
	works(t, e)
	var work sync.WaitGroup
	for what, c := range all {
		work.Go(func() {
			start := func(n int) (weir.RunRef[plate], error) {
				return weir.Start(t.Context(), e, dine, fmt.Sprintf("%s %d", what, n), ticket{Table: what, N: n})
			}
			at, err := start(c.limit)
			beyond, more := start(c.limit + 1)
			if err := errors.Join(err, more); err != nil {
				t.Error(err)
				return
			}
			if got, err := result(t, at); err != nil || got.N != c.limit {
				t.Errorf("%d %s: %+v, %v, want it to complete", c.limit, what, got, err)
			}
			if s := inState(t, e, beyond.ID, weir.RunNeedsPerson); !strings.Contains(s.Reason, c.want) {
				t.Errorf("%d %s: parked because of %q, want %q in it", c.limit+1, what, s.Reason, c.want)
			}
		})
	}
	work.Wait()
}

// As many compensations as there may be are run, beside as many steps.
func TestManyCompensations(t *testing.T) {
	t.Parallel()
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		for range 2000 {
			weir.Compensate(r, "undo", func(context.Context) error { return nil })
		}
		return plate{}, weir.Do(r, "serve", func(context.Context) error { return weir.Permanent(errors.New("no plates")) })
	}, weir.Runs{MaxSteps: 1})
	ended(t, startRun(t, e, "7"), "failed")
	if n := len(storyOf(t, e, "7").Records); n < 2001 {
		t.Errorf("%d records, want that of the step and of 2,000 compensations", n)
	}
}

// Errors are kept up to 8 KiB: of a step, of an attempt, of a run, of what FailIf knows.
func TestErrorsAreCut(t *testing.T) {
	t.Parallel()
	long := errors.New(strings.Repeat("no ", 1<<20))
	e, stop := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		err := weir.Do(r, "serve", func(context.Context) error { return long }, weir.FailIf(long))
		if !errors.Is(err, long) {
			return plate{}, fmt.Errorf("serve = an error of %d bytes that is not %s", len(fmt.Sprint(err)), "the one it was")
		}
		return plate{}, long
	})
	err := ended(t, startRun(t, e, "7"), "failed")
	stop()
	s := storyOf(t, e, "7")
	if n := len(err.Reason); n < store.MaxReason-3 || n > store.MaxReason {
		t.Errorf("the run's error has %d bytes: %.100s, want %d", n, err.Reason, store.MaxReason)
	}
	for _, r := range s.Records {
		if len(r.Reason) > store.MaxReason || len(r.Value) > store.MaxReason {
			t.Errorf("%s has an error of %d bytes, and %d of what it was, want at most %d", r.Name, len(r.Reason), len(r.Value), store.MaxReason)
		}
	}
	for _, a := range s.Attempts {
		if len(a.Reason) > store.MaxReason {
			t.Errorf("attempt %d has an error of %d bytes, want at most %d", a.Attempt, len(a.Reason), store.MaxReason)
		}
	}
}
