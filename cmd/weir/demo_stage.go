package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weir-go/weir/examples/database"
)

// stage runs the processes of a demo: it starts them, kills one now and then, or the database,
// and starts again what has ended, until the workers have ended because all is settled.
//
// So that all kills happen before the work ends, whatever the machine's speed, the workers are
// told to take no more orders than a kill's share of those left, until it is done. Each comes
// after a random amount of work that is there to be done.
type stage struct {
	app    *app
	place  *demoPlace
	seed   uint64
	orders int     // in the book
	effort float64 // how much work an order is, as look counts it
	kills  [kinds]tally
	look   func(context.Context, *database.Database) (outlook, error)
	told   func(upTo int) // told as the workers are; nil: nobody

	brokers []*actor
	monitor string // the URL of the broker's monitoring, if there is one broker
	others  []*actor
	workers []*actor

	db       *database.Database
	luck     *rand.Rand
	killed   map[string]int // processes, by role
	restarts int            // of workers that ended by themselves
	failures int            // of these, since something was done
	upTo     int            // orders that the workers may take
	killAt   int            // when so much is done; -1: no more kills
	done     int
	moved    time.Time // when done last changed
	shown    *demoProgress
}

// actor is a process in all its lives.
type actor struct {
	name  string // "worker 2"
	role  string // by which kills are counted: "engine"
	start func(context.Context) (*process, error)
	now   *process
	dir   string // a broker's data
}

// outlook is how far the work is.
type outlook struct {
	taken, open int  // orders
	done        int  // work
	settled     bool // all is done, and those who work do not end by themselves
	line        demoLine
}

const (
	lookAtFile   = 5 * time.Millisecond
	lookAtServer = 20 * time.Millisecond // each look costs it a scan of the tables
	lookToShow   = 100 * time.Millisecond
	// A kill comes up to so much later, so that it does not always follow a commit.
	killDelayMax = 30 * time.Millisecond
	// The database, or a broker, is away for up to so long, and as long as it takes to recover.
	awayDelayMax = 500 * time.Millisecond
	// The engine gives running handlers 10 s to end.
	stopPatience = 15 * time.Second
	// Nothing in a demo waits so long: whoever does would wait for ever, and is counted so.
	stallMax = 2 * time.Minute
	// A supervisor waits before it starts again what has ended by itself, and gives up.
	restartPause = 200 * time.Millisecond
	failuresMax  = 100
)

// newStage is a stage without actors.
func newStage(a *app, p *demoPlace, f demoFlags) *stage {
	s := &stage{app: a, place: p, seed: f.Seed, killed: map[string]int{}}
	s.kills[ofProcesses].planned, s.kills[ofDatabase].planned = f.Kill, f.KillDB
	return s
}

// cast makes the workers: so many processes of this program with these arguments.
func (s *stage) cast(workers int, arguments func(worker int) []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for n := range workers {
		name := roleEngine
		if workers > 1 {
			name = fmt.Sprintf("worker %d", n+1)
		}
		s.hire(name, func() program {
			return program{name: name, self: self, args: arguments(n), env: s.place.environment(), err: s.app.err}
		})
	}
	return nil
}

// hire adds a worker, who is told how many orders to take. What it runs is asked when it starts: by then is known
// where the others listen.
func (s *stage) hire(name string, what func() program) {
	s.workers = append(s.workers, &actor{name: name, role: roleEngine, start: func(context.Context) (*process, error) {
		p, err := what().start()
		if err == nil {
			s.tell(p)
		}
		return p, err
	}})
}

const roleEngine = "engine"

// run runs the demo to its end.
func (s *stage) run(ctx context.Context) (err error) {
	if s.db, err = s.place.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.db.Close()) }()
	s.luck = newLuck(s.seed, s.killsPlanned())
	s.shown = newDemoProgress(s.app.err, s.killsPlanned())
	defer s.shown.end()
	defer s.stop() // whatever happens, none is left behind
	s.release()
	for _, a := range s.actors() {
		if a.now, err = a.start(ctx); err != nil {
			return err
		}
	}
	s.moved = time.Now()
	return s.watch(ctx)
}

// actors are all, those whom the workers need first.
func (s *stage) actors() []*actor { return slices.Concat(s.brokers, s.others, s.workers) }

// newLuck draws kills: the same for the same seed and number.
func newLuck(seed uint64, kills int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(kills))) }

