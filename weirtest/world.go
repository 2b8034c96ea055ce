package weirtest

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/weir-go/weir"
)

// Scenario is what CrashEverywhere tries over and over. A value is made for each
// trial, with fakes of its own; its functions run in a bubble of testing/synctest.
type Scenario struct {
	// Config is the engine's. Logs are dropped unless it has a logger, or Only is set.
	Config weir.Config

	// Register registers handlers and workflows, as the program does when it starts:
	// it is called again after the crash, for the next process. What is to be lost in
	// a crash is made here; what stays (the fakes: the outside world) is made before.
	Register func(e *weir.Engine)

	// Act begins what is tried: it starts runs and sends messages, and returns. It is a client
	// that asks until it has an answer, so after a crash, and in one trial without any
	// reason, it is called again: it starts runs by the same ID and sends with [weir.Dedup].
	// Then all is left to itself until nothing happens any more (see [Engine.Settle]).
	Act func(ctx context.Context, e *Engine) error

	// Look is called at the end, and may report what it finds: rows that were
	// written in the engine's transactions are effects too. May be nil.
	Look func(ctx context.Context, e *Engine) error

	// Cancels has all runs cancelled as well, after each commit, and crashes then at each of the commits and effects that follow. A
	// run that is cancelled has undone what it did: its fakes report that by [World.Undo]. With several runs, some of which had ended
	// before, nobody can tell whose an effect is: then each may be as undisturbed or undone, so a scenario of one run finds more.
	Cancels bool

	// Points bounds the commit points at which it crashes; of more, so many are tried,
	// evenly spread. With Cancels it bounds those trials, too. Default 500, 1 to 10,000.
	Points int
	// Restart is the time between a crash and the start of the next process. Default 1 s.
	Restart time.Duration
	// Late is how much later a message comes for the second time. Default 10 s.
	Late time.Duration
	// PersonsAct means that a run which needs a person is a good end: then it is no
	// mistake, and nor is what it has not done yet.
	PersonsAct bool
	// Only is a trial's name from a report, "after commit 5": only that one is made, and
	// what its engine logs as a warning or worse goes to the test. Default: all.
	Only string
}

// World is what the fakes of one trial report to.
type World struct {
	// File is the SQLite file of the trial's engines, for tables of the user's own.
	File string

	fuse *fuse

	mu      sync.Mutex
	effects map[effect]int  // without those that are undone
	most    map[effect]int  // at a time
	lenient map[effect]bool // they may happen more often
	order   []effect        // those reported while the scenario was alive
	looks   bool            // it is over, and looked at
	deadly  int             // which of order is not to happen, from 1: a crash comes first; 0: none
}

// effect is something that happens outside of weir, to something.
type effect struct{ name, key string }

func (e effect) String() string { return e.name + " " + e.key }

// Effect reports that something happened to the world outside: a fake calls it where
// the real thing would act, Effect("charge", orderID). An outside system that
// refuses what it has done before reports only what it does.
//
// The same name and key mean the same effect in each trial, so keys must not be random.
//
// A process that has crashed acts no more: then Effect ends the goroutine that
// called it (runtime.Goexit). So call it before the fake changes anything, and
// unlock with defer. A fake that takes its time, by time.Sleep outside of
// its locks, finds more: whoever does not wait for it may not live until it has acted.
func (w *World) Effect(name, key string) { w.report(effect{name, key}, happens) }

// Repeatable is [World.Effect] for what may happen more often than undisturbed, such as a
// mail that nobody minds to get twice; it must not be lost.
func (w *World) Repeatable(name, key string) { w.report(effect{name, key}, mayRepeat) }

// Undo is [World.Effect] for what undoes an effect of that name and key, as a refund does a charge: it then has happened once
// less. One that finds nothing to undo, or has undone it before, reports nothing.
func (w *World) Undo(name, key string) { w.report(effect{name, key}, undone) }

// reported is what is said of an effect.
type reported int

const (
	happens reported = iota
	mayRepeat
	undone
)

func (w *World) report(e effect, what reported) {
	if w.fuse.blown() {
		runtime.Goexit()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.looks {
		told := e
		if what == undone {
			told.name += " undone:"
		}
		w.order = append(w.order, told)
		if len(w.order) == w.deadly {
			_ = w.fuse.crash() // the goroutine ends, whoever it was
			runtime.Goexit()
		}
	}
	if what == undone {
		w.effects[e]--
		return
	}
	w.effects[e]++
	w.most[e] = max(w.most[e], w.effects[e])
	w.lenient[e] = what == mayRepeat
}

// look begins the time in which effects are what was found.
func (w *World) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks = true
	w.fuse.defuse()
}

// acted are the effects in their order, without what was found.
func (w *World) acted() []effect {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.order)
}

// happened notes the effects.
func (w *World) happened(out *outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out.effects, out.most, out.lenient = maps.Clone(w.effects), maps.Clone(w.most), maps.Clone(w.lenient)
}

const (
	pointsDefault  = 500
	pointsMax      = 10_000
	restartDefault = time.Second
	lateDefault    = 10 * time.Second
)
