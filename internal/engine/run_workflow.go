package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weir-go/weir/store"
)

// Workflow is how one workflow's runs are worked.
type Workflow struct {
	Name        string
	Concurrency int // runs in memory at a time
	// MaxUnfinished is how many runs that have not ended starts from outside make; 0: no bound.
	MaxUnfinished int
	MaxSteps      int // that a run's function begins; compensations come on top
	MaxBytes      int // of a run's input and records, beyond which its function begins no step
	// Work is the function: its result, or why the run fails.
	Work func(*Strand) ([]byte, error)
}

// Log keys of runs.
const (
	keyWorkflow = "workflow"
	keyRun      = "run"
)

// workflow is one registered workflow in this process, with its runs in memory.
type workflow struct {
	e        *life
	settings Workflow
	signal   chan struct{} // capacity 1: its dispatcher should look
	// suspected has capacity 1: a claim has seen runs that only a claim of suspects gets
	suspected chan struct{}

	mu     sync.Mutex
	slices map[store.RunNo]*slice
	taken  int       // places taken: slices, and starts under way
	kept   int       // places kept for suspects, until all have begun
	stale  bool      // there may be runs to claim, or mail
	open   bool      // claims are allowed
	closed bool      // for good: the engine stops
	due    time.Time // when the next waiting run is
	mailed int64     // the last mail seen
}

// RegisterWorkflow adds a workflow before Run.
func (e *Engine) RegisterWorkflow(s Workflow, faults error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.started:
		faults = errors.Join(faults, fmt.Errorf("weir: workflow %s is registered after Run: register before", s.Name))
		e.log.Error("registered too late: nothing runs it", keyWorkflow, s.Name)
	case e.named["workflow "+s.Name]:
		faults = errors.Join(faults, fmt.Errorf("weir: workflow %s is registered twice", s.Name))
	}
	if faults != nil {
		e.faults = append(e.faults, faults)
		return
	}
	e.named["workflow "+s.Name] = true
	e.flows = append(e.flows, s)
}

func newWorkflow(l *life, s Workflow) *workflow {
	return &workflow{
		e: l, settings: s, signal: make(chan struct{}, 1), suspected: make(chan struct{}, 1), slices: map[store.RunNo]*slice{}, stale: true,
	}
}

// StartRun starts a run in a commit of its own. Where there is room it begins at once.
func (e *Engine) StartRun(ctx context.Context, start *store.RunStart) error {
	err := e.startRun(ctx, start)
	if errors.Is(err, store.ErrLeaseLost) {
		err = e.betweenLives(ctx, err, func() error { return e.startRun(ctx, start) })
	}
	return err
}

func (e *Engine) startRun(ctx context.Context, start *store.RunStart) error {
	w := e.leasable(start)
	if w != nil {
		defer w.e.starters.Done()
	}
	start.Lease = w != nil
	change := store.Change{Runs: []*store.RunStart{start}, Outside: true}
	err := e.commits.commitOne(ctx, &change)
	if w == nil {
		return e.refusal(ctx, err)
	}
	if errors.Is(err, store.ErrUnresolved) { // it may be leased to us: who lives on must work it, or hand it back
		w.e.fail(fmt.Errorf("weir: start of run %s of %s: %w", start.ID, start.Workflow, err))
	}
	if err != nil || start.Existed || start.Epoch == 0 {
		w.release()
		return e.refusal(ctx, err)
	}
	w.begin(&store.Run{
		RunRef: store.RunRef{No: start.No, Epoch: start.Epoch}, Workflow: start.Workflow, ID: start.ID, Version: start.Version,
		Input: start.Input, Headers: start.Headers, StartedAt: start.StartedAt, Deadline: start.Deadline,
		Cause: start.Cause, Correlation: start.Correlation, Parent: start.Parent,
	}, nil)
	return nil
}

