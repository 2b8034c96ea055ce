package store

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"time"
)

// FigureDelta is what a process measured of one queue since it last said so.
// What can be counted in the store (sent, done, dead) is not in it.
type FigureDelta struct {
	Queue    QueueID
	Failed   int64     // attempts that ended with an error
	Rejected int64     // sends refused for want of room
	Wait     Histogram // from the send, or from its due time, to the first attempt's start
	Work     Histogram // an attempt's run
	Lead     Histogram // from the send to done
}

// FigureMinute is one queue's minute.
type FigureMinute struct {
	Minute time.Time // its beginning
	Sent   int64
	Done   int64
	Died   int64
	FigureDelta
}

// Histogram counts durations in buckets of 4 to the octave from 1 µs to 2^40 µs
// (about 13 days): a quantile is off by at most 12 %. The zero value is empty.
type Histogram struct {
	counts [histogramBuckets]uint32
	n      uint64
}

const histogramBuckets = 40 * 4

func bucketOf(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 1))
	octave := bits.Len64(us) - 1
	if octave >= 40 {
		return histogramBuckets - 1
	}
	quarter := int((us << 2 >> octave) & 3) // the two bits after the leading one
	return octave*4 + quarter
}

// Add counts d once. A negative d, from a clock that was set back, counts as zero.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.n++
}

// Count is the number of durations added.
func (h *Histogram) Count() int64 { return int64(h.n) }

// Merge adds all of o.
func (h *Histogram) Merge(o *Histogram) {
	if o.n == 0 {
		return
	}
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
}

// Quantile is the duration that a share q (0 to 1) of all do not exceed, to
// within a bucket's width; zero when empty.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := uint64(q * float64(h.n-1))
	var seen uint64
	for i, c := range h.counts {
		seen += uint64(c)
		if c > 0 && seen > rank {
			octave, quarter := i/4, i%4
			lower := float64(uint64(1)<<octave) * (1 + float64(quarter)/4)
			return time.Duration((lower + float64(uint64(1)<<octave)/8) * 1000) // the middle
		}
	}
	return 0
}

// AppendBinary encodes the histogram as pairs of uvarints: gap to the bucket, count.
func (h *Histogram) AppendBinary(b []byte) ([]byte, error) {
	last := 0
	for i, c := range h.counts {
		if c > 0 {
			b = binary.AppendUvarint(b, uint64(i-last))
			b = binary.AppendUvarint(b, uint64(c))
			last = i
		}
	}
	return b, nil
}

var errHistogram = errors.New("histogram: damaged encoding")

// UnmarshalBinary is the inverse of AppendBinary.
func (h *Histogram) UnmarshalBinary(b []byte) error {
	*h = Histogram{}
	i := uint64(0)
	for len(b) > 0 {
		gap, n := binary.Uvarint(b)
		if n <= 0 {
			return errHistogram
		}
		c, m := binary.Uvarint(b[n:])
		i += gap
		if m <= 0 || i >= histogramBuckets || c > 1<<32-1 {
			return errHistogram
		}
		h.counts[i] = uint32(c)
		h.n += c
		b = b[n+m:]
	}
	return nil
}
