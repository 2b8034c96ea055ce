package weir_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weir-go/weir"
)

// counting does n steps, and compensates for the first.
func counting(did *list, n *atomic.Int64) func(*weir.Run, ticket) (plate, error) {
	return func(r *weir.Run, in ticket) (plate, error) {
		weir.Compensate(r, "undo", did.does("undo"))
		for i := range int(n.Load()) {
			if err := weir.Do(r, "serve", did.does(fmt.Sprint("serve ", i)), weir.Key(fmt.Sprint(i))); err != nil {
				return plate{}, err
			}
		}
		return plate{N: int(n.Load())}, nil
	}
}

// A run may begin as many steps as its workflow says. One that comes to another needs a person before it
// begins: retried under a higher limit it goes on where it was.
func TestMaxSteps(t *testing.T) {
	t.Parallel()
	var did list
	var n atomic.Int64
	n.Store(5)
	file := newFile(t)
	e, stop := dining(t, file, counting(&did, &n), weir.Runs{MaxSteps: 5})
	completed(t, startRun(t, e, "at the limit"), 5)
	n.Store(6)
	startRun(t, e, "7")
	s := inState(t, e, "7", weir.RunNeedsPerson)
	for _, want := range []string{"5 steps", "Runs.MaxSteps", "weir run retry", "weir run cancel", "child runs"} {
		if !strings.Contains(s.Reason, want) {
			t.Errorf("parked because of %q, want %q in it", s.Reason, want)
		}
	}
	if got, kept := len(did.get()), len(recordNames(s)); got != 10 || kept != 5 {
		t.Errorf("%d steps were done and %d recorded, want 10 of both runs and 5", got, kept)
	}
	decided(t, e.RetryRun(t.Context(), of("7"), known))
	eventually(t, "it is parked again", func() bool {
		s := storyOf(t, e, "7")
		return s.State == weir.RunNeedsPerson && len(s.Mail) == 0
	})
	stop()
	e, _ = dining(t, file, counting(&did, &n), weir.Runs{MaxSteps: 6})
	decided(t, e.RetryRun(t.Context(), of("7"), known))
	completed(t, weir.Find(e, dine, "7"), 6)
	if got := did.get(); len(got) != 11 || got[10] != "serve 5" {
		t.Errorf("done: %q, want each step once", got)
	}
}

// A run at its limit can be cancelled: its compensations come on top.
func TestMaxStepsAndCancel(t *testing.T) {
	t.Parallel()
	for _, set := range []weir.Runs{{MaxSteps: 2}, {MaxBytes: 1 << 10}} {
		var did list
		e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
			for i := range 3 {
				weir.Compensate(r, fmt.Sprint("undo", i), did.does(fmt.Sprint("undo ", i)))
				_, err := weir.Step(r, fmt.Sprint("cook", i), func(context.Context) (string, error) { return strings.Repeat("x", 600), nil })
				if err != nil {
					return plate{}, err
				}
			}
			return plate{}, nil
		}, set)
		ref := startRun(t, e, "7")
		inState(t, e, "7", weir.RunNeedsPerson)
		decided(t, ref.Cancel(t.Context(), "too long"))
		ended(t, ref, "cancelled")
		if got := did.get(); !slices.Equal(got, []string{"undo 2", "undo 1", "undo 0"}) {
			t.Errorf("with %+v done: %q, want all compensations", set, got)
		}
	}
}

// Branches that begin steps at the same time stay within the limit, and come up to it.
func TestMaxStepsOfBranches(t *testing.T) {
	t.Parallel()
	const branches, each = 50, 4
	for _, limit := range []int{branches * each, branches*each - 1} {
		var calls atomic.Int64
		e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
			var all []weir.Branch
			for i := range branches {
				all = append(all, weir.Branch{Name: fmt.Sprint(i), Do: func(r *weir.Run) error {
					for range each {
						if err := weir.Do(r, "serve", func(context.Context) error { calls.Add(1); return nil }); err != nil {
							return err
						}
					}
					return nil
				}})
			}
			return plate{N: 1}, weir.All(r, "hall", all...)
		}, weir.Runs{MaxSteps: limit})
		ref := startRun(t, e, "7")
		if limit == branches*each {
			completed(t, ref, 1)
		} else {
			inState(t, e, "7", weir.RunNeedsPerson)
		}
		if got := int(calls.Load()); got != limit {
			t.Errorf("%d steps were done, want %d", got, limit)
		}
	}
}

