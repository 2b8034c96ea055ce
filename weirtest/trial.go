package weirtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// manner is how a trial disturbs the scenario.
type manner int

const (
	calm    manner = iota // not at all
	before                // a crash before a point is written
	within                // a crash in the transaction, when the closures of the point have run
	after                 // a crash after a point is written
	unacted               // a crash before an effect happens
	twice                 // each message is delivered twice, the second time late
	asked                 // Act is called three times
)

// plan is one trial to make.
type plan struct {
	manner manner
	at     int // the point, or the effect, from 1
	cancel int // all runs are cancelled after this point, from 1; 0: none is
}

func (p plan) String() string {
	switch {
	case p.cancel == 0:
		return p.disturbs()
	case p.manner == calm:
		return fmt.Sprint("cancelled after commit ", p.cancel)
	}
	return fmt.Sprintf("%s, cancelled after commit %d", p.disturbs(), p.cancel)
}

// disturbs says in what manner, and where.
func (p plan) disturbs() string {
	switch p.manner {
	case before:
		return fmt.Sprint("before commit ", p.at)
	case within:
		return fmt.Sprint("within commit ", p.at)
	case after:
		return fmt.Sprint("after commit ", p.at)
	case unacted:
		return fmt.Sprint("before effect ", p.at)
	case twice:
		return "delivered twice"
	case asked:
		return "asked again"
	}
	return "undisturbed"
}

// outcome is what came of a trial.
type outcome struct {
	plan
	point   string // what was, or would have been, done at the crash; empty: it never came to it
	asked   string // what was done before the runs were cancelled
	points  []point
	order   []effect // as they happened
	effects map[effect]int
	most    map[effect]int
	lenient map[effect]bool
	runs    map[string]runEnd   // by workflow and ID
	dead    map[string][]string // reasons, by queue and key
	err     error               // it did not come to its end
}

// runEnd is how a run stands when nothing happens any more.
type runEnd struct {
	state  weir.RunState
	reason string
}

// trial is the scenario tried once. It lives in a bubble.
type trial struct {
	t        testing.TB
	plan     plan
	world    *World
	scenario Scenario
	acts     int // calls of Act still to be made

	cancelled bool  // or none is to be
	refused   error // a cancel was
}

func newTrial(t *testing.T, p plan, make func(*testing.T, *World) Scenario) *trial {
	at := 0
	switch p.manner {
	case before, within, after:
		at = p.at
	}
	w := &World{
		File: filepath.Join(t.TempDir(), "weir.db"), effects: map[effect]int{}, most: map[effect]int{}, lenient: map[effect]bool{},
		fuse: newFuse(at, p.manner),
	}
	if p.manner == unacted {
		w.deadly = p.at
	}
	w.fuse.cancels = p.cancel
	tr := &trial{t: t, plan: p, world: w, scenario: make(t, w), acts: 1, cancelled: p.cancel == 0}
	s := &tr.scenario
	s.Restart, s.Late = cmp.Or(s.Restart, restartDefault), cmp.Or(s.Late, lateDefault)
	if s.Config.Log == nil {
		s.Config.Log = slog.New(slog.DiscardHandler)
		if s.Only != "" {
			s.Config.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
		}
	}
	if p.at > 0 {
		s.Config.StopTimeout = time.Millisecond // a crash does not wait for handlers
	}
	switch p.manner {
	case twice:
		s.Config.Around = deliverTwice(s.Config.Around, s.Late)
	case asked:
		tr.acts = 2
	}
	return tr
}

// run tries the scenario, with a process after the crash if there is one.
func (tr *trial) run() outcome {
	out := outcome{plan: tr.plan}
	for {
		e, err := open(tr.t, tr.world.File, tr.scenario.Config, tr.scenario.Register, tr.world.fuse)
		if err != nil {
			out.err = err
			return out
		}
		err = tr.live(e, &out)
		if !tr.world.fuse.blown() {
			out.err = errors.Join(err, e.close(), tr.refused)
			break
		}
		_ = e.close() // it says that it has crashed
		<-time.After(tr.scenario.Restart)
		tr.world.fuse.renew()
	}
	tr.world.happened(&out)
	out.points = tr.world.fuse.passedPoints()
	out.order = tr.world.acted()
	if n := tr.plan.cancel; 0 < n && n <= len(out.points) {
		out.asked = out.points[n-1].what
	}
	switch at := tr.plan.at; {
	case tr.plan.manner == unacted && at <= len(out.order):
		out.point = out.order[at-1].String()
	case tr.plan.manner != unacted && at > 0 && at <= len(out.points):
		out.point = out.points[at-1].what
	}
	return out
}

