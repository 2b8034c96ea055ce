package weirtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/store/sqlite"
)

// Engine is a [weir.Engine] for tests: a real one, on a SQLite file of its own, that
// lives in fake time. It is a [weir.Sender], as any engine; what wants a *weir.Engine, such as
// weir.Find, gets e.Engine.
type Engine struct {
	*weir.Engine

	// File is the path of its store, for tables of the user's own: see sqlite.OpenDB.
	File string

	t     testing.TB
	codec weir.Codec
	tap   *tap
	life  context.Context // ends with Run, or with the crash
	quit  context.CancelFunc
	home  sync.WaitGroup // its goroutines

	done chan struct{} // closed when Run has returned
	err  error         // of Run; read it after done
}

// New opens an engine in t's bubble (see testing/synctest), lets register register
// handlers and workflows, and runs it until t ends, when no goroutine of it is left.
// It fails t if that cannot be done, or if the engine stops by itself.
//
// c is as for [weir.Open], but for two defaults: what is logged as a warning or
// worse goes to t, and messages are kept for 10 years, so that none of the time
// that a test lets pass deletes what it asks for.
func New(t testing.TB, c weir.Config, register func(*weir.Engine)) *Engine {
	t.Helper()
	requireBubble(t)
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	e, err := open(t, filepath.Join(t.TempDir(), "weir.db"), c, register, nil)
	if err != nil {
		t.Fatalf("weirtest.New: %v", err)
	}
	t.Cleanup(func() {
		if err := e.close(); err != nil {
			t.Errorf("the engine stopped: %v", err)
		}
	})
	return e
}

// Check is [weir.Engine.Check]. The engine says first that it lives, which it seldom
// does in a test's time.
func (e *Engine) Check(ctx context.Context) ([]weir.Finding, error) {
	if err := e.tap.Heartbeat(ctx); err != nil {
		return nil, err
	}
	return e.Engine.Check(ctx)
}

// requireBubble fails t outside of a bubble.
func requireBubble(t testing.TB) {
	t.Helper()
	defer func() {
		if recover() != nil {
			t.Fatal("weirtest.New is called outside of a bubble: call it within synctest.Test(t, func(t *testing.T) { … })")
		}
	}()
	synctest.Wait()
}

const keepDefault = 10 * 365 * 24 * time.Hour

// open opens the file, registers, and runs the engine until close.
func open(t testing.TB, file string, c weir.Config, register func(*weir.Engine), f *fuse) (*Engine, error) {
	if c.Keep == 0 {
		c.Keep = keepDefault
	}
	if c.Codec == nil {
		c.Codec = weir.JSON{}
	}
	look := make(chan struct{})
	e := &Engine{File: file, t: t, codec: c.Codec, tap: newTap(f), done: make(chan struct{})}
	ctx, quit := context.WithCancel(context.WithoutCancel(t.Context()))
	e.life, e.quit = ctx, quit
	var err error
	e.Engine, err = weir.Open(engine.WithIntervals(ctx, rarely(look)), e.tap.opener(sqlite.File(file)), c)
	if err != nil {
		quit()
		return nil, err
	}
	if register != nil {
		register(e.Engine)
	}
	e.home.Go(func() {
		defer quit()
		defer close(e.done)
		e.err = e.Engine.Run(ctx)
	})
	e.home.Go(func() { e.tap.pulse(ctx, look) })
	if f.armed() {
		e.home.Go(func() {
			select {
			case <-f.struck:
				quit() // a crash that only its caller was told of
			case <-ctx.Done():
			}
		})
	}
	select {
	case <-e.Ready():
		return e, nil
	case <-e.done:
		return nil, errors.Join(e.close(), errNotRunning(e.err))
	}
}

// errNotRunning is why an engine that should run does not, if it does not say so itself.
func errNotRunning(err error) error {
	if err != nil {
		return nil
	}
	return errors.New("the engine does not run")
}

// close stops the engine and waits for its goroutines.
func (e *Engine) close() error {
	e.quit()
	<-e.done
	err := errors.Join(e.err, e.Engine.Close())
	e.home.Wait()
	return err
}

// rarely is intervals that cost little in fake time. Whatever happens in a test's
// store is told by the tap, and looked at as soon as a service would: see pulse.
func rarely(look <-chan struct{}) engine.Intervals {
	const day = 24 * time.Hour
	return engine.Intervals{
		Heartbeat: day, Figures: day, Prune: day, Watch: day, Poll: day, Result: day,
		Reap: time.Hour, Look: look,
	}
}

// Bounds of Settle: what is beyond goes on for ever.
const (
	settleMax  = 366 * 24 * time.Hour // of fake time
	settleLook = 50_000               // things that happen
)

// Settle lets time pass until nothing happens any more by itself: all messages are
// worked (retries and delays too) or dead, and all runs have ended, wait for a message, a
// signal or a lock, or need a person. What a paused queue holds, and what stands
// behind a dead message of its key, waits for a person too.
//
// It fails the test when that takes more than a year of fake time. Call it
// from one goroutine at a time.
func (e *Engine) Settle() {
	e.t.Helper()
	err := e.settle()
	if errors.Is(err, errCrash) {
		runtime.Goexit() // the process in which this goroutine ran is no more
	}
	if err != nil {
		e.t.Fatalf("Settle: %v", err)
	}
}

func (e *Engine) settle() error {
	limit := time.NewTimer(settleMax)
	defer limit.Stop()
	busy := ""
	for range settleLook {
		synctest.Wait()
		select {
		case <-e.done:
			return fmt.Errorf("the engine has stopped: %w", errors.Join(e.err, errNotRunning(e.err)))
		default:
		}
		var err error
		if busy, err = e.busy(context.Background()); err != nil || busy == "" {
			return err
		}
		select {
		case <-e.tap.wrote:
		case <-e.done:
		case <-limit.C:
			return fmt.Errorf("after a year, still %s", busy)
		}
	}
	return fmt.Errorf("it goes on and on, at last with %s", busy)
}
