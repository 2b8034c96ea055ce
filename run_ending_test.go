package weir_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// purse is what the workflow of these tests does, in several programs.
type purse struct {
	did  list
	pack func(context.Context) error // a step after the charge
	undo func(context.Context) error // a compensation after the refund
}

// charges charges and waits. A program that checks has gained a step before that; one that forgets has lost a compensation.
func (p *purse) charges(checks, forgets bool) func(*weir.Run, ticket) (plate, error) {
	pay := func(r *weir.Run) error {
		if checks {
			if err := weir.Do(r, "check", p.did.does("check")); err != nil {
				return err
			}
		}
		if !forgets {
			weir.Compensate(r, "refund", p.did.does("refund"))
		}
		return weir.Do(r, "charge", p.did.does("charge"))
	}
	return func(r *weir.Run, in ticket) (plate, error) {
		weir.Compensate(r, "close", p.did.does("close"))
		err := pay(r)
		if in.Table == "branches" {
			err = errors.Join(err, weir.All(r, "parts", weir.Branch{Name: "pay", Do: pay}))
		}
		if p.undo != nil {
			weir.Compensate(r, "undo", p.undo)
		}
		if p.pack != nil {
			err = errors.Join(err, weir.Do(r, "pack", p.pack, quick))
		}
		if err == nil {
			_, err = weir.WaitFor(r, "approval", approved)
		}
		return plate{}, err
	}
}

func broken(context.Context) error  { return errBusy }
func refused(context.Context) error { return weir.Permanent(errDeclined) }

// A run that is to end, however, and whose code does not come to all that it has done is not compensated by half: a person
// deploys code that does, or gives the rest up, which its history says.
func TestEndingIsNotCutShort(t *testing.T) {
	t.Parallel()
	cancel := func(e *weir.Engine) error { return weir.Find(e, dine, "7").Cancel(context.Background(), "closed") }
	abandon := func(e *weir.Engine) error { return e.AbandonRun(context.Background(), of("7"), known) }
	retry := func(e *weir.Engine) error { return e.RetryRun(context.Background(), of("7"), known) }
	for what, c := range map[string]struct {
		purse   *purse
		before  weir.RunState // in which the first program leaves it
		checks  bool          // the second program
		forgets bool
		end     func(*weir.Engine) error
		outcome string
		names   string // what a person is told
	}{
		"cancelled": {&purse{}, weir.RunWaiting, true, false, cancel, "cancelled", "compensation refund, step charge"},
		"abandoned": {&purse{pack: broken}, weir.RunNeedsPerson, true, false, abandon, "failed", "compensation refund, step charge, step pack"},
		"too late":  {&purse{}, weir.RunWaiting, true, false, nil, "cancelled", "compensation refund, step charge"},
		"failed":    {&purse{pack: refused, undo: refused}, weir.RunNeedsPerson, true, false, retry, "failed", "compensation refund, compensation undo, step charge, step pack"},
		"lost":      {&purse{}, weir.RunWaiting, false, true, cancel, "cancelled", "compensation refund"},
		"lost, failed": {&purse{pack: broken}, weir.RunNeedsPerson, false, true, func(e *weir.Engine) error {
			return e.SettleRun(context.Background(), of("7"), weir.Settled{Failed: true}, known)
		}, "failed", "compensation refund"},
	} {
		for _, deploys := range []bool{true, false} {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					file, p := newFile(t), c.purse
					p = &purse{pack: p.pack, undo: p.undo}
					e, stop := dining(t, file, p.charges(false, false))
					if _, err := weir.Start(t.Context(), e, dine, "7", ticket{}, weir.Deadline(20*time.Second)); err != nil {
						t.Fatal(err)
					}
					inState(t, e, "7", c.before)
					stop()
					e, stop = dining(t, file, p.charges(c.checks, c.forgets))
					if c.end == nil {
						time.Sleep(20 * time.Second)
					} else {
						decided(t, c.end(e))
					}
					time.Sleep(3 * time.Second)
					s := inState(t, e, "7", weir.RunNeedsPerson)
					if !strings.Contains(s.Reason, "deploy code that does, then retry; or abandon") || !strings.HasSuffix(s.Reason, ": "+c.names) {
						t.Errorf("parked because of %q, want what to do, and %q", s.Reason, c.names)
					}
					if got := p.did.get(); !slices.Equal(got, []string{"charge"}) {
						t.Errorf("done: %q, want the charge alone", got)
					}
					decided(t, retry(e))
					time.Sleep(3 * time.Second)
					inState(t, e, "7", weir.RunNeedsPerson) // the same code comes no further
					want := []string{"charge", "close"}
					if deploys {
						stop()
						want = []string{"charge", "refund", "close"}
						if p.undo != nil {
							p.undo = p.did.does("undo")
							want = []string{"charge", "undo", "refund", "close"}
						}
						e, _ = dining(t, file, p.charges(false, false))
						decided(t, retry(e))
					} else {
						decided(t, abandon(e))
					}
					ended(t, weir.Find(e, dine, "7"), c.outcome)
					if got := p.did.get(); !slices.Equal(got, want) {
						t.Errorf("done: %q, want %q", got, want)
					}
					note := recordOf(t, storyOf(t, e, "7"), ":unreached").Reason
					if !deploys && (!strings.Contains(note, "abandoned by ann") || !strings.HasSuffix(note, c.names)) {
						t.Errorf("its history says %q, want who has left what", note)
					}
				})
			})
		}
	}
}

