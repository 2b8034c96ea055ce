package weir_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
	"github.com/weir-go/weir/store/sqlite"
)

func TestSentMessageIsHandledAsItWasSent(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	got := make(chan *weir.Message[ticket], 1)
	weir.Handle(e, prepare, into(got))
	run(t, e)
	before := time.Now().Truncate(time.Microsecond)
	headers := weir.Headers{"tenant": "north", "note": "żółć \x00 \"quoted\""}
	if err := weir.Send(t.Context(), e, prepare, ticket{"terrace", 7}, headers, weir.Headers{"more": "yes"}); err != nil {
		t.Fatal(err)
	}
	m := receive(t, got)
	if m.Body != (ticket{"terrace", 7}) || m.Key != "terrace" || m.Name != prepare.Name() || m.Attempt != 1 {
		t.Errorf("handled %+v key %q name %q attempt %d", m.Body, m.Key, m.Name, m.Attempt)
	}
	if m.ID == "" || m.Cause != "" || m.Correlation != m.ID {
		t.Errorf("ID %q, Cause %q, Correlation %q, want a root: no cause, correlated with itself", m.ID, m.Cause, m.Correlation)
	}
	if m.SentAt.Before(before) || m.SentAt.After(time.Now()) {
		t.Errorf("SentAt = %v, want between the send and now", m.SentAt)
	}
	if len(m.Headers) != 3 || m.Headers["note"] != headers["note"] || m.Headers["more"] != "yes" {
		t.Errorf("Headers = %q, want those of both options", m.Headers)
	}
}

func TestKeyOptionOverridesTheContract(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	got := make(chan *weir.Message[ticket], 3)
	weir.Handle(e, prepare, into(got), weir.Queue{Concurrency: 1})
	for _, o := range [][]weir.SendOption{{weir.Key("other")}, {weir.Key("")}, {}} {
		if err := weir.Send(t.Context(), e, prepare, ticket{Table: "terrace"}, o...); err != nil {
			t.Fatal(err)
		}
	}
	run(t, e)
	for _, want := range []string{"other", "", "terrace"} {
		if m := receive(t, got); m.Key != want {
			t.Errorf("Key = %q, want %q", m.Key, want)
		}
	}
}

func TestSendRefusesWhatNobodyHereOwns(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{Owns: []string{"kitchen"}})
	bill := weir.NewCommand[ticket]("billing.bill")
	billed := weir.NewEvent[ticket]("billing.billed")
	for what, err := range map[string]error{
		"Send":    weir.Send(t.Context(), e, bill, ticket{}),
		"SendAll": weir.SendAll(t.Context(), e, bill, tickets("terrace", 2)),
		"Publish": weir.Publish(t.Context(), e, billed, ticket{}),
	} {
		if err == nil || !strings.Contains(err.Error(), `"billing"`) || !strings.Contains(err.Error(), "Config.Owns") {
			t.Errorf("%s to a boundary nobody here owns = %v, want an error that names it and what to do", what, err)
		}
	}
	if err := weir.Publish(t.Context(), e, cook.Reply(), plate{}); err == nil || !strings.Contains(err.Error(), "reply") {
		t.Errorf("Publish of a reply = %v, want an error", err)
	}
	if list, err := e.Messages(t.Context(), weir.MessageQuery{}); len(list) != 0 || err != nil {
		t.Errorf("after refused sends Messages = %d messages, %v, want none", len(list), err)
	}
}

