package weir_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
)

func TestEachSubscriberGetsEachEvent(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{})
	const events = 50
	got := map[string]chan *weir.Message[plate]{}
	for _, name := range []string{"staff.bring", "staff.count", "kitchen.log"} {
		got[name] = make(chan *weir.Message[plate], events)
		weir.Subscribe(e, ready, name, into(got[name]), weir.FromEarliest, weir.Queue{Concurrency: 1})
	}
	weir.Subscribe(e, ready, "staff.sulk", func(context.Context, *weir.Message[plate]) error {
		return weir.Permanent(errors.New("no"))
	}, weir.FromEarliest)
	for n := range events {
		if err := weir.Publish(t.Context(), e, ready, plate{N: n}); err != nil {
			t.Fatal(err)
		}
	}
	run(t, e)
	for name, c := range got {
		for n := range events {
			if m := receive(t, c); m.Body.N != n {
				t.Fatalf("%s: event %d, want %d", name, m.Body.N, n)
			}
		}
	}
	deadLetters(t, e, "staff.sulk", events) // and that was nobody else's trouble
	for name := range got {
		emptied(t, e, name)
		if f := figures(t, e, name); f.Dead != 0 {
			t.Errorf("%s has %d dead letters, want none", name, f.Dead)
		}
	}
}

func TestSubscriptionBeginsNowOrAtTheEarliest(t *testing.T) {
	file := newFile(t)
	first := openEngine(t, file, weir.Config{})
	for n := range 3 {
		if err := weir.Publish(t.Context(), first, ready, plate{N: n}); err != nil {
			t.Fatal(err)
		}
	}
	now, earliest := make(chan *weir.Message[plate], 10), make(chan *weir.Message[plate], 10)
	subscribe := func(e *weir.Engine) {
		weir.Subscribe(e, ready, "staff.from-now", into(now), weir.Queue{Concurrency: 1})
		weir.Subscribe(e, ready, "staff.from-earliest", into(earliest), weir.Queue{Concurrency: 1}, weir.FromEarliest)
	}
	subscribe(first)
	stop := run(t, first)
	for n := range 3 {
		if m := receive(t, earliest); m.Body.N != n {
			t.Errorf("from the earliest: event %d, want %d", m.Body.N, n)
		}
	}
	stop()
	// What is published while it does not run is for both: a cursor stays where it is.
	second := openEngine(t, file, weir.Config{})
	if err := weir.Publish(t.Context(), second, ready, plate{N: 3}); err != nil {
		t.Fatal(err)
	}
	subscribe(second)
	run(t, second)
	for name, c := range map[string]chan *weir.Message[plate]{"now": now, "earliest": earliest} {
		if m := receive(t, c); m.Body.N != 3 {
			t.Errorf("from %s: event %d, want 3", name, m.Body.N)
		}
	}
	emptied(t, second, "staff.from-now")
	emptied(t, second, "staff.from-earliest")
	if len(now)+len(earliest) != 0 {
		t.Errorf("%d and %d more events, want none", len(now), len(earliest))
	}
}

