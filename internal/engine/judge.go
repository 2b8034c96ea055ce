package engine

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/weir-go/weir/store"
)

// Retry is exponential backoff with full jitter.
type Retry struct {
	Max       int // attempts in all
	Base, Cap time.Duration
	Elapsed   time.Duration // since the first attempt began; 0: no limit
}

// pause is how long to wait after attempt n (from 1) failed; luck is uniform in [0, 1).
func (r Retry) pause(n int, luck float64) time.Duration {
	ceiling := float64(r.Cap)
	if n < 63 {
		ceiling = min(ceiling, float64(r.Base)*math.Exp2(float64(n-1)))
	}
	return max(time.Duration(luck*ceiling), time.Millisecond)
}

// ended is an attempt that has come to its end, as the judge sees it.
type ended struct {
	err      error
	attempt  int
	firstAt  time.Time // when the first attempt began
	now      time.Time
	luck     float64
	stopping bool // its context was cancelled because the engine stops or lost its lease
}

// verdict is what an attempt's end means.
type verdict struct {
	store.Verdict // zero: leave the delivery as it is; it is handed back
	due           time.Time
	reason, stack string
	quarantined   bool
}

const (
	notYetMin = time.Millisecond
	notYetMax = 365 * 24 * time.Hour
)

// judge decides: it does no I/O and reads no clock.
func judge(e ended, r Retry) verdict {
	if e.err == nil {
		return verdict{Verdict: store.Done}
	}
	if later, ok := errors.AsType[*notYetError](e.err); ok {
		return verdict{Verdict: store.NotYet, due: e.now.Add(min(max(later.after, notYetMin), notYetMax)), reason: later.reason}
	}
	// An attempt that the stop interrupted has not failed: no attempt is used up.
	if e.stopping && (errors.Is(e.err, context.Canceled) || errors.Is(e.err, ErrStopping)) {
		return verdict{}
	}
	v := verdict{Verdict: store.Retry, reason: clip(e.err.Error(), store.MaxReason)}
	if p, ok := errors.AsType[*panicError](e.err); ok {
		v.stack = clip(string(p.stack), store.MaxStack)
	}
	pause := r.pause(e.attempt, e.luck)
	v.due = e.now.Add(pause)
	_, permanent := errors.AsType[*permanentError](e.err)
	switch {
	case permanent, e.attempt >= r.Max,
		r.Elapsed > 0 && !e.firstAt.IsZero() && v.due.Sub(e.firstAt) > r.Elapsed:
		v.Verdict, v.due = store.Dead, time.Time{}
	}
	return v
}

// clip keeps the first n bytes, in whole runes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
