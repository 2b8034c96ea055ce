package weir_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// The workflow of most tests.
var (
	dine     = weir.NewWorkflow[ticket, plate]("staff.dine")
	approved = weir.NewSignal[plate]("staff.approved")
)

// startRun starts a run of dine and gives it.
func startRun(t testing.TB, e *weir.Engine, id string) weir.RunRef[plate] {
	t.Helper()
	r, err := weir.Start(t.Context(), e, dine, id, ticket{Table: id})
	if err != nil {
		t.Fatalf("Start(%s) = %v", id, err)
	}
	return r
}

// result is what a run results in, which must come.
func result(t testing.TB, r weir.RunRef[plate]) (plate, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return r.Result(ctx)
}

// dining opens an engine on a file, has f do dine there, and runs it until t ends or
// until stop is called.
func dining(t testing.TB, file string, f func(*weir.Run, ticket) (plate, error), o ...weir.WorkflowOption) (e *weir.Engine, stop func()) {
	t.Helper()
	e = openEngine(t, file, weir.Config{})
	weir.Register(e, dine, f, o...)
	return e, works(t, e)
}

// crashing is dining until crash is called: then the process is gone, and has handed nothing back.
func crashing(t testing.TB, file string, f func(*weir.Run, ticket) (plate, error), o ...weir.WorkflowOption) (e *weir.Engine, crash func()) {
	t.Helper()
	e = openStore(t, abandon(file), weir.Config{Log: slog.New(slog.DiscardHandler)})
	weir.Register(e, dine, f, o...)
	stop := works(t, e)
	return e, func() {
		t.Helper()
		stop()
		if err := e.Close(); err != nil {
			t.Fatalf("Close = %v", err)
		}
	}
}

// works runs e and waits until it does.
func works(t testing.TB, e *weir.Engine) (stop func()) {
	t.Helper()
	stop = run(t, e)
	select {
	case <-e.Ready():
	case <-time.After(patience):
		t.Fatal("the engine does not run")
	}
	return stop
}

// storyOf is the story of a run of dine.
func storyOf(t testing.TB, e *weir.Engine, id string) weir.RunStory {
	t.Helper()
	s, err := e.RunStory(context.Background(), dine.Name(), id)
	if err != nil {
		t.Fatalf("RunStory(%s) = %v", id, err)
	}
	return s
}

// inState waits until a run of dine is in a state, and gives its story.
func inState(t testing.TB, e *weir.Engine, id string, want weir.RunState) (s weir.RunStory) {
	t.Helper()
	eventually(t, fmt.Sprintf("run %s is %s", id, want), func() bool {
		s = storyOf(t, e, id)
		return s.State == want
	})
	return s
}

// recordOf is a record of a run by its name, which must be there.
func recordOf(t testing.TB, s weir.RunStory, name string) weir.RunRecord {
	t.Helper()
	for _, r := range s.Records {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("run %s has no record %q but %q", s.ID, name, recordNames(s))
	panic("unreachable")
}

// recordNames are the names of a run's records in their order, without notes.
func recordNames(s weir.RunStory) []string {
	var names []string
	for _, r := range s.Records {
		if r.Kind != store.KindNote {
			names = append(names, r.Name)
		}
	}
	return names
}

// of selects a run of dine, or one step of it.
func of(id string, step ...string) weir.RunSelection {
	return weir.RunSelection{Workflow: dine.Name(), ID: id, Step: strings.Join(step, "")}
}

// known is why people act in tests.
var known = weir.Because{By: "ann", Why: "looked it up"}

// tell sends a signal to a run of dine.
func tell(t testing.TB, e *weir.Engine, id string, n int) {
	t.Helper()
	if err := weir.Tell(context.Background(), e, approved, id, plate{Table: id, N: n}); err != nil {
		t.Fatalf("Tell(%s) = %v", id, err)
	}
}

// completed wants a run to complete with a number.
func completed(t testing.TB, r weir.RunRef[plate], want int) {
	t.Helper()
	if got, err := result(t, r); err != nil || got.N != want {
		t.Errorf("run %s results in %+v, %v, want %d", r.ID, got, err, want)
	}
}

// completedLate is completed for runs that take long, in a bubble's time.
func completedLate(t testing.TB, r weir.RunRef[plate], want int) {
	t.Helper()
	if got, err := r.Result(context.Background()); err != nil || got.N != want {
		t.Errorf("run %s results in %+v, %v, want %d", r.ID, got, err, want)
	}
}

// ended wants a run to end as failed or cancelled, and gives the error.
func ended(t testing.TB, r weir.RunRef[plate], want string) *weir.RunError {
	t.Helper()
	_, err := result(t, r)
	e, ok := errors.AsType[*weir.RunError](err)
	if !ok || e.Outcome != want {
		t.Fatalf("run %s ends with %v, want it %s", r.ID, err, want)
	}
	return e
}

func TestRunOfThreeSteps(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	var calls atomic.Int64
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		p := plate{Table: in.Table}
		for _, name := range []string{"one", "two", "three"} {
			n, err := weir.Step(r, name, func(context.Context) (int, error) { return int(calls.Add(1)), nil })
			if err != nil {
				return p, err
			}
			p.N += n
		}
		return p, nil
	})
	run(t, e)
	<-e.Ready()
	got, err := result(t, startRun(t, e, "7"))
	if want := (plate{"7", 6}); err != nil || got != want {
		t.Errorf("Result = %v, %v, want %v", got, err, want)
	}
	again, err := weir.Start(t.Context(), e, dine, "7", ticket{Table: "7"})
	if err != nil {
		t.Fatalf("Start again = %v", err)
	}
	if got, err := result(t, again); err != nil || got.N != 6 || calls.Load() != 3 {
		t.Errorf("Result of a run started twice = %v, %v after %d calls, want 6 after 3", got, err, calls.Load())
	}
	_, err = weir.Start(t.Context(), e, dine, "7", ticket{Table: "8"})
	if _, ok := errors.AsType[*weir.RunConflictError](err); !ok {
		t.Errorf("Start with another input = %v, want a RunConflictError", err)
	}
}

func TestRunWaitsForSignal(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		weir.Sleep(r, "first", 20*time.Millisecond)
		p, err := weir.WaitFor(r, "approval", approved)
		if err != nil {
			return p, err
		}
		q, err := weir.WaitFor(r, "approval", approved)
		return plate{Table: p.Table + q.Table, N: p.N*10 + q.N}, err
	})
	run(t, e)
	<-e.Ready()
	r := startRun(t, e, "7")
	for n := range 2 {
		if err := weir.Tell(t.Context(), e, approved, "7", plate{Table: "x", N: n + 1}); err != nil {
			t.Fatalf("Tell = %v", err)
		}
	}
	if got, err := result(t, r); err != nil || got.N != 12 {
		t.Errorf("Result = %v, %v, want 12", got, err)
	}
}
