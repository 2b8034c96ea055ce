package weir_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-go/weir"
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