// stop ends all processes, the workers first.
func (s *stage) stop() {
	for _, some := range [][]*actor{s.workers, s.others, s.brokers} {
		var all sync.WaitGroup
		for _, a := range some {
			if a.now != nil {
				all.Go(a.now.stop)
			}
		}
		all.Wait()
	}
}

// tell tells a worker how many orders it may take. That it has died meanwhile is noticed elsewhere.
func (s *stage) tell(p *process) { _, _ = fmt.Fprintln(p.life, s.upTo) }

// release draws the next kill, and gives out the orders that it takes.
func (s *stage) release() {
	defer func() {
		if s.told != nil {
			s.told(s.upTo)
		}
	}()
	left := s.killsLeft()
	if left == 0 {
		s.upTo, s.killAt = s.orders, -1
		return
	}
	s.upTo += max(1, (s.orders-s.upTo)/(left+1))
	ahead := s.effort*float64(s.upTo) - float64(s.done)
	s.killAt = s.done + 1 + s.luck.IntN(max(1, int(ahead*drawnFrom)))
}

// drawnFrom is the share of the work at hand in which a kill may come: all of it is there
// only without bad lines, and with nobody waiting.
const drawnFrom = 0.6

// due says whether it is time for the next kill.
func (s *stage) due(now outlook) bool {
	return s.killAt >= 0 && (now.done >= s.killAt || now.taken >= s.upTo && now.open == 0)
}

// every is how often to look.
func (s *stage) every() time.Duration {
	switch {
	case s.killAt < 0:
		return lookToShow
	case s.place.kind() == demoPostgres:
		return lookAtServer
	}
	return lookAtFile
}

// watch looks after the processes until all workers have ended because all is settled.
func (s *stage) watch(ctx context.Context) error {
	for {
		if err := pause(ctx, s.every()); err != nil {
			return err
		}
		over, err := s.raise(ctx)
		if over || err != nil {
			return err
		}
		var now outlook
		err = s.db.Patient(ctx, func(ctx context.Context) (err error) {
			now, err = s.look(ctx, s.db)
			return err
		})
		if err != nil {
			return err
		}
		if now.done != s.done {
			s.done, s.moved, s.failures = now.done, time.Now(), 0
		}
		s.shown.tell(now.line)
		if now.settled {
			return nil
		}
		if time.Since(s.moved) > stallMax {
			s.app.progress("nothing has moved for %v: what is open is counted as it is", stallMax)
			return nil
		}
		if !s.due(now) {
			continue
		}
		if err := pause(ctx, rand.N(killDelayMax)); err != nil {
			return err
		}
		if err := s.kill(ctx, now); err != nil {
			return err
		}
		s.moved = time.Now() // while somebody was away, which may be long on a slow disk, nothing could
	}
}

// raise starts again what has ended before its time. over: all workers have done their work.
func (s *stage) raise(ctx context.Context) (over bool, err error) {
	over = true
	for _, a := range s.actors() {
		worker := a.role == roleEngine
		select {
		case <-a.now.ended:
		default:
			over = over && !worker
			continue
		}
		switch {
		case a.now.died(): // somebody else has killed it
		case !worker:
			return false, errors.Join(fmt.Errorf("the process of %s has ended by itself", a.name), a.now.failure())
		case a.now.err == nil:
			continue
		case s.place.kind() == demoSQLite || s.failures == failuresMax:
			return false, a.now.failure()
		default:
			s.restarts++
			s.failures++
			if err := pause(ctx, restartPause); err != nil {
				return false, err
			}
		}
		over = false
		if a.now, err = a.start(ctx); err != nil {
			return false, err
		}
	}
	return over, nil
}

// result is how the demo was run.
func (s *stage) result() demoRunResult {
	return demoRunResult{Store: s.place.kind(), Workers: len(s.workers), KillsDB: s.kills[ofDatabase].done, Restarts: s.restarts}
}

// text tells people what is unusual.
func (r demoRunResult) text() string {
	var text []string
	if r.Workers > 1 {
		text = append(text, fmt.Sprintf("of %d workers", r.Workers))
	}
	if r.KillsDB > 0 {
		text = append(text, fmt.Sprintf("and %d of PostgreSQL", r.KillsDB))
	}
	if r.Restarts > 0 {
		text = append(text, fmt.Sprintf("%d times a worker ended by itself and was started again", r.Restarts))
	}
	return strings.Join(text, ", ")
}

// pause waits so long, or until ctx is done.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
