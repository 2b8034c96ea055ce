package weir_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// course is a step of a number; what the steps gave is a plate's number, a digit each.
func course(r *weir.Run, did *list, name string, n int, o ...weir.StepOption) int {
	got, err := weir.Step(r, name, func(ctx context.Context) (int, error) {
		did.add(name + " " + weir.IdempotencyKey(ctx)[strings.LastIndex(weir.IdempotencyKey(ctx), "/")+1:])
		return n, nil
	}, o...)
	if err != nil {
		panic(err)
	}
	return got
}

// A run that has begun with one program goes on with another that has gained, lost,
// renamed and reordered steps. What it has recorded it keeps; drift is shown.
func TestCodeChanges(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		next  func(r *weir.Run, did *list) int
		want  int
		did   []string // beyond soup and fish
		drift string
	}{
		"gained": {func(r *weir.Run, did *list) int {
			return course(r, did, "bread", 5)*100 + course(r, did, "soup", 8)*10 + course(r, did, "fish", 9)
		}, 512, []string{"bread bread"}, ""},
		"lost": {func(r *weir.Run, did *list) int { return course(r, did, "fish", 9) }, 2, nil, "soup"},
		"renamed": {func(r *weir.Run, did *list) int {
			return course(r, did, "broth", 8, weir.Was("stew"), weir.Was("soup"))*10 + course(r, did, "fish", 9)
		}, 12, nil, ""},
		"renamed without saying so": {func(r *weir.Run, did *list) int {
			return course(r, did, "broth", 8)*10 + course(r, did, "fish", 9)
		}, 82, []string{"broth broth"}, "soup"},
		"reordered": {func(r *weir.Run, did *list) int {
			return course(r, did, "fish", 9)*10 + course(r, did, "soup", 8)
		}, 21, nil, ""},
		"lost, gained and reordered": {func(r *weir.Run, did *list) int {
			return course(r, did, "fish", 9)*10 + course(r, did, "cake", 3)
		}, 23, []string{"cake cake"}, "soup"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			file := newFile(t)
			var did list
			serve := func(courses func(*weir.Run, *list) int) func(*weir.Run, ticket) (plate, error) {
				return func(r *weir.Run, in ticket) (plate, error) {
					n := courses(r, &did)
					_, err := weir.WaitFor(r, "approval", approved)
					return plate{N: n}, err
				}
			}
			e, stop := dining(t, file, serve(func(r *weir.Run, did *list) int {
				return course(r, did, "soup", 1)*10 + course(r, did, "fish", 2)
			}))
			startRun(t, e, "7")
			inState(t, e, "7", weir.RunWaiting)
			stop()
			e, _ = dining(t, file, serve(c.next))
			tell(t, e, "7", 0)
			completed(t, weir.Find(e, dine, "7"), c.want)
			if got, want := did.get(), append([]string{"soup soup", "fish fish"}, c.did...); !slices.Equal(got, want) {
				t.Errorf("done: %q, want %q", got, want)
			}
			drift := ""
			for _, r := range storyOf(t, e, "7").Records {
				if r.Kind == store.KindNote && r.Name == ":drift" {
					drift = r.Reason
				}
			}
			if (drift != "") != (c.drift != "") || !strings.HasSuffix(drift, c.drift) {
				t.Errorf("drift = %q, want %q in it", drift, c.drift)
			}
		})
	}
}

// A step that is renamed between two attempts keeps its idempotency key; so does one in a branch.
func TestRenamedStepKeepsItsKey(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	keys := make(chan string, 20)
	work := func(name string, o ...weir.StepOption) func(*weir.Run, ticket) (plate, error) {
		step := func(r *weir.Run) error {
			return weir.Do(r, name, func(ctx context.Context) error {
				keys <- weir.IdempotencyKey(ctx)
				if o == nil {
					return errBusy
				}
				return nil
			}, append(o, weir.Retry{Max: 1})...)
		}
		return func(r *weir.Run, in ticket) (plate, error) {
			return plate{N: 1}, weir.All(r, "a", weir.Branch{Name: "b", Do: step})
		}
	}
	e, stop := dining(t, file, work("a"))
	startRun(t, e, "7")
	inState(t, e, "7", weir.RunNeedsPerson)
	stop()
	e, _ = dining(t, file, work("c", weir.Was("a")))
	decided(t, e.RetryRun(t.Context(), of("7"), known))
	completed(t, weir.Find(e, dine, "7"), 1)
	if first, second := receive(t, keys), receive(t, keys); first != second || !strings.HasSuffix(first, "/a/b/a") {
		t.Errorf("keys = %q and %q, want the same", first, second)
	}
}

// A compensation that is renamed while a person looks at it is not done twice.
func TestRenamedCompensation(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	var did list
	work := func(name string, err error, o ...weir.StepOption) func(*weir.Run, ticket) (plate, error) {
		return func(r *weir.Run, in ticket) (plate, error) {
			weir.Compensate(r, "first", func(context.Context) error { return weir.Permanent(err) })
			weir.Compensate(r, name, did.does("undo"), o...)
			return plate{}, errDeclined
		}
	}
	e, stop := dining(t, file, work("undo", errBusy))
	startRun(t, e, "7")
	inState(t, e, "7", weir.RunNeedsPerson)
	stop()
	e, _ = dining(t, file, work("undo-it", nil, weir.Was("undo")))
	decided(t, e.RetryRun(t.Context(), of("7"), known))
	ended(t, weir.Find(e, dine, "7"), "failed")
	if got := did.get(); len(got) != 1 {
		t.Errorf("done: %q, want undo once", got)
	}
}

