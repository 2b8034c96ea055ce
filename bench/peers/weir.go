package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/postgres"
	"github.com/weir-go/weir/store/sqlite"
)

// handlers is how many handlers of weir run at once, as in weir bench.
const handlers = 8

// weirPeer is weir on a store. place gives an empty one, with what is to be done when it is filled,
// and what removes it.
func weirPeer(name string, place func(context.Context) (weirPlace, error)) *peer {
	return &peer{
		name: name, variants: []string{"concurrency 8"}, batch: batchSize,
		queue: func(ctx context.Context, _ int) (queue, error) {
			p, err := place(ctx)
			if err != nil {
				return nil, err
			}
			return newWeirQueue(ctx, p)
		},
		flow: func(ctx context.Context) (flow, error) {
			p, err := place(ctx)
			if err != nil {
				return nil, err
			}
			return newWeirFlow(ctx, p)
		},
	}
}

// weirPlace is room for a store of weir.
type weirPlace struct {
	opener store.Opener
	filled func(context.Context) error
	remove func() error
}

func weirOnServer(s *server) func(context.Context) (weirPlace, error) {
	return func(ctx context.Context) (weirPlace, error) {
		r, err := s.room(ctx, false)
		if err != nil {
			return weirPlace{}, err
		}
		return weirPlace{postgres.DB(s.dsn, postgres.Schema(r.schema)), r.analyze, r.drop}, nil
	}
}

func weirOnFile(parent string) func(context.Context) (weirPlace, error) {
	return func(context.Context) (weirPlace, error) {
		dir, remove, err := files(parent)
		if err != nil {
			return weirPlace{}, err
		}
		none := func(context.Context) error { return nil }
		return weirPlace{sqlite.File(filepath.Join(dir, "weir.db")), none, remove}, nil
	}
}

// weirQueue is a command and its handler.
type weirQueue struct {
	place   weirPlace
	command weir.Command[body, weir.None]
	eng     *weir.Engine
	handled func(int64)
}

// newWeirQueue opens a store whose queue is known to be unbounded: a queue's capacity is declared by
// the engine that runs it, so one has run.
func newWeirQueue(ctx context.Context, p weirPlace) (*weirQueue, error) {
	q := &weirQueue{place: p, command: weir.NewCommand[body]("bench.work")}
	err := q.open(ctx)
	if err != nil {
		return nil, errors.Join(err, p.remove())
	}
	first := newCounter()
	stop, err := q.work(ctx, first.handled)
	if err == nil {
		if err = q.send(ctx, firstID, 1); err == nil {
			err = first.await(ctx, 1)
		}
		err = errors.Join(err, stop())
	}
	if err != nil {
		return nil, errors.Join(err, q.close())
	}
	if err := errors.Join(q.eng.Close(), q.open(ctx)); err != nil { // an engine runs once
		return nil, errors.Join(err, p.remove())
	}
	return q, nil
}

func (q *weirQueue) open(ctx context.Context) error {
	var err error
	q.eng, err = weir.Open(ctx, q.place.opener, weir.Config{Owns: []string{"bench"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	weir.Handle(q.eng, q.command, func(_ context.Context, m *weir.Message[body]) error {
		if m.Body.ID < firstID {
			return weir.Permanent(errors.New("body not decoded"))
		}
		q.handled(m.Body.ID)
		return nil
	}, weir.Queue{Concurrency: handlers, Capacity: -1})
	return nil
}

func (q *weirQueue) settled(ctx context.Context) error { return q.place.filled(ctx) }

func (q *weirQueue) send(ctx context.Context, first int64, n int) error {
	if n == 1 {
		return weir.Send(ctx, q.eng, q.command, newBody(first))
	}
	bodies := make([]body, n)
	for i := range bodies {
		bodies[i] = newBody(first + int64(i))
	}
	return weir.SendAll(ctx, q.eng, q.command, bodies)
}

// work runs the engine. Its stop commits the last acknowledgements.
func (q *weirQueue) work(ctx context.Context, handled func(int64)) (func() error, error) {
	q.handled = handled
	run, cancel := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() { stopped <- q.eng.Run(run) }()
	stop := func() error {
		cancel()
		return <-stopped
	}
	select {
	case <-q.eng.Ready():
		return stop, nil
	case err := <-stopped:
		cancel()
		return nil, fmt.Errorf("the engine has stopped: %w", err)
	}
}

func (q *weirQueue) close() error { return errors.Join(q.eng.Close(), q.place.remove()) }

// weirFlow is a workflow of three steps.
type weirFlow struct {
	place    weirPlace
	workflow weir.Workflow[body, int64]
	eng      *weir.Engine
	cancel   context.CancelFunc
	stopped  chan error
}

func newWeirFlow(ctx context.Context, p weirPlace) (*weirFlow, error) {
	f := &weirFlow{place: p, workflow: weir.NewWorkflow[body, int64]("bench.three-steps"), stopped: make(chan error, 1)}
	var err error
	f.eng, err = weir.Open(ctx, p.opener, weir.Config{Owns: []string{"bench"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, errors.Join(err, p.remove())
	}
	weir.Register(f.eng, f.workflow, func(r *weir.Run, in body) (int64, error) {
		sum := in.ID
		for _, name := range [...]string{"reserve", "charge", "ship"} {
			n, err := weir.Step(r, name, func(context.Context) (int64, error) { return 1, nil })
			if err != nil {
				return 0, err
			}
			sum += n
		}
		return sum, nil
	}, weir.Runs{Concurrency: 2 * callersMost})
	ctx, f.cancel = context.WithCancel(ctx)
	go func() { f.stopped <- f.eng.Run(ctx) }()
	select {
	case <-f.eng.Ready():
		return f, nil
	case err := <-f.stopped:
		f.stopped <- nil
		return nil, errors.Join(err, f.close())
	}
}

func (f *weirFlow) run(ctx context.Context, id int64) error {
	ref, err := weir.Start(ctx, f.eng, f.workflow, "order-"+strconv.FormatInt(id, 10), newBody(id))
	if err != nil {
		return err
	}
	got, err := ref.Result(ctx)
	return result(got, id, err)
}

// result checks what a run of three steps resulted in.
func result(got, id int64, err error) error {
	if err == nil && got != id+3 {
		err = fmt.Errorf("run %d resulted in %d, want %d", id, got, id+3)
	}
	return err
}

func (f *weirFlow) close() error {
	f.cancel()
	return errors.Join(<-f.stopped, f.eng.Close(), f.place.remove())
}