// What the code has lost is shown also while nothing is to end.
func TestLostCompensationOfBranch(t *testing.T) {
	t.Parallel()
	file, p := newFile(t), &purse{}
	start := func(e *weir.Engine) {
		if _, err := weir.Start(t.Context(), e, dine, "7", ticket{Table: "branches"}); err != nil {
			t.Fatal(err)
		}
	}
	e, stop := dining(t, file, p.charges(false, false))
	start(e)
	inState(t, e, "7", weir.RunWaiting)
	stop()
	e, _ = dining(t, file, p.charges(false, true))
	decided(t, weir.Find(e, dine, "7").Cancel(t.Context(), "closed"))
	if s := inState(t, e, "7", weir.RunNeedsPerson); !strings.HasSuffix(s.Reason, ": compensation refund, compensation parts/pay/refund") {
		t.Errorf("parked because of %q, want both refunds named", s.Reason)
	}
}

// A run whose code is the same is cancelled without a person, whatever it consists of and waits for.
func TestEndingAfterRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		var did list
		ready := func(r *weir.Run, in ticket) (plate, error) {
			weir.Compensate(r, "open", did.does("close"))
			part := func(name string, wait func(*weir.Run) error) weir.Branch {
				return weir.Branch{Name: name, Do: func(r *weir.Run) error {
					weir.Compensate(r, "undo", did.does("undo "+name))
					err := weir.Do(r, "do", did.does("do"))
					return errors.Join(err, wait(r))
				}}
			}
			return plate{}, weir.All(r, "parts",
				part("asks", func(r *weir.Run) error { _, err := weir.Ask(r, "cook", cook, ticket{}); return err }),
				part("locked", func(r *weir.Run) error {
					err := weir.Locked(r, "hob", func(r *weir.Run, _ int64) error { return weir.Do(r, "cook", did.does("do")) })
					weir.Sleep(r, "rest", time.Hour)
					return err
				}),
				part("calls", func(r *weir.Run) error { _, err := weir.Call(r, "wash", wash, in); return err }),
				part("late", func(r *weir.Run) error {
					_, err := weir.WaitFor(r, "approval", approved, weir.Within(2*time.Second))
					if !errors.Is(err, weir.ErrWithin) {
						return err
					}
					_, _ = weir.Call(r, "wash", wash, in, weir.Within(2*time.Second))
					return weir.Do(r, "and then", did.does("do"))
				}),
				part("tries", func(r *weir.Run) error {
					weir.Try(r, "try", broken, quick)
					return weir.Do(r, "again", broken, weir.Retry{Max: 900, Base: time.Hour, Cap: time.Hour})
				}),
			)
		}
		serve := func() (*weir.Engine, func()) {
			e := openEngine(t, file, weir.Config{})
			weir.Register(e, wash, func(r *weir.Run, in ticket) (plate, error) {
				weir.Compensate(r, "dry", did.does("dry"))
				weir.Sleep(r, "soak", time.Hour)
				return plate{}, nil
			})
			weir.Register(e, dine, ready)
			return e, works(t, e)
		}
		e, stop := serve()
		ref := startRun(t, e, "7")
		time.Sleep(7 * time.Second)
		stop()
		e, _ = serve()
		ref = weir.Find(e, dine, ref.ID)
		decided(t, ref.Cancel(t.Context(), "closed"))
		ended(t, ref, "cancelled")
		got := did.get()
		n := slices.Index(got, "dry")
		if tail := got[max(n, 0):]; n < 0 || tail[len(tail)-1] != "close" || slices.Contains(got[:n], "undo asks") {
			t.Errorf("done: %q, want the child's compensation before the parent's", got)
		}
		for _, r := range storyOf(t, e, "7").Records {
			if r.Kind == store.KindNote && (r.Name == ":drift" || r.Name == ":unreached") {
				t.Errorf("its history says %s %q, want no such note", r.Name, r.Reason)
			}
		}
	})
}

