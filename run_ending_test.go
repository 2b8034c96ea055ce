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