func TestSendLimits(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{MaxBody: 100})
	text := weir.NewCommand[string]("kitchen.text")
	body := func(n int) string { return strings.Repeat("x", n-2) } // and two quotes
	header := func(n int) weir.Headers { return weir.Headers{"k": strings.Repeat("x", n-len(`{"k":""}`))} }
	long := strings.Repeat("k", 513)
	send := func(body string, o ...weir.SendOption) error { return weir.Send(t.Context(), e, text, body, o...) }
	for _, c := range []struct {
		name string
		err  error
		want string // in the error; empty: accepted
	}{
		{"largest body", send(body(100)), ""},
		{"larger body", send(body(101)), "body is 101 bytes encoded, want at most 100"},
		{"most headers", send("", header(8<<10)), ""},
		{"more headers", send("", header(8<<10+1)), "headers are 8193 bytes encoded, want at most 8192"},
		{"longest key", send("", weir.Key(long[:512])), ""},
		{"longer key", send("", weir.Key(long)), "key is 513 bytes, want at most 512"},
		{"longest deduplication key", send("", weir.Dedup(long[:512])), ""},
		{"longer deduplication key", send("", weir.Dedup(long)), "deduplication key is 513 bytes, want at most 512"},
		{"negative delay", send("", weir.Delay(-1)), "Delay is -1ns, want 0 to 10 years"},
		{"longest delay", send("", weir.Delay(10*365*24*time.Hour)), ""},
		{"longer delay", send("", weir.Delay(10*365*24*time.Hour+1)), "want 0 to 10 years"},
		{"latest time", send("", weir.At(time.Now().Add(10*365*24*time.Hour))), ""},
		{"later time", send("", weir.At(time.Now().Add(10*365*24*time.Hour+time.Hour))), "At is"},
		{"a time beyond all clocks", send("", weir.At(time.Unix(1<<60, 0))), "At is"},
		{"most messages", weir.SendAll(t.Context(), e, text, make([]string, 10_000)), ""},
		{"more messages", weir.SendAll(t.Context(), e, text, make([]string, 10_001)), "10001 messages in one call, want at most 10000"},
		{"Dedup for many", weir.SendAll(t.Context(), e, text, make([]string, 2), weir.Dedup("k")), "Dedup is for one message, not 2"},
		{"what cannot be encoded", weir.Send(t.Context(), e, weir.NewCommand[chan int]("kitchen.channel"), make(chan int)), "encode body"},
		{"nothing", weir.SendAll(t.Context(), e, text, nil), ""},
	} {
		switch {
		case c.want == "" && c.err != nil:
			t.Errorf("%s: %v, want accepted", c.name, c.err)
		case c.want != "" && (c.err == nil || !strings.Contains(c.err.Error(), c.want)):
			t.Errorf("%s: %v, want an error with %q", c.name, c.err, c.want)
		}
	}
	if got := figures(t, e, text.Name()).Depth; got != 10_006 {
		t.Errorf("Depth = %d, want 10006: what was refused left nothing", got)
	}
}

func TestDefaultBodyLimit(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	text := weir.NewCommand[string]("kitchen.text")
	if err := weir.Send(t.Context(), e, text, strings.Repeat("x", 256<<10-2)); err != nil {
		t.Errorf("Send of 256 KiB = %v, want nil", err)
	}
	if err := weir.Send(t.Context(), e, text, strings.Repeat("x", 256<<10-1)); err == nil {
		t.Error("Send of 256 KiB + 1 = nil, want an error")
	}
}

func TestSendAllIsAllOrNothing(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{MaxBody: 100})
	got := make(chan *weir.Message[string], 3)
	text := weir.NewCommand[string]("kitchen.text")
	weir.Handle(e, text, into(got), weir.Queue{Concurrency: 1})
	if err := weir.SendAll(t.Context(), e, text, []string{"a", strings.Repeat("x", 200), "c"}); err == nil {
		t.Error("SendAll with one body too large = nil, want an error")
	}
	if err := weir.SendAll(t.Context(), e, text, []string{"d", "e", "f"}); err != nil {
		t.Fatal(err)
	}
	run(t, e)
	for _, want := range []string{"d", "e", "f"} {
		if m := receive(t, got); m.Body != want {
			t.Errorf("handled %q, want %q: the first call left nothing, the second all in order", m.Body, want)
		}
	}
}

