package origin_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/origin"
)

func TestPack(t *testing.T) {
	for _, o := range []store.Origin{
		{ID: "k7q2xw-1hk3", From: "floor", SentAt: time.UnixMicro(1_700_000_000_000_001)},
		{ID: "https://pos.example/7#a b", From: "https://pos.example/7"},
	} {
		value := origin.Pack(&o)
		got, err := origin.Unpack(value)
		if err != nil || got.ID != o.ID || got.From != o.From || !got.SentAt.Equal(o.SentAt) {
			t.Errorf("Unpack(%q) = %+v, %v, want %+v", value, got, err, o)
		}
		if low, high := origin.Range(o.ID); value <= low || value >= high {
			t.Errorf("%q is not between %q and %q", value, low, high)
		}
		if low, high := origin.Range(o.ID[:3]); value > low && value < high {
			t.Errorf("%q is between %q and %q", value, low, high)
		}
	}
	if o, err := origin.Unpack("k7q2xw-1hk3"); err == nil {
		t.Errorf("Unpack of half a row = %+v, want an error", o)
	}
}

func TestApply(t *testing.T) {
	here := time.UnixMicro(9_000_000)
	m := store.Message{ID: "aaaaaa-1", SentAt: here}
	if origin.Apply(&m); m.ID != "aaaaaa-1" || !m.SentAt.Equal(here) {
		t.Errorf("Apply() without an origin = %s at %s, want what it was", m.ID, m.SentAt)
	}
	m.Origin = &store.Origin{ID: "bbbbbb-7", From: "floor"}
	if origin.Apply(&m); m.ID != "bbbbbb-7" || !m.SentAt.Equal(here) {
		t.Errorf("Apply() without a time = %s at %s, want bbbbbb-7 at %s", m.ID, m.SentAt, here)
	}
	m.Origin.SentAt = time.Unix(0, 5_000_999)
	if origin.Apply(&m); !m.SentAt.Equal(time.UnixMicro(5_000)) {
		t.Errorf("Apply() = at %s, want the origin's time in microseconds", m.SentAt)
	}
}

func TestCheck(t *testing.T) {
	for _, bad := range []store.Origin{{From: "floor"}, {ID: "a"}, {ID: "a\nb", From: "floor"}, {ID: "a", From: strings.Repeat("f", store.MaxOrigin+1)}} {
		if origin.Check(&bad) == nil {
			t.Errorf("Check(%+v) = nil, want an error", bad)
		}
	}
	if err := origin.Check(&store.Origin{ID: "a", From: "floor"}); err != nil {
		t.Errorf("Check() = %v, want nil", err)
	}
}
