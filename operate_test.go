package weir_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
)

func TestPausedQueueWaitsUntilResumed(t *testing.T) {
	t.Parallel()
	for name, operator := range map[string]func(t *testing.T, file string, worker *weir.Engine) *weir.Engine{
		"by its own engine": func(_ *testing.T, _ string, worker *weir.Engine) *weir.Engine { return worker },
		"by another process's": func(t *testing.T, file string, _ *weir.Engine) *weir.Engine {
			return openEngine(t, file, weir.Config{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := newFile(t)
			e := openEngine(t, file, weir.Config{})
			got, beside := make(chan *weir.Message[ticket], 10), make(chan *weir.Message[ticket], 10)
			weir.Handle(e, clean, into(got))
			weir.Handle(e, prepare, into(beside))
			run(t, e)
			send(t, e, clean, ticket{N: 1})
			receive(t, got)
			emptied(t, e, clean.Name())
			operate := operator(t, file, e)
			if err := operate.PauseQueue(t.Context(), clean.Name(), weir.Because{By: "ada", Why: "the mop is broken"}); err != nil {
				t.Fatal(err)
			}
			send(t, e, clean, tickets("", 5)...)
			for n := range 10 { // others go on
				send(t, e, prepare, ticket{N: n})
				receive(t, beside)
			}
			f := figures(t, e, clean.Name())
			if f.Paused == nil || f.Paused.By != "ada" || f.Paused.Why != "the mop is broken" || f.Paused.At.IsZero() {
				t.Errorf("Paused = %+v, want who, when and why", f.Paused)
			}
			if f.Depth != 5 || f.Leased != 0 || len(got) != 0 {
				t.Errorf("Depth = %d, Leased = %d, %d handled while paused, want 5, 0, 0", f.Depth, f.Leased, len(got))
			}
			if err := operate.ResumeQueue(t.Context(), clean.Name(), mended); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				receive(t, got)
			}
			if f := figures(t, e, clean.Name()); f.Paused != nil {
				t.Errorf("Paused = %+v after it was resumed", f.Paused)
			}
		})
	}
}

// A pause also stops what the worker's process has claimed and not begun.
func TestPauseHoldsBackWhatIsClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		e := openEngine(t, file, weir.Config{})
		other := openEngine(t, file, weir.Config{})
		var begun atomic.Int64
		let := make(chan struct{})
		weir.Handle(e, clean, func(ctx context.Context, _ *weir.Message[ticket]) error {
			begun.Add(1)
			select {
			case <-let:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, weir.Queue{Concurrency: 2})
		send(t, e, clean, tickets("", 20)...)
		run(t, e)
		time.Sleep(time.Second)
		if f := figures(t, e, clean.Name()); begun.Load() != 2 || f.Leased <= 2 {
			t.Fatalf("%d begun of %d claimed, want 2 of more", begun.Load(), f.Leased)
		}
		if err := other.PauseQueue(t.Context(), clean.Name(), mended); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		let <- struct{}{}
		let <- struct{}{}
		time.Sleep(time.Second)
		if n := begun.Load(); n != 2 {
			t.Errorf("%d have begun, want only the 2 from before the pause", n)
		}
		if err := other.ResumeQueue(t.Context(), clean.Name(), mended); err != nil {
			t.Fatal(err)
		}
		close(let)
		emptied(t, e, clean.Name())
	})
}

func TestPauseSurvivesARestart(t *testing.T) {
	file := newFile(t)
	first := openEngine(t, file, weir.Config{})
	weir.Handle(first, clean, func(context.Context, *weir.Message[ticket]) error { return nil })
	running(t, first, clean.Name())
	if err := first.PauseQueue(t.Context(), clean.Name(), mended); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := openEngine(t, file, weir.Config{})
	got, beside := make(chan *weir.Message[ticket], 1), make(chan *weir.Message[ticket], 1)
	weir.Handle(second, clean, into(got))
	weir.Handle(second, prepare, into(beside))
	send(t, second, clean, ticket{N: 1})
	send(t, second, prepare, ticket{N: 1})
	run(t, second)
	receive(t, beside)
	if f := figures(t, second, clean.Name()); f.Paused == nil || f.Depth != 1 || len(got) != 0 {
		t.Errorf("after the restart Paused = %v, Depth = %d, want still paused", f.Paused, f.Depth)
	}
	if err := second.ResumeQueue(t.Context(), clean.Name(), mended); err != nil {
		t.Fatal(err)
	}
	receive(t, got)
}