func TestDedup(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error { return nil })
	send := func(c weir.Command[ticket, weir.None], n int, key string) error {
		return weir.Send(t.Context(), e, c, ticket{N: n}, weir.Dedup(key))
	}
	if err := errors.Join(send(clean, 1, "order-1"), send(clean, 1, "order-1"), send(clean, 2, "order-2")); err != nil {
		t.Fatalf("repeated sends = %v, want nil", err)
	}
	if err := send(prepare, 9, "order-1"); err != nil {
		t.Errorf("the same key for another contract = %v, want nil", err)
	}
	first := lastMessage(t, e, clean.Name(), 1)
	err := send(clean, 3, "order-1")
	dup, ok := errors.AsType[*weir.DuplicateError](err)
	if !ok || dup.Topic != clean.Name() || dup.Key != "order-1" || dup.ID != first.ID {
		t.Errorf("the same key with another body = %v, want a *DuplicateError that names %s", err, first.ID)
	}
	run(t, e)
	emptied(t, e, clean.Name())
	if err := send(clean, 1, "order-1"); err != nil {
		t.Errorf("a repeat after the message was done = %v, want nil", err)
	}
	if list, err := e.Messages(t.Context(), weir.MessageQuery{Topic: clean.Name()}); err != nil || len(list) != 2 {
		t.Errorf("Messages = %d, %v, want 2: order-1 and order-2 once each", len(list), err)
	}
}

// lastMessage is the nth newest message of a topic, from 0.
func lastMessage(t testing.TB, e *weir.Engine, topic string, n int) weir.MessageRow {
	t.Helper()
	list, err := e.Messages(context.Background(), weir.MessageQuery{Topic: topic})
	if err != nil || len(list) <= n {
		t.Fatalf("Messages(%s) = %d messages, %v, want more than %d", topic, len(list), err, n)
	}
	return list[n]
}

func TestDedupHoldsAmongConcurrentSenders(t *testing.T) {
	file := newFile(t)
	one, other := openEngine(t, file, weir.Config{}), openEngine(t, file, weir.Config{})
	var senders sync.WaitGroup
	for i := range 32 {
		senders.Go(func() {
			e := []*weir.Engine{one, other}[i%2]
			if err := weir.Send(t.Context(), e, clean, ticket{N: i % 4}, weir.Dedup(fmt.Sprint("order-", i%4))); err != nil {
				t.Errorf("Send = %v", err)
			}
		})
	}
	senders.Wait()
	if got := figures(t, one, clean.Name()).Depth; got != 4 {
		t.Errorf("Depth = %d after 32 sends of 4 keys from two engines, want 4", got)
	}
}

func TestDelayedMessageIsNotEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // so that the sends take no time
		e := openEngine(t, newFile(t), weir.Config{})
		type handled struct {
			n  int
			at time.Time
		}
		got := make(chan handled, 3)
		weir.Handle(e, prepare, func(_ context.Context, m *weir.Message[ticket]) error {
			got <- handled{m.Body.N, time.Now()}
			return nil
		})
		stop := run(t, e)
		start := time.Now()
		due := start.Add(60 * time.Millisecond)
		for n, o := range []weir.SendOption{weir.Delay(50 * time.Millisecond), weir.At(due), weir.At(start.Add(-time.Hour))} {
			if err := weir.Send(t.Context(), e, prepare, ticket{"terrace", n}, o); err != nil {
				t.Fatal(err)
			}
		}
		// All of one key: who is delayed does not hold back the others.
		for _, want := range []int{2, 0, 1} {
			h := receive(t, got)
			if h.n != want {
				t.Errorf("handled %d, want %d", h.n, want)
			}
			if notBefore := []time.Time{start.Add(50 * time.Millisecond), due, start}[h.n]; h.at.Before(notBefore) {
				t.Errorf("message %d came %s early", h.n, notBefore.Sub(h.at))
			}
		}
		stop()
	})
}

