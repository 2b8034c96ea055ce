// Package batchrow is how the adapters store what a batch leases and what became of it.
//
// A batch row holds four blobs.
//
// The manifest is the leased positions, ascending: the first as an uvarint, of
// each other the distance to the one before. A dense batch of 1,000 is 1 KiB.
//
// The bits say which are settled, one a position, lowest first.
//
// The times are of the deliveries that ran, in chunks, so that a commit only
// appends: the count as an uvarint, then for each the distance of its index and
// of its start to the one before in the chunk (before the first: 0, and when the
// batch was claimed) as varints, and its duration as an uvarint; in microseconds.
//
// The owners are those it was taken over from, in turn: each as an uvarint, then
// how many bytes of times there were by then. The rest is the owner's.
package batchrow

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrEncoding is of a blob that is not what this package writes.
var ErrEncoding = errors.New("damaged encoding")

// AppendManifest encodes positions, which ascend.
func AppendManifest(b []byte, positions []int64) []byte {
	last := int64(0)
	for _, p := range positions {
		b = binary.AppendUvarint(b, uint64(p-last))
		last = p
	}
	return b
}

// DecodeManifest appends the positions to dst.
func DecodeManifest(dst []int64, b []byte) ([]int64, error) {
	last := uint64(0)
	for len(b) > 0 {
		d, n := binary.Uvarint(b)
		if n <= 0 || d == 0 || last+d < last || last+d > 1<<62 {
			return dst, fmt.Errorf("manifest: %w", ErrEncoding)
		}
		last += d
		dst = append(dst, int64(last))
		b = b[n:]
	}
	return dst, nil
}

// Bits is a set of indices in a manifest.
type Bits []byte

// NewBits is a set with room for n indices, empty.
func NewBits(n int) Bits { return make(Bits, (n+7)/8) }

// Has reports whether i is in it.
func (b Bits) Has(i int) bool { return i>>3 < len(b) && b[i>>3]&(1<<(i&7)) != 0 }

// Set puts i in, below the n it was made for.
func (b Bits) Set(i int) { b[i>>3] |= 1 << (i & 7) }

// Unset takes i out.
func (b Bits) Unset(i int) { b[i>>3] &^= 1 << (i & 7) }

// Ran is when a delivery started, counted from its batch's claim, and how long it took.
type Ran struct {
	Index       int
	Start, Took int64 // µs
}

// Chunk is what one commit adds to a batch's times.
type Chunk struct {
	count int
	last  Ran
	text  []byte
}

// Add adds a delivery.
func (c *Chunk) Add(r Ran) {
	c.text = binary.AppendVarint(c.text, int64(r.Index-c.last.Index))
	c.text = binary.AppendVarint(c.text, r.Start-c.last.Start)
	c.text = binary.AppendUvarint(c.text, uint64(max(r.Took, 0)))
	c.last = r
	c.count++
}

// AppendTo adds the chunk to the times.
func (c *Chunk) AppendTo(times []byte) []byte {
	if c.count == 0 {
		return times
	}
	return append(binary.AppendUvarint(times, uint64(c.count)), c.text...)
}

// DecodeTimes calls each for every entry, in the order of their being settled, with
// the offset of its chunk.
func DecodeTimes(b []byte, each func(r Ran, chunk int)) error {
	all := len(b)
	for len(b) > 0 {
		chunk := all - len(b)
		count, n := binary.Uvarint(b)
		if n <= 0 || count > uint64(len(b)) {
			return fmt.Errorf("times: %w", ErrEncoding)
		}
		b = b[n:]
		var last Ran
		for range count {
			index, n := binary.Varint(b)
			start, m := binary.Varint(b[max(n, 0):])
			took, k := binary.Uvarint(b[max(n, 0)+max(m, 0):])
			if n <= 0 || m <= 0 || k <= 0 || took > 1<<62 {
				return fmt.Errorf("times: %w", ErrEncoding)
			}
			last = Ran{Index: last.Index + int(index), Start: last.Start + start, Took: int64(took)}
			each(last, chunk)
			b = b[n+m+k:]
		}
	}
	return nil
}

// AppendOwner adds the owner that a batch is taken over from, when its times are so long.
func AppendOwner(b []byte, owner int64, times int) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(owner)), uint64(times))
}

// OwnerAt is whose times a chunk is, that begins at an offset: that of the first
// whose times reached beyond it, else the last owner's.
func OwnerAt(owners []byte, offset int, last int64) (int64, error) {
	for len(owners) > 0 {
		owner, n := binary.Uvarint(owners)
		times, m := binary.Uvarint(owners[max(n, 0):])
		if n <= 0 || m <= 0 {
			return 0, fmt.Errorf("owners: %w", ErrEncoding)
		}
		if uint64(offset) < times {
			return int64(owner), nil
		}
		owners = owners[n+m:]
	}
	return last, nil
}