// graveyard has n dead letters of clean, dead for "no soap" and "no water" by turns,
// and a handler that works once it is mended.
func graveyard(t *testing.T, n int) (e *weir.Engine, handled chan *weir.Message[ticket], mend func()) {
	t.Helper()
	e = openEngine(t, newFile(t), weir.Config{})
	handled = make(chan *weir.Message[ticket], n)
	var isMended atomic.Bool
	weir.Handle(e, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
		if isMended.Load() {
			return into(handled)(ctx, m)
		}
		return weir.Permanent(fmt.Errorf("no %s", []string{"soap", "water"}[m.Body.N%2]))
	})
	run(t, e)
	for i := range n {
		send(t, e, clean, ticket{"terrace", i})
	}
	deadLetters(t, e, clean.Name(), n)
	return e, handled, func() { isMended.Store(true) }
}

func TestActsNeedWhoAndWhy(t *testing.T) {
	e, _, _ := graveyard(t, 1)
	id := weir.DeadSelection{ID: lastMessage(t, e, clean.Name(), 0).ID}
	for _, b := range []weir.Because{{}, {By: "ada"}, {Why: "because"}, {By: " ", Why: "\t"}} {
		_, retried := e.RetryDead(t.Context(), id, b)
		_, edited := e.EditDead(t.Context(), id, []byte("{}"), b)
		_, discarded := e.DiscardDead(t.Context(), id, b)
		for what, err := range map[string]error{
			"RetryDead": retried, "EditDead": edited, "DiscardDead": discarded,
			"PauseQueue":  e.PauseQueue(t.Context(), clean.Name(), b),
			"ResumeQueue": e.ResumeQueue(t.Context(), clean.Name(), b),
		} {
			if err == nil || !strings.Contains(err.Error(), "required") {
				t.Errorf("%s by %q for %q = %v, want an error that says what is required", what, b.By, b.Why, err)
			}
		}
	}
	if rows, err := e.Audit(t.Context(), 10); err != nil || len(rows) != 0 {
		t.Errorf("Audit has %d rows (%v), want none of what was refused", len(rows), err)
	}
	deadLetters(t, e, clean.Name(), 1)
}

func TestActsOnWhatIsNotThere(t *testing.T) {
	e, _, _ := graveyard(t, 1)
	if err := e.PauseQueue(t.Context(), "kitchen.nothing", mended); !errors.Is(err, weir.ErrNotFound) {
		t.Errorf("PauseQueue of an unknown queue = %v, want ErrNotFound", err)
	}
	if err := e.ResumeQueue(t.Context(), clean.Name(), mended); !errors.Is(err, weir.ErrConflict) {
		t.Errorf("ResumeQueue of a queue that runs = %v, want ErrConflict", err)
	}
	if _, err := e.RetryDead(t.Context(), weir.DeadSelection{ID: "nobody-1"}, mended); !errors.Is(err, weir.ErrNotFound) {
		t.Errorf("RetryDead of an unknown ID = %v, want ErrNotFound", err)
	}
	if _, err := e.Message(t.Context(), "nobody-1"); !errors.Is(err, weir.ErrNotFound) {
		t.Errorf("Message of an unknown ID = %v, want ErrNotFound", err)
	}
	send(t, e, prepare, ticket{})
	if _, err := e.DiscardDead(t.Context(), weir.DeadSelection{ID: lastMessage(t, e, prepare.Name(), 0).ID}, mended); !errors.Is(err, weir.ErrConflict) {
		t.Errorf("DiscardDead of a message that is not dead = %v, want ErrConflict", err)
	}
}

