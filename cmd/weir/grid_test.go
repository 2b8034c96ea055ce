package main

import (
	"strings"
	"testing"
)

func TestGrid(t *testing.T) {
	g := newGrid("NAME", ">N")
	g.group("times", ">P50", ">P99")
	g.row("kitchen.cook", "7", "1ms", "20.0ms")
	g.note("  └ a note as wide as it likes to be, or wider")
	g.row("bar\x1b", "1,234", "-", "-")
	var b strings.Builder
	g.write(&b)
	want := "" +
		"                      ─ times ───\n" +
		"NAME              N   P50     P99\n" +
		"kitchen.cook      7   1ms  20.0ms\n" +
		"  └ a note as wide as it likes to be, or wider\n" +
		"bar\\x1b       1,234     -       -\n"
	if b.String() != want {
		t.Errorf("grid =\n%swant\n%s", b.String(), want)
	}
}