func TestDelaySurvivesARestart(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	at, marked := make(chan time.Time, 2), make(chan struct{}, 1)
	open := func() *weir.Engine {
		e := openEngine(t, file, weir.Config{})
		weir.Handle(e, clean, func(_ context.Context, m *weir.Message[ticket]) error {
			if m.Body.N == 0 {
				marked <- struct{}{}
				return nil
			}
			at <- time.Now()
			return nil
		})
		return e
	}
	first := open()
	due := time.Now().Add(300 * time.Millisecond)
	if err := weir.Send(t.Context(), first, clean, ticket{N: 1}, weir.At(due)); err != nil {
		t.Fatal(err)
	}
	send(t, first, clean, ticket{N: 0})
	stop := run(t, first)
	receive(t, marked) // so the one before it is claimed, and put off
	stop()
	second := open()
	run(t, second)
	if got := receive(t, at); got.Before(due) {
		t.Errorf("came %s early", due.Sub(got))
	}
	emptied(t, second, clean.Name())
	if len(at) != 0 {
		t.Error("came twice")
	}
}

// A command causes an event, that causes a command, that is answered with a reply.
func TestCauseAndCorrelationFollowTheConversation(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	commands, events := make(chan *weir.Message[ticket], 2), make(chan *weir.Message[plate], 2)
	weir.Handle(e, prepare, func(ctx context.Context, m *weir.Message[ticket]) error {
		commands <- m
		return weir.Publish(ctx, m, ready, plate(m.Body))
	})
	weir.Subscribe(e, ready, "staff.bring", func(ctx context.Context, m *weir.Message[plate]) error {
		events <- m
		return weir.Send(ctx, m, cook, ticket(m.Body))
	}, weir.FromEarliest)
	weir.Answer(e, cook, func(_ context.Context, m *weir.Message[ticket]) (plate, error) {
		commands <- m
		return plate(m.Body), nil
	})
	weir.Subscribe(e, cook.Reply(), "staff.cooked", into(events), weir.FromEarliest)
	run(t, e)
	send(t, e, prepare, ticket{"terrace", 1})
	root, event, request, reply := receive(t, commands), receive(t, events), receive(t, commands), receive(t, events)
	if root.Cause != "" || event.Cause != root.ID || request.Cause != event.ID || reply.Cause != request.ID {
		t.Errorf("causes %q, %q, %q, %q of %s, %s, %s, %s: want each its sender",
			root.Cause, event.Cause, request.Cause, reply.Cause, root.ID, event.ID, request.ID, reply.ID)
	}
	if slices.ContainsFunc([]string{root.Correlation, event.Correlation, request.Correlation, reply.Correlation},
		func(c string) bool { return c != root.ID }) {
		t.Errorf("correlations %q, %q, %q, %q: want all %q", root.Correlation, event.Correlation, request.Correlation, reply.Correlation, root.ID)
	}
	if reply.Name != cook.Name()+".reply" || reply.Key != "terrace" {
		t.Errorf("the reply is %s with key %q, want %s with its request's key", reply.Name, reply.Key, cook.Name()+".reply")
	}
	emptied(t, e, "staff.cooked")
	story, err := e.Trace(t.Context(), "terrace", 100)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range story {
		names = append(names, m.Topic)
		if len(m.Queues) != 1 || m.Queues[0].State != "done" {
			t.Errorf("Trace says of %s: %+v, want done in its queue", m.Topic, m.Queues)
		}
	}
	if want := []string{prepare.Name(), ready.Name(), cook.Name(), cook.Name() + ".reply"}; !slices.Equal(names, want) {
		t.Errorf("Trace = %q, want %q", names, want)
	}
}