// StartRunIn starts a run in the caller's transaction.
func (e *Engine) StartRunIn(ctx context.Context, tx store.Tx, start *store.RunStart) error {
	return e.refusal(ctx, e.st.AppendIn(ctx, tx, &store.Change{Runs: []*store.RunStart{start}}))
}

// leasable takes a place for a run that is to start now; nil when it has to wait its turn.
func (e *Engine) leasable(start *store.RunStart) *workflow {
	l := e.life.Load()
	if l == nil || !start.At.IsZero() {
		return nil
	}
	w := l.workflows[start.Workflow]
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.open || w.stale || w.taken >= w.settings.Concurrency-w.kept {
		return nil
	}
	w.taken++
	w.e.starters.Add(1)
	return w
}

// release gives a place back.
func (w *workflow) release() {
	w.mu.Lock()
	w.taken--
	w.lookIfRoom()
	w.mu.Unlock()
}

// begin takes in a leased run, whose place is taken, and starts it. Once the engine
// stops it does not: the lease is handed back with all others.
func (w *workflow) begin(run *store.Run, gone chan struct{}) {
	s := newSlice(w, run)
	s.gone = gone
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return
	}
	w.slices[run.No] = s
	w.e.workers.Add(1) // before the drain can have seen that nobody works
	w.mu.Unlock()
	s.start()
	w.e.workers.Done()
}

// released is told that a run has left memory: c is its last chapter, nil if it
// left without a verdict.
func (w *workflow) released(s *slice, c *chapter, err error) {
	w.mu.Lock()
	if s.left {
		w.mu.Unlock()
		return
	}
	s.left = true
	if w.slices[s.run.No] == s {
		delete(w.slices, s.run.No)
	}
	w.taken--
	if c != nil && err == nil {
		if c.update.Unread {
			w.stale = true
		}
		if c.update.Verdict == store.Waiting {
			w.dueBy(c.update.Wake)
		}
	}
	w.lookIfRoom()
	w.mu.Unlock()
	if s.gone != nil {
		close(s.gone)
	}
	if err != nil && !errors.Is(err, ErrStopping) {
		w.e.log.Warn("a run was refused: another process has taken it over, or the store cannot take it",
			keyWorkflow, w.settings.Name, keyRun, s.run.ID, keyError, err)
	}
	if c != nil && err == nil && c.update.Verdict == store.Ended {
		w.e.results.tell(w.settings.Name, store.RunEnd{
			No: s.run.No, ID: s.run.ID, Outcome: c.update.Outcome, Result: c.update.Result, Reason: c.update.Reason, EndedAt: w.e.Now(),
		})
	}
}

// dueBy notes when a run is due, and tells the dispatcher. The caller holds w.mu.
func (w *workflow) dueBy(due time.Time) {
	if w.dueFrom(due) {
		w.look()
	}
}

// dueFrom notes when a run is due; true if it is the first. The caller holds w.mu.
func (w *workflow) dueFrom(due time.Time) bool {
	first := !due.IsZero() && (w.due.IsZero() || due.Before(w.due))
	if first {
		w.due = due
	}
	return first
}

func (w *workflow) lookIfRoom() {
	if w.stale && w.taken < w.settings.Concurrency {
		w.look()
	}
}

func (w *workflow) look() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// more notes that there may be runs to claim, or mail.
func (w *workflow) more() {
	w.mu.Lock()
	w.stale = true
	w.mu.Unlock()
	w.look()
}

// Waits in memory: a short one is cheaper than to leave and be replayed, but it keeps a place.
const (
	patienceMax     = 5 * time.Second
	patienceCrowded = 200 * time.Millisecond
)

// patience is how long a run may wait in memory.
func (w *workflow) patience() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.taken*2 > w.settings.Concurrency || w.stale {
		return patienceCrowded
	}
	return patienceMax
}

