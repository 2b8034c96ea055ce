package engine

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-go/weir/store"
	"github.com/weir-go/weir/transport"
)

// published makes deliveries of foreign programs by their numbers, from first to last.
func published(first, last int, body int) (ds []transport.Delivery) {
	for n := first; n <= last; n++ {
		ds = append(ds, transport.Delivery{Number: int64(n), Handle: fmt.Sprint("h", n), Packet: transport.Packet{Source: "/till", Topic: "kitchen.cook", Body: make([]byte, body)}})
	}
	return ds
}

// numberLine tells deliveries by number: "1-3 7".
func numberLine(ds []transport.Delivery) string {
	var parts []string
	for i := 0; i < len(ds); {
		j := i
		for j+1 < len(ds) && ds[j+1].Number == ds[j].Number+1 {
			j++
		}
		if part := fmt.Sprint(ds[i].Number); i == j {
			parts = append(parts, part)
		} else {
			parts = append(parts, fmt.Sprint(part, "-", ds[j].Number))
		}
		i = j + 1
	}
	return strings.Join(parts, " ")
}

func leftOf(l *line) string {
	ds := make([]transport.Delivery, len(l.left))
	for i, o := range l.left {
		ds[i].Number = o.number
	}
	return numberLine(ds)
}

// What foreign programs have published goes on in the order in which it was, each once, whatever comes again.
func TestForeignLineOrder(t *testing.T) {
	l := &line{lane: transport.Lane{Queue: "kitchen.cook"}}
	again := published(2, 3, 0)
	again[0].Handle = "later"
	l.takeForeign(published(1, 3, 0))
	l.takeForeign(again)
	l.takeForeign(append(published(5, 5, 0), published(4, 4, 0)...))
	s := l.sort()
	if numberLine(s.on) != "1-5" || s.on[1].Handle != "later" || len(l.left) != 0 {
		t.Errorf("on %s with %v, left %s, want 1-5 with the later copy of 2, and none", numberLine(s.on), s.on[1].Handle, leftOf(l))
	}
	l.putBack(s.on)
	if numberLine(l.pending) != "1-5" {
		t.Errorf("in hand is %s after it was put back, want 1-5", numberLine(l.pending))
	}
}

// What there is no room for is left with the transport; it is asked for when there is, once, and what was published after it waits.
func TestForeignLineLeaves(t *testing.T) {
	now := time.Unix(1000, 0)
	l := &line{lane: transport.Lane{Queue: "kitchen.cook"}}
	l.takeForeign(published(1, pendingMost+500, 0))
	if got := leftOf(l); len(l.pending) != pendingMost || got != fmt.Sprint(pendingMost+1, "-", pendingMost+500) {
		t.Fatalf("%d in hand, left %s, want %d and the 500 after", len(l.pending), got, pendingMost)
	}
	if ds := l.asks(now); ds != nil {
		t.Errorf("asked for %d while there is no room, want none", len(ds))
	}
	if on := l.sort().on; len(on) != pendingMost {
		t.Errorf("%d go on, want %d", len(on), pendingMost)
	}
	l.takeForeign(published(pendingMost+501, pendingMost+510, 0))
	if on := l.sort().on; len(on) != 0 || !l.wakesForeign().IsZero() {
		t.Errorf("%s goes on before what is left, or the line wakes at %s, want neither", numberLine(on), l.wakesForeign())
	}
	if ds := l.asks(now); len(ds) != 500 || ds[0].Handle != fmt.Sprint("h", pendingMost+1) || l.asks(now) != nil {
		t.Errorf("asked for %d, want the 500 that are left, once", len(ds))
	}
	if at := l.wakesForeign(); !at.Equal(now.Add(leftPatience)) {
		t.Errorf("the line wakes at %s, want when its patience ends", at)
	}
	l.takeForeign(published(pendingMost+1, pendingMost+400, 0))
	if on := numberLine(l.sort().on); on != fmt.Sprint(pendingMost+1, "-", pendingMost+400) {
		t.Errorf("%s goes on, want what came of that which was left", on)
	}
	if ds := l.asks(now.Add(leftPatience)); len(ds) != 0 || len(l.left) != 0 {
		t.Errorf("after its patience %d are asked for and %s is left, want none: the transport gives them sometime", len(ds), leftOf(l))
	}
	if on := numberLine(l.sort().on); on != fmt.Sprint(pendingMost+501, "-", pendingMost+510) {
		t.Errorf("%s goes on then, want what was published last", on)
	}
}

