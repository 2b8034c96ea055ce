package sqlite

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestManifest(t *testing.T) {
	for _, positions := range [][]int64{
		nil, {1}, {1<<40 + 1, 1<<40 + 2, 1<<40 + 1000}, {1<<62 - 1}, {3, 1<<61 + 5},
	} {
		b := appendManifest(nil, positions)
		got, err := decodeManifest(nil, b)
		if err != nil || !slices.Equal(got, positions) {
			t.Errorf("decodeManifest(appendManifest(%d)) = %d, %v", positions, got, err)
		}
	}
	dense := make([]int64, 1000)
	for i := range dense {
		dense[i] = 7<<40 + int64(i)
	}
	if n := len(appendManifest(nil, dense)); n > 1010 {
		t.Errorf("a dense manifest of 1000 takes %d bytes, want about 1000", n)
	}
	for _, damaged := range [][]byte{{0}, {0x80}, {5, 0}, binary.AppendUvarint(nil, 1<<63), {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2}} {
		if got, err := decodeManifest(nil, damaged); err == nil {
			t.Errorf("decodeManifest(%x) = %d, want an error", damaged, got)
		}
	}
}

func TestBits(t *testing.T) {
	b := newBits(13)
	for _, i := range []int{0, 7, 8, 12} {
		b.set(i)
	}
	b.unset(7)
	for i := range 20 {
		if want := i == 0 || i == 8 || i == 12; b.has(i) != want {
			t.Errorf("has(%d) = %t, want %t", i, b.has(i), want)
		}
	}
	if bits(nil).has(3) {
		t.Error("an empty set has 3")
	}
}

func TestTimes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var times []byte
	var want []ran
	for range 20 {
		var chunk timesChunk
		for range rng.IntN(50) {
			r := ran{index: rng.IntN(1000), start: rng.Int64N(1<<40) - 1<<20, took: rng.Int64N(1 << 40)}
			chunk.add(r)
			want = append(want, r)
		}
		times = chunk.appendTo(times)
	}
	var got []ran
	if err := decodeTimes(times, func(r ran, _ int) { got = append(got, r) }); err != nil || !slices.Equal(got, want) {
		t.Errorf("decodeTimes = %d entries, %v, want %d as they were added", len(got), err, len(want))
	}
	for n := range times {
		// A prefix is damaged, unless it ends with a chunk; it never panics.
		_ = decodeTimes(times[:n], func(ran, int) {})
	}
	if err := decodeTimes([]byte{200, 1}, func(ran, int) {}); err == nil {
		t.Error("decodeTimes of a count without entries = nil, want an error")
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(appendManifest(nil, []int64{1 << 40, 1<<40 + 3}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		positions, err := decodeManifest(nil, b)
		if !slices.IsSorted(positions) {
			t.Fatalf("decodeManifest(%x) = %d, not ascending", b, positions)
		}
		if err != nil {
			return
		}
		again, err := decodeManifest(nil, appendManifest(nil, positions))
		if err != nil || !slices.Equal(again, positions) {
			t.Fatalf("decodeManifest(%x) = %d, encoded again %d, %v", b, positions, again, err)
		}
	})
}

func FuzzTimes(f *testing.F) {
	var chunk timesChunk
	chunk.add(ran{3, 1000, 50})
	chunk.add(ran{2, 900, 0})
	f.Add(chunk.appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var chunk timesChunk
		var entries []ran
		if decodeTimes(b, func(r ran, _ int) { entries = append(entries, r); chunk.add(r) }) != nil {
			return
		}
		var again []ran
		err := decodeTimes(chunk.appendTo(nil), func(r ran, _ int) { again = append(again, r) })
		if err != nil || !slices.Equal(again, entries) {
			t.Fatalf("decodeTimes(%x) = %v, encoded again %v, %v", b, entries, again, err)
		}
	})
}

func TestOwnerAt(t *testing.T) {
	owners := appendOwner(appendOwner(nil, 3, 0), 5, 40)
	for offset, want := range map[int]int64{0: 5, 39: 5, 40: 9, 1000: 9} {
		if got, err := ownerAt(owners, offset, 9); err != nil || got != want {
			t.Errorf("ownerAt(%d) = %d, %v, want %d", offset, got, err, want)
		}
	}
	if _, err := ownerAt([]byte{0x80}, 0, 9); err == nil {
		t.Error("ownerAt of damaged owners = nil, want an error")
	}
}
