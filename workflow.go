package weir

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store"
)

type (
	// Workflow is the contract of a business process: its name, what it is given and
	// what it results in. [Register] gives it its function.
	Workflow[In, Out any] struct{ contract[In] }
	// Signal is the contract of a message to one run, see [Tell] and [WaitFor].
	Signal[T any] struct{ contract[T] }
)

// NewWorkflow declares a workflow. Its name is its owner's, a dot, and what it does: "orders.fulfil".
func NewWorkflow[In, Out any](name string, o ...ContractOption[In]) Workflow[In, Out] {
	c := contract[In]{topic: store.Topic{Name: name}, version: 1, err: checkName("workflow", name)}
	for _, opt := range o {
		opt.apply(&c)
	}
	return Workflow[In, Out]{c}
}

// NewSignal declares a signal. Its name is that of the boundary whose runs hear it, a
// dot, and what it says: "orders.approved".
func NewSignal[T any](name string, o ...ContractOption[T]) Signal[T] {
	return Signal[T]{newContract(store.Topic{Name: name, Kind: store.KindSignal}, o)}
}

// WorkflowOption configures a workflow: [Runs]; [Retry] and [Timeout] are the defaults of its steps.
type WorkflowOption interface{ applyWorkflow(*flow) }

// Runs says how a workflow's runs are worked, and how large they may be. Zero fields mean the documented default.
type Runs struct {
	// Concurrency is how many runs are in memory at a time. Those that wait for long
	// are not: they cost a row. Default 1000, 1 to 100,000.
	Concurrency int
	// Deadline is how long after its start a run is cancelled, unless [Start] says
	// otherwise; one that needs a person then, once a person has decided. Default 0: never. At most 10 years.
	Deadline time.Duration
	// MaxUnfinished is how many runs of the workflow there are that have not ended. Beyond it a start
	// from outside is refused with a [*FullError]; handlers' and runs' own are admitted. On PostgreSQL
	// several processes may exceed it a little: see docs/postgres.md. Default 10,000,000; -1 is
	// unbounded. What the process that was started last says holds for all.
	MaxUnfinished int
	// MaxSteps is how many steps, waits, sends and locks one run's function records. A run that
	// comes to one more is parked before it begins. A run is replayed from its records,
	// and has them in memory. Default 10,000, 1 to 1,000,000. Compensations come on top.
	MaxSteps int
	// MaxBytes bounds what a run has recorded: its input, and names, results, headers and errors of
	// its steps. A run that is past it is parked before its next step begins, so the last results may
	// exceed it. Default 16 MiB, 1 KiB to 1 GiB. Compensations are run beyond it.
	MaxBytes int
}

// Bounds of [Runs].
const (
	maxSteps      = 1_000_000
	minStoryBytes = 1 << 10
	maxStoryBytes = 1 << 30
)

// flow is how a workflow was registered.
type flow struct {
	eng     *Engine
	runs    Runs
	retry   Retry
	timeout time.Duration
}

func (r Runs) applyWorkflow(f *flow)    { f.runs = r }
func (r Retry) applyWorkflow(f *flow)   { f.retry = r }
func (t Timeout) applyWorkflow(f *flow) { f.timeout = time.Duration(t) }

// Register gives a workflow its function, which must belong to a boundary of this engine.
// Call it before [Engine.Run], which reports what is wrong with it.
//
// The function is run from its beginning whenever its run goes on: after a wait, a
// crash, a deployment. Steps that are recorded give what they gave. Code outside
// steps therefore has no effects, and decides on recorded values only: its input,
// what steps gave, [Run.Now].
func Register[In, Out any](e *Engine, w Workflow[In, Out], f func(*Run, In) (Out, error), o ...WorkflowOption) {
	fl := &flow{eng: e}
	for _, opt := range o {
		opt.applyWorkflow(fl)
	}
	err := errors.Join(w.err, fl.withDefaults(w.topic.Name))
	if f == nil {
		err = errors.Join(err, fmt.Errorf("weir: %s: the workflow's function is nil", w.topic.Name))
	}
	if !e.owns[ownerOf(w.topic.Name)] {
		err = errors.Join(err, fmt.Errorf("weir: workflow %s is registered here, but Config.Owns has no %q", w.topic.Name, ownerOf(w.topic.Name)))
	}
	e.flows.Store(w.topic.Name, fl)
	e.core.RegisterWorkflow(engine.Workflow{
		Name:          w.topic.Name,
		Concurrency:   fl.runs.Concurrency,
		MaxUnfinished: max(fl.runs.MaxUnfinished, 0),
		MaxSteps:      fl.runs.MaxSteps,
		MaxBytes:      fl.runs.MaxBytes,
		Work: func(st *engine.Strand) ([]byte, error) {
			r := &Run{strand: st, flow: fl}
			in, err := input(r, w)
			if err != nil {
				return nil, err
			}
			out, err := f(r, in)
			if err != nil {
				return nil, err
			}
			data, err := encodeResult(e, out)
			if err != nil { // a mistake of the program's: what the run has done need not be undone
				st.Park(err.Error())
			}
			return data, nil
		},
	}, err)
}

