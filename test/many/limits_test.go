package many

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store"
)

// One more than a limit is refused at every entry, with the limit or what is wrong in the error, and leaves nothing. What people
// say, and what failures say, is kept as far as there is room for it.
func TestOneMoreThanTheLimit(t *testing.T) {
	t.Parallel()
	onEachStore(t, oneMore)
}

func oneMore(t *testing.T, open store.Opener) {
	const body, key, headers = 256 << 10, 512, 8 << 10
	fill := func(n int) string { return strings.Repeat("x", n) }
	inHandler := make(chan error, 100)
	var thing *weir.Owned[task]
	p := runProgram(t, open, func(eng *weir.Engine) {
		weir.Handle(eng, forward, func(ctx context.Context, m *weir.Message[task]) error {
			_, err := weir.Start(ctx, m, hostileChild, fill(key+1), task{})
			for _, err := range []error{
				weir.Send(ctx, m, chore, task{Name: fill(body)}), weir.Send(ctx, m, chore, task{}, weir.Key(fill(key+1))),
				weir.Publish(ctx, m, hostileEvent, task{Name: fill(body)}), weir.SendAll(ctx, m, chore, make([]task, store.MaxSends+1)), err,
			} {
				inHandler <- err
			}
			return weir.Permanent(nil)
		})
		thing = weir.Own(eng, hostileEntity)
	})
	ctx, eng, b := t.Context(), p.eng, weir.Because{By: "ann", Why: "a test"}
	many := make(map[string]task, 1_001)
	for n := range 1_001 {
		many[strings.Repeat("i", n%50+1)+time.Duration(n).String()] = task{}
	}
	start := func(id string, in task, o ...weir.StartOption) error {
		_, err := weir.Start(ctx, eng, hostileChild, id, in, o...)
		return err
	}
	edit := func() error {
		_, err := eng.EditDead(ctx, weir.DeadSelection{ID: "none"}, []byte(fill(body+1)), b)
		return err
	}
	for name, err := range map[string]error{
		"Send, body":           weir.Send(ctx, eng, chore, task{Name: fill(body)}),
		"Publish, body":        weir.Publish(ctx, eng, hostileEvent, task{Name: fill(body)}),
		"Publish, key":         weir.Publish(ctx, eng, hostileEvent, task{}, weir.Key(fill(key+1))),
		"Publish, headers":     weir.Publish(ctx, eng, hostileEvent, task{}, weir.Headers{"a": fill(headers)}),
		"Tell, body":           weir.Tell(ctx, eng, hostileSignal, "a", fill(body)),
		"Tell, run":            weir.Tell(ctx, eng, hostileSignal, fill(key+1), "a"),
		"Start, ID":            start(fill(key+1), task{}),
		"Start, no ID":         start("", task{}),
		"Start, input":         start("a", task{Name: fill(body)}),
		"Start, headers":       start("a", task{}, weir.Headers{"a": fill(headers)}),
		"Start, delay":         start("a", task{}, weir.Delay(10*365*24*time.Hour+1)),
		"Start, deadline":      start("a", task{}, weir.Deadline(-1)),
		"Put, id":              thing.Put(ctx, eng, fill(key+1), task{}),
		"Put, no id":           thing.Put(ctx, eng, "", task{}),
		"Put, value":           thing.Put(ctx, eng, "a", task{Name: fill(body)}),
		"PutAll":               thing.PutAll(ctx, eng, many),
		"Delete, id":           thing.Delete(ctx, eng, fill(key+1)),
		"EditDead, body":       edit(),
		"SettleRun, value":     eng.SettleRun(ctx, weir.RunSelection{ID: "a"}, weir.Settled{Value: []byte(fill(1<<20 + 1))}, b),
		"Queues, window":       second(eng.Queues(ctx, 24*time.Hour+1)),
		"Locks, max":           second(eng.Locks(ctx, 1_001)),
		"Send, contract":       weir.Send(ctx, eng, weir.NewCommand[task]("house."+fill(195)), task{}),
		"Send, delay":          weir.Send(ctx, eng, chore, task{}, weir.Delay(10*365*24*time.Hour+1)),
		"SendAll":              weir.SendAll(ctx, eng, chore, make([]task, store.MaxSends+1)),
		"Send, deduplication":  weir.Send(ctx, eng, chore, task{}, weir.Dedup(fill(key+1))),
		"PauseQueue, no queue": eng.PauseQueue(ctx, "", b),
	} {
		if err == nil || len(err.Error()) > 2_000 {
			t.Errorf("%s = %.200v, want a refusal of some words", name, err)
		}
	}
	if err := weir.Send(ctx, eng, forward, task{Name: "ask the handler"}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := <-inHandler; err == nil || len(err.Error()) > 2_000 {
			t.Errorf("in a handler = %.200v, want a refusal of some words", err)
		}
	}
	quiet(t, eng, p.over)
	left, err := eng.Messages(ctx, weir.MessageQuery{Max: 100})
	if err != nil || len(left) != 1 {
		t.Errorf("Messages() = %d, %v, want the one that was not refused", len(left), err)
	}
	if runs, err := eng.Runs(ctx, weir.RunQuery{Max: 100}); err != nil || len(runs) != 0 {
		t.Errorf("Runs() = %d, %v, want none", len(runs), err)
	}
	if states, err := eng.States(ctx, hostileEntity.Name(), "", 100); err != nil || len(states) != 0 {
		t.Errorf("States() = %d, %v, want none", len(states), err)
	}
	saysMuch(t, eng, fill(1<<20))
	p.end(false)
}

// saysMuch wants of a long reason what there is room for, or a refusal.
func saysMuch(t *testing.T, eng *weir.Engine, much string) {
	t.Helper()
	_ = eng.PauseQueue(t.Context(), forward.Name(), weir.Because{By: much, Why: much}) // refused, or cut
	audit, err := eng.Audit(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range audit {
		if n := len(row.By) + len(row.Why) + len(row.Target) + len(row.Before) + len(row.After); n > 4*store.MaxReason {
			t.Errorf("a row of the audit has %d bytes, want at most %d", n, 4*store.MaxReason)
		}
	}
}

func second[T any](_ T, err error) error { return err }
