package postgres

import (
	"hash/fnv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weir-go/weir/store"
)

// A position is topic << seqBits | seq.
const (
	seqBits = 40
	seqMask = 1<<seqBits - 1
)

func posOf(topic, seq int64) int64 { return topic<<seqBits | seq }

func topicOf(pos int64) int64 { return pos >> seqBits }

func seqOf(pos int64) int64 { return pos & seqMask }

// Keyed messages are spread over lanes by their key, for ever: lanes are in the rows.
const (
	keyedLanes = 16
	laneFree   = keyedLanes // of messages without a key, for any process to claim
	maskFree   = 1 << laneFree
	maskAll    = 1<<(keyedLanes+1) - 1
	maskKeyed  = maskAll &^ maskFree
)

// laneOf is a key's lane.
func laneOf(key string) int {
	if key == "" {
		return laneFree
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(key)) // it never fails
	sum := h.Sum32()
	return int((sum ^ sum>>16) % keyedLanes)
}

// storable reports whether PostgreSQL can keep s as text.
func storable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// cut keeps the beginning of a text for people, in whole characters, as PostgreSQL can keep it.
func cut(s string, bytesMax int) string {
	if !storable(s) {
		s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	}
	if len(s) <= bytesMax {
		return s
	}
	for bytesMax > 0 && !utf8.RuneStart(s[bytesMax]) {
		bytesMax--
	}
	return s[:bytesMax]
}

// textOrNull is what is stored for an absent text: NULL.
func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// moment is a time read from a column that may be NULL.
func moment(us *int64) time.Time {
	if us == nil {
		return time.Time{}
	}
	return at(*us)
}

// deref is the value behind p, or none.
func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// reasonOf is what is kept of an error or reason.
func reasonOf(s string) string { return cut(s, store.MaxReason) }
