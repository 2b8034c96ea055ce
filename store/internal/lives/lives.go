// Package lives tells, for the adapters, what the messages of a store's lives are called. A
// store that was restored, or failed over, begins a new life: its IDs have another incarnation
// from there on, and what was sent before keeps the ID that it had.
package lives

import (
	"strconv"

	"github.com/weir-go/weir/store"
)

// Life is one life of a store.
type Life struct {
	Incarnation store.Incarnation
	First       int64 // the first number that it may give out; those below are of the lives before
	Base        int64 // see store.Info
}

// Lives are all lives of one store, the first one first, by First. There is at least one.
type Lives []Life

// NumberBits are the low bits of a position, in which its number in the store is; the topic is above.
const NumberBits = 40

const number = 1<<NumberBits - 1

// Base is that of a life which begins now, at a time in microseconds since 1970, when a number was reached.
func Base(nowUS, reached int64) int64 { return nowUS - reached }

// Current is the newest life.
func (l Lives) Current() *Life { return &l[len(l)-1] }

// Earlier are the incarnations of the lives before the newest, with spaces between.
func (l Lives) Earlier() string {
	var b []byte
	for i := range len(l) - 1 {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, l[i].Incarnation...)
	}
	return string(b)
}

// Continue reports whether these are the lives of the same store as earlier, which were read before.
func (l Lives) Continue(earlier Lives) bool {
	return len(l) >= len(earlier) && l[len(earlier)-1].Incarnation == earlier.Current().Incarnation
}

// Next is the life that begins now, when a number was reached. Should the clock have been set back
// since the life before began, its stamps go on where those of that life would.
func (l Lives) Next(inc store.Incarnation, nowUS, reached int64) Life {
	return Life{Incarnation: inc, First: reached + 1, Base: max(Base(nowUS, reached), l.Current().Base)}
}

// of is the life in which a position was given out.
func (l Lives) of(pos store.Pos) *Life {
	i := len(l) - 1
	for n := int64(pos) & number; i > 0 && n < l[i].First; i-- {
	}
	return &l[i]
}

// ID is a position in text.
func (l Lives) ID(pos store.Pos) string { return l.of(pos).Incarnation.ID(pos) }

// AppendID appends a position in text.
func (l Lives) AppendID(b []byte, pos store.Pos) []byte {
	b = append(append(b, l.of(pos).Incarnation...), '-')
	return strconv.AppendInt(b, int64(pos), 36)
}

// RunIDs are what messages that a run sent may name as their cause: a run goes on in a new life.
func (l Lives) RunIDs(no store.RunNo) []string {
	ids := make([]string, len(l))
	for i := range l {
		ids[i] = l[i].Incarnation.RunID(no)
	}
	return ids
}

// Stamp is that of a message, see store.Message.
func (l Lives) Stamp(pos store.Pos) int64 { return l.of(pos).Base + int64(pos)&number }

// Local is the position behind an ID that this store gave out in any of its lives.
func (l Lives) Local(id string) (store.Pos, bool) {
	for i := range l {
		if pos, ok := l[i].Incarnation.Local(id); ok && l.of(pos) == &l[i] {
			return pos, true
		}
	}
	return 0, false
}
