package engine

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

// Headers of what was refused, beside those that it came with.
const (
	refusedReason = "weir-refused"
	refusedTopic  = "weir-refused-topic"
	refusedFrom   = "weir-refused-from"
	refusedID     = "weir-refused-id"
	refusedCut    = "weir-refused-headers-left-out" // how many had no room

	refusedHeaders = 16 << 10 // bytes of the headers that are kept
)

// headersOfRefused are what is kept of the headers with which a packet came, in the order of their names as far as there
// is room, and why it was refused. What no text may have in it is replaced: they come from strangers.
func headersOfRefused(d *transport.Delivery, from, why string) []byte {
	raw := d.Raw
	if raw == nil {
		var err error
		if raw, err = d.Packet.Encode(); err != nil {
			raw = nil // it was decoded: never
		}
	}
	clean := func(s string) string {
		return strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd")
	}
	headers, room, cut := map[string]string{}, refusedHeaders, 0
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		value := strings.Join(raw[name], ", ")
		if room -= len(name) + len(value); room < 0 || strings.HasPrefix(strings.ToLower(name), weirHeaders) {
			room += len(name) + len(value)
			cut++
			continue
		}
		headers[clean(name)] = clean(value)
	}
	if cut > 0 {
		headers[refusedCut] = strconv.Itoa(cut)
	}
	headers[refusedReason] = clip(why, store.MaxReason/4)
	headers[refusedTopic], headers[refusedFrom], headers[refusedID] = d.Packet.Topic, from, d.Packet.ID
	text, err := json.Marshal(headers)
	if err != nil {
		return nil // strings: never
	}
	return text
}
