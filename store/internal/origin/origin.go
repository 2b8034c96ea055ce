// Package origin writes, for the adapters, where a message comes from as one value of a row, that
// an index on it finds by the ID: the ID, the sender and the time, a line each.
package origin

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weir-go/weir/store"
)

// Pack is the value for a row; the message's Origin is sound, see Check.
func Pack(o *store.Origin) string {
	var us int64
	if !o.SentAt.IsZero() {
		us = o.SentAt.UnixMicro()
	}
	return o.ID + "\n" + o.From + "\n" + strconv.FormatInt(us, 10)
}

// Unpack reads what Pack wrote.
func Unpack(value string) (*store.Origin, error) {
	id, rest, _ := strings.Cut(value, "\n")
	from, text, ok := strings.Cut(rest, "\n")
	us, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil {
		return nil, fmt.Errorf("a message's origin is %q: the row is damaged", value)
	}
	o := &store.Origin{ID: id, From: from}
	if us != 0 {
		o.SentAt = time.UnixMicro(us).UTC()
	}
	return o, nil
}

// Apply gives a message, if it has an origin, the ID and the time that it has there.
func Apply(m *store.Message) {
	if m.Origin == nil {
		return
	}
	m.ID = m.Origin.ID
	if !m.Origin.SentAt.IsZero() {
		m.SentAt = time.UnixMicro(m.Origin.SentAt.UnixMicro()).UTC()
	}
}

// Range has between low and high, both excluded, the values with one ID.
func Range(id string) (low, high string) { return id + "\n", id + "\v" }

// Check says what is wrong with an origin, nil if nothing.
func Check(o *store.Origin) error {
	for _, part := range []struct{ name, value string }{{"ID", o.ID}, {"sender", o.From}} {
		if part.value == "" || len(part.value) > store.MaxOrigin || strings.ContainsAny(part.value, "\n\v\x00") {
			return fmt.Errorf("origin's %s %q: want 1 to %d bytes in one line", part.name, part.value, store.MaxOrigin)
		}
	}
	return nil
}
