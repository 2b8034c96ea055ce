package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

func TestJudge(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	policy := Retry{Max: 3, Base: time.Second, Cap: time.Minute}
	boom := errors.New("boom")
	for _, c := range []struct {
		name string
		e    ended
		r    Retry
		want store.Verdict
		due  time.Time
	}{
		{"success is done", ended{attempt: 1}, policy, store.Done, time.Time{}},
		{"an error is retried", ended{err: boom, attempt: 1, luck: 0.5}, policy, store.Retry, now.Add(time.Second / 2)},
		{"backoff doubles", ended{err: boom, attempt: 2, luck: 0.5}, policy, store.Retry, now.Add(time.Second)},
		{"a pause is never zero", ended{err: boom, attempt: 1, luck: 0}, policy, store.Retry, now.Add(time.Millisecond)},
		{"the last attempt dies", ended{err: boom, attempt: 3}, policy, store.Dead, time.Time{}},
		{"permanent dies at once", ended{err: fmt.Errorf("wrapped: %w", Permanent(boom)), attempt: 1}, policy, store.Dead, time.Time{}},
		{"elapsed dies", ended{err: boom, attempt: 1, luck: 0.99, firstAt: now.Add(-time.Hour)}, Retry{Max: 9, Base: time.Second, Cap: time.Minute, Elapsed: time.Hour}, store.Dead, time.Time{}},
		{"not yet is no failure, even at the last attempt", ended{err: NotYet("no stock", time.Hour), attempt: 3}, policy, store.NotYet, now.Add(time.Hour)},
		{"not yet has a lower bound", ended{err: NotYet("", -1), attempt: 1}, policy, store.NotYet, now.Add(notYetMin)},
		{"not yet has an upper bound", ended{err: NotYet("", 1<<62), attempt: 1}, policy, store.NotYet, now.Add(notYetMax)},
		{"a stop is no failure", ended{err: context.Canceled, attempt: 3, stopping: true}, policy, 0, time.Time{}},
		{"another error during a stop is one", ended{err: boom, attempt: 1, stopping: true, luck: 0.5}, policy, store.Retry, now.Add(time.Second / 2)},
		{"a cancellation without a stop is one", ended{err: context.Canceled, attempt: 1, luck: 0.5}, policy, store.Retry, now.Add(time.Second / 2)},
	} {
		c.e.now = now
		got := judge(c.e, c.r)
		if got.Verdict != c.want || !got.due.Equal(c.due) {
			t.Errorf("%s: judge = verdict %d due %v, want %d due %v", c.name, got.Verdict, got.due, c.want, c.due)
		}
	}
	if v := judge(ended{err: &panicError{"oops", []byte("stack")}, attempt: 1, now: now}, policy); v.stack != "stack" || v.reason != "panic: oops" {
		t.Errorf("judge(panic) = reason %q stack %q, want both kept", v.reason, v.stack)
	}
}

func TestRetryPauseIsBounded(t *testing.T) {
	r := Retry{Max: 1 << 30, Base: time.Second, Cap: time.Minute}
	for n := 1; n < 200; n++ {
		for _, luck := range []float64{0, 0.5, 0.999999} {
			if got := r.pause(n, luck); got < time.Millisecond || got > r.Cap {
				t.Errorf("pause(%d, %v) = %v, want 1ms to %v", n, luck, got, r.Cap)
			}
		}
	}
}

func TestClip(t *testing.T) {
	for _, c := range []struct {
		s    string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aé", 2, "a"}, {"日本", 4, "日"}, {"", 0, ""}} {
		if got := clip(c.s, c.n); got != c.want {
			t.Errorf("clip(%q, %d) = %q, want %q", c.s, c.n, got, c.want)
		}
	}
}

