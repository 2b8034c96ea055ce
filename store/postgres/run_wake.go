package postgres

import (
	"math"
	"time"

	"github.com/weir-go/weir/store"
)

// A run's wake reason is one number, so that each kind of them is a range of the
// index: above the highest bits say which, the lower ones since or until when, or
// who. Runs that have crashed have ranges of their own, for they are claimed apart.
const (
	wakeBits = 56

	wakeUntil        = int64(0) << wakeBits // waiting: | the time, µs
	wakeUntilSuspect = int64(1) << wakeBits // the same, having crashed
	wakeReady        = int64(2) << wakeBits // | since, µs
	wakeLeased       = int64(3) << wakeBits // | the process
	wakeMail         = int64(4) << wakeBits // waiting for mail alone
	wakeParked       = int64(5) << wakeBits
	wakeMax          = int64(6)<<wakeBits - 1

	// Ready, having crashed: below zero, those with most crashes lowest.
	crashBits  = 53
	crashesMax = 1_000
)

// readyWake is the wake reason of a run that is ready since now.
func readyWake(crashes, now int64) int64 {
	now = min(max(now, 0), 1<<(crashBits-1))
	if crashes == 0 {
		return wakeReady | now
	}
	return now - min(crashes, crashesMax)<<crashBits
}

// untilWake is the wake reason of a run that waits for a time, or with the zero time for mail.
func untilWake(crashes int64, until time.Time) int64 {
	if until.IsZero() {
		return wakeMail
	}
	w := min(max(us(until), 0), 1<<wakeBits-1)
	if crashes > 0 {
		w |= wakeUntilSuspect
	}
	return w
}

func leasedWake(process int64) int64 { return wakeLeased | process }

// wakes reports whether mail of a kind makes a run with this wake reason ready.
func wakes(wake int64, kind store.MailKind) bool {
	switch {
	case wake < wakeUntil || wake >= wakeReady && wake < wakeMail:
		return false // it is ready, or leased
	case wake >= wakeParked:
		return kind >= store.CancelMail
	}
	return true
}

// span is a range of wake reasons, both ends in it.
type span struct{ from, to int64 }

// ready and due are the spans of what a claim takes: what is ready, and what waited until now.
func claimSpans(suspects bool, now int64) (ready, due span) {
	if suspects {
		return span{math.MinInt64, -1}, span{wakeUntilSuspect, wakeUntilSuspect | now}
	}
	return span{wakeReady, wakeLeased - 1}, span{wakeUntil, wakeUntil | now}
}

// sinceOf is since when a run with a wake reason of a claim's spans is ready, µs.
func sinceOf(wake int64) int64 {
	if wake < 0 {
		return wake & (1<<crashBits - 1)
	}
	return wake & (1<<wakeBits - 1)
}
