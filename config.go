package weir

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weir-go/weir/internal/engine"
	"github.com/weir-go/weir/transport"
)

// Version is this release of weir.
const Version = "0.1.0-dev"

// Config is an engine's configuration. Zero fields mean the documented default.
type Config struct {
	// Owns lists the boundaries that live in this engine's store, by name. Commands
	// to others are refused at the send, their handlers and events at the start.
	// Commands to other stores are sent in the name of the first one: leave it the first.
	// Empty for a program that only reads and operates.
	Owns []string

	// Transport connects this engine's boundaries to those of other stores. The caller closes it, after the
	// engine. Default: none, and then Routes and Public must be empty.
	Transport transport.Transport

	// Routes names the boundaries that live in other stores and are reached over Transport. Commands to them
	// wait here until their store has them; their events and replies come from there. At most 1,000.
	Routes map[string]Route

	// Public names events of this engine's boundaries that are also published for programs that know nothing
	// of weir, as far as Transport has such. At most 1,000.
	Public []string

	// Log receives what a person may want to know; Error means that somebody must
	// act. Default: slog.Default().
	Log *slog.Logger

	// Around wraps each handler's attempt: tracing, tenants, logging. It must call
	// next once and return its error, or one of its own. Default: none.
	Around func(ctx context.Context, w Work, next func(context.Context) error) error

	// Codec encodes bodies. Default: [JSON].
	Codec Codec

	// MaxBody is the largest encoded body in bytes; a larger one is refused at the
	// send, and from programs that know nothing of weir where it comes in. What another boundary
	// sends is bounded by its own. Default 256 KiB, 1 B to 1 MiB: larger things belong in a blob store,
	// their address in the message.
	MaxBody int

	// Keep is how long messages and their history are kept after they were sent, once all is done
	// with them. Default 7 days, 1 minute to 10 years. What waits, or is dead, is kept however old; so are signals to runs
	// that have not ended. An event is not: a run that is to find with [WaitFor] what came long before needs a longer Keep.
	Keep time.Duration

	// StopTimeout is how long Run waits, once its context is done, for handlers under
	// way before it cancels theirs. Default 10 s, 1 ms to 1 h.
	StopTimeout time.Duration
}

// Route is how another boundary is reached. Zero fields mean the default.
type Route struct {
	// Capacity is how many messages of one command or event may wait here for that boundary to have them before
	// sends are refused with a [*FullError]. Default 100,000; -1 is unbounded. An event's publisher is
	// never refused: a boundary that lags further behind is parked, and resumed by a person.
	Capacity int
}

// Work is what Around sees of an attempt.
type Work struct {
	Kind    string // "command", "event" or "reply"
	Queue   string // the command's or subscriber's name
	Name    string // the contract's name
	Key, ID string
	Attempt int
}

const (
	maxBodyLimit    = 1 << 20
	maxHeaders      = 8 << 10 // bytes of encoded headers
	maxKey          = 512     // bytes of a key or deduplication key
	dedupForDefault = 7 * 24 * time.Hour
)

