package weir_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/weirtest"
)

// A compensation has a name of its own kind: one that a step has too changes nothing for the step, and the two
// have records and keys apart.
func TestCompensationNamedAsStep(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	var did list
	work := func(compensate bool) func(*weir.Run, ticket) (plate, error) {
		return func(r *weir.Run, in ticket) (plate, error) {
			told := func(what string) func(context.Context) error {
				return func(ctx context.Context) error {
					key := weir.IdempotencyKey(ctx)
					did.add(what + key[strings.LastIndex(key, "/"):])
					return nil
				}
			}
			if compensate {
				weir.Compensate(r, "charge", told("undo"))
			}
			err := weir.Do(r, "charge", told("do"))
			_, heard := weir.WaitFor(r, "approval", approved)
			return plate{}, errors.Join(err, heard)
		}
	}
	e, stop := dining(t, file, work(false))
	startRun(t, e, "7")
	inState(t, e, "7", weir.RunWaiting)
	stop()
	e, _ = dining(t, file, work(true))
	decided(t, weir.Find(e, dine, "7").Cancel(t.Context(), "closed"))
	ended(t, weir.Find(e, dine, "7"), "cancelled")
	if got, want := did.get(), []string{"do/charge", "undo/charge#compensate"}; !slices.Equal(got, want) {
		t.Errorf("done: %q, want %q", got, want)
	}
	if r := recordOf(t, storyOf(t, e, "7"), "charge#compensate"); r.Kind != store.KindCompensate || r.State != store.StepDone {
		t.Errorf("the compensation's record is %+v, want it done", r)
	}
}

// A compensation is found again whatever its key is made of.
func TestCompensationWithAnyKey(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	var did list
	work := func(r *weir.Run, in ticket) (plate, error) {
		for i, key := range []string{"ü", "a\nb", "<&>", "\xff\xfe", "\xff", "a/b", "[x]#2"} {
			weir.Compensate(r, "undo", did.does(fmt.Sprint("undo ", i)), weir.Key(key))
		}
		_, err := weir.WaitFor(r, "approval", approved)
		return plate{}, err
	}
	e, stop := dining(t, file, work)
	startRun(t, e, "7")
	inState(t, e, "7", weir.RunWaiting)
	stop()
	e, _ = dining(t, file, work)
	decided(t, weir.Find(e, dine, "7").Cancel(t.Context(), "closed"))
	ended(t, weir.Find(e, dine, "7"), "cancelled")
	if got := did.get(); len(got) != 7 || got[0] != "undo 6" {
		t.Errorf("done: %q, want all 7, the last first", got)
	}
}

// A branch that begins again and again, since it waits beside a long step, registers what it has registered already.
func TestCompensationsDoNotPileUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked, undone atomic.Int64
		e := weirtest.New(t, weir.Config{Owns: []string{"staff"}}, func(e *weir.Engine) {
			weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
				err := weir.All(r, "parts",
					weir.Branch{Name: "ship", Do: func(r *weir.Run) error {
						return weir.Do(r, "ship", func(context.Context) error { time.Sleep(4 * time.Minute); return nil }, weir.Timeout(time.Hour))
					}},
					weir.Branch{Name: "stock", Do: func(r *weir.Run) error {
						for i := range 100 {
							weir.Compensate(r, "release", func(context.Context) error { undone.Add(1); return nil }, weir.Key(fmt.Sprint(i)))
						}
						return weir.Until(r, "stock", func(context.Context) (weir.Met, error) {
							return weir.When(asked.Add(1) > 150, "none yet"), nil
						}, weir.Every(time.Second))
					}})
				return plate{}, errors.Join(err, errDeclined)
			})
		})
		ref := startRun(t, e.Engine, "7")
		_, err := ref.Result(t.Context())
		if end, ok := errors.AsType[*weir.RunError](err); !ok || end.Outcome != "failed" {
			t.Errorf("Result = %v, want it to fail", err)
		}
		if asked.Load() != 151 || undone.Load() != 100 {
			t.Errorf("asked %d times, undone %d, want 151 and 100", asked.Load(), undone.Load())
		}
	})
}

