package many

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// hostile are texts that some database, driver or program has stumbled over.
var hostile = map[string]string{
	"NUL":             "a\x00b",
	"invalid UTF-8":   "\xff\xfe",
	"half a letter":   "caf\xc3",
	"a surrogate":     "\xed\xa0\x80",
	"turned around":   "\u202e" + "txt.exe",
	"an SQL text":     `'; drop schema weir cascade; --`,
	"a pattern":       `%_\%`,
	"line and escape": "a\r\n\x1b[2J",
	"not a character": "\U0010ffff\ufffe",
}

var (
	hostileSignal = weir.NewSignal[string]("house.hostile-signal")
	hostileEvent  = weir.NewEvent[task]("house.hostile-event")
	hostileAsk    = weir.NewRequest[task, task]("house.hostile-ask")
	hostileChild  = weir.NewWorkflow[task, weir.None]("house.hostile-child")
	hostileFlow   = weir.NewWorkflow[task, weir.None]("house.hostile-flow")
	hostileWork   = weir.NewCommand[task]("house.hostile-work")
	hostileEntity = weir.NewEntity[task]("house.hostile-thing")
)

// hostileSteps are what a run may do with a text.
var hostileSteps = map[string]func(r *weir.Run, text string) error{
	"step's name":       func(r *weir.Run, text string) error { return weir.Do(r, text, nothing) },
	"step's key":        func(r *weir.Run, text string) error { return weir.Do(r, "a", nothing, weir.Key(text)) },
	"step's headers":    func(r *weir.Run, text string) error { return weir.Do(r, "a", nothing, weir.Headers{text: text}) },
	"step's error":      func(r *weir.Run, text string) error { return weir.Do(r, "a", fails(text), weir.Retry{Max: 1}) },
	"step's last error": func(r *weir.Run, text string) error { return weir.Do(r, "a", fails(text), weir.FailIf(errHostile)) },
	"step's panic": func(r *weir.Run, text string) error {
		return weir.Do(r, "a", func(context.Context) error { panic(text) }, weir.Retry{Max: 1})
	},
	"omission": func(r *weir.Run, text string) error { weir.Try(r, "a", fails(text), weir.Retry{Max: 1}); return nil },
	"compensation": func(r *weir.Run, text string) error {
		weir.Compensate(r, text, nothing)
		return errors.New(text)
	},
	"once": func(r *weir.Run, text string) error {
		_, err := weir.Once[string](r, "a", func(context.Context) (string, error) { return text, errors.New(text) }, nil, weir.FailIf(errHostile))
		return err
	},
	"result": func(r *weir.Run, text string) error {
		_, err := weir.Step(r, "a", func(context.Context) (map[string]string, error) { return map[string]string{text: text}, nil })
		return err
	},
	"run's error": func(_ *weir.Run, text string) error { return errors.New(text) },
	"run's panic": func(_ *weir.Run, text string) error { panic(text) },
	"branch": func(r *weir.Run, text string) error {
		return weir.All(r, "all", weir.Branch{Name: text, Do: func(r *weir.Run) error { return weir.Do(r, "a", nothing) }})
	},
	"lock": func(r *weir.Run, text string) error {
		return weir.Locked(r, text, func(r *weir.Run, _ int64) error { return weir.Do(r, "a", nothing) })
	},
	"condition": func(r *weir.Run, text string) error {
		return weir.Until(r, "a", func(context.Context) (weir.Met, error) { return weir.When(false, "%s", text), nil }, weir.Within(20*time.Millisecond))
	},
	"condition's error": func(r *weir.Run, text string) error {
		return weir.Until(r, "a", func(context.Context) (weir.Met, error) { return weir.Met{}, weir.Permanent(errors.New(text)) })
	},
	"event waited for": func(r *weir.Run, text string) error {
		_, err := weir.WaitFor(r, "a", hostileEvent.For(text), weir.Within(20*time.Millisecond))
		return err
	},
	"event to wake": func(r *weir.Run, text string) error {
		return weir.Until(r, "a", func(context.Context) (weir.Met, error) { return weir.When(false, ""), nil },
			weir.WakeOn(hostileEvent.For(text)), weir.Within(20*time.Millisecond))
	},
	"question's key": func(r *weir.Run, text string) error {
		_, err := weir.Ask(r, "a", hostileAsk, task{Name: text}, weir.Key(text), weir.Within(time.Second))
		return err
	},
	"child": func(r *weir.Run, text string) error {
		_, err := weir.Call(r, "a", hostileChild, task{Name: text}, weir.Key(text))
		return err
	},
	"send": func(r *weir.Run, text string) error {
		return weir.Send(r.Context(), r, chore, task{Name: text}, weir.Key(text), weir.Headers{text: text})
	},
	"deduplicated send": func(r *weir.Run, text string) error {
		return weir.Send(r.Context(), r, chore, task{Name: text}, weir.Dedup("run "+text))
	},
}

