package main

import (
	"encoding/json"
	"testing"
	"time"
)

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                                     "0s",
		999:                                   "0µs",
		340 * time.Microsecond:                "340µs",
		1234 * time.Microsecond:               "1.2ms",
		340 * time.Millisecond:                "340ms",
		12345 * time.Millisecond:              "12.3s",
		5*time.Minute + 12*time.Second:        "5m12s",
		3*time.Hour + 5*time.Minute:           "3h05m",
		99*time.Hour + 59*time.Minute:         "4d03h",
		-2 * time.Second:                      "-2.0s",
		59*time.Second + 999*time.Millisecond: "60.0s",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%d) = %s, want %s", d, got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %s, want %s", n, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0", 0.001: "<0.01", 0.5: "0.50", 12.34: "12.3", 1234.5: "1,235"} {
		if got := rate(v); got != want {
			t.Errorf("rate(%v) = %s, want %s", v, got, want)
		}
	}
}

// Times are RFC 3339 with microseconds in UTC, durations numbers of milliseconds.
func TestTimesAsJSON(t *testing.T) {
	at := time.Date(2026, 1, 2, 15, 4, 5, 120_000_000, time.FixedZone("", 3600))
	b, err := json.Marshal([]any{stamp(at), stamp{}, millis(1234567 * time.Nanosecond), millis(0), millisIf(false, 1), millis(36 * time.Hour)})
	if want := `["2026-01-02T14:04:05.120000Z",null,1.234,0,null,129600000]`; err != nil || string(b) != want {
		t.Errorf("json = %s, %v, want %s", b, err, want)
	}
}