// A run that ends has its children end first, over a restart as well, and compensates only then.
func TestChildEndsBeforeParentCompensates(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		end     func(*weir.Engine) error // nil: its deadline
		outcome string
	}{
		"cancelled": {func(e *weir.Engine) error { return weir.Find(e, dine, "7").Cancel(context.Background(), "closed") }, "cancelled"},
		"too late":  {nil, "cancelled"},
		"abandoned": {func(e *weir.Engine) error { return e.AbandonRun(context.Background(), of("7"), known) }, "failed"},
	} {
		for _, restarts := range []bool{false, true} {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					file := newFile(t)
					var did list
					serve := func() (*weir.Engine, func()) {
						e := openEngine(t, file, weir.Config{})
						weir.Register(e, wash, func(r *weir.Run, in ticket) (plate, error) {
							return weir.Once(r, "charge", func(context.Context) (plate, error) {
								time.Sleep(10 * time.Second)
								did.add("charge")
								return plate{}, errBusy
							}, func(context.Context) (plate, weir.Outcome, error) {
								return plate{}, weir.Unknown, nil
							}, weir.Retry{Max: 1})
						})
						weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
							weir.Compensate(r, "refund", did.does("refund"))
							return plate{}, weir.All(r, "parts",
								weir.Branch{Name: "pay", Do: func(r *weir.Run) error { _, err := weir.Call(r, "wash", wash, in); return err }},
								weir.Branch{Name: "pack", Do: func(r *weir.Run) error {
									return weir.Do(r, "pack", broken, quick)
								}})
						})
						return e, works(t, e)
					}
					e, stop := serve()
					if _, err := weir.Start(t.Context(), e, dine, "7", ticket{}, weir.Deadline(8*time.Second)); err != nil {
						t.Fatal(err)
					}
					time.Sleep(4 * time.Second)
					if c.end != nil {
						decided(t, c.end(e))
					}
					time.Sleep(30 * time.Second)
					child := weir.RunSelection{Workflow: wash.Name(), ID: "7/parts/pay/wash"}
					if s, err := e.RunStory(t.Context(), child.Workflow, child.ID); err != nil || s.State != weir.RunNeedsPerson {
						t.Fatalf("the child is %s, %v, want it to need a person", s.State, err)
					}
					if c.end == nil { // a deadline ends no run that needs a person
						decided(t, e.RetryRun(t.Context(), of("7"), known))
						time.Sleep(time.Second)
					}
					if restarts {
						stop()
						e, _ = serve()
					}
					time.Sleep(10 * time.Second)
					if got := did.get(); !slices.Equal(got, []string{"charge"}) {
						t.Errorf("done: %q, want no refund while the child has not ended", got)
					}
					why := strings.Join(weir.WhyNotRunning(storyOf(t, e, "7"), weir.Surroundings{Now: time.Now()}), "\n")
					if !strings.Contains(why, "waits for its child run") || !strings.Contains(why, "weir run why staff.wash/7/parts/pay/wash") {
						t.Errorf("why it does not run: %s, want its child", why)
					}
					decided(t, e.SettleRun(t.Context(), child, weir.Settled{Value: []byte("{}")}, known))
					ended(t, weir.Find(e, wash, child.ID), "cancelled")
					ended(t, weir.Find(e, dine, "7"), c.outcome)
					if got := did.get(); !slices.Equal(got, []string{"charge", "refund"}) {
						t.Errorf("done: %q, want the refund at last", got)
					}
				})
			})
		}
	}
}

// A child is told at once that its parent ends, also while a compensation or an outcome of the parent's needs a person.
func TestChildIsToldAtOnce(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{})
	weir.Register(e, wash, func(r *weir.Run, in ticket) (plate, error) { weir.Sleep(r, "soak", time.Hour); return plate{}, nil })
	weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
		return plate{}, weir.All(r, "parts",
			weir.Branch{Name: "pay", Do: func(r *weir.Run) error {
				_, err := weir.Once(r, "charge", func(context.Context) (plate, error) { return plate{}, errLost }, nil)
				return err
			}},
			weir.Branch{Name: "wash", Do: func(r *weir.Run) error { _, err := weir.Call(r, "wash", wash, in); return err }})
	})
	works(t, e)
	ref := startRun(t, e, "7")
	inState(t, e, "7", weir.RunNeedsPerson)
	decided(t, ref.Cancel(t.Context(), "closed"))
	ended(t, weir.Find(e, wash, "7/parts/wash/wash"), "cancelled")
	decided(t, e.SettleRun(t.Context(), of("7", "parts/pay/charge"), weir.Settled{Failed: true}, known))
	ended(t, ref, "cancelled")
}

// A run in which several steps need a person is given up as one in which one does.
func TestAbandonWithSeveralParked(t *testing.T) {
	t.Parallel()
	var did list
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		weir.Compensate(r, "undo", did.does("undo"))
		pay := func(r *weir.Run) error {
			_, err := weir.Once(r, "charge", func(context.Context) (plate, error) { return plate{}, errLost }, nil)
			return err
		}
		return plate{}, weir.All(r, "parts", weir.Branch{Name: "a", Do: pay}, weir.Branch{Name: "b", Do: pay})
	})
	ref := startRun(t, e, "7")
	inState(t, e, "7", weir.RunNeedsPerson)
	decided(t, e.AbandonRun(t.Context(), of("7"), known))
	ended(t, ref, "failed")
	if got := did.get(); !slices.Equal(got, []string{"undo"}) {
		t.Errorf("done: %q, want undo", got)
	}
}
