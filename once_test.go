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
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/sqlite"
	"github.com/weir-go/weir/store/storetest"
)

// bank charges cards. It refuses no duplicate, and its answers can get lost.
type bank struct {
	mu      sync.Mutex
	charges []string // idempotency keys
	finds   int
	// charge is what becomes of a charge after it was made, or instead of it; nil: it is answered.
	answer func(n int) error
	lose   bool // it is not made at all
	found  func(n int) (weir.Outcome, error)
}

func (b *bank) charge(ctx context.Context) (plate, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.charges) + 1
	var err error
	if b.answer != nil {
		err = b.answer(n)
	}
	if !b.lose {
		b.charges = append(b.charges, weir.IdempotencyKey(ctx))
	}
	return plate{Table: "charge", N: n}, err
}

func (b *bank) find(ctx context.Context) (plate, weir.Outcome, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finds++
	if b.found != nil {
		found, err := b.found(b.finds)
		return plate{Table: "found", N: 50}, found, err
	}
	for i, key := range b.charges {
		if key == weir.IdempotencyKey(ctx) {
			return plate{Table: "found", N: i + 1}, weir.Happened, nil
		}
	}
	return plate{}, weir.NotHappened, nil
}

// count is how often it was charged and asked.
func (b *bank) count() (charges, finds int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.charges), b.finds
}

// pays is a workflow of one charge.
func (b *bank) pays(o ...weir.StepOption) func(*weir.Run, ticket) (plate, error) {
	return func(r *weir.Run, in ticket) (plate, error) {
		return weir.Once(r, "charge", b.charge, b.find, o...)
	}
}

// paysUnverified is the same with a bank that cannot be asked.
func (b *bank) paysUnverified(o ...weir.StepOption) func(*weir.Run, ticket) (plate, error) {
	return func(r *weir.Run, in ticket) (plate, error) {
		return weir.Once[plate](r, "charge", b.charge, nil, o...)
	}
}

var errLost = errors.New("the answer is lost")

// The intent is durable before the call: another connection sees it during the call.
func TestOnceIntentComesFirst(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	other := openEngine(t, file, weir.Config{})
	var during weir.RunStory
	e, _ := dining(t, file, func(r *weir.Run, in ticket) (plate, error) {
		return weir.Once(r, "charge", func(ctx context.Context) (plate, error) {
			var err error
			during, err = other.RunStory(ctx, dine.Name(), "7")
			return plate{N: 1}, err
		}, nil)
	})
	completed(t, startRun(t, e, "7"), 1)
	if r := recordOf(t, during, "charge"); r.State != store.StepIntent || r.Kind != store.KindOnce || r.Attempt != 1 {
		t.Errorf("during the call its record was %+v, want an intent", r)
	}
	if r := recordOf(t, storyOf(t, e, "7"), "charge"); r.State != store.StepDone {
		t.Errorf("after the call its record is %s, want done", r.State)
	}
}

// An error leaves the outcome unknown: it is asked for, and what happened is not done again.
func TestOnceVerifiedHappened(t *testing.T) {
	t.Parallel()
	for what, err := range map[string]error{"an error": errLost, "a timeout": context.DeadlineExceeded, "a panic": nil} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := &bank{}
			b.answer = func(int) error {
				if err == nil {
					b.charges = append(b.charges, "?") // made, and then
					panic("the line breaks")
				}
				return err
			}
			b.found = func(int) (weir.Outcome, error) { return weir.Happened, nil }
			e, _ := dining(t, newFile(t), b.pays(quick))
			completed(t, startRun(t, e, "7"), 50)
			if charges, finds := b.count(); charges != 1 || finds != 1 {
				t.Errorf("%d charges, %d questions, want 1 and 1", charges, finds)
			}
			s := storyOf(t, e, "7")
			if r := recordOf(t, s, "charge"); r.State != store.StepDone || !strings.Contains(r.Reason, "verified") {
				t.Errorf("the record is %+v, want it done as verified", r)
			}
		})
	}
}