// Bytes bound it too: of headers as of bodies; one that is larger than all may be in hand alone.
func TestForeignLineBytes(t *testing.T) {
	now := time.Unix(1000, 0)
	l := &line{lane: transport.Lane{Queue: "kitchen.cook"}}
	l.takeForeign(published(1, 20, pendingBytes/8))
	if numberLine(l.pending) != "1-8" || leftOf(l) != "9-20" {
		t.Fatalf("in hand %s, left %s, want 8 and the rest", numberLine(l.pending), leftOf(l))
	}
	l.limit = 4
	l.sort()
	if ds := l.asks(now); len(ds) != 4 {
		t.Errorf("%d are asked for, want the 4 that fit in", len(ds))
	}
	l = &line{lane: transport.Lane{Queue: "kitchen.cook"}}
	ds := published(1, 2, 0)
	ds[0].Raw = transport.Header{"ce-note": {strings.Repeat("x", pendingBytes)}}
	ds[1].Packet.Headers = map[string]string{"note": strings.Repeat("x", pendingBytes)}
	l.takeForeign(ds)
	if numberLine(l.pending) != "1" || leftOf(l) != "2" {
		t.Errorf("in hand %s, left %s, want 1 and 2", numberLine(l.pending), leftOf(l))
	}
	l.sort()
	if got := l.asks(now); len(got) != 1 {
		t.Errorf("%d are asked for when all is free, want one", len(got))
	}
}

// What is refused keeps the headers that it came with, as far as there is room for them, and none that pass for weir's own.
func TestHeadersOfRefused(t *testing.T) {
	read := func(d *transport.Delivery) (h map[string]string) {
		t.Helper()
		if err := json.Unmarshal(headersOfRefused(d, "/till", "no id"), &h); err != nil {
			t.Fatal(err)
		}
		return h
	}
	p := transport.Packet{Source: "/till", ID: "1", Topic: "kitchen.paint", Key: "table-7", Headers: map[string]string{"tenant": "north", "traceparent": "00-a"}}
	h := read(&transport.Delivery{Packet: p})
	for name, want := range map[string]string{
		"ce-partitionkey": "table-7", "ce-tenant": "north", "traceparent": "00-a", refusedReason: "no id", refusedTopic: "kitchen.paint", refusedFrom: "/till", refusedID: "1", refusedCut: "",
	} {
		if h[name] != want {
			t.Errorf("header %s is %q, want %q", name, h[name], want)
		}
	}
	raw := transport.Header{"ce-x": {"a", "b\x00\xff"}, "Weir-Refused-Id": {"mine"}, "zz": {strings.Repeat("z", refusedHeaders)}}
	h = read(&transport.Delivery{Packet: p, Raw: raw})
	if h["ce-x"] != "a, b\ufffd\ufffd" || h["Weir-Refused-Id"] != "" || h["zz"] != "" || h[refusedCut] != "2" || h[refusedID] != "1" {
		t.Errorf("headers %v, want those of the wire, as text, and 2 left out", h)
	}
}

// Whatever topics anybody makes up, there is one line of what is refused.
func TestForeignLines(t *testing.T) {
	known := func(topic string) store.Kind {
		return map[string]store.Kind{"kitchen.cook": store.KindCommand}[topic]
	}
	ds := published(1, 4, 0)
	ds[1].Packet.Topic, ds[3].Packet.Topic = "made.up", "made.up-too"
	lanes, of := byLane(ds, known)
	if len(lanes) != 2 || numberLine(of[lanes[0]]) != "1 3" || numberLine(of[lanes[1]]) != "2 4" || lanes[0].From != "" || lanes[1].From != "" {
		t.Errorf("lines %v of %v, want one of 1 and 3, and one of the rest", lanes, of)
	}
}

// What was in hand when the inlet failed comes again, in whatever order: what was published later waits for it, no longer than
// the transport may take to give it.
func TestForeignLineExpects(t *testing.T) {
	l := &line{lane: transport.Lane{Queue: "kitchen.cook"}}
	l.takeForeign(published(5, 7, 0))
	failed := time.Unix(100, 0)
	l.expect(failed)
	l.pending = nil
	l.takeForeign(append(published(6, 6, 0), published(8, 9, 0)...))
	if got := numberLine(l.sort().on); got != "" {
		t.Errorf("on %s while 5 is missing, want none", got)
	}
	l.takeForeign(published(5, 5, 0))
	if got := numberLine(l.sort().on); got != "5-6" {
		t.Errorf("on %s while 7 is missing, want 5-6", got)
	}
	if ds := l.asks(failed.Add(leftPatience - 1)); len(ds) != 0 || numberLine(l.sort().on) != "" {
		t.Errorf("%d are asked for again, want none: they come by themselves; and 8 waits for 7", len(ds))
	}
	l.asks(failed.Add(leftPatience))
	if got := numberLine(l.sort().on); got != "8-9" {
		t.Errorf("on %s when 7 was waited for, want 8-9", got)
	}
}