func (f *flow) withDefaults(name string) error {
	f.runs.Concurrency = orDefault(f.runs.Concurrency, 1000)
	f.runs.MaxUnfinished = orDefault(f.runs.MaxUnfinished, 10_000_000)
	f.runs.MaxSteps = orDefault(f.runs.MaxSteps, 10_000)
	f.runs.MaxBytes = orDefault(f.runs.MaxBytes, 16<<20)
	f.timeout = orDefault(f.timeout, time.Minute)
	f.retry = f.retry.orDefaults()
	return errors.Join(
		within(name+": Runs.Concurrency", f.runs.Concurrency, 1, 100_000),
		within(name+": Runs.MaxUnfinished", f.runs.MaxUnfinished, -1, math.MaxInt32),
		within(name+": Runs.MaxSteps", f.runs.MaxSteps, 1, maxSteps),
		within(name+": Runs.MaxBytes", f.runs.MaxBytes, minStoryBytes, maxStoryBytes),
		within(name+": Runs.Deadline", f.runs.Deadline, 0, delayMax),
		within(name+": Timeout", f.timeout, time.Millisecond, 24*time.Hour),
		f.retry.check(name),
	)
}

// input decodes what the run was given. What only a newer program can read is left to it.
func input[In, Out any](r *Run, w Workflow[In, Out]) (In, error) {
	var in In
	run := r.strand.Run()
	err := w.decode(r.flow.eng.config.Codec, run.Version, run.Input, &in)
	if _, newer := errors.AsType[*errTooNew](err); newer {
		r.strand.Rest(err.Error(), time.Minute)
	}
	if err != nil {
		r.strand.Park(fmt.Sprintf("decode the run's input: %v", err))
	}
	return in, nil
}

// encodeResult encodes what a step or a workflow gave. None is nothing.
func encodeResult[T any](e *Engine, v T) ([]byte, error) {
	if _, none := any(v).(None); none {
		return nil, nil
	}
	data, err := e.config.Codec.Marshal(v)
	if err != nil {
		return nil, engine.Unrecordable(fmt.Errorf("encode the result: %w", err))
	}
	if len(data) > e.config.MaxBody {
		return nil, engine.Unrecordable(fmt.Errorf("the result is %d bytes encoded, want at most %d: keep large things elsewhere and return their address", len(data), e.config.MaxBody))
	}
	return data, nil
}

// StartOption is an option of one start: [Headers], [Delay], [At], [Deadline].
type StartOption interface{ applyStart(*starting) }

// Deadline cancels the run so long after its start. A run that needs a person is cancelled once a person has decided:
// it stays on their list. At most 10 years.
type Deadline time.Duration

type starting struct {
	headers  map[string]string
	delay    time.Duration
	at       time.Time
	deadline time.Duration
	err      error
}

func (h Headers) applyStart(s *starting) {
	o := outgoing{headers: s.headers}
	h.applySend(&o)
	s.headers = o.headers
}

func (d Delay) applyStart(s *starting) {
	var o outgoing
	d.applySend(&o)
	s.delay, s.err = o.delay, errors.Join(s.err, o.err)
}

func (t At) applyStart(s *starting) {
	var o outgoing
	t.applySend(&o)
	s.at, s.err = o.due, errors.Join(s.err, o.err)
}

func (d Deadline) applyStart(s *starting) {
	s.deadline = time.Duration(d)
	s.err = errors.Join(s.err, within("Deadline", s.deadline, time.Millisecond, delayMax))
}

// Start starts a run under an ID of the caller's: the business key. When it returns
// nil the run is durable, or leaves with s's transaction. The same ID again, for as
// long as the run is kept, is the same run; with another input it is refused with a
// [*RunConflictError], unless the run was started under another version of the contract. A
// workflow with too many unfinished runs ([Runs]) refuses with a [*FullError].
func Start[In, Out any](ctx context.Context, s Sender, w Workflow[In, Out], id string, in In, o ...StartOption) (RunRef[Out], error) {
	if s == nil {
		return RunRef[Out]{}, fmt.Errorf("weir: start %s: the sender is nil: want an engine, a message in hand, a run or Engine.In", w.topic.Name)
	}
	ref := RunRef[Out]{ID: id, workflow: w.topic.Name, eng: s.engine()}
	start, err := prepare(s.engine(), w, id, in, o)
	if err != nil {
		return ref, err
	}
	err = s.start(ctx, start)
	ref.no = start.No
	return ref, err
}

