package engine

import (
	"testing"
	"time"
)

func TestIntervalsAreTheDefaultUnlessGiven(t *testing.T) {
	got := IntervalsOf(t.Context()).withDefaults(7*24*time.Hour, 30*time.Second)
	want := Intervals{
		Heartbeat: 5 * time.Second, Reap: time.Second, Watch: 10 * time.Millisecond, Poll: time.Second,
		Result: 2 * time.Second, Figures: time.Second, Beat: 10 * time.Second, Exchange: 500 * time.Millisecond, Prune: time.Minute,
	}
	if got != want {
		t.Errorf("defaults = %+v, want %+v", got, want)
	}
	look := make(chan struct{})
	want.Watch, want.Look = time.Hour, look
	if got := IntervalsOf(WithIntervals(t.Context(), Intervals{Watch: time.Hour, Look: look})).withDefaults(7*24*time.Hour, 30*time.Second); got != want {
		t.Errorf("given = %+v, want %+v", got, want)
	}
	if got := (Intervals{}).withDefaults(5*time.Second, 0).Prune; got != time.Second {
		t.Errorf("Prune of 5s = %s, want 1s", got)
	}
	if got := (Intervals{}).withDefaults(time.Hour, 2*time.Second).Heartbeat; got != 400*time.Millisecond {
		t.Errorf("Heartbeat with a lease of 2s = %s, want 400ms", got)
	}
}