// A recorded result that does not fit what the code wants now is caught, with what to
// do; after the mend a retry goes on, or a person gives one that fits.
func TestChangedResultType(t *testing.T) {
	t.Parallel()
	type meal struct{ Table string } // without N
	asked := func(r *weir.Run) error { _, err := weir.WaitFor(r, "approval", approved); return err }
	old := func(r *weir.Run, in ticket) (plate, error) {
		p, err := weir.Step(r, "cook", func(context.Context) (plate, error) { return plate{"x", 4}, nil })
		return p, errors.Join(err, asked(r))
	}
	for what, next := range map[string]func(*weir.Run) error{
		"another type": func(r *weir.Run) error {
			_, err := weir.Step(r, "cook", func(context.Context) (int, error) { return 1, nil })
			return err
		},
		"a field less": func(r *weir.Run) error {
			_, err := weir.Step(r, "cook", func(context.Context) (meal, error) { return meal{}, nil })
			return err
		},
		"another kind": func(r *weir.Run) error {
			weir.Sleep(r, "cook", 1)
			return nil
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			file := newFile(t)
			e, stop := dining(t, file, old)
			startRun(t, e, "7")
			inState(t, e, "7", weir.RunWaiting)
			stop()
			e, stop = dining(t, file, func(r *weir.Run, in ticket) (plate, error) {
				err := next(r)
				return plate{}, errors.Join(err, asked(r))
			})
			tell(t, e, "7", 1)
			s := inState(t, e, "7", weir.RunNeedsPerson)
			if !strings.Contains(s.Reason, "cook") || !strings.Contains(s.Reason, "name") {
				t.Errorf("parked because of %q, want the step, and what to do", s.Reason)
			}
			stop()
			e, _ = dining(t, file, old) // mended
			decided(t, e.RetryRun(t.Context(), of("7"), known))
			completed(t, weir.Find(e, dine, "7"), 4)
		})
	}
	t.Run("settled", func(t *testing.T) {
		t.Parallel()
		file := newFile(t)
		e, stop := dining(t, file, old)
		startRun(t, e, "7")
		inState(t, e, "7", weir.RunWaiting)
		stop()
		e, _ = dining(t, file, func(r *weir.Run, in ticket) (plate, error) {
			n, err := weir.Step(r, "cook", func(context.Context) (int, error) { return 1, nil })
			return plate{N: n}, errors.Join(err, asked(r))
		})
		tell(t, e, "7", 1)
		inState(t, e, "7", weir.RunNeedsPerson)
		decided(t, e.SettleRun(t.Context(), of("7", "cook"), weir.Settled{Value: []byte("6")}, known))
		completed(t, weir.Find(e, dine, "7"), 6)
	})
}

// A step that gave nothing is not guessed to have given zero; one that gave more than is wanted now may.
func TestResultGainedOrLost(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	wait := func(r *weir.Run) error { _, err := weir.WaitFor(r, "approval", approved); return err }
	e, stop := dining(t, file, func(r *weir.Run, in ticket) (plate, error) {
		err := weir.Do(r, "cook", func(context.Context) error { return nil })
		_, failed := weir.Step(r, "serve", func(context.Context) (int, error) { return 3, nil })
		return plate{}, errors.Join(err, failed, wait(r))
	})
	startRun(t, e, "gained")
	startRun(t, e, "lost")
	inState(t, e, "gained", weir.RunWaiting)
	inState(t, e, "lost", weir.RunWaiting)
	stop()
	e, _ = dining(t, file, func(r *weir.Run, in ticket) (plate, error) {
		err := weir.Do(r, "serve", func(context.Context) error { return nil })
		n := 0
		if r.ID() == "gained" {
			n, err = weir.Step(r, "cook", func(context.Context) (int, error) { return 1, nil })
		}
		return plate{N: n + 1}, errors.Join(err, wait(r))
	})
	tell(t, e, "gained", 1)
	tell(t, e, "lost", 1)
	if s := inState(t, e, "gained", weir.RunNeedsPerson); !strings.Contains(s.Reason, "does not fit int") {
		t.Errorf("parked because of %q, want the result that is missing", s.Reason)
	}
	completed(t, weir.Find(e, dine, "lost"), 1)
}

// What a newer program has started, an older one leaves alone; the newer reads what the older was given.
func TestInputVersions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		newer := weir.NewWorkflow[plate, plate](dine.Name(), weir.Upcast(1, func(in ticket) (plate, error) {
			return plate{in.Table, in.N + 100}, nil
		}))
		e, stop := dining(t, file, gives)
		if _, err := weir.Start(t.Context(), e, newer, "new", plate{N: 1}); err != nil {
			t.Fatal(err)
		}
		inState(t, e, "new", weir.RunWaiting)
		stop()
		startRun(t, e, "old")
		next := openEngine(t, file, weir.Config{})
		weir.Register(next, newer, func(r *weir.Run, in plate) (plate, error) { return in, nil })
		works(t, next)
		completed(t, weir.Find(next, dine, "old"), 100)
		// The run that was left is due in a minute: that it waits, and is not parked, is enough here.
		if s := storyOf(t, next, "new"); s.Wake.IsZero() {
			t.Errorf("the newer run is %s, due %s: want it to go on by itself", s.State, fmt.Sprint(s.Wake))
		}
	})
}