var errHostile = errors.New("hostile")

func nothing(context.Context) error { return nil }

func fails(text string) func(context.Context) error {
	return func(context.Context) error { return fmt.Errorf("%s: %w", text, errHostile) }
}

// handleHostile does what the message's key names.
func handleHostile(ctx context.Context, m *weir.Message[task]) error {
	text := m.Headers["text"]
	switch what := m.Body.Name; what {
	case "error":
		return errors.New(text)
	case "permanent":
		return weir.Permanent(errors.New(text))
	case "panic":
		panic(text)
	case "not yet":
		if m.Headers["seen"] == "" && m.Attempt == 1 && time.Since(m.SentAt) < 50*time.Millisecond {
			return weir.NotYet(text, time.Millisecond)
		}
		return nil
	case "send":
		return weir.Send(ctx, m, chore, task{}, weir.Key(text), weir.Dedup("handler "+text), weir.Headers{text: text})
	case "publish":
		return weir.Publish(ctx, m, hostileEvent, task{}, weir.Key(text))
	case "start":
		_, err := weir.Start(ctx, m, hostileChild, text, task{})
		return err
	case "closure":
		m.OnCommit(func(context.Context, weir.Tx) error { return errors.New(text) })
	}
	return nil
}

// Whatever text comes in by whatever entry, it is refused there, or kept and worked, and what it is
// about ends, or is with a person. The engine works on, and people can look at all of it: no text stops anything else.
func TestHostileTexts(t *testing.T) {
	t.Parallel()
	onEachStore(t, hostileStore)
}

func hostileStore(t *testing.T, open store.Opener) {
	eng, err := weir.Open(t.Context(), open, weir.Config{Owns: []string{"house"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	few := weir.Queue{Retry: weir.Retry{Max: 2, Base: time.Millisecond, Cap: time.Millisecond}}
	worked := make(chan string, 10_000)
	weir.Handle(eng, chore, func(_ context.Context, m *weir.Message[task]) error {
		worked <- m.Body.Name
		return nil
	})
	weir.Handle(eng, hostileWork, handleHostile, few)
	weir.Answer(eng, hostileAsk, func(_ context.Context, m *weir.Message[task]) (task, error) { return m.Body, nil })
	weir.Register(eng, hostileChild, func(*weir.Run, task) (weir.None, error) { return weir.None{}, nil })
	weir.Register(eng, hostileFlow, func(r *weir.Run, in task) (weir.None, error) {
		return weir.None{}, hostileSteps[in.Name](r, hostile[in.Key])
	})
	thing := weir.Own(eng, hostileEntity)
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- eng.Run(ctx) }()
	defer func() {
		stop()
		if err := <-over; err != nil {
			t.Errorf("Run() = %v, want nil: some text has stopped it", err)
		}
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
	}()
	<-eng.Ready()
	for what, text := range hostile {
		hostileEntries(t, eng, thing, text)
		for name := range hostileSteps {
			if _, err := weir.Start(t.Context(), eng, hostileFlow, name+": "+what, task{Name: name, Key: what}); err != nil {
				t.Errorf("Start(%s: %s) = %v, want nil", name, what, err)
			}
		}
		for _, kind := range []string{"error", "permanent", "panic", "not yet", "send", "publish", "start", "closure"} {
			if err := weir.Send(t.Context(), eng, hostileWork, task{Name: kind}, weir.Headers{"text": text}); err != nil {
				t.Errorf("Send(%s: %s) = %v, want nil", kind, what, err)
			}
		}
		hostileQuestions(t, eng, text)
	}
	hostileEnd(t, eng, over)
	const plain = "a plain task"
	if err := weir.Send(t.Context(), eng, chore, task{Name: plain}); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case name := <-worked:
			if name == plain {
				return
			}
		case err := <-over:
			over <- err
			t.Fatalf("Run() = %v before a plain task was worked", err)
		case <-time.After(patience):
			t.Fatal("a plain task is not worked")
		}
	}
}

