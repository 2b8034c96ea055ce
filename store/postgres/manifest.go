package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
)

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

var errEncoding = errors.New("damaged encoding")

// appendManifest encodes positions, which ascend.
func appendManifest(b []byte, positions []int64) []byte {
	last := int64(0)
	for _, p := range positions {
		b = binary.AppendUvarint(b, uint64(p-last))
		last = p
	}
	return b
}

// decodeManifest appends the positions to dst.
func decodeManifest(dst []int64, b []byte) ([]int64, error) {
	last := uint64(0)
	for len(b) > 0 {
		d, n := binary.Uvarint(b)
		if n <= 0 || d == 0 || last+d < last || last+d > 1<<62 {
			return dst, fmt.Errorf("manifest: %w", errEncoding)
		}
		last += d
		dst = append(dst, int64(last))
		b = b[n:]
	}
	return dst, nil
}

// bits is a set of indices in a manifest.
type bits []byte

func newBits(n int) bits { return make(bits, (n+7)/8) }

func (b bits) has(i int) bool { return i>>3 < len(b) && b[i>>3]&(1<<(i&7)) != 0 }

func (b bits) set(i int) { b[i>>3] |= 1 << (i & 7) }

func (b bits) unset(i int) { b[i>>3] &^= 1 << (i & 7) }

// ran is when a delivery started, counted from its batch's claim, and how long it took.
type ran struct {
	index       int
	start, took int64 // µs
}

// timesChunk is what one commit adds to a batch's times.
type timesChunk struct {
	count int
	last  ran
	text  []byte
}

func (c *timesChunk) add(r ran) {
	c.text = binary.AppendVarint(c.text, int64(r.index-c.last.index))
	c.text = binary.AppendVarint(c.text, r.start-c.last.start)
	c.text = binary.AppendUvarint(c.text, uint64(max(r.took, 0)))
	c.last = r
	c.count++
}

// appendTo adds the chunk to the times.
func (c *timesChunk) appendTo(times []byte) []byte {
	if c.count == 0 {
		return times
	}
	return append(binary.AppendUvarint(times, uint64(c.count)), c.text...)
}

// decodeTimes calls each for every entry, in the order of their being settled, with
// the offset of its chunk.
func decodeTimes(b []byte, each func(r ran, chunk int)) error {
	all := len(b)
	for len(b) > 0 {
		chunk := all - len(b)
		count, n := binary.Uvarint(b)
		if n <= 0 || count > uint64(len(b)) {
			return fmt.Errorf("times: %w", errEncoding)
		}
		b = b[n:]
		var last ran
		for range count {
			index, n := binary.Varint(b)
			start, m := binary.Varint(b[max(n, 0):])
			took, k := binary.Uvarint(b[max(n, 0)+max(m, 0):])
			if n <= 0 || m <= 0 || k <= 0 || took > 1<<62 {
				return fmt.Errorf("times: %w", errEncoding)
			}
			last = ran{index: last.index + int(index), start: last.start + start, took: int64(took)}
			each(last, chunk)
			b = b[n+m+k:]
		}
	}
	return nil
}

// appendOwner adds the owner that a batch is taken over from, when its times are so long.
func appendOwner(b []byte, owner int64, times int) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(owner)), uint64(times))
}

// ownerAt is whose times a chunk is, that begins at an offset: that of the first
// whose times reached beyond it, else the last owner's.
func ownerAt(owners []byte, offset int, last int64) (int64, error) {
	for len(owners) > 0 {
		owner, n := binary.Uvarint(owners)
		times, m := binary.Uvarint(owners[max(n, 0):])
		if n <= 0 || m <= 0 {
			return 0, fmt.Errorf("owners: %w", errEncoding)
		}
		if uint64(offset) < times {
			return int64(owner), nil
		}
		owners = owners[n+m:]
	}
	return last, nil
}