func TestRetryDeadDeliversAgainWithAllAttemptsBefore(t *testing.T) {
	e, handled, mend := graveyard(t, 4)
	var soap weir.DeadSelection
	soap.Queue, soap.Matching = clean.Name(), "soap"
	dry := soap
	dry.DryRun = true
	if acted, err := e.RetryDead(t.Context(), dry, mended); err != nil || acted.Count != 2 {
		t.Errorf("dry run = %+v, %v, want 2 counted", acted, err)
	}
	deadLetters(t, e, clean.Name(), 4)
	mend()
	if acted, err := e.RetryDead(t.Context(), soap, mended); err != nil || acted.Count != 2 || acted.More {
		t.Errorf("RetryDead = %+v, %v, want 2", acted, err)
	}
	numbers := []int{receive(t, handled).Body.N, receive(t, handled).Body.N}
	slices.Sort(numbers)
	if !slices.Equal(numbers, []int{0, 2}) {
		t.Errorf("delivered again %v, want those without soap: [0 2]", numbers)
	}
	for _, d := range deadLetters(t, e, clean.Name(), 2) {
		if d.Reason != "no water" {
			t.Errorf("still dead for %q, want those without water", d.Reason)
		}
	}
	id := lastMessage(t, e, clean.Name(), 3).ID // the first
	eventually(t, "its story is told", func() bool {
		story, err := e.Message(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		q := story.Queues[0]
		return q.State == "done" && len(q.Attempts) == 2 && q.Attempts[0].Verdict == "dead" && q.Attempts[1].Verdict == "done"
	})
	rows, err := e.Audit(t.Context(), 10)
	if err != nil || len(rows) == 0 {
		t.Fatalf("Audit = %d rows, %v, want the retry's", len(rows), err)
	}
	if r := rows[0]; r.By != mended.By || r.Why != mended.Why || r.Verb != "retry" || !strings.Contains(r.Target, clean.Name()) || r.At.IsZero() {
		t.Errorf("audited as %+v, want who, what, why and when", r)
	}
}

func TestEditDeadDeliversAnotherBody(t *testing.T) {
	e, handled, mend := graveyard(t, 1)
	dead := deadLetters(t, e, clean.Name(), 1)[0]
	for what, body := range map[string][]byte{"an empty": {}, "a large": make([]byte, 1<<20)} {
		if _, err := e.EditDead(t.Context(), weir.DeadSelection{ID: dead.Message.ID}, body, mended); err == nil || !strings.Contains(err.Error(), "want 1 to") {
			t.Errorf("EditDead with %s body = %v, want an error with its bounds", what, err)
		}
	}
	mend()
	body, err := json.Marshal(ticket{"garden", 99})
	if err != nil {
		t.Fatal(err)
	}
	if acted, err := e.EditDead(t.Context(), weir.DeadSelection{ID: dead.Message.ID}, body, mended); err != nil || acted.Count != 1 {
		t.Fatalf("EditDead = %+v, %v", acted, err)
	}
	if m := receive(t, handled); m.Body != (ticket{"garden", 99}) || m.ID != dead.Message.ID {
		t.Errorf("delivered %+v as %s, want the new body under the same ID", m.Body, m.ID)
	}
	if story := onlyStory(t, e, clean.Name()); !strings.Contains(string(story.Body), "terrace") {
		t.Errorf("the journal says %s, want what was sent", story.Body)
	}
	rows, err := e.Audit(t.Context(), 1)
	if err != nil || len(rows) != 1 || !strings.Contains(rows[0].After, "garden") && !strings.Contains(rows[0].After, "sha256") {
		t.Errorf("audited as %+v (%v), want what it was changed to", rows, err)
	}
}

func TestEditedBodyIsStillEditedAfterAnotherDeath(t *testing.T) {
	e, handled, mend := graveyard(t, 1)
	id := weir.DeadSelection{ID: deadLetters(t, e, clean.Name(), 1)[0].Message.ID}
	if _, err := e.EditDead(t.Context(), id, []byte(`{"Table":"garden","N":7}`), mended); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is dead again, for another reason", func() bool {
		list, err := e.Dead(t.Context(), weir.DeadQuery{Queue: clean.Name()})
		return err == nil && len(list) == 1 && list[0].Reason == "no water" && list[0].Edited
	})
	mend()
	if _, err := e.RetryDead(t.Context(), id, mended); err != nil {
		t.Fatal(err)
	}
	if m := receive(t, handled); m.Body != (ticket{"garden", 7}) {
		t.Errorf("delivered %+v, want the edited body", m.Body)
	}
}