// withDefaults fills zero fields and reports every bad one.
func (c Config) withDefaults() (Config, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Codec == nil {
		c.Codec = JSON{}
	}
	c.MaxBody = orDefault(c.MaxBody, 256<<10)
	c.Keep = orDefault(c.Keep, 7*24*time.Hour)
	c.StopTimeout = orDefault(c.StopTimeout, 10*time.Second)
	err := errors.Join(
		within("Config.MaxBody", c.MaxBody, 1, maxBodyLimit),
		within("Config.Keep", c.Keep, time.Minute, 10*365*24*time.Hour),
		within("Config.StopTimeout", c.StopTimeout, time.Millisecond, time.Hour),
	)
	seen := map[string]bool{}
	for _, name := range c.Owns {
		if !validBoundary.MatchString(name) || len(name) > 100 {
			err = errors.Join(err, fmt.Errorf("weir: Config.Owns has %q, want a boundary's name of lower-case letters, digits and hyphens, such as kitchen", name))
		}
		if seen[name] {
			err = errors.Join(err, fmt.Errorf("weir: Config.Owns has %q twice", name))
		}
		seen[name] = true
	}
	return c, errors.Join(err, c.checkExchange())
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func within[T int | time.Duration | float64](name string, v, low, high T) error {
	if v < low || v > high {
		return fmt.Errorf("weir: %s is %v, want %v to %v", name, v, low, high)
	}
	return nil
}

// HandleOption configures a queue: [Queue], [FromNow], [FromEarliest].
type HandleOption interface{ applyHandle(*handling) }

// handling is what the options of one registration add up to.
type handling struct {
	queue Queue
	from  from
}

// Queue is how a handler's queue is worked and bounded. Zero fields mean the default.
type Queue struct {
	// Concurrency is how many messages are worked at once in this process. Default 8, 1 to 10,000.
	Concurrency int
	// Capacity is how many messages the queue holds (waiting, in work and deferred)
	// before it refuses sends from outside with a [*FullError]. Default 100,000; -1 is
	// unbounded. A subscriber's queue refuses its publisher only if Required.
	Capacity int
	// Retry is the policy for errors.
	Retry Retry
	// Timeout cancels one attempt's context. Default 1 min, 1 ms to 24 h. A handler that
	// goes on for 5 s after that is written off: its attempt has failed, whatever it does.
	Timeout time.Duration
	// OnDead says what a dead message means for later ones of its key. Default [Block].
	OnDead OnDead
	// Required makes a subscriber's full queue refuse the publisher.
	Required bool
	// MaxLag parks a subscriber that is not Required when more messages than that
	// wait for it: it stops, no longer holds back retention, and goes on, with what
	// it missed counted as a gap, when it is resumed; it is parked again when its lag has
	// grown by as much once more. Default 0: never.
	MaxLag int
}

func (q Queue) applyHandle(h *handling) { h.queue = q }

// Retry is a policy of exponential backoff with full jitter: before attempt n+1 a
// random time up to Base·2^(n-1), but not above Cap (AWS Architecture Blog,
// "Exponential Backoff And Jitter", 2015).
type Retry struct {
	Max     int           // attempts in all. Default 20, 1 to 10,000; 1 never retries
	Base    time.Duration // Default 1 s, 1 ms to 1 h
	Cap     time.Duration // Default 10 min, Base to 7 days
	Elapsed time.Duration // since the first attempt began, after which no further one is made. Default 0: no limit
}

// OnDead is a queue's policy for the later messages of a dead message's key.
type OnDead int

const (
	Block OnDead = iota // the key waits until a person has retried or discarded the dead message
	Park                // later messages of the key join it among the dead and are retried with it, in order
	Skip                // later messages of the key go on
)

type from int

const (
	FromNow      from = iota // a new subscription begins with the next event
	FromEarliest             // a new subscription begins with the earliest event kept
)

func (f from) applyHandle(h *handling) { h.from = f }

// settings checks a registration's options and turns them into the engine's terms.
func (h handling) settings(name string) (engine.Settings, error) {
	q := h.queue
	q.Concurrency = orDefault(q.Concurrency, 8)
	q.Capacity = orDefault(q.Capacity, 100_000)
	q.Timeout = orDefault(q.Timeout, time.Minute)
	q.Retry = q.Retry.orDefaults()
	err := errors.Join(
		within(name+": Queue.Concurrency", q.Concurrency, 1, 10_000),
		within(name+": Queue.Capacity", q.Capacity, -1, 1<<31),
		within(name+": Queue.Timeout", q.Timeout, time.Millisecond, 24*time.Hour),
		within(name+": Queue.OnDead", int(q.OnDead), int(Block), int(Skip)),
		within(name+": Queue.MaxLag", q.MaxLag, 0, 1<<31),
		q.Retry.check(name),
	)
	if q.Required && q.MaxLag > 0 {
		err = errors.Join(err, fmt.Errorf("weir: %s: Queue.MaxLag is for subscribers that are not Required", name))
	}
	return engine.Settings{
		Concurrency: q.Concurrency,
		Timeout:     q.Timeout,
		Retry:       q.Retry.core(),
	}, err
}

func (r Retry) orDefaults() Retry {
	r.Max = orDefault(r.Max, 20)
	r.Base = orDefault(r.Base, time.Second)
	r.Cap = orDefault(r.Cap, max(10*time.Minute, r.Base))
	return r
}

func (r Retry) check(name string) error {
	if r.sound() {
		return nil
	}
	return errors.Join(
		within(name+": Retry.Max", r.Max, 1, retryMost),
		within(name+": Retry.Base", r.Base, time.Millisecond, time.Hour),
		within(name+": Retry.Cap", r.Cap, r.Base, 7*24*time.Hour),
		within(name+": Retry.Elapsed", r.Elapsed, 0, 365*24*time.Hour),
	)
}

func (r Retry) sound() bool {
	return inside(r.Max, 1, retryMost) && inside(r.Base, time.Millisecond, time.Hour) &&
		inside(r.Cap, r.Base, 7*24*time.Hour) && inside(r.Elapsed, 0, 365*24*time.Hour)
}

const retryMost = 10_000

func (r Retry) core() engine.Retry {
	return engine.Retry{Max: r.Max, Base: r.Base, Cap: r.Cap, Elapsed: r.Elapsed}
}
