package main

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// stamp is a time in JSON: RFC 3339, UTC, always six digits of a second, so that
// text sorts as time does. The zero time is null.
type stamp time.Time

const stampLayout = "2006-01-02T15:04:05.000000Z"

func (t stamp) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte("null"), nil
	}
	return []byte(time.Time(t).UTC().Format(`"` + stampLayout + `"`)), nil
}

// millis is a duration in JSON, in milliseconds with microseconds behind the point.
type millis time.Duration

func (d millis) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(time.Duration(d).Microseconds())/1000, 'f', -1, 64), nil
}

// millisIf is a duration in JSON that is null when it is not known.
func millisIf(known bool, d time.Duration) *millis {
	if !known {
		return nil
	}
	m := millis(d)
	return &m
}

// clockTime is a time for people: UTC, as in JSON and in other people's logs.
func clockTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05.000Z")
}

// span is a duration for people in about three digits: 340µs, 1.2ms, 12.3s, 5m12s, 3h05m, 4d03h.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + span(-d)
	case d == 0:
		return "0s"
	case d < time.Millisecond:
		return strconv.FormatInt(d.Microseconds(), 10) + "µs"
	case d < time.Second:
		return digits3(float64(d)/float64(time.Millisecond)) + "ms"
	case d < time.Minute:
		return digits3(d.Seconds()) + "s"
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// digits3 is a number below 1,000 with one digit behind the point when it is below 100.
func digits3(v float64) string {
	if v < 99.95 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// age is how long ago t was; a dash when there is no t. A clock that was set back
// shows as zero.
func age(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return span(max(now.Sub(t), 0))
}

// rounded keeps three digits behind the point: JSON is read by people too.
func rounded(v float64) float64 { return math.Round(v*1000) / 1000 }

// rate is a number a second.
func rate(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 0.01:
		return "<0.01"
	case v < 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return thousands(int64(v + 0.5))
}

// thousands is 1,234,567.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	first := 0
	if n < 0 {
		first = 1
	}
	for i := len(s) - 3; i > first; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural is a count with its noun: "1 message", "1,204 messages".
func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return thousands(n) + " " + noun + "s"
}
