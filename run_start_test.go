package weir_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/weirtest"
)

// gives is a workflow that gives what it got.
func gives(_ *weir.Run, in ticket) (plate, error) { return plate(in), nil }

// A start in a caller's transaction is one with it: committed, or never.
func TestStartInTransaction(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	db := openTable(t, file, effects)
	e, _ := dining(t, file, gives)
	for id, commit := range map[string]bool{"yes": true, "no": false} {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := weir.Start(t.Context(), e.In(sqlite.Tx(tx)), dine, id, ticket{N: 3})
		if err != nil {
			t.Fatalf("Start(%s) = %v", id, err)
		}
		if !commit {
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
			if _, err := result(t, ref); !errors.Is(err, weir.ErrNotFound) {
				t.Errorf("Result of a start rolled back = %v, want ErrNotFound", err)
			}
			continue
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		completed(t, ref, 3)
	}
	if _, err := weir.Start(t.Context(), e.In(nil), dine, "x", ticket{}); err == nil {
		t.Error("Start in no transaction = nil, want an error")
	}
}

// A start by a handler leaves with its acknowledgement, or not at all; through the engine it is refused.
func TestStartFromHandler(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{})
	var refused atomic.Value
	var early atomic.Bool
	weir.Handle(e, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
		id := fmt.Sprint(m.Body.N, "-", m.Attempt)
		if _, err := weir.Start(ctx, m, dine, id, m.Body); err != nil {
			return err
		}
		_, err := weir.Start(ctx, e, dine, "escapes", m.Body)
		refused.Store(err)
		if _, err := e.RunStory(context.Background(), dine.Name(), id); err == nil {
			early.Store(true)
		}
		if m.Attempt == 1 {
			return errBusy // with all that it has started
		}
		return nil
	}, weir.Queue{Retry: quick})
	weir.Register(e, dine, gives)
	works(t, e)
	send(t, e, clean, ticket{N: 5})
	emptied(t, e, clean.Name())
	completed(t, weir.Find(e, dine, "5-2"), 5)
	for _, id := range []string{"5-1", "escapes"} {
		if _, err := e.RunStory(t.Context(), dine.Name(), id); !errors.Is(err, weir.ErrNotFound) {
			t.Errorf("the story of %s = %v, want ErrNotFound", id, err)
		}
	}
	if err, _ := refused.Load().(error); !errors.Is(err, weir.ErrInHandler) {
		t.Errorf("Start through the engine in a handler = %v, want ErrInHandler", err)
	}
	if early.Load() {
		t.Error("the run exists before its handler is acknowledged")
	}
	if s := storyOf(t, e, "5-2"); s.Cause == "" || s.Correlation == "" {
		t.Errorf("cause = %q, correlation = %q, want the message's", s.Cause, s.Correlation)
	}
}

// A run is started before any engine runs, by another process, and is worked when one does.
func TestStartBeforeRun(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	sender := openEngine(t, file, weir.Config{})
	ref := startRun(t, sender, "7")
	e, stop := dining(t, file, gives)
	completed(t, ref, 0)
	completed(t, startRun(t, sender, "8"), 0) // while another process works the file
	completed(t, weir.Find(e, dine, "8"), 0)
	stop()
	ref = startRun(t, e, "9") // after it
	if s := storyOf(t, e, "9"); s.State != weir.RunReady {
		t.Errorf("a run started after the stop is %s, want ready", s.State)
	}
	dining(t, file, gives)
	completed(t, ref, 0)
}

// The same start from many callers at once is one run.
func TestStartIsIdempotent(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		return plate{N: 1}, weir.Do(r, "cook", func(context.Context) error { calls.Add(1); return nil })
	})
	var work sync.WaitGroup
	for range 50 {
		work.Go(func() { completed(t, startRun(t, e, "7"), 1) })
	}
	work.Wait()
	if n := calls.Load(); n != 1 {
		t.Errorf("50 starts of one run cooked %d times, want once", n)
	}
	_, err := weir.Start(t.Context(), e, dine, "7", ticket{N: 8})
	if c, ok := errors.AsType[*weir.RunConflictError](err); !ok || c.ID != "7" {
		t.Errorf("Start with another input = %v, want a RunConflictError", err)
	}
	// Another version of the contract may say the same in other words.
	next := weir.NewWorkflow[plate, plate](dine.Name(), weir.Upcast(1, func(in ticket) (plate, error) { return plate(in), nil }))
	if _, err := weir.Start(t.Context(), e, next, "7", plate{N: 8}); err != nil {
		t.Errorf("Start of another version = %v, want the run that is there", err)
	}
}

// A run can begin later: after a delay, or at a time.
func TestStartLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var begun time.Time
		e := weirtest.New(t, weir.Config{Owns: []string{"staff"}}, func(e *weir.Engine) {
			weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
				begun = time.Now()
				return plate{N: 1}, nil
			})
		})
		started := time.Now()
		for id, o := range map[string]weir.StartOption{"delay": weir.Delay(3 * time.Hour), "at": weir.At(started.Add(30 * time.Hour))} {
			from := time.Now()
			ref, err := weir.Start(t.Context(), e, dine, id, ticket{}, o)
			if err != nil {
				t.Fatal(err)
			}
			completedLate(t, ref, 1)
			want := from.Add(3 * time.Hour)
			if id == "at" {
				want = started.Add(30 * time.Hour)
			}
			if begun.Before(want) || begun.After(want.Add(time.Second)) {
				t.Errorf("%s: begun at %s, want %s", id, begun, want)
			}
		}
	})
}

