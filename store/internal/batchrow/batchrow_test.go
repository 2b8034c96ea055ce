package batchrow_test

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weir-go/weir/store/internal/batchrow"
)

func TestManifest(t *testing.T) {
	for _, positions := range [][]int64{
		nil, {1}, {1<<40 + 1, 1<<40 + 2, 1<<40 + 1000}, {1<<62 - 1}, {3, 1<<61 + 5},
	} {
		b := batchrow.AppendManifest(nil, positions)
		got, err := batchrow.DecodeManifest(nil, b)
		if err != nil || !slices.Equal(got, positions) {
			t.Errorf("DecodeManifest(AppendManifest(%d)) = %d, %v", positions, got, err)
		}
	}
	dense := make([]int64, 1000)
	for i := range dense {
		dense[i] = 7<<40 + int64(i)
	}
	if n := len(batchrow.AppendManifest(nil, dense)); n > 1010 {
		t.Errorf("a dense manifest of 1000 takes %d bytes, want about 1000", n)
	}
	for _, damaged := range [][]byte{{0}, {0x80}, {5, 0}, binary.AppendUvarint(nil, 1<<63), {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2}} {
		if got, err := batchrow.DecodeManifest(nil, damaged); err == nil {
			t.Errorf("DecodeManifest(%x) = %d, want an error", damaged, got)
		}
	}
}

func TestBits(t *testing.T) {
	b := batchrow.NewBits(13)
	for _, i := range []int{0, 7, 8, 12} {
		b.Set(i)
	}
	b.Unset(7)
	for i := range 20 {
		if want := i == 0 || i == 8 || i == 12; b.Has(i) != want {
			t.Errorf("has(%d) = %t, want %t", i, b.Has(i), want)
		}
	}
	if batchrow.Bits(nil).Has(3) {
		t.Error("an empty set has 3")
	}
}

func TestTimes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var times []byte
	var want []batchrow.Ran
	for range 20 {
		var chunk batchrow.Chunk
		for range rng.IntN(50) {
			r := batchrow.Ran{Index: rng.IntN(1000), Start: rng.Int64N(1<<40) - 1<<20, Took: rng.Int64N(1 << 40)}
			chunk.Add(r)
			want = append(want, r)
		}
		times = chunk.AppendTo(times)
	}
	var got []batchrow.Ran
	if err := batchrow.DecodeTimes(times, func(r batchrow.Ran, _ int) { got = append(got, r) }); err != nil || !slices.Equal(got, want) {
		t.Errorf("DecodeTimes = %d entries, %v, want %d as they were added", len(got), err, len(want))
	}
	for n := range times {
		// A prefix is damaged, unless it ends with a chunk; it never panics.
		_ = batchrow.DecodeTimes(times[:n], func(batchrow.Ran, int) {})
	}
	if err := batchrow.DecodeTimes([]byte{200, 1}, func(batchrow.Ran, int) {}); err == nil {
		t.Error("DecodeTimes of a count without entries = nil, want an error")
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(batchrow.AppendManifest(nil, []int64{1 << 40, 1<<40 + 3}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		positions, err := batchrow.DecodeManifest(nil, b)
		if !slices.IsSorted(positions) {
			t.Fatalf("DecodeManifest(%x) = %d, not ascending", b, positions)
		}
		if err != nil {
			return
		}
		again, err := batchrow.DecodeManifest(nil, batchrow.AppendManifest(nil, positions))
		if err != nil || !slices.Equal(again, positions) {
			t.Fatalf("DecodeManifest(%x) = %d, encoded again %d, %v", b, positions, again, err)
		}
	})
}

func FuzzTimes(f *testing.F) {
	var chunk batchrow.Chunk
	chunk.Add(batchrow.Ran{3, 1000, 50})
	chunk.Add(batchrow.Ran{2, 900, 0})
	f.Add(chunk.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var chunk batchrow.Chunk
		var entries []batchrow.Ran
		if batchrow.DecodeTimes(b, func(r batchrow.Ran, _ int) { entries = append(entries, r); chunk.Add(r) }) != nil {
			return
		}
		var again []batchrow.Ran
		err := batchrow.DecodeTimes(chunk.AppendTo(nil), func(r batchrow.Ran, _ int) { again = append(again, r) })
		if err != nil || !slices.Equal(again, entries) {
			t.Fatalf("DecodeTimes(%x) = %v, encoded again %v, %v", b, entries, again, err)
		}
	})
}

func TestOwnerAt(t *testing.T) {
	owners := batchrow.AppendOwner(batchrow.AppendOwner(nil, 3, 0), 5, 40)
	for offset, want := range map[int]int64{0: 5, 39: 5, 40: 9, 1000: 9} {
		if got, err := batchrow.OwnerAt(owners, offset, 9); err != nil || got != want {
			t.Errorf("OwnerAt(%d) = %d, %v, want %d", offset, got, err, want)
		}
	}
	if _, err := batchrow.OwnerAt([]byte{0x80}, 0, 9); err == nil {
		t.Error("OwnerAt of damaged owners = nil, want an error")
	}
}