func TestPace(t *testing.T) {
	now := time.Unix(0, 0)
	p := newPace(4)
	for i, step := range []struct {
		after time.Duration
		done  int64
		want  int
	}{
		{0, 0, 4},                        // the first claim tells nothing
		{10 * time.Millisecond, 4, 8},    // short-lived claims double it
		{10 * time.Millisecond, 12, 16},  //
		{700 * time.Millisecond, 28, 16}, // about right
		{2 * time.Second, 48, 10},        // a claim that lasts gives the rate
		{100 * time.Second, 49, 4},       // never below the workers
		{time.Millisecond, 1_000_000, 8}, //
	} {
		now = now.Add(step.after)
		p.claimed(now, step.done)
		if p.target != step.want {
			t.Errorf("step %d: target = %d, want %d", i, p.target, step.want)
		}
	}
	for range 20 {
		now = now.Add(time.Millisecond)
		p.claimed(now, 0)
	}
	if p.target != paceMax {
		t.Errorf("target = %d, want at most %d", p.target, paceMax)
	}
}

func TestFIFO(t *testing.T) {
	var f fifo
	next, expect := 0, 0
	for range 10_000 {
		for range 3 {
			f.push(&Attempt{Number: next})
			next++
		}
		for range 2 {
			if got := f.pop().Number; got != expect {
				t.Fatalf("pop = %d, want %d", got, expect)
			}
			expect++
		}
	}
	if f.len() != next-expect {
		t.Errorf("len = %d, want %d", f.len(), next-expect)
	}
}

func TestRetryAfter(t *testing.T) {
	full := func(depth, capacity int) *store.FullError { return &store.FullError{Depth: depth, Capacity: capacity} }
	for _, c := range []struct {
		full *store.FullError
		rate float64
		want time.Duration
	}{
		{full(100, 100), 0, retryAfterUnknown},
		{full(100, 100), 6, time.Second},
		{full(160, 100), 6, 11 * time.Second},
		{full(100, 100), 1e9, retryAfterMin},
		{full(100_000, 100_000), 0.001, retryAfterMax},
	} {
		if got := retryAfter(c.full, c.rate); got != c.want {
			t.Errorf("retryAfter(%d of %d, %v) = %v, want %v", c.full.Depth, c.full.Capacity, c.rate, got, c.want)
		}
	}
}

func TestSummarise(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 30, 0, time.UTC)
	since := now.Add(-5 * time.Minute).Truncate(time.Minute)
	minute := func(q store.QueueID, ago int, sent, done int64) store.FigureMinute {
		m := store.FigureMinute{Minute: now.Truncate(time.Minute).Add(-time.Duration(ago) * time.Minute), Sent: sent, Done: done}
		m.Queue = q
		m.Work.Add(time.Millisecond)
		return m
	}
	minutes := []store.FigureMinute{minute(1, 1, 90, 180), minute(1, 0, 90, 180), minute(2, 0, 7, 7)}
	asked := span{since: since, now: now}
	got := summarise(store.QueueState{ID: 1, Depth: 100}, minutes, asked)
	if got.Sent != 180 || got.Done != 360 || got.SentPerSecond != 2 || got.DonePerSecond != 4 {
		t.Errorf("summarise = sent %d (%v/s), done %d (%v/s), want 180 (2/s), 360 (4/s)", got.Sent, got.SentPerSecond, got.Done, got.DonePerSecond)
	}
	if got.Drains != 50*time.Second {
		t.Errorf("Drains = %v, want 50s", got.Drains)
	}
	asked.began = now.Add(-45 * time.Second) // the store is young: its first minute had not begun with it
	if got := summarise(store.QueueState{ID: 1}, minutes, asked); got.SentPerSecond != 4 {
		t.Errorf("SentPerSecond of a store begun 45 s ago = %v, want 4", got.SentPerSecond)
	}
	if d := drains(10, 0); d >= 0 {
		t.Errorf("drains at no outflow = %v, want never", d)
	}
	if d := drains(0, -5); d != 0 {
		t.Errorf("drains of an empty queue = %v, want 0", d)
	}
}
