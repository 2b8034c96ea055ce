// Package runwake is the wake reason of a run, as the adapters store it: one number that says
// why the run is not running, so that each kind of reason is a range of an index.
package runwake

import (
	"math"
	"time"

	"github.com/weir-go/weir/store"
)

// The bits from the 56th on say which kind, the lower ones since or until when, or who.
// Runs that have crashed have ranges of their own, for they are claimed apart.
const (
	Bits = 56

	Until        = int64(0) << Bits // waiting: | the time, µs
	UntilSuspect = int64(1) << Bits // the same, having crashed
	Ready        = int64(2) << Bits // | since, µs
	Leased       = int64(3) << Bits // | the process
	Mail         = int64(4) << Bits // waiting for mail alone
	Parked       = int64(5) << Bits
	Max          = int64(6)<<Bits - 1 // the highest of all

	// Ready, having crashed: below zero, those with most crashes lowest.
	CrashBits  = 53    // those below them say since when, µs
	CrashesMax = 1_000 // more count as so many
)

// ReadySince is the wake reason of a run that is ready since now.
func ReadySince(crashes, now int64) int64 {
	now = min(max(now, 0), 1<<(CrashBits-1))
	if crashes == 0 {
		return Ready | now
	}
	return now - min(crashes, CrashesMax)<<CrashBits
}

// WaitingUntil is the wake reason of a run that waits for a time, or with the zero time for mail.
func WaitingUntil(crashes int64, until time.Time) int64 {
	if until.IsZero() {
		return Mail
	}
	w := min(max(until.UnixMicro(), 0), 1<<Bits-1)
	if crashes > 0 {
		w |= UntilSuspect
	}
	return w
}

// LeasedBy is the wake reason of a run that a process works on.
func LeasedBy(process int64) int64 { return Leased | process }

// WokenBy reports whether mail of a kind makes a run with this wake reason ready.
func WokenBy(wake int64, kind store.MailKind) bool {
	switch {
	case wake < Until || wake >= Ready && wake < Mail:
		return false // it is ready, or leased
	case wake >= Parked:
		return kind >= store.CancelMail
	}
	return true
}

// Span is a range of wake reasons, both ends in it.
type Span struct{ From, To int64 }

// Claimable is the spans of what a claim takes: what is ready, and what waited until now.
func Claimable(suspects bool, now int64) (ready, due Span) {
	if suspects {
		return Span{math.MinInt64, -1}, Span{UntilSuspect, UntilSuspect | now}
	}
	return Span{Ready, Leased - 1}, Span{Until, Until | now}
}

// SinceFirst is since when the first run of a span of SpansOf is ready, by the lowest wake reason there is in it, µs.
// False of those that have crashed, which are claimed in another order, and of those that are not ready.
func SinceFirst(s Span, lowest int64) (since int64, ok bool) {
	return Since(lowest), s.From == Until || s.From == Ready
}

// Since is since when a run with a wake reason of a claim's spans is ready, µs.
func Since(wake int64) int64 {
	if wake < 0 {
		return wake & (1<<CrashBits - 1)
	}
	return wake & (1<<Bits - 1)
}

// StateOf is what a wake reason means at a time (now and wake reasons in µs): until when an unfinished run
// waits, if it waits for a time, and the process that works on it.
func StateOf(wake, now int64) (state store.RunState, until time.Time, process int64) {
	switch {
	case wake < Until:
		return store.RunReady, until, 0
	case wake < Ready:
		if Since(wake) <= now {
			return store.RunReady, until, 0
		}
		return store.RunWaiting, time.UnixMicro(Since(wake)).UTC(), 0
	case wake < Leased:
		return store.RunReady, until, 0
	case wake < Mail:
		return store.RunRunning, until, Since(wake)
	case wake < Parked:
		return store.RunWaiting, until, 0
	}
	return store.RunParked, until, 0
}

// SpansOf are the ranges of wake reasons of a state; nil when it is none of the unfinished.
func SpansOf(state store.RunState, now int64) []Span {
	switch state {
	case store.RunReady:
		return []Span{{math.MinInt64, -1}, {Until, Until | now}, {UntilSuspect, UntilSuspect | now}, {Ready, Leased - 1}}
	case store.RunRunning:
		return []Span{{Leased, Mail - 1}}
	case store.RunWaiting:
		return []Span{{Until | now + 1, UntilSuspect - 1}, {UntilSuspect | now + 1, Ready - 1}, {Mail, Parked - 1}}
	case store.RunParked:
		return []Span{{Parked, Max}}
	}
	return nil
}
