package many

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres"
)

var errProgramKilled = errors.New("the process is killed")

// killable is a store whose process can be killed: from then on nothing that it does reaches the database.
type killable struct {
	store.Store
	dead atomic.Bool
}

func (k *killable) alive() error {
	if k.dead.Load() {
		return errProgramKilled
	}
	return nil
}

func (k *killable) Heartbeat(ctx context.Context) error {
	if err := k.alive(); err != nil {
		return err
	}
	return k.Store.Heartbeat(ctx)
}

func (k *killable) End(ctx context.Context) error {
	if err := k.alive(); err != nil {
		return err
	}
	return k.Store.End(ctx)
}

func (k *killable) Commit(ctx context.Context, g *store.Group) error {
	if err := k.alive(); err != nil {
		return err
	}
	return k.Store.Commit(ctx, g)
}

func (k *killable) Claim(ctx context.Context, r store.ClaimRequest) (store.Claimed, error) {
	if err := k.alive(); err != nil {
		return store.Claimed{}, err
	}
	return k.Store.Claim(ctx, r)
}

// program is one of two that work a store: each handles what the other does not.
type program struct {
	t    *testing.T
	eng  *weir.Engine
	st   *killable
	over chan error
	stop context.CancelFunc
}

func runProgram(t *testing.T, open store.Opener, register func(*weir.Engine)) *program {
	t.Helper()
	p := &program{t: t, st: &killable{}, over: make(chan error, 1)}
	var err error
	p.eng, err = weir.Open(t.Context(), func(ctx context.Context) (store.Store, error) {
		st, err := open(ctx)
		p.st.Store = st
		return p.st, err
	}, weir.Config{Owns: []string{"house"}, Log: slog.New(slog.DiscardHandler), StopTimeout: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	register(p.eng)
	ctx, stop := context.WithCancel(t.Context())
	p.stop = stop
	go func() { p.over <- p.eng.Run(ctx) }()
	<-p.eng.Ready()
	return p
}

// end stops the program, or kills it.
func (p *program) end(kill bool) {
	p.t.Helper()
	p.st.dead.Store(kill)
	p.stop()
	if err := <-p.over; kill != errors.Is(err, errProgramKilled) {
		p.t.Errorf("Run() = %v; killed: %t", err, kill)
	}
	if err := p.eng.Close(); err != nil && !kill {
		p.t.Error(err)
	}
}

// Two programs with handlers of their own work one store. What one of them had in hand when it was killed stays as it is while
// only the other is there, whose processes come, end and are killed: it is not dead, nor has it had an attempt by them.
// The next of its own works all of it.
func TestDisjointHandlers(t *testing.T) {
	t.Parallel()
	dsn := dsnOf(t)
	db, schema := poolOf(t, dsn)
	open := postgres.DB(dsn, postgres.Schema(schema), postgres.Lease(lease))
	const n = 10
	begun := make(chan int, 100)
	left := runProgram(t, open, func(eng *weir.Engine) {
		weir.Handle(eng, chore, func(ctx context.Context, m *weir.Message[task]) error {
			begun <- m.Attempt
			<-ctx.Done()
			return ctx.Err()
		}, weir.Queue{Concurrency: n})
		weir.Register(eng, tidy, func(r *weir.Run, in task) (weir.None, error) {
			return weir.None{}, weir.Do(r, "a", func(ctx context.Context) error {
				begun <- 1
				<-ctx.Done()
				return ctx.Err()
			})
		})
	})
	for i := range n {
		if err := weir.Send(t.Context(), left.eng, chore, task{Name: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
		if _, err := weir.Start(t.Context(), left.eng, tidy, fmt.Sprint("run-", i), task{}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 * n {
		<-begun
	}
	left.end(true)

	worked := make(chan string, 100)
	other := func(eng *weir.Engine) {
		weir.Handle(eng, forward, func(_ context.Context, m *weir.Message[task]) error {
			worked <- m.Body.Name
			return nil
		})
		weir.Register(eng, hostileChild, func(*weir.Run, task) (weir.None, error) { return weir.None{}, nil })
	}
	for i := range 6 {
		right := runProgram(t, open, other)
		if err := weir.Send(t.Context(), right.eng, forward, task{Name: fmt.Sprint("other-", i)}); err != nil {
			t.Fatal(err)
		}
		ref, err := weir.Start(t.Context(), right.eng, hostileChild, fmt.Sprint("other-", i), task{})
		if err == nil {
			_, err = ref.Result(t.Context())
		}
		if err != nil {
			t.Errorf("a run of the other program = %v, want nil", err)
		}
		<-worked
		if i == 5 {
			right.seesLost(db, schema)
		}
		right.holds(n)
		right.end(i%2 == 0)
	}

	again := make(chan int, 100)
	next := runProgram(t, open, func(eng *weir.Engine) {
		weir.Handle(eng, chore, func(_ context.Context, m *weir.Message[task]) error {
			again <- m.Attempt
			return nil
		})
		weir.Register(eng, tidy, func(r *weir.Run, in task) (weir.None, error) { return weir.None{}, nil })
	})
	for range n {
		if got := <-again; got != 1 {
			t.Errorf("attempt %d, want 1: the others have made none", got)
		}
	}
	quiet(t, next.eng, next.over)
	if dead, err := next.eng.Dead(t.Context(), weir.DeadQuery{}); err != nil || len(dead) != 0 {
		t.Errorf("Dead() = %d letters, %v, want none", len(dead), err)
	}
	for i := range n {
		s, err := next.eng.RunStory(t.Context(), tidy.Name(), fmt.Sprint("run-", i))
		if err != nil || s.State != "completed" {
			t.Errorf("RunStory(run-%d) is %s, %v, want completed", i, s.State, err)
		}
	}
	next.end(false)
}

// seesLost waits until the silence of those that were killed has been noticed.
func (p *program) seesLost(db *pgxpool.Pool, schema string) {
	p.t.Helper()
	deadline, tick := time.NewTimer(patience), time.NewTicker(20*time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for alive := 0; ; {
		err := db.QueryRow(p.t.Context(), "select count(*) from "+schema+".processes where ended_us is null and lost_us is null").Scan(&alive)
		if err != nil {
			p.t.Fatal(err)
		}
		if alive == 1 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			p.t.Fatalf("%d processes are alive, want those that were killed taken for lost", alive)
		}
	}
}

// holds wants the work of the program that is not there as it was.
func (p *program) holds(n int) {
	p.t.Helper()
	queues, err := p.eng.Queues(p.t.Context(), 0)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, q := range queues {
		if q.Name == chore.Name() && (q.Depth != int64(n) || q.Dead != 0) {
			p.t.Errorf("%s has depth %d and %d dead, want %d and 0", q.Name, q.Depth, q.Dead, n)
		}
	}
	counts, err := p.eng.RunCounts(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	for _, c := range counts {
		if c.Workflow == tidy.Name() && c.State == weir.RunNeedsPerson {
			p.t.Errorf("%d runs of %s need a person, want none", c.Count, c.Workflow)
		}
	}
}