// live is one process's life: to the end of the scenario, or to the crash.
func (tr *trial) live(e *Engine, out *outcome) error {
	if !tr.cancelled {
		e.home.Go(func() { tr.cancelAll(e) })
	}
	for tr.acts > 0 {
		if err := tr.act(e); err != nil {
			return fmt.Errorf("what the scenario's Act gave: %w", err)
		}
		tr.acts--
	}
	if err := e.rest(); err != nil {
		return err
	}
	if tr.plan.manner == asked { // and when all is done
		if err := tr.act(e); err != nil {
			return fmt.Errorf("what the scenario's Act gave when all was done: %w", err)
		}
		if err := e.rest(); err != nil {
			return err
		}
	}
	tr.world.look()
	if tr.scenario.Look != nil {
		if err := tr.scenario.Look(context.Background(), e); err != nil {
			return fmt.Errorf("what the scenario's Look gave: %w", err)
		}
	}
	return out.survey(e)
}

// lingering is how long what nobody waits for has to come to its end.
const lingering = time.Minute

// rest settles, and lets those come to their end whom the engine does not know.
func (e *Engine) rest() error {
	for range 2 {
		if err := e.settle(); err != nil {
			return err
		}
		select {
		case <-time.After(lingering):
		case <-e.done:
		}
	}
	return nil
}

var errGone = errors.New("it ended its goroutine")

// act calls Act, until it returns or its process has crashed.
func (tr *trial) act(e *Engine) error {
	if tr.scenario.Act == nil {
		return errors.New("the scenario has none")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stopWatching := context.AfterFunc(e.life, cancel)
	defer stopWatching()
	err := errGone // a crash, or a failure of the test
	var home sync.WaitGroup
	home.Go(func() { err = tr.scenario.Act(ctx, e) })
	home.Wait()
	return err
}

// survey notes how runs and messages stand.
func (out *outcome) survey(e *Engine) error {
	ctx := context.Background()
	out.runs, out.dead = map[string]runEnd{}, map[string][]string{}
	for q := (weir.RunQuery{Max: store.MaxList}); ; {
		page, err := e.Runs(ctx, q)
		if err != nil {
			return err
		}
		for i := range page {
			out.runs[page[i].Workflow+" "+page[i].ID] = runEnd{page[i].State, page[i].Reason}
		}
		if len(page) < q.Max {
			break
		}
		q.Before = page[len(page)-1].No
	}
	queues, err := e.Queues(ctx, 0)
	if err != nil {
		return err
	}
	for _, q := range queues {
		if q.Dead == 0 {
			continue
		}
		letters, err := e.Dead(ctx, weir.DeadQuery{Queue: q.Name, Max: store.MaxList})
		if err != nil {
			return err
		}
		for i := range letters {
			name := q.Name
			if key := letters[i].Message.Key; key != "" {
				name += " of " + key
			}
			out.dead[name] = append(out.dead[name], letters[i].Reason)
		}
	}
	return nil
}

// deliverTwice lets each message's handler run to success, and then has it
// delivered again: what the first try sent and wrote through weir is dropped, as it
// is when a process ends before its acknowledgement.
func deliverTwice(around func(context.Context, weir.Work, func(context.Context) error) error, late time.Duration) func(context.Context, weir.Work, func(context.Context) error) error {
	var mu sync.Mutex
	seen := map[[2]string]bool{}
	return func(ctx context.Context, w weir.Work, next func(context.Context) error) error {
		var err error
		if around != nil {
			err = around(ctx, w, next)
		} else {
			err = next(ctx)
		}
		switch w.Kind {
		case store.KindCommand.String(), store.KindEvent.String(), store.KindReply.String():
		default:
			return err // a step: its run is not a message
		}
		mu.Lock()
		defer mu.Unlock()
		id := [2]string{w.Queue, w.ID}
		if err != nil || seen[id] {
			return err
		}
		seen[id] = true
		return weir.NotYet("weirtest delivers it twice", late)
	}
}