// accepted are the entries that take any text on both stores; the others may refuse some.
func hostileEntries(t *testing.T, eng *weir.Engine, thing *weir.Owned[task], text string) {
	t.Helper()
	ctx := t.Context()
	start := func(o ...weir.StartOption) error {
		_, err := weir.Start(ctx, eng, hostileChild, text, task{}, o...)
		return err
	}
	for name, err := range map[string]error{
		"a key":               weir.Send(ctx, eng, chore, task{}, weir.Key(text)),
		"a deduplication key": weir.Send(ctx, eng, chore, task{}, weir.Dedup(text)),
		"a run's ID":          start(),
		"headers of a run":    start(weir.Headers{text: text}),
		"a signal's run":      weir.Tell(ctx, eng, hostileSignal, text, text),
		"an event's key":      weir.Publish(ctx, eng, hostileEvent, task{}, weir.Key(text)),
		"an entity's id":      thing.Put(ctx, eng, text, task{Name: text}),
	} {
		if isFatal(err) {
			t.Errorf("%s %q: %v, want nil or a refusal that says what is wrong", name, text, err)
		}
	}
	for name, err := range map[string]error{
		"headers": weir.Send(ctx, eng, chore, task{}, weir.Headers{"a": text, text: "a"}),
		"a body":  weir.Send(ctx, eng, chore, task{Name: text, Key: ""}),
	} {
		if err != nil {
			t.Errorf("%s %q: %v, want nil", name, text, err)
		}
	}
}

// isFatal reports whether an error is the database's own word on a text, or says that it may pass.
func isFatal(err error) bool {
	if err == nil {
		return false
	}
	return errors.Is(err, weir.ErrUnavailable) || errors.Is(err, weir.ErrUnresolved) || strings.Contains(err.Error(), "SQLSTATE")
}

// hostileQuestions asks and acts as people do, with a text in every field.
func hostileQuestions(t *testing.T, eng *weir.Engine, text string) {
	t.Helper()
	ctx, b := t.Context(), weir.Because{By: text, Why: text}
	asked := map[string]error{}
	_, asked["Messages"] = eng.Messages(ctx, weir.MessageQuery{Topic: text, Key: text})
	_, asked["Message"] = eng.Message(ctx, text)
	_, asked["Trace"] = eng.Trace(ctx, text, 10)
	_, asked["Dead"] = eng.Dead(ctx, weir.DeadQuery{Queue: text, Matching: text, ID: text})
	_, asked["Dead matching"] = eng.Dead(ctx, weir.DeadQuery{Matching: text})
	_, asked["Runs"] = eng.Runs(ctx, weir.RunQuery{Workflow: text, IDPrefix: text})
	_, asked["RunStory"] = eng.RunStory(ctx, text, text)
	_, asked["RunStory of any"] = eng.RunStory(ctx, "", text)
	_, asked["State"] = eng.State(ctx, text, text)
	_, asked["States"] = eng.States(ctx, hostileEntity.Name(), text, 10)
	asked["PauseQueue"] = eng.PauseQueue(ctx, text, b)
	asked["PauseQueue of one"] = eng.PauseQueue(ctx, hostileAsk.Name()+".none", b)
	asked["ResumeQueue"] = eng.ResumeQueue(ctx, text, b)
	_, asked["RetryDead"] = eng.RetryDead(ctx, weir.DeadSelection{Queue: text, ID: text}, b)
	_, asked["RetryDead matching"] = eng.RetryDead(ctx, weir.DeadSelection{Queue: hostileWork.Name(), Matching: text, DryRun: true}, b)
	_, asked["EditDead"] = eng.EditDead(ctx, weir.DeadSelection{ID: text}, []byte(text), b)
	_, asked["DiscardDead"] = eng.DiscardDead(ctx, weir.DeadSelection{ID: text}, b)
	asked["CancelRun"] = eng.CancelRun(ctx, weir.RunSelection{Workflow: text, ID: text}, b)
	asked["SettleRun"] = eng.SettleRun(ctx, weir.RunSelection{ID: text, Step: text}, weir.Settled{Value: []byte(text)}, b)
	asked["BreakLock"] = eng.BreakLock(ctx, text, b)
	asked["ForgetLane"] = eng.ForgetLane(ctx, text, b)
	asked["ResyncReplica"] = eng.ResyncReplica(ctx, text, b)
	for name, err := range asked {
		if isFatal(err) {
			t.Errorf("%s(%q) = %v, want an answer or a refusal that says what is wrong", name, text, err)
		}
	}
}

