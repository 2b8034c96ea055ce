package postgres

import (
	"fmt"
	"testing"
	"time"
)

// A process that has more lanes than its share since another has joined gives up what it can at once. A lane with
// a message that is worked for long is not held up for so long: its other keys are claimed again after a while.
func TestSlowMessageHoldsUpNoLane(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	_, s, queue := processes(t, 2, Lease(time.Hour), Clock(func() time.Time { return now }))
	var keys [keyedLanes]string // one of each lane
	for i, missing := 0, keyedLanes; missing > 0; i++ {
		key := fmt.Sprint("key-", i)
		if lane := laneOf(key); keys[lane] == "" {
			keys[lane], missing = key, missing-1
		}
	}
	for _, key := range keys {
		send(t, s[0], keyed(1, key)...)
	}
	slow := claimSome(t, s[0], queue, 100) // one of each lane, and none of them is done for long
	if len(slow.Deliveries) != keyedLanes {
		t.Fatalf("Claim() = %d messages, want one of each lane", len(slow.Deliveries))
	}
	count := func(who int) (n int) {
		t.Helper()
		for {
			b := claimSome(t, s[who], queue, 100)
			if b == nil {
				return n
			}
			n += len(b.Deliveries)
			if err := doneAll(t, s[who], b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := count(1); n != 0 {
		t.Errorf("the one that joins claims %d, want none: all lanes are held", n)
	}
	for _, key := range keys {
		send(t, s[0], keyed(1, key)...)
	}
	half := keyedLanes / 2
	if n := count(0); n != half {
		t.Errorf("the first claims %d, want %d: those of its share", n, half)
	}
	for _, c := range []struct {
		after time.Duration
		want  int
		when  string
	}{
		{4 * time.Second, 0, "within 5 s"},
		{2 * time.Second, half, "after 5 s"}, // for 5 s
		{5 * time.Second, 0, "after 10 s, when it tries again, for 10 s"},
		{10 * time.Second, half, "after that"},
	} {
		now = now.Add(c.after)
		if n := count(0); n != c.want {
			t.Errorf("%s the first claims %d, want %d", c.when, n, c.want)
		}
		if c.want == 0 {
			continue
		}
		for _, key := range keys[half:] {
			send(t, s[0], keyed(1, key)...)
		}
	}
	if err := doneAll(t, s[0], slow); err != nil {
		t.Fatal(err)
	}
	count(0)
	if n := count(1); n != half {
		t.Errorf("when all is done the one that joined claims %d, want %d: its share", n, half)
	}
}

// The times of a drain double, up to a minute, and begin anew where the clock was set back.
func TestDrain(t *testing.T) {
	var d drain
	now, begun := int64(1), 0
	for range 12 * 60 {
		before := d
		if d = d.at(now); d != before {
			begun++
		}
		now += int64(time.Second / time.Microsecond)
	}
	if d.window != drainMost || begun != 9 { // after 10, 20, 40, 80 s, and then each 2 min
		t.Errorf("in 12 minutes it began %d times, and takes %d µs at last, want 9 and %d", begun, d.window, drainMost)
	}
	if d = d.at(1); d.window != drainMin || !d.stops(1) {
		t.Errorf("with the clock set back it is %+v, want it to begin anew", d)
	}
}