func TestDiscardDeadDropsForGood(t *testing.T) {
	e, handled, mend := graveyard(t, 3)
	mend()
	if acted, err := e.DiscardDead(t.Context(), weir.DeadSelection{Queue: clean.Name()}, mended); err != nil || acted.Count != 3 {
		t.Fatalf("DiscardDead = %+v, %v, want 3", acted, err)
	}
	if acted, err := e.RetryDead(t.Context(), weir.DeadSelection{Queue: clean.Name()}, mended); err != nil || acted.Count != 0 {
		t.Errorf("RetryDead of what was discarded = %+v, %v, want none", acted, err)
	}
	send(t, e, clean, ticket{N: 100})
	if m := receive(t, handled); m.Body.N != 100 {
		t.Errorf("handled %d, want nothing of what was discarded", m.Body.N)
	}
	emptied(t, e, clean.Name())
	story, err := e.Message(t.Context(), lastMessage(t, e, clean.Name(), 1).ID)
	if err != nil || story.Queues[0].State != "discarded" {
		t.Errorf("the story says %+v (%v), want discarded", story.Queues, err)
	}
}

func TestFiguresTellWhatHappenedAlsoAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := newFile(t)
		e := openEngine(t, file, weir.Config{})
		weir.Handle(e, clean, func(ctx context.Context, m *weir.Message[ticket]) error {
			switch {
			case m.Body.N <= 2:
				return weir.Permanent(errors.New("no"))
			case m.Body.N <= 5 && m.Attempt == 1:
				return errors.New("not so fast")
			case m.Body.N <= 20:
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}, weir.Queue{Capacity: 25, Retry: quick})
		running(t, e, clean.Name())
		send(t, e, clean, tickets("", 20)...)
		emptied(t, e, clean.Name())
		var accepted int
		for n := range 30 {
			if weir.Send(t.Context(), e, clean, ticket{N: 100 + n}) == nil {
				accepted++
			}
		}
		if accepted != 25 {
			t.Errorf("%d accepted, want 25", accepted)
		}
		check := func(e *weir.Engine) {
			t.Helper()
			f := figures(t, e, clean.Name())
			if f.Sent != 45 || f.Done != 18 || f.Died != 2 || f.Failed != 5 || f.Rejected != 5 {
				t.Errorf("sent %d, done %d, died %d, failed %d, rejected %d, want 45, 18, 2, 5, 5", f.Sent, f.Done, f.Died, f.Failed, f.Rejected)
			}
			if f.Depth != 25 || f.Capacity != 25 || f.Dead != 2 || f.Oldest.IsZero() || time.Since(f.Oldest) > time.Minute {
				t.Errorf("depth %d of %d, %d dead, oldest %v", f.Depth, f.Capacity, f.Dead, f.Oldest)
			}
			for what, q := range map[string]weir.Times{"wait": f.Wait, "work": f.Work, "lead": f.Lead} {
				if q.P50 <= 0 || q.P99 < q.P50 || q.P99 > time.Minute {
					t.Errorf("%s p50 %v, p99 %v, want above zero and in order", what, q.P50, q.P99)
				}
			}
			if f.SentPerSecond <= 0 || f.DonePerSecond <= 0 || f.Window < 5*time.Minute || f.Window > 6*time.Minute {
				t.Errorf("%v sent and %v done a second over %v", f.SentPerSecond, f.DonePerSecond, f.Window)
			}
			if f.Drains >= 0 {
				t.Errorf("drains in %v, want never: more was sent than done", f.Drains)
			}
		}
		eventually(t, "the refusals are written", func() bool { return figures(t, e, clean.Name()).Rejected == 5 })
		check(e)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		check(openEngine(t, file, weir.Config{}))
	})
}

func TestRefusalsOfAProcessThatOnlySendsAreCounted(t *testing.T) {
	file := newFile(t)
	worker := openEngine(t, file, weir.Config{})
	weir.Handle(worker, clean, func(ctx context.Context, _ *weir.Message[ticket]) error {
		<-ctx.Done()
		return ctx.Err()
	}, weir.Queue{Capacity: 1})
	running(t, worker, clean.Name())
	sender := openEngine(t, file, weir.Config{})
	send(t, sender, clean, ticket{N: 1})
	for range 3 {
		if err := weir.Send(t.Context(), sender, clean, ticket{N: 2}); !isFull(err) {
			t.Errorf("Send to a full queue = %v, want a *FullError", err)
		}
	}
	if err := sender.Close(); err != nil {
		t.Fatal(err)
	}
	if f := figures(t, worker, clean.Name()); f.Rejected != 3 {
		t.Errorf("Rejected = %d, want 3", f.Rejected)
	}
}

