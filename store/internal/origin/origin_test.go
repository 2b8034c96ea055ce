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