// What a run has recorded may have as many bytes as its workflow says; the next step of a run that is
// past that does not begin.
func TestMaxBytes(t *testing.T) {
	t.Parallel()
	const limit = 4 << 10
	var done atomic.Int64
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		_, err := weir.Step(r, "cook", func(context.Context) (string, error) { return strings.Repeat("x", in.N), nil })
		if err != nil {
			return plate{}, err
		}
		return plate{N: 1}, weir.Do(r, "serve", func(context.Context) error { done.Add(1); return nil })
	}, weir.Runs{MaxBytes: limit})
	start := func(id string, n int) weir.RunRef[plate] {
		ref, err := weir.Start(t.Context(), e, dine, id, ticket{Table: "7", N: n})
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	completed(t, start("small", 1000), 1)
	s := storyOf(t, e, "small")
	size := len(s.Input)
	for _, r := range s.Records[:1] {
		size += len(r.Name) + len(r.Headers) + len(r.Value) + len(r.Reason)
	}
	fits := 1000 + limit - size // as many digits
	completed(t, start("at the limit", fits), 1)
	done.Store(0)
	start("7", fits+1)
	s = inState(t, e, "7", weir.RunNeedsPerson)
	for _, want := range []string{fmt.Sprint(limit + 1), fmt.Sprint(limit), "Runs.MaxBytes", "weir run retry"} {
		if !strings.Contains(s.Reason, want) {
			t.Errorf("parked because of %q, want %q in it", s.Reason, want)
		}
	}
	if done.Load() != 0 {
		t.Error("the next step was begun")
	}
}

// Bytes are those of the story as it is: what is recorded again replaces what it was, also in the next process.
func TestMaxBytesCountsWhatIsKept(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	var tries atomic.Int64
	work := func(r *weir.Run, in ticket) (plate, error) {
		_, err := weir.StepTx(r, "cook", func(context.Context, weir.Tx) (string, error) { return strings.Repeat("x", 900), nil })
		if err != nil {
			return plate{}, err
		}
		err = weir.Do(r, "serve", func(context.Context) error {
			if tries.Add(1)%3 != 0 {
				return errors.New(strings.Repeat("no ", 300))
			}
			return nil
		}, quick)
		if err != nil {
			return plate{}, err
		}
		weir.Sleep(r, "wait", 1)
		p, err := weir.WaitFor(r, "approval", approved)
		if err != nil {
			return plate{}, err
		}
		return p, weir.Do(r, "clear", func(context.Context) error { return nil })
	}
	e, stop := dining(t, file, work, weir.Runs{MaxBytes: 1500})
	startRun(t, e, "7")
	inState(t, e, "7", weir.RunWaiting)
	stop()
	e, _ = dining(t, file, work, weir.Runs{MaxBytes: 1500})
	tell(t, e, "7", 5)
	completed(t, weir.Find(e, dine, "7"), 5)
	size := 0
	s := storyOf(t, e, "7")
	for _, r := range s.Records {
		size += len(r.Name) + len(r.Headers) + len(r.Value) + len(r.Reason)
	}
	if size < 900 || size > 1400 {
		t.Errorf("its records have %d bytes, want those of the result and little more", size)
	}
}

// The bounds of the bounds.
func TestRunsBounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		set  weir.Runs
		want string
	}{
		{weir.Runs{MaxSteps: 1, MaxBytes: 1 << 10}, ""},
		{weir.Runs{MaxSteps: 1_000_000, MaxBytes: 1 << 30}, ""},
		{weir.Runs{MaxSteps: -1}, "Runs.MaxSteps is -1, want 1 to 1000000"},
		{weir.Runs{MaxSteps: 1_000_001}, "Runs.MaxSteps is 1000001, want 1 to 1000000"},
		{weir.Runs{MaxBytes: 1<<10 - 1}, "Runs.MaxBytes is 1023, want 1024 to 1073741824"},
		{weir.Runs{MaxBytes: 1<<30 + 1}, "Runs.MaxBytes is 1073741825, want 1024 to 1073741824"},
	} {
		e := openEngine(t, newFile(t), weir.Config{})
		weir.Register(e, dine, gives, c.set)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := e.Run(ctx)
		if got := fmt.Sprint(err); c.want != "" && !strings.Contains(got, c.want) || c.want == "" && strings.Contains(got, "Runs.") {
			t.Errorf("with %+v Run = %v, want %q", c.set, err, c.want)
		}
	}
}
