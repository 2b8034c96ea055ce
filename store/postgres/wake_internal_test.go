package postgres

import "testing"

// TestChanges turns from snapshot to snapshot: only what others have ended is a change.
func TestChanges(t *testing.T) {
	var c changes
	for i, step := range []struct {
		own, snapshot string
		want          bool
	}{
		{"", "10:10:", true}, // the first
		{"", "10:10:", false},
		{"", "10:12:10", true}, // 11
		{"12", "10:13:10", false},
		{"14", "10:15:10,13", false},
		{"", "10:15:10", true}, // 13
		{"", "15:15:", true},   // 10
		{"16", "15:17:15", false},
		{"", "15:16:15", true}, // another life
		{"", "15:16:15", false},
		{"15", "16:16:", false},
		{"16", "16:18:17", false},
		{"", "18:18:", true},
	} {
		if step.own != "" {
			c.note(step.own)
		}
		now, err := parseSnapshot(step.snapshot)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.turn(now); got != step.want {
			t.Errorf("step %d: turn(%s) = %t, want %t", i, step.snapshot, got, step.want)
		}
	}
	if len(c.own) > 0 {
		t.Errorf("remembers %v, want nothing that has been seen", c.own)
	}
}