// Across branches too the last registered is undone first, however a replay comes to them.
func TestCompensationsOfBranchesInOrder(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	var did list
	const branches = 6
	var turn [branches + 1]chan struct{}
	for i := range turn {
		turn[i] = make(chan struct{})
	}
	close(turn[0])
	work := func(live bool) func(*weir.Run, ticket) (plate, error) {
		return func(r *weir.Run, in ticket) (plate, error) {
			var parts []weir.Branch
			for i := range branches {
				parts = append(parts, weir.Branch{Name: fmt.Sprint((i * 5) % 7), Do: func(r *weir.Run) error {
					if live {
						<-turn[i] // so that they register one by one
					}
					weir.Compensate(r, "undo", did.does(fmt.Sprint("undo ", i)))
					err := weir.Do(r, "do", func(context.Context) error { return nil })
					if live {
						close(turn[i+1])
					}
					return err
				}})
			}
			err := weir.All(r, "parts", parts...)
			weir.Compensate(r, "last", did.does("undo last"))
			_, heard := weir.WaitFor(r, "approval", approved)
			return plate{}, errors.Join(err, heard)
		}
	}
	e, stop := dining(t, file, work(true))
	startRun(t, e, "7")
	inState(t, e, "7", weir.RunWaiting)
	stop()
	e, _ = dining(t, file, work(false))
	decided(t, weir.Find(e, dine, "7").Cancel(t.Context(), "closed"))
	ended(t, weir.Find(e, dine, "7"), "cancelled")
	want := []string{"undo last"}
	for i := range branches {
		want = append(want, fmt.Sprint("undo ", branches-1-i))
	}

	if got := did.get(); !slices.Equal(got, want) {
		t.Errorf("done: %q, want %q", got, want)
	}
}

// What a compensation sends with its context leaves with the record that it is done: once, or not at all.
func TestCompensationSends(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	e := openEngine(t, file, weir.Config{})
	orders := make(chan string, 20)
	weir.Handle(e, prepare, func(_ context.Context, m *weir.Message[ticket]) error { orders <- m.Body.Table; return nil })
	weir.Register(e, wash, func(r *weir.Run, in ticket) (plate, error) { orders <- "wash " + in.Table; return plate{}, nil })
	tries, failures := 0, make(chan error, 1)
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		weir.Compensate(r, "tell", func(ctx context.Context) error {
			err := weir.Send(ctx, r, prepare, ticket{Table: "undo"})
			_, started := weir.Start(ctx, r, wash, "undo "+in.Table, ticket{Table: "undo"})
			if tries++; tries < 3 {
				return errBusy // what was sent is not
			}
			return errors.Join(err, started)
		}, quick)
		weir.Compensate(r, "else", func(ctx context.Context) error {
			failures <- weir.Send(ctx, e, prepare, ticket{Table: "escapes"})
			return nil
		})
		return plate{}, errDeclined
	})
	works(t, e)
	ended(t, startRun(t, e, "7"), "failed")
	got := []string{receive(t, orders), receive(t, orders)}
	slices.Sort(got)
	if want := []string{"undo", "wash undo"}; !slices.Equal(got, want) || len(orders) != 0 {
		t.Errorf("came: %q and %d more, want %q", got, len(orders), want)
	}
	if err := receive(t, failures); !errors.Is(err, weir.ErrInHandler) {
		t.Errorf("Send through the engine = %v, want ErrInHandler", err)
	}
	if r := recordOf(t, storyOf(t, e, "7"), "tell"); r.State != store.StepDone || r.Attempt != 3 {
		t.Errorf("the compensation is %s after %d attempts, want done after 3", r.State, r.Attempt)
	}
}

// A full queue makes a compensation wait; that uses up no attempt.
func TestCompensationWaitsForRoom(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{})
	room := make(chan struct{})
	var came atomic.Int64
	weir.Handle(e, prepare, func(context.Context, *weir.Message[ticket]) error { came.Add(1); <-room; return nil }, weir.Queue{Concurrency: 1, Capacity: 1})
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		weir.Compensate(r, "tell", func(ctx context.Context) error { return weir.Send(ctx, r, prepare, ticket{Table: "undo"}) }, weir.Retry{Max: 1})
		return plate{}, errDeclined
	})
	works(t, e)
	if err := weir.Send(t.Context(), e, prepare, ticket{}); err != nil {
		t.Fatal(err)
	}
	ref := startRun(t, e, "7")
	eventually(t, "the compensation waits", func() bool {
		s := storyOf(t, e, "7")
		return slices.Contains(names(s), "tell") && strings.Contains(recordOf(t, s, "tell").Reason, "full")
	})
	close(room)
	ended(t, ref, "failed")
	eventually(t, "both have come", func() bool { return came.Load() == 2 })
}
