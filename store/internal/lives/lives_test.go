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
		if got := string(l.AppendID([]byte("x"), c.pos)); got != "x"+id {
			t.Errorf("AppendID(x, %d) = %s, want x%s", c.pos, got, id)
		}
		if got := l.Stamp(c.pos); got != c.stamp {
			t.Errorf("Stamp(%d) = %d, want %d", c.pos, got, c.stamp)
		}
		if pos, ok := l.Local(id); !ok || pos != c.pos {
			t.Errorf("Local(%s) = %d, %v, want %d", id, pos, ok, c.pos)
		}
	}
	if got := l.Earlier(); got != "aaaaaa" {
		t.Errorf("Earlier() = %s, want aaaaaa", got)
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

func TestNext(t *testing.T) {
	l := lives.Lives{{Incarnation: "aaaaaa", Base: lives.Base(5_000, 0)}}
	if got, want := l.Next("bbbbbb", 9_000, 100), (lives.Life{Incarnation: "bbbbbb", First: 101, Base: 8_900}); got != want {
		t.Errorf("Next() = %+v, want %+v", got, want)
	}
	back := l.Next("bbbbbb", 3_000, 100) // the clock was set back
	if both := append(l, back); both.Stamp(101) <= both.Stamp(100) {
		t.Errorf("Stamp(101) = %d, Stamp(100) = %d, want it to grow", both.Stamp(101), both.Stamp(100))
	}
}

func TestRunIDs(t *testing.T) {
	l := lives.Lives{{Incarnation: "aaaaaa"}, {Incarnation: "bbbbbb", First: 500}}
	if got := l.RunIDs(36); len(got) != 2 || got[0] != "aaaaaa.10" || got[1] != "bbbbbb.10" {
		t.Errorf("RunIDs(36) = %q, want aaaaaa.10 and bbbbbb.10", got)
	}
}