func TestWiringFaultsAreReportedAllAtOnce(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{Owns: []string{"kitchen"}})
	nothing := func(context.Context, *weir.Message[ticket]) error { return nil }
	taste := func(context.Context, *weir.Message[plate]) error { return nil }
	weir.Handle(e, weir.NewCommand[ticket]("billing.bill"), nothing)
	weir.Handle(e, prepare, nil)
	weir.Handle(e, clean, nothing)
	weir.Handle(e, clean, nothing)
	weir.Handle(e, weir.NewCommand[ticket]("Bad Name"), nothing)
	weir.Answer[ticket, plate](e, cook, nil)
	weir.Subscribe(e, ready, "staff.bring", taste)
	weir.Subscribe(e, ready, "nodots", taste)
	weir.Subscribe(e, ready, ready.Name(), taste)
	weir.Subscribe(e, weir.NewRequest[ticket, plate]("billing.ask").Reply(), "kitchen.answered", taste)
	weir.Subscribe(e, weir.NewEvent[plate]("staff.left"), "kitchen.hears", taste)
	err := e.Run(t.Context())
	if err == nil {
		t.Fatal("Run = nil, want its faults")
	}
	if n := strings.Count(err.Error(), "billing.bill "); n != 1 {
		t.Errorf("Run = %v\nwant it to tell of billing.bill once, not %d times", err, n)
	}
	for _, want := range []string{
		`billing.bill is handled here, but Config.Owns has no "billing"`,
		"kitchen.prepare-food: the handler is nil",
		"kitchen.clean is registered twice",
		`command name "Bad Name"`,
		"kitchen.cook: the handler is nil",
		`staff.bring is handled here, but Config.Owns has no "staff"`,
		`subscriber name "nodots"`,
		"subscriber kitchen.food-ready: want a name other than the event's",
		`kitchen.answered of billing.ask.reply: nobody knows boundary "billing": add it to Config.Owns if it lives in this store, or to Config.Routes`,
		`kitchen.hears of staff.left: nobody knows boundary "staff"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Run = %v\nwant it to report %q", err, want)
		}
	}
}

func TestBadOptionsAreReportedWithValueAndBound(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error { return nil }, weir.Queue{
		Concurrency: 10_001,
		Capacity:    -2,
		Timeout:     25 * time.Hour,
		OnDead:      3,
		MaxLag:      -1,
		Retry:       weir.Retry{Max: -1, Base: time.Microsecond, Cap: -time.Second, Elapsed: -1},
	})
	weir.Subscribe(e, ready, "staff.bring", func(context.Context, *weir.Message[plate]) error { return nil },
		weir.Queue{Required: true, MaxLag: 5})
	err := e.Run(t.Context())
	if err == nil {
		t.Fatal("Run = nil, want its faults")
	}
	for _, want := range []string{
		"kitchen.clean: Queue.Concurrency is 10001, want 1 to 10000",
		"Queue.Capacity is -2, want -1 to 2147483648",
		"Queue.Timeout is 25h0m0s, want 1ms to 24h0m0s",
		"Queue.OnDead is 3, want 0 to 2",
		"Queue.MaxLag is -1, want 0 to",
		"Retry.Max is -1, want 1 to 10000",
		"Retry.Base is 1µs, want 1ms to 1h0m0s",
		"Retry.Cap is -1s, want 1µs to 168h0m0s",
		"Retry.Elapsed is -1ns, want 0s to",
		"staff.bring: Queue.MaxLag is for subscribers that are not Required",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Run = %v\nwant it to report %q", err, want)
		}
	}
}

func TestBadConfigIsReportedWithValueAndBound(t *testing.T) {
	_, err := weir.Open(t.Context(), nil, weir.Config{
		Owns: []string{"kitchen", "Kitchen", "kitchen", ""}, MaxBody: 1<<20 + 1, Keep: time.Second, StopTimeout: 2 * time.Hour,
	})
	if err == nil {
		t.Fatal("Open = nil, want its faults")
	}
	for _, want := range []string{
		"Config.MaxBody is 1048577, want 1 to 1048576",
		"Config.Keep is 1s, want 1m0s to",
		"Config.StopTimeout is 2h0m0s, want 1ms to 1h0m0s",
		`Config.Owns has "Kitchen", want`,
		`Config.Owns has "kitchen" twice`,
		`Config.Owns has "", want`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Open = %v\nwant it to report %q", err, want)
		}
	}
}

func TestErrorsAreRetriedThenDead(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	var attempts atomic.Int64
	var keys sync.Map
	weir.Handle(e, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
		keys.Store(weir.IdempotencyKey(ctx), true)
		if n := attempts.Add(1); int(n) != m.Attempt {
			t.Errorf("Attempt = %d, want %d", m.Attempt, n)
		}
		return fmt.Errorf("attempt %d failed", m.Attempt)
	}, weir.Queue{Retry: weir.Retry{Max: 4, Base: time.Millisecond, Cap: time.Millisecond}})
	send(t, e, clean, ticket{N: 1})
	run(t, e)
	dead := deadLetters(t, e, clean.Name(), 1)[0]
	if dead.Reason != "attempt 4 failed" || dead.Attempts != 4 || attempts.Load() != 4 {
		t.Errorf("dead for %q after %d attempts of %d runs, want the last error after 4", dead.Reason, dead.Attempts, attempts.Load())
	}
	for i, a := range dead.History {
		verdict := "retry"
		if i == 3 {
			verdict = "dead"
		}
		if a.No != i+1 || a.Verdict != verdict || a.Reason != fmt.Sprintf("attempt %d failed", i+1) || a.Started.IsZero() {
			t.Errorf("history[%d] = %+v, want attempt %d, %s, its error and start", i, a, i+1, verdict)
		}
	}
	if len(dead.History) != 4 {
		t.Errorf("the history has %d attempts, want 4", len(dead.History))
	}
	want := clean.Name() + "/" + dead.Message.ID
	keys.Range(func(k, _ any) bool {
		if k != want {
			t.Errorf("IdempotencyKey = %q, want %q on every attempt", k, want)
		}
		return true
	})
}

func TestSuccessAfterErrors(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	done := make(chan int, 1)
	weir.Handle(e, clean, func(_ context.Context, m *weir.Message[ticket]) error {
		if m.Attempt < 3 {
			return errors.New("not so fast")
		}
		done <- m.Attempt
		return nil
	}, weir.Queue{Retry: quick})
	send(t, e, clean, ticket{N: 1})
	run(t, e)
	if n := receive(t, done); n != 3 {
		t.Errorf("done at attempt %d, want 3", n)
	}
	emptied(t, e, clean.Name())
	story := onlyStory(t, e, clean.Name()).Queues[0]
	var verdicts []string
	for _, a := range story.Attempts {
		verdicts = append(verdicts, a.Verdict)
	}
	if story.State != "done" || !slices.Equal(verdicts, []string{"retry", "retry", "done"}) {
		t.Errorf("the story is %s with %q, want done after two retries", story.State, verdicts)
	}
}

func TestRetryEndsAfterElapsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, newFile(t), weir.Config{})
		weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error { return errors.New("never") },
			weir.Queue{Retry: weir.Retry{Max: 10_000, Base: time.Millisecond, Cap: time.Millisecond, Elapsed: 30 * time.Millisecond}})
		send(t, e, clean, ticket{N: 1})
		run(t, e)
		dead := deadLetters(t, e, clean.Name(), 1)[0]
		if dead.Attempts < 2 {
			t.Errorf("dead after %d attempts, want some within 30 ms", dead.Attempts)
		}
		for _, a := range dead.History {
			if late := a.Due.Sub(dead.History[0].Started); late > 30*time.Millisecond {
				t.Errorf("attempt %d was to follow %s after the first, want 30ms at most", a.No+1, late)
			}
		}
	})
}

func TestPermanentGoesStraightToTheDead(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error {
		return fmt.Errorf("cleaning: %w", weir.Permanent(errors.New("no such table")))
	})
	send(t, e, clean, ticket{N: 1})
	run(t, e)
	if dead := deadLetters(t, e, clean.Name(), 1)[0]; dead.Attempts != 1 || dead.Reason != "cleaning: no such table" {
		t.Errorf("dead for %q after %d attempts, want its error after 1", dead.Reason, dead.Attempts)
	}
	if weir.Permanent(nil) != nil {
		t.Error("Permanent(nil) is not nil")
	}
	cause := errors.New("cause")
	if !errors.Is(weir.Permanent(cause), cause) {
		t.Error("Permanent hides its cause")
	}
}

func TestNotYetIsNoFailure(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	var calls atomic.Int64
	stock, done := make(chan struct{}), make(chan int, 1)
	weir.Handle(e, clean, func(_ context.Context, m *weir.Message[ticket]) error {
		calls.Add(1)
		select {
		case <-stock:
			done <- m.Attempt
			return nil
		default:
			return fmt.Errorf("cleaning: %w", weir.NotYet("need 5 towels, have 2", 2*time.Millisecond))
		}
	}, weir.Queue{Retry: weir.Retry{Max: 1}})
	send(t, e, clean, ticket{N: 1})
	run(t, e)
	eventually(t, "asked five times", func() bool { return calls.Load() >= 5 })
	story := onlyStory(t, e, clean.Name()).Queues[0]
	for _, a := range story.Attempts {
		if a.No != 1 || a.Verdict != "not-yet" || a.Reason != "need 5 towels, have 2" {
			t.Errorf("attempt %+v, want number 1, not-yet, and the reason", a)
		}
	}
	close(stock)
	if n := receive(t, done); n != 1 {
		t.Errorf("done at attempt %d, want 1: NotYet counts none", n)
	}
	emptied(t, e, clean.Name())
	if f := figures(t, e, clean.Name()); f.Dead != 0 {
		t.Errorf("%d dead letters, want none", f.Dead)
	}
}

func TestPanicIsAnErrorWithItsStack(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error { return burn() }, weir.Queue{Retry: quick})
	send(t, e, clean, ticket{N: 1})
	run(t, e)
	dead := deadLetters(t, e, clean.Name(), 1)[0]
	if dead.Attempts != quick.Max || dead.Reason != "panic: the milk burns" {
		t.Errorf("dead for %q after %d attempts, want the panic after %d", dead.Reason, dead.Attempts, quick.Max)
	}
	for _, a := range dead.History {
		if !strings.Contains(a.Stack, "weir_test.burn") {
			t.Errorf("attempt %d has the stack %q, want the function that panicked in it", a.No, a.Stack)
		}
	}
}

func burn() error { panic("the milk burns") }

// A test's FailNow inside a handler ends its goroutine so.
func TestGoexitIsAnError(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	weir.Handle(e, clean, func(_ context.Context, m *weir.Message[ticket]) error {
		if m.Body.N == 0 {
			runtime.Goexit()
		}
		return nil
	}, weir.Queue{Concurrency: 1, Retry: quick})
	send(t, e, clean, ticket{N: 0}, ticket{N: 1})
	run(t, e)
	if dead := deadLetters(t, e, clean.Name(), 1)[0]; dead.Attempts != quick.Max || !strings.Contains(dead.Reason, "Goexit") {
		t.Errorf("dead for %q after %d attempts, want Goexit after %d", dead.Reason, dead.Attempts, quick.Max)
	}
	emptied(t, e, clean.Name())
}

func TestTimeoutCancelsTheContext(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	causes := make(chan error, quick.Max)
	weir.Handle(e, clean, func(ctx context.Context, _ *weir.Message[ticket]) error {
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > 20*time.Millisecond {
			t.Errorf("Deadline = %v, %t, want within the Timeout", deadline, ok)
		}
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return ctx.Err()
	}, weir.Queue{Timeout: 20 * time.Millisecond, Retry: quick})
	send(t, e, clean, ticket{N: 1})
	run(t, e)
	for range quick.Max {
		if cause := receive(t, causes); !errors.Is(cause, weir.ErrTimeout) {
			t.Errorf("the context's cause is %v, want ErrTimeout", cause)
		}
	}
	if dead := deadLetters(t, e, clean.Name(), 1)[0]; dead.Attempts != quick.Max || !strings.Contains(dead.Reason, "deadline exceeded") {
		t.Errorf("dead for %q after %d attempts, want the deadline after %d", dead.Reason, dead.Attempts, quick.Max)
	}
}

// A handler's context is a thin one until it is asked: it must behave like any other.
func TestHandlerContextBehavesLikeAny(t *testing.T) {
	type tenant struct{}
	e := openEngine(t, newFile(t), weir.Config{
		Around: func(ctx context.Context, _ weir.Work, next func(context.Context) error) error {
			return next(context.WithValue(ctx, tenant{}, "north"))
		},
	})
	leaked := make(chan context.Context, 1)
	weir.Handle(e, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
		if ctx.Value(tenant{}) != "north" || weir.IdempotencyKey(ctx) != clean.Name()+"/"+m.ID {
			t.Errorf("values %v and %q, want both", ctx.Value(tenant{}), weir.IdempotencyKey(ctx))
		}
		if ctx.Err() != nil || context.Cause(ctx) != nil {
			t.Errorf("Err = %v, Cause = %v, want nil while it runs", ctx.Err(), context.Cause(ctx))
		}
		child, cancel := context.WithCancelCause(ctx)
		cancel(errors.New("mine"))
		<-child.Done()
		if ctx.Err() != nil {
			t.Errorf("Err = %v after a child was cancelled, want nil", ctx.Err())
		}
		leaked <- ctx
		return nil
	})
	send(t, e, clean, ticket{N: 1})
	run(t, e)
	ctx := receive(t, leaked)
	emptied(t, e, clean.Name())
	receive(t, ctx.Done())
	if ctx.Err() == nil {
		t.Error("Err = nil after the handler has returned, want an error")
	}
}

func TestContextNeverAskedInsideIsDoneOutside(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	leaked := make(chan context.Context, 1)
	weir.Handle(e, clean, func(ctx context.Context, _ *weir.Message[ticket]) error {
		leaked <- ctx
		return nil
	})
	send(t, e, clean, ticket{N: 1})
	run(t, e)
	ctx := receive(t, leaked)
	emptied(t, e, clean.Name())
	receive(t, ctx.Done())
}

func TestHandlerThatIgnoresItsContextIsWrittenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		e := openEngine(t, file, weir.Config{})
		wake, second := make(chan struct{}), make(chan int, 1)
		weir.Handle(e, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
			if m.Attempt > 1 {
				second <- m.Attempt
				return nil
			}
			<-wake // whatever ctx says
			return weir.Publish(ctx, m, ready, plate{N: 13})
		}, weir.Queue{Timeout: time.Millisecond, Retry: quick})
		send(t, e, clean, ticket{N: 1})
		stop := run(t, e)
		if n := receive(t, second); n != 2 {
			t.Errorf("attempt %d after the one written off, want 2", n)
		}
		emptied(t, e, clean.Name())
		close(wake)
		stop() // waits for the late one, and for all that was to be committed
		reader := openEngine(t, file, weir.Config{})
		if list, err := reader.Messages(t.Context(), weir.MessageQuery{Topic: ready.Name()}); err != nil || len(list) != 0 {
			t.Errorf("the late attempt has sent %d messages (%v), want none", len(list), err)
		}
		story := onlyStory(t, reader, clean.Name()).Queues[0]
		if a := story.Attempts; len(a) != 2 || !strings.Contains(a[0].Reason, "written off") || a[1].Verdict != "done" {
			t.Errorf("attempts %+v, want one written off and one done", a)
		}
	})
}

func TestAroundWrapsEachAttempt(t *testing.T) {
	var mu sync.Mutex
	var seen []weir.Work
	e := openEngine(t, newFile(t), weir.Config{
		Around: func(ctx context.Context, w weir.Work, next func(context.Context) error) error {
			mu.Lock()
			seen = append(seen, w)
			mu.Unlock()
			if w.Name == prepare.Name() && w.Attempt == 1 {
				return errors.New("no tenant") // without next
			}
			if err := next(ctx); err != nil {
				return fmt.Errorf("around: %w", err)
			}
			return nil
		},
	})
	handled := make(chan *weir.Message[ticket], 1)
	weir.Handle(e, prepare, into(handled), weir.Queue{Retry: quick})
	weir.Subscribe(e, ready, "staff.bring", func(context.Context, *weir.Message[plate]) error { return errors.New("cold") },
		weir.Queue{Retry: weir.Retry{Max: 1}}, weir.FromEarliest)
	run(t, e)
	send(t, e, prepare, ticket{Table: "terrace"})
	if m := receive(t, handled); m.Attempt != 2 {
		t.Errorf("handled at attempt %d, want 2: Around failed the first", m.Attempt)
	}
	if err := weir.Publish(t.Context(), e, ready, plate{}); err != nil {
		t.Fatal(err)
	}
	dead := deadLetters(t, e, "staff.bring", 1)[0]
	if dead.Reason != "around: cold" {
		t.Errorf("dead for %q, want Around's error", dead.Reason)
	}
	command := lastMessage(t, e, prepare.Name(), 0).ID
	want := []weir.Work{
		{Kind: "command", Queue: prepare.Name(), Name: prepare.Name(), Key: "terrace", ID: command, Attempt: 1},
		{Kind: "command", Queue: prepare.Name(), Name: prepare.Name(), Key: "terrace", ID: command, Attempt: 2},
		{Kind: "event", Queue: "staff.bring", Name: ready.Name(), ID: dead.Message.ID, Attempt: 1},
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(seen, want) {
		t.Errorf("Around saw %+v, want %+v", seen, want)
	}
}

func TestConcurrencyIsReachedAndNotExceeded(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	const limit, messages = 7, 200
	var running, most atomic.Int64
	full := make(chan struct{})
	weir.Handle(e, clean, func(ctx context.Context, _ *weir.Message[ticket]) error {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == limit {
			select {
			case <-full:
			default:
				close(full)
			}
		}
		select { // nobody goes on until all workers are busy
		case <-full:
			runtime.Gosched()
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, weir.Queue{Concurrency: limit})
	if err := weir.SendAll(t.Context(), e, clean, tickets("", messages)); err != nil {
		t.Fatal(err)
	}
	run(t, e)
	receive(t, full)
	emptied(t, e, clean.Name())
	if most.Load() != limit {
		t.Errorf("%d ran at once, want %d", most.Load(), limit)
	}
}

func TestQueuesAreWorkedSideBySide(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{})
	release := make(chan struct{})
	weir.Handle(e, clean, func(ctx context.Context, _ *weir.Message[ticket]) error {
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, weir.Queue{Concurrency: 2})
	got := make(chan *weir.Message[ticket], 100)
	weir.Handle(e, prepare, into(got))
	cooked := make(chan *weir.Message[plate], 100)
	weir.Answer(e, cook, func(_ context.Context, m *weir.Message[ticket]) (plate, error) { return plate(m.Body), nil })
	weir.Subscribe(e, cook.Reply(), "staff.cooked", into(cooked), weir.FromEarliest)
	run(t, e)
	for n := range 100 {
		send(t, e, clean, ticket{N: n})
		send(t, e, prepare, ticket{N: n})
		send(t, e, cook, ticket{N: n})
	}
	for range 100 {
		receive(t, got)
		receive(t, cooked)
	}
	if f := figures(t, e, clean.Name()); f.Depth != 100 {
		t.Errorf("%d messages wait for handlers that wait, want 100", f.Depth)
	}
	close(release)
	emptied(t, e, clean.Name())
}
