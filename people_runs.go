package weir

import (
	"context"

	"github.com/weir-go/weir/store"
)

// What people ask about runs, in the store's words.
type (
	// RunRow is a run in a list: its state and why, without input and result.
	RunRow = store.RunRow
	// RunState is how a run stands: one of RunReady and so on, or how it ended.
	RunState = store.RunState
	// RunQuery narrows [Engine.Runs]: by workflow, state, the ID's beginning, and the page before a number.
	RunQuery = store.RunQuery
	// RunCount is how many runs of a workflow are in a state.
	RunCount = store.RunCount
	// RunStory is a run with all that happened to it.
	RunStory = store.RunStory
	// RunRecord is what is kept of one step.
	RunRecord = store.Record
	// RunAttempt is one attempt of a step that failed.
	RunAttempt = store.StepAttempt
	// RunWait is a topic and key that a run waits for.
	RunWait = store.WaitRow
	// RunMail is what has come for a run and was not read by it yet.
	RunMail = store.Mail
	// LockRow is a named lock that a run holds.
	LockRow = store.LockRow
	// LockWaiter is a run in line for a lock.
	LockWaiter = store.LockWaiter
	// AmbiguousError is returned where a run was named by its ID alone and several
	// workflows have one; Workflows says which.
	AmbiguousError = store.AmbiguousError
)

// The states of a run, for [RunQuery] too. An ended run's state is how it ended:
// "completed", "failed" or "cancelled", which a query may name as well.
const (
	RunReady       = store.RunReady
	RunRunning     = store.RunRunning
	RunWaiting     = store.RunWaiting
	RunNeedsPerson = store.RunParked
	RunEnded       = store.RunEnded
)

// Runs lists runs, newest first, without inputs and results, at most 1,000 a call.
func (e *Engine) Runs(ctx context.Context, q RunQuery) ([]RunRow, error) {
	return e.st.Reader().Runs().List(ctx, q)
}

// RunCounts counts runs by workflow and state; those that ended, as far as they are kept.
func (e *Engine) RunCounts(ctx context.Context) ([]RunCount, error) {
	return e.st.Reader().Runs().Counts(ctx)
}

// RunStory is a run with everything that happened to it, or [ErrNotFound]. The
// workflow may be empty if only one has a run with the ID; else an [*AmbiguousError].
func (e *Engine) RunStory(ctx context.Context, workflow, id string) (RunStory, error) {
	return e.st.Reader().Runs().Story(ctx, workflow, id)
}

// Locks lists the locks that are held, by name, with those in line for them, at
// most max (1 to 1,000).
func (e *Engine) Locks(ctx context.Context, max int) ([]LockRow, error) {
	if err := within("Locks: max", max, 1, store.MaxList); err != nil {
		return nil, err
	}
	return e.st.Reader().Runs().Locks(ctx, max)
}

// RunSelection names a run to act on, and a step of it.
type RunSelection struct {
	Workflow string // may be empty if only one workflow has a run with the ID
	ID       string
	// Step is the record's name as the run's story tells it ("charge-card",
	// "item[7]", "parallel/left/step#2"). Empty: the one that needs a person, if it is
	// one. CancelRun and AbandonRun are about the run and do not look at it.
	Step string
}

func (s RunSelection) act(v store.Verb, b Because) store.Act {
	return store.Act{Verb: v, Workflow: s.Workflow, ID: s.ID, Step: s.Step, By: b.By, Why: b.Why}
}

// CancelRun asks a run to end: it waits until a call under way has a known outcome, and its children have ended,
// then compensates and ends as cancelled. [ErrConflict] if it has ended.
func (e *Engine) CancelRun(ctx context.Context, s RunSelection, b Because) error {
	s.Step = ""
	return e.operateRun(ctx, s.act(store.CancelRun, b))
}

// RetryRun lets a run that needs a person try again, with all attempts before it.
// [ErrConflict] if it needs none.
func (e *Engine) RetryRun(ctx context.Context, s RunSelection, b Because) error {
	return e.operateRun(ctx, s.act(store.RetryRun, b))
}

// Settled is what a person found out about a step whose outcome is not known.
type Settled struct {
	// Value is what the step would have returned, as the codec's bytes: JSON by default.
	// "null" for a step without a value. At most 1 MiB.
	Value []byte
	// Failed: it has not happened and is not to be tried again. The function gets an
	// error that says why.
	Failed bool
}

// SettleRun tells a run that needs a person what came of its step: the function
// gets that as the step's result. A step that is named may also be one that waits, of [Ask], [WaitFor] or [Sleep]: what it waits for
// may never come, as when a request was discarded. [ErrConflict] if it needs none.
func (e *Engine) SettleRun(ctx context.Context, s RunSelection, r Settled, b Because) error {
	if err := within("SettleRun: bytes of the value", len(r.Value), 0, maxSettled); err != nil {
		return err
	}
	a := s.act(store.SettleRun, b)
	a.Body, a.Failed = r.Value, r.Failed
	return e.operateRun(ctx, a)
}

const maxSettled = 1 << 20 // what a record's value may have

// SkipRun lets a run that needs a person go on without the step, which is kept as
// omitted: the function gets the zero value. Or without a wait, as with [Engine.SettleRun]. [ErrConflict] if it needs none.
func (e *Engine) SkipRun(ctx context.Context, s RunSelection, b Because) error {
	return e.operateRun(ctx, s.act(store.SkipRun, b))
}

// AbandonRun gives a run that needs a person up: it compensates and ends as failed.
// What is unknown stays so, and compensations that need a person are omitted. If its code does not come to all that it has
// done it needs a person once more: abandoned again it leaves that undone, which its history says. [ErrConflict] if it needs none.
func (e *Engine) AbandonRun(ctx context.Context, s RunSelection, b Because) error {
	s.Step = ""
	return e.operateRun(ctx, s.act(store.AbandonRun, b))
}

// BreakLock takes a lock from its holder and gives it to the next in line, with a
// higher fence. The holder is not stopped: what it still does bears the old fence.
// [ErrNotFound] if nobody holds it.
func (e *Engine) BreakLock(ctx context.Context, name string, b Because) error {
	return e.operateRun(ctx, store.Act{Verb: store.BreakLock, Lock: name, By: b.By, Why: b.Why})
}

func (e *Engine) operateRun(ctx context.Context, a store.Act) error {
	_, err := e.core.Operate(ctx, a)
	return err
}
