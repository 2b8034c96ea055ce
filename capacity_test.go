package weir_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-go/weir"
)

// held opens an engine that runs, with a queue of clean whose handler keeps each
// message until it is let go.
func held(t *testing.T, q weir.Queue) (e *weir.Engine, let chan<- struct{}) {
	t.Helper()
	e = openEngine(t, newFile(t), weir.Config{})
	gate := make(chan struct{})
	weir.Handle(e, clean, func(ctx context.Context, _ *weir.Message[ticket]) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, q)
	running(t, e, clean.Name())
	return e, gate
}

// running runs e until t ends, and waits until its queue is known to the store.
func running(t testing.TB, e *weir.Engine, queue string) {
	t.Helper()
	run(t, e)
	eventually(t, queue+" is declared", func() bool {
		all, err := e.Queues(context.Background(), 0)
		if err != nil {
			t.Fatalf("Queues = %v", err)
		}
		for _, q := range all {
			if q.Name == queue {
				return true
			}
		}
		return false
	})
}

func TestFullQueueRefusesWithDepthAndCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, let := held(t, weir.Queue{Capacity: 3, Concurrency: 1})
		send(t, e, clean, tickets("", 3)...) // one of them in work, which counts
		err := weir.Send(t.Context(), e, clean, ticket{N: 4})
		full, ok := errors.AsType[*weir.FullError](err)
		if !ok {
			t.Fatalf("Send to a full queue = %v, want a *FullError", err)
		}
		if full.Queue != clean.Name() || full.Depth != 3 || full.Capacity != 3 || full.RetryAfter < 10*time.Millisecond || full.RetryAfter > time.Minute {
			t.Errorf("refused with %+v, want depth 3 of 3 and a time to come back", full)
		}
		let <- struct{}{}
		eventually(t, "there is room for one", func() bool { return weir.Send(t.Context(), e, clean, ticket{N: 4}) == nil })
		if err := weir.Send(t.Context(), e, clean, ticket{N: 5}); !isFull(err) {
			t.Errorf("Send of another = %v, want a *FullError", err)
		}
		eventually(t, "the refusals are counted", func() bool { return figures(t, e, clean.Name()).Rejected >= 2 })
		if f := figures(t, e, clean.Name()); f.Depth != 3 || f.Capacity != 3 {
			t.Errorf("figures say depth %d of %d, want 3 of 3", f.Depth, f.Capacity)
		}
	})
}

func TestSendAllBeyondCapacityLeavesNothing(t *testing.T) {
	e, _ := held(t, weir.Queue{Capacity: 5})
	send(t, e, clean, tickets("", 2)...)
	if err := weir.SendAll(t.Context(), e, clean, tickets("", 4)); !isFull(err) {
		t.Errorf("SendAll of 4 to room for 3 = %v, want a *FullError", err)
	}
	if err := weir.SendAll(t.Context(), e, clean, tickets("", 3)); err != nil {
		t.Errorf("SendAll of 3 to room for 3 = %v, want nil", err)
	}
	if f := figures(t, e, clean.Name()); f.Depth != 5 {
		t.Errorf("Depth = %d, want 5", f.Depth)
	}
}

func TestDelayedMessagesCount(t *testing.T) {
	e, _ := held(t, weir.Queue{Capacity: 2})
	for range 2 {
		if err := weir.Send(t.Context(), e, clean, ticket{}, weir.Delay(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if err := weir.Send(t.Context(), e, clean, ticket{}); !isFull(err) {
		t.Errorf("Send to a queue full of delayed messages = %v, want a *FullError", err)
	}
}

func TestCapacityIsExactAmongConcurrentSenders(t *testing.T) {
	e, _ := held(t, weir.Queue{Capacity: 50})
	var accepted atomic.Int64
	var senders sync.WaitGroup
	for range 16 {
		senders.Go(func() {
			for range 10 {
				err := weir.Send(t.Context(), e, clean, ticket{})
				switch {
				case err == nil:
					accepted.Add(1)
				case !isFull(err):
					t.Errorf("Send = %v", err)
				}
			}
		})
	}
	senders.Wait()
	if n := accepted.Load(); n != 50 {
		t.Errorf("%d of 160 sends accepted, want 50", n)
	}
	if f := figures(t, e, clean.Name()); f.Depth != 50 {
		t.Errorf("Depth = %d, want 50", f.Depth)
	}
}

func TestBestEffortIsShedFirst(t *testing.T) {
	e, _ := held(t, weir.Queue{Capacity: 10})
	for n := range 8 {
		if err := weir.Send(t.Context(), e, clean, ticket{N: n}, weir.BestEffort); err != nil {
			t.Fatalf("best-effort send %d = %v, want nil", n, err)
		}
	}
	if err := weir.Send(t.Context(), e, clean, ticket{}, weir.BestEffort); !isFull(err) {
		t.Errorf("best-effort send to a queue 80 %% full = %v, want a *FullError", err)
	}
	send(t, e, clean, tickets("", 2)...)
	if err := weir.Send(t.Context(), e, clean, ticket{}); !isFull(err) {
		t.Errorf("send to a full queue = %v, want a *FullError", err)
	}
}

func TestUnboundedQueue(t *testing.T) {
	e, _ := held(t, weir.Queue{Capacity: -1})
	send(t, e, clean, tickets("", 20)...)
	if f := figures(t, e, clean.Name()); f.Capacity != 0 || f.Depth != 20 {
		t.Errorf("figures say depth %d of %d, want 20 of 0 (unbounded)", f.Depth, f.Capacity)
	}
}

func TestWaitForRoomWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, let := held(t, weir.Queue{Capacity: 1})
		send(t, e, clean, ticket{N: 1})
		sent := make(chan error, 1)
		go func() { sent <- weir.Send(context.Background(), e, clean, ticket{N: 2}, weir.WaitForRoom(time.Minute)) }()
		eventually(t, "it was refused at least once", func() bool { return figures(t, e, clean.Name()).Rejected > 0 })
		select {
		case err := <-sent:
			t.Fatalf("Send = %v while the queue is full", err)
		default:
		}
		let <- struct{}{}
		if err := receive(t, sent); err != nil {
			t.Errorf("Send = %v with room, want nil", err)
		}
	})
}

func TestWaitForRoomEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := held(t, weir.Queue{Capacity: 1})
		send(t, e, clean, ticket{N: 1})
		if err := weir.Send(t.Context(), e, clean, ticket{N: 2}, weir.WaitForRoom(30*time.Millisecond)); !isFull(err) {
			t.Errorf("Send that waited in vain = %v, want a *FullError", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		err := weir.Send(ctx, e, clean, ticket{N: 2}, weir.WaitForRoom(time.Hour))
		if !errors.Is(err, context.DeadlineExceeded) || !isFull(err) {
			t.Errorf("Send whose context ended = %v, want its end and the refusal", err)
		}
	})
}

// A handler must be able to acknowledge: what it sends is admitted.
func TestSendsFromHandlersAreAdmitted(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	weir.Handle(e, prepare, func(ctx context.Context, m *weir.Message[ticket]) error {
		return weir.SendAll(ctx, m, clean, tickets("", 5))
	})
	weir.Handle(e, clean, func(ctx context.Context, _ *weir.Message[ticket]) error {
		<-ctx.Done()
		return ctx.Err()
	}, weir.Queue{Capacity: 2, Concurrency: 1})
	running(t, e, clean.Name())
	send(t, e, prepare, ticket{})
	eventually(t, "more wait than the capacity", func() bool { return figures(t, e, clean.Name()).Depth == 5 })
	emptied(t, e, prepare.Name())
	if err := weir.Send(t.Context(), e, clean, ticket{}); !isFull(err) {
		t.Errorf("Send from outside = %v, want a *FullError", err)
	}
}

func TestOnlyRequiredSubscribersRefuseThePublisher(t *testing.T) {
	e := openEngine(t, newFile(t), weir.Config{})
	lag := func(ctx context.Context, _ *weir.Message[plate]) error {
		<-ctx.Done()
		return ctx.Err()
	}
	weir.Subscribe(e, ready, "staff.relaxed", lag, weir.Queue{Capacity: 1})
	weir.Subscribe(e, served, "staff.strict", lag, weir.Queue{Capacity: 1, Required: true})
	weir.Subscribe(e, served, "staff.beside", lag, weir.Queue{Capacity: 1})
	running(t, e, "staff.beside")
	for range 3 {
		if err := weir.Publish(t.Context(), e, ready, plate{}); err != nil {
			t.Errorf("Publish with a full subscriber = %v, want nil", err)
		}
	}
	if err := weir.Publish(t.Context(), e, served, plate{}); err != nil {
		t.Fatal(err)
	}
	err := weir.Publish(t.Context(), e, served, plate{})
	if full, ok := errors.AsType[*weir.FullError](err); !ok || full.Queue != "staff.strict" {
		t.Errorf("Publish with a full required subscriber = %v, want its *FullError", err)
	}
	for queue, want := range map[string]int64{"staff.relaxed": 3, "staff.strict": 1, "staff.beside": 1} {
		if f := figures(t, e, queue); f.Depth != want {
			t.Errorf("%s: Depth = %d, want %d", queue, f.Depth, want)
		}
	}
}

