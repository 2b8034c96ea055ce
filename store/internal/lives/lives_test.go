package lives_test

import (
	"testing"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/store/internal/lives"
)

func TestLives(t *testing.T) {
	l := lives.Lives{
		{Incarnation: "aaaaaa", First: 0, Base: lives.Base(1_000, 0)},
		{Incarnation: "bbbbbb", First: 500, Base: lives.Base(9_000_000, 499)},
	}
	topic := store.Pos(3) << lives.NumberBits
	for _, c := range []struct {
		pos   store.Pos
		id    store.Incarnation
		stamp int64
	}{
		{topic | 1, "aaaaaa", 1_001},
		{topic | 499, "aaaaaa", 1_499},
		{topic | 500, "bbbbbb", 9_000_001},
		{1<<62 | 501, "bbbbbb", 9_000_002},
	} {
		id := l.ID(c.pos)
		if id != c.id.ID(c.pos) {
			t.Errorf("ID(%d) = %s, want one of %s", c.pos, id, c.id)
		}
		if got := l.Stamp(c.pos); got != c.stamp {
			t.Errorf("Stamp(%d) = %d, want %d", c.pos, got, c.stamp)
		}
		if pos, ok := l.Local(id); !ok || pos != c.pos {
			t.Errorf("Local(%s) = %d, %v, want %d", id, pos, ok, c.pos)
		}
	}
	if l.Current().Incarnation != "bbbbbb" {
		t.Errorf("Current() = %s, want bbbbbb", l.Current().Incarnation)
	}
}

// An ID that one life has never given out, since the next had begun, is nobody's here: a lost
// timeline gave it out.
func TestIDOfLostTimeline(t *testing.T) {
	l := lives.Lives{{Incarnation: "aaaaaa"}, {Incarnation: "bbbbbb", First: 500}}
	if pos, ok := l.Local(store.Incarnation("aaaaaa").ID(600)); ok {
		t.Errorf("Local() = %d, want none", pos)
	}
	if pos, ok := l.Local("cccccc-1"); ok {
		t.Errorf("Local(cccccc-1) = %d, want none", pos)
	}
}