// hostileEnd waits until all is quiet, and wants Check to find nothing wrong, and all to be told.
func hostileEnd(t *testing.T, eng *weir.Engine, over chan error) {
	t.Helper()
	quiet(t, eng, over)
	found, err := eng.Check(t.Context())
	if err != nil {
		t.Errorf("Check() = %v, want nil", err)
	}
	for _, f := range found {
		if !strings.Contains(f.What, "dead letters wait") { // which there are
			t.Errorf("Check() finds %q", f.What)
		}
	}
	hostileStories(t, eng)
}

// hostileStories wants all to be told that there is to tell.
func hostileStories(t *testing.T, eng *weir.Engine) {
	t.Helper()
	ctx := t.Context()
	runs, err := eng.Runs(ctx, weir.RunQuery{Max: 1_000})
	if err != nil || len(runs) < len(hostile)*len(hostileSteps) {
		t.Errorf("Runs() = %d, %v, want %d at least", len(runs), err, len(hostile)*len(hostileSteps))
	}
	for _, r := range runs {
		if _, err := eng.RunStory(ctx, r.Workflow, r.ID); err != nil {
			t.Errorf("RunStory(%s, %q) = %v, want nil", r.Workflow, r.ID, err)
		}
	}
	dead, err := eng.Dead(ctx, weir.DeadQuery{Max: 1_000})
	if err != nil || len(dead) == 0 {
		t.Errorf("Dead() = %d, %v, want some", len(dead), err)
	}
	messages, err := eng.Messages(ctx, weir.MessageQuery{Max: 1_000})
	if err != nil || len(messages) == 0 {
		t.Errorf("Messages() = %d, %v, want some", len(messages), err)
	}
	for _, m := range messages {
		if _, err := eng.Message(ctx, m.ID); err != nil {
			t.Errorf("Message(%q) = %v, want nil", m.ID, err)
		}
	}
	if _, err := eng.Audit(ctx, 1_000); err != nil {
		t.Errorf("Audit() = %v, want nil", err)
	}
}

// quiet waits until all runs have ended or are with a person, and all messages are done or dead.
func quiet(t *testing.T, eng *weir.Engine, over chan error) {
	t.Helper()
	deadline, tick := time.NewTimer(patience), time.NewTicker(20*time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for {
		open := unsettled(t, eng)
		if open == "" {
			return
		}
		select {
		case <-tick.C:
		case err := <-over:
			over <- err
			t.Fatalf("Run() = %v, want it to work on; open: %s", err, open)
		case <-deadline.C:
			t.Fatalf("still open: %s", open)
		}
	}
}

// unsettled is something that is not done yet; "" if all is.
func unsettled(t *testing.T, eng *weir.Engine) string {
	t.Helper()
	runs, err := eng.RunCounts(t.Context())
	if err != nil {
		t.Fatalf("RunCounts() = %v", err)
	}
	for _, c := range runs {
		if c.State == weir.RunReady || c.State == weir.RunRunning || c.State == weir.RunWaiting {
			return fmt.Sprintf("%d runs of %s are %s", c.Count, c.Workflow, c.State)
		}
	}
	queues, err := eng.Queues(t.Context(), 0)
	if err != nil {
		t.Fatalf("Queues() = %v", err)
	}
	for _, q := range queues {
		if q.Depth > 0 {
			return fmt.Sprintf("%d messages of %s", q.Depth, q.Name)
		}
	}
	return ""
}