// That it has not happened is believed only after twice the attempt's timeout and 2 s; then it is done again.
func TestOnceVerifiedNotHappened(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bank{lose: true}
		started := time.Now()
		var again time.Duration
		b.answer = func(n int) error {
			if b.finds > 0 {
				b.lose, again = false, time.Since(started)
				return nil
			}
			return errLost
		}
		e, _ := dining(t, newFile(t), b.pays(quick, weir.Timeout(20*time.Second)))
		completed(t, startRun(t, e, "7"), 1)
		if charges, finds := b.count(); charges != 1 || finds < 2 {
			t.Errorf("%d charges, %d questions, want 1 and at least 2: asked again before it is believed", charges, finds)
		}
		if again < 42*time.Second || again > 44*time.Second {
			t.Errorf("charged again after %s, want twice the timeout of 20 s, and 2 s", again)
		}
		if r := recordOf(t, storyOf(t, e, "7"), "charge"); r.Attempt != 2 {
			t.Errorf("the record has %d attempts, want 2", r.Attempt)
		}
	})
}

// A definite failure is one: the function gets it, and nobody is asked.
func TestOnceFails(t *testing.T) {
	t.Parallel()
	b := &bank{lose: true, answer: func(int) error { return fmt.Errorf("bank: %w", errDeclined) }}
	e, _ := dining(t, newFile(t), func(r *weir.Run, in ticket) (plate, error) {
		if _, err := weir.Once(r, "charge", b.charge, b.find, weir.FailIf(errDeclined)); !errors.Is(err, errDeclined) {
			return plate{}, fmt.Errorf("charge = %w, want it declined", err)
		}
		return plate{N: 9}, nil
	})
	completed(t, startRun(t, e, "7"), 9)
	if _, finds := b.count(); finds != 0 {
		t.Errorf("%d questions, want none", finds)
	}
}

// Nobody can tell: after all attempts to find out a person must. What she finds out goes on.
func TestOnceNeedsPerson(t *testing.T) {
	t.Parallel()
	unknown := func(int) (weir.Outcome, error) { return weir.Unknown, nil }
	fails := func(int) (weir.Outcome, error) { return weir.Happened, errBusy } // an error makes it unknown
	for what, c := range map[string]struct {
		found  func(int) (weir.Outcome, error)
		noHook bool
		decide func(*testing.T, *weir.Engine, *bank)
		want   string // how the run ends
		n      int
		made   int // charges
	}{
		"settled as done": {found: unknown, want: "completed", n: 77, made: 1, decide: func(t *testing.T, e *weir.Engine, _ *bank) {
			decided(t, e.SettleRun(t.Context(), of("7", "charge"), weir.Settled{Value: []byte(`{"N":77}`)}, known))
		}},
		"settled as failed": {found: fails, want: "failed", made: 1, decide: func(t *testing.T, e *weir.Engine, _ *bank) {
			decided(t, e.SettleRun(t.Context(), of("7"), weir.Settled{Failed: true}, known))
		}},
		"retried": {found: unknown, want: "completed", n: 50, made: 1, decide: func(t *testing.T, e *weir.Engine, b *bank) {
			b.mu.Lock()
			b.found = func(int) (weir.Outcome, error) { return weir.Happened, nil }
			b.mu.Unlock()
			decided(t, e.RetryRun(t.Context(), of("7"), known))
		}},
		"skipped": {found: unknown, want: "completed", n: 0, made: 1, decide: func(t *testing.T, e *weir.Engine, _ *bank) {
			decided(t, e.SkipRun(t.Context(), of("7"), known))
		}},
		"abandoned": {found: unknown, want: "failed", made: 1, decide: func(t *testing.T, e *weir.Engine, _ *bank) {
			decided(t, e.AbandonRun(t.Context(), of("7"), known))
		}},
		"retried without a hook": {noHook: true, want: "completed", n: 2, made: 2, decide: func(t *testing.T, e *weir.Engine, b *bank) {
			decided(t, e.RetryRun(t.Context(), of("7"), known)) // she knows that it has not happened
		}},
		"abandoned without a hook": {noHook: true, want: "failed", made: 1, decide: func(t *testing.T, e *weir.Engine, b *bank) {
			decided(t, e.AbandonRun(t.Context(), of("7"), known))
		}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := &bank{found: c.found}
			b.answer = func(n int) error {
				if n == 1 {
					return errLost
				}
				return nil
			}
			work := b.pays(quick)
			if c.noHook {
				work = b.paysUnverified(quick)
			}
			e, _ := dining(t, newFile(t), work)
			ref := startRun(t, e, "7")
			s := inState(t, e, "7", weir.RunNeedsPerson)
			if r := recordOf(t, s, "charge"); r.State != store.StepParked || !strings.Contains(s.Reason, "charge") {
				t.Errorf("parked as %+v because of %q, want the charge", r, s.Reason)
			}
			if _, finds := b.count(); !c.noHook && finds != quick.Max {
				t.Errorf("asked %d times before a person is, want %d", finds, quick.Max)
			}
			c.decide(t, e, b)
			if c.want == "completed" {
				completed(t, ref, c.n)
			} else if err := ended(t, ref, c.want); !strings.Contains(err.Reason, known.Why) {
				t.Errorf("it ends because of %q, want the person's reason in it", err.Reason)
			}
			if charges, _ := b.count(); charges != c.made {
				t.Errorf("%d charges, want %d", charges, c.made)
			}
		})
	}
}