// prepare makes a start.
func prepare[In, Out any](e *Engine, w Workflow[In, Out], id string, in In, opts []StartOption) (*store.RunStart, error) {
	var st starting
	for _, opt := range opts {
		opt.applyStart(&st)
	}
	name := w.topic.Name
	if err := errors.Join(w.err, st.err); err != nil {
		return nil, err
	}
	if !e.owns[ownerOf(name)] && !e.core.Detached() {
		return nil, e.homeless("start "+name, name)
	}
	if id == "" || len(id) > store.MaxRunID {
		return nil, fmt.Errorf("weir: start %s: the run's ID is %d bytes, want 1 to %d", name, len(id), store.MaxRunID)
	}
	body, err := e.config.Codec.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("weir: start %s: encode input: %w", name, err)
	}
	if len(body) > e.config.MaxBody {
		return nil, fmt.Errorf("weir: start %s: the input is %d bytes encoded, want at most %d: keep large things elsewhere and give their address", name, len(body), e.config.MaxBody)
	}
	headers, err := encodeHeaders(st.headers)
	if err != nil {
		return nil, err
	}
	if len(headers) > maxHeaders {
		return nil, fmt.Errorf("weir: start %s: headers are %d bytes encoded, want at most %d", name, len(headers), maxHeaders)
	}
	start := &store.RunStart{Workflow: name, ID: id, Version: w.version, Input: body, Headers: headers, At: st.at}
	now := e.core.Now()
	if st.delay > 0 {
		start.At = now.Add(st.delay)
	}
	deadline := st.deadline
	if fl, ok := e.flows.Load(name); ok && deadline == 0 {
		deadline = fl.(*flow).runs.Deadline
	}
	if deadline > 0 {
		if start.At.After(now) {
			now = start.At // it begins then
		}
		start.Deadline = now.Add(deadline)
	}
	return start, nil
}

// Find is a run by its ID, which need not exist.
func Find[In, Out any](e *Engine, w Workflow[In, Out], id string) RunRef[Out] {
	return RunRef[Out]{ID: id, workflow: w.topic.Name, eng: e}
}

// RunRef is a run that was started.
type RunRef[Out any] struct {
	ID string

	workflow string
	no       store.RunNo
	eng      *Engine
}

// Result waits for the run's end. A run that failed or was cancelled gives a
// [*RunError], one that does not exist [ErrNotFound].
func (r RunRef[Out]) Result(ctx context.Context) (Out, error) {
	var out Out
	if engine.InHandler(ctx) {
		return out, fmt.Errorf("weir: waiting for run %s inside a handler or step would hold its place: use Call in a workflow", r.ID)
	}
	end, err := r.eng.core.Result(ctx, r.workflow, r.ID, r.no)
	if err != nil {
		return out, fmt.Errorf("weir: result of run %s of %s: %w", r.ID, r.workflow, err)
	}
	if end.Outcome != store.Completed {
		return out, &RunError{Workflow: r.workflow, ID: r.ID, Outcome: end.Outcome.String(), Reason: end.Reason}
	}
	if len(end.Result) == 0 {
		return out, nil
	}
	if err := r.eng.config.Codec.Unmarshal(end.Result, &out); err != nil {
		return out, fmt.Errorf("weir: decode the result of run %s of %s: %w", r.ID, r.workflow, err)
	}
	return out, nil
}

// Cancel asks for the run to be cancelled: what it is doing is interrupted, unless its
// outcome must be known first; then its compensations run. It does not wait for that.
// [ErrConflict] when the run has ended.
func (r RunRef[Out]) Cancel(ctx context.Context, reason string) error {
	_, err := r.eng.core.Operate(ctx, store.Act{Verb: store.CancelRun, Workflow: r.workflow, ID: r.ID, By: "program", Why: reason})
	return err
}

// RunError is how a run ended that did not complete.
type RunError struct {
	Workflow, ID string
	Outcome      string // "failed" or "cancelled"
	Reason       string
}

func (e *RunError) Error() string {
	return fmt.Sprintf("run %s of %s %s: %s", e.ID, e.Workflow, e.Outcome, e.Reason)
}

// Tell sends a signal to the run with an ID: the next [WaitFor] of it there gets it, also
// one that is reached much later: it is kept until the run has ended. A run that does not exist, or has ended, never hears it, which is no error; nor does one
// that is started after it. Its errors are those of [Send].
func Tell[T any](ctx context.Context, s Sender, c Signal[T], runID string, body T, o ...SendOption) error {
	return send(ctx, s, &c.contract, []T{body}, append([]SendOption{Key(runID)}, o...))
}

func (e *Engine) start(ctx context.Context, start *store.RunStart) error {
	if engine.InHandler(ctx) {
		return ErrInHandler
	}
	return e.core.StartRun(ctx, start)
}

func (i *inTx) start(ctx context.Context, start *store.RunStart) error {
	if engine.InHandler(ctx) {
		return ErrInHandler
	}
	if i.tx == nil {
		return errors.New("weir: Engine.In: the transaction is nil")
	}
	return i.eng.core.StartRunIn(ctx, i.tx, start)
}

func (m *Message[T]) start(_ context.Context, start *store.RunStart) error {
	return m.attempt.Start(start)
}