func TestLaggingSubscriberIsParkedAndGoesOnWhenResumed(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{})
	gate := make(chan struct{})
	got := make(chan *weir.Message[plate], 20)
	weir.Subscribe(e, ready, "staff.slow", func(ctx context.Context, m *weir.Message[plate]) error {
		select {
		case <-gate:
			return into(got)(ctx, m)
		case <-ctx.Done():
			return ctx.Err()
		}
	}, weir.Queue{MaxLag: 3, Concurrency: 1})
	running(t, e, "staff.slow")
	publish := func(from, to int) {
		for n := from; n <= to; n++ {
			if err := weir.Publish(t.Context(), e, ready, plate{N: n}); err != nil {
				t.Fatalf("Publish = %v, want nil however the subscriber lags", err)
			}
		}
	}
	publish(1, 3)
	if figures(t, e, "staff.slow").Parked {
		t.Error("parked with 3 waiting, want at more than MaxLag")
	}
	publish(4, 6)
	if !figures(t, e, "staff.slow").Parked {
		t.Error("not parked with 6 waiting, want at more than MaxLag")
	}
	close(gate)
	if err := e.ResumeQueue(t.Context(), "staff.slow", mended); err != nil {
		t.Fatal(err)
	}
	for n := range 6 {
		if m := receive(t, got); m.Body.N != n+1 {
			t.Errorf("event %d, want %d", m.Body.N, n+1)
		}
	}
	emptied(t, e, "staff.slow")
	if f := figures(t, e, "staff.slow"); f.Parked || f.Gaps != 0 {
		t.Errorf("parked: %t, gaps: %d, want neither", f.Parked, f.Gaps)
	}
}

func TestRetryAfterIsMeasured(t *testing.T) {
	t.Parallel()
	e := openEngine(t, newFile(t), weir.Config{})
	var hold atomic.Bool
	weir.Handle(e, clean, func(ctx context.Context, _ *weir.Message[ticket]) error {
		if hold.Load() {
			<-ctx.Done()
		}
		return ctx.Err()
	}, weir.Queue{Capacity: 200})
	running(t, e, clean.Name())
	var last *weir.FullError
	eventually(t, "a refusal knows the rate", func() bool {
		// Drain much, then be full: what was drained lately says when to come back.
		hold.Store(false)
		for range 200 {
			if err := weir.Send(t.Context(), e, clean, ticket{}, weir.WaitForRoom(time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		emptied(t, e, clean.Name())
		hold.Store(true)
		err := weir.SendAll(t.Context(), e, clean, tickets("", 201))
		var ok bool
		if last, ok = errors.AsType[*weir.FullError](err); !ok {
			t.Fatalf("SendAll of more than the capacity = %v, want a *FullError", err)
		}
		return last.RetryAfter != time.Second // which it says when it knows nothing
	})
	if last.RetryAfter < 10*time.Millisecond || last.RetryAfter > time.Minute {
		t.Errorf("RetryAfter = %v, want 10ms to 1m", last.RetryAfter)
	}
	if want := fmt.Sprintf("queue %s is full", clean.Name()); len(last.Error()) < len(want) || last.Error()[:len(want)] != want {
		t.Errorf("the refusal says %q", last.Error())
	}
}

// What leaves with an acknowledgement is admitted; so the source of a full queue
// must give way, down to one at a time.
func TestSourceOfAFullQueueIsSlowed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, newFile(t), weir.Config{})
		var running, begun, freely atomic.Int64
		pulse := make(chan struct{})
		weir.Handle(e, prepare, func(ctx context.Context, m *weir.Message[ticket]) error {
			begun.Add(1)
			if running.Add(1) > 1 {
				freely.Add(1)
			}
			defer running.Add(-1)
			select {
			case <-pulse:
				return weir.Send(ctx, m, clean, m.Body)
			case <-ctx.Done():
				return ctx.Err()
			}
		}, weir.Queue{Concurrency: 4})
		weir.Handle(e, clean, func(ctx context.Context, _ *weir.Message[ticket]) error {
			<-ctx.Done()
			return ctx.Err()
		}, weir.Queue{Capacity: 5, Concurrency: 1})
		for n := range 400 {
			send(t, e, prepare, ticket{N: n, Table: fmt.Sprint("table-", n)})
		}
		run(t, e)
		eventually(t, "the source runs four at a time before the queue is full", func() bool { return running.Load() == 4 })
		beat := func() {
			select {
			case pulse <- struct{}{}:
			case <-time.After(patience):
				t.Fatal("the source stands still: it must go on, one at a time")
			}
		}
		for range 8 {
			beat()
		}
		// From when it is slowed, no attempt begins beside another.
		eventually(t, "the source runs one at a time", func() bool {
			begunBefore, freelyBefore := begun.Load(), freely.Load()
			for range 6 {
				beat()
			}
			return begun.Load() >= begunBefore+5 && freely.Load() == freelyBefore
		})
	})
}