func TestRefusalsAfterAStopAreCounted(t *testing.T) {
	file := newFile(t)
	e := openEngine(t, file, weir.Config{})
	got := make(chan *weir.Message[ticket], 1)
	weir.Handle(e, clean, into(got), weir.Queue{Capacity: 1})
	send(t, e, clean, ticket{N: 1})
	stop := run(t, e)
	receive(t, got)
	stop()
	send(t, e, clean, ticket{N: 2})
	if err := weir.Send(t.Context(), e, clean, ticket{N: 3}); !isFull(err) {
		t.Errorf("Send to a full queue = %v, want a *FullError", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if f := figures(t, openEngine(t, file, weir.Config{}), clean.Name()); f.Rejected != 1 {
		t.Errorf("Rejected = %d, want 1", f.Rejected)
	}
}

func TestQueuesWindowIsBounded(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	for _, w := range []time.Duration{time.Second, 25 * time.Hour, -time.Minute} {
		if _, err := e.Queues(t.Context(), w); err == nil || !strings.Contains(err.Error(), "want 1m0s to 24h0m0s") {
			t.Errorf("Queues over %v = %v, want an error with its bounds", w, err)
		}
	}
}

func TestMessagesArePaged(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	send(t, e, clean, tickets("terrace", 25)...)
	send(t, e, prepare, tickets("terrace", 5)...)
	var seen []string
	q := weir.MessageQuery{Topic: clean.Name(), Max: 10}
	for {
		page, err := e.Messages(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page {
			seen = append(seen, m.ID)
			if m.Body != nil {
				t.Errorf("the list has the body of %s, want none", m.ID)
			}
		}
		if len(page) < q.Max {
			break
		}
		q.Before = page[len(page)-1].Pos
	}
	slices.Sort(seen)
	if seen = slices.Compact(seen); len(seen) != 25 {
		t.Errorf("%d different messages on all pages, want 25", len(seen))
	}
	if page, err := e.Messages(t.Context(), weir.MessageQuery{Key: "terrace"}); err != nil || len(page) != 5 {
		t.Errorf("%d messages of the key (%v), want 5", len(page), err)
	}
}

func TestStoryOfAMessageBeforeAndWhileAndAfterItsWork(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	started, let := make(chan struct{}), make(chan struct{})
	weir.Handle(e, clean, func(context.Context, *weir.Message[ticket]) error {
		close(started)
		<-let
		return nil
	})
	send(t, e, clean, ticket{N: 1})
	if q := onlyStory(t, e, clean.Name()).Queues; len(q) != 1 || q[0].State != "waiting" {
		t.Errorf("before: %+v, want waiting", q)
	}
	run(t, e)
	receive(t, started)
	if q := onlyStory(t, e, clean.Name()).Queues[0]; q.State != "leased" || q.ClaimedAt.IsZero() || q.Process == 0 {
		t.Errorf("while: %+v, want leased, with when and by whom", q)
	}
	close(let)
	emptied(t, e, clean.Name())
	if q := onlyStory(t, e, clean.Name()).Queues[0]; q.State != "done" || q.Started.IsZero() || q.Took <= 0 {
		t.Errorf("after: %+v, want done, with when and how long", q)
	}
}

func TestHealthyStoreHasNoFindings(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	got := make(chan *weir.Message[ticket], 10)
	weir.Handle(e, clean, into(got))
	run(t, e)
	send(t, e, clean, tickets("", 10)...)
	emptied(t, e, clean.Name())
	if findings, err := e.Check(t.Context()); err != nil || len(findings) != 0 {
		t.Errorf("Check = %+v, %v, want nothing", findings, err)
	}
	list, err := e.Processes(t.Context(), 10)
	if err != nil || len(list) != 1 || list[0].PID == 0 || !list[0].EndedAt.IsZero() || !slices.Equal(list[0].Owns, []string{"kitchen", "staff"}) || list[0].Version != weir.Version {
		t.Errorf("Processes = %+v, %v, want this one, running", list, err)
	}
	if info := e.StoreInfo(); info.Kind != "sqlite" || info.Schema < 1 || info.Incarnation == "" {
		t.Errorf("StoreInfo = %+v", info)
	}
}
