package store_test

import (
	"testing"
	"time"

	"github.com/weir-go/weir/store"
)

func TestHistogram(t *testing.T) {
	var h store.Histogram
	for i := 1; i <= 1000; i++ {
		h.Add(time.Duration(i) * time.Millisecond)
	}
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{0, time.Millisecond}, {0.5, 500 * time.Millisecond}, {0.99, 990 * time.Millisecond}, {1, time.Second}} {
		got := h.Quantile(c.q)
		if off := float64(got-c.want) / float64(c.want); off < -0.13 || off > 0.13 {
			t.Errorf("Quantile(%v) = %v, want %v within 13 %%", c.q, got, c.want)
		}
	}
	b, err := h.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	var back store.Histogram
	if err := back.UnmarshalBinary(b); err != nil || back != h {
		t.Errorf("UnmarshalBinary(AppendBinary(h)) = %v, differs: %t", err, back != h)
	}
	if err := back.UnmarshalBinary([]byte{0xff}); err == nil {
		t.Error("UnmarshalBinary of a damaged encoding = nil, want an error")
	}
	var edge store.Histogram
	for _, d := range []time.Duration{-time.Hour, 0, 1 << 62} {
		edge.Add(d)
	}
	if edge.Count() != 3 {
		t.Errorf("Count = %d, want 3", edge.Count())
	}
}

func TestID(t *testing.T) {
	inc := store.Incarnation("k7q2xw")
	for _, p := range []store.Pos{1, 35, 1<<40 | 7, 1<<62 + 1} {
		id := inc.ID(p)
		if got, ok := inc.Local(id); !ok || got != p {
			t.Errorf("Local(%q) = %d, %t, want %d, true", id, got, ok, p)
		}
		if gi, gp, err := store.ParseID(id); err != nil || gi != inc || gp != p {
			t.Errorf("ParseID(%q) = %q, %d, %v, want %q, %d", id, gi, gp, err, inc, p)
		}
	}
	for _, id := range []string{"", "k7q2xw", "k7q2xw-", "other1-1", "k7q2xw--1", "k7q2xw-0"} {
		if _, ok := inc.Local(id); ok {
			t.Errorf("Local(%q) = ok, want not", id)
		}
	}
}