// dispatch keeps a workflow's places filled until ctx is done.
func (w *workflow) dispatch(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.signal:
		case <-timer.C:
			w.mu.Lock()
			w.stale = true
			w.mu.Unlock()
		}
		if err := w.fill(ctx); err != nil {
			return err
		}
		timer.Reset(w.sleep(w.e.Now()))
	}
}

// sleep is how long the dispatcher may sleep if nothing wakes it.
func (w *workflow) sleep(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	poll := w.e.intervals.Poll
	if w.due.IsZero() || w.taken >= w.settings.Concurrency-w.kept {
		return poll
	}
	return min(max(w.due.Sub(now), time.Millisecond), poll)
}

// fill claims as long as there is room and more to claim. Mail is fetched also without room.
func (w *workflow) fill(ctx context.Context) error {
	for ctx.Err() == nil {
		w.mu.Lock()
		if !w.due.IsZero() && !w.due.After(w.e.Now()) {
			w.stale = true
		}
		room := min(w.settings.Concurrency-w.kept-w.taken, claimRuns)
		if !w.stale || !w.open {
			w.mu.Unlock()
			return nil
		}
		w.stale = false
		w.due = time.Time{}
		room = max(room, 0)
		w.taken += room
		after := w.mailed
		w.mu.Unlock()
		full, err := w.claim(ctx, store.ClaimRequest{Workflow: w.settings.Name, Max: room, MailAfter: after})
		if err != nil || full {
			return ignoreStop(ctx, err)
		}
	}
	return nil
}

// claimRuns is how many runs one claim takes: their records are loaded with it.
const claimRuns = 500

// claim makes one claim, for which room places are taken. full says that there was
// no room for more.
func (w *workflow) claim(ctx context.Context, r store.ClaimRequest) (full bool, err error) {
	claimed, err := w.e.claim(ctx, r)
	w.mu.Lock()
	w.taken -= r.Max - len(claimed.Runs)
	if err == nil {
		w.dueFrom(claimed.NextDue) // the dispatcher looks by itself: told, it would go round without a pause
		w.stale = w.stale || claimed.More
		if claimed.Suspects > 0 && w.kept == 0 {
			select {
			case w.suspected <- struct{}{}:
			default:
			}
		}
		full = r.Max == 0 // only mail was asked for
		w.stale = w.stale || full
	}
	w.mu.Unlock()
	if err != nil {
		return false, err
	}
	for _, run := range claimed.Runs {
		w.begin(run, nil)
	}
	w.deliver(claimed.Mail)
	return full, nil
}

// deliver hands mail to the runs in memory.
func (w *workflow) deliver(mail []store.Mail) {
	for len(mail) > 0 {
		n := 1
		for n < len(mail) && mail[n].Run == mail[0].Run {
			n++
		}
		w.mu.Lock()
		s := w.slices[mail[0].Run]
		if s == nil && !w.closed {
			w.stale = true // it is leased, and about to begin: asked for again
			w.look()
			w.mu.Unlock()
			return
		}
		w.mailed = max(w.mailed, mail[n-1].No)
		w.mu.Unlock()
		if s != nil {
			s.mu.Lock()
			s.receive(mail[:n], w.e.Now())
			s.mu.Unlock()
		}
		mail = mail[n:]
	}
}

// reap writes off steps that ignore their context.
func (w *workflow) reap(now time.Time) {
	w.mu.Lock()
	all := make([]*slice, 0, len(w.slices))
	for _, s := range w.slices {
		all = append(all, s)
	}
	w.mu.Unlock()
	for _, s := range all {
		s.reap(now)
	}
}

// close ends all claims for good.
func (w *workflow) close() {
	w.mu.Lock()
	w.open, w.closed = false, true
	w.mu.Unlock()
}

// start opens the workflow for claims, unless the engine stops.
func (w *workflow) start() {
	w.mu.Lock()
	w.open = !w.closed
	w.kept = min(suspectGroup, (w.settings.Concurrency+1)/2) // suspects look first
	w.mu.Unlock()
}