// What cannot be started is refused, with the reason and the bound.
func TestStartRefused(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{MaxBody: 1000})
	stranger := weir.NewWorkflow[ticket, plate]("bar.mix")
	for what, c := range map[string]struct {
		w    weir.Workflow[ticket, plate]
		id   string
		in   ticket
		o    []weir.StartOption
		want string
	}{
		"no ID":          {w: dine, want: "1 to 512"},
		"a long ID":      {w: dine, id: strings.Repeat("x", 513), want: "1 to 512"},
		"a stranger":     {w: stranger, id: "7", want: "nobody knows boundary"},
		"a bad name":     {w: weir.NewWorkflow[ticket, plate]("Dine"), id: "7", want: "Dine"},
		"a large input":  {w: dine, id: "7", in: ticket{Table: strings.Repeat("x", 1000)}, want: "at most 1000"},
		"large headers":  {w: dine, id: "7", o: []weir.StartOption{weir.Headers{"a": strings.Repeat("x", 9000)}}, want: "headers"},
		"a bad deadline": {w: dine, id: "7", o: []weir.StartOption{weir.Deadline(-time.Second)}, want: "Deadline"},
		"a bad delay":    {w: dine, id: "7", o: []weir.StartOption{weir.Delay(-time.Second)}, want: "Delay"},
	} {
		if _, err := weir.Start(t.Context(), e, c.w, c.id, c.in, c.o...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Start with %s = %v, want an error with %q", what, err, c.want)
		}
	}
}

// What is wrong with a registration Run tells, all at once.
func TestRegisterFaults(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{})
	weir.Register(e, dine, gives, weir.Runs{Concurrency: -1, Deadline: -1}, weir.Timeout(25*time.Hour), weir.Retry{Max: -1})
	weir.Register(e, weir.NewWorkflow[ticket, plate]("bar.mix"), gives)
	weir.Register(e, wash, gives)
	weir.Register(e, wash, gives)
	weir.Register[ticket, plate](e, dine, nil)
	err := e.Run(t.Context())
	for _, want := range []string{"Runs.Concurrency", "Runs.Deadline", "Timeout", "Retry.Max", `Config.Owns has no "bar"`, "registered twice", "is nil"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run = %v, want %q in it", err, want)
		}
	}
}

// A result can be waited for from another process, and inside no handler or step.
func TestResult(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	other := openEngine(t, file, weir.Config{})
	e, _ := dining(t, file, func(r *weir.Run, in ticket) (plate, error) {
		p, err := weir.WaitFor(r, "approval", approved)
		if err != nil {
			return p, err
		}
		return p, weir.Do(r, "look", func(ctx context.Context) error {
			if _, err := weir.Find(other, dine, "x").Result(ctx); err == nil || !strings.Contains(err.Error(), "inside a handler or step") {
				return weir.Permanent(fmt.Errorf("Result in a step = %w", err))
			}
			return nil
		})
	})
	startRun(t, e, "7")
	results := make(chan plate, 2)
	for _, from := range []*weir.Engine{e, other} {
		go func() {
			p, _ := weir.Find(from, dine, "7").Result(context.Background())
			results <- p
		}()
	}
	tell(t, other, "7", 6)
	for range 2 {
		if p := receive(t, results); p.N != 6 {
			t.Errorf("Result = %+v, want 6", p)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := weir.Find(e, dine, "8").Result(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, weir.ErrNotFound) {
		t.Errorf("Result of nothing = %v", err)
	}
}

// A run is cancelled at its deadline, which counts from its beginning; waiting, running or started for later.
func TestDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := weirtest.New(t, weir.Config{Owns: []string{"staff"}}, func(e *weir.Engine) {
			weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
				switch in.Table {
				case "waits":
					_, err := weir.WaitFor(r, "never", approved)
					return plate{}, err
				case "works":
					return plate{}, weir.Do(r, "work", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, weir.Timeout(24*time.Hour))
				}
				weir.Sleep(r, "short", 30*time.Minute)
				return plate{N: 1}, nil
			}, weir.Runs{Deadline: time.Hour})
		})
		for id, o := range map[string][]weir.StartOption{"waits": nil, "works": {weir.Deadline(2 * time.Hour)}, "later": {weir.Delay(48 * time.Hour)}} {
			started := time.Now()
			ref, err := weir.Start(t.Context(), e, dine, id, ticket{Table: id}, o...)
			if err != nil {
				t.Fatal(err)
			}
			_, err = ref.Result(t.Context())
			took := time.Since(started)
			want := map[string]time.Duration{"waits": time.Hour, "works": 2 * time.Hour, "later": 48*time.Hour + 30*time.Minute}[id]
			if took < want || took > want+time.Minute {
				t.Errorf("%s ended after %s, want %s", id, took, want)
			}
			if failed, ok := errors.AsType[*weir.RunError](err); ok != (id != "later") || ok && (failed.Outcome != "cancelled" || !strings.Contains(failed.Reason, "deadline")) {
				t.Errorf("%s ended with %v", id, err)
			}
		}
		if _, err := weir.Start(t.Context(), e, dine, "x", ticket{}, weir.Deadline(0)); err == nil {
			t.Error("Deadline(0) is accepted")
		}
	})
}