func TestSendEndsWithItsContext(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := weir.Send(ctx, e, clean, ticket{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Send with a cancelled context = %v, want context.Canceled", err)
	}
	if list, err := e.Messages(t.Context(), weir.MessageQuery{}); len(list) != 0 || err != nil {
		t.Errorf("Messages = %d, %v, want none", len(list), err)
	}
}

func TestClosedEngineRefuses(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error { return nil })
	run(t, e)()
	if err := errors.Join(e.Close(), e.Close()); err != nil {
		t.Errorf("Close twice = %v, want nil", err)
	}
	if err := weir.Send(t.Context(), e, clean, ticket{}); !errors.Is(err, weir.ErrClosed) {
		t.Errorf("Send on a closed engine = %v, want ErrClosed", err)
	}
	if _, err := e.Queues(t.Context(), 0); !errors.Is(err, weir.ErrClosed) {
		t.Errorf("Queues on a closed engine = %v, want ErrClosed", err)
	}
}

// Two engines on a file are what two processes are: one works it, the other only sends.
func TestOtherProcessesMaySend(t *testing.T) {
	file := newFile(t)
	worker, sender := openEngine(t, file, weir.Config{}), openEngine(t, file, weir.Config{})
	got := make(chan *weir.Message[ticket], 100)
	weir.Handle(worker, clean, into(got))
	run(t, worker)
	send(t, worker, clean, ticket{N: 1000})
	receive(t, got) // it runs
	seen := map[int]bool{}
	for n := range 100 {
		send(t, sender, clean, ticket{N: n})
		if n%10 == 9 {
			for range 10 {
				seen[receive(t, got).Body.N] = true
			}
		}
	}
	if len(seen) != 100 {
		t.Errorf("%d different messages handled, want all 100", len(seen))
	}
}

// A program that mixes up names gets an error; the engine beside it goes on.
func TestNameUsedForSomethingElseIsRefusedAndHarmless(t *testing.T) {
	file := newFile(t)
	e := openEngine(t, file, weir.Config{})
	got := make(chan *weir.Message[plate], 2)
	weir.Subscribe(e, ready, "staff.bring", into(got), weir.FromEarliest)
	running(t, e, "staff.bring")
	db := openTable(t, file, effects)
	in := func(send func(weir.Sender) error) error {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			return err
		}
		return errors.Join(send(e.In(sqlite.Tx(tx))), tx.Commit())
	}
	if err := weir.Publish(t.Context(), e, ready, plate{N: 1}); err != nil {
		t.Fatal(err)
	}
	event := func(s weir.Sender) error {
		return weir.Send(t.Context(), s, weir.NewCommand[ticket](ready.Name()), ticket{})
	}
	subscriber := func(s weir.Sender) error {
		return weir.Send(t.Context(), s, weir.NewCommand[ticket]("staff.bring"), ticket{})
	}
	for what, err := range map[string]error{
		"a command with an event's name":                       event(e),
		"a command with a subscriber's name":                   subscriber(e),
		"a command with an event's name, in a transaction":     in(event),
		"a command with a subscriber's name, in a transaction": in(subscriber),
	} {
		if err == nil {
			t.Errorf("Send of %s = nil, want an error", what)
		}
	}
	if err := weir.Publish(t.Context(), e, ready, plate{N: 2}); err != nil {
		t.Errorf("Publish after that = %v, want nil", err)
	}
	for range 2 {
		receive(t, got)
	}
}

func TestHandlerThatSendsUnderAWrongNameFailsAlone(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	got := make(chan *weir.Message[plate], 1)
	weir.Subscribe(e, ready, "staff.bring", into(got), weir.FromEarliest)
	weir.Handle(e, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
		if m.Body.N == 1 {
			return weir.Send(ctx, m, weir.NewCommand[ticket]("staff.bring"), ticket{})
		}
		return weir.Publish(ctx, m, ready, plate{N: 2})
	}, weir.Queue{Retry: quick})
	send(t, e, clean, tickets("", 2)...)
	run(t, e)
	receive(t, got)
	if dead := deadLetters(t, e, clean.Name(), 1)[0]; dead.Attempts != quick.Max || !strings.Contains(dead.Reason, "staff.bring") {
		t.Errorf("dead for %q after %d attempts, want the name after %d", dead.Reason, dead.Attempts, quick.Max)
	}
}