// decided wants a person's decision to be taken.
func decided(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("the decision is refused: %v", err)
	}
}

// A process that ends during the call leaves an intent, and the next one asks first.
// Verified or not, what happened is not done again.
func TestOnceAfterCrash(t *testing.T) {
	t.Parallel()
	for what, made := range map[string]bool{"made": true, "not made": false} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				file := newFile(t)
				b := &bank{}
				calling := make(chan struct{})
				first, crash := crashing(t, file, func(r *weir.Run, in ticket) (plate, error) {
					return weir.Once(r, "charge", func(ctx context.Context) (plate, error) {
						if made {
							_, _ = b.charge(ctx)
						}
						close(calling)
						<-ctx.Done() // by the timeout, or the stop
						return plate{}, ctx.Err()
					}, func(ctx context.Context) (plate, weir.Outcome, error) {
						<-ctx.Done() // until the crash
						return plate{}, weir.Unknown, ctx.Err()
					}, weir.Timeout(10*time.Millisecond), weir.Retry{Max: 1000, Base: time.Millisecond})
				})
				startRun(t, first, "7")
				<-calling
				crash()
				e, _ := dining(t, file, b.pays(weir.Timeout(10*time.Millisecond), quick))
				if got, err := result(t, weir.Find(e, dine, "7")); err != nil || made != (got.Table == "found") {
					t.Errorf("results in %+v, %v, want what was found: %t", got, err, made)
				}
				if charges, finds := b.count(); charges != 1 || finds == 0 {
					t.Errorf("%d charges, %d questions, want 1 charge, and to have asked", charges, finds)
				}
			})
		})
	}
}

// Out of attempts it is known not to have happened, so a cancellation need not wait for a person.
func TestOnceOutOfAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bank{lose: true, answer: func(int) error { return errLost }}
		e, _ := dining(t, newFile(t), b.pays(weir.Timeout(time.Millisecond), weir.Retry{Max: 2, Base: time.Millisecond}))
		for _, id := range []string{"7", "8"} {
			ref := startRun(t, e, id)
			s := inState(t, e, id, weir.RunNeedsPerson)
			if r := recordOf(t, s, "charge"); r.Attempt != 2 || !strings.Contains(r.Reason, "not happened") {
				t.Errorf("parked as %+v, want it after two attempts, not happened", r)
			}
			if id == "7" {
				decided(t, ref.Cancel(t.Context(), "closed"))
				ended(t, ref, "cancelled")
				continue
			}
			b.mu.Lock()
			b.lose, b.answer = false, nil
			b.mu.Unlock()
			decided(t, e.RetryRun(t.Context(), of(id), known))
			completed(t, ref, 1)
		}
	})
}

// A process that was stopped between the intent and the call makes no call when it goes on:
// others may have found by then that there was none, and made it.
func TestOnceIntentTooOld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var stopped atomic.Bool
		faults := storetest.Faults{After: func(c storetest.Call) error {
			if c.Method == storetest.Commit && stopped.CompareAndSwap(true, false) {
				time.Sleep(time.Minute)
			}
			return nil
		}}
		e := openStore(t, faults.Opener(sqlite.File(newFile(t))), weir.Config{})
		b, asked := &bank{}, -1
		b.answer = func(int) error {
			asked = b.finds
			return nil
		}
		weir.Register(e, dine, func(r *weir.Run, in ticket) (plate, error) {
			stopped.Store(true)
			return weir.Once(r, "charge", b.charge, b.find, quick, weir.Timeout(20*time.Second))
		})
		works(t, e)
		completed(t, startRun(t, e, "7"), 1)
		if charges, _ := b.count(); charges != 1 || asked < 1 {
			t.Errorf("%d charges, after %d questions, want 1 after it was asked for the first", charges, asked)
		}
	})
}

// stuck is a bank's charge whose first call goes on for long whatever its context says, and then charges, or is lost.
type stuck struct {
	*bank
	lost     bool
	ignores  func() // what goes on for long
	calls    atomic.Int64
	returned time.Time // the first call
	again    time.Time // when the second one began
}

func (s *stuck) charge(ctx context.Context) (plate, error) {
	if s.calls.Add(1) > 1 {
		s.again = time.Now()
	} else {
		s.ignores()
		s.returned = time.Now()
		if s.lost {
			return plate{}, errLost
		}
	}
	return s.bank.charge(ctx)
}

const stuckFor = 30 * time.Hour

// While the function of an earlier call still runs here, past its time, it is not called again: that it has not
// happened is believed only when it has returned, and its Timeout later.
func TestOnceStillRuns(t *testing.T) {
	t.Parallel()
	often := weir.Retry{Max: 10_000, Base: time.Minute, Cap: time.Minute}
	for lost, calls := range map[bool]int64{false: 1, true: 2} {
		t.Run(fmt.Sprint("lost ", lost), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := &stuck{bank: &bank{}, lost: lost, ignores: func() { time.Sleep(stuckFor) }}
				e := ignored(t, func(r *weir.Run, in ticket) (plate, error) {
					return weir.Once(r, "charge", b.charge, b.find, weir.Timeout(time.Hour), often)
				})
				completedLate(t, startRun(t, e, "7"), 1)
				time.Sleep(stuckFor) // all that were stuck return
				if n := b.calls.Load(); n != calls || len(b.charges) != 1 {
					t.Errorf("called %d times, charged %d times, want %d and 1", n, len(b.charges), calls)
				}
				if pause := b.again.Sub(b.returned); lost && pause < time.Hour {
					t.Errorf("called again %s after the return, want at least its Timeout", pause)
				}
			})
		})
	}
}

// Nor is it called again when a person has the run retried meanwhile, with a verification or without.
func TestOnceStillRunsAndIsRetried(t *testing.T) {
	t.Parallel()
	for verified, calls := range map[bool]int64{true: 1, false: 2} {
		t.Run(fmt.Sprint("verified ", verified), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := &stuck{bank: &bank{}, lost: !verified, ignores: func() { time.Sleep(stuckFor) }}
				find := b.find
				if !verified {
					find = nil
				}
				e := ignored(t, func(r *weir.Run, in ticket) (plate, error) {
					return weir.Once(r, "charge", b.charge, find, weir.Timeout(time.Hour), quick)
				})
				ref := startRun(t, e, "7")
				for range 3 {
					time.Sleep(stuckFor / 4)
					if s := storyOf(t, e, "7"); s.State != weir.RunNeedsPerson {
						t.Errorf("while its call runs the run is %s because of %q, want it parked", s.State, s.Reason)
					}
					decided(t, e.RetryRun(t.Context(), of("7"), known))
				}
				time.Sleep(time.Hour)
				if s := storyOf(t, e, "7"); s.State != weir.RunNeedsPerson || !strings.Contains(s.Reason, "still runs") {
					t.Errorf("retried while its call runs the run is %s because of %q, want that it still runs", s.State, s.Reason)
				}
				if n := b.calls.Load(); n != 1 {
					t.Errorf("called %d times while the first call runs, want 1", n)
				}
				time.Sleep(stuckFor / 2)
				decided(t, e.RetryRun(t.Context(), of("7"), known))
				completedLate(t, ref, 1)
				time.Sleep(stuckFor)
				if n := b.calls.Load(); n != calls || len(b.charges) != 1 {
					t.Errorf("called %d times, charged %d times, want %d and 1", n, len(b.charges), calls)
				}
			})
		})
	}
}
